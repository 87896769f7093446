"""Find how far a lens blurs from one picture: by its sharpest straight edges.

An edge that a Gaussian of standard deviation s blurred has a gradient of contrast / (s sqrt(2 pi)). Blurring
it more lowers that gradient, and by how much tells s, whatever the contrast is (Zhuo and Sim 2011, "Defocus
map estimation from a single image"). Lines, corners and texture are no such edges: what two further blurs
tell of them does not fit one s. Edges of soft things are wider than the lens makes them, so the sharper ones
count.

Luminance has shape (1, 1, H, W) and range [-1, 1]; standard deviations of blur are in pixels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ddfm.noise.blur import blurred
from ddfm.noise.level import GREY_LEVEL

SCALES = (1.0, 2.0, 3.5)  # pixels, of the blurs that gradients are compared at
FITS = 0.12  # by which the gradient after the widest may differ from what the two others say
LEAST_CONTRAST, CONTRAST_OF_NOISE = 25 * GREY_LEVEL, 8.0  # of an edge; the latter times the noise
FEWEST = 100  # edges that tell a blur
SHARPEST = 0.2  # quantile of their blurs that is the lens's
NEIGHBOURS = 1.2  # by which edges look sharper than they are, since others are near
WIDEST = 6.0  # pixels; what is softer is no edge
DIFFERENCES = 1 / 3  # variance of the box of two pixels that central differences blur with
# Of 582 pictures of the development data eight are softer than this, four of them of focus stacks
# (benchmarks/restoration.py).
LEAST_BLUR, MOST_FOUND = 1.6, 3.0
LEAST = 1e-6  # keeps gradients of nothing from dividing by 0


def estimate_blur(luma: Tensor, noise: float) -> float:
    """Return the standard deviation of a picture's blur; 0 where it is sharp, or where it cannot be known.

    Args:
        luma: one picture, as it came.
        noise: standard deviation of the noise in it.
    """
    blurs = edge_blurs(luma, noise)
    if len(blurs) < FEWEST:
        return 0.0
    found = NEIGHBOURS * float(blurs.quantile(SHARPEST))
    return min(found, MOST_FOUND) if found > LEAST_BLUR else 0.0


def edge_blurs(luma: Tensor, noise: float) -> Tensor:
    """Return the blur of each straight edge that stands out from the noise, (n,)."""
    first, second, third = (gradient(blurred(luma, scale)) for scale in SCALES)
    strength = first.square().sum(1, keepdim=True).sqrt()
    along = [(first * g).sum(1, keepdim=True) / strength.clamp_min(LEAST) for g in (second, third)]
    margin = math.ceil(3 * SCALES[-1])  # the mirrored border has edges of its own
    if min(luma.shape[-2:]) <= 2 * margin:
        return luma.new_zeros(0)
    chosen = is_crest(strength, first) & (along[0] > 0) & (along[1] > 0)
    inner = (..., slice(margin, -margin), slice(margin, -margin))
    g1, g2, g3 = (g[inner][chosen[inner]] for g in (strength, *along))
    s1, s2, s3 = (scale**2 + DIFFERENCES for scale in SCALES)
    near = variance(g1, g2, s1, s2)
    expected = g1 * ((near + s1).clamp_min(LEAST) / (near + s3).clamp_min(LEAST)).sqrt()
    contrast = g1 * (2 * math.pi * (near.clamp_min(0) + s1)).sqrt()
    fits = ((expected / g3 - 1).abs() < FITS) & (near < WIDEST**2)
    high = contrast > max(LEAST_CONTRAST, CONTRAST_OF_NOISE * noise)
    return variance(g1, g3, s1, s3)[fits & high].clamp_min(0).sqrt()


def variance(finer: Tensor, coarser: Tensor, fine: float, coarse: float) -> Tensor:
    """Return the squared blur of edges by their gradients after blurs of those variances, all (n,)."""
    ratio = (finer / coarser).square()
    return (coarse - ratio * fine) / (ratio - 1).clamp_min(LEAST)


def gradient(image: Tensor) -> Tensor:
    """Return central differences across and along, (1, 2, H, W); 0 at the borders."""
    result = torch.zeros_like(image).repeat(1, 2, 1, 1)
    result[:, :1, :, 1:-1] = (image[..., 2:] - image[..., :-2]) / 2
    result[:, 1:, 1:-1] = (image[..., 2:, :] - image[..., :-2, :]) / 2
    return result


def is_crest(strength: Tensor, direction: Tensor) -> Tensor:
    """Return where a gradient is the highest of its neighbours in its own direction, (1, 1, H, W) bool."""
    across, along = direction[:, :1], direction[:, 1:]
    place = torch.atan2(along, across).div(math.pi / 4).round().long() % 4
    crest = torch.zeros_like(strength, dtype=torch.bool)
    for number, (down, right) in enumerate(((0, 1), (1, 1), (1, 0), (1, -1))):
        before = strength.roll((down, right), (-2, -1))
        after = strength.roll((-down, -right), (-2, -1))
        crest |= (place == number) & (strength >= before) & (strength >= after)
    return crest
