"""Camera RAW, HEIC and exposure times, from files that the tests make."""

from __future__ import annotations

import io
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image as PILImage
from PIL import ImageCms

from ddfm.errors import InputError
from ddfm.formats.exif import exposure
from ddfm.formats.heic import is_heic
from ddfm.formats.limits import max_pixels
from ddfm.formats.pictures import images_by_stem, read_image, read_pages
from ddfm.formats.raw import linear_profile
from ddfm.jobs.info import describe
from ddfm.pictures.image import by_exposure, from_array
from tests.formats.camera import dng, exif, heic, write

pytest.importorskip("rawpy")
pytest.importorskip("pillow_heif")
HEIGHT, WIDTH = 48, 64


def light() -> NDArray[np.float64]:
    """Smooth light in three colours, linear, (H, W, 3)."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] / max(HEIGHT, WIDTH)
    return np.dstack([0.1 + 0.5 * x, 0.2 + 0.4 * y, 0.6 - 0.3 * x])


def test_a_raw_file_is_linear_light_in_the_camera_s_white_balance(tmp_path: Path) -> None:
    image = read_image(write(tmp_path / "a.dng", dng(light(), (1, 50))))
    assert (image.size, image.limits) == ((HEIGHT, WIDTH), (0, 65535))
    assert image.depth == np.uint16
    inner = np.s_[4:-4, 4:-4]
    assert np.abs(image.pixels - light())[inner].max() < 0.02
    assert image.exposure == pytest.approx(1 / 50)
    assert (read_image(tmp_path / "a.dng").pixels == image.pixels).all()
    half = read_image(write(tmp_path / "b.dng", dng(light() / 2)))
    assert np.abs(2 * half.pixels - image.pixels)[inner].max() < 0.01  # nothing brightens it


def test_a_raw_file_is_turned_upright(tmp_path: Path) -> None:
    upright = read_image(write(tmp_path / "a.dng", dng(light()))).pixels
    turned = read_image(write(tmp_path / "b.dng", dng(light(), orientation=6)))
    assert turned.size == (WIDTH, HEIGHT)
    assert np.abs(turned.pixels - np.rot90(upright, 3))[4:-4, 4:-4].max() < 0.02


def test_the_profile_of_a_raw_file_is_linear() -> None:
    linear = ImageCms.ImageCmsProfile(io.BytesIO(linear_profile()))
    grey = PILImage.new("RGB", (4, 4), (55, 128, 188))
    shown = ImageCms.profileToProfile(grey, linear, ImageCms.createProfile("sRGB"))
    assert shown is not None
    levels = np.array([55, 128, 188]) / 255
    wanted = 255 * (1.055 * levels ** (1 / 2.4) - 0.055)
    assert np.abs(np.asarray(shown)[0, 0] - wanted).max() <= 2


def test_a_heic_file_is_read_as_it_is(tmp_path: Path) -> None:
    picture = np.rint(255 * light()).astype(np.uint8)
    data = heic(picture, exif(1 / 30, f_number=2, iso=400))
    assert is_heic(data)
    image = read_image(write(tmp_path / "a.heic", data))
    assert image.size == (HEIGHT, WIDTH)
    assert image.depth == np.uint8
    assert np.abs(255 * image.pixels - picture).mean() < 3
    assert image.exposure == pytest.approx(1 / 30)
    assert not is_heic(b"\0\0\0\x18ftypavif" + bytes(12))
    assert not is_heic(data[:7])


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".png"])
def test_exposure_times_come_from_exif(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    picture = PILImage.fromarray(np.rint(255 * light()).astype(np.uint8))
    picture.save(path, exif=exif(1 / 8, f_number=2, iso=200))
    assert read_image(path).exposure == pytest.approx(1 / 8 * 2 / 4)
    picture.save(path)
    assert read_image(path).exposure is None


def test_exposure_times_of_a_tiff_come_from_its_tags(tmp_path: Path) -> None:
    tags = [(33434, "2I", 1, (1, 8), True), (33437, "2I", 1, (2, 1), True), (34855, "H", 1, 200, True)]
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.rint(65535 * light()).astype(np.uint16), photometric="rgb", extratags=tags)
    assert read_image(path).exposure == pytest.approx(1 / 8 * 2 / 4)


def test_exposures_that_are_nonsense_are_unknown() -> None:
    assert exposure((1, 100), None, None) == pytest.approx(0.01)
    assert exposure((1, 100), (0, 0), 0) == pytest.approx(0.01)
    for time in (None, 0, -1, (1, 0), "soon", float("nan"), float("inf"), ()):
        assert exposure(time, 2, 100) is None


def test_the_order_is_that_of_the_light_where_it_is_known() -> None:
    """Here the brightness would say the reverse."""
    images = [from_array(np.full((16, 16), level, np.uint8)) for level in (200, 120, 40)]
    assert by_exposure(images) == [2, 1, 0]
    timed = [
        type(image)(image.pixels, image.depth, exposure=time)
        for image, time in zip(images, (0.01, 0.1, 1.0), strict=True)
    ]
    assert by_exposure(timed) == [0, 1, 2]
    assert by_exposure([*timed[:2], images[2]]) == [2, 1, 0]  # not known of all


def test_info_says_what_a_camera_file_is(tmp_path: Path) -> None:
    about = describe(write(tmp_path / "a.dng", dng(light(), (1, 50))))
    assert about.kind == "camera RAW"
    assert about.exposure == pytest.approx(0.02)
    assert "exposure" in "\n".join(about.lines())
    assert describe(write(tmp_path / "a.heic", heic(np.full((32, 32, 3), 90, np.uint8)))).kind == "HEIC"


def test_folders_list_camera_files(tmp_path: Path) -> None:
    for name in ("a.DNG", "b.heic", "c.nef", "d.txt"):
        write(tmp_path / name, b"anything")
    assert [path.name for path in images_by_stem(tmp_path).values()] == ["a.DNG", "b.heic", "c.nef"]


def test_large_files_are_refused_by_their_header(tmp_path: Path) -> None:
    raw = write(tmp_path / "a.dng", dng(light()))
    telephone = write(tmp_path / "b.heic", heic(np.rint(255 * light()).astype(np.uint8)))
    for path in (raw, telephone):
        with (
            max_pixels(1000),
            pytest.raises(InputError, match=rf"{path.name}: declares 3072 pixels.*--max-pixels"),
        ):
            read_image(path)


def test_a_header_that_promises_too_much_is_refused(tmp_path: Path) -> None:
    """Width and length of the first directory, raised to 60000 each."""
    data = bytearray(dng(light()))
    at = struct.unpack_from("<I", data, 4)[0]
    for entry in range(struct.unpack_from("<H", data, at)[0]):
        code = struct.unpack_from("<H", data, at + 2 + 12 * entry)[0]
        if code in (256, 257):
            struct.pack_into("<HII", data, at + 4 + 12 * entry, 4, 1, 60000)
    with pytest.raises(InputError):
        read_image(write(tmp_path / "a.dng", bytes(data)))


@pytest.mark.parametrize(("module", "suffix"), [("rawpy", ".dng"), ("pillow_heif", ".heic")])
def test_without_the_extra_it_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, suffix: str
) -> None:
    data = dng(light()) if suffix == ".dng" else heic(np.full((32, 32, 3), 90, np.uint8))
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=r"a\.\w+: .* needs .*: pip install 'ddfm\[(raw|heic)\]'"):
        read_pages(write(tmp_path / f"a{suffix}", data))
