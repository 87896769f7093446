"""From a thermal camera's counts to degrees Celsius and back.

A camera's counts follow Planck's law with constants of its own: of a black body at T Kelvin it counts

    U(T) = R1 / (R2 (exp(B / T) - F)) - O.

What reaches it is the object's radiation, and what the object reflects, the air and a window add:

    U = t1 w t2 (e U(object) + (1 - e) U(reflected)) + ... (see `_surroundings`)

Source: FLIR's formula as published by Minkina and Dudzik, Infrared Thermography (2009), with two
stretches of air, before and behind a window, as in Tattersall's Thermimage (doi:10.5281/zenodo.1069704).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import exp, isfinite, sqrt

import numpy as np
from numpy.typing import NDArray

from ddfm.errors import InputError

ZERO_CELSIUS = 273.15  # Kelvin
LEAST_EMISSIVITY = 0.01
FARTHEST = 100_000.0  # metres


@dataclass(frozen=True)
class Calibration:
    """Hold a camera's constants, and those of the air's transmission.

    Attributes:
        r1, b, f, o, r2: of Planck's law, b in Kelvin.
        alpha1, alpha2, beta1, beta2, x: of the air, for a root of metres.
    """

    r1: float
    b: float
    f: float
    o: float
    r2: float
    alpha1: float = 0.006569
    alpha2: float = 0.012620
    beta1: float = -0.002276
    beta2: float = -0.006670
    x: float = 1.9


@dataclass(frozen=True)
class Conditions:
    """Hold what a temperature depends on besides the counts.

    Attributes:
        emissivity: of the object, above 0 to 1.
        distance: to the object, in metres.
        reflected: apparent temperature of what the object reflects, in degrees Celsius.
        air: its temperature, in degrees Celsius.
        window: temperature of a window before the lens, in degrees Celsius.
        transmission: of that window, above 0 to 1; 1 for none.
        humidity: relative, 0 to 1.
    """

    emissivity: float = 0.95
    distance: float = 1.0
    reflected: float = 20.0
    air: float = 20.0
    window: float = 20.0
    transmission: float = 1.0
    humidity: float = 0.5

    def check(self, name: str) -> None:
        """Raise InputError, naming the file, for what no measurement can have been made under."""
        limits = {
            "emissivity": (LEAST_EMISSIVITY, 1.0),
            "distance": (0.0, FARTHEST),
            "transmission": (LEAST_EMISSIVITY, 1.0),
            "humidity": (0.0, 1.0),
        }
        for field in fields(self):
            low, high = limits.get(field.name, (-ZERO_CELSIUS, 5000.0))
            value = getattr(self, field.name)
            if not low <= value <= high:
                raise InputError(f"{name}: {field.name} {value:g} is not within {low:g} to {high:g}")


def celsius(
    counts: NDArray[np.uint16], calibration: Calibration, conditions: Conditions
) -> NDArray[np.float32]:
    """Return temperatures in degrees Celsius, of any shape; NaN where the calibration has none.

    Colder than about -60 degrees, as a clear sky, counts may fall below those of any temperature.
    """
    path, added = _surroundings(calibration, conditions)
    c = calibration
    with np.errstate(all="ignore"):
        of_object = counts.astype(np.float64) / path - added
        kelvin = c.b / np.log(c.r1 / (c.r2 * (of_object + c.o)) + c.f)
        kelvin[~(np.isfinite(kelvin) & (kelvin > 0) & (of_object + c.o > 0))] = np.nan
    return (kelvin - ZERO_CELSIUS).astype(np.float32)


def counts_of(
    temperatures: NDArray[np.floating], calibration: Calibration, conditions: Conditions
) -> NDArray[np.float64]:
    """Return the counts, not rounded, that a camera has of those temperatures: the inverse of `celsius`."""
    path, added = _surroundings(calibration, conditions)
    c = calibration
    kelvin = temperatures.astype(np.float64) + ZERO_CELSIUS
    return (c.r1 / (c.r2 * (np.exp(c.b / kelvin) - c.f)) - c.o + added) * path


def _surroundings(c: Calibration, at: Conditions) -> tuple[float, float]:
    """Return the share of the object's radiation that arrives, and what others add to it, by that share.

    Raises InputError if the constants are none of a camera.
    """
    if not all(isfinite(value) for of in (c, at) for value in vars(of).values()) or not c.r2 or c.b <= 0:
        raise InputError("the calibration's constants are none of a camera")
    try:
        t = at.air
        water = at.humidity * exp(1.5587 + 0.06939 * t - 0.00027816 * t**2 + 0.00000068455 * t**3)
        root = sqrt(at.distance / 2)  # half of the way lies before the window, half behind it
        tau = c.x * exp(-root * (c.alpha1 + c.beta1 * sqrt(water)))
        tau += (1 - c.x) * exp(-root * (c.alpha2 + c.beta2 * sqrt(water)))

        def black_body(temperature: float) -> float:
            return c.r1 / (c.r2 * (exp(c.b / (temperature + ZERO_CELSIUS)) - c.f)) - c.o

        e, w = at.emissivity, at.transmission
        added = (
            (1 - e) / e * black_body(at.reflected)
            + (1 - tau) / (e * tau) * black_body(at.air)
            + (1 - w) / (e * tau * w) * black_body(at.window)
            + (1 - tau) / (e * tau * w * tau) * black_body(at.air)
        )
        path = e * tau * w * tau
    except (ArithmeticError, ValueError) as error:
        raise InputError(f"the calibration's constants are none of a camera ({error})") from error
    if not (0 < tau <= 1.001 and path > 0 and isfinite(added)):
        raise InputError("the calibration's constants are none of a camera")
    return path, added
