from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from auto_task import SETS
from hypothesis import given
from hypothesis import strategies as st

from ddfm.demo.scenes import exposure, focus, night
from ddfm.errors import InputError
from ddfm.formats.pictures import from_pil, images_by_stem, read_image
from ddfm.fusion.task import choose_task
from ddfm.pictures.image import Image, from_array
from tests.conftest import examples, picture


@pytest.mark.parametrize(("folders", "task"), SETS.items(), ids=lambda value: str(value))
def test_real_pairs(data: Path, folders: tuple[str, str, str], task: str) -> None:
    root, *kinds = folders
    a, b = (images_by_stem(data / root / kind) for kind in kinds)
    assert a
    wrong = {
        stem: choice
        for stem in a
        if (choice := choose_task([read_image(a[stem]), read_image(b[stem])])).task != task
    }
    assert not wrong


def test_drawn_scenes() -> None:
    for scene, task in ((night(), "infrared"), (exposure(), "exposure"), (focus(), "focus")):
        assert choose_task([from_pil(scene.a), from_pil(scene.b)]).task == task


def sphere(size: int, radius: float, value: float) -> Image:
    """A head, as it were: a disc on black."""
    y, x = np.mgrid[:size, :size] - size / 2
    return from_array(np.where(np.hypot(y, x) < radius, value, 0).astype(np.float32))


def test_what_may_be_medical_or_not_is_refused() -> None:
    assert choose_task([sphere(96, 30, 0.8), sphere(96, 14, 0.5)]).task == "medical"
    with pytest.raises(InputError, match=r"black in all sources: they may be medical or not.*--task medical"):
        choose_task([sphere(96, 30, 0.8), sphere(96, 30, 0.8)])  # or focus stacks of a thing on black
    with pytest.raises(InputError, match="may be medical or not"):
        choose_task([sphere(96, 47, 0.8), sphere(96, 14, 0.5)])  # it reaches into the frame


@given(count=st.integers(2, 5), seed=st.integers(0, 99))
@examples(20)
def test_brackets_of_any_length(count: int, seed: int) -> None:
    scene = picture(64, 80, 3, np.uint8, seed) / 255
    bracket = [
        from_array((1 - np.exp(-scene * gain)).astype(np.float32)) for gain in np.geomspace(0.3, 4, count)
    ]
    np.random.default_rng(seed).shuffle(bracket)
    choice = choose_task(bracket)
    assert choice.task == "exposure"
    assert "grey levels" in choice.why
