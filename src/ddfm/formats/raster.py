"""PNG, JPEG, BMP and WebP: bytes to samples and back, with colour profile, alpha, 16 bits and orientation."""

from __future__ import annotations

import io
import zlib
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from threading import Lock
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage
from PIL import ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import putchunk

from ddfm.errors import InputError
from ddfm.formats import heic
from ddfm.formats.exif import EXIF_IFD, exposure_of
from ddfm.formats.files import DAMAGE, decoding
from ddfm.formats.headers import webp_size
from ddfm.formats.limits import check_decoded
from ddfm.pictures.ranges import Range, of_bits

READABLE = ("PNG", "JPEG", "BMP", "WEBP")  # of Pillow's formats; TIFF is read by `tiff`
FLOAT_LEVELS = 2**24  # that float32 tells apart
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_pillow = Lock()  # around its global limit
PNG_HEADER = 33  # bytes of signature and IHDR; a colour profile comes right behind them


@dataclass(frozen=True)
class DecodedPicture:
    """A decoded file: samples upright, uint8 or uint16, (H, W) or (H, W, C), and what it says of them.

    Attributes:
        exposure: see `ddfm.formats.exif.exposure_of`.
    """

    samples: NDArray[Any]
    declared: Range | None
    icc_profile: bytes | None
    exposure: float | None = None


def read(data: bytes, name: str, formats: Sequence[str] = READABLE) -> DecodedPicture:
    """Decode a file of one of Pillow's formats named; no other decoder, and no helper program, is started.

    Raises InputError, naming the file, for what is too large, damaged, of several frames or CMYK.
    """
    with closing(opened(data, name, formats)) as file:
        pixels = file.width * file.height
        deep = data.startswith(PNG_MAGIC) and data[24:25] == b"\x10"
        samples = 2 * len(file.getbands()) if deep else len(file.getbands())
        check_decoded(name, pixels, pixels * samples, len(data))
        with decoding(name):
            file.load()
        check_mode(file, name)
        profile = file.info.get("icc_profile")
        if not deep:
            return DecodedPicture(_unfolded(file, name), None, profile, _exposure(file))
        # Pillow cuts 16-bit colour down to 8; libpng through imagecodecs keeps it.
        with decoding(name):
            decoded = imagecodecs.png_decode(data)
            upright = orient(decoded, file.getexif().get(0x0112, 1))
        return DecodedPicture(upright, _significant_bits(data, decoded), profile, _exposure(file))


def of_heic(data: bytes, name: str) -> DecodedPicture:
    """Decode a HEIC file. Raises InputError as `read` does, or without pillow-heif."""
    with closing(heic.opened(data, name)) as file:
        check_mode(file, name)
        return DecodedPicture(_unfolded(file, name), None, file.info.get("icc_profile"), _exposure(file))


def _exposure(file: PILImage.Image) -> float | None:
    """Return the light of an exposure as EXIF has it; None if it is unknown, or EXIF is damaged."""
    try:
        return exposure_of(file.getexif().get_ifd(EXIF_IFD))
    except DAMAGE:
        return None


def opened(data: bytes, name: str, formats: Sequence[str]) -> PILImage.Image:
    """Return a picture with its header read, of Pillow's formats named.

    Raises InputError if it is of none, or too large. The caller decodes within `decoding`, and closes.
    """
    if size := webp_size(data):  # Pillow makes room for it on opening
        check_decoded(name, size[0] * size[1], 4 * size[0] * size[1], len(data))
    # Pillow's own limit is a global of its own, which may be lower, and which a program may have set.
    with _pillow, decoding(name):
        limit, PILImage.MAX_IMAGE_PIXELS = PILImage.MAX_IMAGE_PIXELS, None
        try:
            file = PILImage.open(io.BytesIO(data), formats=tuple(formats))
        except UnidentifiedImageError as error:
            if data[128:132] == b"DICM" or name.endswith((".nii", ".nii.gz")):
                raise InputError(f"{name}: is a volume; one picture is needed here") from error
            kinds = (
                "PNG, JPEG, TIFF, BMP or WebP"
                if "PPM" not in formats
                else "PNG, JPEG, TIFF, BMP, WebP or PPM"
            )
            raise InputError(f"{name}: is not a {kinds} image") from error
        finally:
            PILImage.MAX_IMAGE_PIXELS = limit
    pixels = file.width * file.height
    check_decoded(name, pixels, pixels * len(file.getbands()), len(data))
    return file


def format_and_orientation(data: bytes, name: str) -> tuple[str, int]:
    """Return the format's name and EXIF's orientation, 1 to 8. Raises InputError."""
    with closing(opened(data, name, READABLE)) as file, decoding(name):
        kind = "JPEG" if file.format == "MPO" else file.format or "picture"
        return kind, int(file.getexif().get(0x0112, 1))


