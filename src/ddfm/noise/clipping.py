"""Undo what clipping does to the mean of noisy pixels near black and white.

A picture holds no value below black, where noise can only brighten. A denoiser finds the mean of noisy
pixels. That is brighter than the scene there, and has half its contrast. Near white it is the other way
round (Foi 2009, "Clipped noisy images: heteroskedastic modeling and practical denoising").
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ddfm.noise.posterior import interpolated

KNOTS = 2**11  # of the curve from black to white


def clipped_mean(x: Tensor, sigma: float) -> Tensor:
    """Return E[clip(x + n)], n normal with deviation ``sigma``, clipped to [-1, 1]; any shape.

    The integral of the normal distribution function up to z is z Phi(z) + phi(z).
    """

    def integral(z: Tensor) -> Tensor:
        return z * torch.special.ndtr(z) + (-z.square() / 2).exp() / math.sqrt(2 * math.pi)

    return sigma * (integral((x + 1) / sigma) - integral((x - 1) / sigma)) - 1


def unclipped(mean: Tensor, sigma: Tensor) -> Tensor:
    """Return x within [-1, 1] of which the clipped mean is given: the inverse of `clipped_mean`.

    Args:
        mean: a denoised picture, (B, 1, H, W) in [-1, 1].
        sigma: standard deviation of its noise before clipping, (B,); 0 for none.

    Returns:
        shape of ``mean``; a picture without noise as it is.
    """
    knots = torch.linspace(-1, 1, KNOTS + 1, dtype=torch.float64, device=mean.device)
    images = list(mean.split(1))
    for n, level in enumerate(sigma.tolist()):
        if level:
            curve = clipped_mean(knots, level)
            images[n] = interpolated(images[n], curve, knots).clamp(-1, 1)
    return torch.cat(images)
