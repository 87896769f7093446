"""TIFF beyond the plain picture: packed bits, tags of range and resolution, many pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from ddfm.errors import InputError
from ddfm.formats.pictures import read_image, read_pages, write_image, write_pages
from ddfm.pictures.image import from_array
from tests.conftest import picture


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_packed_bits(tmp_path: Path, bits: int) -> None:
    samples = picture(20, 30, 1, np.uint16) >> (16 - bits)
    tifffile.imwrite(tmp_path / "a.tif", samples, bitspersample=bits)
    image = read_image(tmp_path / "a.tif")
    assert (image.limits, image.range_from) == ((0, 2**bits - 1), f"{bits} bits")
    assert (image.pixels.min(), image.pixels.max()) == (0, 1)
    write_image(tmp_path / "b.tif", image)
    with tifffile.TiffFile(tmp_path / "b.tif") as back:
        assert np.array_equal(back.pages[0].asarray(), samples)
        assert back.pages[0].tags[281].value == 2**bits - 1
    dark = samples // 100  # 12 bits all the same: the tag says so
    tifffile.imwrite(tmp_path / "a.tif", dark, bitspersample=bits)
    assert read_image(tmp_path / "a.tif").limits == (0, 2**bits - 1)
    write_image(tmp_path / "b.tif", read_image(tmp_path / "a.tif"))
    assert read_image(tmp_path / "b.tif").limits == (0, 2**bits - 1)


def test_few_bits_are_scaled_up(tmp_path: Path) -> None:
    samples = picture(20, 32, 1, np.uint8) >> 4
    tifffile.imwrite(tmp_path / "a.tif", samples, bitspersample=4)
    assert np.array_equal(read_image(tmp_path / "a.tif").to_array(), samples * 17)


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_tags_of_range(tmp_path: Path, byteorder: str) -> None:
    samples = picture(20, 30, 1, np.uint16) >> 5
    options: dict[str, Any] = {"byteorder": byteorder}
    tifffile.imwrite(tmp_path / "a.tif", samples, extratags=[(281, "H", 1, 4000, True)], **options)
    assert read_image(tmp_path / "a.tif").limits == (0, 4095)
    tifffile.imwrite(tmp_path / "stale.tif", samples, extratags=[(281, "H", 1, 255, True)], **options)
    assert read_image(tmp_path / "stale.tif").limits == (0, 4095)  # the tag is passed over
    celsius = (samples / 50 - 5).astype(np.float32)
    limits = [(340, 11, 1, -20.0, True), (341, 11, 1, 100.0, True)]
    tifffile.imwrite(tmp_path / "c.tif", celsius, extratags=limits, **options)
    image = read_image(tmp_path / "c.tif")
    assert (image.limits, image.range_from) == ((-20, 100), "SMin- and SMaxSampleValue")
    assert np.allclose(image.to_array(), celsius, atol=1e-5)


def test_white_is_zero_of_twelve_bits(tmp_path: Path) -> None:
    samples = picture(20, 30, 1, np.uint16) >> 4
    tags = [(281, "H", 1, 4095, True)]
    tifffile.imwrite(tmp_path / "a.tif", samples, photometric="miniswhite", extratags=tags)
    assert np.array_equal(read_image(tmp_path / "a.tif").to_array(), 4095 - samples)


def test_alpha_of_twelve_bits_and_of_floats(tmp_path: Path) -> None:
    deep = picture(20, 30, 4, np.uint16) >> 4
    warm = np.dstack([picture(20, 30, 1, np.uint8) + 200.5, picture(20, 30, 1, np.uint8) / 255])
    for samples in (deep, warm.astype(np.float32)):
        image = from_array(samples)
        assert image.alpha is not None
        assert np.allclose(image.alpha, samples[..., -1] / samples.dtype.type(4095 if samples is deep else 1))
        write_image(tmp_path / "a.tif", image)
        assert np.allclose(tifffile.imread(tmp_path / "a.tif"), samples, rtol=0, atol=1e-4)
    with pytest.raises(InputError, match="alpha lies outside 0 to 1"):
        from_array(warm * 2)


def test_pages_share_range_and_keep_resolution(tmp_path: Path) -> None:
    stack = np.stack([(picture(20, 30, 1, np.uint16, seed) >> 4) // (seed + 1) for seed in range(4)])
    options: dict[str, Any] = {"photometric": "minisblack", "resolution": (300.5, 200), "resolutionunit": 3}
    tifffile.imwrite(tmp_path / "a.tif", stack, **options)
    pages = read_pages(tmp_path / "a.tif")
    assert [page.limits for page in pages] == [(0, 4095)] * 4
    assert pages[2].name.endswith("a.tif, page 3")
    write_pages(tmp_path / "b.tif", pages)
    with tifffile.TiffFile(tmp_path / "b.tif") as back:
        assert np.array_equal(np.stack([page.asarray() for page in back.pages]), stack)
        for page in back.pages:
            x, y = page.tags[282].value, page.tags[283].value
            assert (x[0] / x[1], y[0] / y[1], page.tags[296].value) == (300.5, 200, 3)
    assert read_pages(tmp_path / "b.tif")[0].resolution == (300.5, 200, 3)
    colours = [from_array(picture(20, 30, 3, np.uint8, seed)) for seed in range(2)]
    write_pages(tmp_path / "c.tif", colours)
    assert np.array_equal(tifffile.imread(tmp_path / "c.tif"), [image.to_array() for image in colours])


def test_a_quarter_turn_turns_the_resolution(tmp_path: Path) -> None:
    tags = [(274, "H", 1, 6, True)]
    samples = picture(20, 30, 1, np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", samples, resolution=(3, 2), resolutionunit=2, extratags=tags)
    image = read_image(tmp_path / "a.tif")
    assert (image.size, image.resolution) == ((30, 20), (2, 3, 2))


def test_smaller_copies_are_no_pages(tmp_path: Path) -> None:
    samples = picture(40, 60, 1, np.uint8)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(samples)
        writer.write(samples[::2, ::2], subfiletype=1)
    assert np.array_equal(read_image(tmp_path / "a.tif").to_array(), samples)


def circle(whole: bytes) -> bytes:
    """A TIFF whose first page is said to be followed by itself."""
    first = int.from_bytes(whole[4:8], "little")
    end = first + 2 + 12 * int.from_bytes(whole[first : first + 2], "little")
    return whole[:end] + whole[4:8] + whole[end + 4 :]


@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("metadata", [None, {}])
def test_no_page_is_dropped_from_a_file_cut_short(tmp_path: Path, bigtiff: bool, metadata: Any) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path, bigtiff=bigtiff) as writer:
        for seed in range(3):
            writer.write(picture(20, 32, 1, np.uint8, seed), metadata=metadata, contiguous=False)
    whole = path.read_bytes()
    assert len(read_pages(path)) == 3
    for length in range(16, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match="damaged or cut short"):
            read_pages(path)


def test_stacks_that_are_refused(tmp_path: Path) -> None:
    samples = picture(20, 32, 1, np.uint8)
    stack = np.stack([samples] * 3)
    with tifffile.TiffWriter(tmp_path / "sizes.tif") as writer:
        writer.write(samples)
        writer.write(samples[:, :-1])
    with tifffile.TiffWriter(tmp_path / "depths.tif") as writer:
        writer.write(samples)
        writer.write(samples.astype(np.uint16))
    tifffile.imwrite(tmp_path / "whole.tif", stack, photometric="minisblack")
    whole = (tmp_path / "whole.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(whole[:-700])
    (tmp_path / "circle.tif").write_bytes(circle(whole))
    (tmp_path / "none.tif").write_bytes(b"II*\0\0\0\0\0")
    tifffile.imwrite(tmp_path / "truncated.tif", stack, truncate=True, photometric="minisblack")
    cube, bands = np.zeros((32, 32, 32), np.uint8), np.zeros((20, 32, 7), np.uint8)
    grey: dict[str, Any] = {"photometric": "minisblack"}
    tifffile.imwrite(tmp_path / "deep.tif", cube, tile=(16, 16, 16), volumetric=True, **grey)
    tifffile.imwrite(tmp_path / "bands.tif", bands, planarconfig="contig", **grey)
    nan = stack.astype(np.float32)
    nan[1, 2, 3] = np.nan
    tifffile.imwrite(tmp_path / "nan.tif", nan, photometric="minisblack")
    for name, message in {
        "sizes.tif": r"page 2 is 31x20 uint8, page 1 32x20 uint8",
        "depths.tif": "page 2 is 32x20 uint16",
        "cut.tif": "damaged or cut short",
        "circle.tif": "run in a circle",
        "none.tif": "has no pages",
        "truncated.tif": "stack of shape",
        "deep.tif": "stack of shape",
        "bands.tif": "7 channels",
        "nan.tif": "1 of 1920 samples are NaN",
    }.items():
        with pytest.raises(InputError, match=message) as caught:
            read_pages(tmp_path / name)
        assert name in str(caught.value)
    with pytest.raises(InputError, match="has 3 pages and one is needed"):
        read_image(tmp_path / "whole.tif")
