"""Prepare the sources: luminance in [-1, 1], without noise, stacked by size."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from ddfm.fusion.masks import as_plane, gone_from, known_of
from ddfm.fusion.sources import as_tensor
from ddfm.noise.camera import colour_noise
from ddfm.noise.clean import Cleaned, clean_source, fill_source, sharpen_source
from ddfm.noise.edges import estimate_blur
from ddfm.noise.level import GREY_LEVEL
from ddfm.noise.missing import Holes
from ddfm.pictures.colour import luminance
from ddfm.pictures.image import Image

if TYPE_CHECKING:
    from ddfm.fusion.options import Blurs, NoiseLevels
    from ddfm.noise.posterior import Denoiser

Level = Tensor | Literal["auto", "off"]


@dataclass(frozen=True)
class OrderedScene:
    """Hold one scene's sources, in an order that is not that of the arguments.

    Attributes:
        number: its place among all scenes.
        given: the sources in their given order.
        order: for each source here, its place among the given ones.
        pixels: each source, (1, C, H, W) in [0, 1], where it will be computed with.
    """

    number: int
    given: Sequence[Image]
    order: list[int]
    pixels: list[Tensor]

    @classmethod
    def of(
        cls,
        number: int,
        given: Sequence[Image],
        symmetric: bool,
        thermal_first: bool,
        device: torch.device,
    ) -> OrderedScene:
        """Return the scene, its sources sorted by their contents if the form is symmetric in them.

        With ``thermal_first`` the thermal one comes before all others.
        """
        order = order_of_contents(given) if symmetric else list(range(len(given)))
        if thermal_first:
            order.sort(key=lambda k: k != thermal(given))
        return cls(number, given, order, [as_tensor(given[k]).to(device) for k in order])

    def coloured(self, colour_from: int | None) -> list[int]:
        """Return the places of the sources whose chroma counts; ``colour_from`` names one, from 1."""
        return [
            k
            for k, source in enumerate(self.order)
            if self.given[source].is_colour and colour_from in (None, source + 1)
        ]

    def in_given_order(self, values: Iterable[float]) -> list[float]:
        """Return one value for each source here, rounded for a result's settings, in the given order."""
        rounded = [round(value, 2) for value in values]
        return [rounded[self.order.index(k)] for k in range(len(rounded))]


@dataclass(frozen=True)
class PreparedScenes:
    """Hold scenes of one size, whose K luminances are stacked.

    Attributes:
        scenes: which scenes.
        noisy: the luminances as they came, (B, 1, H, W) in [-1, 1] each.
        levels: the noise in each that `clean_source` was given.
        cleaned: what it made of them.
    """

    scenes: list[OrderedScene]
    noisy: list[Tensor]
    levels: list[Level]
    cleaned: list[Cleaned]

    @property
    def lumas(self) -> list[Tensor]:
        """Return the luminances without noise."""
        return [source.luma for source in self.cleaned]

    @property
    def residual_noise(self) -> list[Tensor]:
        """Return the standard deviation of the noise left in each, (B,)."""
        return [source.residual_noise for source in self.cleaned]

    @property
    def shown(self) -> list[Tensor] | None:
        """Return how far each source shows a pixel, (B, 1, H, W); None if none gives way to another one."""
        holes = [source.holes for source in self.cleaned]
        if all(each is None or not each.gone.any() for each in holes):
            return None
        return [
            torch.ones_like(source.luma) if source.holes is None else source.holes.shown
            for source in self.cleaned
        ]


def thermal(given: Sequence[Image]) -> int:
    """Return which source is the thermal one: the first grey one beside any in colour, else the first."""
    if not any(source.is_colour for source in given):
        return 0
    return next((k for k, source in enumerate(given) if not source.is_colour), 0)


def by_size(scenes: Sequence[OrderedScene]) -> list[list[OrderedScene]]:
    """Return the scenes of each size."""
    sizes: dict[tuple[int, int], list[OrderedScene]] = {}
    for scene in scenes:
        sizes.setdefault(scene.given[0].size, []).append(scene)
    return list(sizes.values())


def prepare_scenes(
    scenes: list[OrderedScene], noise: NoiseLevels, deblur: Blurs, prior: Callable[[], Denoiser]
) -> PreparedScenes:
    """Return scenes of one size with their luminances stacked, denoised and sharpened."""
    noisy = [
        torch.cat([luminance(image) for image in source]).mul_(2).sub_(1)
        for source in zip(*(scene.pixels for scene in scenes), strict=True)
    ]
    levels: list[Level] = [
        noise
        if isinstance(noise, str)
        else GREY_LEVEL * torch.tensor([noise[scene.order[k]] for scene in scenes])
        for k in range(len(noisy))
    ]
    colours = [
        torch.cat([colour_noise(scene.pixels[k]) for scene in scenes]) if level == "auto" else None
        for k, level in enumerate(levels)
    ]
    holes = holes_of(scenes)
    cleaned = [
        clean_source(luma if absent is None else absent.painted(luma), prior, level, colour)
        for luma, absent, level, colour in zip(noisy, holes, levels, colours, strict=True)
    ]
    cleaned = [
        clean if absent is None else fill_source(luma, clean, prior, absent)
        for luma, clean, absent in zip(noisy, cleaned, holes, strict=True)
    ]
    if deblur != "off":
        blurs = [
            blur_of(luma, clean)
            if deblur == "auto"
            else torch.tensor([float(deblur[scene.order[k]]) for scene in scenes])
            for k, (luma, clean) in enumerate(zip(noisy, cleaned, strict=True))
        ]
        cleaned = [
            sharpen_source(luma, clean, prior, blur)
            for luma, clean, blur in zip(noisy, cleaned, blurs, strict=True)
        ]
    return PreparedScenes(scenes, noisy, levels, cleaned)


def blur_of(luma: Tensor, clean: Cleaned) -> Tensor:
    """Return the blur of each picture as its edges tell it, in pixels, (B,); 0 for those that are sharp."""
    noise = clean.measured_noise.tolist()
    return torch.tensor(
        [estimate_blur(image, sigma) for image, sigma in zip(luma.split(1), noise, strict=True)]
    )


def holes_of(scenes: Sequence[OrderedScene]) -> list[Holes | None]:
    """Return what is missing of each source of scenes of one size; None where nothing is."""
    count, device = len(scenes[0].given), scenes[0].pixels[0].device
    if all(source.known is None for scene in scenes for source in scene.given):
        return [None] * count
    known = [[known_of(scene.given[k]) for k in scene.order] for scene in scenes]
    gone = [gone_from(each) for each in known]
    return [
        Holes(
            torch.cat([as_plane(each[k]) for each in known]).to(device),
            torch.cat([each[k].float() for each in gone]).to(device),
        )
        for k in range(count)
    ]


def order_of_contents(scene: Sequence[Image]) -> list[int]:
    """Return the sources' places in an order that depends on their pixels alone.

    Sums round the same then, in whatever order the sources were given.
    """
    return sorted(range(len(scene)), key=lambda k: zlib.crc32(np.ascontiguousarray(scene[k].pixels).data))
