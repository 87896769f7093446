from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ddfm.noise.camera import BINS, CameraNoise, colour_noise, measure_camera_noise
from ddfm.noise.clean import clean_source
from ddfm.noise.level import GREY_LEVEL, estimate_noise
from ddfm.noise.posterior import data_step, evening, interpolated, noise_like, posterior_mean_of_camera
from ddfm.priors.loading import load_prior
from tests.noise.test_noise import Shrink, as_file, never, plain, white_noise

LEVEL = 8 * GREY_LEVEL


def camera_of(correlation: float, steep: float = 1.0) -> CameraNoise:
    """Noise of 8 grey levels in the dark and ``steep`` times as much in the light."""
    return CameraNoise(correlation, LEVEL, LEVEL * torch.linspace(1, steep, BINS))


def noisy(clean: Tensor, steep: float, blurred: bool, seed: int = 0) -> Tensor:
    """Noise by intensity as of `camera_of`, blurred with (1, 4, 1)/6 along both axes or white."""
    noise = white_noise(seed, *clean.shape)
    if blurred:
        kernel = torch.tensor([1.0, 4, 1]) / 6
        noise = F.conv2d(F.pad(noise, (1, 1, 1, 1), mode="reflect"), torch.outer(kernel, kernel)[None, None])
        noise = 2 * noise  # the kernel's norm is a half
    return as_file(clean + camera_of(4 if blurred else 1, steep).at(clean) * noise)


def measured(luma: Tensor, colour: float | None = None) -> CameraNoise | None:
    return measure_camera_noise(luma, float(estimate_noise(luma)), colour)


