"""The forms of the likelihood by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from ddfm.likelihoods.base import Likelihood
from ddfm.likelihoods.hierarchical import HierarchicalLikelihood
from ddfm.likelihoods.numbers import held
from ddfm.likelihoods.paper import PaperLikelihood
from ddfm.likelihoods.released import ReleasedLikelihood
from ddfm.likelihoods.tasks import Task
from ddfm.likelihoods.tiled import TiledLikelihood, is_large
from ddfm.pictures.tiles import Tile


def _paper(sources: Sequence[Tensor], noise: Sequence[Tensor], task: Task) -> Likelihood:
    infrared, visible = sources
    return PaperLikelihood(infrared, visible)


def _released(sources: Sequence[Tensor], noise: Sequence[Tensor], task: Task) -> Likelihood:
    infrared, visible = sources
    return ReleasedLikelihood(infrared, visible)


FORMS: dict[str, Callable[[Sequence[Tensor], Sequence[Tensor], Task], Likelihood]] = {
    "ddfm": HierarchicalLikelihood,
    "paper": _paper,
    "released": _released,
}
"""Each from luminances (B, 1, H, W), the noise left in them, (B,), and what kind of sources they are; the
older two know nothing of noise and tasks."""


def likelihood_of(
    form: str,
    sources: Sequence[Tensor],
    noise: Sequence[Tensor],
    task: Task,
    tile: Tile,
    scales: Mapping[str, float] | None = None,
) -> Likelihood:
    """The likelihood in that form; of large pictures part by part, unless ``tile`` forbids it."""
    if form != "ddfm":
        return FORMS[form](sources, noise, task)
    if tile != "off" and is_large(*sources[0].shape[-2:]):
        return TiledLikelihood(sources, noise, task, steady=held(scales or {}))
    return HierarchicalLikelihood(sources, noise, task, steady=held(scales or {}))
