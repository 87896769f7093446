"""Metrics with a model of human contrast sensitivity.

Both stretch every image to 0..255 first, so they do not see an overall change of brightness or
contrast. Both filter in the Fourier domain, where the image wraps around at its edges.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ddfm.metrics._checks import over_channels, prepare, ratio
from ddfm.metrics._filters import filter_same, magnitude, sobel, stretch

_ALL = (-2, -1)


def qcb(a: Tensor, b: Tensor, f: Tensor) -> Tensor:
    """Compute Qcb: how well local contrast as seen by an observer is kept.

    The mean of ``(C_A^2 Q_A + C_B^2 Q_B) / (C_A^2 + C_B^2)``.
    Stretched images are filtered with the contrast sensitivity
    S(r) = exp(-(r / 15.3870)^2) - 0.7622 exp(-(r / 1.3456)^2). Local contrast c = |g2 / g4 - 1|, g2
    and g4 Gaussian means (sigma 2 and 4), masked: C = c^3 / (c^2 + 0.0001). Preservation
    Q_S = min(C_S, C_F) / max(C_S, C_F).

    Range 0..1, higher is better. A pixel without contrast (0/0) counts 0.
    Y. Chen, R. Blum, Image and Vision Computing 27(10), 2009.

    Quirks of the usual code, kept: Gaussians cut at 31x31 and zeros around the image, so that borders
    have contrast of their own; 30 pixels per degree at any size.
    """
    a, b, f = prepare("Qcb", a, b, f)
    sensitivity = _difference_of_gaussians(_frequency(f, scale=30))
    contrast_a, contrast_b, contrast_f = (_masked_contrast(x, sensitivity) for x in (a, b, f))
    total = contrast_a**2 + contrast_b**2
    kept_a = contrast_a**2 * _smaller_over_larger(contrast_a, contrast_f)
    kept_b = contrast_b**2 * _smaller_over_larger(contrast_b, contrast_f)
    return over_channels(ratio(kept_a + kept_b, total).mean(_ALL))


def qcv(a: Tensor, b: Tensor, f: Tensor) -> Tensor:
    """Compute Qcv: the error an observer would see, weighted by the sources' edges.

    ``sum (w_A D_A + w_B D_B) / sum (w_A + w_B)`` over 16x16 blocks.

    w_S: sum over the block of (Sobel magnitude of S)^5. D_S: mean over the block of the squared
    difference S - F after the contrast sensitivity
    2.6 (0.0192 + 0.144 r) exp(-(0.144 r)^1.1) (Mannos, Sakrison).

    From 0 up, lower is better; 0 for two equal sources and their copy. Sources without edges (0/0)
    give 0. H. Chen, P. Varshney, Information Fusion 8(2), 2007.

    Quirk: blocks over the right and lower edge are filled with zeros and still count 256 pixels.
    """
    a, b, f = (stretch(x) for x in prepare("Qcv", a, b, f))
    sensitivity = _mannos_sakrison(_frequency(f, scale=8))
    seen = total = f.new_zeros(())
    for source in (a, b):
        saliency = _block_sums(magnitude(*sobel(source, "constant")) ** 5)
        difference = _filter_spectrum(source - f, sensitivity)
        seen = seen + (saliency * _block_sums(difference**2) / 256).sum(_ALL)
        total = total + saliency.sum(_ALL)
    return over_channels(ratio(seen, total))


def _smaller_over_larger(x: Tensor, y: Tensor) -> Tensor:
    return ratio(torch.minimum(x, y), torch.maximum(x, y))


def _masked_contrast(x: Tensor, sensitivity: Tensor) -> Tensor:
    x = _filter_spectrum(stretch(x), sensitivity)
    narrow, wide = filter_same(x, _cut_gaussian(2)), filter_same(x, _cut_gaussian(4))
    contrast = torch.where(wide == 0, 0.0, (narrow / wide - 1).abs())
    squared = contrast * contrast
    return squared * contrast / (squared + 0.0001)


def _cut_gaussian(sigma: float) -> Tensor:
    """Return 31 taps with the amplitude of the infinite Gaussian: cut, not renormalised."""
    t = torch.arange(-15, 16, dtype=torch.float64)
    return torch.exp(-(t**2) / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi))


def _difference_of_gaussians(r: Tensor) -> Tensor:
    return torch.exp(-((r / 15.3870) ** 2)) - 0.7622 * torch.exp(-((r / 1.3456) ** 2))


def _mannos_sakrison(r: Tensor) -> Tensor:
    return 2.6 * (0.0192 + 0.144 * r) * torch.exp(-((0.144 * r) ** 1.1))


def _frequency(x: Tensor, scale: int) -> Tensor:
    """Return r = hypot(u W, v H) / scale with u, v in [-1, 1), on the grid of the real-input transform."""
    height, width = x.shape[-2:]
    u = 2 * torch.fft.rfftfreq(width, dtype=x.dtype, device=x.device)
    v = 2 * torch.fft.fftfreq(height, dtype=x.dtype, device=x.device)
    return torch.hypot(u * width / scale, v[:, None] * height / scale)


def _filter_spectrum(x: Tensor, response: Tensor) -> Tensor:
    filtered: Tensor = torch.fft.irfft2(torch.fft.rfft2(x) * response, s=x.shape[-2:])
    return filtered


def _block_sums(x: Tensor) -> Tensor:
    height, width = x.shape[-2:]
    x = F.pad(x, (0, -width % 16, 0, -height % 16))
    blocks: Tensor = x.unflatten(-1, (-1, 16)).unflatten(-3, (-1, 16))
    return blocks.sum((-3, -1))
