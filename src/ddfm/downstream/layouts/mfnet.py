"""MFNet (Ha et al., IROS 2017): 1569 pairs of 640x480 with a class for each pixel.

Two layouts are in use. The original one has ``images/00001D.png`` with four channels, the last of them
thermal. The separated one has ``seperated_images/00001D_rgb.png`` and ``00001D_th.png`` (so spelt).
Both have ``labels/00001D.png`` (0 to 8), ``train.txt``, ``val.txt``, ``test.txt``, ``test_day.txt`` and
``test_night.txt``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ddfm.downstream.layouts.files import (
    first_folder,
    missing_folders,
    missing_names,
    read_list,
    refuse,
    stems,
    wrong_counts,
)
from ddfm.downstream.scenes import LabelledScene, SegmentationSet, day_or_night

TITLE = "MFNet"
CLASSES = ("unlabeled", "car", "person", "bike", "curve", "car_stop", "guardrail", "color_cone", "bump")
OFFICIAL = {"train": 784, "val": 392, "test": 393}
SPLITS = ("train", "val", "test")
SEPARATED = ("seperated_images", "separated_images")


def check(root: Path) -> list[str]:
    """Return what is missing below ``root``, and splits of another size than the published ones."""
    problems = problems_of_files(root)
    sizes = {name: len(read_list(_list(root, name))) for name in SPLITS if _list(root, name).is_file()}
    return problems + wrong_counts(sizes, OFFICIAL, TITLE)


def segmentation(root: Path) -> SegmentationSet:
    """Open MFNet in either layout; raises InputError with what is missing."""
    return segmentation_of(root, TITLE, CLASSES)


def segmentation_of(root: Path, title: str, classes: Sequence[str]) -> SegmentationSet:
    """Open a set in one of MFNet's layouts, with classes of its own; raises InputError."""
    refuse(problems_of_files(root))
    conditions = _conditions(root)
    splits = {
        name: [_scene(root, stem, conditions.get(stem) or day_or_night(stem)) for stem in names]
        for name in SPLITS
        if _list(root, name).is_file() and (names := read_list(_list(root, name)))
    }
    return SegmentationSet(title, tuple(classes), splits)


def problems_of_files(root: Path) -> list[str]:
    """Return the folders, lists and files that are missing."""
    separated = _separated(root)
    folder = first_folder(root, SEPARATED) if separated else root / "images"
    problems = missing_folders(root, (folder.name, "labels"))
    for name in ("train", "test"):
        if not _list(root, name).is_file():
            problems.append(f"{_list(root, name)}: this list of names is missing")
    pictures, labels = stems(folder, {".png"}), stems(root / "labels", {".png"})
    for path in (_list(root, name) for name in SPLITS):
        if not path.is_file():
            continue
        names = read_list(path)
        problems += missing_names(root / "labels", names, labels)
        for ending in ("_rgb", "_th") if separated else ("",):
            problems += missing_names(folder, [name + ending for name in names], pictures)
    return problems


def _separated(root: Path) -> bool:
    return first_folder(root, SEPARATED).is_dir() and not (root / "images").is_dir()


def _scene(root: Path, stem: str, condition: str) -> LabelledScene:
    if _separated(root):
        folder = first_folder(root, SEPARATED)
        infrared, visible = folder / f"{stem}_th.png", folder / f"{stem}_rgb.png"
    else:
        infrared = visible = root / "images" / f"{stem}.png"
    return LabelledScene(stem, infrared, visible, root / "labels" / f"{stem}.png", condition)


def _conditions(root: Path) -> dict[str, str]:
    """Return day or night of the test pairs that the two lists name."""
    lists = {time: _list(root, f"test_{time}") for time in ("day", "night")}
    return {stem: time for time, path in lists.items() if path.is_file() for stem in read_list(path)}


def _list(root: Path, name: str) -> Path:
    return root / f"{name}.txt"
