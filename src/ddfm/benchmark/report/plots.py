"""Box plots: their numbers, and where everything lies in the drawing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import NamedTuple

import numpy as np

WIDTH, ROW, TOP, BOTTOM = 360, 22, 6, 24
LABEL, RIGHT = 132, 24  # room for the names, and for half of the last tick's number

DASH = "\u2013"  # stands for no value


class Box(NamedTuple):
    """A sample after Tukey: quartiles, the furthest values within 1.5 of their distance, the rest."""

    low: float
    first: float
    median: float
    third: float
    high: float
    outliers: tuple[float, ...]


class Row(NamedTuple):
    """One sample's box on the page, in pixels; None if no value is finite."""

    y: float
    label: str
    tip: str
    box: Box | None

    @property
    def width(self) -> float:
        """Return the width of the box: a pixel at least, so that it can be seen."""
        return 0 if self.box is None else round(max(self.box.third - self.box.first, 1.0), 1)


class Plot(NamedTuple):
    """Lay out a box plot in pixels; the template draws it."""

    height: int
    ticks: list[tuple[float, str]]
    rows: list[Row]
    width: int = WIDTH
    top: int = TOP
    label_x: int = LABEL - 10

    @property
    def floor(self) -> int:
        """Return the height at which the axis lies."""
        return self.height - BOTTOM


def box(values: Sequence[float]) -> Box | None:
    """Summarise the finite values; None if there are none."""
    finite = sorted(value for value in values if isfinite(value))
    if not finite:
        return None
    first, median, third = (float(q) for q in np.percentile(finite, (25, 50, 75)))
    reach = 1.5 * (third - first)
    inside = [value for value in finite if first - reach <= value <= third + reach]
    outliers = tuple(value for value in finite if not inside[0] <= value <= inside[-1])
    return Box(inside[0], first, median, third, inside[-1], outliers)


def box_plot(samples: Mapping[str, Sequence[float]]) -> Plot:
    """Lay out a row for each name, with one axis for all."""
    boxes = {name: box(values) for name, values in samples.items()}
    drawn = [b for b in boxes.values() if b is not None]
    everything = [value for b in drawn for value in (b.low, b.high, *b.outliers)] or [0.0]
    low, high = min(everything), max(everything)
    if low == high:
        low, high = low - 0.5, high + 0.5

    def x(value: float) -> float:
        return round(LABEL + (value - low) / (high - low) * (WIDTH - LABEL - RIGHT), 1)

    rows = [
        Row(
            y=TOP + ROW * row + ROW / 2,
            label=name if len(name) <= 18 else f"{name[:17]}…",
            tip=""
            if b is None
            else f"{name}: median {b.median:.4g}, half of the images within {b.first:.4g} to {b.third:.4g}",
            box=None if b is None else _placed(b, x),
        )
        for row, (name, b) in enumerate(boxes.items())
    ]
    return Plot(
        TOP + ROW * len(boxes) + BOTTOM, [(x(t), short(t)) for t in (low, (low + high) / 2, high)], rows
    )


def _placed(b: Box, x: Callable[[float], float]) -> Box:
    """Return a box whose values are places on the axis."""
    return Box(
        x(b.low), x(b.first), x(b.median), x(b.third), x(b.high), tuple(x(value) for value in b.outliers)
    )


def short(value: float) -> str:
    """Write a number in about four characters, for axes and tables: 0.123, 12.34, 123.4, 1234."""
    if not isfinite(value):
        return "∞" if value > 0 else DASH
    size = abs(value)
    return f"{value:.{0 if size >= 1000 else 1 if size >= 100 else 2 if size >= 10 else 3}f}"
