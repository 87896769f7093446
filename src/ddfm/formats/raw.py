"""Camera RAW: bytes to linear samples of 16 bits, through LibRaw (``pip install 'ddfm[raw]'``).

Samples are proportional to light: demosaiced, in the camera's white balance and sRGB's primaries, without a
curve and without brightening. They are upright, and carry a linear colour profile, so that viewers show them
as they are.
"""

from __future__ import annotations

import io
import struct
from contextlib import closing
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ddfm.errors import InputError
from ddfm.formats.exif import exposure
from ddfm.formats.files import decoding
from ddfm.formats.limits import check_decoded

SUFFIXES = (
    ".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".raf", ".orf", ".rw2", ".pef",
    ".srw", ".3fr", ".iiq", ".erf", ".kdc", ".mef", ".mos", ".rwl",
)  # fmt: skip
BYTES = 2 + 8 + 6  # a pixel: the mosaic, LibRaw's four planes of 16 bits, the picture


class Raw(NamedTuple):
    """Hold a developed RAW file: uint16 (H, W, 3), linear, and the light that it was given, if known."""

    samples: NDArray[Any]
    exposure: float | None


def read(data: bytes, name: str) -> Raw:
    """Develop a RAW file. Raises InputError for what is damaged, unknown or too large, or without rawpy."""
    try:
        import rawpy
    except ImportError as missing:
        raise InputError(f"{name}: camera RAW needs rawpy: pip install 'ddfm[raw]'") from missing
    damage = "is no camera RAW that LibRaw reads, damaged or cut short"
    with decoding(name, damage, rawpy.LibRawError):
        file = rawpy.imread(io.BytesIO(data))
    with closing(file):
        with decoding(name, damage, rawpy.LibRawError):
            sizes, other = file.sizes, file.other
        pixels = max(sizes.raw_height * sizes.raw_width, sizes.iheight * sizes.iwidth)
        check_decoded(name, pixels, BYTES * pixels, len(data))
        with decoding(name, damage, rawpy.LibRawError):
            samples = file.postprocess(gamma=(1, 1), no_auto_bright=True, use_camera_wb=True, output_bps=16)
    return Raw(np.ascontiguousarray(samples), exposure(other.shutter_speed, other.aperture, other.iso_speed))


# sRGB's primaries and white, adapted to D50, as XYZ (ICC.1:2001-04, IEC 61966-2-1).
PRIMARIES = {
    b"rXYZ": (0.4360, 0.2225, 0.0139),
    b"gXYZ": (0.3851, 0.7169, 0.0971),
    b"bXYZ": (0.1431, 0.0606, 0.7141),
    b"wtpt": (0.9642, 1.0, 0.8249),
}
TITLE = b"sRGB, linear"


def linear_profile() -> bytes:
    """Return an ICC profile, version 2.1, of linear light with sRGB's primaries."""
    tags = {key: b"XYZ \0\0\0\0" + _fixed(*xyz) for key, xyz in PRIMARIES.items()}
    straight = b"curv\0\0\0\0" + struct.pack(">IH", 1, 256) + b"\0\0"  # a gamma of 1
    tags |= {b"rTRC": straight, b"gTRC": straight, b"bTRC": straight}
    tags[b"desc"] = b"desc\0\0\0\0" + struct.pack(">I", len(TITLE) + 1) + TITLE + bytes(1 + 8 + 3 + 67)
    tags[b"cprt"] = b"text\0\0\0\0No copyright, use freely\0"
    place = 128 + 4 + 12 * len(tags)
    table, content = struct.pack(">I", len(tags)), b""
    for key, value in tags.items():
        table += key + struct.pack(">II", place + len(content), len(value))
        content += value + bytes(-len(value) % 4)
    header = struct.pack(">I4sI", place + len(content), b"\0\0\0\0", 0x02100000) + b"mntrRGB XYZ "
    header += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + _fixed(*PRIMARIES[b"wtpt"])
    return header.ljust(128, b"\0") + table + content


def _fixed(*values: float) -> bytes:
    """Return numbers as ICC's s15Fixed16."""
    return struct.pack(f">{len(values)}i", *(round(value * 2**16) for value in values))
