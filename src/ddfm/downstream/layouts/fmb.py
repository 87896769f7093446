"""FMB (Liu et al., ICCV 2023): 1500 pairs of 800x600 with a class for each pixel.

``train`` and ``test`` hold ``Infrared``, ``Visible`` and ``Label``; labels are 0 to 14. Papers report the
mean over the 14 named classes or over all 15: both are computed, and named.
"""

from __future__ import annotations

from pathlib import Path

from ddfm.downstream.layouts.files import missing_folders, missing_names, refuse, stems, wrong_counts
from ddfm.downstream.scenes import SegmentationSet, match_scenes

TITLE = "FMB"
CLASSES = (
    "background",
    "road",
    "sidewalk",
    "building",
    "traffic lamp",
    "traffic sign",
    "vegetation",
    "sky",
    "person",
    "car",
    "truck",
    "bus",
    "motorcycle",
    "bicycle",
    "pole",
)
OFFICIAL = {"train": 1220, "test": 280}
FOLDERS = ("Infrared", "Visible", "Label")


def check(root: Path) -> list[str]:
    """Return what is missing below ``root``, and splits of another size than the published ones."""
    sizes = {split: len(stems(root / split / "Label", {".png"})) for split in OFFICIAL}
    return _problems(root) + wrong_counts(sizes, OFFICIAL, TITLE)


def segmentation(root: Path) -> SegmentationSet:
    """Open FMB; raises InputError with what is missing."""
    refuse(_problems(root))
    splits = {}
    for split in OFFICIAL:
        infrared, visible, labels = (root / split / folder for folder in FOLDERS)
        splits[split] = match_scenes(infrared, visible, labels, ".png")
    return SegmentationSet(TITLE, CLASSES, splits)


def _problems(root: Path) -> list[str]:
    problems = missing_folders(root, [f"{split}/{folder}" for split in OFFICIAL for folder in FOLDERS])
    for split in OFFICIAL:
        infrared, visible, labels = (root / split / folder for folder in FOLDERS)
        wanted = stems(labels, {".png"})
        for folder in (infrared, visible):
            problems += missing_names(folder, wanted, stems(folder, {".png", ".jpg"}))
    return problems
