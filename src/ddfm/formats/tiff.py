"""TIFF: one page or many, 1 to 16 bits or floats, packed or not; what the tags say of range and scale."""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from ddfm.errors import InputError
from ddfm.formats.exif import EXIF_IFD, EXPOSURE_TIME, F_NUMBER, SENSITIVITY, exposure_of
from ddfm.formats.files import decoding, read_whole
from ddfm.formats.headers import picture_size
from ddfm.formats.limits import MAX_PAGES, check_decoded
from ddfm.pictures.image import Resolution
from ddfm.pictures.ranges import Range, ValueRange, full_range, is_span, of_bits

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
COLOURS = ("MINISBLACK", "MINISWHITE", "RGB", "YCBCR", "PALETTE")
ORIENTATION, ICC_PROFILE, X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 274, 34675, 282, 283, 296
UNITS = (1, 2, 3)  # none, inch, centimetre
VALUE_BYTES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
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
        palette: whether the samples were looked up in one, which has 16 bits.
        exposure: see `ddfm.formats.exif.exposure_of`.
    """

    samples: NDArray[Any]
    declared: Range | None
    orientation: int
    icc_profile: bytes | None
    resolution: Resolution | None
    palette: bool = False
    exposure: float | None = None


def read_pages(data: bytes, name: str) -> list[Page]:
    """Read the pages of a TIFF file, without the smaller copies that some hold of a page.

    Raises InputError, naming the file and the page, for what is too large, damaged, cut short or no grey or
    RGB picture.
    """
    with _checked_pages(data, name) as pages:
        return [_read_page(page, title) for page, title in pages]


def declared_size(data: bytes, name: str) -> tuple[int, int, int]:
    """Return height, width and number of pages, from the tags alone. Raises InputError as `read_pages`."""
    with _checked_pages(data, name) as pages:
        first, _ = pages[0]
        return first.imagelength, first.imagewidth, len(pages)


@contextmanager
def _checked_pages(data: bytes, name: str) -> Iterator[list[tuple[Any, str]]]:
    """Open a file and check its pages without reading samples; each with its name for messages."""
    _check_chain(data, name)
    with ExitStack() as stack:
        with _decoding(name):
            opened = stack.enter_context(tifffile.TiffFile(io.BytesIO(data)))
            pages = [page for page in opened.pages if not page.is_reduced]
            stacked = len(pages) == 1 and opened.series[0].size > pages[0].size
        if not pages:
            raise InputError(f"{name}: holds smaller copies of a page only, not the page itself")
        if stacked:
            with _decoding(name):
                shape = opened.series[0].shape
            raise InputError(f"{name}: is a stack of shape {shape} in one page; save it page by page")
        names = [name] if len(pages) == 1 else [f"{name}, page {k + 1}" for k in range(len(pages))]
        for page, title in zip(pages, names, strict=True):
            _check_page(page, data, title)
        pixels, decoded = (sum(numbers) for numbers in zip(*map(_room, pages), strict=True))
        check_decoded(name, pixels, decoded, len(data))
        yield list(zip(pages, names, strict=True))


def _room(page: Any) -> tuple[int, int]:
    """Return how many pixels a page has, and how many bytes its samples take."""
    return math.prod((page.imagewidth, page.imagelength, page.imagedepth)), page.nbytes


def count_pages(path: Path) -> int:
    """Count the pages of a TIFF file without reading their samples; 1 for what cannot be told.

    Raises InputError if it is no regular file, or cannot be read.
    """
    data = read_whole(path)
    if not data.startswith(MAGIC):
        return 1
    try:
        _check_chain(data, str(path))
        with _decoding(str(path)), tifffile.TiffFile(io.BytesIO(data)) as opened:
            return sum(not page.is_reduced for page in opened.pages)
    except InputError:  # reading it will say what is wrong
        return 1


def first_orientation(path: Path) -> int:
    """Return EXIF's orientation of the first page, 1 to 8. Raises InputError."""
    data = read_whole(path)
    _check_chain(data, str(path))
    with _decoding(str(path)), tifffile.TiffFile(io.BytesIO(data)) as opened:
        tag = opened.pages[0].tags.get(ORIENTATION)
        return 1 if tag is None else _whole(tag.value, 1)


