"""A picture as the fusion sees it: samples in [0, 1] with their range, depth, alpha and colour profile."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddfm.errors import InputError
from ddfm.pictures.ranges import (
    SENSOR_BITS,
    Range,
    RangeChoice,
    ValueRange,
    choose_range,
    clipping_remark,
    full_range,
    row_chunks,
    to_pixels,
    to_values,
)
from ddfm.timing import stage

MINIMUM_SIDE = 16
LITTLE_USED = 0.25  # of a range: below, say how to have it used

Resolution = tuple[float, float, int]
"""Pixels per unit across and down, and the tag's unit: 1 none, 2 inch, 3 centimetre."""


@dataclass(frozen=True)
class Image:
    """A picture as the fusion sees it.

    Attributes:
        pixels: float32 in [0, 1], shape (H, W, 1) if it is grey, (H, W, 3) RGB if it is not. A file
            with three equal channels is grey.
        depth: what the samples were stored as: uint8, uint16, int16 or float32.
        alpha: float32 in [0, 1], shape (H, W), or None.
        icc_profile: the file's colour profile, or None.
        name: where it came from, for messages.
        value_range: the values that pixels 0 and 1 stand for, in the file's units (see `ranges`); None
            for 0 to 255, 0 to 65535, 0 to 1.
        range_from: why it is this range, in words.
        outside: how many samples lay outside a range that was asked for and were set to its ends.
        resolution: of a TIFF, pixels per unit across and down, and the unit's tag; or None.
        known: which pixels show something, (H, W) bool; None for all. The others hold what fills them.
        defects: how many of the others are single defective pixels that were found out.
        exposure: the light that the camera gave it, time (s) x ISO / 100 / f-number^2; None if unknown.
    """

    pixels: NDArray[np.float32]
    depth: np.dtype[Any]
    alpha: NDArray[np.float32] | None = None
    icc_profile: bytes | None = None
    name: str = "image"
    value_range: ValueRange | None = None
    range_from: str = ""
    outside: int = 0
    resolution: Resolution | None = None
    exposure: float | None = None
    known: NDArray[np.bool_] | None = None
    defects: int = 0

    @property
    def size(self) -> tuple[int, int]:
        """Return height and width."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def is_colour(self) -> bool:
        """Tell whether there are three channels."""
        return self.pixels.shape[2] == 3

    @property
    def is_display(self) -> bool:
        """Tell whether the range is that of display: all of 8 to 16 bits, or floats from 0 to 1."""
        tops = [2**bits - 1 for bits in SENSOR_BITS] if self.depth.kind == "u" else [1]
        return self.limits[0] == 0 and self.limits[1] in tops

    @property
    def limits(self) -> ValueRange:
        """Return the values that pixels 0 and 1 stand for."""
        return full_range(self.depth) if self.value_range is None else self.value_range

    def values(self) -> NDArray[np.float64]:
        """Return pixels in the file's units, not rounded, shape (H, W, 1) or (H, W, 3)."""
        return to_values(self.pixels, self.limits)

    def to_array(self) -> NDArray[Any]:
        """Return samples in the file's units and depth: (H, W) or (H, W, C), alpha last."""
        channels = self.pixels.shape[2] + (self.alpha is not None)
        stored = np.empty((*self.size, channels), self.depth)
        for rows in row_chunks(len(stored)):
            stored[rows] = self._samples(rows)
        return stored[..., 0] if channels == 1 else stored

    def _samples(self, rows: slice) -> NDArray[np.float64]:
        """Return some rows as `to_array` stores them, (h, W, C): whole numbers unless it stores floats."""
        pixels = self.pixels[rows]
        if self.depth == np.float32:
            samples = to_values(pixels, self.limits)
        else:
            samples = to_values(pixels.clip(0, 1), self.limits)
        if self.alpha is not None:
            alpha = self.alpha[rows].astype(np.float64) * alpha_top(self.depth, self.limits)
            samples = np.dstack([samples, alpha])
        if self.depth == np.float32:
            return samples
        stored = np.iinfo(self.depth)
        return np.rint(samples).clip(stored.min, stored.max)


def alpha_top(depth: np.dtype[Any], limits: ValueRange) -> float:
    """Return the value of an opaque sample: 4095 for 12-bit data, 1 for floats."""
    if depth == np.float32:
        return 1.0
    return limits[1] if depth == np.uint16 and limits[0] == 0 else float(np.iinfo(depth).max)


def from_array(
    samples: NDArray[Any],
    name: str = "array",
    value_range: RangeChoice = None,
    declared: Range | None = None,
) -> Image:
    """Make an image of an array: uint8, uint16, int16 or floats; (H, W) or (H, W, 1 | 2 | 3 | 4).

    Two and four channels are grey and RGB with alpha. ``value_range`` and ``declared`` are what
    `ranges.choose_range` takes. Raises InputError for other shapes and types, and for non-finite samples.
    """
    if samples.ndim == 2:
        samples = samples[..., None]
    if samples.ndim != 3 or samples.shape[2] not in (1, 2, 3, 4):
        raise InputError(f"{name}: shape {samples.shape} is not H x W or H x W x (1 to 4 channels)")
    return from_stack(samples[None], name, value_range, declared)[0]


