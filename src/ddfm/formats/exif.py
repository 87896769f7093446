"""How much light an exposure was given, from what the camera wrote."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

EXIF_IFD, EXPOSURE_TIME, F_NUMBER, SENSITIVITY = 0x8769, 33434, 33437, 34855
PLAIN_SENSITIVITY = 100.0  # ISO, where none is written


def exposure_of(tags: Mapping[int, Any]) -> float | None:
    """Return time (s) x ISO / 100 / f-number^2 from EXIF's tags; None without a time.

    A sensitivity or f-number that is missing counts as 100 and 1: among pictures of one lens that is enough.
    """
    return exposure(tags.get(EXPOSURE_TIME), tags.get(F_NUMBER), tags.get(SENSITIVITY))


def exposure(time: Any, f_number: Any, sensitivity: Any) -> float | None:
    """Return the same from the three values, of which any may be missing, zero or nonsense."""
    seconds, stop, iso = (_positive(value) for value in (time, f_number, sensitivity))
    if seconds is None:
        return None
    return seconds * (iso or PLAIN_SENSITIVITY) / PLAIN_SENSITIVITY / (stop or 1.0) ** 2


def _positive(value: Any) -> float | None:
    """Return a number, or a numerator and denominator, as a float; None for what is not positive."""
    try:
        number = float(value[0]) / float(value[1]) if isinstance(value, tuple) and len(value) == 2 else value
        number = float(number[0] if isinstance(number, tuple) else number)
    except (TypeError, ValueError, ArithmeticError, IndexError):
        return None
    return number if math.isfinite(number) and 0 < number < 2**31 else None
