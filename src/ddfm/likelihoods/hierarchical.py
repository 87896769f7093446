"""A likelihood that knows what each source has to say: docs/research/algorithm.md, "form ddfm".

The paper's hierarchical model (Gaussians whose variances are latent, EM) with two changes. It is laid on the
intensities *and* on the bands of a Laplacian pyramid, instead of the intensities alone. The prior of each
latent variance depends on how salient the source is there; the paper's has one scale an image. To an L1
model, two sources with one scale each are equally right everywhere.

Images are in [-1, 1]. K sources lie along the channel axis, (B, K, H, W), and enter every formula
through sums, minima and maxima, so that none is privileged. Reducing once halves height and width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ddfm.likelihoods.contrast import TINY, bounded, exposed_range, finished, with_room
from ddfm.likelihoods.evidence import Evidence, among_shown, where_shown
from ddfm.likelihoods.halos import spilled
from ddfm.likelihoods.numbers import GlobalNumber, Steady, as_it_is
from ddfm.likelihoods.tasks import MAX_GAIN, Task
from ddfm.pictures.colour import luminance, well_exposed
from ddfm.pictures.pyramid import compose, decompose, expand, reduce, size

UNEXPOSED = 1e-4  # well-exposedness of what is black or white (eq. 15)
FOCUS_SCALES = 5  # windows of 2 to 32 pixels that sharpness is looked for in (eq. 16)
COARSER = 0.3  # what each coarser band counts as sharpness (eq. 16)
BLURRED = 1e-7  # energy below which nothing is sharp (eq. 17)
NEARBY = 0.3  # share of a coarser window's energy that is handed on to finer ones (eq. 17)
HANDED_ON = 3e-4  # energy, some two grey levels squared, that a coarser window's choice counts (eq. 17)
SPILLING = 16.0  # logarithm of the energy by which an unfocused lamp's disc may exceed what it hides (eq. 17)
TRUST_POWER = 2.0  # how far details follow the intensities' choice (eq. 7)
INTENSITY_SCALE, DETAIL_SCALE = 1.0, 0.3  # of latent variances, by the sources' mean energy (eq. 8)
ETA = 0.05  # precision of the prior's estimate beside the sources' (eq. 13)
LEAST_CHROMA = 1e-6  # weight of the chroma of a source that is not chosen
# Variance of white noise of variance one in each band.
NOISE_IN_BAND = (0.8894, 0.0529, 0.0101, 0.0024, 0.0006, 0.00015, 0.00004)


class HierarchicalLikelihood:
    """Saliency-informed latent scales for intensities and for details.

    Attributes:
        start: the luminance that the sources alone give, (B, 1, H, W): one EM iteration from the mean
            of the sources under the prior weights.
    """

    def __init__(
        self,
        sources: Sequence[Tensor],
        noise: Sequence[Tensor],
        task: Task,
        steady: Steady = as_it_is,
        shown: Sequence[Tensor] | None = None,
    ) -> None:
        """Weigh the sources against each other, in intensities and in each band of details.

        Args:
            sources: two or more luminances, each (B, 1, H, W) in [-1, 1].
            noise: standard deviation of what noise is left in each, in the same units, (B,).
            task: what kind of sources they are; see `TASKS`.
            steady: holds numbers about the whole picture over the frames of a video.
            shown: how far each source shows a pixel, 0 to 1, (B, 1, H, W) each; some source has to. Where
                one shows nothing it has no weight. None if all show everything.
        """
        self.task, self.steady = task, steady
        x = torch.cat(list(sources), 1)
        self.sources = x.shape[1]
        variance = torch.stack(list(noise), 1).square()[:, :, None, None].to(x)
        self.low, self.high = x.amin(1, keepdim=True), x.amax(1, keepdim=True)
        seen = None if shown is None else reduce(torch.cat(list(shown), 1))
        self.intensities, trust, together = Intensities.of(x, variance, task, steady, seen)
        self.together = steady(GlobalNumber.TOGETHER, together.mean((1, 2, 3), keepdim=True))
        self.bands = []
        self.levels = len(task.acutance)
        for band, share in zip(decompose(x, self.levels)[0], NOISE_IN_BAND[: self.levels], strict=True):
            self.bands.append(Band.of(band, share * variance, trust, task, together))
            trust, together = reduce(trust), reduce(together)

    @cached_property
    def start(self) -> Tensor:
        """Return the luminance that the sources alone give."""
        return self.solve(self.intensities.mean(self.intensities.weight))

    def rectify(self, f0: Tensor) -> Tensor:
        """Do one EM iteration on the luminance of f0 (B, C, H, W), C = 1 or 3; same shape out (eq. 13)."""
        luma = luminance(f0)
        return f0 + (self.solve(luma) - luma) / (1 + ETA)

    def solve(self, f: Tensor) -> Tensor:
        """Return what the sources say, given the current f for the E-step; both (B, 1, H, W)."""
        coarsest = self.intensities.fuse(f)
        for _ in self.bands:
            coarsest = reduce(coarsest)
        current, _ = decompose(f, self.levels)
        details = [
            band.fuse(d, contrast, self.task.gain)
            for band, d, contrast in zip(self.bands, current, self.task.acutance, strict=True)
        ]
        made = compose(details, coarsest)
        if self.task.room:
            return with_room(made, *exposed_range(self.low, self.high, self.task.room, self.task.knee))
        return bounded(made, self.low, self.high, self.task.overshoot)

    def finish(self, luma: Tensor, stretch: bool = True) -> Tensor:
        """See `ddfm.likelihoods.base.Likelihood.finish`."""
        return finished(luma, self.task, stretch, self.together, self.steady, (self.low, self.high))

    def choice(self) -> Tensor:
        """Return how far each source explains the intensities, (B, K, H, W): weights for their chroma."""
        weight = self.intensities.weight[:, : self.sources]
        return expand(weight, size(self.low)).clamp_min(LEAST_CHROMA)


def shares(candidates: Tensor, current: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """Return the candidates' expected precisions, made to sum to one: the E-step (eq. 8).

    They are E[1/v_k], up to a factor that all k share. The latent variance v_k is shared in a neighbourhood
    of n pixels, and has an inverse gamma prior of scale n/2 ``scale / weight``. It is judged by how far the
    current f is from candidate k there.

    Args:
        candidates: (B, K, H, W).
        current: (B, 1, H, W).
        weight: prior weights, (B, K, h, w) at half the resolution.
        scale: (B, 1, h, w) or (B, 1, 1, 1), positive.

    Returns:
        (B, K, h, w).
    """
    residual = reduce((current - candidates).square_())
    precision = weight / (weight * residual + scale)
    return precision / precision.sum(1, keepdim=True)


def weighted_sum(share: Tensor, x: Tensor) -> Tensor:
    """Sum the channels of x, (B, K, H, W), by shares at half the resolution; (B, 1, H, W)."""
    return expand(share, size(x)).mul_(x).sum(1, keepdim=True)


@dataclass(frozen=True)
class Intensities:
    """What may explain the intensities: each source alone, or all of them jointly.

    Attributes:
        candidates: the K sources and, for some tasks, their joint explanation, (B, K or K + 1, H, W).
        weight: prior weights, summing to one, one a candidate, at half the resolution.
        scale: prior scale of the latent variances (eq. 8), (B, 1, 1, 1).
    """

    candidates: Tensor
    weight: Tensor
    scale: Tensor

    @classmethod
    def of(
        cls, x: Tensor, noise: Tensor, task: Task, steady: Steady = as_it_is, shown: Tensor | None = None
    ) -> tuple[Intensities, Tensor, Tensor]:
        """Weigh the sources (B, K, H, W), with noise of variance (B, K, 1, 1) left in them.

        ``shown`` says how far each source shows a pixel, (B, K, h, w); None for all, everywhere.

        Returns:
            The intensities; how far each source's details are to be trusted, (B, K, h, w); and how far
            sources have something to say together, (B, 1, h, w).
        """
        centre = steady(GlobalNumber.CENTRE, x.mean((1, 2, 3), keepdim=True))
        means = reduce(x)
        local = means - centre
        energy = steady(GlobalNumber.ENERGY, local.square().mean((1, 2, 3), keepdim=True))
        scale = INTENSITY_SCALE * energy + TINY
        if task.union is None:
            weight, trust = salience(x, local, centre, noise, task)
            weight, trust = among_shown(weight, shown), where_shown(trust, shown)
            return cls(x, weight, scale), trust, torch.ones_like(local[:, :1])
        evidence = Evidence.of(means, noise, task, steady, shown)
        own = centre + steady(GlobalNumber.OWN_MEANS, x.mean((2, 3), keepdim=True) - centre)
        together = task.mixing * evidence.together
        share = task.union * together * evidence.undecided
        intensities = cls(
            candidates=torch.cat([x, joint(x, own, evidence.overall)], 1),
            weight=torch.cat([(1 - share) * evidence.weight, share], 1),
            scale=scale,
        )
        followed = task.mixing * task.followed + 1 - task.mixing
        trust = (evidence.weight / evidence.weight.amax(1, keepdim=True)) ** followed
        return intensities, trust, together

    def fuse(self, current: Tensor) -> Tensor:
        """Do one EM iteration, given the current f, (B, 1, H, W); same shape out."""
        return self.mean(shares(self.candidates, current, self.weight, self.scale))

    def mean(self, share: Tensor) -> Tensor:
        """Return the candidates' mean with those shares, (B, 1, H, W): the M-step (eq. 9)."""
        return weighted_sum(share, self.candidates)


