"""What a sensor read, in numbers: smallest, mean and largest temperature, and where they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ddfm.formats.radiometric import Thermogram


@dataclass(frozen=True)
class Statistics:
    """Hold the temperatures of all the sensor's pixels in a few numbers, in degrees Celsius.

    Attributes:
        minimum, mean, maximum: of all pixels that have a reading; fusion has no part in them.
        coldest, hottest: (x, y) of those pixels.
    """

    minimum: float
    mean: float
    maximum: float
    coldest: tuple[int, int]
    hottest: tuple[int, int]


def statistics(thermogram: Thermogram) -> Statistics:
    """Return a thermogram's temperatures in a few numbers. Raises InputError if it has none."""
    thermogram.check_calibrated()
    readings = thermogram.readings
    places = []
    for index in (np.nanargmin(readings), np.nanargmax(readings)):
        row, column = divmod(int(index), readings.shape[1])
        places.append((column, row))
    return Statistics(
        float(np.nanmin(readings)),
        float(np.nanmean(readings, dtype=np.float64)),
        float(np.nanmax(readings)),
        *places,
    )
