"""Headers that promise more than any memory holds, and what is no file: refused before memory is spent."""

from __future__ import annotations

import gzip
import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image as PILImage

from ddfm.errors import InputError
from ddfm.formats.headers import jpeg2000_size, jpeg_size, picture_size, png_size, webp_size
from ddfm.formats.limits import MAX_PIXELS, max_pixels, set_max_pixels
from ddfm.formats.pictures import read_8bit, read_image, read_pages
from ddfm.formats.volumes import is_volume, read_volume
from tests.conftest import picture


def png(width: int, height: int) -> bytes:
    """A PNG that declares this size and holds one row."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(1 + min(width, 4096)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def tiff(width: int, height: int, *, strip: int = 1, unit: int = 2, pages: int = 1) -> bytes:
    """A grey TIFF that declares this size, with a strip of so many bytes."""
    tags = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (277, 3, 1)]
    tags += [(273, 4, 8), (278, 4, height), (279, 4, strip), (296, 3, unit)]
    data = b"II*\0" + struct.pack("<I", 8 + strip) + bytes(strip)
    for page in range(pages):
        entries = b"".join(struct.pack("<HHII", code, kind, 1, value) for code, kind, value in sorted(tags))
        end = len(data) + 2 + len(entries) + 4
        data += struct.pack("<H", len(tags)) + entries + struct.pack("<I", end if page + 1 < pages else 0)
    return data


def nifti(shape: tuple[int, int, int], *, offset: float = 352) -> bytes:
    """A NIfTI-1 file of floats that declares this shape and holds a few samples."""
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.float64)
    header.set_data_shape(shape)
    header["vox_offset"], header["magic"] = offset, b"n+1"
    return bytes(header.binaryblock) + bytes(100)


def bmp(width: int, height: int) -> bytes:
    """A BMP that declares this size."""
    data = io.BytesIO()
    PILImage.new("RGB", (16, 16)).save(data, "BMP")
    whole = data.getvalue()
    return whole[:18] + struct.pack("<ii", width, height) + whole[26:]


def webp(width: int, height: int) -> bytes:
    """A WebP that declares a canvas of this size."""
    data = io.BytesIO()
    PILImage.new("RGBA", (16, 16)).save(data, "WebP", lossless=True)
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    chunks = b"WEBPVP8X" + struct.pack("<II", 10, 16) + size + data.getvalue()[12:]
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


HUGE = {
    "a.png": png(60_000, 60_000),
    "a.tif": tiff(60_000, 60_000),
    "empty strip.tif": tiff(60_000, 60_000, strip=0),
    "a.nii": nifti((1000, 1000, 800)),
    "a.nii.gz": gzip.compress(nifti((1000, 1000, 800))),
    "a.bmp": bmp(60_000, 60_000),
    "a.webp": webp(16_383, 16_383),
}


@pytest.mark.parametrize("name", HUGE)
def test_headers_are_judged_before_memory_is_spent(tmp_path: Path, name: str) -> None:
    """In a process of its own that may take no more than 1.5 GB beyond what it starts with."""
    path = tmp_path / name
    path.write_bytes(HUGE[name])
    code = (
        "import resource, sys; from pathlib import Path; from ddfm.errors import InputError;"
        "from ddfm.formats.volumes import is_volume, read_volume;"
        "from ddfm.formats.pictures import read_image;"
        "path = Path(sys.argv[1]);"
        "\ntry: (read_volume if is_volume(path) else read_image)(path)"
        "\nexcept InputError as error: print(error)"
        "\nprint(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], check=True, capture_output=True, text=True, timeout=300
    )
    message, peak = done.stdout.splitlines()
    assert "pixels" in message or "damaged" in message
    assert int(peak) < 1500


def test_the_limit_can_be_raised_and_says_how(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    PILImage.fromarray(picture(100, 100, 1, np.uint8)).save(path)
    with max_pixels(9_999):
        with pytest.raises(InputError, match="--max-pixels 10000 COMMAND"):
            read_image(path)
        with pytest.raises(InputError, match="10000 pixels"):
            read_8bit(path)
    assert read_image(path).size == (100, 100)
    for wrong in (0, -1, True, 1.5):
        with pytest.raises(InputError, match="max-pixels"):
            set_max_pixels(wrong)  # type: ignore[arg-type]


def test_small_files_do_not_unpack_to_much(tmp_path: Path) -> None:
    """Zeros pack a thousandfold: 1.2 MB for a gigabyte."""
    side = 11_000
    tifffile.imwrite(
        tmp_path / "zeros.tif", np.zeros((side, side), np.float64), compression="zlib", rowsperstrip=256
    )
    assert side**2 < MAX_PIXELS
    with pytest.raises(InputError, match="unpacks to"):
        read_image(tmp_path / "zeros.tif")


def test_pages_and_tags_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(16, 16, strip=256, pages=20_000))
    with pytest.raises(InputError, match="more than 16384 pages"):
        read_pages(path)
    whole = bytearray(tiff(16, 16, strip=256))
    whole[270:274] = struct.pack("<I", 2**31)  # the first tag's number of values
    path.write_bytes(whole)
    with pytest.raises(InputError, match="its tags declare"):
        read_pages(path)


@pytest.mark.parametrize(("width", "height"), [(0, 16), (16, 0), (0, 0)])
def test_tiffs_without_width_or_height(tmp_path: Path, width: int, height: int) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(width, height, strip=16))
    with pytest.raises(InputError, match="damaged"):
        read_image(path)


def test_offsets_beyond_what_there_is(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    for offset in (2**63, 2**64 - 1, 2**40):
        path.write_bytes(b"II+\0" + struct.pack("<HHQ", 8, 0, offset) + bytes(64))
        with pytest.raises(InputError, match="damaged or cut short"):
            read_image(path)
        assert not is_volume(path)


def test_a_unit_of_resolution_that_there_is_not(tmp_path: Path) -> None:
    """Found out only at writing, after the work."""
    samples = picture(16, 16, 1, np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", samples, resolution=(300, 300), resolutionunit=2)
    whole = (tmp_path / "a.tif").read_bytes()
    entry = whole.index(struct.pack("<HHI", 296, 3, 1))
    (tmp_path / "a.tif").write_bytes(whole[: entry + 8] + struct.pack("<H", 77) + whole[entry + 10 :])
    image = read_image(tmp_path / "a.tif")
    assert image.resolution is None
    assert np.array_equal(image.to_array(), samples)


def test_a_nifti_whose_samples_begin_far_away(tmp_path: Path) -> None:
    for name, data in (("a.nii", nifti((16, 16, 1), offset=1e12)),):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match="unpacks to"):
            read_volume(tmp_path / name)


@pytest.mark.parametrize("read", [read_image, read_8bit, read_pages])
def test_pipes_devices_and_folders(tmp_path: Path, read: object) -> None:
    assert callable(read)
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "empty.png").touch()
    for path, message in (
        (tmp_path / "pipe.png", "no regular file"),
        (Path("/dev/zero"), "no regular file"),
        (tmp_path / "folder.png", "is a folder"),
        (tmp_path / "empty.png", "is empty"),
        (tmp_path / "absent.png", "no such file"),
        (tmp_path / ("n" * 300), "too long"),
    ):
        with pytest.raises(InputError, match=message):
            read(path)


def test_no_helper_program_is_started(tmp_path: Path) -> None:
    """Pillow reads EPS by starting Ghostscript, whatever the file is called."""
    (tmp_path / "x.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\n")
    for read in (read_image, read_8bit):
        with pytest.raises(InputError, match="is not a PNG"):
            read(tmp_path / "x.png")


def test_sizes_in_headers() -> None:
    samples = picture(20, 36, 3, np.uint8)
    for kind, read in (
        ("PNG", png_size),
        ("JPEG", jpeg_size),
        ("WebP", webp_size),
        ("JPEG2000", jpeg2000_size),
    ):
        data = io.BytesIO()
        PILImage.fromarray(samples).save(data, kind)
        assert read(data.getvalue()) == picture_size(data.getvalue()) == (36, 20)
        for length in range(0, 40, 3):
            read(data.getvalue()[:length])
    assert picture_size(b"nothing of these") is None
