"""Sharpen a picture that a soft lens blurred, under the prior: looks and data steps in turn.

The point spread is a Gaussian of known standard deviation, in pixels. A data step finds what blurs to the
picture and is near to an estimate, in the frequency domain of the mirrored picture. The first one starts
at the picture itself; a look of the prior at the level of the noise that this amplifies follows, then another
data step. Two rounds are enough: with more the prior paints.

Luminance has shape (B, 1, H, W) and range [-1, 1]; standard deviations of noise are in the same units.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ddfm.noise.level import GREY_LEVEL
from ddfm.noise.posterior import Denoiser, look

MOST_BLUR = 5.0  # pixels
# Weight of the picture in the first data step: by the variance of the noise, and less for a wider blur, which
# passes less of the noise.
FIRST, WIDER = 0.004 / GREY_LEVEL**2, 1.25
LATER = 0.3  # weight of the estimate in the later ones
FIRST_LOOK, SECOND_LOOK = 1.2, 0.75  # shares of the amplified noise
INSET = 0.003  # of the darkest and the brightest around, by their difference: noise is in them, too
REACH, WIDTH = 3.0, 1.5  # times the blur: how far an edge reaches; half the width that a surface has
STANDS_OUT = 4.0  # times what a blurred line stands out: what it may gain


def sharpened(prior: Denoiser, luma: Tensor, blur: float, noise: float) -> Tensor:
    """Return E[sharp | luma] under the prior: two network evaluations.

    Args:
        prior: of luminance or RGB.
        luma: one picture, (1, 1, H, W), blurred by a Gaussian.
        blur: standard deviation of that Gaussian, in pixels.
        noise: standard deviation of the white noise in the picture; at least one grey level is reckoned with.
    """
    noise = max(noise, GREY_LEVEL)
    weight = FIRST * noise**2 / blur**WIDER
    x = deconvolved(luma, luma, blur, weight)
    amplified = torch.tensor(noise * amplification(luma.shape[-2:], blur, weight), dtype=torch.float64)
    x = deconvolved(look(prior, x, FIRST_LOOK * amplified), luma, blur, LATER)
    x = look(prior, x.flip(-1), SECOND_LOOK * amplified).flip(-1)
    return without_ringing(deconvolved(x, luma, blur, LATER), blur, noise)


def blurred(luma: Tensor, blur: float) -> Tensor:
    """Blur by a Gaussian of that standard deviation, mirrored at the borders."""
    return _filtered(luma, transfer(luma.shape[-2:], blur, luma))


def deconvolved(estimate: Tensor, luma: Tensor, blur: float, weight: float) -> Tensor:
    """Return the x that minimises |blurred x - luma|^2 + weight |x - estimate|^2."""
    h = transfer(luma.shape[-2:], blur, luma)
    return estimate + _filtered(luma, h / (h * h + weight)) - _filtered(estimate, h * h / (h * h + weight))


def amplification(size: tuple[int, ...], blur: float, weight: float) -> float:
    """Return the standard deviation of white noise after the first data step, by that before."""
    h = transfer(size, blur, torch.zeros(()))
    kept = 1 + h * (1 - h) / (h * h + weight)
    return math.sqrt(float(kept.square().mean()))


def without_ringing(sharp: Tensor, blur: float, noise: float) -> Tensor:
    """Keep the picture within what its blurred copy shows around, so that edges do not ring.

    A blurred edge still shows both of its sides some three standard deviations away. Lines and points are
    lower in the blurred copy than they were: where they stand out from it, beyond noise, they get room.
    """
    soft = blurred(sharp, blur)
    inset = INSET * (highest(soft, blur) - lowest(soft, blur))
    least, most = inset - bound(-soft, blur, noise), bound(soft, blur, noise) - inset
    return torch.minimum(torch.maximum(sharp, least), most)


def bound(soft: Tensor, blur: float, noise: float) -> Tensor:
    """Return how bright a sharp picture may be around each pixel, by its blurred copy."""
    radius = math.ceil(WIDTH * blur)
    surfaces = dilated(-dilated(-soft, radius), radius)  # without lines and points
    brightest = highest(soft, blur)
    stands_out = (brightest - highest(surfaces, blur) - noise).clamp_min(0)
    return brightest + STANDS_OUT * stands_out


def highest(soft: Tensor, blur: float) -> Tensor:
    """Return the highest value as far away as an edge reaches."""
    return dilated(soft, math.ceil(REACH * blur))


def lowest(soft: Tensor, blur: float) -> Tensor:
    """Return the lowest value as far away as an edge reaches."""
    return -highest(-soft, blur)


def dilated(image: Tensor, radius: int) -> Tensor:
    """Return the highest value in a square around each pixel."""
    radius = min(radius, (min(image.shape[-2:]) - 1) // 2)
    rows = F.max_pool2d(image, (2 * radius + 1, 1), 1, (radius, 0))
    return F.max_pool2d(rows, (1, 2 * radius + 1), 1, (0, radius))


def transfer(size: tuple[int, ...], blur: float, like: Tensor) -> Tensor:
    """Return the Gaussian's transfer function for a mirrored picture of that size, (2H, W + 1)."""
    along = torch.fft.fftfreq(2 * size[-2]).to(like)[:, None]
    across = torch.fft.rfftfreq(2 * size[-1]).to(like)
    return torch.exp(-2 * (math.pi * blur) ** 2 * (along**2 + across**2))


def _filtered(image: Tensor, kept: Tensor) -> Tensor:
    height, width = image.shape[-2:]
    mirrored = torch.cat([image, image.flip(-1)], -1)
    mirrored = torch.cat([mirrored, mirrored.flip(-2)], -2)
    spectrum = torch.fft.rfft2(mirrored) * kept
    return torch.fft.irfft2(spectrum, s=(2 * height, 2 * width))[..., :height, :width]
