"""Ranges: which values black and white stand for, and that values come back whatever the range."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

import ddfm
from ddfm.errors import InputError
from ddfm.formats.pictures import read_image, write_image
from ddfm.pictures.image import from_array, with_shared_range
from tests.conftest import examples, picture

SHAPE = (16, 17)
FLOATS = st.floats(-1e6, 1e6, width=32)


def kelvin(seed: int = 0) -> NDArray[np.float32]:
    """Temperatures from 290 to 320 K."""
    return (290 + 30 * (picture(48, 64, 1, np.uint16, seed) / 65535)).astype(np.float32)


@examples(50)
@given(data=st.data(), depth=st.sampled_from([np.uint8, np.uint16, np.int16]))
def test_integers_survive_whatever_the_range(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, depth: type
) -> None:
    stored = np.iinfo(depth)
    low, high = sorted(data.draw(st.tuples(*[st.integers(stored.min, stored.max)] * 2)))
    samples = data.draw(arrays.arrays(depth, SHAPE, elements=st.integers(low, high)))
    wanted: Any = data.draw(st.sampled_from([None, "data", (low, high)] if low < high else [None, "data"]))
    path = tmp_path_factory.mktemp("tiff") / "a.tif"
    tifffile.imwrite(path, samples, photometric="minisblack")
    image = read_image(path, wanted)
    assert image.depth == depth
    assert image.outside == 0
    assert np.array_equal(image.to_array(), samples)
    assert 0 <= image.pixels.min() <= image.pixels.max() <= 1
    write_image(path, image)
    assert np.array_equal(tifffile.imread(path), samples)
    if depth == np.uint16:
        write_image(path.with_suffix(".png"), image)
        assert np.array_equal(read_image(path.with_suffix(".png")).to_array(), samples)


@examples(50)
@given(samples=arrays.arrays(np.float32, SHAPE, elements=FLOATS))
def test_floats_survive_to_a_16_millionth_of_their_range(
    tmp_path_factory: pytest.TempPathFactory, samples: NDArray[np.float32]
) -> None:
    path = tmp_path_factory.mktemp("tiff") / "a.tif"
    tifffile.imwrite(path, samples, photometric="minisblack")
    write_image(path, read_image(path))
    back = tifffile.imread(path)
    tolerance = 2.0**-24 * max(float(samples.max()) - float(samples.min()), 1)
    assert np.abs(back.astype(float) - samples).max() <= tolerance + np.spacing(np.abs(samples).max())
    again = read_image(path)
    write_image(path, again)
    assert np.array_equal(tifffile.imread(path), back)  # no drift


@pytest.mark.parametrize(
    ("largest", "bits"),
    [(200, 8), (255, 8), (256, 10), (1023, 10), (4095, 12), (8500, 14), (16384, 16), (0, 16)],
)
def test_what_a_16_bit_file_that_says_nothing_is_taken_for(largest: int, bits: int) -> None:
    samples = np.linspace(0, largest, 400).reshape(20, 20).astype(np.uint16)
    image = from_array(samples)
    assert image.limits == (0, 2**bits - 1)
    assert ("taken for" in image.range_from) == (bits < 16)
    assert np.array_equal(image.to_array(), samples)


def test_ranges_of_floats_and_signed_samples() -> None:
    unit = picture(20, 20, 1, np.uint8) / 300
    assert from_array(unit).limits == (0, 1)
    assert from_array(kelvin()).limits == (290, 320)
    hounsfield = (picture(20, 20, 1, np.uint16) // 20).astype(np.int16) - 1000
    assert from_array(hounsfield).limits == (hounsfield.min(), hounsfield.max())
    flat = from_array(np.full((20, 20), 300.0))
    assert np.array_equal(flat.to_array(), np.full((20, 20), np.float32(300)))
    with pytest.raises(InputError, match="beyond 32-bit floats"):
        from_array(np.full((20, 20), 1e39))


def test_nothing_is_cut_off_without_being_said() -> None:
    counts = (7000 + picture(20, 30, 1, np.uint16) // 50).astype(np.uint16)
    counts[:2, 0] = 0, 65535
    assert from_array(counts, value_range="data").limits == (0, 65535)
    with pytest.warns(UserWarning, match="hot: 2 of 600 samples lie outside 7000 to 8400") as caught:
        image = from_array(counts, "hot", value_range=(7000, 8400))
    assert len(caught) == 1
    assert (image.outside, image.limits) == (2, (7000, 8400))
    assert "2 of 600 samples" in image.range_from
    expected = counts.clip(7000, 8400)
    assert np.array_equal(image.to_array(), expected)


@pytest.mark.parametrize("wanted", [(1, 1), (2, 1), (0, float("nan")), (1, 2, 3), "widest", 5])
def test_ranges_that_are_none(wanted: Any) -> None:
    with pytest.raises(InputError, match="range"):
        from_array(picture(20, 20, 1, np.uint8), value_range=wanted)


def test_one_range_for_the_sources_of_one_camera() -> None:
    under, over = picture(20, 20, 1, np.uint16) // 20, picture(20, 20, 1, np.uint16)
    images = with_shared_range([from_array(under), from_array(over)])
    assert [image.limits for image in images] == [(0, 65535)] * 2
    assert np.allclose(images[0].pixels[..., 0], under / 65535)
    assert np.array_equal(images[0].to_array(), under)
    mixed = [from_array(under), from_array(picture(20, 20, 1, np.uint8))]
    assert [image.limits for image in with_shared_range(mixed)] == [(0, 4095), (0, 255)]


def write_png(path: Path, samples: NDArray[Any], significant: int) -> Path:
    """A 16-bit grey PNG with an sBIT chunk."""
    png = imagecodecs.png_encode(samples)
    content = b"sBIT" + bytes([significant])
    chunk = struct.pack(">I", 1) + content + struct.pack(">I", zlib.crc32(content))
    path.write_bytes(png[:33] + chunk + png[33:])
    return path


def test_significant_bits_of_png(tmp_path: Path) -> None:
    twelve = picture(20, 30, 1, np.uint16) >> 4
    scaled = (twelve << 4) | (twelve >> 8)  # as the standard has it
    image = read_image(write_png(tmp_path / "scaled.png", scaled, 12))
    assert image.limits == (0, 65535)
    assert np.allclose(image.pixels[..., 0], twelve / 4095, atol=2e-5)
    image = read_image(write_png(tmp_path / "unscaled.png", twelve, 12))
    assert image.limits == (0, 4095)
    assert "sBIT 12" in image.range_from
    # Dark, but scaled up: the low bits are those of the high ones, so nothing is made brighter.
    dark = read_image(write_png(tmp_path / "dark.png", (twelve >> 5) << 4, 12))
    assert dark.limits == (0, 65535)


@pytest.mark.parametrize("value_range", [None, "data"])
def test_a_ramp_fused_with_itself_stays(tmp_path: Path, value_range: Any) -> None:
    ramp = np.linspace(5000, 60000, 96 * 128).round().astype(np.uint16).reshape(96, 128)
    tifffile.imwrite(tmp_path / "ramp.tif", ramp)
    image = read_image(tmp_path / "ramp.tif", value_range)
    level = image.limits[1] - image.limits[0]
    for task, tolerance in (("medical", 1), ("focus", 1), ("infrared", level / 255)):
        fused = ddfm.fuse(image, image, task=task, steps=0, noise="off", stretch="none")
        result = replace(image, pixels=fused.image.pixels).to_array()
        assert np.abs(result.astype(int) - ramp).max() <= tolerance, task


def test_fused_temperatures_are_temperatures(tmp_path: Path) -> None:
    samples = kelvin()
    tifffile.imwrite(tmp_path / "a.tif", samples)
    image = read_image(tmp_path / "a.tif")
    fused = ddfm.fuse(image, image, task="medical", steps=0)
    write_image(tmp_path / "b.tif", replace(image, pixels=fused.image.pixels))
    assert np.abs(tifffile.imread(tmp_path / "b.tif") - samples).max() < 1e-3
    assert read_image(tmp_path / "b.tif").limits == (290, 320)