def steps(height: int, width: int) -> Tensor:
    """Grey patches from dark to light, each of 32 pixels a side."""
    y, x = torch.meshgrid(torch.arange(height) // 32, torch.arange(width) // 32, indexing="ij")
    return (-0.7 + 1.4 * ((3 * y + 5 * x) % 8) / 7)[None, None]


# --- Measuring -----------------------------------------------------------------------------------


@pytest.mark.parametrize("blurred", [False, True])
@pytest.mark.parametrize("steep", [1.0, 3.0])
def test_the_noise_curve_is_found(blurred: bool, steep: float) -> None:
    found = measured(noisy(steps(384, 512), steep, blurred))
    assert found is not None
    assert found.is_correlated == blurred
    intensity = torch.tensor([-0.5, 0.0, 0.5])
    true = camera_of(1, steep).at(intensity)
    assert torch.allclose(found.at(intensity), true, rtol=0.25 if blurred else 0.1)


def test_noise_is_made_like_the_measured_one() -> None:
    true = camera_of(4, 2)
    clean = steps(384, 512)
    made = noise_like(true, clean, white_noise(1, 1, 1, 384, 512))
    found = measured(clean + made)
    assert found is not None
    assert found.correlation == pytest.approx(4, rel=0.2)
    flat = noise_like(true, torch.zeros(1, 1, 256, 256), white_noise(2, 1, 1, 256, 256))
    assert float(flat.std()) == pytest.approx(float(true.at(torch.zeros(1))), rel=0.03)


def test_white_noise_of_one_level_is_plain_and_cleaned_as_ever() -> None:
    image = as_file(plain(240, 320) + LEVEL * white_noise(2, 1, 1, 240, 320))
    found = measured(image)
    assert found is not None
    assert found.is_plain
    blind = clean_source(image, lambda: Shrink(1))
    told = clean_source(image, lambda: Shrink(1), estimate_noise(image))
    assert torch.equal(blind.luma, told.luma)
    assert blind.cameras == (None,)


def test_clean_pictures_pass_and_ask_for_nothing() -> None:
    image = as_file(plain(240, 320))
    assert measured(image) is None
    assert torch.equal(clean_source(image, never).luma, image)


def test_texture_is_not_taken_for_noise() -> None:
    """Fine texture in a part of the picture, as of foliage: blocks differ."""
    image = as_file(plain(240, 320))
    image[..., 120:, :] += (
        12 * GREY_LEVEL * white_noise(3, 1, 1, 60, 160).repeat_interleave(2, 2).repeat_interleave(2, 3)
    )
    assert measured(image) is None


def test_noisy_colours_tell_a_noisy_picture() -> None:
    grey = ((plain(240, 320) + 1) / 2).expand(-1, 3, -1, -1)
    assert colour_noise(grey) == 0
    assert colour_noise(grey[:, :1]) == 0
    noise = white_noise(4, 1, 3, 240, 320)
    found = colour_noise(grey + 5 / 255 * noise)
    assert float(found) == pytest.approx(2**0.5 * 5 * GREY_LEVEL, rel=0.15)


def test_small_pictures_are_left_alone() -> None:
    assert measured(0.2 * white_noise(5, 1, 1, 16, 16)) is None


# --- Removing ------------------------------------------------------------------------------------


def test_the_curve_makes_noise_even_and_goes_back() -> None:
    noise = camera_of(1, 4)
    even, back, level = evening(noise)
    luma = torch.linspace(-1, 1, 201)
    assert torch.allclose(back(even(luma)), luma, atol=1e-4)
    assert float(even(torch.tensor(-1.0))) == pytest.approx(-1)
    assert float(even(torch.tensor(1.0))) == pytest.approx(1)
    for intensity in (-0.8, 0.0, 0.8):
        around = torch.tensor([intensity - 0.01, intensity + 0.01])
        slope = float(even(around).diff() / 0.02)
        assert slope * float(noise.at(torch.tensor(intensity))) == pytest.approx(level, rel=0.05)


def test_interpolation_is_numpy_s() -> None:
    x, y = torch.tensor([0.0, 1, 3, 4]), torch.tensor([0.0, 5, 6, 9])
    at = torch.linspace(0, 4, 41)
    assert np.allclose(interpolated(at, x, y).numpy(), np.interp(at.numpy(), x.numpy(), y.numpy()), atol=1e-6)
    assert float(interpolated(torch.tensor(5.0), x, y)) == pytest.approx(12)


def test_a_data_step_gives_back_fine_detail_and_keeps_coarse_noise_out() -> None:
    estimate = torch.zeros(1, 1, 128, 128)
    y, x = torch.meshgrid(torch.arange(128), torch.arange(128), indexing="ij")
    fine = ((-1.0) ** (x + y))[None, None]
    coarse = torch.sin(2 * torch.pi * x / 32)[None, None].expand_as(fine)
    kept = [float(data_step(estimate, d, 4.0)[..., 16:-16, 16:-16].std() / d.std()) for d in (fine, coarse)]
    assert kept[0] > 0.75
    assert kept[1] < 0.15


@pytest.mark.parametrize(("steep", "blurred"), [(4, False), (1, True), (2, True)])
def test_the_prior_removes_noise_of_cameras(steep: float, blurred: bool) -> None:
    """Better than when it is taken for white noise of one level; less than half of it is left."""
    prior = load_prior()
    clean = plain(192, 256)
    image = noisy(clean, steep, blurred)
    error = float((image - clean).std())
    given = image.clone()
    blind = clean_source(image, lambda: prior)
    assert torch.equal(image, given)
    assert blind.cameras[0] is not None
    white = clean_source(image, lambda: prior, estimate_noise(image))
    left, left_by_white = (float((made.luma - clean).std()) for made in (blind, white))
    assert left < 0.9 * left_by_white
    assert left < error / 2


def test_one_level_of_white_noise_is_the_same_either_way() -> None:
    """The general way, of noise that is white and even, is the plain one."""
    prior = load_prior()
    image = as_file(plain(96, 96) + LEVEL * white_noise(6, 1, 1, 96, 96))
    general = posterior_mean_of_camera(prior, image, camera_of(1, 1))
    assert torch.allclose(general, clean_source(image, lambda: prior, LEVEL).luma, atol=2e-3)
