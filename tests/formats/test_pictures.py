from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image as PILImage
from PIL import ImageCms, ImageOps

from ddfm.errors import InputError
from ddfm.formats.atomic import prepare_folder
from ddfm.formats.pictures import check_writable, from_pil, images_by_stem, read_image, write_image
from ddfm.pictures.image import Image, from_array
from tests.conftest import picture


def write(path: Path, samples: NDArray[Any], **options: Any) -> Path:
    """Write with a library, not with the code under test."""
    if path.suffix == ".tif":
        tifffile.imwrite(path, samples, photometric="rgb" if samples.ndim == 3 else "minisblack", **options)
    elif samples.dtype == np.uint16:
        path.write_bytes(imagecodecs.png_encode(samples))
    else:
        PILImage.fromarray(samples).save(path, **options)
    return path


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".webp"])
@pytest.mark.parametrize("channels", [1, 3])
def test_eight_bits_survive(tmp_path: Path, suffix: str, channels: int) -> None:
    samples = picture(17, 23, channels, np.uint8)
    options = {"lossless": True} if suffix == ".webp" else {}
    image = read_image(write(tmp_path / f"a{suffix}", samples, **options))
    assert (image.size, image.depth.name, image.is_colour) == ((17, 23), "uint8", channels == 3)
    write_image(tmp_path / f"b{suffix}", image)
    back = np.asarray(
        tifffile.imread(tmp_path / "b.tif") if suffix == ".tif" else PILImage.open(tmp_path / f"b{suffix}")
    )
    assert np.array_equal(back.reshape(17, 23, -1)[..., :channels], samples.reshape(17, 23, -1))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_survive(tmp_path: Path, suffix: str, channels: int) -> None:
    samples = picture(17, 23, channels, np.uint16)
    options = {"extrasamples": ["unassalpha"]} if suffix == ".tif" and channels == 4 else {}
    image = read_image(write(tmp_path / f"a{suffix}", samples, **options))
    assert (image.depth.name, image.alpha is not None) == ("uint16", channels == 4)
    write_image(tmp_path / f"b{suffix}", image)
    data = (tmp_path / f"b{suffix}").read_bytes()
    back = imagecodecs.png_decode(data) if suffix == ".png" else tifffile.imread(io.BytesIO(data))
    assert np.array_equal(back, samples)


def test_every_level_of_a_ramp_survives(tmp_path: Path) -> None:
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    write_image(tmp_path / "ramp.png", from_array(ramp))
    assert np.array_equal(read_image(tmp_path / "ramp.png").to_array(), ramp)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg"])
def test_jpeg_is_close(tmp_path: Path, suffix: str) -> None:
    samples = picture(40, 60, 3, np.uint8)
    write_image(tmp_path / f"a{suffix}", from_array(samples))
    assert np.abs(read_image(tmp_path / f"a{suffix}").to_array().astype(int) - samples).mean() < 1


def test_alpha_is_kept_apart(tmp_path: Path) -> None:
    samples = picture(20, 30, 4, np.uint8)
    for suffix in (".png", ".webp", ".tif"):
        options: dict[str, Any] = {".webp": {"lossless": True, "exact": True}}.get(suffix, {})
        if suffix == ".tif":
            options = {"extrasamples": ["unassalpha"]}
        image = read_image(write(tmp_path / f"a{suffix}", samples, **options))
        assert image.alpha is not None
        assert np.array_equal(np.rint(image.alpha * 255), samples[..., 3])
        write_image(tmp_path / f"b{suffix}", image)
        assert np.array_equal(read_image(tmp_path / f"b{suffix}").to_array(), samples)
    grey_alpha = PILImage.fromarray(samples).convert("LA")
    grey_alpha.save(tmp_path / "la.png")
    assert np.array_equal(read_image(tmp_path / "la.png").to_array(), np.asarray(grey_alpha))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "deep.png", "a.tif"])
def test_exif_orientation_is_obeyed(tmp_path: Path, orientation: int, name: str) -> None:
    samples = picture(16, 24, 3, np.uint16 if name == "deep.png" else np.uint8)
    path, exif = tmp_path / name, PILImage.Exif()
    exif[0x0112] = orientation
    if name == "a.tif":
        tifffile.imwrite(path, samples, photometric="rgb", extratags=[(274, "H", 1, orientation, True)])
    elif name == "deep.png":
        png = imagecodecs.png_encode(samples)
        with_exif = io.BytesIO()
        PILImage.fromarray((samples >> 8).astype(np.uint8)).save(with_exif, "PNG", exif=exif)
        chunk = with_exif.getvalue()
        start = chunk.index(b"eXIf") - 4
        length = int.from_bytes(chunk[start : start + 4], "big") + 12
        path.write_bytes(png[:33] + chunk[start : start + length] + png[33:])
    else:
        options: dict[str, Any] = {"quality": 100, "subsampling": 0} if name == "a.jpg" else {}
        PILImage.fromarray(samples).save(path, exif=exif, **options)
    stored = PILImage.fromarray((samples >> 8 if name == "deep.png" else samples).astype(np.uint8))
    stored.info["exif"] = exif.tobytes()
    upright = np.asarray(ImageOps.exif_transpose(stored)).astype(int)
    pixels = read_image(path).to_array().astype(int)
    difference = np.abs((pixels >> 8 if name == "deep.png" else pixels) - upright)
    assert difference.mean() < (3 if name == "a.jpg" else 1e-9)


