"""The sampling loop: prior, likelihood and scheduler take turns, once a step (paper, algorithm 1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from torch import Tensor

from ddfm.likelihood import Likelihood
from ddfm.prior import Prior

SCHEDULERS = {"ddim": DDIMScheduler, "ddpm": DDPMScheduler, "dpm++": DPMSolverMultistepScheduler}


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


def spaced_timesteps(num_train_timesteps: int, steps: int) -> Tensor:
    """``steps`` timesteps from T - 1 evenly down to 0, rounded: the released code's re-spacing."""
    return torch.linspace(num_train_timesteps - 1, 0, steps, dtype=torch.float64).round().long()


def respaced_scheduler(name: str, alphas_cumprod: Tensor, timesteps: Tensor) -> Any:
    """A diffusers scheduler whose whole process is the given timesteps, counted down from N - 1.

    Cutting the process down to the steps taken (as the released SpacedDiffusion does) gives every
    scheduler the same, exact step sizes; diffusers' own spacings differ between schedulers. It is
    told the clean image, not the noise: that is what the likelihood has rectified.
    """
    kept = alphas_cumprod[timesteps.flip(0)]
    betas = 1 - kept / torch.cat([kept.new_ones(1), kept[:-1]])
    scheduler = SCHEDULERS[name](
        num_train_timesteps=len(betas),
        trained_betas=betas.tolist(),
        prediction_type="sample",
        timestep_spacing="trailing",
        **({} if name == "dpm++" else {"clip_sample": False}),
    )
    scheduler.set_timesteps(len(betas))
    return scheduler


@torch.inference_mode()
def sample(
    prior: Prior,
    likelihood: Likelihood,
    f: Tensor,
    steps: int,
    *,
    scheduler: str = "ddim",
    generator: torch.Generator | None = None,
    callback: Callable[[Step], None] = lambda step: None,
) -> Tensor:
    """Draw a fused image from p(f | sources).

    Args:
        prior: what natural images look like.
        likelihood: what the sources demand.
        f: the start, standard normal noise, shape (B, C, H, W) with the prior's C and multiples of
            ``prior.multiple``.
        steps: network evaluations, 1 to the length of the prior's schedule.
        scheduler: a name in `SCHEDULERS`.
        generator: noise source of a stochastic scheduler (``"ddpm"``).
        callback: called after every step.

    Returns:
        The last sample, shape of ``f``; its luminance is the likelihood's last word.
    """
    timesteps = spaced_timesteps(len(prior.alphas_cumprod), steps)
    process = respaced_scheduler(scheduler, prior.alphas_cumprod, timesteps)
    for index, timestep in enumerate(timesteps.tolist()):
        # 1. The prior: E[f_0 | f_t] from one network evaluation.
        prediction = prior.predict_x0(f, timestep, prior.alphas_cumprod[timestep]).clamp(-1, 1)
        # 2. The likelihood: one EM iteration on its luminance (paper, section 3.2).
        rectified = likelihood.rectify(prediction)
        # 3. On to f_{t-1}; at the last step that is the rectified estimate itself.
        f = process.step(rectified, process.timesteps[index], f, generator=generator).prev_sample
        callback(Step(index, timestep, prediction, rectified, f))
    return f
