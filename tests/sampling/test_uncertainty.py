from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ddfm import InputError, fuse
from ddfm.noise.clean import Cleaned
from ddfm.priors.base import Prior
from ddfm.priors.loading import load_prior
from ddfm.sampling import uncertainty
from ddfm.sampling.uncertainty import CALIBRATION, draw_posterior, posterior_std
from tests.conftest import picture


@pytest.fixture(scope="module")
def prior() -> Prior:
    return load_prior()


class GaussianPrior:
    """White pixels of standard deviation ``tau``: all about it is known in closed form."""

    channels = 1
    tau = 0.2

    def denoise(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        return x * self.tau**2 / (self.tau**2 + torch.as_tensor(sigma) ** 2)


def never() -> Prior:
    raise AssertionError("no prior is needed")


@pytest.mark.parametrize("sigma", [0.05, 0.2, 0.5])
def test_many_small_steps_draw_from_the_posterior(sigma: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uncertainty, "DRAW_LEVELS", 300)
    monkeypatch.setattr(uncertainty, "LAST_LEVEL", 1e-3)
    prior, generator = GaussianPrior(), torch.Generator().manual_seed(0)
    noisy = torch.full((1, 1, 200, 200), 0.3)
    drawn = draw_posterior(prior, noisy, sigma, generator)
    shrink = prior.tau**2 / (prior.tau**2 + sigma**2)
    assert drawn.mean().item() == pytest.approx(0.3 * shrink, abs=0.005)
    assert drawn.std().item() == pytest.approx((shrink * sigma**2) ** 0.5, rel=0.05)


def test_few_steps_draw_about_the_posterior_mean() -> None:
    prior, sigma = GaussianPrior(), 0.2
    drawn = draw_posterior(prior, torch.full((1, 1, 200, 200), 0.3), sigma, torch.Generator().manual_seed(0))
    assert drawn.mean().item() == pytest.approx(0.15, abs=0.03)
    assert drawn.std().item() < (0.5 * sigma**2) ** 0.5


@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.5, 0.5), (0.2, 0.8)])
def test_noise_goes_through_as_the_fusion_weighs_it(weights: tuple[float, float]) -> None:
    """Sources below the gate, a linear fusion: variances add with squared weights."""
    found = torch.tensor([0.01]), torch.tensor([0.03])
    sources = [torch.zeros(1, 1, 256, 256)] * 2
    nothing = torch.zeros(1)
    cleaned = [Cleaned(x, level, nothing, nothing, (None,)) for x, level in zip(sources, found, strict=True)]

    def mean(drawn: Sequence[Tensor], seed: int) -> Tensor:
        return weights[0] * drawn[0] + weights[1] * drawn[1]

    std = posterior_std(sources, cleaned, never, mean, 0)
    expected = ((weights[0] * found[0]) ** 2 + (weights[1] * found[1]) ** 2).sqrt().item()
    assert std.square().mean().sqrt().item() == pytest.approx(CALIBRATION * expected, rel=0.02)


@pytest.mark.slow
def test_only_the_sampler_spreads_where_sources_are_believed(prior: Prior) -> None:
    a, b = picture(40, 48, 1, np.uint8, 1), picture(40, 48, 3, np.uint8, 2)
    options: dict[str, Any] = {"noise": "off", "uncertainty": True, "task": "infrared"}
    still = fuse(a, b, prior=never, steps=0, **options)
    assert still.std is not None
    assert still.std.shape == (40, 48)
    assert (still.std == 0).all()
    sampled = fuse(a, b, prior=prior, steps=1, **options)
    assert sampled.std is not None
    assert 0 < sampled.std.max() < 0.05
    assert fuse(a, b, prior=never, steps=0).std is None


@pytest.mark.slow
def test_more_noise_more_uncertainty_and_the_fused_picture_stays(prior: Prior) -> None:
    rng = np.random.default_rng(0)
    a, b = picture(64, 64, 1, np.uint8, 1), picture(64, 64, 1, np.uint8, 2)
    options: dict[str, Any] = {"prior": prior, "steps": 0, "task": "infrared"}
    spreads = []
    for sigma in (6, 18):
        noisy = (a / 2 + 64 + rng.normal(0, sigma, a.shape)).round().astype(np.uint8)
        result = fuse(noisy, b, uncertainty=True, **options)
        assert result.to_array().tobytes() == fuse(noisy, b, **options).to_array().tobytes()
        again = fuse(noisy, b, uncertainty=True, **options)
        swapped = fuse(b, noisy, uncertainty=True, **options)
        assert result.std is not None
        assert again.std is not None
        assert swapped.std is not None
        assert result.std.tobytes() == again.std.tobytes() == swapped.std.tobytes()
        spreads.append(float(result.std.mean()))
    assert spreads[1] > 1.5 * spreads[0] > 0


def test_a_batch_has_a_spread_for_each_picture(prior: Prior) -> None:
    a = np.stack([picture(32, 40, 1, np.uint8, seed) for seed in range(3)])[:, None]
    result = fuse(a, a[::-1].copy(), steps=0, task="infrared", uncertainty=True, prior=prior)
    assert result.std is not None
    assert result.std.shape == (3, 32, 40)


def test_the_fused_picture_of_a_batch_is_no_file(prior: Prior) -> None:
    a = np.stack([picture(32, 40, 1, np.uint8, seed) for seed in range(2)])[:, None]
    with pytest.raises(InputError, match="holds 2 pictures"):
        fuse(a, a, steps=0).save("never.png")
