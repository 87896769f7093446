"""Radiometric JPEG of thermal cameras: temperatures, and the photograph that may lie in the same file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddfm.errors import InputError
from ddfm.formats import dji, flir, jpeg
from ddfm.formats.files import read_whole
from ddfm.pictures.image import Image, from_array
from ddfm.pictures.radiometry import Conditions, celsius
from ddfm.timing import stage

SUFFIXES = (".jpg", ".jpeg")
LEAST_READINGS = 0.5  # share of the pixels that need a temperature

Box = tuple[float, float, float, float]
"""Left, top, right and bottom edge, in pixels."""


@dataclass(frozen=True)
class Overrides:
    """Name conditions that are to hold instead of those that a file has; None for the file's.

    Attributes:
        emissivity: of the object, above 0 to 1.
        distance: to it, in metres.
        reflected: apparent temperature of what it reflects, in degrees Celsius.
    """

    emissivity: float | None = None
    distance: float | None = None
    reflected: float | None = None

    @property
    def given(self) -> dict[str, float]:
        """Return those that are given, by their names in `Conditions`."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class Thermogram:
    """Hold what a thermal camera's file has.

    Attributes:
        name: of the file, for messages.
        maker: FLIR or DJI.
        camera, lens: their names, empty if the file has none.
        readings: float32 (H, W): degrees Celsius, NaN where the calibration has none; counts without one.
        conditions: that the temperatures hold for; None if the readings are counts.
        uncalibrated: why the readings are counts; empty for temperatures.
        rated: temperatures that the camera was set for; None if unknown.
        photograph: what lies in the same file, or None.
        missing: why there is no photograph; empty if there is one.
        box: where the sensor's field lies in the photograph; None if the file does not say.
    """

    name: str
    maker: str
    camera: str
    lens: str
    readings: NDArray[np.float32]
    conditions: Conditions | None
    uncalibrated: str = ""
    rated: tuple[float, float] | None = None
    photograph: Image | None = None
    missing: str = ""
    box: Box | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Return the sensor's height and width."""
        return self.readings.shape[0], self.readings.shape[1]

    def check_calibrated(self) -> None:
        """Raise InputError, which says why, if the readings are no temperatures."""
        if self.uncalibrated:
            raise InputError(f"{self.name}: has no temperatures: {self.uncalibrated}")


def is_radiometric(data: bytes) -> bool:
    """Tell whether a file's bytes are a radiometric JPEG of a kind that is known here."""
    parts = list(jpeg.segments(data))
    return flir.is_flir(parts) or dji.is_dji(parts)


def radiometric_source(paths: Sequence[Path]) -> int | None:
    """Return which of one or two sources is a thermogram; None if none is, or both are."""
    if len(paths) > 2:
        return None
    found = [
        number
        for number, path in enumerate(paths)
        if path.suffix.lower() in SUFFIXES and is_radiometric(read_whole(path))
    ]
    return found[0] if len(found) == 1 else None


def read_thermogram(path: Path | str, overrides: Overrides | None = None) -> Thermogram:
    """Read a radiometric JPEG of FLIR's or DJI's.

    Raises:
        InputError: it is none, is cut short or damaged, or the conditions are none that can be.
    """
    data = read_whole(Path(path))
    if not is_radiometric(data):
        raise InputError(f"{path}: is not a radiometric JPEG of FLIR's or DJI's")
    return thermogram_of(data, str(path), overrides)


@stage("read")
def thermogram_of(data: bytes, name: str, overrides: Overrides | None = None) -> Thermogram:
    """Read the bytes of a radiometric JPEG; InputError as `read_thermogram`."""
    parts = list(jpeg.segments(data))
    given = (overrides or Overrides()).given
    if not flir.is_flir(parts):
        return _of_dji(dji.read(data, parts, name, given), name)
    file = flir.read(parts, name)
    conditions = replace(file.conditions, **given)
    conditions.check(name)
    try:
        readings = celsius(file.counts, file.calibration, conditions)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    _check_readings(readings, name)
    photograph, missing = _photograph(file.photograph, name)
    return Thermogram(
        name,
        "FLIR",
        file.camera,
        file.lens,
        readings,
        conditions,
        rated=file.rated,
        photograph=photograph,
        missing=missing,
        box=None if photograph is None else _box(file, photograph),
    )


def readings_as_picture(data: bytes, name: str) -> NDArray[np.float32]:
    """Return the readings as samples of a picture; the coldest one where there are none.

    Raises InputError as `read_thermogram`.
    """
    readings = thermogram_of(data, name).readings
    return np.where(np.isnan(readings), np.nanmin(readings), readings)


def _of_dji(file: dji.DjiFile, name: str) -> Thermogram:
    readings = file.counts.astype(np.float32) if file.temperatures is None else file.temperatures
    if file.conditions is not None:
        _check_readings(readings, name)
    missing = "DJI's cameras keep the photograph in a file of its own (_V)"
    return Thermogram(
        name, "DJI", file.camera, "", readings, file.conditions, file.reason, None, None, missing
    )


def _check_readings(readings: NDArray[np.float32], name: str) -> None:
    share = float(np.isfinite(readings).mean())
    if share < LEAST_READINGS:
        raise InputError(
            f"{name}: the calibration has temperatures for {share:.0%} of the pixels only; it is damaged, or "
            "the emissivity or the reflected temperature is wrong"
        )


def _photograph(stored: bytes, name: str) -> tuple[Image | None, str]:
    """Return the embedded photograph, or None and why."""
    if not stored:
        return None, "the file holds no photograph"
    try:
        picture = flir.photograph(stored, f"{name}, its photograph")
        if picture is None:
            return None, "the file's photograph is of an unknown kind"
        image = from_array(picture.samples, f"{name}, its photograph", None, picture.declared)
    except InputError as error:
        return None, str(error).removeprefix(f"{name}, ")
    return replace(image, icc_profile=picture.icc_profile), ""


def _box(file: flir.FlirFile, photograph: Image) -> Box | None:
    """Return where the sensor's field lies in the photograph."""
    if file.real_to_ir is None:
        return None
    (height, width), (rows, columns) = photograph.size, file.counts.shape
    across = width / file.real_to_ir
    down = across * rows / columns
    x, y = width / 2 + file.offset[0], height / 2 + file.offset[1]
    return x - across / 2, y - down / 2, x + across / 2, y + down / 2
