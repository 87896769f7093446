"""Fusion of frame after frame without flicker: docs/video.md, "How it is kept steady".

Three things make a fused video flicker where nothing happens: the noise of the cameras, which the
likelihood sharpens with the details and which tips its choices; numbers about the whole picture, which
follow everything that moves in it; and a sampler that starts anew for every frame. So

- `TimeFilter` averages each source over time where it did not change;
- `Smoother` does so with the numbers, which `ddfm.hierarchical` hands it by name;
- the sampler starts with the same noise for every frame, from the frame before where nothing moved.

What is kept from frame to frame is a few pictures; it does not grow. Pictures are in [-1, 1], standard
deviations in the same units.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ddfm.colour import luminance
from ddfm.fusion import draw
from ddfm.hierarchical import HierarchicalLikelihood, Task
from ddfm.noise import GREY_LEVEL, NOISE_GATE, REMAINS, clean_source, estimate_noise, remove_stripes
from ddfm.pyramid import expand, reduce, size

if TYPE_CHECKING:
    from ddfm.prior import Prior

HOLD = 1.0  # seconds that numbers about the whole picture are averaged over
CUT = 0.5  # overlap of the histograms of two frames below which they are two scenes
BINS, SAMPLES = 16, 2**13

FRAMES = 8  # that a source is averaged over where nothing moves
AVERAGED = math.sqrt(1 / (2 * FRAMES - 1))  # what that leaves of the noise
LEAST_NOISE = 0.5 * GREY_LEVEL  # rounding and compression: nothing is cleaner
# White noise of variance one: mean and standard deviation of a local mean of the details' amounts, and
# standard deviation of a difference of local means.
DETAILS, SPREAD_OF_DETAILS, SPREAD_OF_MEANS = 0.788, 0.164, 0.231
NOISE_ENDS, MOTION_STARTS = 3.0, 5.0  # changes in standard deviations
OTHER_LIGHT = 8 * GREY_LEVEL  # the most that light changes from frame to frame; more is another thing

MEASURED_EVERY = 1.0  # seconds
MEASUREMENT = 0.3  # weight of a new measurement of the noise beside those before
BLOCK, QUANTILE = 8, 0.3  # of blocks whose change is noise alone
RMS_OF_BLOCK = 0.897  # that quantile for second differences of white noise of variance one
GATE_CLOSES = 0.8  # share of the gate below which a source that was noisy is no longer

Noise = Literal["auto", "off"] | Sequence[float]


class SteadyFusion:
    """Fuses the frames of two or more aligned videos, one after the other."""

    def __init__(
        self,
        task: Task,
        model: Callable[[], Prior],
        *,
        steps: int = 0,
        noise: Noise = "auto",
        stretch: bool = True,
        seed: int = 3407,
    ) -> None:
        """
        Args:
            task: what kind of sources they are; see `ddfm.hierarchical.TASKS`.
            model: called for the prior if it is needed, not before.
            steps: network evaluations a frame; with 0 no network is used at all.
            noise: "auto" to find it out; "off" to leave the sources alone; or the standard deviation in
                each source, in 8-bit grey levels.
            stretch: whether the task's stretch of the contrast is wanted.
            seed: of the starting noise, which is the same for every frame.
        """
        self.task, self.model, self.steps, self.stretch, self.seed = task, model, steps, stretch, seed
        self.noise = noise
        self.smoother = Smoother()
        self.levels = NoiseLevels(None if isinstance(noise, str) else noise)
        self.filter = TimeFilter()
        self.noisy: Tensor | None = None
        self.histograms: Tensor | None = None
        self.before: Tensor | None = None

    def fuse(self, sources: Tensor, seconds: float) -> tuple[Tensor, HierarchicalLikelihood]:
        """The next frame.

        Args:
            sources: luminances, (1, K, H, W) in [-1, 1]; the first frame's size holds for all.
            seconds: time since the frame before; of the first frame it is ignored.

        Returns:
            Luminance in [0, 1], (1, 1, H, W), and the likelihood that it comes from.
        """
        if self.another_scene(sources):
            self.smoother.reset()
        self.smoother.advance(seconds)
        cleaned, left = self.cleaned(sources, seconds)
        likelihood = HierarchicalLikelihood(
            cleaned.split(1, 1), left.split(1), self.task, steady=self.smoother
        )
        f = likelihood.start
        if self.steps:
            if self.before is not None:
                still = expand(self.filter.still.amin(1, keepdim=True), size(f))
                likelihood.start = torch.lerp(f, self.before, still)
            f = draw(self.model(), likelihood, self.steps, f, self.seed, "ddim", callback=lambda step: None)
            f = self.before = luminance(f)
        return likelihood.finish(f, self.stretch), likelihood

    def cleaned(self, sources: Tensor, seconds: float) -> tuple[Tensor, Tensor]:
        """The sources without noise, and the standard deviation of what is left of it, (K,)."""
        if self.noise == "off":
            if self.steps:  # the sampler has to know what moved
                self.filter(sources, sources.new_zeros(sources.shape[1]))
            return sources, sources.new_zeros(sources.shape[1])
        level = self.levels(sources, seconds)
        if self.steps:
            sources, level = self.denoised(sources, level)
        sources = self.filter(sources, level)
        level = AVERAGED * level
        # Stripes are as steady as the sensor; what is found of them from frame to frame is less so.
        free = remove_stripes(sources.movedim(1, 0), level).movedim(0, 1)
        return sources - self.smoother("stripes", sources - free), level

    def denoised(self, sources: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """Sources above the gate are denoised by the prior; the gate does not open and shut."""
        gate = NOISE_GATE if self.noise == "auto" else 0.0
        closes = gate if self.noisy is None else torch.where(self.noisy, GATE_CLOSES * gate, gate)
        self.noisy = level > closes
        images = [
            clean_source(image, self.model, sigma).luma if noisy else image
            for image, sigma, noisy in zip(
                sources.split(1, 1), level.tolist(), self.noisy.tolist(), strict=True
            )
        ]
        return torch.cat(images, 1), torch.where(self.noisy, REMAINS * level, level)

    def another_scene(self, sources: Tensor) -> bool:
        """Whether a frame has other grey levels than the one before."""
        pixels = sources[0].flatten(1)[:, :: max(1, sources[0, 0].numel() // SAMPLES)]
        histograms = torch.stack([torch.histc(row, BINS, -1, 1) for row in pixels]) / pixels.shape[1]
        before, self.histograms = self.histograms, histograms
        return before is not None and bool(torch.minimum(before, histograms).sum(1).min() < CUT)


class Smoother:
    """Means over time of numbers that are given by name, each once a frame."""

    def __init__(self) -> None:
        self.held: dict[str, Tensor] = {}
        self.weight = 1.0

    def advance(self, seconds: float) -> None:
        """A new frame, that much later."""
        self.weight = 1 - math.exp(-max(seconds, 0.0) / HOLD)

    def reset(self) -> None:
        """Another scene: what was before says nothing about it."""
        self.held.clear()

    def __call__(self, name: str, value: Tensor) -> Tensor:
        held = self.held.get(name)
        self.held[name] = value if held is None else torch.lerp(held, value, self.weight)
        return self.held[name]


class TimeFilter:
    """A recursive mean over time of each channel, where it does not change by more than its noise.

    A change of the local mean (over some eight pixels) is light, and passes at once; what is averaged are
    the details on top of it. Where these change more than the noise does, in a pixel's neighbourhood, or
    where the local mean changes much, something moved, and the new frame is taken as it is: nothing
    trails behind. From there the mean is one of ever more frames, `FRAMES` at most.

    Attributes:
        still: how far nothing moved, 0 to 1, (1, C, h, w) at half the resolution.
    """

    def __init__(self) -> None:
        self.mean: Tensor | None = None
        self.still = self.age = torch.empty(0)

    def __call__(self, x: Tensor, noise: Tensor) -> Tensor:
        """The next frame, filtered.

        Args:
            x: (1, C, H, W); the first frame's size holds for all.
            noise: its standard deviation in each channel, (C,).
        """
        if self.mean is None:
            self.mean, self.age = x, torch.ones_like(reduce(x))
            self.still = torch.zeros_like(self.age)
            return x
        change = x - self.mean
        mean = reduce(change)
        light = expand(reduce(mean), size(mean))
        details = change - expand(light, size(change))
        sigma = noise.clamp_min(LEAST_NOISE)[:, None, None] * (1 + 1 / self.age).sqrt()
        moved = torch.maximum(
            (reduce(details.abs()) / sigma - DETAILS) / SPREAD_OF_DETAILS,
            (mean - light).abs() / (sigma * SPREAD_OF_MEANS),
        )
        moved = (moved - NOISE_ENDS) / (MOTION_STARTS - NOISE_ENDS)
        moved = torch.maximum(moved, light.abs() / OTHER_LIGHT - 1).clamp(0, 1)
        self.still = 1 - F.max_pool2d(moved, 3, 1, 1)  # what moves has a border
        self.age = 1 + self.still * self.age.clamp_max(FRAMES - 1)
        self.mean = x - expand(1 - 1 / self.age, size(x)) * details
        return self.mean


class NoiseLevels:
    """Standard deviation of the noise in each channel, measured now and then and held in between.

    It is the smaller one of what a frame tells by itself (`estimate_noise`), which takes fine detail for
    noise, and of what changes from frame to frame, which motion adds to.
    """

    def __init__(self, given: Sequence[float] | None = None) -> None:
        """``given``: the standard deviations in 8-bit grey levels, if they need not be measured."""
        self.given = given
        self.level: Tensor | None = None
        self.before: Tensor | None = None
        self.since = 0.0
        self.settled = False

    def __call__(self, x: Tensor, seconds: float) -> Tensor:
        """(C,), from the next frame (1, C, H, W), which is that much later than the one before."""
        if self.given is not None:
            return x.new_tensor(self.given) * GREY_LEVEL
        before, self.before = self.before, x
        if self.level is None or before is None:
            self.level = estimate_noise(x.movedim(1, 0))
            return self.level
        self.since += seconds
        if self.settled and self.since < MEASURED_EVERY:
            return self.level
        measured = torch.minimum(estimate_noise(x.movedim(1, 0)), changing_noise(x - before))
        # The first frame told less than its successors.
        self.level = torch.lerp(self.level, measured, MEASUREMENT) if self.settled else measured
        self.settled, self.since = True, 0.0
        return self.level


def changing_noise(change: Tensor) -> Tensor:
    """Standard deviation of the noise in each of two frames whose difference is given: (1, C, H, W), to (C,).

    As `estimate_noise`, but anything that is still will do, flat or not. Blocks that do not change at all
    tell nothing: there the frames are black, white or copied by a codec.
    """
    second = change.new_tensor((1.0, -2, 1))
    kernel = torch.outer(second, second)[None, None] / (6 * math.sqrt(2) * RMS_OF_BLOCK)
    filtered = F.conv2d(change.movedim(1, 0), kernel)
    if min(filtered.shape[-2:]) < BLOCK:
        return change.new_zeros(change.shape[1])
    blocks = F.avg_pool2d(filtered.square(), BLOCK).flatten(1).sqrt()
    changed = [block[block > GREY_LEVEL / 10] for block in blocks]
    return torch.stack([c.quantile(QUANTILE) if len(c) else change.new_zeros(()) for c in changed])
