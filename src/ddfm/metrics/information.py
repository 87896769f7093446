"""Information: how much the fused image carries, and how much of it is the sources'.

Histograms have one bin per grey level; images that are not whole numbers are rounded, halves up.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ddfm.metrics._checks import over_channels, prepare, ratio
from ddfm.metrics._filters import magnitude, stretch

_WINDOWS_AT_ONCE = 4096  # bounds FMI's memory: each 3x3 window has a 9x9 joint distribution


def entropy(f: Tensor) -> Tensor:
    """Compute EN: Shannon entropy of the fused image, ``-sum_i p_i log2 p_i``.

    Range 0..8 bits, higher is better; a constant image has 0. Noise raises it too.
    J. W. Roberts, J. van Aardt, F. Ahmed, J. Appl. Remote Sens. 2(1), 2008.
    """
    (f,) = prepare("EN", f)
    p = _histogram(f)
    return over_channels(_entropy(p, 1) / torch.log(p.new_tensor(2.0)))


def cross_entropy(a: Tensor, b: Tensor, f: Tensor) -> Tensor:
    """Compute CE: mean over both sources S of ``sum_i p_S(i) log2(p_S(i) / p_F(i))``.

    In bits, lower is better, 0 if F has both histograms.

    Quirk: despite the name this is the Kullback-Leibler divergence. Only bins filled in both images
    count. So it can be negative, and is 0 for images that share no grey level.
    D. M. Bulanon, Biosystems Engineering 103(1), 2009; as in VIFB (Zhang, CVPRW 2020).
    """
    a, b, f = prepare("CE", a, b, f)
    p_f = _histogram(f)

    def divergence(source: Tensor) -> Tensor:
        p = _histogram(source)
        both = (p > 0) & (p_f > 0)
        return torch.where(both, p * torch.log2(p / p_f), 0.0).sum(-1)

    return over_channels((divergence(a) + divergence(b)) / 2)


def mutual_information(a: Tensor, b: Tensor, f: Tensor, *, stretched: bool = False) -> Tensor:
    """Compute MI: ``MI(A, F) + MI(B, F)``, with ``MI(X, Y) = H(X) + H(Y) - H(X, Y)``.

    In nats, from 0 (a constant F, say) up; higher is better.
    G. Qu, D. Zhang, P. Yan, Electronics Letters 38(7), 2002.

    Args:
        stretched: VIFB's quirk: every channel is first stretched to 0..255, which redistributes
            grey levels over the bins.
    """
    a, b, f = prepare("MI", a, b, f)
    if stretched:
        a, b, f = stretch(a), stretch(b), stretch(f)
    levels_a, levels_b, levels_f = (_levels(image) for image in (a, b, f))
    return over_channels(_shared(levels_a, levels_f)[0] + _shared(levels_b, levels_f)[0])


def normalized_mutual_information(a: Tensor, b: Tensor, f: Tensor) -> Tensor:
    """Compute NMI: ``2 [MI(A, F) / (H(A) + H(F)) + MI(B, F) / (H(B) + H(F))]``.

    Range 0..2, higher is better; 2 only if A, B and F determine each other. A pair of constant images
    (0/0) counts 0. M. Hossny, S. Nahavandi, D. Creighton, Electronics Letters 44(18), 2008.
    """
    a, b, f = prepare("NMI", a, b, f)
    levels_a, levels_b, levels_f = (_levels(image) for image in (a, b, f))
    total = f.new_zeros(())
    for levels in (levels_a, levels_b):
        shared, h_s, h_f = _shared(levels, levels_f)
        total = total + 2 * ratio(shared, h_s + h_f)
    return over_channels(total)


def feature_mutual_information(
    a: Tensor, b: Tensor, f: Tensor, *, feature: Literal["pixel", "gradient"] = "pixel"
) -> Tensor:
    """Compute FMI (Fast-FMI): mean over 3x3 windows and both sources of ``2 MI(S, F) / (H(S) + H(F))``.

    Range 0..1, higher is better; a window that equals the source's counts 1. M. Haghighat,
    A. Aghagolzadeh, H. Seyedarabi, Computers & Electrical Engineering 37(5), 2011; M. Haghighat,
    M. Razian, AICT 2014.

    Quirks, all of the definition: the distribution in a window is its nine values themselves,
    stretched to 0..1 and divided by their sum. It is over the positions 1..9, counted down the columns;
    a constant window gives the uniform one. The joint distribution is a mixture of independence and
    a Frechet bound, weighted so as to have the correlation of the nine values (Nelsen); the weight
    may exceed 1, so ``p log |p|`` is used.

    Args:
        feature: ``"pixel"`` for grey values, ``"gradient"`` for the magnitude of central differences.
    """
    a, b, f = prepare("FMI", a, b, f, at_least=3)
    if feature == "gradient":
        a, b, f = (magnitude(*torch.gradient(x, dim=(-1, -2))) for x in (a, b, f))
    return over_channels((_window_information(a, f) + _window_information(b, f)) / 2)


def _histogram(x: Tensor) -> Tensor:
    """Return the shares of the 256 grey levels, shape (B, C, 256)."""
    return _shares(_levels(x), 256)


def _levels(x: Tensor) -> Tensor:
    return (x + 0.5).to(torch.int32)


def _shares(bins: Tensor, count: int) -> Tensor:
    batch, channels, height, width = bins.shape
    if batch * channels > 1:
        bins = bins + count * torch.arange(batch * channels, device=bins.device).view(batch, channels, 1, 1)
    counts = torch.bincount(bins.flatten(), minlength=batch * channels * count)
    return counts.view(batch, channels, count).double() / (height * width)


def _entropy(p: Tensor, dims: int) -> Tensor:
    """Return the entropy in nats, over the last ``dims`` dimensions."""
    return -torch.xlogy(p, p).flatten(-dims).sum(-1)


def _shared(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return MI(X, Y), H(X) and H(Y) in nats, each (B, C), from whole grey levels."""
    joint = _shares(256 * x + y, 256 * 256).unflatten(-1, (256, 256))
    h_x, h_y = _entropy(joint.sum(-1), 1), _entropy(joint.sum(-2), 1)
    return h_x + h_y - _entropy(joint, 2), h_x, h_y


