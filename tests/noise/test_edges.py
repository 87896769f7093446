"""How far a lens blurs, found from one picture."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from ddfm import fuse
from ddfm.noise.edges import edge_blurs, estimate_blur
from ddfm.noise.level import GREY_LEVEL
from ddfm.priors.base import Prior

SIZE = (160, 200)


def scene(seed: int = 0) -> NDArray[np.float64]:
    """Return overlapping rectangles, turned and of several greys: straight edges and corners."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    picture = np.full(SIZE, 120.0)
    for _ in range(12):
        turn, (top, left) = random.uniform(0, math.pi), random.uniform(0, 1, 2) * SIZE
        across = (x - left) * math.cos(turn) + (y - top) * math.sin(turn)
        along = (y - top) * math.cos(turn) - (x - left) * math.sin(turn)
        inside = (abs(across) < random.uniform(15, 40)) & (abs(along) < random.uniform(15, 40))
        picture[inside] = random.uniform(30, 225)
    return picture


def as_luma(picture: NDArray[Any], noise: float = 0.0) -> Tensor:
    noisy = picture + np.random.default_rng(1).normal(0, noise, picture.shape)
    return torch.from_numpy(np.rint(noisy.clip(0, 255))).float()[None, None] * GREY_LEVEL - 1


@pytest.mark.parametrize("blur", [1.5, 2.5])
def test_a_step_tells_its_blur_whatever_its_contrast_and_direction(blur: float) -> None:
    y, x = np.mgrid[:100, :100]
    for turn in (0.0, 0.4, math.pi / 4, math.pi / 2):
        for contrast in (40, 150):
            away = (x - 50) * math.cos(turn) + (y - 50) * math.sin(turn)
            edge = torch.special.ndtr(torch.from_numpy(away) / blur).numpy()
            blurs = edge_blurs(as_luma(50 + contrast * edge), 0)
            assert len(blurs) > 30
            assert float(blurs.median()) == pytest.approx(blur, abs=0.15)


@pytest.mark.parametrize("blur", [2.0, 2.5, 3.0])
@pytest.mark.parametrize("noise", [2, 5])
def test_within_a_fifth_of_what_a_lens_does(blur: float, noise: float) -> None:
    for seed in range(3):
        soft = gaussian_filter(scene(seed), blur, truncate=8)
        assert estimate_blur(as_luma(soft, noise), noise * GREY_LEVEL) == pytest.approx(blur, rel=0.2)


def test_what_is_sharp_or_cannot_be_known_is_left_alone() -> None:
    x = np.tile(np.arange(SIZE[1]), (SIZE[0], 1))
    for picture in (scene(), gaussian_filter(scene(), 1), np.full(SIZE, 90), x, scene()[:16, :16]):
        assert estimate_blur(as_luma(picture), 0) == 0
    noise = np.random.default_rng(0).normal(128, 30, SIZE)
    assert estimate_blur(as_luma(gaussian_filter(noise, 1)), 30 * GREY_LEVEL) == 0


def test_sharp_sources_change_in_no_bit_and_soft_ones_become_sharper() -> None:
    def no_prior() -> Prior:
        raise AssertionError("the prior is asked for")

    sharp = scene().astype(np.uint8)
    other = np.tile(np.arange(SIZE[1], dtype=np.uint8), (SIZE[0], 1))
    options: dict[str, Any] = {"steps": 0, "task": "infrared", "stretch": "none"}
    wanted = fuse(sharp, other, prior=no_prior, **options).to_array()
    alike = fuse(sharp, other, prior=no_prior, deblur="auto", **options)
    assert np.array_equal(alike.to_array(), wanted)
    assert alike.settings["deblur"] == [0, 0]
    soft = np.rint(gaussian_filter(scene(), 2)).astype(np.uint8)
    made = fuse(other, soft, deblur="auto", **options)
    assert made.settings["deblur"] == [0, pytest.approx(2, rel=0.2)]
    left = fuse(other, soft, **options).to_array().astype(float)
    assert np.square(made.to_array() - wanted.astype(float)).mean() < 0.6 * np.square(left - wanted).mean()
