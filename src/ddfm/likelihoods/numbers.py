"""The numbers about the whole picture that the likelihood measures intensities by."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ddfm.likelihoods.tasks import Task

# What a number about the whole picture, given by name, is replaced with: for a video, its mean over time.
Steady = Callable[[str, Tensor], Tensor]


def as_it_is(name: str, value: Tensor) -> Tensor:
    """Return the picture's own number."""
    return value


def held(task: Task) -> Steady:
    """Return a function that puts the task's shared numbers in the place of each picture's own."""
    shared = {"centre": task.centre, "energy": task.energy}

    def number(name: str, value: Tensor) -> Tensor:
        given = shared.get(name)
        return value if given is None else torch.full_like(value, given)

    return number