def _check_chain(data: bytes, name: str) -> None:
    """Follow the directories from page to page: tifffile drops those behind the end of a file.

    Raises InputError if one lies, even in part, behind the end, if there is none or there are too many. The
    same if they declare more values than the file has bytes, which would take for ever to read.
    """
    order = "<" if data.startswith(b"II") else ">"
    # Counts and offsets are of 2 and 4 bytes, entries of 12; of 8, 8 and 20 in BigTIFF.
    big = data[2:4] in (b"+\0", b"\0+")
    (count, offset), entry, start = (("HI", 12, 4), ("QQ", 20, 8))[big]
    kind_and_number = struct.Struct(order + ("xxHQ" if big else "xxHI"))
    seen: set[int] = set()
    directories, values = 0, 0
    try:
        (place,) = struct.unpack_from(order + offset, data, start)
        while place:
            if place in seen:
                raise InputError(f"{name}: is damaged (its pages run in a circle)")
            seen.add(place)
            if place >= len(data):
                raise struct.error
            (entries,) = struct.unpack_from(order + count, data, place)
            place += struct.calcsize(order + count)
            directories += entry * entries
            if place + entry * entries > len(data):
                raise struct.error
            if directories > len(data) or len(seen) > MAX_PAGES:
                raise InputError(f"{name}: has more than {MAX_PAGES} pages, or pages that overlap")
            for at in range(place, place + entry * entries, entry):
                kind, number = kind_and_number.unpack_from(data, at)
                values += number * VALUE_BYTES.get(kind, 0)
            place += entry * entries
            (place,) = struct.unpack_from(order + offset, data, place)
    except struct.error as error:
        raise InputError(f"{name}: is damaged or cut short (it ends before page {len(seen)})") from error
    if not seen:
        raise InputError(f"{name}: has no pages; it was not written to the end")
    if values > 2 * len(data):
        raise InputError(f"{name}: is damaged (its tags declare {values} bytes of values)")


def _check_page(page: Any, data: bytes, name: str) -> None:
    """Raise InputError for a page that is not whole, of other colours, or compressed in a way not read."""
    shape = (page.imagewidth, page.imagelength, page.imagedepth, page.samplesperpixel)
    if not all(isinstance(side, int) and side > 0 for side in shape) or page.dtype is None:
        raise InputError(f"{name}: holds no samples, or of a type that is not known; it is damaged")
    stored = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    if any(start + count > len(data) for start, count in stored):
        raise InputError(f"{name}: is damaged or cut short (it ends before its last strip)")
    if not stored or not all(count for _, count in stored) or len(stored) < _segments(page, name):
        raise InputError(f"{name}: is damaged or cut short (strips are missing or empty)")
    # An unknown number stands for itself.
    photometric = getattr(page.photometric, "name", f"unknown ({page.photometric})")
    if photometric not in COLOURS:
        raise InputError(f"{name}: is a TIFF in {photometric} colours; convert it to RGB first")
    if page.compression in tifffile.TIFF.IMAGE_COMPRESSIONS:
        for start, count in stored:
            size = picture_size(data[start : start + count])
            if size is None:
                kind = getattr(page.compression, "name", page.compression)
                raise InputError(
                    f"{name}: is compressed as {kind}, which is not read; save it deflated first"
                )
            check_decoded(name, size[0] * size[1], 4 * size[0] * size[1], len(data))


def _decoding(name: str) -> AbstractContextManager[None]:
    """Return `decoding` with tifffile's exception."""
    return decoding(name, "is damaged or cut short", tifffile.TiffFileError)


