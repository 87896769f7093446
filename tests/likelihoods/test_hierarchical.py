from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.ndimage import gaussian_filter
from torch import Tensor

from ddfm.likelihoods.contrast import AT_ENDS, SAMPLES, TAIL, bounded, compressed, stretched
from ddfm.likelihoods.evidence import NOISE_IN_STRUCTURE, Evidence, present_together, structure
from ddfm.likelihoods.hierarchical import (
    ETA,
    NOISE_IN_BAND,
    Band,
    HierarchicalLikelihood,
    Intensities,
    joint,
    shares,
)
from ddfm.likelihoods.tasks import TASKS
from ddfm.pictures.pyramid import decompose, expand, reduce
from tests.conftest import examples

SEEDS = st.integers(0, 2**31)
SIDES = st.integers(1, 40)
KINDS = st.sampled_from(sorted(TASKS))
INFRARED = TASKS["infrared"]
LEVEL = 2 / 255  # a grey level


def random_image(seed: int, height: int, width: int, channels: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(1, channels, height, width, generator=generator, dtype=torch.float64) - 1


def scene(seed: int, height: int = 64, width: int = 80) -> Tensor:
    """Smooth surfaces with some texture, over most of the range."""
    rng = np.random.default_rng(seed)
    layers = [gaussian_filter(rng.normal(size=(height, width)), s, mode="nearest") for s in (0.7, 2, 8)]
    image = sum(w * (x - x.mean()) / x.std() for w, x in zip((0.06, 0.12, 0.3), layers, strict=True))
    return torch.from_numpy(np.clip(image, -1, 1))[None, None]


def likelihood(*sources: Tensor, noise: float = 0.0, kind: str = "infrared") -> HierarchicalLikelihood:
    left = [torch.full((len(x),), noise, dtype=torch.float64) for x in sources]
    return HierarchicalLikelihood(sources, left, TASKS[kind])


# --- All together --------------------------------------------------------------------------------


@examples(20)
@given(SEEDS, SIDES, SIDES, st.integers(2, 3), KINDS)
def test_the_order_of_the_sources_does_not_matter(
    seed: int, height: int, width: int, count: int, kind: str
) -> None:
    sources = [random_image(seed + k, height, width) for k in range(count)]
    f = random_image(seed + 9, height, width)
    first = likelihood(*sources, kind=kind)
    for order in itertools.permutations(sources):
        other = likelihood(*order, kind=kind)
        assert torch.allclose(other.start, first.start, rtol=0, atol=1e-9)
        assert torch.allclose(other.solve(f), first.solve(f), rtol=0, atol=1e-9)


@examples(20)
@given(SEEDS, SIDES, SIDES, st.integers(2, 3), KINDS)
def test_identical_sources_come_back_sharpened_within_bounds(
    seed: int, height: int, width: int, count: int, kind: str
) -> None:
    """Sharpening adds at most the contrast of its bands, and only the share of it that is kept."""
    source, task = random_image(seed, height, width), TASKS[kind]
    fused = likelihood(*[source] * count, kind=kind).solve(random_image(seed + 1, height, width))
    if max(task.acutance) == 1:
        assert torch.allclose(fused, source, rtol=0, atol=1e-9)
    assert (fused - source).abs().max() <= task.overshoot * 4 * (max(task.acutance) - 1) + 1e-9


@examples(10)
@given(st.floats(-1, 1), SIDES, SIDES, KINDS)
def test_a_constant_comes_back(value: float, height: int, width: int, kind: str) -> None:
    source = torch.full((1, 1, height, width), value, dtype=torch.float64)
    both = likelihood(source, source, kind=kind)
    assert torch.allclose(both.start, source, rtol=0, atol=1e-9)
    # Bent beyond the knee, but what all sources show black or white stays so.
    bent = float(compressed(source, TASKS[kind].knee)[0, 0, 0, 0])
    bent = min(bent, max(AT_ENDS * (value + 1) - 1, value))
    bent = max(bent, min(1 - AT_ENDS * (1 - value), value))
    expected = torch.full_like(source, (bent + 1) / 2)
    assert torch.allclose(both.finish(both.start), expected, rtol=0, atol=1e-9)


@examples(20)
@given(SEEDS, SIDES, SIDES, st.floats(0, 1))
def test_what_lies_outside_the_sources_range_is_cut_down(
    seed: int, height: int, width: int, overshoot: float
) -> None:
    """Pixel by pixel, against a loop."""
    a, b, f = (random_image(seed + k, height, width) for k in range(3))
    low, high = torch.minimum(a, b), torch.maximum(a, b)
    result = bounded(3 * f, low, high, overshoot)
    for value, least, most, got in zip(
        *(t.flatten().tolist() for t in (3 * f, low, high, result)), strict=True
    ):
        nearest = sorted((least, value, most))[1]
        assert got == pytest.approx(nearest + overshoot * (value - nearest), abs=1e-12)


@examples(20)
@given(SEEDS, KINDS)
def test_the_result_keeps_to_the_sources_range(seed: int, kind: str) -> None:
    a, b, task = random_image(seed, 24, 31), random_image(seed + 1, 24, 31), TASKS[kind]
    low, high = torch.minimum(a, b), torch.maximum(a, b)
    both = likelihood(a, b, kind=kind)
    for fused in (both.start, both.solve(random_image(seed + 2, 24, 31))):
        beyond = torch.maximum(low - fused, fused - high).clamp_min(0)
        assert beyond.max() <= task.overshoot * 2 + 1e-9
    plain = replace(task, acutance=(1.0,) * len(task.acutance))  # sharpening noise leaves the range often
    fused = HierarchicalLikelihood([a, b], [torch.zeros(1, dtype=a.dtype)] * 2, plain).start
    assert (fused >= low - 1e-9).logical_and(fused <= high + 1e-9).double().mean() > 0.3


@examples(10)
@given(SEEDS, SIDES, SIDES)
def test_rectifying_changes_luminance_only(seed: int, height: int, width: int) -> None:
    """By the same in all channels; eta is the precision of the prior's estimate beside the sources'."""
    both = likelihood(random_image(seed, height, width), random_image(seed + 1, height, width))
    f0 = random_image(seed + 2, height, width, channels=3)
    change = both.rectify(f0) - f0
    assert torch.allclose(change, change[:, :1].expand_as(change), rtol=0, atol=1e-12)
    luma = (f0 * f0.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    wanted = both.solve(luma)
    f = (luma + change[:, :1]).requires_grad_()
    (slope,) = torch.autograd.grad(((f - wanted) ** 2 + ETA * (f - luma) ** 2).sum(), f)
    assert slope.abs().max() < 1e-12
    assert torch.allclose(both.rectify(luma), luma + change[:, :1], rtol=0, atol=1e-12)


def test_the_start_is_one_iteration_from_the_prior_weights_mean() -> None:
    a, b = scene(1), scene(2)
    intensities, _, _ = Intensities.of(torch.cat([a, b], 1), torch.zeros(1, 2, 1, 1), INFRARED)
    candidates = torch.cat([a, b, intensities.candidates[:, 2:]], 1)
    mean = (expand(intensities.weight, (64, 80)) * candidates).sum(1, keepdim=True)
    assert torch.allclose(likelihood(a, b).start, likelihood(a, b).solve(mean), rtol=0, atol=1e-12)


def test_images_of_a_batch_are_fused_each_by_itself() -> None:
    pairs = [(scene(1), scene(2)), (0.3 * scene(3), 0.5 * scene(4) + 0.3)]
    together = likelihood(*(torch.cat(images) for images in zip(*pairs, strict=True)))
    f = torch.cat([scene(5), scene(6)])
    for index, pair in enumerate(pairs):
        one = slice(index, index + 1)
        alone = likelihood(*pair)
        assert torch.allclose(together.solve(f)[one], alone.solve(f[one]), rtol=0, atol=1e-12)
        assert torch.allclose(together.finish(f)[one], alone.finish(f[one]), rtol=0, atol=1e-12)


# --- The E-step and the M-step -------------------------------------------------------------------


@pytest.mark.parametrize("shape", [0.5, 2.0, 7.0])
@pytest.mark.parametrize("count", [1, 2, 25])
def test_shares_are_the_expected_precisions(shape: float, count: int) -> None:
    """Against numerical integration of 1/v under the posterior of a shared variance.

    v ~ inverse gamma (shape, count/2 s/w) and ``count`` residuals N(0, v) with mean square r leave
    v ~ density v^-(shape + 1 + count/2) exp(-count/2 (s/w + r) / v). The expectation is
    (1 + 2 shape / count) / (r + s/w); the first factor is every candidate's and drops out of the shares.
    """
    weights, residuals, scale = (0.2, 0.5, 0.3), (0.3, 0.05, 0.4), 0.07
    v = torch.logspace(-6, 8, 200_001, dtype=torch.float64)
    expected = []
    for weight, residual in zip(weights, residuals, strict=True):
        log = -(shape + 1 + count / 2) * v.log() - count / 2 * (scale / weight + residual**2) / v
        density = (log - log.max()).exp()
        expected.append(torch.trapezoid(density / v, v) / torch.trapezoid(density, v))
    candidates = torch.tensor(residuals, dtype=torch.float64).reshape(1, 3, 1, 1).expand(1, 3, 6, 8)
    prior = torch.tensor(weights, dtype=torch.float64).reshape(1, 3, 1, 1).expand(1, 3, 3, 4)
    current = candidates.new_zeros(1, 1, 6, 8)
    found = shares(candidates, current, prior, current.new_full((1, 1, 1, 1), scale))
    assert torch.allclose(found[0, :, 1, 2], torch.stack(expected) / sum(expected), rtol=1e-4)


def test_a_sample_of_variances_agrees_with_the_shares() -> None:
    """The same model by drawing: variances, residuals given them, and those draws whose residual fits."""
    rng, weights, scale = np.random.default_rng(0), np.array([0.25, 0.75]), 0.1
    residuals, expected = np.array([0.5, 0.2]), []
    for weight, residual in zip(weights, residuals, strict=True):
        variance = stats.invgamma(1, scale=scale / weight).rvs(400_000, random_state=rng)
        likely = stats.expon(scale=2 * variance).pdf(2 * residual**2)  # of the sum of two squares
        expected.append(np.average(1 / variance, weights=likely))
    candidates = torch.from_numpy(residuals).reshape(1, 2, 1, 1).expand(1, 2, 4, 4)
    weight = torch.from_numpy(weights).reshape(1, 2, 1, 1).expand(1, 2, 2, 2)
    zero = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
    found = shares(candidates, zero, weight, zero.new_full((1, 1, 1, 1), scale))[0, 0, 0, 0]
    assert float(found) == pytest.approx(expected[0] / sum(expected), rel=0.01)


@examples(20)
@given(SEEDS, SIDES, SIDES, st.integers(2, 3))
def test_m_steps_minimise_the_weighted_squares(seed: int, height: int, width: int, count: int) -> None:
    x = random_image(seed, height, width, channels=count)
    current = random_image(seed + 1, height, width)
    intensities, _, _ = Intensities.of(x, torch.zeros(*x.shape[:2], 1, 1), INFRARED)
    f = intensities.fuse(current).requires_grad_()
    share = shares(intensities.candidates, current, intensities.weight, intensities.scale)
    # A bilinear mean of shares that sum to one: at every pixel they are the precisions, but for a factor.
    precision = expand(share, (height, width))
    assert (precision >= 0).all()
    (slope,) = torch.autograd.grad((precision * (f - intensities.candidates) ** 2).sum(), f)
    assert slope.abs().max() < 1e-12


@examples(20)
@given(SEEDS, st.floats(0.02, 1))
def test_details_that_one_source_has_alone(seed: int, contrast: float) -> None:
    """Details of one strength everywhere beside none, where the formulas are numbers."""
    signs = random_image(seed, 24, 32).sign()
    x = torch.cat([contrast * signs, torch.zeros_like(signs)], 1)
    floor, tiny = INFRARED.energy_floor, 1e-4
    band = Band.of(x, x.new_zeros(1, 2, 1, 1), x.new_ones(1, 2, 12, 16), INFRARED, x.new_ones(1, 1, 12, 16))
    energy = contrast**2
    weight = (energy + floor) ** 1.25 / ((energy + floor) ** 1.25 + floor**1.25)
    scale = 0.3 * (energy / 2 + floor)
    here, there = weight / (weight * energy + scale), (1 - weight) / scale  # from a current f of nothing
    share = here / (here + there)
    gain = min(2.2, max(1.0, (energy + tiny) / (share**2 * energy + tiny))) ** 0.5
    fused = band.fuse(torch.zeros_like(signs), 1.3)
    assert torch.allclose(fused, 1.3 * gain * share * contrast * signs, rtol=0, atol=1e-9)


@pytest.mark.parametrize("count", [2, 3])
def test_what_sources_share_counts_once_and_trust_twice(count: int) -> None:
    signs = random_image(0, 24, 32).sign()
    x, trust = (0.4 * signs).expand(-1, count, -1, -1), signs.new_ones(1, count, 12, 16)
    trust[:, 0] = 0.5
    both = signs.new_ones(1, 1, 12, 16)
    same = Band.of(x, x.new_zeros(1, count, 1, 1), trust, INFRARED, both)
    assert torch.allclose(same.total, torch.full_like(same.total, 0.16))  # as of one
    assert torch.allclose(same.weight[:, 0], 0.25 * same.weight[:, 1])  # half the trust, squared
    opposite = torch.cat([x[:, :1], -x[:, :1]], 1)
    opposed = Band.of(opposite, x.new_zeros(1, 2, 1, 1), trust[:, :2], INFRARED, both)
    assert torch.allclose(opposed.total, torch.full_like(opposed.total, 0.32))


# --- Contradictions ------------------------------------------------------------------------------


def landscape() -> tuple[Tensor, Tensor]:
    """Infrared and visible: a cold black sky that is white in daylight, over mid-grey textured ground."""
    infrared, visible = 0.3 * scene(1, 160, 160), 0.3 * scene(2, 160, 160)
    infrared[..., :80, :] = -0.95 + 0.02 * scene(3, 80, 160)
    visible[..., :80, :] = 0.9 + 0.02 * scene(4, 80, 160)
    return infrared, visible


def test_a_lit_sky_stays_bright_whichever_source_shows_it() -> None:
    infrared, visible = landscape()
    sky = (slice(None), slice(None), slice(8, 64), slice(None))
    lit = (visible[sky].mean() + 1) / 2
    for sources in ((infrared, visible), (visible, infrared)):
        both = likelihood(*sources)
        for fused in (both.start, both.solve(both.start)):
            assert abs((fused[sky].mean() + 1) / 2 - lit) < 0.1 * lit


def test_a_dark_tree_stays_darker_than_what_is_around_it() -> None:
    """Ten pixels wide, black in the visible image, where the infrared one is mid-grey throughout."""
    infrared, visible = 0.15 * scene(1, 96, 96), 0.3 + 0.15 * scene(2, 96, 96)
    visible[..., 43:53] = -0.9
    fused = likelihood(infrared, visible).start
    tree, around = fused[..., 46:50].mean(), torch.cat([fused[..., 20:36], fused[..., 60:76]]).mean()
    assert tree < around - 30 * LEVEL


def test_a_hot_target_stays_white() -> None:
    infrared, visible = -0.4 + 0.15 * scene(1, 96, 96), -0.3 + 0.3 * scene(2, 96, 96)
    infrared[..., 40:60, 40:52] = 0.95
    visible[..., 40:60, 40:52] = -0.9
    for sources in ((infrared, visible), (visible, infrared)):
        fused = likelihood(*sources).start
        assert fused[..., 44:56, 43:49].mean() > 0.95 - 0.1 * 1.95
        assert fused[..., 44:56, 43:49].mean() > fused[..., :30, :].mean() + 0.8


# --- Noise ---------------------------------------------------------------------------------------


def test_a_source_of_noise_weighs_no_more_than_an_empty_one() -> None:
    noise = 0.5 * torch.randn(1, 1, 96, 96, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    texture = scene(1, 96, 96)
    trust = torch.ones(1, 2, 48, 48, dtype=torch.float64)

    def weight(other: Tensor, told: float) -> Tensor:
        variance = torch.tensor([told, 0.0], dtype=torch.float64).reshape(1, 2, 1, 1)
        band = torch.cat([decompose(image, 1)[0][0] for image in (other, texture)], 1)
        return Band.of(band, variance, trust, INFRARED, trust[:, :1]).weight[:, 0]

    energy = reduce(decompose(noise, 1)[0][0].square()).max()
    empty = weight(torch.zeros_like(noise), 0.0)
    assert torch.allclose(weight(noise, 1.01 * float(energy)), empty, rtol=0, atol=1e-12)
    told = weight(noise, 0.25 * NOISE_IN_BAND[0])  # the variance that it has
    assert told.median() < 0.5 < 0.9 < weight(noise, 0.0).median()


def test_noise_that_is_known_is_not_sharpened() -> None:
    """The finest band of two equal sources: their acutance, less the more of it is noise."""
    noise = 0.1 * torch.randn(1, 1, 96, 96, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    band = decompose(noise, 1)[0][0]
    x, trust = band.expand(-1, 2, -1, -1), torch.ones(1, 2, 48, 48, dtype=torch.float64)

    def strength(told: float) -> float:
        variance = torch.full((1, 2, 1, 1), told, dtype=torch.float64)
        both = Band.of(x, variance, trust, INFRARED, trust[:, :1])
        return float(both.fuse(band, 1.5).norm() / band.norm())

    assert strength(0.0) == pytest.approx(1.5, rel=1e-9)
    assert 1 - 1e-9 < strength(0.01 * NOISE_IN_BAND[0]) < 1.3


# --- The stretch ---------------------------------------------------------------------------------


@examples(40)
@given(SEEDS, SIDES, SIDES, st.floats(0.01, 1), st.floats(-0.7, 0.7), st.floats(1, 1.5))
def test_stretch_raises_contrast_and_moves_the_mean_only_to_fit(
    seed: int, height: int, width: int, contrast: float, shift: float, most: float
) -> None:
    f = (contrast * random_image(seed, height, width) + shift).clamp(-1, 1)
    result = stretched(f, most)
    low, high = np.quantile(f.numpy(), (TAIL, 1 - TAIL))
    gain = min(most, 2 / max(high - low, 1e-4))
    moved = float(result.mean() - f.mean())
    assert torch.allclose(result, f.mean() + moved + gain * (f - f.mean()), rtol=0, atol=1e-6)
    least, greatest = np.quantile(result.numpy(), (TAIL, 1 - TAIL))
    assert -1 - 1e-6 < least <= greatest < 1 + 1e-6
    if moved > 1e-6:  # no farther than it takes
        assert least == pytest.approx(-1, abs=1e-6)
    if moved < -1e-6:
        assert greatest == pytest.approx(1, abs=1e-6)


def test_stretch_leaves_the_full_range_and_a_constant_alone() -> None:
    full = torch.linspace(-1, 1, 4000, dtype=torch.float64).reshape(1, 1, 40, 100)
    assert float((stretched(full, 1.0) - full).abs().max()) == 0
    assert torch.allclose(stretched(full, 1.13), full / (1 - 2 * TAIL))  # all but the tails fits in
    black_and_white = (full > 0).double() * 2 - 1
    assert torch.allclose(stretched(black_and_white, 1.13), black_and_white, rtol=0, atol=1e-12)
    constant = torch.full((1, 1, 5, 7), 0.3, dtype=torch.float64)
    assert torch.allclose(stretched(constant, 1.13), constant, rtol=0, atol=1e-12)


@pytest.mark.parametrize("spread", [0.3, 0.45, 0.7])
def test_stretch_clips_little(spread: float) -> None:
    """No more than the tails at either end, as far as a large picture's sample tells them."""
    f = spread * torch.linspace(-2.2, 2.2, 300 * 400, dtype=torch.float64)
    f = f.clamp(-1, 1)[torch.randperm(300 * 400, generator=torch.Generator().manual_seed(0))]
    f = f.reshape(1, 1, 300, 400)
    result = stretched(f, INFRARED.stretch)
    for clipped, before in ((result > 1 + 1e-9, f >= 1), (result < -1 - 1e-9, f <= -1)):
        share = TAIL + 4 * (TAIL / SAMPLES) ** 0.5  # as far as the sample tells
        assert clipped.double().mean() <= max(share, float(before.double().mean()))


# --- Absence is no evidence ----------------------------------------------------------------------


@pytest.mark.parametrize("level", [-1.0, -0.6, 0.0])
def test_a_flat_source_leaves_the_other_as_it_is(level: float) -> None:
    """To a twentieth of a grey level, in its contrast and sharpness, too."""
    shown = 0.8 * scene(1)
    flat = torch.full_like(shown, level)
    for sources in ((shown, flat), (flat, shown)):
        both = likelihood(*sources)
        assert torch.allclose(both.finish(both.start), (shown + 1) / 2, rtol=0, atol=0.05 / 255)


def test_a_sunlit_wall_stays_lit_before_a_cold_one() -> None:
    visible, infrared = 0.6 + 0.1 * scene(1, 96, 96), -0.8 + 0.002 * scene(2, 96, 96)
    fused = likelihood(infrared, visible).start
    assert torch.allclose(fused, visible, rtol=0, atol=2 * LEVEL)


def test_a_hot_target_before_a_cold_wall_stays_hot_and_the_wall_lit() -> None:
    visible, infrared = 0.3 + 0.3 * scene(1, 96, 96), -0.8 + 0.002 * scene(2, 96, 96)
    infrared[..., 40:60, 44:52] = 0.9
    fused = likelihood(infrared, visible).start
    assert fused[..., 44:56, 46:50].mean() > 0.75
    assert torch.allclose(fused[..., :16, :], visible[..., :16, :], rtol=0, atol=6 * LEVEL)


def test_a_lit_wall_hardly_textured_stays_lit_around_a_hot_target() -> None:
    """Its texture is a grey level: what little it has to say is more than a cold wall's darkness."""
    visible, infrared = 0.6 + 0.03 * scene(1, 96, 96), -0.8 + 0.002 * scene(2, 96, 96)
    infrared[..., 40:60, 44:52] = 0.9
    fused = likelihood(infrared, visible).start
    assert fused[..., 44:56, 46:50].mean() > 0.9
    assert (visible - fused)[..., :16, :].max() < 20 * LEVEL


@pytest.mark.parametrize("sky", [0.5, 0.6, 0.8])
def test_a_bright_sky_stays_bright_beside_a_warm_tree(sky: float) -> None:
    """Up to the pixels that touch the tree, whose infrared edge says nothing about the sky."""
    visible, infrared = sky + 0.01 * scene(1, 96, 96), -0.9 + 0.02 * scene(2, 96, 96)
    visible[..., :48] = -0.3 + 0.2 * scene(3, 96, 96)[..., :48]
    infrared[..., :48] = 0.2 + 0.3 * scene(4, 96, 96)[..., :48]
    fused = likelihood(infrared, visible).start
    assert (visible - fused)[..., 20:76, 51:].mean(-2).max() < 4 * LEVEL


def test_a_bright_tree_leaves_no_halo_in_a_white_sky() -> None:
    """The sky's infrared edge is strong in coarse bands, far into what the visible picture shows flat."""
    visible, infrared = torch.full_like(scene(1, 96, 96), 0.95), torch.full_like(scene(1, 96, 96), -0.95)
    visible[..., :40] = 0.4 + 0.2 * scene(1, 96, 96)[..., :40]
    infrared[..., :40] = 0.4 + 0.2 * scene(2, 96, 96)[..., :40]
    fused = likelihood(infrared, visible).start
    assert (visible - fused)[..., 41:].max() < 5 * LEVEL


def a_dim_wall() -> tuple[Tensor, Tensor]:
    """A source that is black in its middle, and richer around it than the one that has a dim wall there."""
    richer, dimmer = 0.3 * scene(1, 192, 192), 0.2 * scene(2, 192, 192)
    wall = (..., slice(20, 172), slice(20, 172))
    richer[wall], dimmer[wall] = -0.98, -0.6 + 0.15 * scene(3, 152, 152)
    return richer, dimmer


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_black_source_does_not_hide_a_dim_wall(order: tuple[int, int]) -> None:
    """Not even the source that shows more of the scene; taken for evidence, its black costs 11 levels."""
    sources = a_dim_wall()
    fused = likelihood(*(sources[k] for k in order)).start
    assert (sources[1] - fused)[..., 60:132, 60:132].abs().mean() < 8 * LEVEL


def test_black_decides_nothing_where_nobody_shows_anything() -> None:
    richer, dimmer = a_dim_wall()
    dimmer[..., 20:172, 20:172] = -0.6
    x, none = torch.cat([richer, dimmer], 1), richer.new_zeros(1, 2, 1, 1)
    passed, kept = (Evidence.of(reduce(x), none, replace(INFRARED, absent=a)) for a in (INFRARED.absent, 0.0))
    middle = (..., slice(30, 66), slice(30, 66))
    assert torch.allclose(passed.weight[middle], kept.weight[middle], rtol=0, atol=1e-3)


@pytest.mark.parametrize("kind", sorted(TASKS))
def test_sources_with_noise_may_leave_the_range(kind: str) -> None:
    both = likelihood(0.3 * random_image(1, 24, 32) - 1.1, random_image(2, 24, 32), kind=kind)
    assert bool(both.finish(both.start).isfinite().all())


def test_equal_weights_leave_the_choice_open() -> None:
    weight = torch.tensor([[0.5, 0.5], [0.75, 0.25], [1.0, 0.0]]).reshape(3, 2, 1, 1)
    assert Evidence(weight, weight, weight).undecided.flatten().tolist() == pytest.approx([1, 0.5, 0])


def test_structure_is_contrast_less_noise() -> None:
    noise = 0.1 * torch.randn(1, 2, 96, 96, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    variance = torch.tensor([0.0, 0.01], dtype=torch.float64).reshape(1, 2, 1, 1)
    told = structure(reduce(noise), variance)[0].mean((1, 2))
    assert told[0] == pytest.approx(0.1 * NOISE_IN_STRUCTURE, rel=0.1)
    assert told[1] < 0.4 * told[0]
    assert not structure(torch.full_like(noise, 0.3), variance).any()


def test_sources_speak_together_as_far_as_the_second_of_them_does() -> None:
    found = torch.tensor([0.015, 0.5, 0.0]).reshape(1, 3, 1, 1)
    assert float(present_together(found, 0.015)) == pytest.approx(0.5)
    assert float(present_together(found[:, :2], 0.015)) == pytest.approx(0.5)
    assert float(present_together(found[:, 1:], 0.015)) == 0


def test_the_joint_explanation_adds_deviations_from_own_means() -> None:
    """By hand: of means 0 and .2, weighted alike, and bounded by the sources."""
    x = torch.tensor([[0.4, -0.4], [0.3, 0.1]], dtype=torch.float64).reshape(1, 2, 1, 2)
    own, alike = x.mean((2, 3), keepdim=True), torch.zeros(1, 2, 1, 1, dtype=torch.float64)
    assert joint(x, own, alike).flatten().tolist() == pytest.approx([0.4, -0.4])
    assert joint(0.5 * x + 0.25, 0.25 + 0.0 * own, alike).flatten().tolist() == pytest.approx([0.45, 0.1])


# --- Balance -------------------------------------------------------------------------------------


def balanced(infrared: Tensor, visible: Tensor, balance: float, thermal: int = 0) -> Tensor:
    """Return the finished picture in [-1, 1]."""
    task = replace(INFRARED, balance=balance, thermal=thermal)
    both = HierarchicalLikelihood([infrared, visible], [torch.zeros(1, dtype=torch.float64)] * 2, task)
    return 2 * both.finish(both.start) - 1


def night() -> tuple[Tensor, Tensor]:
    """Infrared and visible, both textured; one hot target in the infrared picture."""
    infrared, visible = -0.4 + 0.2 * scene(1, 96, 96), -0.1 + 0.3 * scene(2, 96, 96)
    infrared[..., 40:60, 40:52] = 0.95
    return infrared, visible


def test_the_ends_of_the_balance_are_the_cameras_pictures() -> None:
    infrared, visible = night()
    assert (balanced(infrared, visible, 1.0) - infrared).abs().max() < 3 * LEVEL
    natural = balanced(infrared, visible, 0.0)
    assert (natural - visible)[..., :24, :].abs().max() < 3 * LEVEL
    assert natural[..., 44:56, 44:48].mean() > 0.9


def test_the_balance_is_monotone_and_continuous() -> None:
    """But for what sharpens and stretches, which fades towards either end."""
    infrared, visible = night()
    plain = replace(INFRARED, acutance=(1.0,) * 5, stretch=1.0, gain=1.0)
    pictures = [
        HierarchicalLikelihood(
            [infrared, visible], [torch.zeros(1, dtype=torch.float64)] * 2, replace(plain, balance=k / 32)
        ).start
        for k in range(33)
    ]
    to_visible = [float((picture - visible).abs().mean()) for picture in pictures]
    to_infrared = [float((picture - infrared).abs().mean()) for picture in pictures]
    assert all(after > before - LEVEL / 10 for before, after in itertools.pairwise(to_visible))
    assert all(after < before + LEVEL / 10 for before, after in itertools.pairwise(to_infrared))
    steps = [float((after - before).abs().mean()) for before, after in itertools.pairwise(pictures)]
    assert max(steps) < 0.25 * sum(steps)


def test_the_thermal_source_may_be_any() -> None:
    infrared, visible = night()
    one, other = balanced(infrared, visible, 0.2), balanced(visible, infrared, 0.2, thermal=1)
    assert torch.allclose(one, other, rtol=0, atol=1e-9)
