"""Inputs show what their names say, and the cache changes nothing but the time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ddfm
from ddfm.downstream import inputs
from ddfm.downstream.inputs import NAMES, find_inputs, fused_pictures, pictures
from ddfm.downstream.layouts import SEGMENTATION
from ddfm.errors import InputError
from ddfm.pictures.image import from_array
from tests.downstream import sets


def test_sources_mean_and_max(tmp_path: Path) -> None:
    sets.mfnet(tmp_path)
    scenes = SEGMENTATION["mfnet"](tmp_path).splits["train"]
    shown = {
        made.name: next(pictures(made, scenes))
        for made in find_inputs(["visible", "infrared", "mean", "max"])
    }
    with Image.open(scenes[0].visible) as image:
        four = np.asarray(image)
    np.testing.assert_array_equal(shown["visible"], four[..., :3])
    np.testing.assert_array_equal(shown["infrared"], np.repeat(four[..., 3:], 3, 2))
    weights = (0.299, 0.587, 0.114)
    grey = four[..., :3] @ weights
    inside = (shown["mean"] > 0).all(-1) & (shown["mean"] < 255).all(-1)  # colours that need no clipping
    np.testing.assert_allclose(
        (shown["mean"] @ weights)[inside], ((grey + four[..., 3]) / 2)[inside], atol=1.5
    )
    inside = (shown["max"] > 0).all(-1) & (shown["max"] < 255).all(-1)
    np.testing.assert_allclose(
        (shown["max"] @ weights)[inside], np.maximum(grey, four[..., 3])[inside], atol=1.5
    )


def test_ours_is_fuse_and_comes_from_the_cache_the_second_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(0)
    crops = [generator.integers(0, 256, (3, 32, 32, n), np.uint8) for n in (1, 3)]
    infrared, visible = ([from_array(crop) for crop in group] for group in crops)
    (ours,) = find_inputs(["ddfm"], "cpu")
    made = list(fused_pictures(ours, infrared, visible, tmp_path))
    single = ddfm.fuse(crops[0][1], crops[1][1], task="infrared", device="cpu", dtype="float32").to_array()
    difference = np.abs(made[1].astype(int) - np.atleast_3d(single).astype(int))
    assert difference.max() <= 2  # a batch is rounded a little differently
    (file,) = (tmp_path / "ddfm").glob("*.png")
    monkeypatch.setattr(inputs, "fuse", None)  # fusing again would fail
    again = list(fused_pictures(ours, infrared, visible, tmp_path))
    np.testing.assert_array_equal(np.stack(made), np.stack(again))
    monkeypatch.setattr(inputs, "code_fingerprint", lambda: "other code")
    with pytest.raises(TypeError):
        list(fused_pictures(ours, infrared, visible, tmp_path))
    assert list((tmp_path / "ddfm").glob("*.png")) == [file]


def test_folders_of_pictures(tmp_path: Path) -> None:
    sets.mfnet(tmp_path / "set")
    scenes = SEGMENTATION["mfnet"](tmp_path / "set").splits["test"]
    folder = tmp_path / "fused"
    folder.mkdir()
    for scene in scenes:
        Image.new("RGB", sets.SIZE[::-1], (1, 2, 3)).save(folder / f"{scene.stem}.png")
    (made,) = find_inputs([f"Theirs={folder}"])
    assert made.name == "Theirs"
    assert [tuple(picture[0, 0]) for picture in pictures(made, scenes)] == [(1, 2, 3)] * 2
    Image.new("RGB", (8, 8)).save(folder / f"{scenes[0].stem}.png")
    with pytest.raises(InputError, match=r"00004D.png: is 8x8 pixels"):
        list(pictures(made, scenes))
    (folder / f"{scenes[0].stem}.png").unlink()
    with pytest.raises(InputError, match="Theirs: has no picture called 00004D"):
        list(pictures(made, scenes))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["sum"], "unknown input 'sum': visible, infrared"),
        (["mean", "mean"], "'mean' is named twice"),
        (["X=/nowhere"], "/nowhere: is not a folder"),
        ([], "no inputs given"),
    ],
)
def test_names_that_are_refused(names: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_inputs(names)
    assert len(find_inputs(NAMES)) == len(NAMES)
