"""Every layout is read as it is handed out, says what is missing, and refuses wrong labels by file name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddfm.downstream.layouts import CHECKS, DETECTION, SEGMENTATION, flir_crops, m3fd, mfnet
from ddfm.downstream.scenes import read_mask, read_sources
from ddfm.errors import InputError
from tests.conftest import Command, picture
from tests.downstream import sets

Write = Callable[[Path], None]


@pytest.mark.parametrize("separated", [False, True])
def test_mfnet_in_both_layouts(tmp_path: Path, separated: bool) -> None:
    sets.mfnet(tmp_path, separated=separated)
    labelled = SEGMENTATION["mfnet"](tmp_path)
    assert {name: len(scenes) for name, scenes in labelled.splits.items()} == {
        "train": 2,
        "val": 1,
        "test": 2,
    }
    assert [scene.condition for scene in labelled.splits["test"]] == ["day", "night"]
    assert len(labelled.classes) == 9
    infrared, visible = read_sources(labelled.splits["train"][0])
    assert infrared.pixels.shape == (*sets.SIZE, 1)
    assert visible.pixels.shape == (*sets.SIZE, 3)
    assert visible.alpha is None
    expected = picture(*sets.SIZE, 1, np.uint8, 100)
    np.testing.assert_allclose(infrared.pixels[..., 0] * 255, expected, atol=1e-3)
    assert set(np.unique(read_mask(labelled.splits["test"][0].labels, 9))) == {0, 1, 2, 8}


@pytest.mark.parametrize(
    ("name", "write", "sizes"),
    [
        ("fmb", sets.fmb, {"train": 2, "test": 1}),
        ("msrs", sets.msrs, {"train": 2, "test": 1}),
    ],
)
def test_masks_of(name: str, write: Write, sizes: dict[str, int], tmp_path: Path) -> None:
    write(tmp_path)
    labelled = SEGMENTATION[name](tmp_path)
    assert {split: len(scenes) for split, scenes in labelled.splits.items()} == sizes
    for scene in labelled.splits["train"]:
        assert read_mask(scene.labels, len(labelled.classes)).shape == sets.SIZE


def test_fmb_has_fifteen_ids(tmp_path: Path) -> None:
    sets.fmb(tmp_path)
    labelled = SEGMENTATION["fmb"](tmp_path)
    assert (len(labelled.classes), labelled.classes[8], labelled.classes[14]) == (15, "person", "pole")


def test_boxes_of_msrs(tmp_path: Path) -> None:
    sets.msrs(tmp_path)
    labelled = DETECTION["msrs"](tmp_path)
    (first, _) = labelled.splits["test"]
    boxes = labelled.read(first.labels, sets.SIZE)
    assert [labelled.classes[kind] for kind in boxes.classes] == ["person", "car"]
    np.testing.assert_allclose(boxes.xyxy, [[24, 12, 40, 36], [8, 6, 24, 18]])


def test_boxes_of_llvip(tmp_path: Path) -> None:
    sets.llvip(tmp_path)
    labelled = DETECTION["llvip"](tmp_path)
    assert {split: len(scenes) for split, scenes in labelled.splits.items()} == {"train": 2, "test": 1}
    boxes = labelled.read(labelled.splits["test"][0].labels, sets.SIZE)
    np.testing.assert_array_equal(boxes.xyxy, [[10, 5, 30, 40]])


def test_boxes_of_m3fd_in_both_layouts_and_orders(tmp_path: Path) -> None:
    sets.m3fd(tmp_path / "voc")
    sets.m3fd(tmp_path / "yolo", yolo=True)
    for name, fourth in (("m3fd", "lamp"), ("m3fd-dcevo", "motorcycle")):
        labelled = DETECTION[name](tmp_path / "yolo")
        boxes = labelled.read(labelled.splits["all"][0].labels, sets.SIZE)
        assert labelled.classes[boxes.classes[0]] == fourth
        labelled = DETECTION[name](tmp_path / "voc")
        boxes = labelled.read(labelled.splits["all"][0].labels, sets.SIZE)
        assert [labelled.classes[kind] for kind in boxes.classes] == ["people", "lamp"]


def test_the_splits_of_m3fd_are_the_shipped_lists(tmp_path: Path) -> None:
    sets.m3fd(tmp_path)
    for name, by_scenes, file in (
        ("m3fd", False, "m3fd-by-name.txt"),
        ("m3fd-scenes", True, "m3fd-by-scenes.txt"),
    ):
        text = files("ddfm.downstream").joinpath("splits", file).read_text()
        assert text == m3fd.split_list(by_scenes=by_scenes)
        listed = dict(line.split() for line in text.splitlines())
        shares = Counter(listed.values())
        assert shares["train"] / m3fd.PAIRS == pytest.approx(0.8, abs=0.03)
        assert min(shares["val"], shares["test"]) / m3fd.PAIRS > 0.08
        splits = DETECTION[name](tmp_path).splits
        found = {scene.stem: split for split in ("train", "val", "test") for scene in splits.get(split, ())}
        assert found == {stem: listed[stem] for stem in found}
        assert len(found) == 30
    blocks = {stem: listed[stem] for stem in sorted(listed)[: m3fd.SCENE]}
    assert len(set(blocks.values())) == 1


@pytest.mark.parametrize("zipped", [False, True])
def test_flir_crops_as_folders_and_as_archives(tmp_path: Path, zipped: bool) -> None:
    sets.flir_crops(tmp_path, zipped=zipped)
    crops = flir_crops.read(tmp_path, "test")
    assert crops.infrared.shape == (18, 64, 64, 1)
    assert crops.visible.shape == (18, 64, 64, 3)
    assert Counter(crops.classes.tolist()) == {0: 6, 1: 6, 2: 6}
    assert crops.night.sum() == 9
    assert flir_crops.check(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "write", "lost"),
    [
        ("mfnet", sets.mfnet, "images/00004D.png"),
        ("mfnet", partial(sets.mfnet, separated=True), "seperated_images/00004D_th.png"),
        ("fmb", sets.fmb, "train/Visible/00001.png"),
        ("msrs", sets.msrs, "test/ir/00003D.png"),
        ("llvip", sets.llvip, "Annotations/190001.xml"),
        ("m3fd", sets.m3fd, "Ir/00003.png"),
    ],
)
def test_what_is_missing_is_named(name: str, write: Write, lost: str, tmp_path: Path, ddfm: Command) -> None:
    write(tmp_path)
    before = CHECKS[name](tmp_path)
    assert all("split" in line or "pairs" in line for line in before)  # only that the fixture is small
    (tmp_path / lost).unlink()
    line = next(line for line in CHECKS[name](tmp_path) if line not in before)
    assert Path(lost).parent.name in line
    assert Path(lost).stem in line
    done = ddfm("datasets", "check", name, "--root", tmp_path)
    assert done.returncode == 1
    assert line in done.stdout
    opened: Callable[[Path], object] = SEGMENTATION[name] if name in SEGMENTATION else DETECTION[name]
    with pytest.raises(InputError, match=Path(lost).stem):
        opened(tmp_path)


def test_an_empty_folder_lists_what_it_lacks(tmp_path: Path) -> None:
    for name, check in CHECKS.items():
        problems = check(tmp_path)
        assert problems, name
        assert all(str(tmp_path) in line or "split" in line or "pairs" in line for line in problems)


def test_wrong_labels_are_refused_with_the_file_s_name(tmp_path: Path) -> None:
    sets.msrs(tmp_path)
    labels = tmp_path / "detection" / "labels" / "105.txt"
    labelled = DETECTION["msrs"](tmp_path)
    for text, message in (
        ("0 0.9 0.5 0.4 0.5\n", "105.txt, line 1: box .* is outside the picture of 64x48"),
        ("\n5 0.5 0.5 0.2 0.2\n", r"105.txt, line 2: class 5 is not one of \[0, 2\]"),
        ("0 0.5 0.5 0 0.2\n", "105.txt, line 1: box has no area"),
        ("0 0.5 0.5 nan 0.2\n", "105.txt, line 1: box"),
        ("person 0.5\n", "105.txt, line 1: needs class"),
    ):
        labels.write_text(text)
        with pytest.raises(InputError, match=message):
            labelled.read(labels, sets.SIZE)
    mask = tmp_path / "train" / "Segmentation_labels" / "00001D.png"
    sets.write_mask(mask, [0, 9])
    with pytest.raises(InputError, match=r"00001D.png: holds class 9, and classes are 0 to 8"):
        read_mask(mask, 9)
    Image.new("RGB", (64, 48)).save(mask)
    with pytest.raises(InputError, match=r"00001D.png: labels have one channel"):
        read_mask(mask, 9)


def test_wrong_annotations_are_refused(tmp_path: Path) -> None:
    sets.llvip(tmp_path)
    path = tmp_path / "Annotations" / "190001.xml"
    labelled = DETECTION["llvip"](tmp_path)
    for text, message in (
        (sets.voc({"cat": (1, 1, 5, 5)}), "190001.xml, object 1: class 'cat'"),
        (sets.voc({"person": (1, 1, 99, 5)}), "190001.xml, object 1: box .* outside"),
        ("<annotation>", "190001.xml: not a readable annotation"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotation/>', "190001.xml: holds XML declarations"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            labelled.read(path, sets.SIZE)


def test_an_empty_split_is_refused(tmp_path: Path) -> None:
    sets.mfnet(tmp_path)
    (tmp_path / "test.txt").write_text("\n")
    with pytest.raises(InputError, match=r"test.txt: the split is empty"):
        mfnet.segmentation(tmp_path)


def test_a_visible_picture_without_thermal_channel_is_refused(tmp_path: Path) -> None:
    sets.mfnet(tmp_path)
    Image.new("RGB", (64, 48)).save(tmp_path / "images" / "00001D.png")
    with pytest.raises(InputError, match=r"00001D.png: has no fourth channel"):
        read_sources(mfnet.segmentation(tmp_path).splits["train"][0])
