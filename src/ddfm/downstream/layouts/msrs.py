"""MSRS (Tang et al., Information Fusion 2022): 1444 pairs of 640x480, made from MFNet.

Segmentation: ``train`` and ``test`` hold ``ir``, ``vi`` and ``Segmentation_labels`` (MFNet's nine classes).
Detection: ``detection`` holds ``ir``, ``vi`` and ``labels`` of 80 pairs, YOLO text with COCO's ids 0 for
person and 2 for car. Its infrared pictures differ from those in ``test``; do not mix them.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from ddfm.downstream.boxes import read_yolo
from ddfm.downstream.layouts.files import missing_folders, missing_names, refuse, stems, wrong_counts
from ddfm.downstream.layouts.mfnet import CLASSES
from ddfm.downstream.scenes import DetectionSet, LabelledScene, SegmentationSet, day_or_night, match_scenes

TITLE = "MSRS"
OFFICIAL = {"train": 1083, "test": 361}
DETECTION_PAIRS = 80
FOLDERS = ("ir", "vi", "Segmentation_labels")
DETECTION_FOLDERS = ("ir", "vi", "labels")
OBJECTS = ("person", "car")
COCO = {0: 0, 2: 1}  # from COCO's ids to numbers in OBJECTS


def check(root: Path) -> list[str]:
    """Return what is missing below ``root`` for either use, and sizes other than the published ones."""
    sizes = {split: len(stems(root / split / FOLDERS[2], {".png"})) for split in OFFICIAL}
    problems = _problems(root) + wrong_counts(sizes, OFFICIAL, TITLE)
    folder = root / "detection"
    boxes = {"detection": len(stems(folder / "labels", {".txt"}))}
    return problems + _box_problems(folder) + wrong_counts(boxes, {"detection": DETECTION_PAIRS}, TITLE)


def segmentation(root: Path) -> SegmentationSet:
    """Open the labels of pixels; raises InputError with what is missing."""
    refuse(_problems(root))
    splits = {}
    for split in OFFICIAL:
        infrared, visible, labels = (root / split / folder for folder in FOLDERS)
        times = {stem: day_or_night(stem) for stem in stems(labels, {".png"})}
        splits[split] = match_scenes(infrared, visible, labels, ".png", times)
    return SegmentationSet(TITLE, CLASSES, splits)


def detection(root: Path) -> DetectionSet:
    """Open the boxes, below ``detection`` or in ``root`` itself; raises InputError with what is missing."""
    folder = root / "detection" if (root / "detection").is_dir() else root
    refuse(_box_problems(folder))
    return detection_of(*(folder / name for name in DETECTION_FOLDERS))


def detection_of(infrared: Path, visible: Path, labels: Path) -> DetectionSet:
    """Open boxes from three folders; raises InputError if a label has no pair."""
    times = {stem: day_or_night(stem) for stem in stems(labels, {".txt"})}
    scenes: list[LabelledScene] = match_scenes(infrared, visible, labels, ".txt", times)
    note = f"{len(scenes)} of the {DETECTION_PAIRS} labelled pairs; none of them is for training"
    return DetectionSet(TITLE, OBJECTS, {"test": scenes}, partial(read_yolo, numbers=COCO), note)


def _problems(root: Path) -> list[str]:
    problems = missing_folders(root, [f"{split}/{folder}" for split in OFFICIAL for folder in FOLDERS])
    for split in OFFICIAL:
        infrared, visible, labels = (root / split / folder for folder in FOLDERS)
        for folder in (infrared, visible):
            problems += missing_names(folder, stems(labels, {".png"}), stems(folder, {".png"}))
    return problems


def _box_problems(folder: Path) -> list[str]:
    infrared, visible, labels = (folder / name for name in DETECTION_FOLDERS)
    problems = missing_folders(folder, DETECTION_FOLDERS)
    for pictures in (infrared, visible):
        problems += missing_names(pictures, stems(labels, {".txt"}), stems(pictures, {".png"}))
    return problems
