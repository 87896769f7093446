"""What a fused luminance needs to be a picture again: chroma, and what the sources have besides pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddfm.errors import InputError
from ddfm.likelihoods.base import Choosing, Likelihood
from ddfm.likelihoods.tasks import Task
from ddfm.noise.camera import colour_noise
from ddfm.noise.clean import clean_source
from ddfm.pictures.colour import (
    blend_chroma,
    blend_exposed_chroma,
    chroma_kept,
    combine,
    combine_exposed,
    luminance,
)
from ddfm.pictures.image import Image, first_colour
from ddfm.pictures.tiles import spans

if TYPE_CHECKING:
    from ddfm.fusion.prepare import OrderedScene
    from ddfm.priors.base import Prior

STRIP = 64  # rows that chroma is blended in, so that what it takes stays in a processor's cache
SMOOTH_STRIP, SMOOTH_OVERLAP = 512, 64  # where something is smoothed across the borders


def with_chroma(
    coloured: Mapping[int, Tensor], luma: Tensor, likelihood: Likelihood, n: int, task: Task
) -> Tensor:
    """Return the fused picture in colour, (1, 3, H, W): its chroma by the task's rule.

    Args:
        coloured: (1, 3, H, W) each, by their place among the likelihood's sources.
        luma: the fused luminance, (1, 1, H, W).
        likelihood: of all sources.
        n: which picture of the likelihood's batch this is.
        task: what rule it is: by saturation, by exposure, or of the source that was chosen.
    """
    weights = chroma_weights(coloured, likelihood, n, task)
    side, overlap = strip_of(task)
    finish = combine_exposed if task.chroma == "exposure" else combine
    result = luma.new_empty(1, 3, *luma.shape[-2:])
    for strip in spans(luma.shape[-2], side, overlap, max(overlap, 1)):
        y = luma[..., strip.all, :]
        # Pictures come pixel by pixel, with their channels side by side; plane by plane is quicker.
        images = [image[..., strip.all, :].contiguous() for image in coloured.values()]
        chroma = fused_chroma(images, y, weights and [weight[..., strip.all, :] for weight in weights], task)
        made = finish(y, chroma, task.least_chroma)
        result[..., strip.own, :] = made[..., strip.own_within, :]
    return result


def strip_of(task: Task) -> tuple[int, int]:
    """Return how many rows a strip of chroma has, and how many of them its neighbours share."""
    smooth = task.chroma == "exposure" or task.chroma_noise > 0
    return (SMOOTH_STRIP, SMOOTH_OVERLAP) if smooth else (STRIP, 0)


def chroma_weights(
    coloured: Mapping[int, Tensor], likelihood: Likelihood, n: int, task: Task
) -> list[Tensor] | None:
    """Weigh the sources in colour, (1, 1, H, W) each, if the task has one chosen; see `with_chroma`."""
    if task.chroma == "choice" and isinstance(likelihood, Choosing):
        choice = likelihood.choice()[n : n + 1]
        return [choice[:, k : k + 1] for k in coloured]
    return None


def source_map(likelihood: Likelihood, scene: OrderedScene, n: int) -> NDArray[np.uint8]:
    """Return which source has the largest weight at each pixel, (H, W), counted from 1 as they were given.

    Raises InputError if the likelihood, one of the user's own, does not tell.
    """
    if not isinstance(likelihood, Choosing):
        raise InputError(f"source map: {type(likelihood).__name__} has no method choice() that would tell it")
    place = likelihood.choice()[n].argmax(0).cpu().numpy()
    return (np.array(scene.order, np.uint8) + 1)[place]


def fused_chroma(
    images: Sequence[Tensor], luma: Tensor, weights: Sequence[Tensor] | None, task: Task
) -> Tensor:
    """Fuse the chroma by the task's rule, (1, 3, H, W): by saturation, exposure or the weights given."""
    if task.chroma == "exposure":
        return blend_exposed_chroma(images, luma)
    chroma = blend_chroma(images, weights)
    if task.chroma_noise:
        seen = torch.stack([luminance(image) for image in images]).amax(0)
        chroma = chroma * chroma_kept(chroma, seen, luma, task.chroma_noise)
    return chroma


def without_noise(
    image: Tensor, model: Callable[[], Prior], level: Tensor | Literal["auto", "off"], n: int
) -> Tensor:
    """Denoise each channel of a colour image (1, 3, H, W) in [0, 1], for its chroma."""
    level = level if isinstance(level, str) else level[n].expand(3)
    channels = clean_source(2 * image.movedim(1, 0) - 1, model, level, colour_noise(image).expand(3)).luma
    return ((channels.movedim(0, 1) + 1) / 2).clamp(0, 1)


def template(scene: Sequence[Image], colour_from: int | None = None) -> Image:
    """Return the source whose depth and range the result has: the first, as a rule.

    But raw counts or temperatures are no unit for colours: of a grey source in those and one in colour it
    is the latter.
    """
    first, colour = scene[0], colour_source(scene, colour_from)
    return colour if colour.is_colour and not first.is_colour and not first.is_display else first


def colour_source(scene: Sequence[Image], colour_from: int | None) -> Image:
    """Return the source whose colour profile the result has."""
    return first_colour(scene) if colour_from is None else scene[colour_from - 1]


def restored(fused: Tensor, scene: Sequence[Image], colour_from: int | None) -> Image:
    """Return the fused picture (1, C, H, W) with the alpha, profile and resolution of the sources."""
    return replace(
        template(scene, colour_from),
        pixels=fused[0].movedim(0, -1).cpu().numpy(),
        alpha=next((source.alpha for source in scene if source.alpha is not None), None),
        icc_profile=colour_source(scene, colour_from).icc_profile if fused.shape[1] == 3 else None,
        name="fused",
    )
