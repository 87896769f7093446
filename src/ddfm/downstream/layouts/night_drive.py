"""The set that `ddfm.downstream.night_drive` draws: MFNet's layout, and ``boxes`` as YOLO text."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from ddfm.downstream.boxes import read_yolo
from ddfm.downstream.layouts import mfnet
from ddfm.downstream.layouts.files import missing_folders, missing_names, refuse, stems
from ddfm.downstream.scenes import DetectionSet, SegmentationSet

TITLE = "night-drive (synthetic)"
CLASSES = ("background", "person", "cyclist", "car", "lamp", "sign", "lane")
OBJECTS = CLASSES[1:6]  # lanes are marks, not objects: they have no boxes
BOXES = "boxes"
NOTE = "drawn by the program: it shows that everything works and decides nothing about quality"


def check(root: Path) -> list[str]:
    """Return what is missing below ``root``."""
    wanted = stems(root / "labels", {".png"})
    missing = missing_names(root / BOXES, wanted, stems(root / BOXES, {".txt"}))
    return [*mfnet.problems_of_files(root), *missing_folders(root, (BOXES,)), *missing]


def segmentation(root: Path) -> SegmentationSet:
    """Open the masks; raises InputError with what is missing."""
    return replace(mfnet.segmentation_of(root, TITLE, CLASSES), note=NOTE)


def detection(root: Path) -> DetectionSet:
    """Open the boxes; raises InputError with what is missing."""
    refuse(check(root))
    masks = mfnet.segmentation_of(root, TITLE, CLASSES)
    splits = {
        name: [replace(scene, labels=root / BOXES / f"{scene.stem}.txt") for scene in scenes]
        for name, scenes in masks.splits.items()
    }
    read = partial(read_yolo, numbers={number: number for number in range(len(OBJECTS))})
    return DetectionSet(TITLE, OBJECTS, splits, read, NOTE)
