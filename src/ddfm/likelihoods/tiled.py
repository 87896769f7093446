"""Pictures too large for one piece: the likelihood of `ddfm.likelihoods.hierarchical`, one part at a time.

What it says of a pixel depends on its neighbourhood, and on a few numbers about the whole picture. These
are found first; then each part is computed with so much around it that no pixel of the part itself can
tell. So the result is that of one piece, to rounding. Memory grows by a few planes of the picture; the
likelihood in one piece needs some thirty (benchmarks/large.py).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from types import EllipsisType

import torch
from torch import Tensor

from ddfm.likelihoods.contrast import finished
from ddfm.likelihoods.evidence import overall, structure
from ddfm.likelihoods.hierarchical import FOCUS_SCALES, HierarchicalLikelihood
from ddfm.likelihoods.numbers import GlobalNumber, Steady, as_it_is
from ddfm.likelihoods.tasks import Task
from ddfm.pictures.pyramid import reduce
from ddfm.pictures.tiles import tiles

SIDE = 2048  # of the parts, whose number grows where the margins are wide
MARGIN = 6  # around each part, in pixels of the coarsest scale: what is farther away changes no float


Part = tuple[EllipsisType, slice, slice]


def is_large(height: int, width: int) -> bool:
    """Tell whether a picture has more than one part."""
    return max(height, width) > SIDE


class TiledLikelihood:
    """`HierarchicalLikelihood` of sources of any size; built anew for each part, each time it is asked."""

    def __init__(
        self,
        sources: Sequence[Tensor],
        noise: Sequence[Tensor],
        task: Task,
        side: int = SIDE,
        steady: Steady = as_it_is,
        shown: Sequence[Tensor] | None = None,
    ) -> None:
        """Find the numbers about the whole picture, and the start.

        Args:
            sources: two or more luminances, each (B, 1, H, W) in [-1, 1].
            noise: standard deviation of what noise is left in each, in the same units, (B,).
            task: what kind of sources they are; see `ddfm.likelihoods.tasks.TASKS`.
            side: of the parts, without their margins.
            steady: as for `HierarchicalLikelihood`.
            shown: likewise.
        """
        self.sources, self.noise, self.task, self.side, self.shown = sources, noise, task, side, shown
        numbers = whole_numbers(sources, noise, task, shown)
        self.numbers = {number: steady(number, value) for number, value in numbers.items()}
        self.start = self._stitched(lambda likelihood, part: likelihood.start)

    def rectify(self, f0: Tensor) -> Tensor:
        """See `HierarchicalLikelihood.rectify`."""
        return self._stitched(lambda likelihood, part: likelihood.rectify(f0[part]))

    def finish(self, luma: Tensor, stretch: bool = True) -> Tensor:
        """See `HierarchicalLikelihood.finish`."""
        span = None
        if self.task.knee < 1:
            low, high = (functools.reduce(f, self.sources) for f in (torch.minimum, torch.maximum))
            span = low, high
        return finished(luma, self.task, stretch, self.numbers[GlobalNumber.TOGETHER], span=span)

    def choice(self) -> Tensor:
        """See `HierarchicalLikelihood.choice`."""
        return self._stitched(lambda likelihood, part: likelihood.choice())

    def _stitched(self, function: Callable[[HierarchicalLikelihood, Part], Tensor]) -> Tensor:
        """Return what ``function`` makes of each part's likelihood, without the margins, (B, C, H, W)."""
        height, width = self.sources[0].shape[-2:]
        scales = max(len(self.task.acutance), FOCUS_SCALES if self.task.sharpness else 0)
        coarsest = 2**scales  # pixels; parts start at multiples of it, since pyramids are not shift-invariant
        margin = MARGIN * coarsest
        result = torch.empty(0)
        for down, across in tiles(height, width, self.side + 2 * margin, 2 * margin, coarsest):
            part = (..., down.all, across.all)
            likelihood = HierarchicalLikelihood(
                [source[part] for source in self.sources],
                self.noise,
                self.task,
                steady=lambda number, value: self.numbers[number],
                shown=self.shown and [shown[part] for shown in self.shown],
            )
            made = function(likelihood, part)
            if not len(result):
                result = made.new_empty(*made.shape[:2], height, width)
            result[..., down.own, across.own] = made[..., down.own_within, across.own_within]
        return result


def whole_numbers(
    sources: Sequence[Tensor], noise: Sequence[Tensor], task: Task, shown: Sequence[Tensor] | None = None
) -> dict[GlobalNumber, Tensor]:
    """Return the numbers about the whole picture that `HierarchicalLikelihood` hands to ``steady``."""
    means = torch.cat([source.mean((1, 2, 3), keepdim=True) for source in sources], 1)
    centre = means.mean(1, keepdim=True)
    local = [reduce(source) for source in sources]
    energies = [(one - centre).square().mean((1, 2, 3), keepdim=True) for one in local]
    numbers = {
        GlobalNumber.CENTRE: centre,
        GlobalNumber.OWN_MEANS: means - centre,
        GlobalNumber.ENERGY: torch.cat(energies, 1).mean(1, keepdim=True),
        GlobalNumber.TOGETHER: torch.ones_like(centre),
    }
    if task.union is None:
        return numbers
    variances = [sigma.square()[:, None, None, None].to(centre) for sigma in noise]
    found = [structure(one, variance) for one, variance in zip(local, variances, strict=True)]
    seen = None if shown is None else reduce(torch.cat(list(shown), 1))
    numbers |= overall(torch.cat(found, 1), task.present, seen)
    return numbers | {GlobalNumber.TOGETHER: task.mixing * numbers[GlobalNumber.TOGETHER]}
