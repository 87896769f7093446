"""Structural similarity and the fusion quality indices built on it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ddfm.errors import InputError
from ddfm.metrics._checks import over_channels, prepare, ratio
from ddfm.metrics._filters import (
    FLAT,
    covariance,
    filter_valid,
    gaussian,
    magnitude,
    mean_and_variance,
    sobel,
    strips,
    uniform,
)

_ALL = (-2, -1)
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def ssim(
    a: Tensor,
    b: Tensor,
    f: Tensor,
    *,
    window: Literal["gaussian", "uniform"] = "gaussian",
    data_range: float = 255.0,
) -> Tensor:
    """Compute SSIM: ``SSIM(A, F) + SSIM(B, F)``, the mean over all windows inside the image.

    SSIM = (2 m_x m_y + C1)(2 c_xy + C2) / ((m_x^2 + m_y^2 + C1)(v_x + v_y + C2)),
    C1 = (0.01 L)^2, C2 = (0.03 L)^2.

    Range -2..2, higher is better; 2 only if A = B = F.
    Z. Wang, A. Bovik, H. Sheikh, E. Simoncelli, IEEE TIP 13(4), 2004, eq. 13.

    Args:
        window: ``"gaussian"``: 11x11, sigma 1.5, population moments (the paper, VIFB).
            ``"uniform"``: 7x7, sample moments (49/48), scikit-image's default.
        data_range: L. Quirk of the DDFM authors' numbers: scikit-image 0.19 took L = 2 for float
            images in 0..255, which all but removes C1 and C2; they are not comparable with L = 255.
    """
    taps, bessel = (gaussian(11, 1.5), 1.0) if window == "gaussian" else (uniform(7), 49 / 48)
    a, b, f = prepare("SSIM", a, b, f, at_least=taps.numel())
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    total = f.new_zeros(())
    for strip_a, strip_b, strip_f in strips(a, b, f, window=taps.numel()):
        mean_f, variance_f = mean_and_variance(strip_f, taps)
        for source in (strip_a, strip_b):
            mean, variance = mean_and_variance(source, taps)
            shared = covariance(source, strip_f, mean, mean_f, taps)
            luminance = (2 * mean * mean_f + c1) / (mean * mean + mean_f * mean_f + c1)
            structure = (2 * bessel * shared + c2) / (bessel * (variance + variance_f) + c2)
            total = total + (luminance * structure).sum(_ALL)
    height, width = (side - taps.numel() + 1 for side in f.shape[2:])
    return over_channels(total / (height * width))


def ms_ssim(a: Tensor, b: Tensor, f: Tensor) -> Tensor:
    """Compute MS-SSIM: ``MS(A, F) + MS(B, F)``, each the product over five scales of SSIM's parts.

    The contrast-structure term of every scale and the luminance of the last, averaged over the
    image, to the powers 0.0448, 0.2856, 0.3001, 0.2363, 0.1333; scales by 2x2 means. Needs 176 pixels
    each way, so that an 11x11 window fits the fifth scale.

    Range 0..2, higher is better. Z. Wang, E. Simoncelli, A. Bovik, Asilomar 2003, eq. 7.

    Quirk: a negative mean (contrast inverted at some scale) has no real power; it counts 0.
    """
    a, b, f = prepare("MS-SSIM", a, b, f, at_least=176)
    return over_channels(_ms_ssim(a, f) + _ms_ssim(b, f))


def _ms_ssim(x: Tensor, y: Tensor) -> Tensor:
    taps, c1, c2 = gaussian(11, 1.5), (0.01 * 255) ** 2, (0.03 * 255) ** 2
    product = y.new_ones(())
    for scale, power in enumerate(_SCALE_WEIGHTS, start=1):
        mean_x, variance_x = mean_and_variance(x, taps)
        mean_y, variance_y = mean_and_variance(y, taps)
        term = (2 * covariance(x, y, mean_x, mean_y, taps) + c2) / (variance_x + variance_y + c2)
        if scale == len(_SCALE_WEIGHTS):
            term = term * (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
        product = product * term.mean(_ALL).clamp(min=0) ** power
        x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
    return product


def mef_ssim(sources: Sequence[Tensor] | Tensor, f: Tensor) -> Tensor:
    """Compute MEF-SSIM: the structures that two or more exposures have together, kept in F.

    In every 11x11 window the sources x_k are taken apart into mean, contrast and structure,
    x_k = m_k + c_k s_k, with c_k = |x_k - m_k|. What the fused window should be, but for its mean, is r:
    the largest contrast max_k c_k times the unit vector along sum c_k^p s_k, where p = tan(pi/2 R), at
    most 10, and R = |sum (x_k - m_k)| / sum c_k says how far the structures agree: where they do the
    strongest counts, where they don't all do alike. The window's value is (2 s_rf + C) / (v_r + v_f + C)
    with Gaussian statistics (sigma 1.5) and C = (.03 * 255)^2, without a term of luminance. Windows
    are averaged at three scales (2x2 means), whose values are multiplied to the powers 0.0448, 0.2856,
    0.3001, made to sum to one. Needs 41 pixels each way, so that a window fits the third.

    Range 0..1, higher is better. K. Ma, K. Zeng, Z. Wang, IEEE TIP 24(11), 2015, and the authors' code:
    eps and 0.001 against 0/0 as there. The order of the sources does not matter.

    Quirk: a negative mean (contrast inverted at some scale) has no real power; it counts 0.

    Args:
        sources: (B, C, H, W) each, two or more, or a stack of them, (K, B, C, H, W).
        f: the fused images, (B, C, H, W).
    """
    images = prepare("MEF-SSIM", *sources, f, at_least=4 * (_MEF_WINDOW - 1) + 1)
    if len(images) < 3:
        raise InputError(f"MEF-SSIM needs two sources or more, not {len(images) - 1}")
    powers = _SCALE_WEIGHTS[:3]
    product = images[-1].new_ones(())
    for scale, power in enumerate(powers):
        if scale:
            images = tuple(_halved(image) for image in images)
        height, width = (side - _MEF_WINDOW + 1 for side in images[0].shape[2:])
        total = images[0].new_zeros(())
        for *strip, strip_f in strips(*images, window=_MEF_WINDOW):
            total = total + _mef_quality(strip, strip_f).sum(_ALL)
        product = product * (total / (height * width)).clamp(min=0) ** (power / sum(powers))
    return over_channels(product)


_MEF_WINDOW = 11
_MEF_MOST = 10.0  # of p: as good as taking the strongest source
_MEF_FLOOR = 0.001  # of a contrast


def _halved(x: Tensor) -> Tensor:
    """Return 2x2 means at every second pixel; an odd last row or column is its own neighbour."""
    return F.avg_pool2d(F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2), mode="replicate"), 2)


def _mef_quality(sources: Sequence[Tensor], f: Tensor) -> Tensor:
    """Return the value of every window.

    r is a sum of sources with one factor a window each. So its moments are sums of theirs, and no window has
    to be computed alone.
    """
    eps, window = torch.finfo(torch.float64).eps, _MEF_WINDOW
    flat, round_ = uniform(window), gaussian(window, 1.5)
    count = len(sources)

    norms = [window * mean_and_variance(x, flat)[1].sqrt() for x in sources]
    contrasts = [norm + _MEF_FLOOR for norm in norms]
    together = window * mean_and_variance(sum(sources[1:], sources[0]), flat)[1].sqrt()
    agreement = ((together + eps) / (sum(norms[1:], norms[0]) + eps)).clamp(0, 1 - eps)
    p = torch.tan(math.pi / 2 * agreement).clamp(max=_MEF_MOST)
    weights = [(contrast / window) ** p + eps for contrast in contrasts]
    total = sum(weights[1:], weights[0])
    factors = [w / total / contrast for w, contrast in zip(weights, contrasts, strict=True)]

    length = variance_r = shared = f.new_zeros(())
    mean_f, variance_f = mean_and_variance(f, round_)
    means = [(filter_valid(x, flat), filter_valid(x, round_)) for x in sources]
    for k in range(count):
        shared = shared + factors[k] * covariance(sources[k], f, means[k][1], mean_f, round_)
        for j in range(k + 1):
            both = (1 if j == k else 2) * factors[k] * factors[j]
            flat_jk, round_jk = (
                covariance(sources[k], sources[j], means[k][i], means[j][i], taps)
                for i, taps in enumerate((flat, round_))
            )
            length = length + both * flat_jk
            variance_r = variance_r + both * round_jk
    length = window * length.clamp(min=0).sqrt()
    largest = torch.stack(torch.broadcast_tensors(*contrasts)).amax(0)
    scale = torch.where(length > 0, largest / length, 0.0)
    c = (0.03 * 255) ** 2
    return (2 * scale * shared + c) / (scale.square() * variance_r.clamp(min=0) + variance_f + c)


def q0(a: Tensor, b: Tensor, f: Tensor) -> Tensor:
    """Compute Q0: ``(Q0(A, F) + Q0(B, F)) / 2``, the universal image quality index in 8x8 windows.

    Q0 = 4 c_xy m_x m_y / ((v_x + v_y)(m_x^2 + m_y^2)), that is SSIM without constants. A factor 0/0
    (two flat windows, two black ones) counts 1: they are alike.

    Range -1..1, higher is better. Z. Wang, A. Bovik, IEEE SPL 9(3), 2002, eq. 1.
    """
    a, b, f = prepare("Q0", a, b, f, at_least=8)
    pair = _Pair(a, b, f, uniform(8))
    return over_channels((pair.quality_a.mean(_ALL) + pair.quality_b.mean(_ALL)) / 2)


def qs(a: Tensor, b: Tensor, f: Tensor) -> Tensor:
    """Compute Qs (Piella's Q): mean over 8x8 windows of ``l Q0(A, F) + (1 - l) Q0(B, F)``.

    l = v_A / (v_A + v_B), the saliency by local variance; 1/2 where both are flat.
    Range -1..1, higher is better. G. Piella, H. Heijmans, ICIP 2003.
    """
    a, b, f = prepare("Qs", a, b, f, at_least=8)
    return over_channels(_Pair(a, b, f, uniform(8)).mixed().mean(_ALL))


def qw(a: Tensor, b: Tensor, f: Tensor) -> Tensor:
    """Compute Qw (Piella): as :func:`qs`, each window weighted by ``max(v_A, v_B)``.

    Range -1..1, higher is better; sources that are flat everywhere (0/0) score 0.
    G. Piella, H. Heijmans, ICIP 2003.
    """
    a, b, f = prepare("Qw", a, b, f, at_least=8)
    return over_channels(_weighted(a, b, f))


def qe(a: Tensor, b: Tensor, f: Tensor, *, alpha: float = 1.0) -> Tensor:
    """Compute Qe (Piella): ``Qw(A, B, F) * Qw(A', B', F')^alpha``, with A' the Sobel magnitude of A.

    Range -1..1 (alpha = 1), higher is better. G. Piella, H. Heijmans, ICIP 2003; the edge
    operator is left open there. A negative edge term has no real power unless alpha is whole: it
    counts 0 then.
    """
    a, b, f = prepare("Qe", a, b, f, at_least=8)
    edges = _weighted(*(magnitude(*sobel(x, "replicate")) for x in (a, b, f)))
    if alpha != int(alpha):
        edges = edges.clamp(min=0)
    return over_channels(_weighted(a, b, f) * edges**alpha)


def qy(a: Tensor, b: Tensor, f: Tensor) -> Tensor:
    """Compute Qy (Yang): the mean over windows of a similarity to both sources, or to the more similar one.

    ``l S(A, F) + (1 - l) S(B, F)`` where S(A, B) >= 0.75, else the larger of S(A, F) and S(B, F).
    Redundant regions are judged against both sources, complementary ones against the better match.
    S: structural similarity without constants, 7x7 Gaussian window, sigma 1.5; l as in :func:`qs`.

    Range -1..1, higher is better. C. Yang, J.-Q. Zhang, X.-R. Wang, X. Liu, Information Fusion 9(2),
    2008; window and (vanishing) constants as in Z. Liu's toolbox (TPAMI 34(1), 2012).
    """
    a, b, f = prepare("Qy", a, b, f, at_least=7)
    taps = gaussian(7, 1.5)
    pair = _Pair(a, b, f, taps)
    shared = covariance(a, b, pair.mean_a, pair.mean_b, taps)
    alike = _quality(pair.mean_a, pair.mean_b, pair.variance_a, pair.variance_b, shared) >= 0.75
    best = torch.maximum(pair.quality_a, pair.quality_b)
    return over_channels(torch.where(alike, pair.mixed(), best).mean(_ALL))


class _Pair:
    """Q0 maps of F against both sources, and the local moments they came from."""

    def __init__(self, a: Tensor, b: Tensor, f: Tensor, taps: Tensor) -> None:
        mean_f, variance_f = mean_and_variance(f, taps)
        self.mean_a, self.variance_a = mean_and_variance(a, taps)
        self.mean_b, self.variance_b = mean_and_variance(b, taps)
        shared_a = covariance(a, f, self.mean_a, mean_f, taps)
        shared_b = covariance(b, f, self.mean_b, mean_f, taps)
        self.quality_a = _quality(self.mean_a, mean_f, self.variance_a, variance_f, shared_a)
        self.quality_b = _quality(self.mean_b, mean_f, self.variance_b, variance_f, shared_b)

    def mixed(self) -> Tensor:
        """Return the mean of both qualities, weighted by the sources' variances."""
        both = self.variance_a + self.variance_b
        share = torch.where(both < FLAT, 0.5, self.variance_a / both)
        return share * self.quality_a + (1 - share) * self.quality_b


def _quality(
    mean_x: Tensor, mean_y: Tensor, variance_x: Tensor, variance_y: Tensor, shared: Tensor
) -> Tensor:
    brightness, contrast = mean_x**2 + mean_y**2, variance_x + variance_y
    luminance = torch.where(brightness < FLAT, 1.0, 2 * mean_x * mean_y / brightness)
    return luminance * torch.where(contrast < FLAT, 1.0, 2 * shared / contrast)


def _weighted(a: Tensor, b: Tensor, f: Tensor) -> Tensor:
    pair = _Pair(a, b, f, uniform(8))
    weight = torch.maximum(pair.variance_a, pair.variance_b)
    weight = torch.where(weight < FLAT, 0.0, weight)
    return ratio((weight * pair.mixed()).sum(_ALL), weight.sum(_ALL))
