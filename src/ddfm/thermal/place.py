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
MOST_MOVED, MOST_SCALED = 0.12, 0.12  # share of the field that the file's offsets may be off by, and its size
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
        how: how they were brought together, in words.
    """

    thermogram: Thermogram
    images: list[Image]
    at: Floats
    shown: NDArray[np.bool_]
    limits: ValueRange
    how: str = ""

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
    *,
    refine: bool = False,
) -> Placed:
    """Bring the readings onto a photograph: by the file's own offsets, then by registration if it is asked.

    Args:
        thermogram: what a file has.
        photograph: one that is given; None for the one in the same file, of which the part is taken that
            the sensor saw.
        options: its ``register`` and ``resize``.
        wanted: readings that are black and white; None for the smallest and largest.
        report: called with a picture to judge the registration by.
        refine: whether to correct the file's offsets where the pictures themselves say so surely; see
            `refined`. It is not done where ``register`` is asked for, or a photograph given.

    Raises:
        InputError: there is no photograph, the file does not say where it lies, the sizes differ, or the
            registration is doubtful.
    """
    limits = choose_range(_finite(thermogram), wanted, None, thermogram.name).limits
    own, how = photograph is None, "photograph as given"
    if photograph is None:
        how = "photograph placed by the file's offsets"
        if refine and options.register is None:
            thermogram, how = refined(thermogram, limits)
        photograph, box, _ = _own_part(thermogram)
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
        how = f"photograph registered, confidence {registration.confidence:.2f}"
    images = match_sizes([readings, photograph], options.resize)
    if images[1].size != photograph.size:  # the photograph is grey, and the readings are first
        raise InputError(
            f"{photograph.name}: is of another size than the sensor of {thermogram.name}; "
            "--register affine brings them together"
        )
    return Placed(thermogram, images, at, shown, limits, how)


def refined(thermogram: Thermogram, limits: ValueRange) -> tuple[Thermogram, str]:
    """Correct where the sensor's field lies in its photograph, if registration is sure; say what was done.

    Cameras store one place for all distances, but lens and sensor lie beside each other: near things are some
    pixels off. The field is shifted and scaled, not turned, and by little: else the file is believed.
    """
    kept = "photograph placed by the file's offsets"
    photograph, edges, corner = _own_part(thermogram)
    try:
        from ddfm.registration.estimate import LEAST_CONFIDENCE, register
    except InputError:
        return thermogram, f"{kept} (pip install 'ddfm[register]' corrects them for near things)"
    readings = _on_part(_picture(thermogram, photograph, limits), photograph.size, edges)
    registration = register(readings.pixels, photograph.pixels, "affine")
    sure = f"confidence {registration.confidence:.2f}"
    if registration.confidence < LEAST_CONFIDENCE:
        return thermogram, f"{kept} (the pictures are too unlike to correct them: {sure})"
    assert thermogram.box is not None  # else there is no part
    middle, spans, box = [size / 2 - 0.5 for size in photograph.size[::-1]], thermogram.size[::-1], [0.0] * 4
    for axis in (0, 1):  # where along x and y the sensor's edges lie
        scale, turn = registration.matrix[axis, axis], registration.matrix[axis, 1 - axis]
        pixels = (edges[axis + 2] - edges[axis]) / photograph.size[1 - axis]  # of the sensor, for one here
        for end in (0, 1):
            at = (end * spans[axis] - edges[axis]) / pixels - 0.5
            at = (at - registration.matrix[axis, 2] - turn * middle[1 - axis]) / scale
            box[axis + 2 * end] = float(corner[axis] + at + 0.5)
    found: Box = (box[0], box[1], box[2], box[3])
    old_x, old_y, old_width, old_height = _middle_and_size(thermogram.box)
    x, y, width, height = _middle_and_size(found)
    moved = float(np.hypot(x - old_x, y - old_y)) / old_width
    scaled = max(abs(width / old_width - 1), abs(height / old_height - 1))
    if moved > MOST_MOVED or scaled > MOST_SCALED:
        return thermogram, f"{kept} (the pictures ask for one too far away)"
    pixels_moved = moved * spans[0]
    return replace(thermogram, box=found), (
        f"photograph placed {pixels_moved:.1f} pixels of the sensor beside the file's offsets, {sure}"
    )


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


def _middle_and_size(box: Box) -> Box:
    """Return middle, width and height of a box."""
    left, top, right, bottom = box
    return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top


def _own_part(thermogram: Thermogram) -> tuple[Image, Box, tuple[int, int]]:
    """Return the part of the photograph that the sensor saw, its edges on the sensor, and its corner."""
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
    return part, (*first, last[0] * across, last[1] * down), (left, top)


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
