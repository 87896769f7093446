from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddfm.pictures.tiles import Padding


@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from([1, 2, 16, 32]))
def test_padding_is_least_and_undone(height: int, width: int, multiple: int) -> None:
    image = torch.rand(2, 3, height, width)
    padding = Padding.to_multiple(height, width, multiple)
    padded = padding.pad(image)
    for side, whole in zip(padded.shape[-2:], (height, width), strict=True):
        assert side % multiple == 0
        assert whole <= side < whole + multiple
    assert torch.equal(padding.crop(padded), image)


@given(st.integers(1, 40), st.integers(1, 40))
def test_padding_mirrors_as_numpy_does(height: int, width: int) -> None:
    image = torch.rand(height, width)
    padding = Padding.to_multiple(height, width, 32)
    around = [
        (padding.top, padding.padded_height - height - padding.top),
        (padding.left, padding.padded_width - width - padding.left),
    ]
    assert np.array_equal(padding.pad(image).numpy(), np.pad(image.numpy(), around, mode="symmetric"))
