"""Bring a thermogram and a photograph into one view, and know where each pixel lies on the sensor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil, floor

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage

from ddfm.errors import InputError
from ddfm.formats.radiometric import Box, Thermogram
from ddfm.fusion.options import Options
from ddfm.fusion.sources import match_sizes
from ddfm.pictures.image import MINIMUM_SIDE, Image
from ddfm.pictures.ranges import RangeChoice, ValueRange, choose_range, row_chunks
from ddfm.registration.bring import brought
from ddfm.timing import stage

BLACK = 16 / 255  # of a frame around the photograph, which JPEG leaves not quite black
FRAME_BLUR = 4  # pixels of the photograph beside such a frame that JPEG mixes with it
Floats = NDArray[np.float32]
Report = Callable[[NDArray[np.uint8]], None]


@dataclass(frozen=True)
class Placed:
    """Hold a thermogram and a photograph in one view.

    Attributes:
        thermogram: what the sensor read.
        images: the readings as a picture, and the photograph, of one size.
        at: where each pixel lies on the sensor, (H, W, 2): (x, y) in the sensor's pixels.
        shown: (H, W) bool, which pixels the sensor saw.
        limits: the readings that are black and white, cold and hot.
    """

    thermogram: Thermogram
    images: list[Image]
    at: Floats
    shown: NDArray[np.bool_]
    limits: ValueRange

    @cached_property
    def readings(self) -> Floats:
        """Return the readings of each pixel, (H, W), bilinear between those of the sensor.

        They are NaN where the sensor saw nothing, or has no reading.
        """
        values = self.thermogram.readings
        height, width = values.shape
        result = np.empty(self.at.shape[:2], np.float32)
        for rows in row_chunks(len(result)):
            x = self.at[rows, :, 0].clip(0, width - 1)
            y = self.at[rows, :, 1].clip(0, height - 1)
            left, top = (np.minimum(v.astype(int), most) for v, most in ((x, width - 2), (y, height - 2)))
            across, down = x - left, y - top
            upper = (1 - across) * values[top, left] + across * values[top, left + 1]
            lower = (1 - across) * values[top + 1, left] + across * values[top + 1, left + 1]
            result[rows] = (1 - down) * upper + down * lower
        result[~self.shown] = np.nan
        return result

    def pixel(self, x: float, y: float) -> tuple[int, int] | None:
        """Return column and row of the pixel that a place on the sensor lies in; None if it is not shown."""
        distance = np.hypot(self.at[..., 0] - x, self.at[..., 1] - y)
        distance[~self.shown] = np.inf
        row, column = divmod(int(distance.argmin()), distance.shape[1])
        return (column, row) if distance[row, column] <= 1 else None


def no_report(picture: NDArray[np.uint8]) -> None:
    """Do nothing."""


@stage("place")
def place(
    thermogram: Thermogram,
    photograph: Image | None,
    options: Options,
    wanted: RangeChoice = None,
    report: Report = no_report,
) -> Placed:
    """Bring the readings onto a photograph: by the file's own offsets, then by registration if it is asked.

    Args:
        thermogram: what a file has.
        photograph: one that is given; None for the one in the same file, of which the part is taken that
            the sensor saw.
        options: its ``register`` and ``resize``.
        wanted: readings that are black and white; None for the smallest and largest.
        report: called with a picture to judge the registration by.

    Raises:
        InputError: there is no photograph, the file does not say where it lies, the sizes differ, or the
            registration is doubtful.
    """
    limits = choose_range(_finite(thermogram), wanted, None, thermogram.name).limits
    own = photograph is None
    if photograph is None:
        photograph, box = _own_part(thermogram)
        readings = _on_part(_picture(thermogram, photograph, limits), photograph.size, box)
    else:
        box = (0.0, 0.0, float(thermogram.size[1]), float(thermogram.size[0]))
        readings = _picture(thermogram, photograph, limits)
    at = _grid(photograph.size, box)
    shown = np.ones(photograph.size, bool)
    if options.register is not None:
        readings, registration = brought(readings, photograph, options.register, report)
        if own:  # the registration moved what had been brought onto the photograph before
            scale = (box[2] - box[0]) / photograph.size[1], (box[3] - box[1]) / photograph.size[0]
            at += registration.flow * np.array(scale, np.float32)
        else:
            at = _grid(photograph.size, (0, 0, *photograph.size[::-1])) + registration.flow
        shown = registration.shown
    images = match_sizes([readings, photograph], options.resize)
    if images[1].size != photograph.size:  # the photograph is grey, and the readings are first
        raise InputError(
            f"{photograph.name}: is of another size than the sensor of {thermogram.name}; "
            "--register affine brings them together"
        )
    return Placed(thermogram, images, at, shown, limits)


def _finite(thermogram: Thermogram) -> Floats:
    return thermogram.readings[np.isfinite(thermogram.readings)]


def _picture(thermogram: Thermogram, photograph: Image, limits: ValueRange) -> Image:
    """Return the readings as a grey picture of the photograph's depth: fusion makes no temperatures."""
    low, high = limits
    readings = np.nan_to_num(thermogram.readings, nan=float(np.nanmin(thermogram.readings)))
    pixels = ((readings - low) / (high - low)).clip(0, 1).astype(np.float32)[..., None]
    unit = "counts" if thermogram.uncalibrated else "°C"
    return replace(
        photograph,
        pixels=pixels,
        alpha=None,
        icc_profile=None,
        resolution=None,
        name=thermogram.name,
        range_from=f"{low:.5g} to {high:.5g} {unit}",
        outside=0,
    )


