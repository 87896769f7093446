"""Differences, correlations, contrast and activity, straight from the grey values."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ddfm.metrics._checks import over_channels, prepare, ratio
from ddfm.metrics._filters import magnitude, sobel

_ALL = (-2, -1)


def mse(a: Tensor, b: Tensor, f: Tensor) -> Tensor:
    """Compute MSE: ``(mean (A - F)^2 + mean (B - F)^2) / 2`` on 0..255.

    Range 0..65025, lower is better; 0 only if A = B = F.
    """
    return over_channels(_mse(*prepare("MSE", a, b, f)))


def rmse(a: Tensor, b: Tensor, f: Tensor) -> Tensor:
    """Compute RMSE: mean over both sources S of ``sqrt(mean (S - F)^2)``.

    Range 0..255, lower is better.
    """
    a, b, f = prepare("RMSE", a, b, f)
    return over_channels(((a - f).square().mean(_ALL).sqrt() + (b - f).square().mean(_ALL).sqrt()) / 2)


def rmse_vifb(a: Tensor, b: Tensor, f: Tensor) -> Tensor:
    """Compute Rmse of VIFB: mean over both sources S of ``sqrt(sum (S - F)^2) / P``, P pixels.

    Lower is better. Quirk: P stands outside the root, so this is RMSE / sqrt(P) and depends on the
    size of the image: compare only within one size. X. Zhang, P. Ye, G. Xiao, VIFB, CVPRW 2020.
    """
    return over_channels(_rmse_vifb(*prepare("Rmse", a, b, f)))


def psnr(a: Tensor, b: Tensor, f: Tensor, *, peak: float | Literal["fused"] = 255.0) -> Tensor:
    """Compute PSNR: ``10 log10(peak^2 / MSE)`` dB, MSE as in :func:`mse`.

    Higher is better; +inf if MSE = 0 (also for a black F with ``peak="fused"``), -inf for a black F
    with that peak otherwise.

    Args:
        peak: 255, or ``"fused"`` for the quirk of the DDFM authors' evaluator: the maximum of F, which
            makes a dim result score worse for the same error.
    """
    a, b, f = prepare("PSNR", a, b, f)
    error = _mse(a, b, f)
    top = f.amax(_ALL) if peak == "fused" else torch.full_like(error, peak)
    return over_channels(torch.where(error == 0, torch.inf, 10 * torch.log10(top**2 / error)))


def psnr_vifb(a: Tensor, b: Tensor, f: Tensor) -> Tensor:
    """Compute Psnr of VIFB: ``20 log10(255 / sqrt(r))`` with r of :func:`rmse_vifb`.

    Higher is better; +inf if A = B = F. Quirk: r is not an MSE, so this is no PSNR in dB of anything,
    and it grows with the size of the image. X. Zhang, P. Ye, G. Xiao, VIFB, CVPRW 2020.
    """
    error = _rmse_vifb(*prepare("Psnr", a, b, f))
    return over_channels(20 * torch.log10(255 / error.sqrt()))


def correlation_coefficient(a: Tensor, b: Tensor, f: Tensor) -> Tensor:
    """Compute CC: ``(corr(A, F) + corr(B, F)) / 2``, Pearson's correlation of the grey values.

    Range -1..1, higher is better. The correlation with a constant image (0/0) counts 0.
    """
    a, b, f = prepare("CC", a, b, f)
    return over_channels((_pearson(a, f) + _pearson(b, f)) / 2)


def sum_of_correlations_of_differences(a: Tensor, b: Tensor, f: Tensor) -> Tensor:
    """Compute SCD: ``corr(A, F - B) + corr(B, F - A)``.

    Range -2..2, higher is better; F = A + B has 2. Where F equals B, F - B is constant and its
    correlation (0/0) counts 0: nothing of A was added.
    V. Aslantas, E. Bendes, AEU 69(12), 2015.
    """
    a, b, f = prepare("SCD", a, b, f)
    return over_channels(_pearson(a, f - b) + _pearson(b, f - a))


def standard_deviation(f: Tensor) -> Tensor:
    """Compute SD (VIFB: Variance): population standard deviation of F, ``sqrt(mean (F - mean F)^2)``.

    Range 0..127.5, higher is better (more contrast; noise raises it too).
    Y.-J. Rao, Meas. Sci. Technol. 8(4), 1997.
    """
    (f,) = prepare("SD", f)
    return over_channels(f.std(_ALL, correction=0))


def spatial_frequency(f: Tensor, *, mean_over: Literal["differences", "pixels"] = "differences") -> Tensor:
    """Compute SF: ``sqrt(RF^2 + CF^2)``, the mean squares of horizontal and vertical first differences.

    From 0 up, higher is better. A. M. Eskicioglu, P. S. Fisher, IEEE Trans. Commun. 43(12), 1995.

    Args:
        mean_over: ``"differences"``: each mean over its own number of differences. ``"pixels"``: both
            divided by the number of pixels, as VIFB does.
    """
    (f,) = prepare("SF", f, at_least=2)
    rows, columns = f.diff(dim=-1).square(), f.diff(dim=-2).square()
    if mean_over == "pixels":
        return over_channels(((rows.sum(_ALL) + columns.sum(_ALL)) / f[0, 0].numel()).sqrt())
    return over_channels((rows.mean(_ALL) + columns.mean(_ALL)).sqrt())


def spatial_frequency_vifb(f: Tensor) -> Tensor:
    """Compute Spatial_frequency of VIFB: SF of the colour planes laid side by side as one wide image.

    Quirk: the steps across the two seams count. Grey images have no seams.
    X. Zhang, P. Ye, G. Xiao, VIFB, CVPRW 2020.
    """
    return spatial_frequency(f.transpose(1, 2).flatten(2).unsqueeze(1), mean_over="pixels")


def average_gradient(f: Tensor, *, mean_over: Literal["pixels", "interior"] = "pixels") -> Tensor:
    """Compute AG: mean of ``sqrt((dx^2 + dy^2) / 2)``; central differences, one-sided at the edges.

    From 0 up, higher is better (sharper; noise raises it too).
    G. Cui, H. Feng, Z. Xu, Q. Li, Y. Chen, Optics Communications 341, 2015.

    Args:
        mean_over: ``"pixels"``: divided by M N. ``"interior"``: the sum over all pixels divided by
            (M-1)(N-1), as VIFB does.
    """
    (f,) = prepare("AG", f, at_least=2)
    padded = F.pad(f, (1, 1, 1, 1), mode="replicate")
    dx = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    dy = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    # At an edge this was one step over a distance of one, not two.
    dx[..., [0, -1]] *= 2
    dy[..., [0, -1], :] *= 2
    height, width = f.shape[2:]
    count = height * width if mean_over == "pixels" else (height - 1) * (width - 1)
    return over_channels(((dx * dx + dy * dy) / 2).sqrt().sum(_ALL) / count)


def edge_intensity(f: Tensor) -> Tensor:
    """Compute EI: mean magnitude of the unnormalised 3x3 Sobel gradient, edges replicated.

    From 0 up, higher is better. B. Rajalingam, R. Priya, 2018; as in VIFB (Zhang, CVPRW 2020).
    """
    (f,) = prepare("EI", f)
    return over_channels(magnitude(*sobel(f, "replicate")).mean(_ALL))


def _mse(a: Tensor, b: Tensor, f: Tensor) -> Tensor:
    return ((a - f).square().mean(_ALL) + (b - f).square().mean(_ALL)) / 2


def _rmse_vifb(a: Tensor, b: Tensor, f: Tensor) -> Tensor:
    pixels = f[0, 0].numel()
    return ((a - f).square().sum(_ALL).sqrt() + (b - f).square().sum(_ALL).sqrt()) / (2 * pixels)


def _pearson(x: Tensor, y: Tensor) -> Tensor:
    x, y = x - x.mean(_ALL, keepdim=True), y - y.mean(_ALL, keepdim=True)
    norm_x, norm_y = torch.linalg.vector_norm(x, dim=_ALL), torch.linalg.vector_norm(y, dim=_ALL)
    # A constant picture of fractional values leaves rounding behind its mean: not a signal.
    rounding = 1e-10 * x[0, 0].numel() ** 0.5
    norm = torch.where((norm_x < rounding) | (norm_y < rounding), 0.0, norm_x * norm_y)
    return ratio((x * y).sum(_ALL), norm)
