"""Pictures in tiles and in parts: that they are what they would be in one piece."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

import ddfm.priors.diffusion
from ddfm import fuse
from ddfm.devices import memory_at_hand
from ddfm.fusion.restore import SMOOTH_STRIP, with_chroma
from ddfm.likelihoods.forms import FORMS
from ddfm.likelihoods.hierarchical import HierarchicalLikelihood
from ddfm.likelihoods.tasks import TASKS
from ddfm.likelihoods.tiled import SIDE, TiledLikelihood
from ddfm.pictures.colour import (
    blend_chroma,
    blend_exposed_chroma,
    chroma_kept,
    combine,
    combine_exposed,
    luminance,
)
from ddfm.pictures.tiles import Tile, blended, spans
from ddfm.priors.diffusion import DiffusionPrior
from ddfm.priors.loading import load_prior
from ddfm.priors.normalisation import fixed_statistics, joint_statistics
from tests.conftest import examples


def scene(height: int, width: int, seed: int) -> NDArray[np.float64]:
    """Surfaces, texture and edges over most of [0, 1], (H, W)."""
    rng = np.random.default_rng(seed)
    surfaces, texture = (gaussian_filter(rng.normal(size=(height, width)), s) for s in (12, 1.5))
    image = surfaces / surfaces.std() + 0.3 * texture / texture.std() + (surfaces > 0)
    return np.asarray(((image + 2) / 5).clip(0, 1))


def luminances(height: int, width: int) -> list[Tensor]:
    return [torch.from_numpy(2 * scene(height, width, seed) - 1)[None, None] for seed in (1, 2)]


# --- The cutting ---------------------------------------------------------------------------------


@given(st.integers(1, 400), st.integers(0, 6), st.integers(0, 40), st.sampled_from([1, 2, 8]))
def test_spans_cover_a_length_and_share_it_smoothly(
    length: int, units: int, more: int, multiple: int
) -> None:
    overlap = units * multiple
    side = 3 * overlap + (more + 1) * multiple
    cut = spans(length, side, overlap, multiple)
    weights, owners = torch.zeros(length, dtype=torch.float64), torch.zeros(length)
    for span in cut:
        assert span.stop - span.start <= side
        assert span.start % multiple == 0
        weights[span.all] += span.weights().double()
        owners[span.own] += 1
        inside = torch.arange(length)[span.all][span.own_within]
        assert torch.equal(inside, torch.arange(length)[span.own])
    assert torch.allclose(weights, torch.ones_like(weights), atol=1e-6)
    assert bool((owners == 1).all())
    assert (len(cut) == 1) == (length <= side)


def test_weights_are_a_raised_cosine() -> None:
    """Within the overlap, but for a fifth of it at either border."""
    first, second = spans(100, 64, 16)
    where = (((np.arange(16) + 0.5) / 16 - 0.2) / 0.6).clip(0, 1)
    assert np.allclose(second.weights()[:16].numpy(), (1 - np.cos(np.pi * where)) / 2, atol=1e-6)
    assert torch.equal(first.weights()[: -first.after], torch.ones(len(first.weights()) - 16))


@examples(30)
@given(st.integers(1, 150), st.integers(1, 150))
def test_blended_tiles_of_what_is_done_pixel_by_pixel(height: int, width: int) -> None:
    image = torch.rand(2, 3, height, width)
    tiled = blended(lambda tile: tile**2 - 1, image, side=48, overlap=16, multiple=8)
    assert torch.allclose(tiled, image**2 - 1, atol=1e-5)


# --- The network ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def natural() -> DiffusionPrior:
    return load_prior()


def test_a_prior_in_tiles(natural: DiffusionPrior) -> None:
    clean = torch.from_numpy(2 * scene(144, 250, 3) - 1).float()[None, None]
    sigma = 20 / 127.5
    noisy = clean + sigma * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    whole = natural.denoise(noisy, sigma)
    tiled = replace(natural, tile=96).denoise(noisy, sigma)
    error = (whole - clean).square().mean().sqrt()
    assert not torch.equal(tiled, whole)
    assert (tiled - whole).square().mean().sqrt() < 0.2 * error
    assert (tiled - clean).square().mean().sqrt() < 1.05 * error
    assert torch.equal(replace(natural, tile=250).denoise(noisy, sigma), whole)
    assert torch.equal(replace(natural, tile=None).denoise(noisy, sigma), whole)


def test_parts_of_a_picture_are_normalised_as_one() -> None:
    """Against the layer itself, shown the parts side by side."""
    generator = torch.Generator().manual_seed(0)
    layer = torch.nn.GroupNorm(2, 6)
    torch.nn.init.normal_(layer.weight, generator=generator)
    torch.nn.init.normal_(layer.bias, generator=generator)
    network = torch.nn.Sequential(layer, torch.nn.SiLU())
    parts = 1 + torch.arange(4.0).reshape(4, 1, 1, 1) * torch.rand(4, 6, 8, 5, generator=generator)
    with torch.no_grad():
        together = network(torch.cat(list(parts[:, None]), -1))
        alone = network(parts)
        statistics = joint_statistics(network, lambda: network(parts))
        with fixed_statistics(network, statistics):
            for n, part in enumerate(parts.split(1)):
                assert torch.allclose(network(part), together[..., 5 * n : 5 * n + 5], atol=1e-5)
            with ThreadPoolExecutor(1) as other:  # in another thread nothing is seen of it
                assert torch.equal(other.submit(network, parts).result(), alone)
        assert not torch.allclose(alone[:1], together[..., :5], atol=1e-2)
        assert torch.equal(network(parts), alone)


def test_tiles_are_chosen_by_the_memory_at_hand(
    natural: DiffusionPrior, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = []
    for gigabytes in (0.01, 1, 2, 1000):
        monkeypatch.setattr(ddfm.priors.diffusion, "memory_at_hand", lambda device, g=gigabytes: int(g * 1e9))
        chosen.append([natural.for_tiles("auto", side, side).tile for side in (480, 2048, 2049)])
    assert chosen == [[256, 256, 256], [None, 512, 512], [None, 1024, 1024], [None, None, 1024]]
    assert natural.for_tiles(96, 480, 640).tile == 96
    assert natural.for_tiles("off", 4096, 4096).tile is None


def test_memory_at_hand_is_some_of_the_machines() -> None:
    assert 0 < memory_at_hand(torch.device("cpu")) <= psutil.virtual_memory().total


# --- The likelihood ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "side", "size"),
    [
        ("infrared", 128, (400, 531)),
        ("medical", 96, (300, 401)),
        ("focus", 160, (600, 450)),
        ("exposure", 256, (70, 2101)),  # margins of exposures, which have seven bands, are wide
    ],
)
def test_the_likelihood_in_parts_is_that_of_one_piece(task: str, side: int, size: tuple[int, int]) -> None:
    sources = luminances(*size)
    left = [torch.tensor([0.01]), torch.tensor([0.0])]
    whole = HierarchicalLikelihood(sources, left, TASKS[task])
    parts = TiledLikelihood(sources, left, TASKS[task], side)
    f0 = 0.7 * sources[0]
    for ours, reference in (
        (parts.start, whole.start),
        (parts.rectify(f0), whole.rectify(f0)),
        (parts.choice(), whole.choice()),
        (parts.finish(f0), whole.finish(f0)),
    ):
        assert ours.shape == reference.shape
        assert torch.allclose(ours, reference, rtol=0, atol=1e-5)


def test_only_large_pictures_have_parts() -> None:
    left = [torch.zeros(1)] * 2
    cases: list[tuple[int, Tile, type]] = [
        (SIDE, "auto", HierarchicalLikelihood),
        (SIDE + 1, "off", HierarchicalLikelihood),
        (SIDE + 1, 64, TiledLikelihood),
    ]
    for width, tile, kind in cases:
        sources = [torch.zeros(1, 1, 16, width)] * 2
        assert isinstance(
            FORMS["ddfm"].likelihood(sources, left, TASKS["infrared"], whole=tile == "off"), kind
        )


# --- All together --------------------------------------------------------------------------------


def as_picture(image: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.rint(255 * image).astype(np.uint8)


def steps_across(picture: NDArray[np.float64], lines: list[int]) -> list[float]:
    """Mean absolute gradient across each line, by the median of those of the eight lines on either side."""
    gradient = np.abs(np.diff(picture, axis=1)).mean(0)
    return [gradient[n - 1] / np.median(np.r_[gradient[n - 9 : n - 1], gradient[n : n + 8]]) for n in lines]


@pytest.mark.parametrize("noise", [0, 12])
def test_no_tile_can_be_seen(natural: DiffusionPrior, noise: int) -> None:
    a, b = (as_picture(scene(150, 330, seed)) for seed in (4, 5))
    disturbed = a + np.random.default_rng(0).normal(0, noise, a.shape)
    a = np.rint(disturbed.clip(0, 255)).astype(np.uint8)
    results = {
        tile: fuse(a, b, prior=natural, task="infrared", noise=[noise, 0], steps=3, tile=tile)
        for tile in ("off", 128)
    }
    whole, tiled = (result.to_array().astype(np.float64) for result in results.values())
    assert (results["off"].settings["tile"], results[128].settings["tile"]) == (None, 128)
    difference = np.abs(tiled - whole)
    assert 0 < difference.mean() < 1
    assert difference.max() <= 8
    cut = spans(330, 128, 32, 16)
    borders = sorted({line for span in cut for line in (span.start, span.stop, span.own.stop)} - {0, 330})
    for step, reference in zip(steps_across(tiled, borders), steps_across(whole, borders), strict=True):
        assert step < reference + 0.1


@pytest.mark.parametrize("task", ["infrared", "exposure"])
def test_a_large_picture_in_colour(task: str) -> None:
    a = as_picture(np.dstack([scene(40, SIDE + 600, seed) for seed in (6, 7, 8)]))
    b = a // 3 if task == "exposure" else as_picture(scene(40, SIDE + 600, 9))
    whole, tiled = (
        fuse(a, b, steps=0, task=task, noise="off", tile=tile).to_array().astype(int)
        for tile in ("off", "auto")
    )
    difference = np.abs(tiled - whole)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3


@pytest.mark.parametrize("task", ["infrared", "exposure"])
def test_chroma_in_strips_is_that_of_one_piece(task: str) -> None:
    image = torch.rand(1, 3, 3 * SMOOTH_STRIP + 17, 20, generator=torch.Generator().manual_seed(0))
    images = [image, image**2]
    luma = image.mean(1, keepdim=True).sqrt()
    likelihood = HierarchicalLikelihood([luma, luma**2], [torch.zeros(1)] * 2, TASKS[task])
    ours = with_chroma(dict(enumerate(images)), luma, likelihood, 0, TASKS[task])
    if task == "exposure":
        whole = combine_exposed(luma, blend_exposed_chroma(images, luma), 0.25)
    else:
        chroma, seen = blend_chroma(images), torch.maximum(luminance(images[0]), luminance(images[1]))
        whole = combine(luma, chroma * chroma_kept(chroma, seen, luma, TASKS[task].chroma_noise))
    assert torch.allclose(ours, whole, rtol=0, atol=1e-6)
