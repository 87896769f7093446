"""Find the quantisation grid that JPEG compression left in a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from statistics import median_low

import torch
from torch import Tensor
from torch.nn import functional as F

from ddfm.noise.level import GREY_LEVEL

STEPS = range(10, 100)  # of quantisation; finer ones do no harm worth a network evaluation
BINS = 4  # a grey level of the coefficients
FEWEST_COEFFICIENTS, FEWEST_GRIDS = 30, 3  # that make a grid, of the seven that make a compressed image
GRID_GATE = 0.7


def quantisation_step(luma: Tensor) -> Tensor:
    """Return the step of the grid that JPEG left in the low frequencies, per image, in 8-bit grey levels.

    JPEG rounds the cosine coefficients of 8x8 blocks to multiples of one number for each frequency. They stay
    so as long as the image is not changed (Fan & de Queiroz 2003, "Identification of bitmap compression
    history"). A step t is found if the mean of cos(2 pi c / t) is near 1 over all coefficients c outside
    +-t/4; without a grid it is about 0 or below.

    Args:
        luma: shape (B, 1, H, W).

    Returns:
        shape (B,): median over those of seven frequencies that have a grid; 0 for images that were
        not compressed, compressed with a step below 10 (quality 58 and more) or changed since.
    """
    coefficients = F.conv2d(luma / GREY_LEVEL, _cosines().to(luma), stride=8).flatten(2)
    # Where the decoder's output was cut off at black or white, the block is off the grid.
    whole = F.max_pool2d(luma.abs(), 8).flatten(1) < 1
    steps = [_step_of_image(image[:, kept]) for image, kept in zip(coefficients, whole, strict=True)]
    return luma.new_tensor(steps)


def _step_of_image(coefficients: Tensor) -> float:
    """Return the median step of the frequencies, (7, n), that have a grid; 0 if they are too few."""
    # How well each step fits depends on where the coefficients lie, not on which they are: on a histogram.
    table = _fits_of_bins().to(coefficients.device)
    frequencies, bins = len(coefficients), table.shape[1]
    index = (coefficients.abs() * BINS).long().clamp_max_(bins - 1)
    index += bins * torch.arange(frequencies, device=index.device)[:, None]
    histogram = index.flatten().bincount(minlength=frequencies * bins).reshape(frequencies, bins).float()
    sums = (histogram @ table.mT).tolist()
    counts = histogram.flip(1).cumsum(1).flip(1)[:, STEPS.start : STEPS.stop].tolist()
    steps = [step for row in zip(sums, counts, strict=True) if (step := _step_of_grid(*row))]
    return median_low(steps) if len(steps) >= FEWEST_GRIDS else 0.0


def _step_of_grid(sums: Sequence[float], counts: Sequence[float]) -> float:
    """Return the largest of ``STEPS`` that nearly all coefficients are multiples of, or 0.

    For each step: how many coefficients lie outside a quarter of it, and the sum of their cosines.
    """
    best, best_fit = 0, GRID_GATE
    for step, total, count in zip(reversed(STEPS), reversed(sums), reversed(counts), strict=True):
        if count < FEWEST_COEFFICIENTS:
            continue
        if total / count > best_fit:
            best, best_fit = step, total / count
        elif best:  # past the top; what comes below are fractions of the step, which fit as well
            break
    return float(best)


@cache
def _fits_of_bins() -> Tensor:
    """Return cos(2 pi c / t) for step t and bin of coefficients c, 0 within a quarter of it: (steps, bins).

    A bin is a quarter of a grey level wide, so that step t leaves out just the first t bins.
    """
    largest = 127.5 * float(_cosines().abs().sum((1, 2, 3)).max())
    c = (torch.arange(math.ceil(largest * BINS) + 1) + 0.5) / BINS
    t = torch.tensor(STEPS)[:, None]
    return (2 * torch.pi * c / t).cos() * (c > t / 4)


@cache
def _cosines() -> Tensor:
    """Return JPEG's seven cosines of lowest frequency but the mean, of unit norm: (7, 1, 8, 8)."""
    sample = torch.arange(8, dtype=torch.float64) + 0.5
    waves = torch.stack([(torch.pi / 8 * k * sample).cos() * (0.5 if k else 8**-0.5) for k in range(3)])
    low = ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (1, 2), (2, 1))
    return torch.stack([torch.outer(waves[u], waves[v]) for u, v in low])[:, None].float()
