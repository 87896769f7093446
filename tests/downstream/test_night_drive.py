"""The set that is drawn: aligned, exact labels, and what each camera alone shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ddfm.downstream.layouts import DETECTION, SEGMENTATION
from ddfm.downstream.layouts.night_drive import CLASSES, OBJECTS, check
from ddfm.downstream.night_drive import Drawn, draw
from ddfm.downstream.scenes import read_mask, read_sources
from tests.conftest import Command


@pytest.fixture(scope="module")
def scenes() -> list[tuple[bool, Drawn]]:
    return [(n % 2 == 1, draw(np.random.default_rng((9, n)), n % 2 == 1)) for n in range(24)]


def contrast(picture: NDArray[np.uint8], labels: NDArray[np.uint8], kind: str) -> float:
    """How far a class lies from the pixels around it in its clearest channel, in grey levels; or NaN."""
    region = labels == CLASSES.index(kind)
    if region.sum() < 20:
        return float("nan")
    near = np.zeros_like(region)
    for shift in range(-4, 5):
        near |= np.roll(region, shift, 0) | np.roll(region, shift, 1)
    around = near & (labels == 0)
    channels = picture.reshape(*labels.shape, -1)
    return float(np.abs(np.median(channels[region], 0) - np.median(channels[around], 0)).max())


def test_each_camera_alone_shows_something(scenes: list[tuple[bool, Drawn]]) -> None:
    def typical(kind: str, camera: str, night: bool) -> float:
        values = [contrast(getattr(s, camera), s.labels, kind) for time, s in scenes if time == night]
        return float(np.nanmedian(values))

    assert typical("person", "infrared", True) > 60
    assert typical("person", "visible", True) < 15
    for kind in ("lamp", "sign", "lane"):
        for night in (False, True):
            assert typical(kind, "infrared", night) < 10, (kind, night)
            assert typical(kind, "visible", night) > 12, (kind, night)


def test_labels_and_boxes_are_exact(scenes: list[tuple[bool, Drawn]]) -> None:
    assert {kind for _, s in scenes for kind in s.boxes.classes} == set(range(len(OBJECTS)))
    for _, scene in scenes:
        assert scene.labels.max() < len(CLASSES)
        assert scene.visible.shape == (*scene.labels.shape, 3)
        for (left, top, right, bottom), kind in zip(
            scene.boxes.xyxy.astype(int), scene.boxes.classes, strict=True
        ):
            assert (scene.labels[top:bottom, left:right] == 1 + kind).any()


def test_the_command_writes_a_set_that_reads_back(tmp_path: Path, ddfm: Command) -> None:
    folder = tmp_path / "set"
    done = ddfm("datasets", "synthesize", "night-drive", "-o", folder, "-n", 20)
    assert done.returncode == 0, done.stderr
    assert check(folder) == []
    masks, boxes = SEGMENTATION["night-drive"](folder), DETECTION["night-drive"](folder)
    assert {name: len(s) for name, s in masks.splits.items()} == {"train": 14, "val": 2, "test": 4}
    assert {scene.condition for scene in masks.splits["test"]} == {"day", "night"}
    for scene, other in zip(masks.splits["train"], boxes.splits["train"], strict=True):
        mask = read_mask(scene.labels, len(CLASSES))
        infrared, visible = read_sources(scene)
        assert infrared.size == visible.size == mask.shape
        for kind in boxes.read(other.labels, mask.shape).classes:
            assert (mask == 1 + kind).any()
    drawn = draw(np.random.default_rng((3407, 3)), night=True)
    with Image.open(folder / "images" / "00003N.png") as image:
        np.testing.assert_array_equal(np.asarray(image), np.dstack([drawn.visible, drawn.infrared]))


def test_what_is_refused(tmp_path: Path, ddfm: Command) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").touch()
    for arguments, message in (
        (("night-drive", "-o", tmp_path / "new", "-n", 5), "at least 10"),
        (("night-drive", "-o", tmp_path / "full"), "is not empty"),
        (("day-drive", "-o", tmp_path / "new"), "unknown set 'day-drive'"),
    ):
        done = ddfm("datasets", "synthesize", *arguments)
        assert done.returncode == 2
        assert message in done.stderr
    assert not (tmp_path / "new").exists()
