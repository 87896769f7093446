"""The numbers about the whole picture that the likelihood measures intensities by."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

# What a number about the whole picture, given by name, is replaced with: for a video, its mean over time.
Steady = Callable[[str, Tensor], Tensor]


def as_it_is(name: str, value: Tensor) -> Tensor:
    return value


def held(scales: Mapping[str, float]) -> Steady:
    """What takes those numbers for every picture: for the slices of a volume, which share them."""
    return lambda name, value: torch.full_like(value, scales[name]) if name in scales else value
