"""Estimate the clean picture from a noisy one by any denoiser of white noise: the posterior mean.

Noise that depends on intensity is made even by a curve of intensities, steep where there is little of it.
Noise that neighbours share is taken out by looks at the picture and data steps in turn. A look at the level
of all the noise removes fine detail, too. A data step puts back what the noise, by its spectrum, leaves.

Luminance has shape (B, 1, H, W) and range [-1, 1]; standard deviations are in the same units.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from ddfm.noise.camera import BINS, CameraNoise
from ddfm.noise.level import GREY_LEVEL
from ddfm.pictures.pyramid import compose, decompose

# Looks of `posterior_mean`, as shares of the noise: a little less than there is keeps more detail.
FIRST_LOOK, SECOND_LOOK = 0.95, 0.2
MIRRORED: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-2, -1))  # axes, of what the first look is at
# Looks at correlated noise, as shares of its level. The coarser it is, the more of it is in octaves that its
# level does not tell of: the first look is at half the correlation, within bounds, and so is that noise.
LEAST_LOOK, MOST_LOOK = 1.6, 2.4
LATER_LOOKS = (0.5, 0.3)  # by the first
LEFT = 0.5  # of the level: error of a look that a data step reckons with
OCTAVES = 2  # whose noise a data step tells apart, and the rest
MOST_BLUR = 0.25  # (1, 2, 1)/4, which leaves nothing of the finest detail
KNOTS = 32  # a bin of intensity, of the curve that makes noise even


class Denoiser(Protocol):
    """Require of a prior what denoising needs; named here so that clean sources need none."""

    @property
    def channels(self) -> int:
        """Return image channels: 1 (luminance) or 3 (RGB)."""
        ...

    def denoise(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Return the posterior mean of x, (B, C, H, W), under white noise of deviation ``sigma``."""
        ...


def look(prior: Denoiser, luma: Tensor, level: Tensor) -> Tensor:
    """Return what the prior makes of the luminance at that level, but at least one grey level."""
    shown = luma.expand(-1, prior.channels, -1, -1)
    return prior.denoise(shown, level.clamp_min(GREY_LEVEL)).mean(1, keepdim=True)


def posterior_mean(prior: Denoiser, luma: Tensor, sigma: Tensor | float) -> Tensor:
    """Return E[clean | luma] under the prior from two looks: five network evaluations.

    The first look is the mean over the picture and its mirror images: natural images have no preferred side,
    and what the network errs by differs between them. The second takes the mirrored result of the first, at
    a fifth of the noise but at least one grey level. It removes traces of noise that the first left. The mean
    of both is returned.

    Args:
        prior: of luminance or RGB; luminance is shown to an RGB prior as grey.
        luma: shape (B, 1, H, W), any size.
        sigma: standard deviation of the noise, positive, scalar or shape (B,).

    Returns:
        shape of ``luma``.
    """
    level = torch.as_tensor(sigma, dtype=torch.float64, device=luma.device)
    shown = luma.expand(-1, prior.channels, -1, -1)
    # Not by `look`: measured noise is above a grey level (`NOISE_GATE`), and less was asked for by the user.
    views = [prior.denoise(shown.flip(axes), FIRST_LOOK * level).flip(axes) for axes in MIRRORED]
    first = torch.stack(views).mean((0, 2)).unsqueeze(1)
    second = look(prior, first.flip(-1), SECOND_LOOK * level).flip(-1)
    return (first + second) / 2


def posterior_mean_of_camera(prior: Denoiser, luma: Tensor, noise: CameraNoise) -> Tensor:
    """Return E[clean | luma] under the prior, for a camera's noise: two or three network evaluations.

    Args:
        prior: as for `posterior_mean`.
        luma: one image, shape (1, 1, H, W).
        noise: `ddfm.noise.camera.measure_camera_noise` of it.
    """
    even, back, level = evening(noise)
    y = even(luma)
    if not noise.is_correlated:
        return back(posterior_mean(prior, y, level))
    sigma = torch.tensor(level * min(max(noise.correlation / 2, LEAST_LOOK), MOST_LOOK), dtype=torch.float64)
    second, third = (share * sigma for share in LATER_LOOKS)
    x = look(prior, y, sigma)
    x = look(prior, data_step(x, y, noise.correlation).flip(-1), second).flip(-1)
    return back(look(prior, data_step(x, y, noise.correlation), third))


