from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import correlate1d
from torch import Tensor

from ddfm.likelihoods.hierarchical import NOISE_IN_BAND
from ddfm.likelihoods.tasks import BANDS
from ddfm.pictures.pyramid import compose, decompose, expand, reduce, size, smooth
from tests.conftest import examples

SIDES = st.integers(1, 40)
SEEDS = st.integers(0, 2**31)
KERNEL = np.array([1, 4, 6, 4, 1]) / 16


def random_image(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def reduced(image: NDArray[np.float64]) -> NDArray[np.float64]:
    for axis in (0, 1):
        image = correlate1d(image, KERNEL, axis, mode="nearest")
    return image[::2, ::2]


def expanded(image: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    """Zeros between the pixels, and the kernel times 2 along each axis; the coarse image's borders repeat."""
    image = np.pad(image, 1, mode="edge")
    spread = np.zeros((2 * image.shape[0], 2 * image.shape[1]))
    spread[::2, ::2] = image
    for axis in (0, 1):
        spread = correlate1d(spread, 2 * KERNEL, axis, mode="constant")
    return spread[2 : 2 + height, 2 : 2 + width]


@examples(50)
@given(SEEDS, SIDES, SIDES)
def test_reduce_and_expand_are_burt_and_adelsons(seed: int, height: int, width: int) -> None:
    image = random_image(seed, 1, 2, height, width)
    smaller = reduce(image)
    assert smaller.shape == (1, 2, -(-height // 2), -(-width // 2))
    larger = expand(smaller, (height, width))
    for channel in range(2):
        assert np.allclose(smaller[0, channel], reduced(image[0, channel].numpy()))
        assert np.allclose(larger[0, channel], expanded(smaller[0, channel].numpy(), height, width))


@examples(50)
@given(SEEDS, SIDES, SIDES, st.integers(0, 6))
def test_any_image_comes_back(seed: int, height: int, width: int, levels: int) -> None:
    image = random_image(seed, 2, 3, height, width)
    bands, smallest = decompose(image, levels)
    assert [size(band) for band in bands] == [
        (-(-height // 2**level), -(-width // 2**level)) for level in range(levels)
    ]
    assert torch.allclose(compose(bands, smallest), image, rtol=0, atol=1e-12)


@examples(30)
@given(SEEDS, SIDES, SIDES, st.integers(0, 4))
def test_smoothing_leaves_what_no_band_holds(seed: int, height: int, width: int, levels: int) -> None:
    image = random_image(seed, 1, 2, height, width)
    bands, smallest = decompose(image, levels)
    without_details = compose([torch.zeros_like(band) for band in bands], smallest)
    assert torch.allclose(smooth(image, levels), without_details, rtol=0, atol=1e-12)


@examples(30)
@given(st.floats(-1, 1), SIDES, SIDES)
def test_a_constant_has_no_details(value: float, height: int, width: int) -> None:
    bands, smallest = decompose(torch.full((1, 1, height, width), value, dtype=torch.float64), 4)
    assert all(band.abs().max() < 1e-12 for band in bands)
    assert (smallest - value).abs().max() < 1e-12


@examples(30)
@given(SEEDS, SIDES, SIDES, st.floats(-3, 3))
def test_decomposition_is_linear(seed: int, height: int, width: int, factor: float) -> None:
    one, two = random_image(seed, 1, 1, height, width), random_image(seed + 1, 1, 1, height, width)
    together = decompose(factor * one + two, 3)
    for whole, first, second in zip(
        (*together[0], together[1]),
        (*decompose(one, 3)[0], decompose(one, 3)[1]),
        (*decompose(two, 3)[0], decompose(two, 3)[1]),
        strict=True,
    ):
        assert torch.allclose(whole, factor * first + second, atol=1e-12)


@pytest.mark.parametrize("level", range(BANDS))
def test_share_of_white_noise_in_each_band(level: int) -> None:
    """By the definition of the variance: the sum of the squares of what one pixel leaves in the band.

    Averaged over the positions that differ, 2^(level + 1) along each axis, far from the borders, and
    divided by how many coefficients there are a pixel.
    """
    period, middle = 2 ** (level + 1), 96
    pixels = torch.zeros(1, period**2, 2 * middle, 2 * middle)
    for index in range(period**2):
        pixels[0, index, middle + index // period, middle + index % period] = 1
    variance = float(decompose(pixels, level + 1)[0][level].square().sum() / period**2 * 4**level)
    assert NOISE_IN_BAND[level] == pytest.approx(variance, abs=0.5e-4)  # they are given to four places
