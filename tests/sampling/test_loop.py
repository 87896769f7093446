from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ddfm.likelihoods.base import Unconditional
from ddfm.likelihoods.hierarchical import HierarchicalLikelihood
from ddfm.likelihoods.released import ReleasedLikelihood
from ddfm.likelihoods.tasks import TASKS
from ddfm.priors.diffusion import DiffusionPrior
from ddfm.priors.loading import load_prior
from ddfm.priors.schedule import NoiseSchedule
from ddfm.sampling.loop import Step, sample, spaced_timesteps
from ddfm.sampling.schedulers import DDIM, SCHEDULERS, Generators
from ddfm.threads import threads


@pytest.fixture
def two_threads() -> Iterator[None]:
    with threads(2):
        yield


# At t = 999 an error of the network is 157 times as large in x_0, so that in float32 the order of
# summation alone takes most of the tolerance: the number of threads is fixed to fix that order, and
# float64 shows what is left without rounding on our side.
@pytest.mark.slow
@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_released_sampling_matches_the_released_code(
    golden: Path, golden_prior: Path, dtype: torch.dtype
) -> None:
    arrays = np.load(golden / "sampling_released.npz")
    tensors = {name: torch.from_numpy(np.asarray(arrays[name])) for name in arrays}
    prior = load_prior(golden_prior).to("cpu", dtype)
    timesteps = spaced_timesteps(999, 0, 20)
    assert timesteps.flip(0).tolist() == tensors["timestep_map"].tolist()
    kept = prior.alphas_cumprod[timesteps.flip(0)]
    assert torch.allclose(kept, tensors["alphas_cumprod"], rtol=1e-5, atol=0)

    seen: dict[int, Step] = {}
    likelihood = ReleasedLikelihood(infrared=tensors["ir"].to(dtype), visible=tensors["vi"].to(dtype))
    x_t = tensors["x_T"].to(dtype)
    final = sample(
        prior, likelihood, x_t, timesteps, callback=lambda step: seen.update({19 - step.index: step})
    )
    for row, step in enumerate(tensors["steps"].tolist()):
        assert (seen[step].rectified - tensors["pred_x0"][row]).abs().max() < 1e-3
        assert (seen[step].sample - tensors["samples"][row]).abs().max() < 1e-3
    assert (final - tensors["final"]).abs().max() < 1e-3


class GaussianNetwork(nn.Module):
    """The exact noise prediction for images whose pixels are N(0, s^2): E[eps | x_t] in closed form."""

    dtype = torch.float32
    config = SimpleNamespace(in_channels=1, block_out_channels=(1,))

    def __init__(self, alphas_cumprod: Tensor, spread: float) -> None:
        super().__init__()
        self.alphas_cumprod, self.spread = alphas_cumprod.float(), spread

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        abar = self.alphas_cumprod[t.long()].reshape(-1, 1, 1, 1)
        variance = abar * self.spread**2 + 1 - abar
        return (1 - abar).sqrt() / variance * x


def gaussian(spread: float) -> DiffusionPrior:
    """The prior of images whose pixels are N(0, spread^2)."""
    schedule = NoiseSchedule()
    network: Any = GaussianNetwork(schedule.alphas_cumprod, spread)
    return DiffusionPrior(network, schedule)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_samples_the_prior(name: str) -> None:
    """With an exact network for N(0, s^2) and no likelihood, samples have that variance."""
    spread = 0.2
    prior = gaussian(spread)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1, 1, 96, 96, generator=generator)
    out = sample(
        prior,
        Unconditional(),
        noise,
        spaced_timesteps(999, 0, 1000),
        scheduler=SCHEDULERS[name],
        generator=generator,
    )
    assert float(out.std()) == pytest.approx(spread, rel=0.05)


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("steps", [1, 2, 10, 37])
def test_the_last_rectified_estimate_is_the_result(name: str, steps: int) -> None:
    prior = gaussian(0.2)
    seen: list[Step] = []
    timesteps = spaced_timesteps(999, 0, steps)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1, 1, 16, 16, generator=generator)
    out = sample(
        prior,
        Unconditional(),
        noise,
        timesteps,
        scheduler=SCHEDULERS[name],
        generator=generator,
        callback=seen.append,
    )
    assert [step.index for step in seen] == list(range(steps))
    assert [step.timestep for step in seen] == timesteps.tolist()
    assert torch.allclose(out, seen[-1].rectified, atol=1e-6)


