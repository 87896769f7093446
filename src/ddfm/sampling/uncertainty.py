"""Measure how far the fused luminance can be relied on: each pixel's deviation over posterior samples.

A noisy source fits many scenes. Each sample takes a draw of every source given its noise, p(x_k | y_k) under
the prior, and fuses those. A diffusion process passes through noisy images on its way from pure noise. So a
draw starts at the source, at the level of its noise, and samples the rest of that way (Ho et al. 2020,
algorithm 2). Noise that depends on intensity, or that neighbours share, is nowhere on that way: a draw is
then the posterior mean of the clean picture with other noise like that (a parametric bootstrap). So it is for
a picture that was blurred. What was missing is filled anew, with noise before each look. In few steps draws
vary too little, least where the prior is sure and wrong. So they also get the residual noise that the
likelihood assumes. The samples are few, so their variance is averaged over neighbours. The standard deviation
is scaled so that the result of clean sources lies within two of it for 95 % of the pixels
(benchmarks/uncertainty.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ddfm.noise.blur import blurred, sharpened
from ddfm.noise.clean import REMAINS, Cleaned, without_stripes
from ddfm.noise.clipping import unclipped
from ddfm.noise.level import GREY_LEVEL
from ddfm.noise.missing import VARIED
from ddfm.noise.posterior import Denoiser, noise_like, posterior_mean_of_camera
from ddfm.pictures.pyramid import smooth
from ddfm.sampling.schedulers import white_noise
from ddfm.timing import stage

POSTERIOR_DRAWS = 8  # posterior samples that the standard deviation is taken from
DRAW_LEVELS = 4  # network evaluations a draw
LAST_LEVEL = 0.15  # of the source's noise, at which the estimate itself is taken
AROUND = 1  # times that a neighbourhood is halved in size to average the variance: some five pixels
CALIBRATION = 1.12


@stage("uncertainty")
def posterior_std(
    sources: Sequence[Tensor],
    cleaned: Sequence[Cleaned],
    prior: Callable[[], Denoiser],
    fuse: Callable[[Sequence[Tensor], int], Tensor],
    seed: int,
) -> Tensor:
    """Return the fused luminance's standard deviation, (B, 1, H, W), in the units of what ``fuse`` returns.

    Args:
        sources: luminances as they came, (B, 1, H, W) in [-1, 1].
        cleaned: the same after `ddfm.noise.clean.clean_source`.
        prior: called for the prior if a source is noisy.
        fuse: sources and a seed to the fused luminance.
        seed: of the draws.
    """
    generator = torch.Generator().manual_seed(seed)
    bases = [without_stripes(source, clean) for source, clean in zip(sources, cleaned, strict=True)]
    mean = square = torch.zeros_like(sources[0], dtype=torch.float64)
    for n in range(POSTERIOR_DRAWS):
        drawn = [
            draw_source(base, clean, prior, generator) for base, clean in zip(bases, cleaned, strict=True)
        ]
        fused = fuse(drawn, seed + n).double()
        step = fused - mean  # Welford 1962: no difference of large squares
        mean = mean + step / (n + 1)
        square = square + step * (fused - mean)
    variance = (square / (POSTERIOR_DRAWS - 1)).to(sources[0])
    return CALIBRATION * smooth(variance, AROUND).clamp_min(0).sqrt()


def draw_source(
    base: Tensor, clean: Cleaned, prior: Callable[[], Denoiser], generator: torch.Generator
) -> Tensor:
    """Draw a source as it may look without its noise, (B, 1, H, W).

    A source that was not denoised is left with its noise: a draw is the source with as much noise again.
    ``base`` is the source without stripes.
    """
    drawn = base.clone()
    for n in clean.assumed_noise.nonzero()[:, 0].tolist():
        noise = clean.cameras[n]
        if noise is None:
            draw = draw_posterior(prior(), base[n : n + 1], float(clean.assumed_noise[n]), generator)
            drawn[n : n + 1] = unclipped(draw, clean.white_noise[n : n + 1])
        else:
            luma = clean.luma[n : n + 1]
            again = (luma + noise_like(noise, luma, white_noise(luma, generator))).clamp(-1, 1)
            drawn[n : n + 1] = posterior_mean_of_camera(prior(), again, noise)
    blurs = [0.0] * len(base) if clean.blur is None else clean.blur.tolist()
    for n in (n for n, blur in enumerate(blurs) if blur):
        blur, noise = blurs[n], max(float(clean.measured_noise[n]), GREY_LEVEL)
        again = blurred(clean.luma[n : n + 1], blur)
        again = (again + noise * white_noise(again, generator)).clamp(-1, 1)
        drawn[n : n + 1] = sharpened(prior(), again, blur, noise)
    if clean.holes is not None:
        again = clean.holes.fill(prior, drawn, generator)
        again = torch.lerp(clean.luma, again, VARIED)
        drawn = torch.where(clean.holes.known > 0, drawn, again)
    residual_noise = torch.where(clean.assumed_noise > 0, REMAINS * clean.assumed_noise, clean.measured_noise)
    return drawn + residual_noise.reshape(-1, 1, 1, 1) * white_noise(base, generator)


def draw_posterior(prior: Denoiser, noisy: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    """Draw x, (B, 1, H, W), from its posterior: ``noisy`` is x with white noise of deviation ``sigma``."""
    x = noisy
    shares = torch.logspace(0, 1, DRAW_LEVELS, base=LAST_LEVEL, dtype=torch.float64).tolist()
    levels = [max(share * sigma, min(sigma, GREY_LEVEL / 2)) for share in shares]
    for level, lower in zip(levels, [*levels[1:], 0.0], strict=True):
        shown = x.expand(-1, prior.channels, -1, -1)
        estimate = prior.denoise(shown, level).mean(1, keepdim=True)
        # p(x_lower | x_level, estimate) of a process that adds variance: a Gaussian bridge.
        kept = (lower / level) ** 2
        x = estimate + kept * (x - estimate) + lower * (1 - kept) ** 0.5 * white_noise(x, generator)
    return x
