"""PNG, JPEG, BMP and WebP: bytes to samples and back, with colour profile, alpha, 16 bits and orientation."""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage
from PIL import ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import putchunk

from ddfm.errors import InputError
from ddfm.pictures.ranges import Range, of_bits

READABLE = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
PNG_HEADER = 33  # bytes of signature and IHDR; a colour profile comes right behind them


@dataclass(frozen=True)
class Picture:
    """A decoded file: samples upright, uint8 or uint16, (H, W) or (H, W, C), and what it says of them."""

    samples: NDArray[Any]
    declared: Range | None
    icc_profile: bytes | None


def read(data: bytes, name: str) -> Picture:
    """Decode a file. Raises InputError, naming it, for what is damaged, of several frames or CMYK."""
    try:
        with PILImage.open(io.BytesIO(data), formats=READABLE) as file:
            file.load()
            check_mode(file, name)
            profile = file.info.get("icc_profile")
            if not (data.startswith(PNG_MAGIC) and data[24] == 16):
                return Picture(unfold(file), None, profile)
            # Pillow cuts 16-bit colour down to 8; libpng through imagecodecs keeps it.
            samples = imagecodecs.png_decode(data)
            upright = orient(samples, file.getexif().get(0x0112, 1))
            return Picture(upright, _significant_bits(data, samples), profile)
    except InputError:
        raise
    except UnidentifiedImageError as error:
        if data[128:132] == b"DICM" or name.endswith((".nii", ".nii.gz")):
            raise InputError(f"{name}: is a volume; one picture is needed here") from error
        raise InputError(f"{name}: is not a PNG, JPEG, TIFF, BMP or WebP image") from error
    except PILImage.DecompressionBombError as error:
        raise InputError(f"{name}: is too large ({error})") from error
    except (OSError, SyntaxError, ValueError, imagecodecs.PngError) as error:
        raise InputError(f"{name}: is damaged or cut short ({error})") from error


def unfold(image: PILImage.Image) -> NDArray[Any]:
    """Samples of a PIL image, upright, (H, W) or (H, W, C)."""
    return np.asarray(_plain_mode(ImageOps.exif_transpose(image)))


def check_mode(image: PILImage.Image, name: str) -> None:
    """Raises InputError for several frames, and for colours that are not RGB."""
    if (frames := getattr(image, "n_frames", 1)) > 1:
        raise InputError(f"{name}: has {frames} frames; save the one to fuse as a file of its own")
    if image.mode in ("CMYK", "LAB", "HSV"):
        raise InputError(f"{name}: is in {image.mode} colours; convert it to RGB first")


def _plain_mode(image: PILImage.Image) -> PILImage.Image:
    """Palettes, bitmaps and colour keys unfolded to L, LA, RGB or RGBA."""
    if image.mode in ("L", "LA", "RGB", "RGBA"):
        keyed = "transparency" in image.info
        return image.convert({"L": "LA", "RGB": "RGBA"}.get(image.mode, image.mode)) if keyed else image
    if image.mode in ("F", "I;16", "I;16B", "I;16L"):
        return image
    if image.mode == "1":
        return image.convert("L")
    return image.convert("RGBA" if "transparency" in image.info or image.mode in ("PA", "RGBa") else "RGB")


def _significant_bits(data: bytes, samples: NDArray[Any]) -> Range | None:
    """What the sBIT chunk of a 16-bit PNG says of its range.

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
    """A PNG, JPEG, BMP or WebP file of samples (H, W) or (H, W, C): uint8, or uint16 for PNG."""
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
