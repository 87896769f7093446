from __future__ import annotations

from math import log, log2

import numpy as np
import pytest
import torch

from ddfm.metrics import (
    cross_entropy,
    entropy,
    feature_mutual_information,
    mutual_information,
    normalized_mutual_information,
)
from tests.metrics.pictures import Array, array, constant, picture, triple


def test_entropy_of_equally_many_pixels_of_each_level() -> None:
    every_level = torch.arange(256.0).view(1, 1, 16, 16)
    assert entropy(every_level).item() == pytest.approx(8, rel=1e-14)
    assert entropy(every_level // 128 * 200).item() == pytest.approx(1, rel=1e-14)


def test_fractions_are_rounded_halves_up() -> None:
    image = torch.tensor([0.5, 1.0, 1.49, 2.5, 3.0, 3.4, 254.5, 255.0]).view(1, 1, 2, 4)
    assert entropy(image).item() == pytest.approx(-(3 / 8 * np.log2(3 / 8) * 2 + 2 / 8 * np.log2(2 / 8)))


def test_cross_entropy_of_two_level_images() -> None:
    def levels(zeros: int) -> torch.Tensor:
        return torch.where(torch.arange(64) < zeros, 0.0, 9.0).view(1, 1, 8, 8)

    value = cross_entropy(levels(16), levels(32), levels(8)).item()
    first = 1 / 4 * np.log2((1 / 4) / (1 / 8)) + 3 / 4 * np.log2((3 / 4) / (7 / 8))
    second = 1 / 2 * np.log2((1 / 2) / (1 / 8)) + 1 / 2 * np.log2((1 / 2) / (7 / 8))
    assert value == pytest.approx((first + second) / 2)


def test_images_without_a_common_level_have_no_cross_entropy() -> None:
    assert cross_entropy(constant(3), constant(4), constant(5)).item() == 0


def literal_information(x: Array, y: Array) -> tuple[float, float, float]:
    joint: Array = np.histogram2d(x.ravel(), y.ravel(), bins=256, range=[[0, 256], [0, 256]])[0] / x.size

    def h(p: Array) -> float:
        return -sum(float(v) * log(v) for v in p.ravel() if v > 0)

    return h(joint.sum(1)) + h(joint.sum(0)) - h(joint), h(joint.sum(1)), h(joint.sum(0))


def test_mutual_information_against_numpy_histograms() -> None:
    a, b, f = triple()
    (mi_a, h_a, h_f), (mi_b, h_b, _) = (literal_information(array(s), array(f)) for s in (a, b))
    assert mutual_information(a, b, f).item() == pytest.approx(mi_a + mi_b, rel=1e-12)
    expected = 2 * mi_a / (h_a + h_f) + 2 * mi_b / (h_b + h_f)
    assert normalized_mutual_information(a, b, f).item() == pytest.approx(expected, rel=1e-12)


def test_stretching_merges_no_levels_of_a_narrow_image_but_shifts_them() -> None:
    a, b, f = triple()
    narrow = 100 + torch.floor(f / 32)
    plain, stretched = (mutual_information(a, b, narrow, stretched=s).item() for s in (False, True))
    full = a.amin().item() == 0 and a.amax().item() == 255
    assert not full  # so that stretching changes the sources' levels, though not their number
    assert stretched == pytest.approx(plain, rel=1e-12)


def literal_window(x: Array, y: Array) -> float:
    """Fast-FMI of one window, cell by cell."""
    if (x == y).all():
        return 1.0

    def distribution(v: Array) -> Array:
        v = np.ones(9) if v.max() == v.min() else (v - v.min()) / (v.max() - v.min())
        return np.asarray(v / v.sum())

    def h(p: Array) -> float:
        return -sum(float(v) * log2(abs(v)) for v in p.ravel() if v != 0)

    p, q = distribution(x.T.ravel()), distribution(y.T.ravel())
    cdf_p, cdf_q = np.append(0, np.cumsum(p)), np.append(0, np.cumsum(q))
    flat = np.ptp(p) == 0 or np.ptp(q) == 0
    c = 0.0 if flat else float(np.corrcoef(p, q)[0, 1])
    i = np.arange(1, 10)
    spread = np.sqrt((p @ i**2 - (p @ i) ** 2) * (q @ i**2 - (q @ i) ** 2))

    def bound(s: float, t: float) -> float:
        return min(s, t) if c >= 0 else max(s + t - 1, 0)

    covariance = sum(bound(s, t) - s * t for s in cdf_p[1:] for t in cdf_q[1:])
    weight = 0.0 if c == 0 or spread == 0 else c / (covariance / spread)
    joint = np.zeros((9, 9))
    for m in range(9):
        for n in range(9):
            extreme = (
                bound(cdf_p[m + 1], cdf_q[n + 1])
                - bound(cdf_p[m], cdf_q[n + 1])
                - bound(cdf_p[m + 1], cdf_q[n])
                + bound(cdf_p[m], cdf_q[n])
            )
            joint[m, n] = weight * extreme + (1 - weight) * p[m] * q[n]
    both = h(p) + h(q)
    return 0.0 if both == 0 else 2 * (both - h(joint)) / both


def literal_fmi(a: Array, b: Array, f: Array) -> float:
    height, width = f.shape
    windows = [np.s_[y : y + 3, x : x + 3] for y in range(height - 2) for x in range(width - 2)]
    return float(np.mean([(literal_window(a[w], f[w]) + literal_window(b[w], f[w])) / 2 for w in windows]))


@pytest.mark.parametrize("levels", [256, 8])
def test_fmi_against_the_definition_cell_by_cell(levels: int) -> None:
    a, b, f = (picture(seed, 12, 15, levels) for seed in range(3))
    expected = literal_fmi(array(a), array(b), array(f))
    assert feature_mutual_information(a, b, f).item() == pytest.approx(expected, rel=1e-9)


def test_fmi_of_gradients_is_fmi_of_the_gradient_images() -> None:
    images = triple(14, 15)
    gradients = [np.hypot(*np.gradient(array(image))) for image in images]
    value = feature_mutual_information(*images, feature="gradient").item()
    assert value == pytest.approx(literal_fmi(*gradients), rel=1e-9)