def _own_part(thermogram: Thermogram) -> tuple[Image, Box]:
    """Return the part of the photograph that the sensor saw, and where its edges lie on the sensor."""
    photograph, box = thermogram.photograph, thermogram.box
    if photograph is None:
        raise InputError(
            f"{thermogram.name}: {thermogram.missing}; name one of the same scene as the second source"
        )
    if box is None:
        raise InputError(
            f"{thermogram.name}: does not say where its photograph lies; name one as the second source, "
            "with --register affine"
        )
    rows, columns = _without_frame(photograph.pixels)
    left, right = max(ceil(box[0]), columns.start), min(floor(box[2]), columns.stop)
    top, bottom = max(ceil(box[1]), rows.start), min(floor(box[3]), rows.stop)
    if min(right - left, bottom - top) < MINIMUM_SIDE:
        raise InputError(f"{thermogram.name}: its photograph does not show what the sensor saw")
    part = replace(
        photograph,
        pixels=np.ascontiguousarray(photograph.pixels[top:bottom, left:right]),
        alpha=None if photograph.alpha is None else photograph.alpha[top:bottom, left:right],
    )
    height, width = thermogram.size
    across, down = width / (box[2] - box[0]), height / (box[3] - box[1])
    first, last = ((left - box[0]) * across, (top - box[1]) * down), (right - box[0], bottom - box[1])
    return part, (*first, last[0] * across, last[1] * down)


def _without_frame(pixels: Floats) -> tuple[slice, slice]:
    """Return the rows and columns within a black frame, all of them if there is none."""
    bright = np.asarray(pixels.max(2) > BLACK)
    rows, columns = (_span(bright.max(axis)) for axis in (1, 0))
    return rows, columns


def _span(lit: NDArray[np.bool_]) -> slice:
    """Return from the first to the last lit place, without the border of a frame, which JPEG blurs."""
    places = np.flatnonzero(lit)
    if not places.size:
        return slice(0, 0)
    first, last = int(places[0]), int(places[-1])
    return slice(first + FRAME_BLUR * (first > 0), last + 1 - FRAME_BLUR * (last + 1 < len(lit)))


def _on_part(readings: Image, size: tuple[int, int], box: Box) -> Image:
    """Resample the readings' picture to the part of the photograph, bicubic with antialiasing."""
    height, width = readings.size
    # Rounding may put an edge a hair's breadth outside, which Pillow refuses.
    edges = max(box[0], 0.0), max(box[1], 0.0), min(box[2], float(width)), min(box[3], float(height))
    plane = PILImage.fromarray(readings.pixels[..., 0])
    resized = plane.resize(size[::-1], PILImage.Resampling.BICUBIC, box=edges)
    return replace(readings, pixels=np.asarray(resized).clip(0, 1)[..., None])


def _grid(size: tuple[int, int], box: Box) -> Floats:
    """Return where the pixels of a picture of that size lie, (H, W, 2), when its edges are at the box."""
    height, width = size
    x = box[0] + (np.arange(width) + 0.5) / width * (box[2] - box[0]) - 0.5
    y = box[1] + (np.arange(height) + 0.5) / height * (box[3] - box[1]) - 0.5
    return np.stack(np.meshgrid(x, y), -1).astype(np.float32)
