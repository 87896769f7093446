"""Missing pixels filled by the prior, beside OpenCV's inpainting and as properties."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddfm.noise.level import GREY_LEVEL
from ddfm.noise.missing import Holes, filled
from ddfm.pictures.holes import WIDE, faded, filled_from_around, wide, with_stand_in
from ddfm.priors.base import Prior, from_function
from ddfm.priors.loading import load_prior
from tests.noise.test_camera import steps

SIZE = (96, 128)


@pytest.fixture(scope="module")
def prior() -> Prior:
    return load_prior()


def at_random(share: float) -> NDArray[np.bool_]:
    return np.random.default_rng(1).random(SIZE) < share


def block(side: int = 16) -> NDArray[np.bool_]:
    missing = np.zeros(SIZE, bool)
    missing[40 : 40 + side, 30 : 30 + side] = True
    return missing


def plane(values: NDArray[Any]) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))[None, None]


def rms(a: Tensor, b: Tensor) -> float:
    return float((a - b).square().mean().sqrt())


def inpainted(luma: Tensor, missing: NDArray[np.bool_], method: int) -> Tensor:
    picture = ((luma[0, 0].numpy() + 1) * 127.5).round().astype(np.uint8)
    made = cv2.inpaint(picture, missing.astype(np.uint8), 3, method)
    return plane(made) / 127.5 - 1


@pytest.mark.parametrize("missing", [at_random(0.1), block()], ids=["random", "block"])
def test_nearer_to_the_truth_than_opencv(prior: Prior, missing: NDArray[np.bool_]) -> None:
    luma, known = steps(*SIZE), plane(~missing)
    made = filled(prior, torch.where(known > 0, luma, 0), known)
    assert torch.equal(made[known > 0], luma[known > 0])
    for method in (cv2.INPAINT_TELEA, cv2.INPAINT_NS):
        assert rms(made, luma) < rms(inpainted(torch.where(known > 0, luma, -1), missing, method), luma)


def test_what_was_there_before_does_not_matter(prior: Prior) -> None:
    luma, known = steps(*SIZE), plane(~block())
    made = [filled(prior, torch.where(known > 0, luma, value), known) for value in (-1.0, 1.0)]
    assert torch.equal(*made)


def test_draws_differ_where_pixels_are_missing_alone_and_by_the_seed_alone(prior: Prior) -> None:
    luma, known = steps(*SIZE), plane(~block())
    first, again, other = (filled(prior, luma, known, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert torch.equal(first[known > 0], other[known > 0])
    assert (first - other)[known == 0].abs().mean() > 1e-3


def test_a_prior_that_changes_nothing_leaves_what_lies_around() -> None:
    luma, known = steps(*SIZE), plane(~block())
    identity = from_function(lambda x, sigma: x)
    start = filled_from_around(luma, known)
    assert torch.equal(filled(identity, luma, known)[known > 0], luma[known > 0])
    inside = filled(identity, luma, known)[known == 0]
    assert luma[known > 0].min() - GREY_LEVEL < inside.min()
    assert inside.max() < luma[known > 0].max() + GREY_LEVEL
    assert torch.equal(start[known > 0], luma[known > 0])


def test_filling_from_around_knows_constants_and_whole_pictures() -> None:
    luma = torch.full((2, 3, 33, 20), 0.25)
    known = (torch.rand(2, 1, 33, 20, generator=torch.Generator().manual_seed(0)) < 0.2).float()
    known[1] = 1
    assert torch.allclose(filled_from_around(luma, known), luma, atol=1e-6)
    picture = torch.rand(1, 1, 20, 20)
    assert filled_from_around(picture, torch.ones_like(picture)) is picture
    assert torch.equal(filled_from_around(picture, torch.zeros_like(picture)), torch.zeros_like(picture))


def test_a_stand_in_has_the_details_of_the_other_and_the_brightness_of_its_own() -> None:
    other, known = torch.rand(1, 1, *SIZE) / 4, plane(~block(24))
    made = with_stand_in(other + 0.5, known, other)
    assert torch.allclose(made, other + 0.5, atol=1e-5)
    assert torch.equal(with_stand_in(other + 0.5, torch.zeros_like(known), other), other)


def test_only_holes_wide_both_ways_are_wide() -> None:
    missing = np.zeros(SIZE, bool)
    missing[10 : 10 + WIDE - 1, 10:60] = True  # a bar
    missing[50 : 50 + WIDE, 70 : 70 + WIDE] = True  # a square
    missing[30, 90] = True
    found = wide(plane(missing))[0, 0].numpy()
    assert found.sum() == WIDE**2
    assert found[50, 70]
    # What reaches out of the picture is as wide as what lies outside.
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    wedge = y < 0.1 * x - 3
    assert np.array_equal(wide(plane(wedge))[0, 0].numpy(), wedge)


def test_what_is_gone_fades_from_one_to_nothing() -> None:
    gone = plane(np.tile(np.arange(SIZE[1]) >= 64, (SIZE[0], 1)))
    row = faded(1 - gone)[0, 0, 40]
    assert (row[:64] == 1).all()
    assert (row[63:].diff() <= 0).all()
    assert row[64] > 0.8
    assert row[80] == 0
    holes = Holes(1 - gone, gone)
    assert not holes.to_fill
    assert torch.equal(holes.shown, faded(1 - gone))
    assert holes.fill(lambda: pytest.fail("asks for the prior"), gone) is gone
