from __future__ import annotations

from math import inf, log10, sqrt

import numpy as np
import pytest
import torch

from ddfm.metrics import (
    average_gradient,
    correlation_coefficient,
    edge_intensity,
    mse,
    psnr,
    psnr_vifb,
    rmse,
    rmse_vifb,
    spatial_frequency,
    spatial_frequency_vifb,
    standard_deviation,
    sum_of_correlations_of_differences,
)
from tests.metrics.pictures import array, constant, picture, triple


def test_errors_against_constant_sources() -> None:
    a, b, f = constant(10), constant(40), constant(30)
    assert mse(a, b, f).item() == (20**2 + 10**2) / 2
    assert rmse(a, b, f).item() == pytest.approx((20 + 10) / 2)
    assert rmse_vifb(a, b, f).item() == pytest.approx((20 + 10) / 2 / 41)
    assert psnr(a, b, f).item() == pytest.approx(10 * log10(255**2 / 250))
    assert psnr(a, b, f, peak="fused").item() == pytest.approx(10 * log10(30**2 / 250))
    assert psnr_vifb(a, b, f).item() == pytest.approx(20 * log10(255 / sqrt(15 / 41)))


def test_one_pixel_is_one_error() -> None:
    a = picture(0, 20, 25)
    f = a.clone()
    f[0, 0, 5, 6] += 7
    assert mse(a, a, f).item() == pytest.approx(49 / 500)
    assert rmse(a, a, f).item() == pytest.approx(7 / sqrt(500))


def test_a_black_image_has_no_peak() -> None:
    black = constant(0)
    assert psnr(constant(1), black, black, peak="fused").item() == -inf
    assert psnr(black, black, black, peak="fused").item() == inf


def test_correlations_against_numpy() -> None:
    a, b, f = triple()
    x, y, z = (array(image).ravel() for image in (a, b, f))

    def corr(u: np.ndarray, v: np.ndarray) -> float:
        return float(np.corrcoef(u, v)[0, 1])

    assert correlation_coefficient(a, b, f).item() == pytest.approx((corr(x, z) + corr(y, z)) / 2, rel=1e-12)
    expected = corr(x, z - y) + corr(y, z - x)
    assert sum_of_correlations_of_differences(a, b, f).item() == pytest.approx(expected, rel=1e-12)


def test_correlation_ignores_scale_and_sign_flips_it() -> None:
    a, b, _ = triple()
    assert correlation_coefficient(a, a, a / 2 + 20).item() == pytest.approx(1)
    assert correlation_coefficient(b, b, 255 - b).item() == pytest.approx(-1)


def test_scd_of_the_sum_of_the_sources_is_2() -> None:
    a, b, _ = triple()
    assert sum_of_correlations_of_differences(a / 4, b / 4, a / 4 + b / 4).item() == pytest.approx(2)


@pytest.mark.parametrize("shift", [0.0, 3.7])
def test_scd_gives_no_credit_for_a_source_that_was_not_used(shift: float) -> None:
    a, b, _ = triple()
    a, b = a / 2, b / 2
    f = b + shift  # F - B is constant: only B's correlation with F - A is left
    x, y, z = (array(image).ravel() for image in (a, b, f))
    expected = np.corrcoef(y, z - x)[0, 1]
    assert sum_of_correlations_of_differences(a, b, f).item() == pytest.approx(expected, rel=1e-9)
    f = f.clone()
    f[0, 0, 9, 9] += 5
    z = array(f).ravel()
    expected = np.corrcoef(x, z - y)[0, 1] + np.corrcoef(y, z - x)[0, 1]
    assert sum_of_correlations_of_differences(a, b, f).item() == pytest.approx(expected, rel=1e-9)


def test_standard_deviation_of_two_levels() -> None:
    half = torch.tensor([0.0, 255.0]).repeat(8, 8).view(1, 1, 8, 16)
    assert standard_deviation(half).item() == 127.5


def test_a_ramp_has_the_same_gradient_everywhere() -> None:
    ramp = (3 * torch.arange(20.0) + 4 * torch.arange(16.0)[:, None]).view(1, 1, 16, 20)
    assert average_gradient(ramp).item() == pytest.approx(sqrt((9 + 16) / 2))
    assert average_gradient(ramp, mean_over="interior").item() == pytest.approx(
        sqrt(12.5) * 16 * 20 / (15 * 19)
    )
    assert spatial_frequency(ramp).item() == pytest.approx(5)
    over_pixels = sqrt((9 * 16 * 19 + 16 * 15 * 20) / (16 * 20))
    assert spatial_frequency(ramp, mean_over="pixels").item() == pytest.approx(over_pixels)
    inside = edge_intensity(ramp[..., 1:-1, 1:-1])
    assert inside.item() < 8 * 5  # replicated edges halve the outermost responses
    wide = (3 * torch.arange(2000.0 / 25)).expand(1, 1, 50, -1)
    assert edge_intensity(wide).item() == pytest.approx((78 * 2 * 3 + 2 * 3) * 4 / 80)


def test_average_gradient_against_numpy() -> None:
    _, _, f = triple()
    dy, dx = np.gradient(array(f))
    assert average_gradient(f).item() == pytest.approx(np.sqrt((dx**2 + dy**2) / 2).mean(), rel=1e-12)


def test_the_seams_between_planes_count_in_vifb() -> None:
    colour = torch.cat([constant(level, 4, 5) for level in (10, 20, 50)], 1)
    assert spatial_frequency(colour).item() == 0
    assert spatial_frequency_vifb(colour).item() == pytest.approx(sqrt(4 * (10**2 + 30**2) / 60))
