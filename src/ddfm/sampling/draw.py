"""Draw samples of p(f | sources): where the noise comes from, and where sampling starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ddfm.errors import InputError
from ddfm.likelihoods.base import DataTerm, Likelihood
from ddfm.likelihoods.frames import PaddedBatch
from ddfm.sampling.loop import Sampler, Step, sample, signal_share, spaced_timesteps
from ddfm.sampling.schedulers import DDIM, SchedulerFactory

if TYPE_CHECKING:
    from ddfm.priors.base import Prior

# A warm start goes from a noise level that still leaves the scene open at the scale of details down to
# one below the grey levels' own: in units of [-1, 1], timesteps 200 and 10 of a linear schedule.
WARM_START, WARM_END = 0.73, 0.047


def draw(
    prior: Prior,
    likelihoods: Sequence[Likelihood],
    steps: int,
    likes: Sequence[Tensor],
    seed: int,
    *,
    scheduler: SchedulerFactory = DDIM,
    sampler: Sampler = sample,
    callback: Callable[[Step], None] = lambda step: None,
) -> list[Tensor]:
    """Draw a sample of p(f | sources) for each likelihood, (B, C, H, W).

    Sampling starts from the likelihood's start if it has one, else from noise. Noise is drawn on the CPU,
    so that every device starts from the same, and for each picture as if it were alone.

    Args:
        likelihoods: one for each size of pictures.
        steps: network evaluations.
        likes: a luminance of each size, (B, 1, H, W).
        seed: of the noise of every picture.
    """
    generators = [torch.Generator().manual_seed(seed) for like in likes for _ in like]
    own = iter(generators)
    noise = [
        torch.cat([torch.randn((1, prior.channels, *like.shape[-2:]), generator=next(own)) for _ in like])
        for like in likes
    ]
    batch = PaddedBatch(likelihoods, likes, prior.multiple) if len(likes) > 1 else None
    likelihood: DataTerm = batch or likelihoods[0]
    f = (batch.framed(noise) if batch else noise[0]).to(likes[0])
    start = likelihood.start
    first, last = span(prior, warm=start is not None)
    if start is not None:
        alpha_cumprod = signal_share(prior.sigmas[first])
        f = alpha_cumprod.sqrt().to(f) * start + (1 - alpha_cumprod).sqrt().to(f) * f
    f = sampler(
        prior,
        likelihood,
        f,
        spaced_timesteps(first, last, steps),
        scheduler=scheduler,
        keep_noise=start is not None,
        generator=generators,
        shown=batch.mirrored if batch else lambda f: f,
        callback=callback,
    )
    return batch.pictures(f) if batch else [f]


def span(prior: Prior, warm: bool) -> tuple[int, int]:
    """Return the first and the last timestep to take."""
    if not warm:
        return len(prior.sigmas) - 1, 0
    # A prior of one's own may have no noise level below these: then its lowest is taken.
    first, last = (max(0, int((prior.sigmas < level).sum()) - 1) for level in (WARM_START, WARM_END))
    return first, last


def check_steps(prior: Prior, warm: bool, steps: int) -> None:
    """Raise InputError if the prior's schedule has fewer timesteps than steps are wanted."""
    first, last = span(prior, warm)
    if steps > first - last + 1:
        raise InputError(
            f"steps {steps}: the prior {prior.name} has only {first - last + 1} timesteps to take"
        )
