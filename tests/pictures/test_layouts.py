from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddfm.errors import InputError
from ddfm.pictures.layouts import split

SIDES = st.integers(16, 20)


@given(
    axes=st.sampled_from(["HW", "HWC", "CHW", "BCHW", "BHWC"]),
    height=SIDES,
    width=SIDES,
    channels=st.integers(1, 4),
    batch=st.integers(1, 5),
)
def test_join_undoes_split(axes: str, height: int, width: int, channels: int, batch: int) -> None:
    sizes = {"H": height, "W": width, "C": channels, "B": batch}
    array = np.random.default_rng(0).random([sizes[axis] for axis in axes])
    pictures, layout = split(array, "array")
    assert layout.axes == axes
    assert len(pictures) == (batch if "B" in axes else 1)
    assert {picture.shape for picture in pictures} == {(height, width, channels if "C" in axes else 1)}
    assert np.array_equal(layout.join(pictures), array)


def test_grey_fills_three_channels() -> None:
    _, layout = split(np.zeros((3, 16, 17)), "array")
    grey = np.random.default_rng(0).random((16, 17))
    assert np.array_equal(layout.join([grey]), np.stack([grey] * 3))


@pytest.mark.parametrize("shape", [(16,), (16, 16, 5), (5, 16, 16), (0, 3, 16, 16), (2, 5, 16, 16), (1,) * 5])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=re.escape(f"x: shape {shape} is none of H x W, H x W x C")):
        split(np.zeros(shape), "x")
