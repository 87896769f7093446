"""Which stored values black and white stand for: nothing is stretched or clipped unless it is asked for.

The fusion sees pixels in [0, 1]; a file has counts, Kelvin or Hounsfield units. The two are joined by

    value = low + pixel * (high - low)

with the range (low, high) chosen here. It is undone when the picture is written. So a choice of range
changes how the fusion weighs the sources, never the units of what comes out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ddfm.errors import InputError

ROWS = 64  # converted at once: as many of a photograph's as fit in a processor's cache
LEAST_SPAN = (
    2**-20
)  # of a range by its larger end: in 32 bits fewer than eight values lie within a smaller one
SENSOR_BITS = (8, 10, 12, 14, 16)

ValueRange = tuple[float, float]


@dataclass(frozen=True)
class Range:
    """A range, and why it is this one, in words (``info`` shows them)."""

    limits: ValueRange
    reason: str


RangeChoice = ValueRange | Range | Literal["data"] | None
"""What a caller may ask for: None for what the file says, "data" for its smallest and largest sample,
or the two values that become 0 and 1."""


def full_range(depth: np.dtype[Any]) -> ValueRange:
    """Return all that an unsigned depth can hold; 0 to 1 for floats and for signed samples."""
    return (0.0, float(np.iinfo(depth).max)) if np.issubdtype(depth, np.unsignedinteger) else (0.0, 1.0)


def of_bits(bits: int, reason: str) -> Range:
    """Return the range of so many bits."""
    return Range((0.0, float(2**bits - 1)), reason)


def choose_range(
    samples: NDArray[Any], wanted: RangeChoice = None, declared: Range | None = None, name: str = "image"
) -> Range:
    """Choose the range of a picture, or of all slices of a volume at once.

    What is asked for comes first, then what the file declares. Otherwise

    - uint8: 0 to 255;
    - uint16: as many bits as the largest sample needs, of 8, 10, 12, 14 and 16, because cameras store
      10 to 14 bits in 16 and most files do not say so. This is a guess, and `Range.reason` says so;
    - floats within [0, 1]: 0 to 1;
    - other floats, and signed integers: the smallest to the largest sample.

    A declared range that does not hold the samples is passed over (such tags are often stale).

    Args:
        samples: finite, any shape.

    Raises:
        InputError: the range asked for is none, or floats are too large for 32 bits.
    """
    smallest, largest = float(samples.min()), float(samples.max())
    if max(abs(smallest), abs(largest)) > float(np.finfo(np.float32).max):
        raise InputError(f"{name}: samples reach {largest:g}, beyond 32-bit floats; rescale them first")
    own = spanning(smallest, largest)
    if wanted == "data":
        return Range(own, "smallest to largest sample, as asked")
    if isinstance(wanted, Range):
        return Range(check_range(wanted.limits), wanted.reason)
    if wanted is not None:
        return Range(check_range(wanted), "as asked")
    if declared is not None and declared.limits[0] <= smallest and largest <= declared.limits[1]:
        return declared
    if samples.dtype == np.uint16:
        bits = next((n for n in SENSOR_BITS if 0 < largest < 2**n), 16)
        return of_bits(
            bits, "16 bits" if bits == 16 else f"largest sample {largest:g}: taken for {bits} bits"
        )
    if np.issubdtype(samples.dtype, np.unsignedinteger):
        return Range(full_range(samples.dtype), f"{8 * samples.dtype.itemsize} bits")
    if np.issubdtype(samples.dtype, np.floating) and smallest >= 0 and largest <= 1:
        return Range((0.0, 1.0), "floats within 0 to 1")
    return Range(own, "smallest to largest sample")


def spanning(smallest: float, largest: float) -> ValueRange:
    """Return the range from the smallest to the largest sample; of a constant, one in which it is black."""
    if is_span(smallest, largest):
        return smallest, largest
    # One more, or as much more as makes a difference to a large number.
    return smallest, smallest + max(1.0, abs(smallest) * LEAST_SPAN)


def is_span(low: float, high: float) -> bool:
    """Tell whether values can be scaled from one number to the other: finite, ascending, not too near."""
    return (
        bool(np.isfinite([low, high, high - low]).all()) and high - low > LEAST_SPAN * max(-low, high, 0) / 2
    )


def check_range(wanted: Any) -> ValueRange:
    """Return two finite numbers, the lower one first; anything else is an InputError."""
    try:
        low, high = (float(limit) for limit in wanted)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"range {wanted!r}: not data or two numbers, as in 7000,8500") from None
    if not is_span(low, high):
        raise InputError(f"range {low:g} to {high:g}: two numbers are needed, the lower one first")
    return low, high


def row_chunks(height: int) -> Iterator[slice]:
    """Yield some rows at a time, so that float64 copies of large pictures are never whole."""
    return (slice(start, start + ROWS) for start in range(0, height, ROWS))


def to_pixels(samples: NDArray[Any], limits: ValueRange) -> tuple[NDArray[np.float32], int]:
    """Return samples as float32 in [0, 1], and how many were clipped to the limits."""
    low, high = limits
    pixels, outside = np.empty(samples.shape, np.float32), 0
    for rows in row_chunks(len(samples)):
        scaled = (samples[rows].astype(np.float64) - low) / (high - low)
        outside += int(((scaled < 0) | (scaled > 1)).sum())
        pixels[rows] = scaled.clip(0, 1)
    return pixels, outside


def to_values(pixels: NDArray[np.float32], limits: ValueRange) -> NDArray[np.float64]:
    """Invert `to_pixels`, but for rounding: to 2^-24 of the range."""
    low, high = limits
    return low + pixels.astype(np.float64) * (high - low)


def clipping_remark(outside: int, total: int, limits: ValueRange) -> str:
    """Return the words for samples that were cut off at a range that was asked for."""
    low, high = limits
    return f"{outside} of {total} samples lie outside {low:g} to {high:g} and were set to its ends"