def data_step(estimate: Tensor, noisy: Tensor, correlation: float) -> Tensor:
    """Return the mean of estimate and picture, octave by octave, weighted by their precision.

    Both are (B, 1, H, W). ``correlation`` is the noise in the second octave by that in the first.
    """
    shares = [LEFT**2 / (LEFT**2 + level**2) for level in octave_levels(correlation)]
    bands, rest = decompose(noisy - estimate, OCTAVES)
    kept = [share * band for share, band in zip(shares, bands, strict=False)]
    return estimate + compose(kept, shares[-1] * rest)


def octave_levels(correlation: float) -> list[float]:
    """Return the noise in each of `OCTAVES`, finest first, and in the rest, by the level of all of it."""
    return [1 / correlation, *[1.0] * (OCTAVES - 1), max(1.0, correlation / 2)]


def noise_like(noise: CameraNoise, luma: Tensor, white: Tensor) -> Tensor:
    """Make noise of that kind for a clean picture from white noise of deviation 1; all are (B, 1, H, W).

    White noise is blurred with (a, 1 - 2a, a) along both axes. So second differences tell as much of
    correlation as they did of the noise.
    """
    a = blur_of(noise.correlation)
    padded = F.pad(white, (1, 1, 1, 1), mode="reflect")
    for _ in range(2):
        padded = (a * (padded[..., :-2, :] + padded[..., 2:, :]) + (1 - 2 * a) * padded[..., 1:-1, :]).mT
    return noise.at(luma.clamp(-1, 1)) * padded / ((1 - 2 * a) ** 2 + 2 * a**2)


def blur_of(correlation: float) -> float:
    """Return a of a blur with (a, 1 - 2a, a) along both axes that gives white noise that correlation."""
    a = torch.linspace(0, MOST_BLUR, KNOTS + 1, dtype=torch.float64)
    blurs = torch.stack([a, 1 - 2 * a, a], 1)[:, None]
    fine, coarse = a.new_tensor((1, -2, 1)), a.new_tensor((1, 1, -2, -2, 1, 1))
    powers = [F.conv1d(blurs, k[None, None], padding=len(k)).square().sum((1, 2)) for k in (fine, coarse)]
    # Both axes count alike. Of white noise the second kernel has twice the power of the first.
    return float(interpolated(a.new_tensor(correlation), powers[1] / powers[0] / 2, a).clamp(0, MOST_BLUR))


def evening(noise: CameraNoise) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor], float]:
    """Return the curve of intensities that makes the noise even, its inverse, and the level it has then.

    The slope is the inverse of the noise. Black and white stay where they are.
    """
    x = torch.linspace(-1, 1, KNOTS * BINS + 1)
    slope = 1 / noise.at((x[1:] + x[:-1]) / 2)
    steps = slope.double().cumsum(0)
    y = torch.cat([steps.new_zeros(1), 2 * steps / steps[-1]]).sub(1).float()
    level = 1 / float(slope.double().mean())

    def even(luma: Tensor) -> Tensor:
        return interpolated(luma, x, y)

    def back(luma: Tensor) -> Tensor:
        return interpolated(luma, y, x)

    return even, back, level


def interpolated(values: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return y at ``values``, linear between increasing x, and beyond them as at the ends."""
    x, y = x.to(values), y.to(values)
    above = torch.searchsorted(x, values.contiguous()).clamp(1, len(x) - 1)
    slope = (y[1:] - y[:-1]) / (x[1:] - x[:-1])
    return y[above - 1] + (values - x[above - 1]) * slope[above - 1]
