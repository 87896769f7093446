from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import correlate2d

from ddfm.metrics import vif, viff
from tests.metrics.pictures import Array, array, constant, picture, triple


def literal_scales(ref: Array, dist: Array, noise: float) -> list[tuple[Array, Array, Array]]:
    """Information kept, information there was and gain at each scale, with square windows."""
    scales = []
    for size in (17, 9, 5, 3):
        t = np.arange(size) - size // 2
        window = np.exp(-(t[:, None] ** 2 + t**2) / (2 * (size / 5) ** 2))
        window /= window.sum()
        if size != 17:
            ref, dist = (correlate2d(v, window, "valid")[::2, ::2] for v in (ref, dist))
        mean_r, mean_d = correlate2d(ref, window, "valid"), correlate2d(dist, window, "valid")
        v_r = np.maximum(correlate2d(ref * ref, window, "valid") - mean_r**2, 0)
        v_d = np.maximum(correlate2d(dist * dist, window, "valid") - mean_d**2, 0)
        shared = correlate2d(ref * dist, window, "valid") - mean_r * mean_d
        gain, residual = np.zeros_like(v_r), v_d.copy()
        for at in np.ndindex(v_r.shape):
            if v_r[at] < 1e-10 or v_d[at] < 1e-10 or shared[at] < 0:
                continue
            gain[at] = shared[at] / (v_r[at] + 1e-10)
            residual[at] = max(v_d[at] - gain[at] * shared[at], 1e-10)
        scales.append((np.log10(1 + gain**2 * v_r / (residual + noise)), np.log10(1 + v_r / noise), gain))
    return scales


def literal_vifp(ref: Array, dist: Array) -> float:
    scales = literal_scales(ref, dist, 2.0)
    return float(sum(kept.sum() for kept, _, _ in scales) / sum(total.sum() for _, total, _ in scales))


def literal_viff(a: Array, b: Array, f: Array) -> float:
    noise, value = 0.005 * 255**2, 0.0
    scales = zip((1, 0, 0.15, 1), literal_scales(a, f, noise), literal_scales(b, f, noise), strict=True)
    for weight, (kept_a, total_a, gain_a), (kept_b, total_b, gain_b) in scales:
        kept = np.where(gain_a < gain_b, kept_a, kept_b)
        total = np.where(gain_a < gain_b, total_a, total_b)
        value += weight / 2.15 * (kept + 1e-7).sum() / (total + 1e-7).sum()
    return float(value)


@pytest.mark.parametrize(("height", "width"), [(41, 41), (100, 77)])
def test_separable_windows_give_what_square_ones_give(height: int, width: int) -> None:
    a, b, f = triple(height, width)
    x, y, z = (array(image) for image in (a, b, f))
    assert vif(a, b, f).item() == pytest.approx(literal_vifp(x, z) + literal_vifp(y, z), rel=1e-9)
    assert viff(a, b, f).item() == pytest.approx(literal_viff(x, y, z), rel=1e-9)


def test_more_contrast_is_more_information() -> None:
    a = 60 + picture(0, 64, 64) / 4
    assert vif(a, a, a).item() == pytest.approx(2, abs=1e-8)
    assert vif(a, a, (a - 60) * 3).item() > 2
    assert vif(a, a, 60 + (a - 60) / 3).item() < 2


def test_a_flat_source_counts_nothing() -> None:
    a = picture(0, 64, 64)
    assert vif(a, constant(77.3, 64, 64), a).item() == pytest.approx(1, abs=1e-8)