def joint(x: Tensor, own: Tensor, overall: Tensor) -> Tensor:
    """Explain the sources jointly: their deviations from their own means, added up, (B, 1, H, W) (eq. 4).

    Args:
        x: sources, (B, K, H, W).
        own: mean of each source, (B, K, 1, 1).
        overall: logarithm of the mean structure of each, (B, K, 1, 1), by which their means are averaged.
    """
    share = (2 * overall).softmax(1)
    total = (x + (share - 1) * own).sum(1, keepdim=True)
    return total.clamp(x.amin(1, keepdim=True), x.amax(1, keepdim=True))


def salience(x: Tensor, local: Tensor, centre: Tensor, noise: Tensor, task: Task) -> tuple[Tensor, Tensor]:
    """Weigh sources by their deviation from the common mean, exposure or sharpness (eq. 2m and 15 to 18).

    Args:
        x: sources, (B, K, H, W).
        local: local means of their deviations from the common mean, (B, K, h, w).
        centre: that mean, (B, 1, 1, 1).
        noise: variance of the noise left in the sources, (B, K, 1, 1).
        task: what kind of sources they are.

    Returns:
        Weights that sum to one, and the trust in each source's details, both (B, K, h, w).
    """
    if task.sharpness:
        saliency = trust = sharpest(x, noise, task.sharpness)
    else:
        magnitude = (reduce((x - centre).abs()) + task.magnitude_floor) ** task.magnitude
        saliency = magnitude * (task.brightness * local).exp()
        trust = torch.ones_like(saliency)
    if task.exposedness:
        exposed = reduce(well_exposed((x + 1) / 2)) + UNEXPOSED
        saliency = saliency * exposed**task.exposedness
        trust = exposed / exposed.amax(1, keepdim=True)
    return saliency / saliency.sum(1, keepdim=True), trust