def _window_information(x: Tensor, y: Tensor) -> Tensor:
    x, y = torch.broadcast_tensors(x, y)
    # Nine positions first, windows last: long contiguous runs. Down the columns: hence 5 before 4.
    windows = [v.unfold(2, 3, 1).unfold(3, 3, 1).permute(5, 4, 0, 1, 2, 3).reshape(9, -1) for v in (x, y)]
    chunks = zip(*(v.split(_WINDOWS_AT_ONCE, dim=1) for v in windows), strict=True)
    values = torch.cat([_normalized_information(u, v) for u, v in chunks])
    return values.view(*x.shape[:2], -1).mean(-1)


def _normalized_information(x: Tensor, y: Tensor) -> Tensor:
    """Return one value for each column of two (9, windows) arrays of features."""
    p, q = _distribution(x), _distribution(y)
    independent = p[:, None] * q
    cdf_p, cdf_q = p.cumsum(0)[:, None], q.cumsum(0)
    correlation = _correlation(p, q)
    # The joint distribution functions of the most and the least correlated pair with these margins.
    bound = torch.where(correlation < 0, (cdf_p + cdf_q - 1).clamp(min=0), torch.minimum(cdf_p, cdf_q))
    weight = ratio(correlation * _deviation(p) * _deviation(q), (bound - cdf_p * cdf_q).sum((0, 1)))
    bound = torch.cat([bound[:1], bound.diff(dim=0)])
    bound = torch.cat([bound[:, :1], bound.diff(dim=1)], 1)
    joint = weight * bound + (1 - weight) * independent
    h_p, h_q = -torch.xlogy(p, p).sum(0), -torch.xlogy(q, q).sum(0)
    information = h_p + h_q + torch.xlogy(joint, joint.abs()).sum((0, 1))
    return torch.where((x == y).all(0), 1.0, ratio(2 * information, h_p + h_q))


def _distribution(x: Tensor) -> Tensor:
    low, high = x.amin(0), x.amax(0)
    x = torch.where(high == low, 1.0, x - low)
    return x / x.sum(0)


def _correlation(p: Tensor, q: Tensor) -> Tensor:
    p, q = p - p.mean(0), q - q.mean(0)
    # A uniform distribution is the flat window: whatever differs from its mean is rounding.
    flat = (p.abs().amax(0) < 1e-15) | (q.abs().amax(0) < 1e-15)
    return torch.where(flat, 0.0, ratio((p * q).sum(0), ((p * p).sum(0) * (q * q).sum(0)).sqrt()))


def _deviation(p: Tensor) -> Tensor:
    position = torch.arange(1, 10, dtype=p.dtype, device=p.device)[:, None]
    mean = (p * position).sum(0)
    return ((p * position**2).sum(0) - mean**2).clamp(min=0).sqrt()
