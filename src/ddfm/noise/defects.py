"""Find single defective pixels of a sensor: dead, stuck or hot ones, each alone among neighbours that agree.

A lens spreads a lamp, a star or a glint over neighbours. A defect is in the readout, behind the lens: its
neighbours know nothing of it. So it stands out from all of them by many times what they differ by.

A few such pixels are in many clean pictures, five in none (benchmarks/restoration.py, part "clean defects").
Dark and bright ones are judged apart: dead pixels in a night sky are no reason to take its stars.

Luminance has shape (B, 1, H, W) and range [-1, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ddfm.noise.level import GREY_LEVEL
from ddfm.timing import stage

LEAST = 10 * GREY_LEVEL  # that a defect stands out by
FLOOR = 6 * GREY_LEVEL  # added to what its neighbours differ by: they may agree by chance
SURE = 6.0  # times that, by which what surely is a defect stands out
FEWEST = 5  # sure ones, dark or bright, from which on a picture has defects of that kind
LIKELY = 2.0  # times what all but two neighbours differ by: a defect, where there are sure ones
MOST = 0.02  # share of the pixels; more is noise of another kind, and left alone


@stage("defects")
def find_defects(luma: Tensor) -> Tensor:
    """Return which pixels are defective, (B, 1, H, W) bool; none in a picture without sure ones.

    Args:
        luma: shape (B, 1, H, W).
    """
    return torch.stack([_defects(plane) for plane in luma[:, 0]])[:, None]


def _defects(plane: Tensor) -> Tensor:
    """Return the defects of one picture, (H, W)."""
    found = torch.zeros_like(plane, dtype=torch.bool)
    for bright, sure in zip((plane, -plane), sure_defects(plane), strict=True):
        if len(sure) >= FEWEST:
            # One neighbour may be a defect, too, dark or bright.
            found[_standing_out(bright, 1, LIKELY).unbind(1)] = True
    return found if found.float().mean() <= MOST else torch.zeros_like(found)


def sure_defects(plane: Tensor) -> tuple[Tensor, Tensor]:
    """Return the places, (n, 2), of pixels of a picture, (H, W), that surely are too bright, or too dark."""
    return _standing_out(plane, 0, SURE), _standing_out(-plane, 0, SURE)


def _standing_out(plane: Tensor, outliers: int, times: float) -> Tensor:
    """Return the places, (n, 2), of pixels brighter than their eight neighbours by so many times the spread.

    Args:
        plane: the picture, (H, W).
        outliers: how many of the brightest neighbours, and of the darkest, do not count, 0 or 1.
        times: of what the others differ by.
    """
    padded = F.pad(plane[None, None], (1, 1, 1, 1), mode="reflect")[0, 0]
    left, right = padded[1:-1, :-2], padded[1:-1, 2:]
    # Most pixels are ruled out by two neighbours, which takes no more than a comparison.
    beside = torch.minimum(left, right) if outliers else torch.maximum(left, right)
    places = (padded[1:-1, 1:-1] - beside > LEAST).nonzero()
    down, across = places.unbind(1)
    around = [(i, j) for i in range(3) for j in range(3) if (i, j) != (1, 1)]
    neighbours = torch.stack([padded[down + i, across + j] for i, j in around], 1).sort(1).values
    low, high = neighbours[:, outliers], neighbours[:, -1 - outliers]
    out = padded[down + 1, across + 1] - high
    return places[(out > LEAST) & (out > times * (high - low + FLOOR))]
