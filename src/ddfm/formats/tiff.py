"""TIFF: one page or many, 1 to 16 bits or floats, packed or not; what the tags say of range and scale."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from ddfm.errors import InputError
from ddfm.pictures.image import Resolution
from ddfm.pictures.ranges import Range, ValueRange, full_range, of_bits

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
COLOURS = ("MINISBLACK", "MINISWHITE", "RGB", "YCBCR", "PALETTE")
ORIENTATION, ICC_PROFILE, X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 274, 34675, 282, 283, 296
MAX_SAMPLE, SMALLEST, LARGEST = 281, 340, 341
BIG = 2**32 - 2**25  # bytes from which a file needs 64-bit offsets, with room for its tags
FLOAT_TAG = 11


@dataclass(frozen=True)
class Page:
    """One page as stored.

    Attributes:
        samples: (H, W) or (H, W, C).
        declared: the range that the tags give, or None.
        orientation: EXIF's, 1 to 8; not applied yet.
    """

    samples: NDArray[Any]
    declared: Range | None
    orientation: int
    icc_profile: bytes | None
    resolution: Resolution | None


def read_pages(data: bytes, name: str) -> list[Page]:
    """The pages of a TIFF file, without the smaller copies that some hold of a page.

    Raises InputError, naming the file and the page, for what is damaged, cut short or no grey or RGB picture.
    """
    _check_chain(data, name)
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as tiff:
            pages = [page for page in tiff.pages if not page.is_reduced]
            if not pages:
                raise InputError(f"{name}: holds smaller copies of a page only, not the page itself")
            if len(pages) == 1 and tiff.series[0].size > pages[0].size:
                raise InputError(
                    f"{name}: is a stack of shape {tiff.series[0].shape} in one page; save it page by page"
                )
            names = [name] if len(pages) == 1 else [f"{name}, page {k + 1}" for k in range(len(pages))]
            return [_read_page(page, len(data), title) for page, title in zip(pages, names, strict=True)]
    except InputError:
        raise
    except Exception as error:  # tifffile and its codecs raise whatever they stumble on
        raise InputError(f"{name}: is damaged or cut short ({error})") from error


def count_pages(path: Any) -> int:
    """Pages of a TIFF file without reading their samples; 1 for what cannot be told."""
    try:
        with tifffile.TiffFile(path) as tiff:
            return sum(not page.is_reduced for page in tiff.pages)
    except Exception:  # reading it will say what is wrong
        return 1


def _check_chain(data: bytes, name: str) -> None:
    """Follow the directories from page to page: tifffile drops those behind the end of a file.

    Raises InputError if one lies, even in part, behind the end, or if there is none.
    """
    order = "<" if data.startswith(b"II") else ">"
    # Counts and offsets are of 2 and 4 bytes, entries of 12; of 8, 8 and 20 in BigTIFF.
    (count, offset), entry, start = (("HI", 12, 4), ("QQ", 20, 8))[data[2:4] in (b"+\0", b"\0+")]
    seen: set[int] = set()
    try:
        (place,) = struct.unpack_from(order + offset, data, start)
        while place:
            if place in seen:
                raise InputError(f"{name}: is damaged (its pages run in a circle)")
            seen.add(place)
            (entries,) = struct.unpack_from(order + count, data, place)
            place += struct.calcsize(order + count) + entry * entries
            (place,) = struct.unpack_from(order + offset, data, place)
    except struct.error as error:
        raise InputError(f"{name}: is damaged or cut short (it ends before page {len(seen)})") from error
    if not seen:
        raise InputError(f"{name}: has no pages; it was not written to the end")


def _read_page(page: Any, size: int, name: str) -> Page:
    stored = zip(page.dataoffsets, page.databytecounts, strict=True)
    if any(start + count > size for start, count in stored):
        raise InputError(f"{name}: is damaged or cut short (it ends before its last strip)")
    if page.photometric.name not in COLOURS:
        raise InputError(f"{name}: is a TIFF in {page.photometric.name} colours; convert it to RGB first")
    samples = page.asarray()
    samples = samples.astype(samples.dtype.newbyteorder("="), copy=False)
    if page.axes == "SYX":
        samples = np.moveaxis(samples, 0, -1)
    elif page.axes not in ("YX", "YXS"):
        raise InputError(f"{name}: is a stack of shape {samples.shape} in one page; save it page by page")
    tags = {tag.code: tag.value for tag in page.tags}
    samples, declared = _unpack(page, samples, tags, name)
    resolution: Resolution | None = None
    if X_RESOLUTION in tags and Y_RESOLUTION in tags:
        x, y = (tags[code][0] / (tags[code][1] or 1) for code in (X_RESOLUTION, Y_RESOLUTION))
        unit = int(tags.get(RESOLUTION_UNIT, 2))
        resolution = None if (x, y, unit) == (1, 1, 1) else (x, y, unit)  # that is how nothing is said
    orientation = int(tags.get(ORIENTATION, 1))
    return Page(samples, declared, orientation, tags.get(ICC_PROFILE), resolution)


def _unpack(
    page: Any, samples: NDArray[Any], tags: dict[int, Any], name: str
) -> tuple[NDArray[Any], Range | None]:
    """Few bits scaled to eight, palettes looked up, white-is-zero turned round; and the range."""
    kind, bits = page.photometric.name, page.bitspersample
    if kind == "PALETTE":
        return np.moveaxis(page.colormap[:, samples], 0, -1), of_bits(16, "a palette of 16 bits")
    if samples.dtype == np.bool_ or bits in (1, 2, 4):
        samples = samples.astype(np.uint8) * np.uint8(255 // (2**bits - 1))
    elif bits not in (8, *range(9, 17), 32, 64):
        raise InputError(f"{name}: has {bits}-bit samples; save it with 8 or 16 bits first")
    declared = _declared(samples.dtype, bits, tags)
    if kind == "MINISWHITE":
        if not np.issubdtype(samples.dtype, np.unsignedinteger):
            raise InputError(f"{name}: signed or float samples where white is zero; invert them first")
        top = declared.limits[1] if declared is not None else full_range(samples.dtype)[1]
        if samples.max() > top:  # a stale tag
            top = full_range(samples.dtype)[1]
        samples = samples.dtype.type(top) - samples
    return samples, declared


def _declared(dtype: np.dtype[Any], bits: int, tags: dict[int, Any]) -> Range | None:
    """What BitsPerSample, MaxSampleValue (the bits that hold it) or S-Min/MaxSampleValue say."""
    if dtype == np.uint16:
        if bits < 16:
            return of_bits(bits, f"{bits} bits")
        if top := max(np.ravel(tags.get(MAX_SAMPLE, 0))):
            needed = max(8, int(top).bit_length())
            return of_bits(min(needed + needed % 2, 16), f"MaxSampleValue {top}")
    elif dtype != np.uint8 and SMALLEST in tags and LARGEST in tags:
        low, high = float(min(np.ravel(tags[SMALLEST]))), float(max(np.ravel(tags[LARGEST])))
        if np.isfinite([low, high]).all() and low < high:
            return Range((low, high), "SMin- and SMaxSampleValue")
    return None


def encode(
    pages: Sequence[NDArray[Any]],
    limits: ValueRange,
    *,
    colour: bool,
    alpha: bool,
    icc_profile: bytes | None,
    resolution: Resolution | None,
) -> bytes:
    """A TIFF file, deflated; tags give the range if the depth does not."""
    buffer = io.BytesIO()
    depth = pages[0].dtype
    channels = pages[0].shape[2] if pages[0].ndim == 3 else 1
    if depth == np.uint16 and limits[1].is_integer() and 0 < limits[1] < 65535:
        tags: list[Any] = [(MAX_SAMPLE, "H", channels, (int(limits[1]),) * channels, True)]
    elif depth not in (np.uint8, np.uint16) and limits != full_range(depth):
        tags = [
            (code, FLOAT_TAG, channels, (limit,) * channels, True)
            for code, limit in zip((SMALLEST, LARGEST), limits, strict=True)
        ]
    else:
        tags = []
    with tifffile.TiffWriter(buffer, bigtiff=sum(page.nbytes for page in pages) > BIG) as writer:
        for page in pages:
            writer.write(
                page,
                photometric="rgb" if colour else "minisblack",
                planarconfig="contig" if page.ndim == 3 else None,
                extrasamples=["unassalpha"] if alpha else None,
                compression="zlib",
                iccprofile=icc_profile,
                resolution=None if resolution is None else resolution[:2],
                resolutionunit=None if resolution is None else resolution[2],
                extratags=tags,
                software=False,
                metadata=None,
            )
    return buffer.getvalue()
