"""Fusion of frame after frame without flicker: docs/use/video.md, "How it is kept steady".

Three things make a fused video flicker where nothing happens. The likelihood sharpens the cameras' noise with
the details, and noise tips its choices. Numbers about the whole picture follow everything that moves in it.
The sampler starts anew for every frame. So

- `TimeFilter` averages each source over time where it did not change;
- `Smoother` does so with the numbers, which `ddfm.likelihoods.hierarchical` hands it;
- the blur of a lens is found once a scene, and what fills missing pixels depends on the frame alone;
- the sampler starts with the same noise for every frame, from the frame before where nothing moved.

What is kept from frame to frame is a few pictures; it does not grow. Pictures are in [-1, 1], standard
deviations in the same units.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ddfm.likelihoods.hierarchical import HierarchicalLikelihood
from ddfm.likelihoods.numbers import GlobalNumber
from ddfm.likelihoods.tasks import Task
from ddfm.noise.blur import sharpened
from ddfm.noise.clean import clean_source
from ddfm.noise.edges import estimate_blur
from ddfm.noise.level import GREY_LEVEL, NOISE_GATE, estimate_noise
from ddfm.noise.missing import Holes
from ddfm.noise.stripes import remove_stripes
from ddfm.pictures.colour import luminance
from ddfm.pictures.holes import filled_from_around, with_stand_in
from ddfm.pictures.pyramid import expand, reduce, size
from ddfm.sampling.draw import draw

if TYPE_CHECKING:
    from ddfm.priors.base import Prior

HOLD = 1.0  # seconds that numbers about the whole picture are averaged over
CUT = 0.5  # overlap of the histograms of two frames below which they are two scenes
BINS, SCENE_SAMPLES = 16, 2**13

FRAMES = 10  # that a source is averaged over where nothing moves
AVERAGED = math.sqrt(1 / (2 * FRAMES - 1))  # what that leaves of the noise
LEAST_NOISE = 1.0 * GREY_LEVEL  # what rounding and compression change from frame to frame
# White noise of variance one: mean and standard deviation of a local mean of the details' amounts, and
# standard deviation of a difference of local means.
DETAILS, SPREAD_OF_DETAILS, SPREAD_OF_MEANS = 0.795, 0.165, 0.264
NOISE_ENDS, MOTION_STARTS = 3.0, 5.0  # changes in standard deviations
# Where nothing moved, a keyframe changes what its codec had settled on: by so much is still noise, less so
# from frame to frame.
RECODED, RECODED_LASTS, SETTLED = 4 * GREY_LEVEL, 0.85, 3  # the last in frames
OTHER_LIGHT = 8 * GREY_LEVEL  # the most that light changes from frame to frame; more is another thing

MEASURED_EVERY = 1.0  # seconds
MEASUREMENT = 0.3  # weight of a new measurement of the noise beside those before
BLOCK, QUANTILE = 8, 0.3  # of blocks whose change is noise alone
RMS_OF_BLOCK = 0.897  # that quantile for second differences of white noise of variance one
GATE_CLOSES = 0.8  # share of the gate below which a source that was noisy is no longer

VideoNoise = Literal["auto", "off"] | Sequence[float]
VideoBlur = Literal["auto", "off"] | Sequence[float]


class Prepared(NamedTuple):
    """The sources of a frame, ready to be fused.

    Attributes:
        sources: without noise, (1, K, H, W) in [-1, 1].
        noise: standard deviation of what is left of it, (K,).
        still: how far nothing moved, (1, K, h, w) at half the resolution; of no use for the first frame.
        seconds: since the frame before.
        light: by how much each source became brighter since then, (K,).
        is_cut: whether it is another scene.
    """

    sources: Tensor
    noise: Tensor
    still: Tensor
    seconds: float
    light: Tensor
    is_cut: bool


class SteadyFusion:
    """Fuses the frames of two or more aligned videos, one after the other.

    `prepare` and `combine` know nothing of each other's state: while a frame is combined, the next one can be
    prepared in another thread.
    """

    def __init__(
        self,
        task: Task,
        model: Callable[[], Prior],
        *,
        steps: int = 0,
        noise: VideoNoise = "auto",
        stretch: bool = True,
        seed: int = 3407,
        holes: Sequence[Holes] | None = None,
        deblur: VideoBlur = "off",
    ) -> None:
        """Start before the first frame.

        Args:
            task: what kind of sources they are; see `ddfm.likelihoods.tasks.TASKS`.
            model: called for the prior if it is needed, not before.
            steps: network evaluations a frame; with 0 no network is used at all.
            noise: "auto" to find it out; "off" to leave the sources alone; or the standard deviation in
                each source, in 8-bit grey levels.
            stretch: whether the task's stretch of the contrast is wanted.
            seed: of the starting noise, which is the same for every frame.
            holes: what is missing of each source in every frame; None if nothing is.
            deblur: "off"; how far each source is blurred, in pixels; or "auto" to find that out in the first
                frame of a scene, and to keep to it.
        """
        self.task, self.model, self.steps, self.stretch, self.seed = task, model, steps, stretch, seed
        self.noise, self.holes, self.deblur = noise, holes, deblur
        self.blurs: list[float] | None = None if isinstance(deblur, str) else list(deblur)
        self.smoother, self.stripes = Smoother(), TimeMean()
        self.levels = NoiseLevels(None if isinstance(noise, str) else noise)
        self.filter = TimeFilter()
        self.noisy: Tensor | None = None
        self.histograms: Tensor | None = None
        self.pixels: Tensor | None = None
        self.before: Tensor | None = None

    def fuse(
        self, sources: Tensor, seconds: float, recoded: Sequence[bool] = (False,)
    ) -> tuple[Tensor, HierarchicalLikelihood]:
        """Fuse the next frame: see `prepare` and `combine`."""
        return self.combine(self.prepare(sources, seconds, recoded))

    def prepare(self, sources: Tensor, seconds: float, recoded: Sequence[bool] = (False,)) -> Prepared:
        """Remove the noise of the next frame's sources.

        Args:
            sources: luminances, (1, K, H, W) in [-1, 1]; the first frame's size holds for all.
            seconds: time since the frame before; of the first frame it is ignored.
            recoded: whether a keyframe came since then, of each source or of all.
        """
        sources = self.completed(sources)
        is_cut, light = self.another_scene(sources), self.change_of_light(sources)
        if is_cut:
            self.stripes = TimeMean()
            self.blurs = None if self.deblur == "auto" else self.blurs
        self.stripes.advance(seconds)
        cleaned, residual_noise = self.cleaned(sources, seconds, recoded)
        cleaned = self.sharpened(sources, cleaned, residual_noise)
        return Prepared(cleaned, residual_noise, self.filter.still, seconds, light, is_cut)

    def combine(self, frame: Prepared) -> tuple[Tensor, HierarchicalLikelihood]:
        """Fuse the next frame.

        Returns:
            Luminance in [0, 1], (1, 1, H, W), and the likelihood that it comes from.
        """
        if frame.is_cut:
            self.smoother.reset()
        self.smoother.advance(frame.seconds, frame.light)
        likelihood = HierarchicalLikelihood(
            frame.sources.split(1, 1),
            frame.noise.split(1),
            self.task,
            steady=self.smoother,
            shown=self.shown(frame.sources),
        )
        f = likelihood.start
        if self.steps:
            if self.before is not None:
                still = expand(frame.still.amin(1, keepdim=True), size(f))
                likelihood.start = torch.lerp(f, self.before, still)
            (drawn,) = draw(self.model(), [likelihood], self.steps, [f], self.seed)
            f = self.before = luminance(drawn)
        return likelihood.finish(f, self.stretch), likelihood

    def completed(self, sources: Tensor) -> Tensor:
        """Return the sources with other ones, or what the prior expects, where they show nothing.

        What fills a hole depends on the frame alone: it is as steady as what lies around it.
        """
        if self.holes is None:
            return sources
        holes = [each.to(sources) for each in self.holes]
        present = torch.cat([1 - each.gone for each in holes], 1)
        others = (present * sources).sum(1, keepdim=True) / present.sum(1, keepdim=True)
        made = []
        for source, each in zip(sources.split(1, 1), holes, strict=True):
            around = filled_from_around(source, each.known)
            stand_in = with_stand_in(source, each.known, others) if each.gone.any() else around
            made.append(each.fill(self.model, torch.where(each.gone > 0, stand_in.clamp(-1, 1), around)))
        return torch.cat(made, 1)

    def shown(self, sources: Tensor) -> list[Tensor] | None:
        """Return how far each source shows a pixel; None if all show everything."""
        if self.holes is None:
            return None
        return [each.to(sources).shown for each in self.holes]

    def sharpened(self, sources: Tensor, cleaned: Tensor, noise: Tensor) -> Tensor:
        """Return the cleaned sources without the blur of their lenses, which stays the same in a scene."""
        if self.deblur == "off":
            return cleaned
        if self.blurs is None:
            level = noise if self.levels.level is None else self.levels.level
            measured = zip(sources.split(1, 1), level.tolist(), strict=True)
            self.blurs = [estimate_blur(image, sigma) for image, sigma in measured]
        made = []
        for image, blur, sigma in zip(cleaned.split(1, 1), self.blurs, noise.tolist(), strict=True):
            made.append(sharpened(self.model(), image, blur, sigma) if blur else image)
        return torch.cat(made, 1)

    def measured_in(self, sources: Tensor) -> Tensor:
        """Return the sources as noise is measured in them: without their wide holes."""
        if self.holes is None:
            return sources
        holes = zip(sources.split(1, 1), self.holes, strict=True)
        return torch.cat([each.to(source).painted(source) for source, each in holes], 1)

    def cleaned(self, sources: Tensor, seconds: float, recoded: Sequence[bool]) -> tuple[Tensor, Tensor]:
        """Return the sources without noise, and the standard deviation of the residual noise, (K,)."""
        if self.noise == "off":
            if self.steps:  # the sampler has to know what moved
                self.filter(sources, sources.new_zeros(sources.shape[1]))
            return sources, sources.new_zeros(sources.shape[1])
        level = self.levels(self.measured_in(sources), seconds)
        if self.steps:
            sources, level = self.denoised(sources, level)
        sources = self.filter(sources, level, recoded)
        level = AVERAGED * level
        # Stripes are as steady as the sensor; what is found of them from frame to frame is less so.
        free = remove_stripes(sources.movedim(1, 0), level).movedim(0, 1)
        return sources - self.stripes(sources - free), level

    def denoised(self, sources: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """Denoise sources above the gate by the prior; the gate does not open and shut."""
        gate = NOISE_GATE if self.noise == "auto" else 0.0
        closes = gate if self.noisy is None else torch.where(self.noisy, GATE_CLOSES * gate, gate)
        self.noisy = level > closes
        images = [
            clean_source(image, self.model, sigma).luma if noisy else image
            for image, sigma, noisy in zip(
                sources.split(1, 1), level.tolist(), self.noisy.tolist(), strict=True
            )
        ]
        return torch.cat(images, 1), torch.where(self.noisy, 0, level)

    def change_of_light(self, sources: Tensor) -> Tensor:
        """Return by how much each source became brighter since the frame before, (K,), whatever moved."""
        pixels = subsample(sources)
        change = torch.zeros_like(pixels) if self.pixels is None else pixels - self.pixels
        self.pixels = pixels
        middle = change.median(1, keepdim=True).values
        deviation = (change - middle).abs().median(1, keepdim=True).values + GREY_LEVEL
        return (middle + (change - middle).clamp(-deviation, deviation)).mean(1)

    def another_scene(self, sources: Tensor) -> bool:
        """Tell whether a frame has other grey levels than the one before."""
        pixels = subsample(sources)
        histograms = torch.stack([torch.histc(row, BINS, -1, 1) for row in pixels]) / pixels.shape[1]
        before, self.histograms = self.histograms, histograms
        return before is not None and bool(torch.minimum(before, histograms).sum(1).min() < CUT)


def subsample(sources: Tensor) -> Tensor:
    """Return some thousand pixels of each source, (K, n)."""
    return sources[0].flatten(1)[:, :: max(1, sources[0, 0].numel() // SCENE_SAMPLES)]


class TimeMean:
    """A mean over the last second or so of a value that comes once a frame."""

    def __init__(self) -> None:
        self.value: Tensor | None = None
        self.weight = 1.0

    def advance(self, seconds: float) -> None:
        """Start a new frame, ``seconds`` later."""
        self.weight = 1 - math.exp(-max(seconds, 0.0) / HOLD)

    def __call__(self, value: Tensor) -> Tensor:
        self.value = value if self.value is None else torch.lerp(self.value, value, self.weight)
        return self.value


class Smoother:
    """Means over time of the numbers about the whole picture.

    Those that are luminances follow the light at once. So they do not lag behind a camera that adapts to it.
    """

    def __init__(self) -> None:
        self.means: dict[GlobalNumber, TimeMean] = {}

    def advance(self, seconds: float, light: Tensor) -> None:
        """Start a new frame, ``seconds`` later; each source became brighter by ``light``, (K,)."""
        common = light.mean()
        change = {
            GlobalNumber.CENTRE: common,
            GlobalNumber.OWN_MEANS: (light - common)[:, None, None],
            GlobalNumber.TAILS: common,
            GlobalNumber.MEAN: common,
        }
        for number, mean in self.means.items():
            mean.advance(seconds)
            if number in change and mean.value is not None:
                mean.value = mean.value + change[number]

    def reset(self) -> None:
        """Forget everything: another scene begins."""
        self.means.clear()

    def __call__(self, number: GlobalNumber, value: Tensor) -> Tensor:
        return self.means.setdefault(number, TimeMean())(value)


class TimeFilter:
    """A recursive mean over time of each channel, where it does not change by more than its noise.

    A change of the local mean (over some sixteen pixels) is light, and passes at once; what is averaged are
    the details on top of it. Where a pixel's neighbourhood changes more than the noise does, or its mean
    changes much, something moved. There the new frame is taken as it is, so that nothing leaves a trail. From
    there the mean is one of ever more frames, `FRAMES` at most.

    Attributes:
        still: how far nothing moved, 0 to 1, (1, C, h, w) at half the resolution.
    """

    def __init__(self) -> None:
        self.mean: Tensor | None = None
        self.still = self.age = self.coding = torch.empty(0)

    def __call__(self, x: Tensor, noise: Tensor, recoded: Sequence[bool] = (False,)) -> Tensor:
        """Return the next frame, filtered.

        Args:
            x: (1, C, H, W); the first frame's size holds for all.
            noise: its standard deviation in each channel, (C,).
            recoded: whether a keyframe came since the frame before, of each channel or of all.
        """
        if self.mean is None:
            self.mean, self.age = x, torch.ones_like(reduce(x))
            self.still = self.coding = torch.zeros_like(self.age)
            return x
        change = x - self.mean
        mean = reduce(change)
        smaller = reduce(mean)
        light = expand(expand(reduce(smaller), size(smaller)), size(mean))
        details = change - expand(light, size(change))
        fresh = RECODED * (self.age >= SETTLED) * x.new_tensor(list(recoded))[:, None, None]
        self.coding = torch.maximum(fresh, RECODED_LASTS * self.coding * self.still)
        sigma = torch.maximum(noise.clamp_min(LEAST_NOISE)[:, None, None], self.coding)
        sigma = sigma * (1 + 1 / self.age).sqrt()
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

    It is the smaller one of two estimates. A single frame's (`estimate_noise`) takes fine detail for noise.
    That from the change between frames takes motion for noise.
    """

    def __init__(self, given: Sequence[float] | None = None) -> None:
        """Start; ``given`` are the standard deviations in 8-bit grey levels, if they need not be measured."""
        self.given = given
        self.level: Tensor | None = None
        self.before: Tensor | None = None
        self.since = 0.0
        self.settled = False

    def __call__(self, x: Tensor, seconds: float) -> Tensor:
        """Return the levels, (C,), by the next frame, (1, C, H, W), ``seconds`` after the one before."""
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
    """Estimate the noise in each of two frames from their difference: (1, C, H, W), to (C,).

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
