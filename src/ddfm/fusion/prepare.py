"""Prepare the sources: luminance in [-1, 1], without noise, stacked by size."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ddfm.fusion.options import Noise
from ddfm.noise.clean import Cleaned, clean_source
from ddfm.noise.level import GREY_LEVEL
from ddfm.pictures.colour import luminance
from ddfm.pictures.image import Image

if TYPE_CHECKING:
    from ddfm.priors.diffusion import Prior


class Stack(NamedTuple):
    """Scenes of one size, whose K luminances are stacked.

    Attributes:
        places: of the scenes among all.
        noisy: the luminances as they came, (B, 1, H, W) in [-1, 1] each.
        levels: the noise in each that `clean_source` was told.
        cleaned: what it made of them.
    """

    places: list[int]
    noisy: list[Tensor]
    levels: list[Tensor | Literal["auto", "off"]]
    cleaned: list[Cleaned]


def by_size(scenes: Sequence[Sequence[Image]]) -> list[list[int]]:
    """The places of the scenes of each size."""
    places: dict[tuple[int, int], list[int]] = {}
    for place, scene in enumerate(scenes):
        places.setdefault(scene[0].size, []).append(place)
    return list(places.values())


def prepared(
    places: list[int],
    pixels: Sequence[Sequence[Tensor]],
    orders: Sequence[Sequence[int]],
    noise: Noise,
    model: Callable[[], Prior],
) -> Stack:
    """The scenes at these places, which are of one size; pixels are (1, C, H, W) in [0, 1]."""
    noisy = [
        torch.cat([luminance(image) for image in source]).mul_(2).sub_(1)
        for source in zip(*(pixels[place] for place in places), strict=True)
    ]
    levels = [
        noise
        if isinstance(noise, str)
        else GREY_LEVEL * torch.tensor([noise[orders[place][k]] for place in places])
        for k in range(len(noisy))
    ]
    cleaned = [clean_source(luma, model, level) for luma, level in zip(noisy, levels, strict=True)]
    return Stack(places, noisy, levels, cleaned)


def order_of_contents(scene: Sequence[Image]) -> list[int]:
    """The sources' places in an order that depends on their pixels alone: sums round the same then."""
    return sorted(range(len(scene)), key=lambda k: zlib.crc32(np.ascontiguousarray(scene[k].pixels).data))


def in_given_order(levels: Sequence[Tensor], order: Sequence[int]) -> list[float]:
    """In grey levels, of each given source; from those of the ordered ones."""
    return [round(levels[order.index(k)].item() / GREY_LEVEL, 2) for k in range(len(levels))]


def as_tensor(image: Image) -> Tensor:
    """(1, C, H, W) in [0, 1]."""
    return torch.from_numpy(image.pixels).movedim(-1, 0)[None]
