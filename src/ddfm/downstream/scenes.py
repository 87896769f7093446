"""Labelled pairs: where their files are, how they are read, and sets of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddfm.benchmark.methods import as_bytes
from ddfm.downstream.boxes import Boxes
from ddfm.errors import InputError
from ddfm.formats import raster
from ddfm.formats.files import decoding, read_whole
from ddfm.formats.pictures import images_by_stem, read_image
from ddfm.pictures.colour import luminance
from ddfm.pictures.image import Image

RgbPixels = NDArray[np.uint8]  # (H, W, 3), red, green, blue
Mask = NDArray[np.uint8]  # (H, W), the class of each pixel


@dataclass(frozen=True)
class LabelledScene:
    """An aligned pair and its labels.

    Attributes:
        stem: the pair's name.
        infrared: its file.
        visible: its file; the same one if that has four channels, the last of them infrared.
        labels: the file of its labels.
        condition: "day", "night", or "" where nobody says.
    """

    stem: str
    infrared: Path
    visible: Path
    labels: Path
    condition: str = ""


@dataclass(frozen=True)
class DetectionSet:
    """Pairs with boxes.

    Attributes:
        title: what people call the set.
        classes: their names; boxes have their numbers.
        splits: scenes by the name of the split: "test", and "train" and "val" where there are such.
        read: the boxes of a scene, from its labels and the picture's height and width; raises InputError.
        note: what a reader of numbers must know about split or labels.
    """

    title: str
    classes: tuple[str, ...]
    splits: Mapping[str, Sequence[LabelledScene]]
    read: Callable[[Path, tuple[int, int]], Boxes]
    note: str = ""


@dataclass(frozen=True)
class SegmentationSet:
    """Pairs with a class for each pixel; class 0 is the background. As `DetectionSet`."""

    title: str
    classes: tuple[str, ...]
    splits: Mapping[str, Sequence[LabelledScene]]
    note: str = ""


def read_sources(scene: LabelledScene) -> tuple[Image, Image]:
    """Read infrared (one channel) and visible (as it is) of a pair.

    Raises InputError: a file that is no picture, no fourth channel where one is needed, sizes that differ.
    """
    visible = read_image(scene.visible)
    if scene.infrared == scene.visible:
        if visible.alpha is None:
            raise InputError(f"{scene.visible}: has no fourth channel; infrared should be there")
        infrared = Image(visible.alpha.reshape(*visible.size, 1), visible.depth)
        return infrared, replace(visible, alpha=None)
    infrared = read_image(scene.infrared)
    if infrared.size != visible.size:
        raise InputError(f"{scene.infrared}: is {_size(infrared)} pixels, {scene.visible} {_size(visible)}")
    return as_grey(infrared), replace(visible, alpha=None)


def as_grey(image: Image) -> Image:
    """Return an image's luminance; thermal images are often saved in three equal channels."""
    import torch

    if image.pixels.shape[-1] == 1:
        return replace(image, alpha=None)
    grey = luminance(torch.from_numpy(image.pixels).movedim(-1, 0)).movedim(0, -1).numpy()
    return replace(image, pixels=grey, alpha=None)


def as_picture(image: Image) -> RgbPixels:
    """Return an image as 8-bit RGB; grey ones get three equal channels."""
    pixels = as_bytes(image)
    return np.ascontiguousarray(np.broadcast_to(pixels, (*image.size, 3)))


def read_picture(path: Path) -> RgbPixels:
    """Read a picture file as 8-bit RGB; raises InputError."""
    return as_picture(read_image(path))


def read_mask(path: Path, classes: int) -> Mask:
    """Read a PNG of class numbers, (H, W) uint8; the numbers of a palette are taken as they are.

    Raises InputError, naming the file: no picture, several channels, a number beyond the classes.
    """
    data = read_whole(path, "a picture of labels")
    with closing(raster.opened(data, str(path), raster.READABLE)) as image:
        if image.mode not in ("L", "P", "1"):
            raise InputError(f"{path}: labels have one channel of class numbers; this one has {image.mode}")
        with decoding(str(path)):
            mask: Mask = np.array(image, np.uint8)
    if mask.max(initial=0) >= classes:
        raise InputError(f"{path}: holds class {mask.max()}, and classes are 0 to {classes - 1}")
    return mask


def match_scenes(
    infrared: Path, visible: Path, labels: Path, suffix: str, conditions: Mapping[str, str] | None = None
) -> list[LabelledScene]:
    """Return the pairs of two folders that have a label file of their stem, sorted by it.

    Raises InputError: a folder that is missing, a label without its pair, no pair at all.
    """
    pictures, others = images_by_stem(visible), images_by_stem(infrared)
    if not labels.is_dir():
        raise InputError(f"{labels} is not a folder")
    scenes = []
    for path in sorted(labels.glob(f"*{suffix}")):
        for folder, files in ((infrared, others), (visible, pictures)):
            if path.stem not in files:
                raise InputError(f"{path}: is the label of no picture in {folder}")
        condition = (conditions or {}).get(path.stem, "")
        scenes.append(LabelledScene(path.stem, others[path.stem], pictures[path.stem], path, condition))
    if not scenes:
        raise InputError(f"{labels}: the split is empty, it holds no {suffix} file")
    return scenes


def day_or_night(stem: str) -> str:
    """Return the time of day that MFNet's and MSRS's names end with: D or N; "" for others."""
    return {"D": "day", "N": "night"}.get(stem[-1:], "")


def check_split(splits: Mapping[str, Sequence[Any]], name: str, title: str) -> None:
    """Raise InputError if a split is missing or empty."""
    if not splits.get(name):
        raise InputError(f"{title}: the split {name} is empty; there are {', '.join(splits) or 'none'}")


def _size(image: Image) -> str:
    return f"{image.size[1]}x{image.size[0]}"
