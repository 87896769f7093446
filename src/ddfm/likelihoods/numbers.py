"""The numbers about the whole picture that the likelihood measures intensities by."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto

import torch
from torch import Tensor

from ddfm.likelihoods.tasks import Task


class GlobalNumber(Enum):
    """Name the numbers about the whole picture, each with its shape for K sources in batches of B."""

    CENTRE = auto()  # common mean of the sources, (B, 1, 1, 1)
    OWN_MEANS = auto()  # how far each source's mean is from that, (B, K, 1, 1)
    ENERGY = auto()  # mean square of the local means about the common one, (B, 1, 1, 1)
    STRUCTURE = auto()  # mean root of each source's structure, (B, K, 1, 1)
    TOGETHER = auto()  # how far several sources have something to say, (B, 1, 1, 1)
    TAILS = auto()  # luminances that the stretch keeps within the range, (2, B)
    MEAN = auto()  # of the fused luminance, (B, 1, 1, 1)


# What such a number is replaced with: for a video, its mean over time.
Steady = Callable[[GlobalNumber, Tensor], Tensor]


def as_it_is(number: GlobalNumber, value: Tensor) -> Tensor:
    """Return the picture's own number."""
    return value


def task_numbers(task: Task) -> Steady:
    """Return a function that puts the task's shared numbers in the place of each picture's own."""
    shared = {GlobalNumber.CENTRE: task.centre, GlobalNumber.ENERGY: task.energy}

    def steady(number: GlobalNumber, value: Tensor) -> Tensor:
        given = shared.get(number)
        return value if given is None else torch.full_like(value, given)

    return steady