@dataclass
class Recorded:
    """A scheduler of one's own: DDIM that notes down what it is given."""

    abar: Tensor
    steps: list[tuple[Tensor, int, Tensor, Generators]] = field(default_factory=list)

    def step(self, x0: Tensor, n: int, x: Tensor, generator: Generators) -> Tensor:
        self.steps.append((x0, n, x, generator))
        return DDIM(self.abar).step(x0, n, x)


def test_a_scheduler_of_ones_own() -> None:
    prior, timesteps = gaussian(0.2), spaced_timesteps(999, 0, 13)
    noise, generator = torch.randn(1, 1, 16, 16), torch.Generator()
    made: list[Recorded] = []

    def factory(abar: Tensor) -> Recorded:
        made.append(Recorded(abar))
        return made[-1]

    seen: list[Step] = []
    own = sample(
        prior, Brighter(), noise, timesteps, scheduler=factory, generator=generator, callback=seen.append
    )
    assert torch.equal(own, sample(prior, Brighter(), noise, timesteps, scheduler=DDIM))
    [recorded] = made
    assert torch.allclose(recorded.abar, prior.alphas_cumprod[timesteps], rtol=1e-12, atol=0)
    assert recorded.abar.dtype == torch.float64
    assert (recorded.abar.diff() > 0).all()
    assert [n for _, n, _, _ in recorded.steps] == list(range(13))
    assert all(given is generator for _, _, _, given in recorded.steps)
    assert all(
        torch.equal(x0, step.rectified) for (x0, _, _, _), step in zip(recorded.steps, seen, strict=True)
    )
    starts = [noise, *(step.sample for step in seen)]
    assert all(torch.equal(x, start) for (_, _, x, _), start in zip(recorded.steps, starts, strict=False))


class Brighter(Unconditional):
    """A likelihood to which every image is too dark by the same amount."""

    def rectify(self, f0: Tensor) -> Tensor:
        return f0 + 0.15


@pytest.mark.parametrize("keep_noise", [False, True])
def test_which_noise_a_step_goes_on_with(keep_noise: bool) -> None:
    """The network's own prediction of it, known in closed form; or what the rectified estimate leaves."""
    spread = 0.2
    prior = gaussian(spread)
    abar = prior.alphas_cumprod
    timesteps = spaced_timesteps(300, 20, 5)
    noise = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    f = 0.3 * noise
    seen: list[Step] = []
    sample(prior, Brighter(), f, timesteps, keep_noise=keep_noise, callback=seen.append)
    for step, now, after in zip(seen, abar[timesteps], abar[timesteps][1:], strict=False):
        own = (1 - now).sqrt() / (now * spread**2 + 1 - now) * f
        assert step.prediction.abs().max() < 1  # so that it was not clipped
        assert torch.allclose(now.sqrt() * step.prediction + (1 - now).sqrt() * own, f, atol=1e-5)
        carried = own if keep_noise else own - now.sqrt() * 0.15 / (1 - now).sqrt()
        expected = after.sqrt() * (step.prediction + 0.15) + (1 - after).sqrt() * carried
        assert torch.allclose(step.sample, expected, atol=1e-5)
        f = step.sample


class Copies(TorchDispatchMode):
    """Counts the tensors that are brought to another device; operators may take numbers from the host."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[str] = []

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = operator(*args, **(kwargs or {}))
        if "copy" in str(operator) or ".to." in str(operator):
            devices = {value.device.type for value in (*args, result) if isinstance(value, Tensor)}
            if len(devices) > 1:
                self.made.append(str(operator))
        return result


@pytest.mark.parametrize("name", ["ddim", "dpm++"])
def test_nothing_goes_to_the_host_and_back_within_the_loop(name: str) -> None:
    # The device "meta" computes shapes alone: whatever asks it for a value raises.
    prior = load_prior()
    prior.network.to("meta")
    sources = [torch.rand(2, 1, 48, 64, device="meta") for _ in range(2)]
    likelihood = HierarchicalLikelihood(sources, [torch.zeros(2, device="meta")] * 2, TASKS["infrared"])
    with Copies() as copies:
        fused = sample(
            prior,
            likelihood,
            likelihood.start,
            spaced_timesteps(190, 10, 3),
            scheduler=SCHEDULERS[name],
            keep_noise=True,
        )
    assert fused.shape == sources[0].shape
    assert copies.made == []