def _unfolded(image: PILImage.Image, name: str) -> NDArray[Any]:
    """Return `unfold`; InputError where Pillow cannot."""
    with decoding(name):
        return unfold(image)


def unfold(image: PILImage.Image) -> NDArray[Any]:
    """Return the samples of a PIL image, upright, (H, W) or (H, W, C)."""
    samples = np.asarray(_plain_mode(ImageOps.exif_transpose(image)))
    return _narrowed(samples) if image.mode == "I" else samples


def _narrowed(samples: NDArray[np.int32]) -> NDArray[Any]:
    """Return integers of 32 bits, as Pillow has those of 16, in the 16 bits or the floats that hold them."""
    low, high = int(samples.min(initial=0)), int(samples.max(initial=0))
    for depth in (np.uint16, np.int16):
        if np.iinfo(depth).min <= low and high <= np.iinfo(depth).max:
            return samples.astype(depth)
    if high - low > FLOAT_LEVELS:
        raise InputError("integers span more than 2^24 levels, too many for fusion; rescale them first")
    return samples.astype(np.float64)


def check_mode(image: PILImage.Image, name: str) -> None:
    """Raise InputError for several frames, and for colours that are not RGB."""
    # What follows the first frame of an MPO, as drones and telephones write it, are previews of it.
    if image.format != "MPO" and (frames := getattr(image, "n_frames", 1)) > 1:
        raise InputError(f"{name}: has {frames} frames; save the one to fuse as a file of its own")
    if image.mode in ("CMYK", "LAB", "HSV"):
        raise InputError(f"{name}: is in {image.mode} colours; convert it to RGB first")


def _plain_mode(image: PILImage.Image) -> PILImage.Image:
    """Unfold palettes, bitmaps and colour keys to L, LA, RGB or RGBA."""
    if image.mode in ("L", "LA", "RGB", "RGBA"):
        keyed = "transparency" in image.info
        return image.convert({"L": "LA", "RGB": "RGBA"}.get(image.mode, image.mode)) if keyed else image
    if image.mode in ("F", "I", "I;16", "I;16B", "I;16L"):
        return image
    if image.mode == "1":
        return image.convert("L")
    return image.convert("RGBA" if "transparency" in image.info or image.mode in ("PA", "RGBa") else "RGB")


def _significant_bits(data: bytes, samples: NDArray[Any]) -> Range | None:
    """Read the range of a 16-bit PNG from its sBIT chunk.

    The standard has samples of fewer bits scaled up to 16; then the range is all of them. Some writers
    leave them as they are, which shows in low bits that scaling up would not have set.
    """
    chunk, place = b"", len(PNG_MAGIC)
    while chunk not in (b"IDAT", b"IEND", b"sBIT") and place + 8 <= len(data):
        length, chunk = int.from_bytes(data[place : place + 4]), data[place + 4 : place + 8]
        content = data[place + 8 : place + 8 + length]
        place += length + 12
    if chunk != b"sBIT" or not content:
        return None
    bits = max(content[: min(len(content), 3)])
    if not 8 <= bits < 16:
        return None
    unscaled = samples.max() < 2**bits and bool((samples & (2 ** (16 - bits) - 1)).any())
    return (
        of_bits(bits, f"sBIT {bits}, not scaled up") if unscaled else of_bits(16, f"16 bits, of sBIT {bits}")
    )


def orient(samples: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Undo EXIF orientation 1..8: mirror, then quarter turns."""
    if orientation in (2, 4, 5, 7):
        samples = samples[:, ::-1]
    turns = {3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}.get(orientation, 0)
    return np.rot90(samples, turns)


def encode(samples: NDArray[Any], kind: str, icc_profile: bytes | None) -> bytes:
    """Encode samples (H, W) or (H, W, C) as PNG, JPEG, BMP or WebP: uint8, or uint16 for PNG."""
    buffer = io.BytesIO()
    if samples.dtype == np.uint16:
        png = imagecodecs.png_encode(samples)
        buffer.write(png[:PNG_HEADER])
        if icc_profile is not None:
            putchunk(buffer, b"iCCP", b"ICC\0\0", zlib.compress(icc_profile))
        buffer.write(png[PNG_HEADER:])
    else:
        options: dict[str, dict[str, Any]] = {
            # Pictures repeat little but runs, so that not looking for more takes a sixth of the time.
            "PNG": {"compress_type": zlib.Z_RLE},
            "JPEG": {"quality": 95, "subsampling": 0},
            "WebP": {"lossless": True, "exact": True},
        }
        profile = {} if icc_profile is None or kind == "BMP" else {"icc_profile": icc_profile}
        PILImage.fromarray(samples).save(buffer, format=kind, **options.get(kind, {}), **profile)
    return buffer.getvalue()
