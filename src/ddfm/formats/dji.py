"""DJI's R-JPEG: the counts that its APP3 segments hold, and temperatures by the library that knows them.

How counts become temperatures is DJI's own: tables that its SDK keeps, another way for each camera. The
library `dji-thermal-cli` (Python 3.12, AGPL) has it; without it the counts are read, which rise with
temperature.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddfm.errors import InputError
from ddfm.formats.files import decoding
from ddfm.formats.headers import jpeg_size
from ddfm.formats.jpeg import APP1, APP3, EXIF, MAKE, MODEL, exif_texts
from ddfm.formats.limits import check_decoded
from ddfm.pictures.radiometry import Conditions

SIZES = ((640, 512), (1280, 1024), (640, 480), (336, 256), (160, 120))  # of DJI's sensors
LEAST_BYTES = 2 * 160 * 120


@dataclass(frozen=True)
class DjiFile:
    """Hold what a file says.

    Attributes:
        counts: of the sensor, uint16 (H, W).
        camera: the model's name.
        temperatures: degrees Celsius, float32 (H, W); None if ``reason`` says why not.
        conditions: that the temperatures hold for; None without them.
        reason: why there are no temperatures.
    """

    counts: NDArray[np.uint16]
    camera: str
    temperatures: NDArray[np.float32] | None
    conditions: Conditions | None
    reason: str


def is_dji(parts: Iterable[tuple[int, bytes]]) -> bool:
    """Tell whether a JPEG's segments are those of an R-JPEG."""
    parts = list(parts)
    return _texts(parts).get(MAKE) == "DJI" and len(_joined(parts)) >= LEAST_BYTES


def read(data: bytes, parts: Iterable[tuple[int, bytes]], name: str, changed: dict[str, float]) -> DjiFile:
    """Read an R-JPEG.

    Args:
        data: the whole file.
        parts: its segments.
        name: for messages.
        changed: emissivity, distance or reflected of `Conditions` that are to hold instead of the file's.

    Raises:
        InputError: the counts are cut short, or the library refuses them.
    """
    parts = list(parts)
    camera, stored = _texts(parts).get(MODEL, "DJI"), _joined(parts)
    sizes = [size for size in (jpeg_size(data), *SIZES) if size and 2 * math.prod(size) == len(stored)]
    if not sizes:
        raise InputError(f"{name}: DJI's sensor data has {len(stored)} bytes, which fits no known sensor")
    (width, height) = sizes[0]
    check_decoded(name, width * height, len(stored), len(data))
    counts = np.frombuffer(stored, "<u2").reshape(height, width)
    try:
        from dji_thermal_cli import tsdk
    except ImportError:
        reason = (
            f"the way from counts to temperatures of DJI's {camera} is the vendor's own; with Python 3.12 "
            "pip install 'ddfm[dji]' brings a library that has it"
        )
        return DjiFile(counts, camera, None, None, reason)
    with decoding(name, f"DJI's data of camera {camera} cannot be read", tsdk.TsdkError):
        opened = tsdk.open(data)
        found = opened.get_measurement_params()
        found.emissivity = changed.get("emissivity", found.emissivity)
        found.distance = changed.get("distance", found.distance)
        found.reflection = changed.get("reflected", found.reflection)
        opened.set_measurement_params(found)
        temperatures = np.asarray(opened.measure_temperature_c(), np.float32)
    conditions = Conditions(
        float(found.emissivity),
        float(found.distance),
        float(found.reflection),
        air=float(found.ambient_temp),
        humidity=float(found.humidity) / 100,
    )
    return DjiFile(counts, camera, temperatures, conditions, "")


def _joined(parts: Iterable[tuple[int, bytes]]) -> bytes:
    return b"".join(contents for marker, contents in parts if marker == APP3)


def _texts(parts: Iterable[tuple[int, bytes]]) -> dict[int, str]:
    return next((exif_texts(c) for marker, c in parts if marker == APP1 and c.startswith(EXIF)), {})
