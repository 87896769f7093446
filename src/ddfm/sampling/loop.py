"""The sampling loop: prior, likelihood and scheduler take turns, once a step (paper, algorithm 1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ddfm.likelihoods.base import DataTerm
from ddfm.priors.diffusion import check_finite
from ddfm.sampling.schedulers import SCHEDULERS, Generators, SchedulerFactory
from ddfm.timing import STEP, STEPS, stage

if TYPE_CHECKING:
    from ddfm.priors.diffusion import Prior


@dataclass(frozen=True)
class Step:
    """What one sampling step did; images are (B, C, H, W) in [-1, 1] up to noise.

    Attributes:
        index: 0 for the first step, ``steps`` - 1 for the last.
        timestep: on the network's scale.
        prediction: the prior's estimate of the clean image, before the likelihood.
        rectified: the same after the likelihood.
        sample: the noisy image that the next step starts from; at the last one the result.
    """

    index: int
    timestep: int
    prediction: Tensor
    rectified: Tensor
    sample: Tensor


def spaced_timesteps(first: int, last: int, steps: int) -> Tensor:
    """``steps`` timesteps from ``first`` evenly down to ``last``, rounded (with T - 1 and 0 the released
    code's re-spacing)."""
    return torch.linspace(first, last, steps, dtype=torch.float64).round().long()


@stage(STEPS)
@torch.inference_mode()
def sample(
    prior: Prior,
    likelihood: DataTerm,
    f: Tensor,
    timesteps: Tensor,
    *,
    scheduler: str | SchedulerFactory = "ddim",
    keep_noise: bool = False,
    generator: Generators = None,
    shown: Callable[[Tensor], Tensor] = lambda f: f,
    callback: Callable[[Step], None] = lambda step: None,
) -> Tensor:
    """Draw a fused image from p(f | sources).

    Args:
        prior: what natural images look like.
        likelihood: what the sources demand.
        f: the start, an image with the noise of the first timestep (at T - 1, as good as standard
            normal noise), shape (B, C, H, W) with the prior's C.
        timesteps: of the network evaluations, decreasing; see `spaced_timesteps`.
        scheduler: a name in `SCHEDULERS`, or what makes one of your own (`SchedulerFactory`). Its whole
            process is the given timesteps, as in the released code's SpacedDiffusion, so that the step
            sizes are exact.
        keep_noise: step on with the noise that the prior saw in f. Otherwise, as in the released code,
            with what the rectified estimate leaves of f: then the sources' details count as noise, and
            some of them are lost.
        generator: noise source of a stochastic scheduler (``"ddpm"``), or one for each image.
        shown: makes of f what the prior is shown of it (`ddfm.likelihoods.frames`).
        callback: called after every step.

    Returns:
        The last sample, shape of ``f``; its luminance is the likelihood's last word.
    """
    factory = SCHEDULERS[scheduler] if isinstance(scheduler, str) else scheduler
    process = factory(prior.alphas_cumprod[timesteps])
    for index, timestep in enumerate(timesteps.tolist()):
        with stage(f"{STEP}{index + 1}"):
            # 1. The prior: E[f_0 | f_t] from one network evaluation.
            alpha_cumprod = prior.alphas_cumprod[timestep]
            prediction = prior.predict_x0(shown(f), timestep, alpha_cumprod).clamp(-1, 1)
            # 2. The likelihood: one EM iteration on its luminance (paper, section 3.2).
            with stage("likelihood"):
                rectified = likelihood.rectify(prediction)
            # 3. On to f_{t-1}; at the last step that is the rectified estimate itself. A scheduler takes
            #    what f has beyond sqrt(abar) times that estimate for noise; f moves along with the
            #    estimate if the noise is to stay.
            with stage("scheduler"):
                if keep_noise:
                    f = torch.add(f, rectified - prediction, alpha=float(alpha_cumprod) ** 0.5)
                f = process.step(rectified, index, f, generator)
        callback(Step(index, timestep, prediction, rectified, f))
        del prediction, rectified  # not to be held, if they are large, during the next evaluation
    if f.device.type not in ("cpu", "meta"):  # on the CPU every evaluation was checked, on meta is nothing
        check_finite(f, prior.name, timesteps)
    return f
