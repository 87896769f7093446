"""Luminance and chroma: the fusion works on one, the colour source keeps the other.

Full-range BT.601 as in JPEG (JFIF 1.02): Y = .299 R + .587 G + .114 B and, in place of Cb and Cr,
the three differences R - Y, G - Y, B - Y, which hold the same and need no second matrix.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ddfm.pictures.pyramid import smooth

WEIGHTS = (0.299, 0.587, 0.114)
EXPOSURE_SPREAD = 0.2  # of well-exposed values about the middle
CHROMA_POWER = 0.5  # of the luminance that chroma grows with
DARK = 4 / 255  # a luminance below which the ratio of chroma to it is noise
PALE = 0.02  # a saturation below which saturations are alike
AROUND = 2  # times that a neighbourhood is halved in size: a Gaussian of some ten pixels
UNEXPOSED = 1e-6  # weight of what is clipped, which counts where all sources are
FULL = 0.85  # share of the room in the gamut from which on chroma is bent rather than cut
MARGIN = 1 / 255  # a grey level: how far from black a channel stays
HEADROOM = 9 / 255  # how far from white chroma may drive one: what is nearer looks clipped


def luminance(image: Tensor) -> Tensor:
    """Return Y of an RGB image (..., 3, H, W), shape (..., 1, H, W); a grey image is returned as it is."""
    if image.shape[-3] == 1:
        return image
    red, green, blue = image.unbind(-3)
    y = (red * WEIGHTS[0]).add_(green * WEIGHTS[1]).add_(blue * WEIGHTS[2])
    return y.unsqueeze(-3)


def chroma(image: Tensor) -> Tensor:
    """Return R - Y, G - Y, B - Y of an RGB image, shape (..., 3, H, W)."""
    return image - luminance(image)


def blend_chroma(images: Sequence[Tensor], weights: Sequence[Tensor] | None = None) -> Tensor:
    """Blend the chroma of several colour images, each pixel weighted by its saturation there.

    This is the rule of DeepFuse (Ram Prabhakar et al., ICCV 2017, eq. 6), but with one weight a pixel for all
    components. So the hue stays between those of the sources.

    Args:
        images: (..., 3, H, W).
        weights: (..., 1, H, W) each, not negative, to be used instead of the saturations.
    """
    parts = [chroma(image) for image in images]
    if len(parts) == 1:
        return parts[0]
    if weights is None:
        weights = [part.norm(dim=-3, keepdim=True) for part in parts]
    total = torch.stack(list(weights)).sum(0).clamp_min(torch.finfo(torch.float32).tiny)
    return torch.stack([w * p for w, p in zip(weights, parts, strict=True)]).sum(0) / total


def blend_exposed_chroma(images: Sequence[Tensor], luma: Tensor) -> Tensor:
    """Blend the chroma of several exposures for a given luminance, (..., 1, H, W) in [0, 1].

    An exposure scales a pixel's three channels alike, and a camera's tone curve less so: chroma grows with a
    power of the luminance. The chroma that each source would have at the luminance given is averaged. The
    weights say how well the source's channels are exposed and how saturated it is there. They are those of
    Mertens et al. 2007, products over the channels, without their contrast. A channel that is clipped, in
    black or in white, tells a wrong hue and gets next to no weight. One half of each weight (its square
    root) is that of the neighbourhood, so that no texture shows in the colours. The other half is the
    pixel's own, so that no clipped white bleeds across its border. It may not fit: see `combine_exposed`.

    Args:
        images: two or more, (B, 3, H, W) in [0, 1].
        luma: (B, 1, H, W).
    """
    parts, weights = [], []
    for image in images:
        exposed = well_exposed(image).prod(-3, keepdim=True)
        saturation = image.std(-3, correction=0, keepdim=True)
        parts.append(chroma(image) / (luminance(image) + DARK) ** CHROMA_POWER)
        weight = exposed * (saturation + PALE) + UNEXPOSED
        weights.append((weight * smooth(weight, AROUND)).sqrt())
    total = torch.stack(weights).sum(0)
    mean = torch.stack([w * p for w, p in zip(weights, parts, strict=True)]).sum(0) / total
    return (luma + DARK) ** CHROMA_POWER * mean


def combine_exposed(luma: Tensor, chroma: Tensor, least: float) -> Tensor:
    """Return RGB in [0, 1] of exposures, whose lights keep their hue.

    The luminance makes room for that share of the chroma, as in `combine`; the chroma is then bent into
    the room there is (`within_gamut`).

    Args:
        luma: (..., 1, H, W) in [0, 1].
        chroma: (..., 3, H, W).
        least: share of the chroma, 0 to .5.
    """
    luma = making_room(luma, chroma, least)
    return (luma + within_gamut(luma, chroma)).clamp_(0, 1)


def making_room(luma: Tensor, chroma: Tensor, least: float) -> Tensor:
    """Bring the luminance as far from black and white as that share of the chroma needs (eq. 20)."""
    lowest, highest = chroma.amin(-3, keepdim=True), chroma.amax(-3, keepdim=True)
    return luma.clamp(-least * lowest, 1 - least * highest)


def within_gamut(luma: Tensor, chroma: Tensor) -> Tensor:
    """Scale the chroma down so that it drives no channel to black, ``MARGIN``, or white, ``HEADROOM``.

    r is the chroma's share of the room that the luminance leaves. Up to ``FULL`` it is kept. Above, it is
    bent towards 1, r' = FULL + (1 - FULL) tanh((r - FULL) / (1 - FULL)), so that different chromas stay
    different. Hue is kept.

    Args:
        luma: (..., 1, H, W) in [0, 1].
        chroma: (..., 3, H, W).
    """
    room = torch.where(chroma > 0, 1 - HEADROOM - luma, luma - MARGIN)
    room = room.clamp_min(torch.finfo(chroma.dtype).tiny)
    wanted = (chroma.abs() / room).amax(-3, keepdim=True)
    above = (wanted - FULL).clamp_min(0) / (1 - FULL)
    return chroma * torch.where(above > 0, (FULL + (1 - FULL) * above.tanh()) / wanted, 1.0)


def chroma_kept(chroma: Tensor, own: Tensor, luma: Tensor, noise: float) -> Tensor:
    """Return the share of the chroma that a picture keeps, by its signal-to-noise ratio (eq. 23).

    A camera that hardly saw a tree knows little of its colour. If another source brightens the tree, the
    noise in that colour shows as a tint. Where nothing is brightened, all of the chroma is kept.

    Args:
        chroma: (B, 3, H, W), for images in [0, 1].
        own: the luminance that the chroma was seen at, (B, 1, H, W) in [0, 1].
        luma: the luminance that it is used at, likewise.
        noise: standard deviation of the chroma's noise, in [0, 1].

    Returns:
        (B, 1, H, W) in [0, 1].
    """
    brightened = ((luma - own) / luma.clamp_min(DARK)).clamp(0, 1)
    signal = smooth(chroma, AROUND).square().sum(-3, keepdim=True)
    power = smooth(chroma.square().sum(-3, keepdim=True), AROUND)
    return 1 - brightened * (1 - signal / (power + noise**2))


def well_exposed(image: Tensor) -> Tensor:
    """Weight values in [0, 1] by exp(-(y - .5)^2 / (2 .2^2)), high at middle grey: Mertens et al. 2007."""
    return (-((image - 0.5) / EXPOSURE_SPREAD).square() / 2).exp()


def combine(luma: Tensor, chroma: Tensor, least: float = 0.0) -> Tensor:
    """Return RGB in [0, 1] with the given luminance (..., 1, H, W) and as much of the chroma as fits.

    Where Y + chroma leaves the gamut, the chroma is scaled down, which keeps luminance and hue;
    cutting each channel off would change both. Black and white have no room for any: if ``least`` of
    the chroma, 0 to .5, has to fit, the luminance makes room for it.
    """
    lowest, highest = chroma.amin(-3, keepdim=True), chroma.amax(-3, keepdim=True)
    if least:
        luma = making_room(luma, chroma, least)
    tiny = torch.finfo(torch.float32).tiny
    scale = torch.minimum((1 - luma) / highest.clamp_min(tiny), luma / lowest.neg().clamp_min_(tiny))
    return torch.addcmul(luma, scale.clamp_(0, 1), chroma).clamp_(0, 1)
