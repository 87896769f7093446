"""Visual information fidelity: the information an observer could extract, with and without distortion."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ddfm.metrics._checks import over_channels, prepare, ratio
from ddfm.metrics._filters import FLAT, covariance, filter_valid, gaussian, mean_and_variance, strips

_ALL = (-2, -1)
_SIZES = (17, 9, 5, 3)
_AT_LEAST = 41  # 41 -> 17 -> 7 -> 3 pixels: the fourth scale has one 3x3 window


def vif(a: Tensor, b: Tensor, f: Tensor) -> Tensor:
    """Compute VIF: ``VIFp(A, F) + VIFp(B, F)``, in the pixel domain.

    VIFp = sum log10(1 + g^2 v_S / (v_n + 2)) / sum log10(1 + v_S / 2), both sums over all windows of
    four scales, with local gain g = c_SF / v_S (0 if negative) and residual v_n = v_F - g c_SF.
    Gaussian windows of 17, 9, 5, 3 pixels, sigma = size / 5, inside the image; before scales 2 to 4
    the image is filtered with that scale's window and every second pixel dropped.

    From 0 up, higher is better; a copy of both sources has 2, enhanced contrast can exceed it. A
    source without structure (0/0) counts 0.
    H. Sheikh, A. Bovik, IEEE TIP 15(2), 2006, and its pixel-domain release (vifp_mscale).

    Quirk: the DDFM authors' tables call this VIF, their evaluator VIFF; it is not Han's VIFF, for
    which see :func:`viff`.
    """
    a, b, f = prepare("VIF", a, b, f, at_least=_AT_LEAST)
    kept_a = kept_b = total_a = total_b = f.new_zeros(())
    for taps, images in _scales(a, b, f):
        for strip in strips(*images, window=taps.numel()):
            from_a, from_b = _information(strip, taps, noise=2.0)
            kept_a, total_a = kept_a + from_a.kept.sum(_ALL), total_a + from_a.total.sum(_ALL)
            kept_b, total_b = kept_b + from_b.kept.sum(_ALL), total_b + from_b.total.sum(_ALL)
    return over_channels(ratio(kept_a, total_a) + ratio(kept_b, total_b))


def viff(a: Tensor, b: Tensor, f: Tensor) -> Tensor:
    """Compute VIFF (Han): visual information fidelity for fusion, over four scales.

    Sum over the scales of ``p_k sum(kept + C) / sum(total + C)``, p = (1, 0, 0.15, 1) / 2.15.

    kept and total are the logarithms of :func:`vif` with noise 0.005 * 255^2 and C = 1e-7; in every
    window they come from one source only, the one whose gain g in F is smaller (B on a tie).

    From 0 up, higher is better; a copy of two equal sources has 1; flat sources have 1 (C / C).
    Y. Han, Y. Cai, Y. Cao, X. Xu, Information Fusion 14(2), 2013, and its release.

    Quirk: colour was measured on CIELAB lightness there; here it is averaged over the channels.
    """
    a, b, f = prepare("VIFF", a, b, f, at_least=_AT_LEAST)
    small = 1e-7
    value = f.new_zeros(())
    for weight, (taps, images) in zip((1, 0, 0.15, 1), _scales(a, b, f), strict=True):
        from_a, from_b = _information(images, taps, noise=0.005 * 255**2)
        use_a = from_a.gain < from_b.gain
        kept = torch.where(use_a, from_a.kept, from_b.kept)
        total = torch.where(use_a, from_a.total, from_b.total)
        value = value + weight / 2.15 * (kept + small).sum(_ALL) / (total + small).sum(_ALL)
    return over_channels(value)


@dataclass(frozen=True)
class _Information:
    """Per window: information kept, information there was, and the local gain."""

    kept: Tensor
    total: Tensor
    gain: Tensor


def _scales(a: Tensor, b: Tensor, f: Tensor) -> Iterator[tuple[Tensor, tuple[Tensor, Tensor, Tensor]]]:
    """Yield the window of each scale and the images at that scale."""
    for size in _SIZES:
        taps = gaussian(size, size / 5)
        if size != _SIZES[0]:
            a, b, f = (filter_valid(x, taps, stride=2) for x in (a, b, f))
        yield taps, (a, b, f)


def _information(images: tuple[Tensor, ...], taps: Tensor, noise: float) -> tuple[_Information, _Information]:
    a, b, f = images
    mean_f, variance_f = mean_and_variance(f, taps)

    def of(source: Tensor) -> _Information:
        mean, variance = mean_and_variance(source, taps)
        variance = torch.threshold(variance, FLAT, 0.0)
        shared = covariance(source, f, mean, mean_f, taps)
        gain = (shared / (variance + FLAT)).clamp(min=0)
        gain = torch.where((variance == 0) | (variance_f < FLAT), 0.0, gain)
        residual = (variance_f - gain * shared).clamp(min=FLAT)
        kept = torch.log10(1 + gain * gain * variance / (residual + noise))
        return _Information(kept, torch.log10(1 + variance / noise), gain)

    return of(a), of(b)
