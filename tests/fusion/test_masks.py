"""Sources with missing pixels, through the whole of `fuse` and the command line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image as PILImage

from ddfm import InputError, Options, fuse
from ddfm.fusion.masks import with_stand_ins
from ddfm.fusion.pipeline import Fusion
from ddfm.likelihoods.hierarchical import HierarchicalLikelihood
from ddfm.likelihoods.tasks import TASKS
from ddfm.likelihoods.tiled import TiledLikelihood
from ddfm.pictures.image import from_array
from ddfm.priors.base import Prior
from tests.fusion.test_degraded import grey, other, rms
from tests.noise.test_camera import steps

SIZE = (192, 256)
PLAIN: dict[str, Any] = {"steps": 0, "task": "infrared", "stretch": "none"}


def no_prior() -> Prior:
    raise AssertionError("the prior is asked for")


def hole() -> NDArray[np.bool_]:
    missing = np.zeros(SIZE, bool)
    missing[60:120, 100:170] = True
    return missing


def dead() -> NDArray[np.bool_]:
    return np.random.default_rng(0).random(SIZE) < 0.03


def lonely() -> NDArray[np.bool_]:
    """Single pixels, one in the middle of every other patch of `steps`."""
    missing = np.zeros(SIZE, bool)
    missing[16::32, 16::64] = True
    return missing


def without(source: NDArray[np.uint8], missing: NDArray[np.bool_], value: int = 0) -> NDArray[np.uint8]:
    return np.where(missing, value, source).astype(np.uint8)


def test_a_mask_that_hides_nothing_changes_no_byte() -> None:
    a, b = grey(steps(*SIZE)), other()
    plain = fuse(a, b, prior=no_prior, **PLAIN).to_array()
    empty = np.zeros(SIZE, np.uint8)
    for masks in (None, [None, None], [empty, None], [empty, empty]):
        assert np.array_equal(fuse(a, b, prior=no_prior, masks=masks, **PLAIN).to_array(), plain)


@pytest.mark.parametrize("task", ["infrared", "medical", "exposure", "focus"])
def test_a_source_that_shows_nothing_leaves_the_other_one(task: str) -> None:
    """And no network is needed, since the other one shows all."""
    a, b = grey(steps(*SIZE)), other()
    options = PLAIN | {"task": task}
    alone = fuse(b, b, prior=no_prior, **options).to_array() if task == "exposure" else b
    masks = [np.ones(SIZE, bool), None]
    made = fuse(a, b, prior=no_prior, masks=masks, **options)
    assert np.abs(made.to_array().astype(int) - alone).max() <= 1
    assert made.settings["missing"] == [1.0, 0.0]


def test_the_other_source_takes_the_place_whatever_the_order_and_the_values() -> None:
    a, b, missing = grey(steps(*SIZE)), other(), hole()
    made = fuse(without(a, missing), b, prior=no_prior, masks=[missing, None], **PLAIN)
    turned = fuse(b, without(a, missing, 255), prior=no_prior, masks=[None, missing], **PLAIN)
    assert np.array_equal(made.to_array(), turned.to_array())
    assert made.settings["missing"] == turned.settings["missing"][::-1] == [round(missing.mean(), 4), 0.0]
    whole = fuse(a, b, prior=no_prior, **PLAIN).to_array()
    far = np.s_[160:, :60]
    assert rms(made.to_array()[far], whole[far]) < 3
    black = fuse(without(a, missing), b, prior=no_prior, **PLAIN).to_array()
    assert rms(black, whole) > 1.5 * rms(made.to_array(), whole)


def test_dead_pixels_are_filled_by_the_prior() -> None:
    a, b, missing = grey(steps(*SIZE)), other(), dead()
    whole = fuse(a, b, noise="off", **PLAIN).to_array()
    made = fuse(without(a, missing), b, masks=[missing, None], noise="off", **PLAIN)
    assert made.settings["prior"] == "natural"
    seen = fuse(without(a, missing), b, noise="off", **PLAIN).to_array()
    assert rms(made.to_array(), whole) < 0.2 * rms(seen, whole)


def test_dead_pixels_are_found_and_filled_like_masked_ones() -> None:
    a, b = grey(steps(*SIZE)), other()
    missing = lonely()
    given = without(a, missing, 255)
    made = fuse(given, b, **PLAIN)
    count = int(missing.sum())
    assert made.settings["defects"] == [count, 0]
    assert made.settings["missing"] == [round(missing.mean(), 4), 0.0]
    assert made.settings["prior"] == "natural"
    told = fuse(given, b, masks=[missing, None], **PLAIN)
    assert told.settings["defects"] == [0, 0]
    assert np.array_equal(made.to_array(), told.to_array())
    turned = fuse(b, given, **PLAIN)
    assert turned.settings["defects"] == [0, count]
    assert np.array_equal(turned.to_array(), made.to_array())


def test_dead_pixels_are_left_where_noise_is() -> None:
    """The noise option off or told, and tasks that leave noise alone, change nothing."""
    a, b = grey(steps(*SIZE)), other()
    given = without(a, lonely(), 255)
    for options in ({"noise": "off"}, {"noise": [0, 0]}, {"task": "medical"}):
        made = fuse(given, b, prior=no_prior, **PLAIN | options)
        assert made.settings["defects"] == made.settings["missing"] == [0, 0]


def test_dead_pixels_are_found_before_a_source_is_resampled() -> None:
    a, b = grey(steps(*SIZE)), other()
    given = without(a, lonely(), 255)
    small = np.ascontiguousarray(np.repeat(b[::2, ::2, None], 3, 2))
    small[..., 0] //= 2
    made = fuse(given, small, resize=True, **PLAIN)
    assert made.settings["defects"] == [lonely().sum(), 0]
    whole = fuse(a, small, resize=True, **PLAIN).to_array()
    seen = fuse(given, small, resize=True, noise="off", **PLAIN).to_array()
    assert rms(made.to_array(), whole) < 0.6 * rms(seen, whole)


@pytest.mark.slow
def test_what_no_source_shows_is_filled_and_less_certain() -> None:
    part = np.s_[60:124, 90:154]
    a, b, missing = grey(steps(*SIZE))[part], other()[part], np.zeros((64, 64), bool)
    missing[24:36, 24:36] = True
    options: dict[str, Any] = PLAIN | {"uncertainty": True, "noise": "off"}
    made = fuse(without(a, missing), without(b, missing), masks=[missing, missing], **options)
    whole = fuse(a, b, **PLAIN).to_array()
    assert rms(made.to_array()[missing], whole[missing]) < 25
    assert made.std is not None
    assert made.std[missing].mean() > 3 * made.std[~missing].mean()


def test_what_registration_left_outside_the_view_has_no_weight() -> None:
    """A source that ends within the picture is one with a hole there."""
    known = np.tile(np.arange(SIZE[1]) < 90, (SIZE[0], 1))
    ends = replace(from_array(without(grey(steps(*SIZE)), ~known)), known=known)
    (made,) = Fusion(Options(**PLAIN), no_prior).of([[ends, from_array(other())]])
    beyond = np.s_[:, 190:]  # intensities are coarse, and go over into each other
    assert np.abs(made.to_array()[beyond].astype(int) - other()[beyond]).max() <= 1
    hidden = fuse(grey(steps(*SIZE)), other(), prior=no_prior, masks=[~known, None], **PLAIN).to_array()
    assert np.abs(made.to_array().astype(int) - hidden).max() <= 1


@pytest.mark.parametrize("form", ["paper", "released"])
def test_older_forms_take_what_stands_in_for_a_source(form: str) -> None:
    a, b, missing = grey(steps(*SIZE)), other(), hole()
    options: dict[str, Any] = {"form": form, "steps": 2}
    stand_in = with_stand_ins([replace(from_array(without(a, missing)), known=~missing), from_array(b)])
    wanted = fuse(*stand_in, **options).to_array()
    made = fuse(without(a, missing), b, masks=[missing, None], **options).to_array()
    assert rms(made, wanted) < 1


def test_masks_go_with_noise_and_with_colours() -> None:
    clean = np.repeat(grey(steps(*SIZE))[..., None], 3, 2)
    clean[..., 0] = clean[..., 0] // 2 + 60
    noisy = np.rint(clean + np.random.default_rng(0).normal(0, 12, clean.shape)).clip(0, 255)
    missing = hole()
    result = fuse(
        other(), without(noisy.astype(np.uint8), missing[..., None]), masks=[None, missing], **PLAIN
    )
    assert (
        7 < result.settings["denoised"][1] < 9
    )  # of luminance; the hole, which has no noise, is not measured
    assert result.to_array().shape == (*SIZE, 3)


def test_large_pictures_in_parts_and_batches_are_as_one() -> None:
    a, b, missing = grey(steps(*SIZE)), other(), hole()
    alone = fuse(without(a, missing), b, prior=no_prior, masks=[missing, None], **PLAIN).to_array()
    stack = np.stack([without(a, missing), a])[:, None], np.stack([b, b])[:, None]
    both = fuse(*stack, prior=no_prior, masks=[missing, None], **PLAIN).to_array()
    assert np.abs(both[0, 0].astype(int) - alone).max() <= 1


def test_parts_see_the_same_holes() -> None:
    y, x = torch.meshgrid(torch.arange(700.0), torch.arange(640.0), indexing="ij")
    sources = [(x / 37).sin()[None, None] * 0.7, ((x * y) / 9000).cos()[None, None] * 0.6]
    shown = [torch.ones_like(sources[0]), torch.ones_like(sources[0])]
    shown[0][..., 200:420, 100:500] = 0
    none = [torch.zeros(1)] * 2
    whole = HierarchicalLikelihood(sources, none, TASKS["infrared"], shown=shown)
    parts = TiledLikelihood(sources, none, TASKS["infrared"], side=256, shown=shown)
    assert torch.allclose(whole.start, parts.start, atol=1e-5)


def test_mistakes_are_told(tmp_path: Path) -> None:
    a, b, nothing = grey(steps(*SIZE)), other(), np.ones(SIZE, bool)
    PILImage.fromarray(np.arange(192 * 256, dtype=np.uint8).reshape(SIZE)).save(tmp_path / "grey.png")
    for masks, told in (
        ([nothing, nothing], "the masks hide all of every source"),
        ([nothing], "masks: 2 are needed, one for each source"),
        ([nothing[1:], None], "mask of the first source: is 256x191 pixels and first source"),
        ([None, tmp_path / "grey.png"], r"grey\.png: holds 256 values; a mask has two"),
        ([None, tmp_path / "no.png"], r"no\.png: no such file"),
        ([None, b[..., None]], "mask of the second source: is not a path"),
        ("mask.png", "masks: 2 are needed"),
    ):
        with pytest.raises(InputError, match=told) as error:
            fuse(a, b, prior=no_prior, masks=masks, **PLAIN)
        assert "\n" not in str(error.value)