def _segments(page: Any, name: str) -> int:
    """Return how many strips or tiles a page is made of."""
    if page.is_contiguous:
        return 1
    with _decoding(name):
        return math.prod(page.chunked)


def _read_page(page: Any, name: str) -> Page:
    """Decode a page that was checked."""
    with _decoding(name):
        samples = page.asarray()
        samples = samples.astype(samples.dtype.newbyteorder("="), copy=False)
        tags = {tag.code: tag.value for tag in page.tags}
    if page.axes == "SYX":
        samples = np.moveaxis(samples, 0, -1)
    elif page.axes not in ("YX", "YXS"):
        raise InputError(f"{name}: is a stack of shape {samples.shape} in one page; save it page by page")
    samples, declared = _unpack(page, samples, tags, name)
    profile = tags.get(ICC_PROFILE)
    return Page(
        samples,
        declared,
        _whole(tags.get(ORIENTATION), 1),
        profile if isinstance(profile, bytes) else None,
        _resolution(tags),
        page.photometric.name == "PALETTE",
        _exposure(tags),
    )


def _whole(value: Any, default: int) -> int:
    """Return a tag's whole number, the default if it is none: a damaged tag may hold anything."""
    return int(value) if isinstance(value, int) else default


def _numbers(value: Any) -> list[float]:
    """Return a tag's finite numbers."""
    values = value if isinstance(value, tuple | list | np.ndarray) else (value,)
    numbers = [float(v) for v in values if isinstance(v, int | float | np.number)]
    return [number for number in numbers if math.isfinite(number)]


def _resolution(tags: dict[int, Any]) -> Resolution | None:
    """Return pixels per unit and the unit; None where the tags say nothing that can be written."""
    sides = []
    for code in (X_RESOLUTION, Y_RESOLUTION):
        numbers = _numbers(tags.get(code))
        if len(numbers) != 2 or min(numbers) < 0:
            return None
        sides.append(numbers[0] / (numbers[1] or 1))
    unit = _whole(tags.get(RESOLUTION_UNIT), 2)
    if unit not in UNITS or (*sides, unit) == (1, 1, 1):  # the latter is how nothing is said
        return None
    return sides[0], sides[1], unit


def _unpack(
    page: Any, samples: NDArray[Any], tags: dict[int, Any], name: str
) -> tuple[NDArray[Any], Range | None]:
    """Scale few bits to eight, look palettes up, turn white-is-zero round; return samples and range."""
    kind, bits = page.photometric.name, page.bitspersample
    if kind == "PALETTE":
        with _decoding(name):
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
    """Read the range from BitsPerSample, MaxSampleValue (the bits that hold it) or S-Min/MaxSampleValue."""
    if dtype == np.uint16:
        if bits < 16:
            return of_bits(bits, f"{bits} bits")
        if (top := int(max(_numbers(tags.get(MAX_SAMPLE)), default=0))) > 0:
            needed = max(8, top.bit_length())
            return of_bits(min(needed + needed % 2, 16), f"MaxSampleValue {top}")
    elif dtype != np.uint8:
        smallest, largest = _numbers(tags.get(SMALLEST)), _numbers(tags.get(LARGEST))
        if smallest and largest and is_span(min(smallest), max(largest)):
            return Range((min(smallest), max(largest)), "SMin- and SMaxSampleValue")
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
    """Encode a TIFF file, deflated; tags give the range if the depth does not."""
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


def _exposure(tags: dict[int, Any]) -> float | None:
    """Return the light of an exposure from a page's EXIF tags, or from the page's own, as DNG has them."""
    of_exif = tags.get(EXIF_IFD)
    if not isinstance(of_exif, dict):
        return exposure_of(tags)
    names = {"ExposureTime": EXPOSURE_TIME, "FNumber": F_NUMBER, "ISOSpeedRatings": SENSITIVITY}
    names |= {"PhotographicSensitivity": SENSITIVITY}
    return exposure_of({names[name]: value for name, value in of_exif.items() if name in names})
