"""Measure noise as cameras leave it: its level depends on intensity, and neighbours share it.

A photon count varies by its root, and a tone curve stretches that where it is steep. Demosaicing, resizing
and JPEG take most from the finest details, so that the noise of neighbours is alike. Both are found from one
picture: from flat blocks of each intensity, at full and at half the resolution.

Luminance has shape (B, 1, H, W) and range [-1, 1]; standard deviations are in the same units. The level at
half the resolution is doubled: for white noise it equals that at full resolution.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ddfm.noise.level import (
    BLOCK,
    CLEARANCE,
    FEWEST_BLOCKS,
    GREY_LEVEL,
    MARGIN,
    NOISE_GATE,
    Blocks,
    estimate_noise,
    level_of_flattest,
    measure_blocks,
    noise_of_blocks,
)

# Gates of a grey picture, so that none of the development data's clean ones opens them
# (benchmarks/restoration.py): noise is in both octaves, its blocks are alike, and the finest octave has its
# share. Texture has none of it.
LEAST_FINE, LEAST_COARSE = 1.2 * GREY_LEVEL, 4.6 * GREY_LEVEL
MOST_CORRELATED = 4.2  # coarse by fine
LOW, LOWER = 0.1, 0.01  # quantiles of the blocks' rms that are compared
ALIKE = 0.7  # the lower quantile by the other: .7 to .87 for noise
# Of a colour picture it is enough that its colours are noisy: of clean ones they are smooth.
COLOUR_GATE, LEAST_BESIDE = 5 * GREY_LEVEL, 2 * GREY_LEVEL  # of the colours; of luminance
SURE_COLOUR = 15 * GREY_LEVEL  # noise of the colours from which on luminance need not look noisy
COLOUR_SCALE = 4  # pixels a side that are averaged: what remains of JPEG's halved chroma is white
CORRELATED = 1.6  # coarse by fine, from which on noise is not taken for white
UNEVEN = 1.4  # highest level by the lowest, from which on noise depends on intensity
BINS = 8  # of intensity
MOST_CLEARANCE = 0.25  # between a block's mean and black or white
FEWEST, MOST = 8, 40  # blocks that make a level of a bin, and that it needs to be relied on fully
SMOOTH = 20.0  # blocks' worth of a bin's likeness to its neighbours


class CameraNoise(NamedTuple):
    """Describe the noise of one picture.

    Attributes:
        correlation: standard deviation at half the resolution by that at full resolution; 1 for white noise.
        level: standard deviation of all of it, over the picture.
        curve: standard deviation by intensity: (BINS,), at the middle of each bin.
    """

    correlation: float
    level: float
    curve: Tensor

    @property
    def is_correlated(self) -> bool:
        """Tell whether the noise of neighbours is alike."""
        return self.correlation > CORRELATED

    @property
    def is_plain(self) -> bool:
        """Tell whether the noise is white, and of one level."""
        return not self.is_correlated and float(self.curve.max() / self.curve.min()) < UNEVEN

    def at(self, intensity: Tensor) -> Tensor:
        """Return the standard deviation at intensities in [-1, 1]; same shape."""
        place = ((intensity + 1) / 2 * BINS - 0.5).clamp(0, BINS - 1)
        below = place.floor().long().clamp_max(BINS - 2)
        curve = self.curve.to(intensity)
        return torch.lerp(curve[below], curve[below + 1], place - below)


def colour_noise(rgb: Tensor) -> Tensor:
    """Estimate the noise of the colours, (B,), of pictures (B, C, H, W) in [0, 1]; 0 for grey ones.

    It is the geometric mean of that of red less green and of blue less green in blocks of 4x4 pixels, times
    four: for white noise the level at full resolution.
    """
    if rgb.shape[1] == 1 or min(rgb.shape[-2:]) < COLOUR_SCALE * (BLOCK + MARGIN):
        return rgb.new_zeros(len(rgb))
    small = F.avg_pool2d(2 * rgb, COLOUR_SCALE)
    red, blue = (estimate_noise(small[:, k : k + 1] - small[:, 1:2]) for k in (0, 2))
    return COLOUR_SCALE * (red * blue).sqrt()


def measure_camera_noise(luma: Tensor, fine: float, colour: float | None = None) -> CameraNoise | None:
    """Describe the noise of a picture (1, 1, H, W); None if it has none, or if it may be texture.

    Args:
        luma: the picture.
        fine: what `estimate_noise` found in it.
        colour: what `colour_noise` found in its colours; None for a grey picture.
    """
    coloured = colour is not None and colour > COLOUR_GATE
    surely = colour is not None and colour > SURE_COLOUR
    if min(luma.shape[-2:]) < 2 * (BLOCK + MARGIN) or not (coloured or fine > LEAST_FINE):
        return None
    (blocks,) = measure_blocks(F.avg_pool2d(luma, 2))
    coarse = 2 * float(noise_of_blocks(blocks))
    alike = _are_alike(blocks, coarse)
    grainy = alike and LEAST_COARSE <= coarse < MOST_CORRELATED * fine
    beside_colour = (surely or (coloured and alike)) and coarse > LEAST_BESIDE
    if not (grainy or beside_colour or fine > NOISE_GATE):
        return None
    correlation = max(coarse / fine, 1.0)
    if correlation > CORRELATED:
        curve, level = curve_of_blocks(blocks, coarse)
        return CameraNoise(correlation, 2 * level, 2 * curve)
    (blocks,) = measure_blocks(luma)
    curve, level = curve_of_blocks(blocks, fine)
    share = math.sqrt(correlation)  # some of it is in the octaves below
    return CameraNoise(correlation, share * level, share * curve)


def _are_alike(blocks: Blocks, coarse: float) -> bool:
    """Tell noise, whose blocks are all alike at the least, from texture, whose blocks differ."""
    rms = blocks.rms[blocks.room > CLEARANCE * coarse]
    if len(rms) < FEWEST_BLOCKS:
        return False
    lower, low = rms.quantile(rms.new_tensor((LOWER, LOW))).tolist()
    return bool(lower > ALIKE * low)


def curve_of_blocks(blocks: Blocks, level: float) -> tuple[Tensor, float]:
    """Return the noise by intensity, (BINS,), and its mean over the picture.

    Bins with few blocks, or none, take after their neighbours; ``level`` is what all blocks together say.
    """
    place = ((blocks.mean + 1) / 2 * BINS).long().clamp(0, BINS - 1)
    usable = blocks.room > min(CLEARANCE * level, MOST_CLEARANCE)
    levels, weights = torch.zeros(BINS, dtype=torch.float64), torch.zeros(BINS, dtype=torch.float64)
    for index in range(BINS):
        here = usable & (place == index)
        count = int(here.sum())
        if count >= FEWEST:
            found = level_of_flattest(blocks.rms[here], blocks.gradient[here], FEWEST)
            levels[index], weights[index] = found.clamp_min(level / 10).log(), min(count, MOST)
    if not weights.any():
        return torch.full((BINS,), level), level
    difference = torch.eye(BINS, dtype=torch.float64).diff(dim=0)
    matrix = weights.diag() + SMOOTH * difference.T @ difference
    curve = torch.linalg.solve(matrix, weights * levels).exp().float()
    return curve, float(curve[place].mean())
