"""Draw samples of p(f | sources): where the noise comes from, and where sampling starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ddfm.likelihoods.base import DataTerm, Likelihood
from ddfm.likelihoods.frames import Together
from ddfm.sampling.loop import Step, sample, spaced_timesteps

if TYPE_CHECKING:
    from ddfm.priors.diffusion import Prior


# A warm start goes from a noise level that still leaves the scene open at the scale of details down to
# one below the grey levels' own: in units of [-1, 1], timesteps 200 and 10 of a linear schedule.
WARM_START, WARM_END = 0.73, 0.047


def draw(
    prior: Prior,
    likelihood: Likelihood,
    steps: int,
    like: Tensor,
    seed: int,
    scheduler: str,
    callback: Callable[[Step], None],
) -> Tensor:
    """A sample of p(f | sources), (B, C, H, W): from the likelihood's start if it has one, or from noise."""
    return draw_all(prior, [likelihood], steps, [like], seed, scheduler, callback)[0]


def draw_all(
    prior: Prior,
    likelihoods: Sequence[Likelihood],
    steps: int,
    likes: Sequence[Tensor],
    seed: int,
    scheduler: str,
    callback: Callable[[Step], None],
) -> list[Tensor]:
    """`draw` for pictures of several sizes at once, a likelihood and a sample for each."""
    # Noise is drawn on the CPU so that every device starts from the same, and for each picture as if it
    # were alone.
    generators = [torch.Generator().manual_seed(seed) for like in likes for _ in like]
    own = iter(generators)
    noise = [
        torch.cat([torch.randn((1, prior.channels, *like.shape[-2:]), generator=next(own)) for _ in like])
        for like in likes
    ]
    together = Together(likelihoods, likes, prior.multiple) if len(likes) > 1 else None
    likelihood: DataTerm = together or likelihoods[0]
    f = (together.framed(noise) if together else noise[0]).to(likes[0])
    start = likelihood.start
    first, last = span(prior, warm=start is not None)
    if start is not None:
        alpha_cumprod = prior.alphas_cumprod[first]
        f = alpha_cumprod.sqrt().to(f) * start + (1 - alpha_cumprod).sqrt().to(f) * f
    f = sample(
        prior,
        likelihood,
        f,
        spaced_timesteps(first, last, steps),
        scheduler=scheduler,
        keep_noise=start is not None,
        generator=generators,
        shown=together.mirrored if together else lambda f: f,
        callback=callback,
    )
    return together.pictures(f) if together else [f]


def span(prior: Prior, warm: bool) -> tuple[int, int]:
    """The first and the last timestep to take."""
    if not warm:
        return len(prior.alphas_cumprod) - 1, 0
    first, last = (int((prior.sigmas < level).sum()) - 1 for level in (WARM_START, WARM_END))
    return first, last
