"""The sampling loop: prior, likelihood and scheduler take turns, once a step (paper, algorithm 1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ddfm.likelihoods.base import DataTerm
from ddfm.threads import fair_threads, follow_load
from ddfm.timing import STEP, STEPS, stage

if TYPE_CHECKING:
    from ddfm.priors.diffusion import Prior

# Classes of diffusers, which takes seconds to import: by name, so that checking options need not.
SCHEDULERS = {"ddim": "DDIMScheduler", "ddpm": "DDPMScheduler", "dpm++": "DPMSolverMultistepScheduler"}


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


def respaced_scheduler(name: str, alphas_cumprod: Tensor, timesteps: Tensor) -> Any:
    """A diffusers scheduler whose whole process is the given timesteps, counted down from N - 1.

    Cutting the process down to the steps taken (as the released SpacedDiffusion does) gives every
    scheduler the same, exact step sizes; diffusers' own spacings differ between schedulers. It is
    told the clean image, not the noise: that is what the likelihood has rectified.
    """
    import diffusers

    kept = alphas_cumprod[timesteps.flip(0)]
    betas = 1 - kept / torch.cat([kept.new_ones(1), kept[:-1]])
    scheduler = getattr(diffusers, SCHEDULERS[name])(
        num_train_timesteps=len(betas),
        trained_betas=betas.tolist(),
        prediction_type="sample",
        timestep_spacing="trailing",
        **({} if name == "dpm++" else {"clip_sample": False}),
    )
    scheduler.set_timesteps(len(betas))
    return scheduler


@stage(STEPS)
@fair_threads()
@torch.inference_mode()
def sample(
    prior: Prior,
    likelihood: DataTerm,
    f: Tensor,
    timesteps: Tensor,
    *,
    scheduler: str = "ddim",
    keep_noise: bool = False,
    generator: torch.Generator | list[torch.Generator] | None = None,
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
        scheduler: a name in `SCHEDULERS`.
        keep_noise: step on with the noise that the prior saw in f. Otherwise, as in the released code,
            with what the rectified estimate leaves of f: then the sources' details count as noise, and
            some of them are lost.
        generator: noise source of a stochastic scheduler (``"ddpm"``), or one for each image.
        shown: makes of f what the prior is shown of it (`ddfm.likelihoods.frames`).
        callback: called after every step.

    Returns:
        The last sample, shape of ``f``; its luminance is the likelihood's last word.
    """
    process = respaced_scheduler(scheduler, prior.alphas_cumprod, timesteps)
    for index, timestep in enumerate(timesteps.tolist()):
        follow_load()
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
                f = process.step(rectified, process.timesteps[index], f, generator=generator).prev_sample
        callback(Step(index, timestep, prediction, rectified, f))
        del prediction, rectified  # not to be held, if they are large, during the next evaluation
    return f
