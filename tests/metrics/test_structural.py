from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.ndimage import sobel
from scipy.signal import correlate2d
from skimage.metrics import structural_similarity

from ddfm.metrics import ms_ssim, q0, qe, qs, qw, qy, ssim
from tests.metrics.pictures import Array, array, constant, picture, triple


@pytest.mark.parametrize("data_range", [2, 255])
def test_uniform_ssim_is_scikit_images_default(data_range: int) -> None:
    a, b, f = triple()
    expected = sum(structural_similarity(array(s), array(f), data_range=data_range) for s in (a, b))
    assert ssim(a, b, f, window="uniform", data_range=data_range).item() == pytest.approx(expected, rel=1e-9)


def test_gaussian_ssim_is_scikit_images_with_the_papers_settings() -> None:
    a, b, f = triple()
    settings: dict[str, Any] = {"gaussian_weights": True, "use_sample_covariance": False, "data_range": 255}
    expected = sum(structural_similarity(array(s), array(f), **settings) for s in (a, b))
    assert ssim(a, b, f).item() == pytest.approx(expected, rel=1e-9)


def gaussian_window(size: int, sigma: float) -> Array:
    t = np.arange(size) - (size - 1) / 2
    window = np.exp(-(t[:, None] ** 2 + t**2) / (2 * sigma**2))
    return np.asarray(window / window.sum())


def literal_ms_ssim(x: Array, y: Array) -> float:
    window, product = gaussian_window(11, 1.5), 1.0
    for scale, power in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        mean_x, mean_y = (correlate2d(v, window, "valid") for v in (x, y))
        variance_x = correlate2d(x * x, window, "valid") - mean_x**2
        variance_y = correlate2d(y * y, window, "valid") - mean_y**2
        shared = correlate2d(x * y, window, "valid") - mean_x * mean_y
        term = (2 * shared + 7.65**2) / (variance_x + variance_y + 7.65**2)
        if scale == 4:
            term *= (2 * mean_x * mean_y + 2.55**2) / (mean_x**2 + mean_y**2 + 2.55**2)
        product *= max(term.mean(), 0) ** power
        x, y = (
            v[: len(v) // 2 * 2, : v.shape[1] // 2 * 2].reshape(len(v) // 2, 2, -1, 2).mean((1, 3))
            for v in (x, y)
        )
    return float(product)


def test_ms_ssim_against_a_literal_transcription() -> None:
    a, b, f = triple(177, 190)
    expected = sum(literal_ms_ssim(array(s), array(f)) for s in (a, b))
    assert ms_ssim(a, b, f).item() == pytest.approx(expected, rel=1e-9)


def test_ms_ssim_of_an_inverted_image_is_0() -> None:
    a = picture(0, 176, 176)
    assert ms_ssim(a, a, 255 - a).item() == 0


Map = Array


def window_moments(x: Array, y: Array, weights: Array) -> tuple[float, float, float, float, float]:
    mean_x, mean_y = (weights * x).sum(), (weights * y).sum()
    dx, dy = x - mean_x, y - mean_y
    return mean_x, mean_y, (weights * dx * dx).sum(), (weights * dy * dy).sum(), (weights * dx * dy).sum()


def literal_q0(x: Array, y: Array, weights: Array) -> float:
    mean_x, mean_y, v_x, v_y, c = window_moments(x, y, weights)
    brightness = 1.0 if mean_x == mean_y == 0 else 2 * mean_x * mean_y / (mean_x**2 + mean_y**2)
    return brightness * (1.0 if v_x + v_y < 1e-10 else 2 * c / (v_x + v_y))


def literal_maps(a: Array, b: Array, f: Array, weights: Array) -> tuple[Map, Map, Map, Map, Map]:
    """Q0(A, F), Q0(B, F), Q0(A, B), v_A and v_B in every window."""
    size = len(weights)
    rows, columns = f.shape[0] - size + 1, f.shape[1] - size + 1
    maps = np.zeros((5, rows, columns))
    for y in range(rows):
        for x in range(columns):
            window_a, window_b, window_f = (v[y : y + size, x : x + size] for v in (a, b, f))
            _, _, v_a, v_b, _ = window_moments(window_a, window_b, weights)
            maps[:, y, x] = (
                literal_q0(window_a, window_f, weights),
                literal_q0(window_b, window_f, weights),
                literal_q0(window_a, window_b, weights),
                v_a,
                v_b,
            )
    return maps[0], maps[1], maps[2], maps[3], maps[4]


def share(v_a: Array, v_b: Array) -> Array:
    both = v_a + v_b
    return np.where(both < 1e-10, 0.5, v_a / np.where(both == 0, 1, both))


def with_flat_corner(image: Array) -> Array:
    image = image.copy()
    image[:12, :12] = 40
    return image


def literal_qw(a: Array, b: Array, f: Array) -> float:
    q_a, q_b, _, v_a, v_b = literal_maps(a, b, f, np.full((8, 8), 1 / 64))
    weight = np.maximum(v_a, v_b)
    portion = share(v_a, v_b)
    return float((weight * (portion * q_a + (1 - portion) * q_b)).sum() / weight.sum())


def test_piellas_indices_against_windows_one_by_one() -> None:
    images = triple(24, 21)
    flat = [with_flat_corner(array(image)) for image in images]
    for a, b, f in ([array(image) for image in images], flat):
        tensors = [constant(0, 24, 21) + 0 for _ in range(3)]
        for tensor, image in zip(tensors, (a, b, f), strict=True):
            tensor[0, 0] += tensor.new_tensor(image)
        q_a, q_b, _, v_a, v_b = literal_maps(a, b, f, np.full((8, 8), 1 / 64))
        portion = share(v_a, v_b)
        mixed = portion * q_a + (1 - portion) * q_b
        assert q0(*tensors).item() == pytest.approx((q_a.mean() + q_b.mean()) / 2, rel=1e-9)
        assert qs(*tensors).item() == pytest.approx(mixed.mean(), rel=1e-9)
        assert qw(*tensors).item() == pytest.approx(literal_qw(a, b, f), rel=1e-9)
        edges = [np.hypot(sobel(v, 0, mode="nearest"), sobel(v, 1, mode="nearest")) for v in (a, b, f)]
        expected = literal_qw(a, b, f) * literal_qw(*edges)
        assert qe(*tensors).item() == pytest.approx(expected, rel=1e-9)
        assert qe(*tensors, alpha=0).item() == pytest.approx(qw(*tensors).item(), rel=1e-12)


@pytest.mark.parametrize("alike", [False, True])
def test_yangs_index_against_windows_one_by_one(alike: bool) -> None:
    a, b, f = triple(24, 21)
    if alike:
        b = (0.9 * a + 0.1 * b).round()
    q_a, q_b, q_ab, v_a, v_b = literal_maps(array(a), array(b), array(f), gaussian_window(7, 1.5))
    assert (q_ab >= 0.75).any() == alike
    portion = share(v_a, v_b)
    expected = np.where(q_ab >= 0.75, portion * q_a + (1 - portion) * q_b, np.maximum(q_a, q_b)).mean()
    assert qy(a, b, f).item() == pytest.approx(expected, rel=1e-9)


def test_a_complementary_copy_satisfies_yang() -> None:
    """Where the sources differ, copying the one is enough."""
    a, b, _ = triple()
    assert qy(a, b, a).item() > 0.95
    assert qs(a, b, a).item() < qy(a, b, a).item()
