from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from ddfm.noise.clean import clean_source
from ddfm.noise.clipping import clipped_mean, unclipped
from ddfm.noise.level import GREY_LEVEL
from ddfm.noise.posterior import posterior_mean
from ddfm.priors.loading import load_prior

LEVELS = st.floats(0.2 * GREY_LEVEL, 60 * GREY_LEVEL)


@given(st.floats(-1, 1), LEVELS)
def test_the_mean_is_the_integral(x: float, sigma: float) -> None:
    # Between the ends clipping does nothing; beyond them it gives -1 and 1.
    inside = (-1 - x) / sigma, (1 - x) / sigma
    low, high = np.clip(inside, -9, 9)
    expected, _ = quad(lambda z: (x + sigma * z) * norm.pdf(z), low, high, epsabs=1e-11)
    expected += norm.sf(inside[1]) - norm.cdf(inside[0])
    found = float(clipped_mean(torch.tensor(x, dtype=torch.float64), sigma))
    assert found == pytest.approx(expected, abs=1e-8)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=20), LEVELS)
def test_it_is_undone(values: list[float], sigma: float) -> None:
    x = torch.tensor(values, dtype=torch.float64).reshape(1, 1, 1, -1)
    again = unclipped(clipped_mean(x, sigma), torch.tensor([sigma]))
    torch.testing.assert_close(again, x, rtol=0, atol=1e-4)


def test_what_is_far_from_black_and_white_stays() -> None:
    x = torch.linspace(-0.5, 0.5, 99).reshape(1, 1, 9, 11)
    torch.testing.assert_close(unclipped(x, torch.tensor([0.1])), x, rtol=0, atol=1e-6)


def test_each_image_has_its_own_noise_and_none_changes_nothing() -> None:
    x = torch.full((2, 1, 4, 4), -0.95)
    made = unclipped(x, torch.tensor([0.0, 0.1]))
    assert torch.equal(made[0], x[0])
    assert float(made[1].max()) < -0.98


@pytest.mark.parametrize("level", ["auto", 20 * GREY_LEVEL], ids=["blind", "told"])
def test_a_dark_ramp_comes_out_as_dark_as_it_was(level: float | str) -> None:
    ramp = torch.linspace(0, 120, 256).expand(1, 1, 256, 256) * GREY_LEVEL - 1
    noise = torch.randn(ramp.shape, generator=torch.Generator().manual_seed(2))
    noisy = (ramp + 20 * GREY_LEVEL * noise).clamp(-1, 1)
    prior = load_prior()
    dark = slice(4, 24)  # columns of 2 to 11 grey levels
    before = posterior_mean(prior, noisy, 20 * GREY_LEVEL)
    made = clean_source(noisy, lambda: prior, level).luma  # type: ignore[arg-type]
    assert float((before - ramp)[..., dark].mean()) > 3 * GREY_LEVEL
    assert abs(float((made - ramp)[..., dark].mean())) < GREY_LEVEL
