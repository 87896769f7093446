"""The step from one noise level to the next, given the estimate of the clean image.

A sample at step n is x_n = sqrt(abar_n) x_0 + sqrt(1 - abar_n) eps, where abar_n is the share of its variance
that is signal. A scheduler is made for the abar of all steps, and takes x_n to x_{n+1}. After the last step
abar is 1, and the sample is the estimate itself. All of them take the clean image for an answer, not the
noise, because the clean image is what a likelihood rectifies.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

Generators = torch.Generator | list[torch.Generator] | None


class Scheduler(Protocol):
    """Whatever steps from one noise level to the next."""

    def step(self, x0: Tensor, n: int, x: Tensor, generator: Generators) -> Tensor:
        """Return the sample of step n + 1, a new tensor.

        Args:
            x0: the (rectified) estimate of the clean image, (B, C, H, W).
            n: the step, counted from 0; called in that order, once each.
            x: the sample of step n, shape of ``x0``.
            generator: of noise, for schedulers that add some; one, or a list with one per image.
        """
        ...


# Makes a scheduler for abar at each step: float64, shape (N,), not decreasing, within (0, 1).
SchedulerFactory = Callable[[Tensor], Scheduler]


class DDIM:
    """Keep the noise that the sample shows, at the next level's strength (Song et al. 2021, eq. 12, eta 0).

    x_{n+1} = sqrt(abar_{n+1}) x_0 + sqrt(1 - abar_{n+1}) eps  with  eps = (x_n - sqrt(abar_n) x_0) /
    sqrt(1 - abar_n), gathered by x_0 and x_n.
    """

    def __init__(self, abar: Tensor) -> None:
        self.abar = [*abar.tolist(), 1.0]

    def step(self, x0: Tensor, n: int, x: Tensor, generator: Generators = None) -> Tensor:
        """Return the sample of step n + 1; deterministic. See `Scheduler.step`."""
        now, after = self.abar[n], self.abar[n + 1]
        kept = ((1 - after) / (1 - now)) ** 0.5
        return weighted(x0, after**0.5 - now**0.5 * kept, x, kept)


class DDPM:
    """Draw from the process's own posterior q(x_{n+1} | x_n, x_0) (Ho et al. 2020, eqs. 6 and 7)."""

    def __init__(self, abar: Tensor) -> None:
        self.abar = [*abar.tolist(), 1.0]

    def step(self, x0: Tensor, n: int, x: Tensor, generator: Generators = None) -> Tensor:
        """Return the sample of step n + 1, with fresh noise but at the last. See `Scheduler.step`."""
        now, after = self.abar[n], self.abar[n + 1]
        alpha = now / after
        beta = 1 - alpha
        mean = weighted(x0, after**0.5 * beta / (1 - now), x, alpha**0.5 * (1 - after) / (1 - now))
        if n + 2 == len(self.abar):
            return mean
        variance = beta * (1 - after) / (1 - now)
        return mean.add_(white_noise(x0, generator), alpha=variance**0.5)


class DPMSolver2M(DDIM):
    """DPM-Solver++(2M), the multistep solver of second order (Lu et al. 2022, algorithm 2).

    It is DDIM with x_0 continued in a straight line along lambda = log(signal / noise), half a step on. The
    first step has no estimate before it, and the last no end in lambda: both are DDIM's.
    """

    def __init__(self, abar: Tensor) -> None:
        super().__init__(abar)
        self.log_snr = (torch.log(abar / (1 - abar)) / 2).tolist()
        self.before: Tensor | None = None  # the estimate of the step before

    def step(self, x0: Tensor, n: int, x: Tensor, generator: Generators = None) -> Tensor:
        """Return the sample of step n + 1; deterministic. See `Scheduler.step`."""
        estimate = x0
        if self.before is not None and 0 < n < len(self.log_snr) - 1:
            past = self.log_snr[n] - self.log_snr[n - 1]
            ahead = self.log_snr[n + 1] - self.log_snr[n]
            if past > 0:  # two steps at one level show no slope
                estimate = x0 + (x0 - self.before) * (ahead / past / 2)
        self.before = x0
        return super().step(estimate, n, x)


SCHEDULERS: dict[str, SchedulerFactory] = {"ddim": DDIM, "ddpm": DDPM, "dpm++": DPMSolver2M}


def weighted(x0: Tensor, clean: float, x: Tensor, noisy: float) -> Tensor:
    """Return clean x0 + noisy x, a new tensor."""
    return (x0 * clean).add_(x, alpha=noisy)


def white_noise(like: Tensor, generator: Generators) -> Tensor:
    """Return standard normal noise of that shape and type.

    Generators draw where they are, on the CPU say, so that a seed gives the same noise on every device.
    With one per image, each image's noise is what it would be alone.
    """
    if isinstance(generator, list):
        each = zip(like.split(1), generator, strict=True)
        return torch.cat([white_noise(image, one) for image, one in each])
    device = like.device if generator is None else generator.device
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=device).to(like.device)
