"""LLVIP (Jia et al., ICCVW 2021): 15488 pairs of 1280x1024 at night, with boxes around pedestrians.

``infrared`` and ``visible`` hold ``train`` and ``test`` (JPEG); ``Annotations`` has an XML file for each
pair, in Pascal VOC's format, with the one class person.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from ddfm.downstream.boxes import read_voc
from ddfm.downstream.layouts.files import missing_folders, missing_names, refuse, stems, wrong_counts
from ddfm.downstream.scenes import DetectionSet, LabelledScene

TITLE = "LLVIP"
CLASSES = ("person",)
OFFICIAL = {"train": 12025, "test": 3463}
SUFFIXES = (".jpg",)


def check(root: Path) -> list[str]:
    """Return what is missing below ``root``, and splits of another size than the published ones."""
    sizes = {split: len(stems(root / "visible" / split, SUFFIXES)) for split in OFFICIAL}
    return _problems(root) + wrong_counts(sizes, OFFICIAL, TITLE)


def detection(root: Path) -> DetectionSet:
    """Open LLVIP; raises InputError with what is missing."""
    refuse(_problems(root))
    splits = {split: [_scene(root, split, stem) for stem in _names(root, split)] for split in OFFICIAL}
    return DetectionSet(TITLE, CLASSES, splits, partial(read_voc, names={"person": 0}))


def _problems(root: Path) -> list[str]:
    folders = [f"{kind}/{split}" for kind in ("infrared", "visible") for split in OFFICIAL]
    problems = missing_folders(root, [*folders, "Annotations"])
    for split in OFFICIAL:
        names = _names(root, split)
        problems += missing_names(
            root / "infrared" / split, names, stems(root / "infrared" / split, SUFFIXES)
        )
        problems += missing_names(root / "Annotations", names, stems(root / "Annotations", {".xml"}))
        if not names:
            problems.append(f"{root / 'visible' / split}: the split is empty")
    return problems


def _names(root: Path, split: str) -> list[str]:
    return sorted(stems(root / "visible" / split, SUFFIXES))


def _scene(root: Path, split: str, stem: str) -> LabelledScene:
    infrared, visible = (root / kind / split / f"{stem}.jpg" for kind in ("infrared", "visible"))
    return LabelledScene(stem, infrared, visible, root / "Annotations" / f"{stem}.xml", "night")