def test_grey_is_grey_whatever_the_file_says(tmp_path: Path) -> None:
    grey = picture(20, 30, 1, np.uint8)
    write(tmp_path / "rgb.png", np.dstack([grey] * 3))
    PILImage.fromarray(grey).convert("P").save(tmp_path / "palette.bmp")
    PILImage.fromarray(grey > 127).save(tmp_path / "bits.png")
    assert np.array_equal(read_image(tmp_path / "rgb.png").to_array(), grey)
    assert np.array_equal(read_image(tmp_path / "palette.bmp").to_array(), grey)
    assert np.array_equal(read_image(tmp_path / "bits.png").to_array(), (grey > 127) * np.uint8(255))


@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "packbits"])
def test_compressed_tiffs(tmp_path: Path, compression: str | None) -> None:
    samples = picture(33, 21, 3, np.uint16)
    path = write(tmp_path / "a.tif", samples, compression=compression)
    assert np.array_equal(read_image(path).to_array(), samples)
    planar = np.ascontiguousarray(np.moveaxis(samples, -1, 0))
    tifffile.imwrite(path, planar, photometric="rgb", planarconfig="separate", compression=compression)
    assert np.array_equal(read_image(path).to_array(), samples)


def test_inverted_and_palette_tiffs(tmp_path: Path) -> None:
    grey = picture(20, 30, 1, np.uint8)
    tifffile.imwrite(tmp_path / "white.tif", grey, photometric="miniswhite")
    assert np.array_equal(read_image(tmp_path / "white.tif").to_array(), 255 - grey)
    colours = np.random.default_rng(0).integers(0, 65536, (3, 256), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "palette.tif", grey, photometric="palette", colormap=colours)
    assert np.array_equal(
        read_image(tmp_path / "palette.tif").to_array(), np.moveaxis(colours[:, grey], 0, -1)
    )


def test_float_tiffs(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).random((20, 30), dtype=np.float32)
    image = read_image(write(tmp_path / "a.tif", samples))
    assert image.depth == np.float32
    write_image(tmp_path / "b.tif", image)
    assert np.array_equal(tifffile.imread(tmp_path / "b.tif"), samples)
    samples[3, 4] = np.nan
    samples[5, 6:9] = np.inf
    with pytest.raises(InputError, match=r"a\.tif: 4 of 600 samples are NaN or infinite"):
        read_image(write(tmp_path / "a.tif", samples))


