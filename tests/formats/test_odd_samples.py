"""Samples and tags that files may hold and cameras do not make."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

from ddfm.errors import InputError
from ddfm.formats.pictures import from_pil, read_8bit, read_image
from ddfm.formats.volumes import read_volume
from ddfm.pictures.image import from_array
from ddfm.pictures.ranges import check_range, is_span, spanning
from tests.conftest import picture
from tests.formats.medical import write_series


@pytest.mark.parametrize("value", [0.0, 300.5, 1e16, -1e16, 3e38, -3e38, 1e-40])
def test_constants_of_any_size(value: float) -> None:
    """Of 1e16 the range was empty, because one more is the same: everything was NaN."""
    samples = np.full((16, 16), value)
    for wanted in (None, "data"):
        image = from_array(samples, value_range=wanted)
        assert np.isfinite(image.pixels).all()
        assert np.isfinite(image.limits).all()
        assert np.allclose(image.to_array(), value, rtol=1e-6)


def test_ranges_that_are_none() -> None:
    for wanted in (
        (1e308, -1e308),
        (-1.7e308, 1.7e308),
        (1e16, 1e16 + 1),
        (0, float("inf")),
        (1, 1),
        (0, 10**400),
    ):
        with pytest.raises(InputError, match="range"):
            check_range(wanted)
    assert spanning(2.0, 5.0) == (2.0, 5.0)
    assert is_span(*spanning(1e16, 1e16))


def test_32_bit_integers_of_pil() -> None:
    """Pillow has 16-bit files in mode I; they were clipped at 255."""
    samples = picture(20, 24, 1, np.uint16)
    assert np.array_equal(from_pil(PILImage.fromarray(samples.astype(np.int32))).to_array(), samples)
    signed = samples.astype(np.int32) // 2 - 16_000
    assert np.array_equal(from_pil(PILImage.fromarray(signed)).to_array(), signed)
    large = samples.astype(np.int32) * 100
    assert np.allclose(from_pil(PILImage.fromarray(large)).to_array(), large, rtol=1e-6)
    with pytest.raises(InputError, match="more than 2\\^24 levels"):
        from_pil(PILImage.fromarray(samples.astype(np.int32) * 30_000))


def test_pil_pictures_that_are_closed_or_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    PILImage.fromarray(picture(64, 64, 3, np.uint8)).save(path)
    closed = PILImage.open(path)
    closed.close()
    path.write_bytes(path.read_bytes()[:200])
    with PILImage.open(path) as cut:
        for image in (closed, cut):
            with pytest.raises(InputError, match="closed, damaged or cut short"):
                from_pil(image)


def test_8_bits_as_they_are(tmp_path: Path) -> None:
    grey, colour = picture(20, 24, 1, np.uint8), picture(20, 24, 3, np.uint8)
    for name in ("a.png", "a.tif", "a.bmp", "a.pgm"):
        PILImage.fromarray(grey).save(tmp_path / name)
        assert np.array_equal(read_8bit(tmp_path / name), grey)
    for name in ("a.png", "a.tif", "a.bmp", "a.ppm"):
        PILImage.fromarray(colour).save(tmp_path / name)
        assert np.array_equal(read_8bit(tmp_path / name), colour)
    PILImage.fromarray(colour).convert("RGBA").save(tmp_path / "a.png")
    assert np.array_equal(read_8bit(tmp_path / "a.png"), colour)
    palette = PILImage.fromarray(colour).quantize(16)
    palette.save(tmp_path / "a.tif")
    assert np.array_equal(read_8bit(tmp_path / "a.tif"), np.asarray(palette.convert("RGB")))
    PILImage.fromarray(picture(20, 24, 1, np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="8 bits are needed"):
        read_8bit(tmp_path / "a.png")
    exif = PILImage.Exif()
    exif[0x0112] = 6
    PILImage.fromarray(grey).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(read_8bit(tmp_path / "turned.png"), read_image(tmp_path / "turned.png").to_array())


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("ImageOrientationPatient", [1, 0, 0]),
        ("ImagePositionPatient", [0, 0]),
        ("ImagePositionPatient", [1e30, 0, 0]),
        ("PixelSpacing", [1, 1, 1]),
    ],
)
def test_dicom_tags_of_another_length(tmp_path: Path, word: str, value: list[float]) -> None:
    samples = np.stack([picture(16, 16, 1, np.int16, k) for k in range(2)])
    write_series(tmp_path / "series", samples, **{word: value})
    with pytest.raises(InputError, match=f"{word} is not"):
        read_volume(tmp_path / "series")
