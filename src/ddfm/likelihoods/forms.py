"""The forms of the likelihood, and what the rest of the program has to know of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from ddfm.errors import InputError
from ddfm.likelihoods.base import Likelihood
from ddfm.likelihoods.hierarchical import HierarchicalLikelihood
from ddfm.likelihoods.numbers import task_numbers
from ddfm.likelihoods.paper import PaperLikelihood
from ddfm.likelihoods.released import ReleasedLikelihood
from ddfm.likelihoods.tasks import Task
from ddfm.likelihoods.tiled import TiledLikelihood, is_large

# Makes a likelihood from the luminances, (B, 1, H, W) in [-1, 1] each, the standard deviation of the noise
# left in each, (B,), the task and, if the form says so, how far each source shows a pixel.
MakeLikelihood = Callable[..., Likelihood]


@dataclass(frozen=True)
class Form:
    """Hold a likelihood, and what the rest has to know of it.

    Attributes:
        name: what results and messages call it.
        make: makes the likelihood; a class with that constructor will do.
        steps: network evaluations by default.
        least_steps: the fewest; 0 if the likelihood's start is a result by itself.
        most_sources: the most it takes; None for any number.
        warm: whether sampling starts from `likelihood.start`, and steps on with the prior's noise.
        symmetric: whether the order of the sources does not matter, so that they may be sorted.
        denoises: whether noisy sources are denoised before, unless the user or the task says otherwise.
        tasks: whether it depends on the task, so that task "auto" has to be found out.
        knows_holes: whether ``make`` takes ``shown``, (B, 1, H, W) in [0, 1] for each source; others take
            what stands in for missing pixels for the source itself.
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
    knows_holes: bool = False
    in_parts: MakeLikelihood | None = None

    def likelihood(
        self,
        sources: Sequence[Tensor],
        noise: Sequence[Tensor],
        task: Task,
        whole: bool = False,
        shown: Sequence[Tensor] | None = None,
    ) -> Likelihood:
        """Return the likelihood of these sources; of large ones part by part, unless ``whole`` is asked."""
        in_parts = self.in_parts if is_large(*sources[0].shape[-2:]) and not whole else None
        make = in_parts or self.make
        if shown is None or not self.knows_holes:
            return make(sources, noise, task)
        return make(sources, noise, task, shown=shown)


def _hierarchical(
    sources: Sequence[Tensor], noise: Sequence[Tensor], task: Task, shown: Sequence[Tensor] | None = None
) -> Likelihood:
    return HierarchicalLikelihood(sources, noise, task, steady=task_numbers(task), shown=shown)


def _tiled(
    sources: Sequence[Tensor], noise: Sequence[Tensor], task: Task, shown: Sequence[Tensor] | None = None
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
            steps=5,
            least_steps=0,
            most_sources=None,
            warm=True,
            symmetric=True,
            denoises=True,
            tasks=True,
            knows_holes=True,
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
