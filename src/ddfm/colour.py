"""Luminance and chroma: the fusion works on one, the colour source keeps the other.

Full-range BT.601 as in JPEG (JFIF 1.02): Y = .299 R + .587 G + .114 B and, in place of Cb and Cr,
the three differences R - Y, G - Y, B - Y, which hold the same and need no second matrix.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

WEIGHTS = (0.299, 0.587, 0.114)


def luminance(image: Tensor) -> Tensor:
    """Y of an RGB image (..., 3, H, W), shape (..., 1, H, W); a grey image comes back as it is."""
    if image.shape[-3] == 1:
        return image
    weights = image.new_tensor(WEIGHTS).reshape(3, 1, 1)
    return (image * weights).sum(-3, keepdim=True)


def chroma(image: Tensor) -> Tensor:
    """R - Y, G - Y, B - Y of an RGB image, shape (..., 3, H, W)."""
    return image - luminance(image)


def blend_chroma(images: Sequence[Tensor]) -> Tensor:
    """One chroma from several colour images, each pixel weighted by how saturated it is there.

    The rule of DeepFuse (Ram Prabhakar et al., ICCV 2017, eq. 6), with one weight a pixel for all
    components instead of one each, so that the hue stays between those of the sources.
    """
    parts = [chroma(image) for image in images]
    weights = [part.norm(dim=-3, keepdim=True) for part in parts]
    total = torch.stack(weights).sum(0).clamp_min(torch.finfo(torch.float32).tiny)
    return torch.stack([w * p for w, p in zip(weights, parts, strict=True)]).sum(0) / total


def combine(luma: Tensor, chroma: Tensor) -> Tensor:
    """RGB in [0, 1] with the luminance given (..., 1, H, W) and as much of the chroma as fits.

    Where Y + chroma leaves the gamut, the chroma is scaled down, which keeps luminance and hue;
    cutting each channel off would change both.
    """
    room = torch.where(chroma > 0, 1 - luma, luma)
    scale = (room / chroma.abs().clamp_min(torch.finfo(torch.float32).tiny)).amin(-3, keepdim=True)
    return (luma + scale.clamp(0, 1) * chroma).clamp(0, 1)
