"""Find what moved between two exposures of one scene.

Two exposures of what stands still differ by one curve for each channel, whatever the camera made of the
light. The curve is the median of one exposure's levels where the other has a given level; how far the levels
scatter about it says what difference means nothing there (clipped whites scatter widely). What lies beyond
moved.

Pictures are (C, H, W) in [0, 1], C = 1 or 3, on a common small scale.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

ENTRIES = 256  # of the table of a curve: one a grey level
ALONG = 2.0  # levels by which a curve is smoothed
PRESENT = 12.0  # pixels of a level from which on its median counts in full
SPREAD = 1.5  # standard deviations in the distance of a quartile from the median, of a normal distribution
LEAST_SPREAD = 0.015  # of the range: noise, compression, rounding
CERTAIN, LIKELY = 5.0, 2.5  # scatters from which on a difference is seen, and belongs to one that is
ROUNDS = 3  # of finding the curve without what moved
ENDS = 4  # levels at either end that an exposure says nothing more at: clipped, or next to it
GROWN = 40  # pixels, at most, between what is certain and what belongs to it
LEAST_SIDE = 5  # pixels of the smallest thing that moves; thinner ones are edges that are not quite aligned
MARGIN = 4  # pixels around what moved that go with it: blurred borders


class Curve(NamedTuple):
    """Tell which level of one exposure stands for each level of another, by channel.

    Attributes:
        median: (C, 256) in [0, 1], growing.
        spread: how far levels scatter about it, (C, 256).
    """

    median: NDArray[np.float32]
    spread: NDArray[np.float32]

    def of(self, picture: Tensor) -> Tensor:
        """Return a picture (C, H, W) as the other exposure would show it."""
        return _looked_up(self.median, picture)

    def spread_at(self, picture: Tensor) -> Tensor:
        """Return the scatter at each pixel of a picture, (C, H, W)."""
        return _looked_up(self.spread, picture)


def _looked_up(table: NDArray[np.float32], picture: Tensor) -> Tensor:
    """Look up each channel's table (C, 256), linear between its entries."""
    at = picture.clamp(0, 1) * (ENTRIES - 1)
    below = at.long().clamp(max=ENTRIES - 2)
    rows = torch.from_numpy(table)
    low, high = (torch.stack([row[part] for row, part in zip(rows, below + k, strict=True)]) for k in (0, 1))
    return torch.lerp(low, high, at - below)


def curve(source: Tensor, target: Tensor, still: Tensor) -> Curve:
    """Find how ``target`` shows each level of ``source``, from what stands still, (H, W) bool."""
    medians, spreads = [], []
    for a, b in zip(source, target, strict=True):
        u, v = ((plane[still] * (ENTRIES - 1)).round().long() for plane in (a, b))
        counts = torch.bincount(u * ENTRIES + v, minlength=ENTRIES**2).reshape(ENTRIES, ENTRIES)
        median, spread = _quartiles(_smooth(counts.double().numpy()))
        medians.append(median)
        spreads.append(spread)
    return Curve(np.stack(medians).astype(np.float32), np.stack(spreads).astype(np.float32))


def _smooth(joint: NDArray[np.float64]) -> NDArray[np.float64]:
    """Blur a joint histogram along its first axis, but for the ends, where what is clipped piles up."""
    at = np.arange(ENTRIES)
    within = (at >= ENDS) & (at < ENTRIES - ENDS)
    kernel = np.exp(-0.5 * ((at[:, None] - at) / ALONG) ** 2) * within
    smooth = kernel / np.maximum(kernel.sum(1, keepdims=True), 1e-9) @ joint
    return np.where(within[:, None], smooth, joint)


def _quartiles(joint: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the median of each row's distribution, growing over the rows, and its spread, in [0, 1]."""
    counts = joint.sum(1)
    share = joint.cumsum(1) / np.maximum(counts, 1e-9)[:, None]
    low, middle, high = ((share < part).sum(1) / (ENTRIES - 1) for part in (0.25, 0.5, 0.75))
    known = counts > PRESENT / ENTRIES
    if not known.any():
        return np.linspace(0, 1, ENTRIES), np.ones(ENTRIES)
    levels = np.arange(ENTRIES)
    spread = SPREAD * np.maximum(high - middle, middle - low)
    median, spread = (np.interp(levels, levels[known], values[known]) for values in (middle, spread))
    # Between running maxima from both ends, which a level with few pixels would pull one way or the other.
    up, down = np.maximum.accumulate(median), np.minimum.accumulate(median[::-1])[::-1]
    return (up + down) / 2, spread + (up - down) / 2 + LEAST_SPREAD


def moved(a: Tensor, b: Tensor) -> Tensor:
    """Return where two exposures (C, H, W) show different things, (H, W) bool."""
    still = torch.ones(a.shape[1:], dtype=torch.bool)
    area = torch.zeros_like(still)
    for _ in range(ROUNDS):
        strength = torch.maximum(_beyond(a, b, curve(a, b, still)), _beyond(b, a, curve(b, a, still)))
        area = _whole(strength)
        if torch.equal(~area, still):
            break
        still = ~area
        if still.float().mean() < 0.5:
            break
    return area


def _beyond(source: Tensor, target: Tensor, known: Curve) -> Tensor:
    """Return how many scatters ``target`` lies from what ``source`` says it shows, (H, W).

    Edges that are off by a pixel are no difference: the nearest value around counts. What is clipped white
    may be anything brighter, and what is black anything darker.
    """
    black, white = ENDS / (ENTRIES - 1), 1 - ENDS / (ENTRIES - 1)
    expected, scatter = (f(source.clamp(black, white)) for f in (known.of, known.spread_at))
    low = -_largest(-torch.where(source < black, 0, expected), 3)
    high = _largest(torch.where(source > white, 1, expected), 3)
    apart = torch.maximum(target - high, low - target).clamp_min(0) / _largest(scatter, 3)
    return F.avg_pool2d(apart.amax(0)[None, None], 3, 1, 1, count_include_pad=False)[0, 0]


def _whole(strength: Tensor) -> Tensor:
    """Return the areas of what is certain to have moved, with what belongs to it, (H, W) bool."""
    certain, likely = strength > CERTAIN, strength > LIKELY
    seeds = _widened(~_widened(~certain, LEAST_SIDE), LEAST_SIDE) & certain
    if not seeds.any():
        return seeds
    area = seeds
    for _ in range(GROWN):
        grown = _widened(area, 3) & likely
        if torch.equal(grown, area):
            break
        area = grown
    closed = ~_widened(~_widened(area, 2 * MARGIN + 1), 2 * MARGIN + 1)
    return _widened(closed | area, 2 * MARGIN + 1)


def _widened(area: Tensor, side: int) -> Tensor:
    """Widen an area (H, W) by squares of an odd side."""
    return _largest(area.float()[None], side)[0] > 0


def _largest(planes: Tensor, side: int) -> Tensor:
    """Return the largest value in the square of an odd side around each pixel, (C, H, W)."""
    return F.max_pool2d(planes[None], side, 1, side // 2)[0]
