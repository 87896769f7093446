"""Aligned crops of FLIR ADAS: a person, a car or a bicycle, seen by both cameras.

``train`` and ``val``, each a folder or a ZIP file, hold ``{day,night}/{rgb,thermal}/CLASS/STEM.jpg``; the
same stem is the same object. Crops are brought to 64x64 pixels before they are fused.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddfm.errors import InputError
from ddfm.formats import raster
from ddfm.formats.files import decoding

TITLE = "FLIR ADAS, aligned crops"
CLASSES = ("person", "car", "bicycle")
TIMES = ("day", "night")
SPLITS = {"train": "train", "test": "val"}  # the set's own name of each split
SIDE = 64  # pixels


@dataclass(frozen=True)
class Crops:
    """One split.

    Attributes:
        infrared: uint8 (N, 64, 64, 1).
        visible: uint8 (N, 64, 64, 3).
        classes: numbers in `CLASSES`, int64 (N,).
        night: whether a crop was taken at night, bool (N,).
        names: of the crops, TIME/CLASS/STEM.
    """

    infrared: NDArray[np.uint8]
    visible: NDArray[np.uint8]
    classes: NDArray[np.int64]
    night: NDArray[np.bool_]
    names: tuple[str, ...]


def check(root: Path) -> list[str]:
    """Return what is missing below ``root``."""
    problems = []
    for split in SPLITS.values():
        if not (root / split).is_dir() and not (root / f"{split}.zip").is_file():
            problems.append(f"{root / split}: neither this folder nor {split}.zip is there")
            continue
        with _opened(root, split) as source:
            names = _names(source)
        problems += [
            f"{root / split}: has no pair in {time}/rgb/{kind} and {time}/thermal/{kind}"
            for time in TIMES
            for kind in CLASSES
            if not any(name.startswith(f"{time}/{kind}/") for name in names)
        ]
    return problems


def read(root: Path, split: str) -> Crops:
    """Read a split, "train" or "test".

    Raises InputError: missing folders, an empty split, a crop without partner, a file that is no picture.
    """
    with _opened(root, SPLITS[split]) as source:
        names = _names(source)
        if not names:
            raise InputError(f"{root / SPLITS[split]}: the split is empty")
        pairs = [_read_pair(source, name) for name in names]
    return Crops(
        np.stack([infrared for infrared, _ in pairs]),
        np.stack([visible for _, visible in pairs]),
        np.array([CLASSES.index(name.split("/")[1]) for name in names], np.int64),
        np.array([name.startswith("night/") for name in names]),
        tuple(names),
    )


def read_outputs(folder: Path, split: str, names: Sequence[str]) -> NDArray[np.uint8]:
    """Read another program's fused crops, FOLDER/{train,val}/TIME/CLASS/STEM.*, as (N, 64, 64, 3) uint8.

    Raises InputError: a crop that is missing, a file that is no picture.
    """
    crops = []
    for name in names:
        stem = folder / SPLITS[split] / name
        found = sorted(stem.parent.glob(f"{stem.name}.*"))
        if not found:
            raise InputError(f"{stem}: this fused crop is missing; each pair needs its own")
        crops.append(_picture(found[0].read_bytes(), str(found[0]), "RGB"))
    return np.stack(crops)


@contextmanager
def _opened(root: Path, split: str) -> Iterator[Any]:
    """Yield the split's folder as a path, or its ZIP file as such a path: both are walked alike."""
    if (root / split).is_dir():
        yield root / split
        return
    path = root / f"{split}.zip"
    if not path.is_file():
        raise InputError(f"{root / split}: neither this folder nor {split}.zip is there")
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except zipfile.BadZipFile as error:
        raise InputError(f"{path}: not a readable ZIP file ({error})") from error


def _names(source: Any) -> list[str]:
    """Return TIME/CLASS/STEM of all pairs, sorted; raises InputError for a crop without partner."""
    if isinstance(source, Path):
        files = {path.relative_to(source).as_posix() for path in source.rglob("*.jpg")}
    else:
        files = {name for name in source.namelist() if name.endswith(".jpg")}
    found: dict[str, set[str]] = {"rgb": set(), "thermal": set()}
    for file in files:
        parts = PurePosixPath(file).parts
        known = len(parts) == 4 and parts[0] in TIMES and parts[1] in found and parts[2] in CLASSES
        if not known:
            raise InputError(f"{file}: should be TIME/rgb/CLASS/STEM.jpg, classes {', '.join(CLASSES)}")
        found[parts[1]].add(f"{parts[0]}/{parts[2]}/{PurePosixPath(file).stem}")
    if unmatched := sorted(found["rgb"] ^ found["thermal"]):
        raise InputError(f"{unmatched[0]}: this crop has no partner in the other camera's folder")
    return sorted(found["rgb"])


def _read_pair(source: Any, name: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    time, kind, stem = name.split("/")
    files = [f"{time}/{camera}/{kind}/{stem}.jpg" for camera in ("thermal", "rgb")]
    data = [(source / file).read_bytes() if isinstance(source, Path) else source.read(file) for file in files]
    return _picture(data[0], files[0], "L"), _picture(data[1], files[1], "RGB")


def _picture(data: bytes, name: str, mode: str) -> NDArray[np.uint8]:
    with closing(raster.opened(data, name, raster.READABLE)) as image, decoding(name):
        resized = image.convert(mode).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return np.asarray(resized, np.uint8).reshape(SIDE, SIDE, -1)
