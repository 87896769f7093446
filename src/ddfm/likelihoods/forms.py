"""The forms of the likelihood, and what the rest of the program has to know of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ddfm.errors import InputError
from ddfm.likelihoods.base import Likelihood
from ddfm.likelihoods.hierarchical import HierarchicalLikelihood
from ddfm.likelihoods.numbers import task_numbers
from ddfm.likelihoods.paper import PaperLikelihood
from ddfm.likelihoods.released import ReleasedLikelihood
from ddfm.likelihoods.tasks import Task
from ddfm.likelihoods.tiled import TiledLikelihood, is_large


class MakeLikelihood(Protocol):
    """Make a likelihood of sources; a class with such a constructor will do."""

    def __call__(self, sources: Sequence[Tensor], noise: Sequence[Tensor], task: Task, /) -> Likelihood:
        """Return the likelihood.

        Args:
            sources: their luminances, (B, 1, H, W) in [-1, 1] each.
            noise: the standard deviation of the noise left in each, (B,).
            task: the constants for sources of this kind.
        """
        ...


class MakeWithHoles(Protocol):
    """Make a likelihood of sources that may lack pixels."""

    def __call__(
        self,
        sources: Sequence[Tensor],
        noise: Sequence[Tensor],
        task: Task,
        shown: Sequence[Tensor] | None,
        /,
    ) -> Likelihood:
        """Return the likelihood, as `MakeLikelihood` does.

        ``shown`` is how far each source shows a pixel, (B, 1, H, W) in [0, 1]; None if all are whole.
        """
        ...


@dataclass(frozen=True)
class Form:
    """Hold a likelihood, and what the rest has to know of it.

    Attributes:
        name: what results and messages call it.
        make: makes the likelihood of sources that are whole.
        steps: network evaluations by default.
        least_steps: the fewest; 0 if the likelihood's start is a result by itself.
        most_sources: the most it takes; None for any number.
        warm: whether sampling starts from `likelihood.start`, and steps on with the prior's noise.
        symmetric: whether the order of the sources does not matter, so that they may be sorted.
        denoises: whether noisy sources are denoised before, unless the user or the task says otherwise.
        tasks: whether it depends on the task, so that task "auto" has to be found out.
        with_holes: makes it of sources that lack pixels; None if ``make`` is to take what stands in for
            missing pixels for the source itself.
        in_parts: makes the likelihood of a large picture part by part; None if there is no such way.
    """

    name: str
    make: MakeLikelihood
    steps: int = 100
    least_steps: int = 1
    most_sources: int | None = 2
    warm: bool = False
    symmetric: bool = False
    denoises: bool = False
    tasks: bool = False
    with_holes: MakeWithHoles | None = None
    in_parts: MakeWithHoles | None = None

    def likelihood(
        self,
        sources: Sequence[Tensor],
        noise: Sequence[Tensor],
        task: Task,
        whole: bool = False,
        shown: Sequence[Tensor] | None = None,
    ) -> Likelihood:
        """Return the likelihood of these sources; of large ones part by part, unless ``whole`` is asked."""
        if self.in_parts and is_large(*sources[0].shape[-2:]) and not whole:
            return self.in_parts(sources, noise, task, shown)
        if self.with_holes and shown is not None:
            return self.with_holes(sources, noise, task, shown)
        return self.make(sources, noise, task)


def _hierarchical(
    sources: Sequence[Tensor], noise: Sequence[Tensor], task: Task, shown: Sequence[Tensor] | None = None
) -> Likelihood:
    return HierarchicalLikelihood(sources, noise, task, steady=task_numbers(task), shown=shown)


def _tiled(
    sources: Sequence[Tensor], noise: Sequence[Tensor], task: Task, shown: Sequence[Tensor] | None
) -> Likelihood:
    return TiledLikelihood(sources, noise, task, steady=task_numbers(task), shown=shown)


def _paper(sources: Sequence[Tensor], noise: Sequence[Tensor], task: Task) -> Likelihood:
    infrared, visible = sources
    return PaperLikelihood(infrared, visible)


def _released(sources: Sequence[Tensor], noise: Sequence[Tensor], task: Task) -> Likelihood:
    infrared, visible = sources
    return ReleasedLikelihood(infrared, visible)


# The two older forms get one EM iteration a step and no other. Fewer steps than the released code's leave
# them short of their fixed point (benchmarks/results/released_steps.csv).
FORMS = {
    form.name: form
    for form in (
        Form(
            "ddfm",
            _hierarchical,
            steps=3,
            least_steps=0,
            most_sources=None,
            warm=True,
            symmetric=True,
            denoises=True,
            tasks=True,
            with_holes=_hierarchical,
            in_parts=_tiled,
        ),
        Form("paper", _paper),
        Form("released", _released),
    )
}


def named_form(form: str | Form) -> Form:
    """Return the form of that name, or the form itself. Raises InputError for an unknown name."""
    if isinstance(form, Form):
        return form
    if form not in FORMS:
        raise InputError(f"form {form!r}: not one of {', '.join(FORMS)}")
    return FORMS[form]