def sharpest(x: Tensor, noise: Tensor, firmness: float) -> Tensor:
    """Return how far each source (B, K, H, W) is the sharpest, 1 where it is, (B, K, h, w), eq. 16 to 18.

    The energy of the finest bands, less what noise of that variance (B, K, 1, 1) contributes, averaged over
    ever larger windows, is sharpness: fine windows put the borders where they are. The choice of the next
    coarser window counts as much as some energy. It decides where finer ones have seen less, so that flat
    regions go with what surrounds them. Of the energy itself a share is handed on: beside a sharp edge
    its blurred copy has more of it in fine windows; but texture far away does not outvote weaker texture
    here. Last, the light of lamps that spills over is no sharpness, however sharp its border (`halos`).
    """
    windows: list[Tensor] = []
    for level, band in enumerate(decompose(x, FOCUS_SCALES)[0]):
        own = COARSER**level * (reduce(band.square()) - NOISE_IN_BAND[level] * noise).clamp_min(0)
        windows.append(own + reduce(windows[-1]) if windows else own)
    energy = windows.pop() + BLURRED
    for finer in reversed(windows):
        choice = energy / energy.sum(1, keepdim=True)
        energy = finer + expand(HANDED_ON * choice + NEARBY * energy, size(finer))
    energy = energy * (-SPILLING * spilled(x)).exp()
    return (energy / energy.amax(1, keepdim=True)) ** firmness


