from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from ddfm.metrics import qcb, qcv
from tests.metrics.pictures import Array, array, picture, triple


def stretch(x: Array) -> Array:
    return np.asarray(np.floor((x - x.min()) / np.ptp(x) * 255 + 0.5))


def in_frequency(x: Array, scale: float, response: Array | None = None) -> Array:
    height, width = x.shape
    u, v = 2 * np.fft.fftfreq(width) * width / scale, 2 * np.fft.fftfreq(height) * height / scale
    r = np.hypot(u, v[:, None])
    if scale == 8:
        response = 2.6 * (0.0192 + 0.144 * r) * np.exp(-((0.144 * r) ** 1.1))
    else:
        response = np.exp(-((r / 15.3870) ** 2)) - 0.7622 * np.exp(-((r / 1.3456) ** 2))
    return np.asarray(np.fft.ifft2(np.fft.fft2(x) * response).real)


def literal_qcb(a: Array, b: Array, f: Array) -> float:
    t = np.arange(-15, 16)

    def contrast(x: Array) -> Array:
        x = in_frequency(stretch(x), 30)
        near, far = (
            ndimage.correlate(
                x, np.exp(-(t[:, None] ** 2 + t**2) / (2 * s * s)) / (2 * np.pi * s * s), mode="constant"
            )
            for s in (2, 4)
        )
        c = np.abs(near / far - 1)
        return np.asarray(c**3 / (c**2 + 0.0001))

    c_a, c_b, c_f = contrast(a), contrast(b), contrast(f)
    q_a, q_b = (np.minimum(c, c_f) / np.maximum(c, c_f) for c in (c_a, c_b))
    return float(((c_a**2 * q_a + c_b**2 * q_b) / (c_a**2 + c_b**2)).mean())


def literal_qcv(a: Array, b: Array, f: Array) -> float:
    f, seen, weights = stretch(f), 0.0, 0.0
    for source in (stretch(a), stretch(b)):
        g = np.hypot(*(ndimage.sobel(source, axis, mode="constant") for axis in (0, 1)))
        error = in_frequency(source - f, 8) ** 2
        for y in range(0, f.shape[0], 16):
            for x in range(0, f.shape[1], 16):
                block = np.s_[y : y + 16, x : x + 16]
                weight = (g[block] ** 5).sum()
                seen += weight * error[block].sum() / 256
                weights += weight
    return float(seen / weights)


@pytest.mark.parametrize(("height", "width"), [(48, 32), (37, 45)])
def test_against_square_windows_and_full_transforms(height: int, width: int) -> None:
    images = triple(height, width)
    arrays = [array(image) for image in images]
    assert qcb(*images).item() == pytest.approx(literal_qcb(*arrays), rel=1e-9)
    assert qcv(*images).item() == pytest.approx(literal_qcv(*arrays), rel=1e-9)


def test_an_overall_change_of_contrast_is_not_seen() -> None:
    a, b, f = triple()
    assert qcb(a, b, f / 255 * 51).item() == pytest.approx(qcb(a, b, f).item(), abs=0.02)
    assert qcv(a, a, 20 + a / 2).item() < 2


def test_another_scene_scores_worse() -> None:
    a, b, f = triple()
    other = picture(7, 44, 47)
    assert qcb(a, b, other).item() < qcb(a, b, f).item()
    assert qcv(a, b, other).item() > qcv(a, b, f).item()


def test_noise_is_seen() -> None:
    a, b, f = triple()
    noise = 25 * torch.randn(f.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert qcv(a, b, (f + noise).clamp(0, 255)).item() > qcv(a, b, f).item()


def test_sources_without_edges_show_no_error() -> None:
    flat = torch.full((1, 1, 32, 32), 50.0)
    assert qcv(flat, flat, picture(0, 32, 32)).item() == 0
