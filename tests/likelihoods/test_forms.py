from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ddfm.likelihoods.paper import (
    EPSILON,
    ETA,
    PSI,
    PaperLikelihood,
    divergence,
    e_step,
    gradient,
    m_step,
    solve_screened_poisson,
    update_scales,
)
from ddfm.likelihoods.released import ReleasedLikelihood
from tests.conftest import examples

SIZES = st.integers(2, 24)
SEEDS = st.integers(0, 2**31)


def random_image(seed: int, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(1, 1, height, width, generator=generator, dtype=torch.float64) - 1


def penalised_objective(x: Tensor, y: Tensor, gamma: Tensor, rho: Tensor, k: Tensor, u: Tensor) -> float:
    """What EM with the splitting descends on: Laplace terms, rounded off at EPSILON, and penalties."""
    data = 2 * (2 / gamma).sqrt() * ((x - y) ** 2 + EPSILON**2).sqrt()
    data = data + 2 * (2 / rho).sqrt() * (x**2 + EPSILON**2).sqrt()
    penalties = PSI * (u**2).sum() + ETA / 2 * (((x - k) ** 2).sum() + ((gradient(k) - u) ** 2).sum())
    return float(data.sum() + penalties)


def test_released_em_matches_the_released_code(golden: Path) -> None:
    arrays = np.load(golden / "em_released.npz")
    tensors = {name: torch.from_numpy(np.asarray(arrays[name])) for name in arrays}
    # The released sample.py hands the visible image to its argument I, the infrared one to V.
    likelihood = ReleasedLikelihood(infrared=tensors["V"], visible=tensors["I"])
    for n in range(4):
        out = likelihood.rectify_luminance(tensors["f_pre"][n])
        assert (out - tensors["f_out"][n]).norm() / tensors["f_out"][n].norm() < 1e-5
        assert float(likelihood.tau_a) == pytest.approx(float(tensors["tau_a"][n]), rel=1e-5)
        assert float(likelihood.tau_b) == pytest.approx(float(tensors["tau_b"][n]), rel=1e-5)


@examples(30)
@given(SEEDS, SIZES, SIZES, st.floats(0.01, 4), st.floats(0.01, 4))
def test_no_em_iteration_increases_the_objective(
    seed: int, height: int, width: int, gamma_value: float, rho_value: float
) -> None:
    y, x = random_image(seed, height, width) * 2, random_image(seed + 1, height, width) * 2
    gamma, rho = torch.tensor(gamma_value), torch.tensor(rho_value)
    k, u = torch.zeros_like(x), torch.zeros_like(gradient(x))
    before = penalised_objective(x, y, gamma, rho, k, u)
    for _ in range(5):
        m_bar, n_bar = e_step(x, y, gamma, rho)
        for _ in range(50):
            x, k, u = m_step(x, y, m_bar, n_bar, u)
        after = penalised_objective(x, y, gamma, rho, k, u)
        assert after <= before + 1e-9 * abs(before)
        before = after


@examples(30)
@given(SEEDS, SIZES, SIZES)
def test_identical_sources_leave_no_doubt(seed: int, height: int, width: int) -> None:
    source = random_image(seed, height, width)
    x, y = random_image(seed + 1, height, width) - source, torch.zeros_like(source)
    one, u = torch.ones(1, dtype=torch.float64), torch.zeros_like(gradient(source))
    for _ in range(30):
        m_bar, n_bar = e_step(x, y, one, one)
        x, _, u = m_step(x, y, m_bar, n_bar, u)
    assert x.abs().max() < 1e-6  # f = v + x = v


@examples(20)
@given(SEEDS, SIZES, SIZES)
def test_m_step_lines_minimise_the_objective(seed: int, height: int, width: int) -> None:
    """Each line against autograd: the gradient of the quadratic vanishes in the variable it solves for."""
    x, y = random_image(seed, height, width), random_image(seed + 1, height, width)
    m_bar, n_bar = (
        random_image(seed + 2, height, width).abs() + 0.1,
        random_image(seed + 3, height, width).abs() + 0.1,
    )
    u0 = torch.cat([random_image(seed + 4, height, width), random_image(seed + 5, height, width)], 1)
    psi, eta = 0.5, 0.3

    def quadratic(x: Tensor, k: Tensor, u: Tensor) -> Tensor:
        data = (m_bar * (x - y) ** 2 + n_bar * x**2).sum() + psi * (u**2).sum()
        return data + eta / 2 * (((x - k) ** 2).sum() + ((gradient(k) - u) ** 2).sum())

    x1, k1, u1 = (t.requires_grad_() for t in m_step(x, y, m_bar, n_bar, u0, psi, eta))
    for value, stage in ((k1, (x, k1, u0)), (u1, (x, k1, u1)), (x1, (x1, k1, u1))):
        (slope,) = torch.autograd.grad(quadratic(*stage), value)
        assert slope.abs().max() < 1e-9


@examples(20)
@given(SEEDS, SIZES, SIZES)
def test_divergence_is_the_adjoint_of_the_gradient(seed: int, height: int, width: int) -> None:
    image = random_image(seed, height, width)
    field = torch.cat([random_image(seed + 1, height, width), random_image(seed + 2, height, width)], 1)
    assert torch.allclose((gradient(image) * field).sum(), (image * divergence(field)).sum())
    solved = solve_screened_poisson(image)
    assert torch.allclose(solved + divergence(gradient(solved)), image)


def test_e_step_is_the_posterior_expectation_of_the_precision() -> None:
    """Against numerical integration of 1/m under p(m | y, x), N(y; x, m) Exp(m; mean gamma)."""
    gamma, distance = 0.7, 0.4
    m = torch.logspace(-8, 2, 400_001, dtype=torch.float64)
    density = m**-0.5 * torch.exp(-(distance**2) / (2 * m) - m / gamma)
    expected = torch.trapezoid(density / m, m) / torch.trapezoid(density, m)
    x, y = (
        torch.zeros(1, 1, 1, 1, dtype=torch.float64),
        torch.full((1, 1, 1, 1), distance, dtype=torch.float64),
    )
    m_bar, _ = e_step(x, y, torch.tensor(gamma), torch.tensor(1.0), epsilon=0.0)
    assert float(m_bar) == pytest.approx(float(expected), rel=1e-4)
    variance = torch.trapezoid(density * m, m) / torch.trapezoid(density, m)
    new_gamma, _ = update_scales(m_bar, m_bar, torch.tensor(gamma), torch.tensor(1.0))
    assert float(new_gamma) == pytest.approx(float(variance), rel=1e-4)


def test_paper_rectification_changes_luminance_only() -> None:
    infrared, visible = random_image(1, 16, 20).float(), random_image(2, 16, 20).float()
    f0 = torch.cat([random_image(seed, 16, 20).float() for seed in (3, 4, 5)], 1)
    change = PaperLikelihood(infrared, visible).rectify(f0) - f0
    assert change.abs().max() > 0.01
    assert torch.allclose(change[:, :1].expand_as(change), change, atol=1e-6)


def test_scales_belong_to_each_image_of_a_batch() -> None:
    images = [random_image(seed, 16, 20).float() for seed in range(6)]
    pairs = [torch.cat(images[k : k + 2]) for k in (0, 2, 4)]
    for form in (PaperLikelihood, ReleasedLikelihood):
        together = form(pairs[0], pairs[1])
        alone = form(pairs[0][1:], pairs[1][1:])
        for _ in range(2):
            batch = together.rectify(pairs[2].expand(2, 3, 16, 20))
            single = alone.rectify(pairs[2][1:].expand(1, 3, 16, 20))
        assert torch.allclose(batch[1:], single, atol=1e-5)


def test_finish_gives_pictures() -> None:
    infrared, visible = random_image(1, 16, 20).float(), random_image(2, 16, 20).float()
    luma = torch.linspace(-1.5, 1.2, 320).reshape(1, 1, 16, 20)
    paper = PaperLikelihood(infrared, visible).finish(luma)
    assert [float(paper.min()), float(paper.max())] == [0, 1]
    assert paper[luma == luma.flatten()[200]] == (luma.flatten()[200] + 1) / 2
    released = ReleasedLikelihood(infrared, visible).finish(luma)
    assert torch.allclose(released.flatten(), torch.linspace(0, 1, 320), atol=1e-6)
    constant = ReleasedLikelihood(infrared, visible).finish(torch.full((1, 1, 16, 20), 0.3))
    assert (constant == 0).all()
