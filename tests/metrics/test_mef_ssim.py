from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from ddfm.errors import InputError
from ddfm.metrics import mef_ssim
from tests.metrics.pictures import Array, array, constant, picture
from tests.metrics.test_structural import gaussian_window

SIZE = 11


def literal_window(x: Array, f: Array, weights: Array) -> float:
    """The value of one window: sources (K, 11, 11), as the authors' code goes about it."""
    eps = float(np.finfo(np.float64).eps)
    centred = x - x.mean((1, 2), keepdims=True)
    norms = np.sqrt((centred**2).sum((1, 2)))
    agreement = (np.linalg.norm(centred.sum(0)) + eps) / (norms.sum() + eps)
    p = min(math.tan(math.pi / 2 * min(agreement, 1 - eps)), 10)
    contrast = norms + 0.001
    w = (contrast / SIZE) ** p + eps
    r = ((w / w.sum() / contrast)[:, None, None] * centred).sum(0)
    if np.linalg.norm(r) > 0:
        r = r / np.linalg.norm(r) * contrast.max()
    dr, df = r - (weights * r).sum(), f - (weights * f).sum()
    c = 7.65**2
    return float(
        (2 * (weights * dr * df).sum() + c) / ((weights * dr**2).sum() + (weights * df**2).sum() + c)
    )


def literal_scale(x: Array, f: Array) -> float:
    weights = gaussian_window(SIZE, 1.5)
    height, width = f.shape
    return float(
        np.mean(
            [
                literal_window(x[:, i : i + SIZE, j : j + SIZE], f[i : i + SIZE, j : j + SIZE], weights)
                for i in range(height - SIZE + 1)
                for j in range(width - SIZE + 1)
            ]
        )
    )


def halved(x: Array) -> Array:
    """Means of 2x2 pixels, the image reflected at its edge (the edge repeated)."""
    x = np.pad(x, (*[(0, 0)] * (x.ndim - 2), (0, 1), (0, 1)), mode="symmetric")
    means = (x[..., :-1, :-1] + x[..., 1:, :-1] + x[..., :-1, 1:] + x[..., 1:, 1:]) / 4
    return np.asarray(means[..., ::2, ::2])


def exposures(count: int, height: int = 47, width: int = 44) -> list[Tensor]:
    scene = picture(3, height, width)
    return [((scene - 40 * k) * (1 + k)).clamp(0, 255).round() for k in range(count)]


@pytest.mark.parametrize("count", [2, 3])
def test_against_a_literal_transcription(count: int) -> None:
    sources = [*exposures(count - 1), picture(4, 47, 44)]
    fused = (sum(sources[1:], sources[0]) / count).round()
    x, f, expected = np.stack([array(source) for source in sources]), array(fused), 1.0
    powers = (0.0448, 0.2856, 0.3001)
    for power in powers:
        expected *= literal_scale(x, f) ** (power / sum(powers))
        x, f = halved(x), halved(f)
    assert mef_ssim(sources, fused).item() == pytest.approx(expected, rel=1e-6)


def test_a_copy_of_equal_sources_is_perfect_and_any_offset_does_not_matter() -> None:
    a = picture(0, 44, 44) / 2
    assert mef_ssim([a, a], a).item() == pytest.approx(1, abs=1e-4)
    assert mef_ssim([a, a + 100, a], a + 50).item() == pytest.approx(1, abs=1e-4)


def test_the_order_of_the_sources_does_not_matter() -> None:
    a, b, c = exposures(3)
    f = (a + b + c) / 3
    assert mef_ssim([c, a, b], f).item() == pytest.approx(mef_ssim([a, b, c], f).item(), rel=1e-9)


def test_the_stronger_exposure_is_what_it_asks_for() -> None:
    strong = picture(0, 44, 44)
    weak = 100 + strong / 8
    assert mef_ssim([strong, weak], strong).item() > 0.99 > mef_ssim([strong, weak], weak).item() + 0.2


def test_flat_sources_ask_for_a_flat_image() -> None:
    flat = [constant(10), constant(250)]
    assert mef_ssim(flat, constant(128)).item() == pytest.approx(1)
    assert mef_ssim(flat, picture(0, 41, 41)).item() < 0.8


def test_batches_channels_and_stacks() -> None:
    a, b = exposures(2)
    fused = torch.cat([a, b, (a + b) / 2])
    each = torch.cat([mef_ssim([a, b], f[None]) for f in fused])
    torch.testing.assert_close(mef_ssim([a, b], fused), each)
    torch.testing.assert_close(mef_ssim(torch.stack([a, b]), fused), each)
    colour = [torch.cat([a, b, a], 1), torch.cat([b, a, a], 1)]
    channels = [mef_ssim([x[:, i : i + 1] for x in colour], a).item() for i in range(3)]
    assert mef_ssim(colour, a).item() == pytest.approx(sum(channels) / 3)


def test_bad_images_are_refused() -> None:
    a = picture(0, 44, 44)
    with pytest.raises(InputError, match="two sources or more, not 1"):
        mef_ssim([a], a)
    with pytest.raises(InputError, match="at least 41x41"):
        mef_ssim([a[..., :40], a[..., :40]], a[..., :40])
