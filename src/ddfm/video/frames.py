"""Fusing the planes of frames: luma by `steady.SteadyFusion`, chroma by the rule for pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ddfm.fusion.restore import chroma_weights, fused_chroma
from ddfm.likelihoods.hierarchical import HierarchicalLikelihood
from ddfm.likelihoods.tasks import Task
from ddfm.noise.level import GREY_LEVEL
from ddfm.noise.missing import Holes
from ddfm.pictures.colour import chroma_kept
from ddfm.pictures.holes import filled_from_around
from ddfm.video.planes import RED_AND_BLUE, RED_AND_BLUE_BT601, Planes, is_coloured
from ddfm.video.steady import NoiseLevels, Prepared, SteadyFusion, TimeFilter

# R - Y and B - Y for Cr and Cb of one, by BT.601. Which matrix it really is does not matter for the choice
# between the sources' chroma.
RED, BLUE = 1 - RED_AND_BLUE_BT601[0], 1 - RED_AND_BLUE_BT601[1]
# R - Y, G - Y and B - Y from Cb and Cr, in [-1, 1].
TO_DIFFERENCES = ((0.0, RED), (-0.17207, -0.35707), (BLUE, 0.0))


class PreparedFrame(NamedTuple):
    """The sources' planes as they came; their luma and, of those in colour, their chroma without noise."""

    sources: Sequence[Planes]
    luma: Prepared
    chroma: dict[int, Tensor]


class FrameFusion:
    """Planes of the sources' frames to planes of fused ones.

    As of `SteadyFusion`, `prepare` and `fuse` know nothing of each other's state.
    """

    def __init__(self, task: Task, steady: SteadyFusion) -> None:
        self.task, self.steady = task, steady
        self.colours: dict[int, SteadyColour] = {}
        self.time: float | None = None
        self.groups: list[int] | None = None

    @property
    def noise(self) -> list[float] | None:
        """Return the noise of each source, in 8-bit grey levels."""
        level = self.steady.levels.level
        if not isinstance(self.steady.noise, str):
            return list(self.steady.noise)
        return None if level is None else [round(sigma / GREY_LEVEL, 2) for sigma in level.tolist()]

    def prepare(self, sources: Sequence[Planes], time: float) -> PreparedFrame:
        """Clean the frames of one time, in seconds; may run in a thread of its own."""
        seconds = 0.0 if self.time is None else time - self.time
        self.time = time
        groups = [source.group for source in sources]
        recoded = [new != old for new, old in zip(groups, self.groups or groups, strict=True)]
        self.groups = groups
        luma = self.steady.prepare(torch.cat([source.luma for source in sources], 1), seconds, recoded)
        chroma = {
            k: source.chroma
            for k, source in enumerate(sources)
            if source.chroma is not None and is_coloured(source.chroma)
        }
        if self.steady.holes is not None:
            chroma = {k: chroma_completed(part, self.steady.holes[k]) for k, part in chroma.items()}
        if self.steady.noise != "off":
            chroma = {
                k: self.colours.setdefault(k, SteadyColour())(part, seconds, recoded[k])
                for k, part in chroma.items()
            }
        return PreparedFrame(sources, luma, chroma)

    def fuse(self, frame: PreparedFrame, matrix: int) -> Planes:
        """Fuse a prepared frame, with colours of that matrix and luma in [0, 1]."""
        luma, likelihood = self.steady.combine(frame.luma)
        if not frame.chroma:
            return Planes(luma, None)
        if len(frame.chroma) == 1 and self.task.chroma != "exposure":
            ((k, mixed),) = frame.chroma.items()
            if self.task.chroma_noise:
                mixed = faded(mixed, (frame.sources[k].luma + 1) / 2, luma, self.task.chroma_noise)
        else:
            mixed = blended(frame.chroma, frame.sources, luma, likelihood, self.task)
        return Planes(luma, within_gamut(luma, mixed, matrix))


class SteadyColour:
    """Noise of a source's chroma averaged away over time, as that of its luma."""

    def __init__(self) -> None:
        self.levels, self.filter = NoiseLevels(), TimeFilter()

    def __call__(self, chroma: Tensor, seconds: float, recoded: bool) -> Tensor:
        return self.filter(chroma, self.levels(chroma, seconds), [recoded])


def chroma_completed(chroma: Tensor, holes: Holes) -> Tensor:
    """Return Cb and Cr, (1, 2, h, w), with what is missing filled from around."""
    missing = F.adaptive_max_pool2d(1 - holes.known.to(chroma), chroma.shape[-2:])
    return filled_from_around(chroma, 1 - missing)


def blended(
    chroma: dict[int, Tensor],
    sources: Sequence[Planes],
    luma: Tensor,
    likelihood: HierarchicalLikelihood,
    task: Task,
) -> Tensor:
    """Blend several chromas into one by the rule for pictures (`fused_chroma`), which takes RGB."""
    size = (luma.shape[-2], luma.shape[-1])
    images = {}
    for k, part in chroma.items():
        full = F.interpolate(part, size, mode="bilinear", align_corners=False)
        images[k] = (sources[k].luma + 1) / 2 + as_differences(full)
    weights = chroma_weights(images, likelihood, 0, task)
    differences = fused_chroma(list(images.values()), luma, weights, task)
    mixed = torch.stack([differences[:, 2] / BLUE, differences[:, 0] / RED], 1)
    smallest = next(iter(chroma.values()))
    return mixed if smallest.shape[-2:] == luma.shape[-2:] else F.avg_pool2d(mixed, 2)


def faded(chroma: Tensor, own: Tensor, luma: Tensor, noise: float) -> Tensor:
    """Shrink the chroma of what is brightened, as `ddfm.pictures.colour.chroma_kept` says."""
    if chroma.shape[-2:] != luma.shape[-2:]:
        own, luma = F.avg_pool2d(own, 2), F.avg_pool2d(luma, 2)
    return chroma * chroma_kept(as_differences(chroma), own, luma, noise)


def as_differences(chroma: Tensor) -> Tensor:
    """Turn Cb and Cr in [-1, 1], (B, 2, h, w), into R - Y, G - Y, B - Y."""
    return torch.einsum("dc,bchw->bdhw", chroma.new_tensor(TO_DIFFERENCES), chroma)


def within_gamut(luma: Tensor, chroma: Tensor, matrix: int) -> Tensor:
    """Scale chroma to fit the luma, as `ddfm.pictures.colour.combine` does: hue and luma are kept."""
    red, blue = RED_AND_BLUE.get(matrix, RED_AND_BLUE_BT601)
    r, b = (1 - red) * chroma[:, 1:], (1 - blue) * chroma[:, :1]
    g = -(red * r + blue * b) / (1 - red - blue)
    if chroma.shape[-2:] != luma.shape[-2:]:
        luma = F.avg_pool2d(luma, 2)
    highest = torch.maximum(torch.maximum(r, b), g).clamp_min(GREY_LEVEL)
    lowest = torch.minimum(torch.minimum(r, b), g).clamp_max(-GREY_LEVEL)
    return chroma * torch.minimum((1 - luma) / highest, luma / -lowest).clamp(0, 1)
