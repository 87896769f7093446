"""Separable filtering, windows, local statistics and Sobel gradients, shared by the metrics."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

FLAT = 1e-10
"""A local variance below this is rounding error (float64, 0..255), not structure."""

_BLOCK = 16


def gaussian(size: int, sigma: float) -> Tensor:
    """1-D Gaussian taps that sum to 1; their outer product is the usual square window."""
    t = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    taps = torch.exp(-(t**2) / (2 * sigma**2))
    return taps / taps.sum()


def uniform(size: int) -> Tensor:
    """1-D taps of a square averaging window."""
    return torch.full((size,), 1 / size, dtype=torch.float64)


def filter_valid(x: Tensor, taps: Tensor, stride: int = 1) -> Tensor:
    """Correlate (..., H, W) with taps (x) taps where the window fits; keep every ``stride``-th result.

    float64 has no fast convolution on the CPU, but it has a fast matrix product: each run of 16
    outputs is a short stretch of input times a small banded matrix. Several times faster than a
    loop over the taps, and a 17x17 window costs two passes of 17 taps, not one of 289.
    """
    band = _band(taps.to(x.device), stride)
    rows = _blocks(x, -2, taps.numel(), stride, band.shape[0])
    x = (band.mT @ rows.mT).flatten(-3, -2)[..., : _fits(x.shape[-2], taps.numel(), stride), :]
    columns = _blocks(x, -1, taps.numel(), stride, band.shape[0])
    return (columns @ band).flatten(-2)[..., : _fits(x.shape[-1], taps.numel(), stride)]


def _fits(length: int, taps: int, stride: int) -> int:
    return (length - taps) // stride + 1


def _band(taps: Tensor, stride: int) -> Tensor:
    """Column j holds the taps, shifted down by j strides."""
    span = (_BLOCK - 1) * stride + taps.numel()
    index = torch.arange(span, device=taps.device)[:, None] - stride * torch.arange(
        _BLOCK, device=taps.device
    )
    inside = (index >= 0) & (index < taps.numel())
    return torch.where(inside, taps[index.clamp(0, taps.numel() - 1)], 0.0)


def _blocks(x: Tensor, dim: int, taps: int, stride: int, span: int) -> Tensor:
    """Overlapping stretches of ``span`` inputs along ``dim``, one for each run of outputs, as a view."""
    blocks = -(-_fits(x.shape[dim], taps, stride) // _BLOCK)
    short = (blocks - 1) * _BLOCK * stride + span - x.shape[dim]
    x = F.pad(x, (0, 0, 0, short) if dim == -2 else (0, short))
    return x.unfold(dim, span, _BLOCK * stride)


def filter_same(x: Tensor, taps: Tensor) -> Tensor:
    """As :func:`filter_valid`, with zeros around the image, so that the size stays (odd sizes only)."""
    margin = taps.numel() // 2
    return filter_valid(F.pad(x, (margin,) * 4), taps)


def mean_and_variance(x: Tensor, taps: Tensor) -> tuple[Tensor, Tensor]:
    """Local mean and population variance (not below 0) under the window."""
    mean = filter_valid(x, taps)
    return mean, (filter_valid(x * x, taps) - mean * mean).clamp(min=0)


def covariance(x: Tensor, y: Tensor, mean_x: Tensor, mean_y: Tensor, taps: Tensor) -> Tensor:
    """Local population covariance under the window, given the local means."""
    return filter_valid(x * y, taps) - mean_x * mean_y


def sobel(x: Tensor, padding: Literal["zeros", "replicate", "reflect"]) -> tuple[Tensor, Tensor]:
    """Unnormalised 3x3 Sobel responses (right minus left, below minus above), same size as the image."""
    x = F.pad(x, (1, 1, 1, 1), mode="constant" if padding == "zeros" else padding)
    across = x[..., 2:] - x[..., :-2]
    smooth = x[..., 2:] + 2 * x[..., 1:-1] + x[..., :-2]
    return across[..., 2:, :] + 2 * across[..., 1:-1, :] + across[..., :-2, :], smooth[..., 2:, :] - smooth[
        ..., :-2, :
    ]


def magnitude(gx: Tensor, gy: Tensor) -> Tensor:
    """Length of the gradient. sqrt rather than hypot: several times faster, nothing can overflow here."""
    return (gx * gx + gy * gy).sqrt()


def stretch(x: Tensor) -> Tensor:
    """Min-max stretch of every channel to whole grey levels 0..255, halves rounded up; constant gives 0."""
    low, high = x.amin((-2, -1), keepdim=True), x.amax((-2, -1), keepdim=True)
    span = torch.where(high > low, high - low, 1.0)
    return ((x - low) / span * 255 + 0.5).floor()
