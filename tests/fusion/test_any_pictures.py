"""Whatever two pictures of one size hold: the result is finite, in its range, and the same in any order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ddfm import InputError, Prior, fuse
from ddfm.likelihoods.tasks import TASKS
from ddfm.priors.loading import load_prior
from tests.conftest import examples

Picture = NDArray[Any]
# Few different values, in arrangements that filters, ratios and estimates of noise are tried by.
ARRANGEMENTS = {
    "noise": lambda rng, shape, count: rng.integers(0, count, shape),
    "rows": lambda rng, shape, count: np.arange(shape[0])[:, None, None] * np.ones(shape, int) % count,
    "halves": lambda rng, shape, count: (
        (np.arange(shape[1]) * count // shape[1])[None, :, None] * np.ones(shape, int)
    ),
    "spikes": lambda rng, shape, count: rng.integers(0, count, shape) * (rng.random(shape) < 0.005),
}


def values(dtype: str) -> st.SearchStrategy[float]:
    """All that a sample may be; small and large powers of ten as often as what lies between."""
    if dtype == "float32":
        return st.floats(width=32, allow_nan=False, allow_infinity=False)
    return st.integers(int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))


@st.composite
def pictures(draw: st.DrawFn, height: int, width: int) -> Picture:
    """A picture of one to four different values, grey or in colour."""
    dtype = draw(st.sampled_from(("uint8", "uint16", "int16", "float32")))
    chosen = np.array(draw(st.lists(values(dtype), min_size=1, max_size=4)), dtype)
    arrange = ARRANGEMENTS[draw(st.sampled_from(sorted(ARRANGEMENTS)))]
    shape = (height, width, draw(st.sampled_from((1, 3))))
    picture: Picture = chosen[arrange(np.random.default_rng(0), shape, len(chosen))]
    return picture.squeeze(-1) if shape[2] == 1 else picture


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Picture, Picture]:
    height, width = (draw(st.integers(16, 33)) for _ in range(2))
    return draw(pictures(height, width)), draw(pictures(height, width))


@pytest.fixture(scope="module")
def prior() -> Prior:
    return load_prior()


@given(pairs(), st.sampled_from(sorted(TASKS)), st.integers(0, 1))
@examples(40)
def test_any_two_pictures_give_one_within_the_range(
    prior: Prior, pair: tuple[Picture, Picture], task: str, steps: int
) -> None:
    before = [picture.copy() for picture in pair]
    first, again, turned = (
        fuse(*given, prior=prior, task=task, steps=steps, dtype="float32", device="cpu")
        for given in (pair, pair, pair[::-1])
    )
    pixels, array = first.image.pixels, first.to_array()
    assert np.isfinite(array).all()
    assert pixels.min() >= 0
    assert pixels.max() <= 1
    low, high = first.image.limits
    assert array.min() >= low - 1e-6 * (high - low)
    assert array.max() <= high + 1e-6 * (high - low)
    assert np.array_equal(pixels, again.image.pixels)
    assert np.array_equal(pixels, turned.image.pixels)
    assert all(np.array_equal(now, then) for now, then in zip(pair, before, strict=True))


@given(st.sampled_from((np.nan, np.inf, -np.inf)), st.integers(0, 16 * 20 - 1), st.booleans())
@examples(10)
def test_what_is_no_number_is_refused(value: float, place: int, first: bool) -> None:
    fine = np.zeros((16, 20), np.float32)
    spoilt = fine.copy()
    spoilt.flat[place] = value
    with pytest.raises(InputError, match=r"1 of 320 samples are NaN or infinite"):
        fuse(*(spoilt, fine) if first else (fine, spoilt), steps=0)
