"""Separable filtering, windows, local statistics and Sobel gradients, shared by the metrics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

FLAT = 1e-10
"""A local variance below this is rounding error (float64, 0..255), not structure."""

_BLOCK = 16  # outputs of one small matrix product
_STRIP = 80_000  # pixels of a strip; 20 000 to 160 000 take about as long


def gaussian(size: int, sigma: float) -> Tensor:
    """Return 1-D Gaussian taps that sum to 1; their outer product is the usual square window."""
    t = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    taps = torch.exp(-(t**2) / (2 * sigma**2))
    return taps / taps.sum()


def uniform(size: int) -> Tensor:
    """Return 1-D taps of a square averaging window."""
    return torch.full((size,), 1 / size, dtype=torch.float64)


def filter_valid(x: Tensor, taps: Tensor, stride: int = 1) -> Tensor:
    """Correlate (B, C, H, W) with taps (x) taps where the window fits; keep every ``stride``-th result.

    float64 has no fast convolution on the CPU, but it has a fast matrix product: each run of 16
    outputs is a short stretch of input times a small banded matrix. Several times faster than a
    loop over the taps, and a 17x17 window costs two passes of 17 taps, not one of 289.
    """
    taps = taps.to(x.device)
    planes = [_filter_plane(plane, taps, stride) for plane in x.flatten(0, 1)]
    stacked = torch.stack(planes) if len(planes) > 1 else planes[0][None]
    return stacked.view(*x.shape[:2], *stacked.shape[1:])


def _filter_plane(x: Tensor, taps: Tensor, stride: int) -> Tensor:
    band = _band(taps, stride)
    rows = _blocks(x, 0, taps.numel(), stride, band.shape[1])
    x = (band @ rows.mT).flatten(0, 1)[: _fits(x.shape[0], taps.numel(), stride)]
    columns = _blocks(x, 1, taps.numel(), stride, band.shape[1])
    # reshape copies here; left to itself, matmul would do the same three times more slowly.
    filtered = (columns.reshape(-1, band.shape[1]) @ band.mT).view(len(columns), -1)
    return filtered[:, : _fits(x.shape[1], taps.numel(), stride)]


def _fits(length: int, taps: int, stride: int) -> int:
    return (length - taps) // stride + 1


def _band(taps: Tensor, stride: int) -> Tensor:
    """Return a matrix whose row j holds the taps, shifted right by j strides."""
    span = (_BLOCK - 1) * stride + taps.numel()
    # Rows one stride too long, laid end to end and cut again at the right length.
    long = F.pad(taps.expand(_BLOCK, -1), (0, span + stride - taps.numel()))
    return long.flatten()[: _BLOCK * span].view(_BLOCK, span)


def _blocks(x: Tensor, dim: int, taps: int, stride: int, span: int) -> Tensor:
    """View overlapping stretches of ``span`` inputs along ``dim``, one for each run of outputs."""
    blocks = -(-_fits(x.shape[dim], taps, stride) // _BLOCK)
    short = (blocks - 1) * _BLOCK * stride + span - x.shape[dim]
    if short:  # otherwise pad would still copy
        x = F.pad(x, (0, 0, 0, short) if dim == 0 else (0, short))
    return x.unfold(dim, span, _BLOCK * stride)


def filter_same(x: Tensor, taps: Tensor) -> Tensor:
    """Filter as :func:`filter_valid`, with zeros around the image, so that the size stays (odd windows)."""
    margin = taps.numel() // 2
    return filter_valid(F.pad(x, (margin,) * 4), taps)


def strips(*images: Tensor, window: int) -> Iterator[tuple[Tensor, ...]]:
    """Yield the images in strips of rows, so that every window position lies in exactly one.

    Sums over window positions add up over the strips, so that a dozen maps of a large image need not
    be held at once; they stay in the processor's cache, which is also up to a third faster.
    """
    height, width = images[0].shape[2:]
    planes = max(image.shape[0] * image.shape[1] for image in images)
    rows = max(_STRIP // (planes * width) // _BLOCK, 2) * _BLOCK
    for top in range(0, height - window + 1, rows):
        yield tuple(image[..., top : top + rows + window - 1, :] for image in images)


def mean_and_variance(x: Tensor, taps: Tensor) -> tuple[Tensor, Tensor]:
    """Return local mean and population variance (not below 0) under the window."""
    mean = filter_valid(x, taps)
    return mean, (filter_valid(x * x, taps) - mean * mean).clamp(min=0)


def covariance(x: Tensor, y: Tensor, mean_x: Tensor, mean_y: Tensor, taps: Tensor) -> Tensor:
    """Return local population covariance under the window, given the local means."""
    return filter_valid(x * y, taps) - mean_x * mean_y


def sobel(x: Tensor, padding: Literal["constant", "replicate", "reflect"]) -> tuple[Tensor, Tensor]:
    """Apply :func:`sobel_valid` at the size of the image; ``"constant"`` puts zeros around it."""
    return sobel_valid(F.pad(x, (1, 1, 1, 1), mode=padding))


def sobel_valid(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return unnormalised 3x3 Sobel responses (right minus left, below minus above), inside the image."""
    across = x[..., 2:] - x[..., :-2]
    smooth = x[..., 2:] + 2 * x[..., 1:-1] + x[..., :-2]
    gx = across[..., 2:, :] + 2 * across[..., 1:-1, :] + across[..., :-2, :]
    return gx, smooth[..., 2:, :] - smooth[..., :-2, :]


def magnitude(gx: Tensor, gy: Tensor) -> Tensor:
    """Return the length of the gradient; sqrt is several times faster than hypot."""
    return (gx * gx + gy * gy).sqrt()


def stretch(x: Tensor) -> Tensor:
    """Stretch every channel to whole grey levels 0..255, halves rounded up; a constant gives 0."""
    low, high = x.amin((-2, -1), keepdim=True), x.amax((-2, -1), keepdim=True)
    span = torch.where(high > low, high - low, 1.0)
    return ((x - low) / span * 255 + 0.5).floor()
