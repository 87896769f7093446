"""The sampling loop: prior, likelihood and scheduler take turns, once a step (paper, algorithm 1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from ddfm.errors import InputError
from ddfm.likelihoods.base import DataTerm
from ddfm.sampling.schedulers import DDIM, Generators, SchedulerFactory
from ddfm.threads import fair_threads, follow_load
from ddfm.timing import STEP, STEPS, stage

if TYPE_CHECKING:
    from ddfm.priors.base import Prior


@dataclass(frozen=True)
class Step:
    """Tell what one sampling step did; images are (B, C, H, W) in [-1, 1] up to noise.

    Attributes:
        index: 0 for the first step, ``steps`` - 1 for the last.
        timestep: index of the noise level among the prior's.
        prediction: the prior's estimate of the clean image, before the likelihood.
        rectified: the same after the likelihood.
        sample: the noisy image that the next step starts from; at the last one the result.
    """

    index: int
    timestep: int
    prediction: Tensor
    rectified: Tensor
    sample: Tensor


class Sampler(Protocol):
    """Draw a fused image; `sample` is one, and another can take its place."""

    def __call__(
        self,
        prior: Prior,
        likelihood: DataTerm,
        f: Tensor,
        timesteps: Tensor,
        *,
        scheduler: SchedulerFactory = ...,
        keep_noise: bool = ...,
        generator: Generators = ...,
        shown: Callable[[Tensor], Tensor] = ...,
        callback: Callable[[Step], None] = ...,
    ) -> Tensor:
        """Draw as `sample` does."""
        ...


def spaced_timesteps(first: int, last: int, steps: int) -> Tensor:
    """Return ``steps`` timesteps from ``first`` evenly down to ``last``, rounded.

    With T - 1 and 0 they are the released code's re-spacing.
    """
    return torch.linspace(first, last, steps, dtype=torch.float64).round().long()


def signal_share(sigma: Tensor) -> Tensor:
    """Return abar = 1 / (1 + sigma^2), the share of the variance that is signal; float64."""
    return 1 / (1 + sigma.double() ** 2)


@stage(STEPS)
@fair_threads()
@torch.inference_mode()
def sample(
    prior: Prior,
    likelihood: DataTerm,
    f: Tensor,
    timesteps: Tensor,
    *,
    scheduler: SchedulerFactory = DDIM,
    keep_noise: bool = False,
    generator: Generators = None,
    shown: Callable[[Tensor], Tensor] = lambda f: f,
    callback: Callable[[Step], None] = lambda step: None,
) -> Tensor:
    """Draw a fused image from p(f | sources).

    Args:
        prior: what natural images look like.
        likelihood: what the sources demand.
        f: the start, sqrt(abar) x_0 + sqrt(1 - abar) eps at the first timestep, (B, C, H, W) with the
            prior's C. At T - 1 it is as good as standard normal noise.
        timesteps: of the network evaluations, decreasing; see `spaced_timesteps`.
        scheduler: makes a `Scheduler` for abar of the steps.
        keep_noise: step on with the noise that the prior saw in f. Otherwise, as in the released code,
            with what the rectified estimate leaves of f: then the sources' details count as noise, and
            some of them are lost.
        generator: noise source of a stochastic scheduler (DDPM), or one for each image.
        shown: makes of f what the prior is shown of it (`ddfm.likelihoods.frames`).
        callback: called after every step.

    Returns:
        The last sample, shape of ``f``; its luminance is the likelihood's last word.

    Raises:
        InputError: prior or likelihood returned values that are not finite.
    """
    sigmas = prior.sigmas[timesteps]
    alphas_cumprod = signal_share(sigmas)
    process = scheduler(alphas_cumprod)
    steps = zip(timesteps.tolist(), sigmas.tolist(), alphas_cumprod.sqrt().tolist(), strict=True)
    for index, (timestep, sigma, signal) in enumerate(steps):
        follow_load()
        with stage(f"{STEP}{index + 1}"):
            # 1. The prior: E[f_0 | f_t] from one network evaluation.
            prediction = prior.denoise(shown(f) / signal, sigma).clamp(-1, 1)
            # 2. The likelihood: one EM iteration on its luminance (paper, section 3.2).
            with stage("likelihood"):
                rectified = likelihood.rectify(prediction)
            # 3. On to f_{t-1}; at the last step that is the rectified estimate itself. A scheduler takes
            #    what f has beyond sqrt(abar) times that estimate for noise; f moves along with the
            #    estimate if the noise is to stay.
            with stage("scheduler"):
                if keep_noise:
                    f = torch.add(f, rectified - prediction, alpha=signal)
                f = process.step(rectified, index, f, generator)
        callback(Step(index, timestep, prediction, rectified, f))
        del prediction, rectified  # not to be held, if they are large, during the next evaluation
    check_finite(f, "sampling")
    return f


def check_finite(image: Tensor, where: str) -> None:
    """Raise InputError, naming the stage, if the image holds values that are not finite."""
    if image.device.type != "meta" and not bool(image.isfinite().all()):
        raise InputError(
            f"{where}: the prior or the likelihood returned values that are not finite; another prior, "
            "or --dtype float32, may mend it"
        )
