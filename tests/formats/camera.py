"""Camera files as the tests make them: a DNG of drawn light, a HEIC, EXIF."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image as PILImage

BLACK, WHITE = 512, 4095
WHITE_BALANCE = (2.0, 1.0, 1.5)  # gains of red, green and blue
# XYZ (D65) to linear sRGB in parts per million: a camera that has sRGB's primaries.
XYZ_TO_SRGB = (3240454, -1537139, -498531, -969266, 1876011, 41556, 55643, -204026, 1057225)


def mosaic(light: NDArray[np.floating[Any]]) -> NDArray[np.uint16]:
    """What a sensor (RGGB) makes of linear RGB (H, W, 3) in [0, 1], before its white balance."""
    counts = light / np.array(WHITE_BALANCE)
    grid = counts[..., 1].copy()
    grid[::2, ::2], grid[1::2, 1::2] = counts[::2, ::2, 0], counts[1::2, 1::2, 2]
    return np.rint(BLACK + (WHITE - BLACK) * grid.clip(0, 1)).astype(np.uint16)


def dng(light: NDArray[np.floating[Any]], time: tuple[int, int] = (1, 60), orientation: int = 1) -> bytes:
    """A minimal DNG of linear RGB (H, W, 3) in [0, 1], even sides."""
    neutral = tuple(part for gain in WHITE_BALANCE for part in (1000, round(1000 * gain)))
    matrix = tuple(part for value in XYZ_TO_SRGB for part in (value, 10**6))
    tags = [
        (274, "H", 1, orientation, True),
        (33421, "H", 2, (2, 2), False),  # the pattern's size, and the pattern: red, green, green, blue
        (33422, "B", 4, bytes([0, 1, 1, 2]), False),
        (33434, "2I", 1, time, False),
        (50706, "B", 4, bytes([1, 4, 0, 0]), False),
        (50707, "B", 4, bytes([1, 1, 0, 0]), False),
        (50708, "s", 0, "Drawn Camera", False),
        (50714, "H", 1, BLACK, False),
        (50717, "H", 1, WHITE, False),
        (50721, "2i", 9, matrix, False),
        (50728, "2I", 3, neutral, False),
        (50778, "H", 1, 21, False),  # daylight, D65
    ]
    data = io.BytesIO()
    tifffile.imwrite(data, mosaic(light), photometric=32803, extratags=tags, metadata=None, software=False)
    return data.getvalue()


def heic(picture: NDArray[np.uint8], exif: PILImage.Exif | None = None) -> bytes:
    """A HEIC of a picture (H, W, 3)."""
    import pillow_heif

    file = pillow_heif.from_pillow(PILImage.fromarray(picture))
    data = io.BytesIO()
    file.save(data, quality=95, exif=exif.tobytes() if exif else None)
    return data.getvalue()


def exif(time: float, f_number: float = 4.0, iso: int = 100, orientation: int = 1) -> PILImage.Exif:
    """EXIF with an exposure, as cameras write it."""
    made = PILImage.Exif()
    made[0x0112] = orientation
    made.get_ifd(0x8769).update({33434: time, 33437: f_number, 34855: iso})
    return made


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path
