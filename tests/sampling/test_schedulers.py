"""The schedulers' steps, against diffusers' own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from torch import Tensor

from ddfm.priors.schedule import NoiseSchedule
from ddfm.sampling.loop import spaced_timesteps
from ddfm.sampling.schedulers import DDIM, DDPM, SCHEDULERS, DPMSolver2M, white_noise

ABAR = NoiseSchedule().alphas_cumprod
SPANS = [(999, 0), (300, 20), (190, 10)]
COUNTS = [1, 2, 5, 14, 15, 40]  # diffusers' multistep solver has other rules from 15 steps on
spans = pytest.mark.parametrize("span", SPANS)
counts = pytest.mark.parametrize("steps", COUNTS)


def reference(kind: Any, abar: Tensor, **settings: Any) -> Any:
    """A scheduler of diffusers whose whole process is these steps, in float64."""
    kept = abar.flip(0)
    betas = 1 - kept / torch.cat([kept.new_ones(1), kept[:-1]])
    scheduler = kind(
        num_train_timesteps=len(betas),
        trained_betas=betas.tolist(),
        prediction_type="sample",
        timestep_spacing="trailing",
        **settings,
    )
    scheduler.alphas_cumprod = kept
    scheduler.set_timesteps(len(betas))
    assert scheduler.timesteps.tolist() == list(range(len(betas)))[::-1]
    return scheduler


def estimates(steps: int) -> tuple[Tensor, list[Tensor]]:
    generator = torch.Generator().manual_seed(steps)
    draw = torch.randn(steps + 1, 2, 1, 5, 7, generator=generator, dtype=torch.float64)
    return draw[0], list(draw[1:])


@spans
@counts
def test_ddim_is_that_of_diffusers(span: tuple[int, int], steps: int) -> None:
    abar = ABAR[spaced_timesteps(*span, steps)]
    ours, theirs = DDIM(abar), reference(DDIMScheduler, abar, clip_sample=False)
    x, answers = estimates(steps)
    y = x
    for n, (x0, t) in enumerate(zip(answers, theirs.timesteps, strict=True)):
        x, y = ours.step(x0, n, x), theirs.step(x0, t, y).prev_sample
        assert (x - y).abs().max() < 1e-12
    assert (x - answers[-1]).abs().max() < 1e-12


@spans
@counts
@pytest.mark.parametrize("each", [False, True])
def test_ddpm_is_that_of_diffusers(span: tuple[int, int], steps: int, each: bool) -> None:
    """With the same noise, drawn from one generator or from one per image."""

    def generator() -> Any:
        seeds = [5, 6] if each else [5]
        made = [torch.Generator().manual_seed(seed) for seed in seeds]
        return made if each else made[0]

    abar = ABAR[spaced_timesteps(*span, steps)]
    ours, theirs = DDPM(abar), reference(DDPMScheduler, abar, clip_sample=False)
    mine, yours = generator(), generator()
    x, answers = estimates(steps)
    y = x
    for n, (x0, t) in enumerate(zip(answers, theirs.timesteps, strict=True)):
        x, y = ours.step(x0, n, x, mine), theirs.step(x0, int(t), y, generator=yours).prev_sample
        assert (x - y).abs().max() < 1e-12
    assert (x - answers[-1]).abs().max() < 1e-12


@spans
@counts
def test_dpm_solver_is_that_of_diffusers(span: tuple[int, int], steps: int) -> None:
    abar = ABAR[spaced_timesteps(*span, steps)]
    ours, theirs = DPMSolver2M(abar), reference(DPMSolverMultistepScheduler, abar)
    x, answers = estimates(steps)
    y = x
    for n, (x0, t) in enumerate(zip(answers, theirs.timesteps, strict=True)):
        x, y = ours.step(x0, n, x), theirs.step(x0, t, y).prev_sample
        assert (x - y).abs().max() < 2e-5  # diffusers computes this one in float32
    assert (x - answers[-1]).abs().max() < 1e-12


@spans
@pytest.mark.parametrize("steps", [2, 5, 40])
def test_dpm_solver_is_that_of_diffusers_in_float64(span: tuple[int, int], steps: int) -> None:
    """Its updates of both orders, which it applies in float64 if they are called by themselves."""
    abar = ABAR[spaced_timesteps(*span, steps)]
    ours, theirs = DPMSolver2M(abar), reference(DPMSolverMultistepScheduler, abar)
    theirs.sigmas = torch.cat([((1 - abar) / abar).sqrt(), abar.new_zeros(1)])
    x, answers = estimates(steps)
    y = x
    for n, x0 in enumerate(answers):
        theirs._step_index = n
        x = ours.step(x0, n, x)
        if n in (0, steps - 1):
            y = theirs.dpm_solver_first_order_update(x0, sample=y)
        else:
            y = theirs.multistep_dpm_solver_second_order_update(answers[n - 1 : n + 1], sample=y)
        assert (x - y).abs().max() < 1e-10


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_step_leaves_what_it_is_given(name: str) -> None:
    scheduler = SCHEDULERS[name](ABAR[[900, 500, 100]])
    x, answers = estimates(3)
    for n, x0 in enumerate(answers):
        before = x.clone(), x0.clone()
        after = scheduler.step(x0, n, x, torch.Generator().manual_seed(0))
        assert torch.equal(x, before[0])
        assert torch.equal(x0, before[1])
        assert after.data_ptr() not in (x.data_ptr(), x0.data_ptr())
        x = after


@pytest.mark.parametrize("name", SCHEDULERS)
def test_two_steps_may_lie_at_one_level(name: str) -> None:
    """More steps than timesteps in the span: some are taken twice."""
    timesteps = torch.tensor([12, 12, 11, 11, 10])
    scheduler = SCHEDULERS[name](ABAR[timesteps])
    x, answers = estimates(5)
    for n, x0 in enumerate(answers):
        x = scheduler.step(x0, n, x, torch.Generator().manual_seed(n))
        assert x.isfinite().all()
    assert torch.allclose(x, answers[-1])


@pytest.mark.parametrize("name", ["ddim", "dpm++"])
def test_a_right_answer_leads_straight_there(name: str) -> None:
    """If the estimate is the clean image at every step, the noise stays the same, only less."""
    abar = ABAR[spaced_timesteps(999, 0, 10)]
    scheduler = SCHEDULERS[name](abar)
    noise, (clean, *_) = estimates(1)
    x = abar[0].sqrt() * clean + (1 - abar[0]).sqrt() * noise
    for n, after in enumerate([*abar[1:], abar.new_ones(())]):
        x = scheduler.step(clean, n, x, None)
        assert (x - after.sqrt() * clean - (1 - after).sqrt() * noise).abs().max() < 1e-12


def test_noise_of_one_image_does_not_depend_on_the_others() -> None:
    like = torch.zeros(3, 1, 4, 5)
    together = white_noise(like, [torch.Generator().manual_seed(seed) for seed in (1, 2, 3)])
    for image, seed in zip(together.split(1), (1, 2, 3), strict=True):
        assert torch.equal(image, white_noise(like[:1], torch.Generator().manual_seed(seed)))
    assert white_noise(like.double(), None).dtype == torch.float64
    with pytest.raises(ValueError, match="zip"):
        white_noise(like, [torch.Generator()])
