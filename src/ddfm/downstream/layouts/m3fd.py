"""M3FD (Liu et al., CVPR 2022): 4200 pairs of 1024x768 with boxes of six classes.

As handed out: ``Ir``, ``Vis`` and ``Annotation`` (Pascal VOC). As TarDAL and DCEvo train on it: ``ir``,
``vi`` and ``labels``, YOLO text whose class numbers the two order differently.

No split was ever published. Two are made here by rule, and shipped as lists of the 4200 names: by name, and
by blocks of 50 successive numbers, because neighbours show one street a few seconds later.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ddfm.downstream.boxes import Boxes, read_voc, read_yolo
from ddfm.downstream.layouts.files import first_folder, missing_folders, missing_names, refuse, stems
from ddfm.downstream.scenes import DetectionSet, LabelledScene, match_scenes

TITLE = "M3FD"
PAIRS = 4200
TARDAL = ("people", "car", "bus", "lamp", "motorcycle", "truck")
DCEVO = ("people", "car", "bus", "motorcycle", "lamp", "truck")
SCENE = 50  # successive numbers that stay together in the split by scenes
PARTS = {"train": 8, "val": 1, "test": 1}


def split_of(stem: str, *, by_scenes: bool = False) -> str:
    """Return the split of a pair: SHA-256 of its name (or of its block's number) modulo ten, 8:1:1."""
    key = f"scene {int(stem) // SCENE}" if by_scenes and stem.isdecimal() else stem
    tenth = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) % sum(PARTS.values())
    return next(name for name, end in (("train", 8), ("val", 9), ("test", 10)) if tenth < end)


def split_list(*, by_scenes: bool = False) -> str:
    """Return the list of the 4200 names that the set is numbered with: a line "NAME SPLIT" each."""
    names = (f"{number:05d}" for number in range(PAIRS))
    return "".join(f"{name} {split_of(name, by_scenes=by_scenes)}\n" for name in names)


def check(root: Path) -> list[str]:
    """Return what is missing below ``root``, and another number of pairs than the published one."""
    count = len(stems(_labels(root), {_suffix(root)}))
    problems = _problems(root)
    return (
        problems if count == PAIRS else [*problems, f"{TITLE}: has {count} labelled pairs, the set {PAIRS}"]
    )


def detection(root: Path, *, order: tuple[str, ...] = TARDAL, by_scenes: bool = False) -> DetectionSet:
    """Open M3FD in either layout.

    Args:
        root: the folder with infrared, visible and labels.
        order: names of the class numbers in YOLO text; XML has names of its own.
        by_scenes: split by blocks of successive numbers instead of by name.

    Raises InputError with what is missing.
    """
    refuse(_problems(root))
    scenes = match_scenes(*_pictures(root), _labels(root), _suffix(root))
    splits: dict[str, list[LabelledScene]] = defaultdict(list)
    for scene in scenes:
        splits[split_of(scene.stem, by_scenes=by_scenes)].append(scene)
    names = {name: number for number, name in enumerate(order)}
    read: Callable[[Path, tuple[int, int]], Boxes] = partial(read_yolo, numbers=dict(enumerate(range(6))))
    if _suffix(root) == ".xml":
        read = partial(read_voc, names=names)
    kind = f"blocks of {SCENE} numbers" if by_scenes else "names"
    note = f"{len(scenes)} of {PAIRS} labelled pairs; no split was published: 8:1:1 by hash of {kind}"
    return DetectionSet(TITLE, order, {**splits, "all": scenes}, read, note)


def _problems(root: Path) -> list[str]:
    infrared, visible = _pictures(root)
    labels = _labels(root)
    problems = missing_folders(root, [folder.name for folder in (infrared, visible, labels)])
    for folder in (infrared, visible):
        problems += missing_names(folder, stems(labels, {_suffix(root)}), stems(folder, {".png"}))
    return problems


def _pictures(root: Path) -> tuple[Path, Path]:
    return first_folder(root, ("Ir", "ir")), first_folder(root, ("Vis", "vi"))


def _labels(root: Path) -> Path:
    return first_folder(root, ("Annotation", "labels"))


def _suffix(root: Path) -> str:
    return ".txt" if _labels(root).name == "labels" else ".xml"