def test_colour_profiles_stay(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    PILImage.fromarray(picture(20, 30, 3, np.uint8)).save(tmp_path / "a.png", icc_profile=profile)
    image = read_image(tmp_path / "a.png")
    assert image.icc_profile == profile
    deep = Image(image.pixels, np.dtype(np.uint16), icc_profile=profile)
    for name, kept in (
        ("b.png", image),
        ("b.jpg", image),
        ("b.webp", image),
        ("b.tif", image),
        ("deep.png", deep),
    ):
        write_image(tmp_path / name, kept)
        assert read_image(tmp_path / name).icc_profile == profile
    assert np.array_equal(read_image(tmp_path / "deep.png").to_array(), deep.to_array())


def test_what_is_not_one_whole_picture_is_refused(tmp_path: Path) -> None:
    samples = picture(64, 64, 3, np.uint8)
    deep = picture(64, 64, 3, np.uint16)
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "folder.png").mkdir()
    for name, array in (
        ("a.png", samples),
        ("a.jpg", samples),
        ("a.bmp", samples),
        ("a.webp", samples),
        ("deep.png", deep),
    ):
        whole = write(tmp_path / name, array).read_bytes()
        (tmp_path / f"cut-{name}").write_bytes(whole[: len(whole) // 2])
    for compression in (None, "lzw", "zlib", "jpeg"):
        path = write(tmp_path / f"{compression}.tif", samples, compression=compression)
        whole = path.read_bytes()
        for share in (0.1, 0.5, 0.99):
            (tmp_path / f"cut-{share}-{compression}.tif").write_bytes(whole[: int(len(whole) * share)])
    tifffile.imwrite(tmp_path / "pages.tif", np.zeros((3, 20, 30), np.uint8), photometric="minisblack")
    frames = [PILImage.fromarray(picture(20, 30, 3, np.uint8, seed)) for seed in (0, 1)]
    frames[0].save(tmp_path / "frames.webp", save_all=True, append_images=frames[1:])
    PILImage.fromarray(samples).convert("CMYK").save(tmp_path / "cmyk.jpg")
    PILImage.fromarray(samples[:15]).save(tmp_path / "small.png")
    PILImage.fromarray(samples).save(tmp_path / "a.gif")
    tifffile.imwrite(tmp_path / "wide.tif", samples[..., 0].astype(np.uint32))
    expected = {
        "absent.png": "no such file",
        "empty.png": "is empty",
        "text.png": "is not a PNG, JPEG, TIFF, BMP or WebP image",
        "a.gif": "is not a PNG, JPEG, TIFF, BMP or WebP image",
        "folder.png": "is a folder",
        "pages.tif": "has 3 pages",
        "frames.webp": "has 2 frames",
        "cmyk.jpg": "CMYK",
        "small.png": "is 64x15 pixels; at least 16x16",
        "wide.tif": "samples are uint32",
        **{path.name: "damaged or cut short|not a PNG" for path in tmp_path.glob("cut-*")},
    }
    assert len(expected) > 20
    for name, message in expected.items():
        with pytest.raises(InputError, match=message) as caught:
            read_image(tmp_path / name)
        assert name in str(caught.value)


@pytest.mark.parametrize(
    ("name", "depth", "alpha", "message"),
    [
        ("a.gif", np.uint8, False, "unknown output format"),
        ("a", np.uint8, False, "unknown output format"),
        ("a.jpg", np.uint16, False, "cannot hold 16 bits"),
        ("a.webp", np.uint16, False, "cannot hold 16 bits"),
        ("a.png", np.float32, False, "cannot hold float"),
        ("a.png", np.int16, False, "cannot hold signed"),
        ("a.jpg", np.uint8, True, "alpha"),
        ("a.bmp", np.uint8, True, "alpha"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(
    tmp_path: Path, name: str, depth: type, alpha: bool, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        check_writable(tmp_path / name, np.dtype(depth), alpha)


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file: cannot be written to"):
        prepare_folder(tmp_path / "file")
    with pytest.raises(InputError, match="cannot be written to"):
        check_writable(tmp_path / "file" / "a.png", np.dtype(np.uint8), False)
    with pytest.raises(InputError, match="cannot be written"):
        write_image(tmp_path / "absent" / "a.png", from_array(picture(16, 16, 1, np.uint8)))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_writing_leaves_nothing_but_the_file(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "a.png", np.dtype(np.uint8), False)
    write_image(tmp_path / "new" / "a.png", from_array(picture(16, 16, 1, np.uint8)))
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.png"]


def test_pil_images_of_every_kind() -> None:
    grey = PILImage.fromarray(picture(20, 30, 1, np.uint8))
    deep = PILImage.fromarray(picture(20, 30, 1, np.uint16))
    assert np.array_equal(from_pil(deep).to_array(), np.asarray(deep))
    assert np.array_equal(from_pil(grey.convert("RGB")).to_array(), np.asarray(grey))
    keyed = PILImage.fromarray(picture(20, 30, 3, np.uint8))
    keyed.info["transparency"] = keyed.getpixel((3, 4))
    alpha = from_pil(keyed).alpha
    assert alpha is not None
    assert alpha[4, 3] == 0
    assert alpha.max() == 1
    with pytest.raises(InputError, match="CMYK"):
        from_pil(grey.convert("CMYK"))


@pytest.mark.parametrize("shape", [(20,), (20, 30, 5), (2, 20, 30, 3)])
def test_shapes_that_are_no_picture(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="is not H x W"):
        from_array(np.zeros(shape, np.uint8))


def test_images_of_a_folder_by_stem(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpeg", "a.txt", ".hidden.png", "c.ppm"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert images_by_stem(tmp_path) == {"a": tmp_path / "a.jpeg", "b": tmp_path / "b.PNG"}
    assert images_by_stem(tmp_path, {".ppm"}) == {"c": tmp_path / "c.ppm"}
    (tmp_path / "a.tif").touch()
    with pytest.raises(InputError, match=r"holds both a\.jpeg and a\.tif"):
        images_by_stem(tmp_path)
    with pytest.raises(InputError, match=r"a\.tif is not a folder"):
        images_by_stem(tmp_path / "a.tif")


def test_of_several_jpegs_in_one_file_the_first_is_the_picture(tmp_path: Path) -> None:
    first, preview = (PILImage.fromarray(picture(40, 56, 3, np.uint8, seed)) for seed in (1, 2))
    first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[preview], quality=100)
    first.save(tmp_path / "b.jpg", quality=100)
    assert np.array_equal(read_image(tmp_path / "a.jpg").pixels, read_image(tmp_path / "b.jpg").pixels)
