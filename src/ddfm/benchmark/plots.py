"""Box plots as inline SVG, drawn for a page that sets the colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
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


def box(values: Sequence[float]) -> Box | None:
    """What a box plot shows of the finite values; None if there are none."""
    finite = sorted(value for value in values if isfinite(value))
    if not finite:
        return None
    first, median, third = (float(q) for q in np.percentile(finite, (25, 50, 75)))
    reach = 1.5 * (third - first)
    inside = [value for value in finite if first - reach <= value <= third + reach]
    outliers = tuple(value for value in finite if not inside[0] <= value <= inside[-1])
    return Box(inside[0], first, median, third, inside[-1], outliers)


def box_plot(title: str, samples: Mapping[str, Sequence[float]]) -> str:
    """One SVG element: a row for each name, one axis for all."""
    boxes = {name: box(values) for name, values in samples.items()}
    drawn = [b for b in boxes.values() if b is not None]
    everything = [value for b in drawn for value in (b.low, b.high, *b.outliers)] or [0.0]
    low, high = min(everything), max(everything)
    if low == high:
        low, high = low - 0.5, high + 0.5
    height = TOP + ROW * len(boxes) + BOTTOM

    def x(value: float) -> str:
        return f"{LABEL + (value - low) / (high - low) * (WIDTH - LABEL - RIGHT):.1f}"

    shown = f'viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}, box plots"'
    parts = [f'<svg class="plot" {shown}>']
    floor = height - BOTTOM
    for tick in (low, (low + high) / 2, high):
        parts.append(f'<line class="grid" x1="{x(tick)}" x2="{x(tick)}" y1="{TOP}" y2="{floor}"/>')
        parts.append(
            f'<text class="tick" x="{x(tick)}" y="{height - 8}" text-anchor="middle">{short(tick)}</text>'
        )
    for row, (name, b) in enumerate(boxes.items()):
        y = TOP + ROW * row + ROW / 2
        label = name if len(name) <= 18 else f"{name[:17]}…"
        parts.append(
            f'<text class="label" x="{LABEL - 10}" y="{y + 4}" text-anchor="end">{escape(label)}</text>'
        )
        if b is None:
            continue
        tip = f"{name}: median {b.median:.4g}, half of the images within {b.first:.4g} to {b.third:.4g}"
        width = max(float(x(b.third)) - float(x(b.first)), 1)
        parts.append(
            f"<g><title>{escape(tip)}</title>"
            f'<line class="whisker" x1="{x(b.low)}" x2="{x(b.high)}" y1="{y}" y2="{y}"/>'
            f'<rect class="box" x="{x(b.first)}" y="{y - 6}" width="{width:.1f}" height="12" rx="2"/>'
            f'<line class="median" x1="{x(b.median)}" x2="{x(b.median)}" y1="{y - 6}" y2="{y + 6}"/>'
        )
        parts += [f'<circle class="outlier" cx="{x(value)}" cy="{y}" r="1.8"/>' for value in b.outliers]
        parts.append("</g>")
    parts.append("</svg>")
    return "".join(parts)


def short(value: float) -> str:
    """A number in about four characters, for axes and tables: 0.123, 12.34, 123.4, 1234."""
    if not isfinite(value):
        return "∞" if value > 0 else DASH
    size = abs(value)
    return f"{value:.{0 if size >= 1000 else 1 if size >= 100 else 2 if size >= 10 else 3}f}"
