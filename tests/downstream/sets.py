"""Labelled sets in the exact layouts of the public ones, a few small pictures each."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tests.conftest import picture

SIZE = (48, 64)  # height and width


def write_pair(infrared: Path, visible: Path, seed: int = 0) -> None:
    """Write an infrared and a visible picture; one file of four channels if the paths are the same."""
    colour, grey = picture(*SIZE, 3, np.uint8, seed), picture(*SIZE, 1, np.uint8, seed + 100)
    for path in (infrared, visible):
        path.parent.mkdir(parents=True, exist_ok=True)
    if infrared == visible:
        Image.fromarray(np.dstack([colour, grey]), "RGBA").save(visible)
        return
    Image.fromarray(grey).save(infrared)
    Image.fromarray(colour).save(visible)


def write_mask(path: Path, classes: Sequence[int]) -> None:
    """Write a mask of vertical stripes, one for each class named."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = np.arange(SIZE[1]) * len(classes) // SIZE[1]
    Image.fromarray(np.tile(np.array(classes, np.uint8)[columns], (SIZE[0], 1))).save(path)


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def mfnet(root: Path, *, separated: bool = False) -> None:
    splits = {"train": ["00001D", "00002N"], "val": ["00003D"], "test": ["00004D", "00005N"]}
    for seed, stem in enumerate(stem for stems in splits.values() for stem in stems):
        if separated:
            folder = root / "seperated_images"
            write_pair(folder / f"{stem}_th.png", folder / f"{stem}_rgb.png", seed)
        else:
            write_pair(root / "images" / f"{stem}.png", root / "images" / f"{stem}.png", seed)
        write_mask(root / "labels" / f"{stem}.png", [0, 1, 2, 8])
    lists = {**splits, "test_day": ["00004D"], "test_night": ["00005N"]}
    for name, stems in lists.items():
        write_text(root / f"{name}.txt", "".join(f"{stem}\n" for stem in stems))


def fmb(root: Path) -> None:
    for split, stems in {"train": ["00001", "00002"], "test": ["00003"]}.items():
        for seed, stem in enumerate(stems):
            folder = root / split
            write_pair(folder / "Infrared" / f"{stem}.png", folder / "Visible" / f"{stem}.png", seed)
            write_mask(folder / "Label" / f"{stem}.png", [0, 1, 14])


def msrs(root: Path) -> None:
    for split, stems in {"train": ["00001D", "00002N"], "test": ["00003D"]}.items():
        for seed, stem in enumerate(stems):
            folder = root / split
            write_pair(folder / "ir" / f"{stem}.png", folder / "vi" / f"{stem}.png", seed)
            write_mask(folder / "Segmentation_labels" / f"{stem}.png", [0, 3])
    for seed, stem in enumerate(("105", "1061")):
        folder = root / "detection"
        write_pair(folder / "ir" / f"{stem}.png", folder / "vi" / f"{stem}.png", seed)
        write_text(folder / "labels" / f"{stem}.txt", "0 0.5 0.5 0.25 0.5\n2 0.25 0.25 0.25 0.25\n")


def voc(objects: Mapping[str, tuple[int, int, int, int]]) -> str:
    boxes = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{left}</xmin><ymin>{top}</ymin>"
        f"<xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox></object>"
        for name, (left, top, right, bottom) in objects.items()
    )
    return f"<annotation><size><width>{SIZE[1]}</width><height>{SIZE[0]}</height></size>{boxes}</annotation>"


def llvip(root: Path) -> None:
    for split, stems in {"train": ["010001", "010002"], "test": ["190001"]}.items():
        for seed, stem in enumerate(stems):
            write_pair(
                root / "infrared" / split / f"{stem}.jpg", root / "visible" / split / f"{stem}.jpg", seed
            )
            write_text(root / "Annotations" / f"{stem}.xml", voc({"person": (10, 5, 30, 40)}))


def m3fd(root: Path, *, yolo: bool = False, pairs: int = 30) -> None:
    infrared, visible, labels = ("ir", "vi", "labels") if yolo else ("Ir", "Vis", "Annotation")
    for number in range(pairs):
        stem = f"{number:05d}"
        write_pair(root / infrared / f"{stem}.png", root / visible / f"{stem}.png", number)
        if yolo:
            write_text(root / labels / f"{stem}.txt", "3 0.5 0.5 0.25 0.5\n")
        else:
            write_text(
                root / labels / f"{stem}.xml", voc({"People": (0, 0, 16, 24), "Lamp": (16, 12, 48, 36)})
            )


def flir_crops(root: Path, *, zipped: bool = False, crops: int = 3) -> None:
    """Write crops whose class shows in both cameras: the mean grey level."""
    for split in ("train", "val"):
        folder = root / split
        for time in ("day", "night"):
            for level, kind in enumerate(("person", "car", "bicycle")):
                for number in range(crops):
                    for camera, mode in (("rgb", "RGB"), ("thermal", "L")):
                        path = folder / time / camera / kind / f"{number:05d}_{level}.jpg"
                        path.parent.mkdir(parents=True, exist_ok=True)
                        grey = picture(40, 20, 1, np.uint8, number) // 4 + 60 * level
                        Image.fromarray(grey).convert(mode).save(path)
        if zipped:
            with zipfile.ZipFile(root / f"{split}.zip", "w") as archive:
                for path in sorted(folder.rglob("*.jpg")):
                    archive.write(path, path.relative_to(folder).as_posix())