@stage("read")
def from_stack(
    samples: NDArray[Any],
    name: str = "stack",
    value_range: RangeChoice = None,
    declared: Range | None = None,
) -> list[Image]:
    """Make pictures of one range from (D, H, W, 1 to 4); otherwise as `from_array`."""
    if min(samples.shape[1:3]) < MINIMUM_SIDE:
        height, width = samples.shape[1:3]
        raise InputError(
            f"{name}: is {width}x{height} pixels; at least {MINIMUM_SIDE}x{MINIMUM_SIDE} are needed"
        )
    if samples.dtype in (np.uint8, np.uint16, np.int16):
        depth = samples.dtype
    elif np.issubdtype(samples.dtype, np.floating):
        depth = np.dtype(np.float32)
        if bad := int((~np.isfinite(samples)).sum()):
            raise InputError(
                f"{name}: {bad} of {samples.size} samples are NaN or infinite; replace them first"
            )
    else:
        raise InputError(f"{name}: samples are {samples.dtype}; 8- or 16-bit integers or floats are needed")
    has_alpha = samples.shape[3] in (2, 4)
    colours = samples[..., :-1] if has_alpha else samples
    if colours.shape[3] == 3 and (colours == colours[..., :1]).all():
        colours = colours[..., :1]
    # Floats of alpha are in [0, 1] whatever the colours' units are.
    chosen = choose_range(colours if depth.kind == "f" else samples, value_range, declared, name)
    pages, outside = zip(*(to_pixels(page, chosen.limits) for page in colours), strict=True)
    reason = chosen.reason
    if any(outside):
        remark = clipping_remark(sum(outside), colours.size, chosen.limits)
        warnings.warn(f"{name}: {remark}", stacklevel=2)
        reason += f", {remark}"
    alphas: list[NDArray[np.float32] | None] = [None] * len(pages)
    if has_alpha:
        top = alpha_top(depth, chosen.limits)
        if samples[..., -1].min() < 0 or samples[..., -1].max() > top:
            raise InputError(f"{name}: alpha lies outside 0 to {top:g}, the depth's own; rescale it first")
        alphas = [(alpha / np.float64(top)).astype(np.float32) for alpha in samples[..., -1]]
    return [
        Image(page, depth, alpha, None, name, chosen.limits, reason, count)
        for page, alpha, count in zip(pages, alphas, outside, strict=True)
    ]


def range_remarks(images: Sequence[Image]) -> list[str]:
    """List remarks for the user about the range of a picture or of a volume's slices, one sentence each."""
    low, high = images[0].limits
    used = max(float(i.pixels.max()) for i in images) - min(float(i.pixels.min()) for i in images)
    remarks = []
    if "taken for" in images[0].range_from:
        remarks.append(f"{images[0].range_from}; --range {low:g},65535 takes all 16")
    if 0 < used < LITTLE_USED:
        remarks.append(f"its values use {used:.0%} of the range; --range data makes them use all of it")
    if outside := sum(image.outside for image in images):
        remarks.append(f"{outside} samples lie outside the range {low:g} to {high:g} and are cut off")
    return remarks


def with_shared_range(images: Sequence[Image]) -> list[Image]:
    """Give pictures of one camera one scale: the widest of their ranges.

    For exposures and focus stacks, where a range for each would undo what their brightness says.
    Sources of different depths are left as they are.
    """
    if len({image.depth for image in images}) > 1 or len({image.limits for image in images}) == 1:
        return list(images)
    shared = min(image.limits[0] for image in images), max(image.limits[1] for image in images)
    return [
        replace(
            image,
            pixels=to_pixels(image.values(), shared)[0],
            value_range=shared,
            range_from=f"the widest of the sources' ranges, {shared[0]:g} to {shared[1]:g}",
        )
        for image in images
    ]


def first_colour(sources: Sequence[Image]) -> Image:
    """Return the first source in colour, or the first one; the result takes its size."""
    return next((source for source in sources if source.is_colour), sources[0])


def by_exposure(images: Sequence[Image]) -> list[int]:
    """Return the places of exposures from the least light to the most.

    By what the cameras wrote if all say something else, by the mean brightness if not.
    """
    known = [image.exposure for image in images]
    if None not in known and len(set(known)) == len(known):
        return sorted(range(len(images)), key=lambda k: known[k] or 0.0)
    return sorted(
        range(len(images)), key=lambda k: (float(images[k].pixels.mean()), images[k].pixels.tobytes())
    )
