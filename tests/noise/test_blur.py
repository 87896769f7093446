from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from ddfm.noise.blur import amplification, blurred, deconvolved, sharpened
from ddfm.noise.clean import clean_source, sharpen_source
from ddfm.noise.level import GREY_LEVEL
from ddfm.priors.loading import load_prior
from tests.noise.test_noise import as_file, never, plain, white_noise


def soft(clean: Tensor, blur: float, grey_levels: float = 0, seed: int = 0) -> Tensor:
    """Blurred by scipy, with noise, rounded."""
    values = gaussian_filter(clean[0, 0].numpy(), blur, mode="reflect", truncate=8)
    noise = grey_levels * GREY_LEVEL * white_noise(seed, *clean.shape)
    return as_file(torch.from_numpy(values)[None, None] + noise)


def rms(difference: Tensor) -> float:
    return float(difference.square().mean().sqrt())


@pytest.mark.parametrize("blur", [1.0, 2.5])
def test_blur_is_scipy_s(blur: float) -> None:
    image = 0.3 * white_noise(1, 1, 1, 48, 64)
    expected = gaussian_filter(image[0, 0].numpy(), blur, mode="reflect", truncate=8)
    assert np.allclose(blurred(image, blur)[0, 0].numpy(), expected, atol=2e-3)


def test_the_data_step_minimises_what_it_says() -> None:
    luma, estimate = 0.3 * white_noise(2, 1, 1, 24, 32), 0.3 * white_noise(3, 1, 1, 24, 32)

    def cost(x: Tensor) -> float:
        return float((blurred(x, 1.5) - luma).square().sum() + 0.2 * (x - estimate).square().sum())

    best = deconvolved(estimate, luma, 1.5, 0.2)
    for seed in range(5):
        assert cost(best) < cost(best + 0.01 * white_noise(seed, *best.shape))


def test_amplification_is_that_of_the_first_step() -> None:
    noise = white_noise(4, 1, 1, 256, 256)
    amplified = deconvolved(noise, noise, 1.5, 0.02).std()
    assert float(amplified) == pytest.approx(amplification((256, 256), 1.5, 0.02), rel=0.03)


@pytest.mark.parametrize("grey_levels", [2, 5])
@pytest.mark.parametrize("blur", [1.0, 3.0])
def test_a_blurred_picture_comes_nearer_to_the_sharp_one(blur: float, grey_levels: float) -> None:
    prior, clean = load_prior(), plain(128, 160)
    image = soft(clean, blur, grey_levels)
    sharp = sharpened(prior, image, blur, grey_levels * GREY_LEVEL)
    assert rms(sharp - clean) < 0.75 * rms(image - clean)


@pytest.mark.parametrize("blur", [1.0, 2.0, 3.0])
def test_a_step_does_not_ring(blur: float) -> None:
    step = torch.full((1, 1, 96, 96), -0.4)
    step[..., 48:] = 0.4
    profile = sharpened(load_prior(), soft(step, blur), blur, 0)[0, 0, 16:-16].mean(0)
    assert float(profile.max()) < 0.4 + 0.02 * 0.8
    assert float(profile.min()) > -0.4 - 0.02 * 0.8


def test_only_blurred_images_are_touched() -> None:
    images = as_file(torch.cat([plain(64, 64), plain(64, 64).flip(-1)]))
    clean = clean_source(images, never)
    untouched = sharpen_source(images, clean, never, torch.zeros(2))
    assert torch.equal(untouched.luma, images)
    one = sharpen_source(images, clean, load_prior, torch.tensor([0.0, 1.5]))
    assert torch.equal(one.luma[0], images[0])
    assert not torch.equal(one.luma[1], images[1])
