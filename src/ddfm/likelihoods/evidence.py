"""Find out where a source has something to say, and where several have: its local structure (eq. 1 to 3).

Absence is no evidence. Where nothing is warm, an infrared picture is dark and flat; that says nothing about
a road that the visible camera shows. Both cameras show darkness where they receive nothing. So a source
counts as far as it has structure, and as far as it is bright; where it is dark and another shows more, less.

Sources come as their local means (`reduce`), (B, K, h, w) in [-1, 1]: half their height and width.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ddfm.likelihoods.numbers import GlobalNumber, Steady, as_it_is
from ddfm.likelihoods.tasks import EVEN, Task
from ddfm.pictures.pyramid import smooth

SCALES = 2  # of the structure: windows of some 8 pixels (eq. 1)
NOISE_IN_STRUCTURE = 0.2  # structure of white noise of standard deviation one (eq. 1)
FAINT = 0.01  # structure, a grey level and a quarter, below which all is alike (eq. 2)
DARK = 0.2  # luminance, of 1, below which a source says less and less (eq. 2)
MORE = 0.075  # structure of another source, a flat one beside it, for half of that effect (eq. 2)
LEAST = 0.002  # root of the structure of a source that has none (eq. 2)
LEANING = 6.0  # how firmly a balance prefers a source: at its ends, more than brightness does (eq. 5b)
ENDS = 1e-5  # where a balance starts and, from 1, ends, since logits need room (eq. 5b)
TINY = 1e-6  # weight by which sources are told apart where none of those that show a pixel has any
PRESENT_POWER = 4.0  # how sharply what says something is told from what does not (eq. 3)


class Evidence(NamedTuple):
    """What the sources have to say.

    Attributes:
        weight: of each source, summing to one over them, (B, K, h, w).
        together: how far two or more sources have something to say, 0 to 1, (B, 1, h, w).
        overall: logarithm of the mean structure of each source, (B, K, 1, 1).
    """

    weight: Tensor
    together: Tensor
    overall: Tensor

    @property
    def undecided(self) -> Tensor:
        """Return how far the choice is open: 0 where one source has all the weight, 1 if all are equal.

        A lit sky and a dark one are not explained by their sum.
        """
        count = self.weight.shape[1]
        return (1 - self.weight.amax(1, keepdim=True)) * (count / (count - 1))

    @classmethod
    def of(
        cls, means: Tensor, noise: Tensor, task: Task, steady: Steady = as_it_is, shown: Tensor | None = None
    ) -> Evidence:
        """Weigh the sources by the structure and brightness of their local means.

        Args:
            means: (B, K, h, w).
            noise: its variance in the sources, (B, K, 1, 1).
            task: what kind of sources they are.
            steady: holds numbers about the whole picture over the frames of a video.
            shown: how far each source shows a pixel, (B, K, h, w); None for all, everywhere.
        """
        found = structure(means, noise)
        mean_root = steady(GlobalNumber.STRUCTURE, mean_where(found.sqrt(), shown))
        overall = 2 * mean_root.add(LEAST).log()
        luminance = ((means + 1) / 2).clamp_min_(0)  # draws with noise leave the range
        brightness = luminance**task.lit
        most = where_shown(found, shown).amax(1, keepdim=True)
        absence = (1 - luminance / DARK).clamp_min_(0) * ((most - found) / (most + MORE))
        behind = task.overall * (overall.amax(1, keepdim=True) - overall)
        whole = -task.against * (behind / task.against).log1p()
        odds = task.local * (found + FAINT).log() + whole + task.bright * brightness - task.absent * absence
        if task.balance != EVEN:
            odds[:, task.thermal] += preference(task.balance, brightness[:, task.thermal])
        weight = among_shown(odds.softmax(1), shown)
        return cls(weight, present_together(where_shown(found, shown), task.present), overall)


def preference(balance: float, brightness: Tensor) -> Tensor:
    """Return what the balance adds to the log-odds of the thermal source (eq. 5b).

    Below the middle what is hot is spared, so that targets stay in an otherwise visible picture.

    Args:
        balance: within [0, 1].
        brightness: of the thermal source, to the power of what is lit or hot, (B, h, w) in [0, 1].
    """
    within = min(max(balance, ENDS), 1 - ENDS)
    lean = LEANING * math.log(within / (1 - within))
    return lean * (1 - brightness) ** 4 if lean < 0 else torch.full_like(brightness, lean)


def structure(means: Tensor, noise: Tensor) -> Tensor:
    """Measure the mean absolute contrast in a neighbourhood, less what noise in the sources adds (eq. 1)."""
    contrast = (means - smooth(means, SCALES)).abs_()
    return (smooth(contrast, SCALES).square_() - NOISE_IN_STRUCTURE**2 * noise).clamp_min_(0).sqrt_()


def present_together(found: Tensor, present: float) -> Tensor:
    """Tell how far the source with the second most structure has something to say (eq. 3).

    Structure of ``present`` is as likely to say something as not.
    """
    second = found.topk(2, 1).values[:, 1:] ** PRESENT_POWER
    return second / (second + present**PRESENT_POWER)


def where_shown(values: Tensor, shown: Tensor | None) -> Tensor:
    """Return values, (B, K, h, w), as far as each source shows a pixel."""
    return values if shown is None else values * shown


def among_shown(weight: Tensor, shown: Tensor | None) -> Tensor:
    """Return weights, (B, K, h, w), that sum to one over the sources, of those that show a pixel."""
    if shown is None:
        return weight
    left = weight * shown + TINY * shown
    return left / left.sum(1, keepdim=True)


def mean_where(values: Tensor, shown: Tensor | None) -> Tensor:
    """Return the mean of each source's values, (B, K, 1, 1), over what it shows."""
    if shown is None:
        return values.mean((2, 3), keepdim=True)
    total = shown.sum((2, 3), keepdim=True)
    return (values * shown).sum((2, 3), keepdim=True) / total.clamp_min(TINY)


def overall(found: Tensor, present: float, shown: Tensor | None = None) -> dict[GlobalNumber, Tensor]:
    """Sum up structures (B, K, h, w) for the whole picture: the mean root of each, and how far all speak."""
    together = present_together(where_shown(found, shown), present)
    return {
        GlobalNumber.STRUCTURE: mean_where(found.sqrt(), shown),
        GlobalNumber.TOGETHER: together.mean((1, 2, 3), keepdim=True),
    }