@dataclass(frozen=True)
class Band:
    """A detail band of the sources. Energies and weights are local means, at half its resolution.

    Attributes:
        x: the sources' coefficients, (B, K, h, w).
        energy: local mean squares, less what noise contributes, (B, K, h/2, w/2).
        total: energy of all sources together, what they share counted once (eq. 10), (B, 1, h/2, w/2).
        noise: variance of the noise left in x, (B, K, 1, 1).
        scale: prior scale of the latent variances (eq. 8), (B, 1, h/2, w/2).
        weight: prior weight of each source, summing to one over the sources (eq. 7).
        together: how far several sources have something to say (eq. 3), (B, 1, h/2, w/2).
    """

    x: Tensor
    energy: Tensor
    total: Tensor
    noise: Tensor
    scale: Tensor
    weight: Tensor
    together: Tensor

    @classmethod
    def of(cls, x: Tensor, noise: Tensor, trust: Tensor, task: Task, together: Tensor) -> Band:
        """Weigh the sources' coefficients, whose noise has a variance of (B, K, 1, 1).

        ``trust`` in each source, and how far they speak ``together``, are at half the resolution.
        """
        energy = (reduce(x.square()) - noise).clamp_min(0)
        added = energy.sum(1, keepdim=True)
        shared = (reduce(x.sum(1, keepdim=True).square()) - noise.sum(1, keepdim=True) - added).clamp_min(0)
        saliency = (energy + task.energy_floor) ** task.energy_power * trust**TRUST_POWER
        weight = saliency / saliency.sum(1, keepdim=True)
        return cls(
            x=x,
            energy=energy,
            total=torch.lerp((weight * energy).sum(1, keepdim=True), added - shared / x.shape[1], together),
            noise=noise,
            scale=DETAIL_SCALE * (energy + task.energy_floor).mean(1, keepdim=True),
            weight=weight,
            together=together,
        )

    def fuse(self, current: Tensor, acutance: float, most: float = MAX_GAIN) -> Tensor:
        """Do one EM iteration, given the band of the current f, (B, 1, h, w); same shape out."""
        share = shares(self.x, current, self.weight, self.scale)
        # M-step: the mean that those precisions give (eq. 9).
        d = weighted_sum(share, self.x)
        # Averaging details that differ loses energy; what the sources have together is given back
        # (eq. 10), and the finest details get the contrast that eyes miss, but noise gets neither.
        noise = (share.square() * self.noise).sum(1, keepdim=True)
        energy = (reduce(d.square()) - noise).clamp_min(0) + TINY
        gain = ((self.total + TINY) / energy).clamp(1, most).sqrt()
        gain = gain * (1 + (acutance - 1) * self.together * energy / (energy + noise))
        return expand(gain, size(self.x)).mul_(d)
