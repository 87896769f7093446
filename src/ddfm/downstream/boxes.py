"""Boxes around objects, and the text formats that hold them: YOLO's and Pascal VOC's."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddfm.errors import InputError

SLACK = 1.0  # pixels that a box may reach beyond the picture: labels are rounded


@dataclass(frozen=True)
class Boxes:
    """Boxes of one picture.

    Attributes:
        xyxy: left, top, right and bottom in pixels, float64 (N, 4).
        classes: numbers of the classes, int64 (N,).
        scores: confidence of each box, float64 (N,); 1 for labels.
    """

    xyxy: NDArray[np.float64]
    classes: NDArray[np.int64]
    scores: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.classes)

    def of_class(self, number: int) -> Boxes:
        """Return the boxes of one class."""
        return self.chosen(self.classes == number)

    def chosen(self, keep: NDArray[np.bool_] | NDArray[np.intp]) -> Boxes:
        """Return some of the boxes, by mask or by index."""
        return Boxes(self.xyxy[keep], self.classes[keep], self.scores[keep])


def make_boxes(
    xyxy: Sequence[Sequence[float]], classes: Sequence[int], scores: Sequence[float] | None = None
) -> Boxes:
    """Return boxes from lists; scores are 1 if there are none."""
    return Boxes(
        np.asarray(xyxy, np.float64).reshape(-1, 4),
        np.asarray(classes, np.int64),
        np.ones(len(classes)) if scores is None else np.asarray(scores, np.float64),
    )


def read_yolo(path: Path, size: tuple[int, int], numbers: Mapping[int, int]) -> Boxes:
    """Read lines of class, centre x, centre y, width, height and, of predictions, a score.

    Args:
        path: the text file; an empty one is a picture without objects.
        size: height and width of the picture; the file has shares of them.
        numbers: from the class ids in the file to ours.

    Raises InputError, naming file and line: not such a line, an unknown id, a box outside the picture.
    """
    rows, classes, scores = [], [], []
    for number, line in enumerate(_text(path).splitlines(), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            values = [float(word) for word in line.split()]
        except ValueError:
            values = []
        if len(values) not in (5, 6):
            raise InputError(f"{where}: needs class, centre x, centre y, width and height in numbers")
        x, y, width, height = (
            share * size[axis] for share, axis in zip(values[1:5], (1, 0, 1, 0), strict=True)
        )
        box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        if values[0] not in numbers:
            raise InputError(f"{where}: class {line.split()[0]} is not one of {sorted(numbers)}")
        rows.append(_checked(box, size, where))
        classes.append(numbers[int(values[0])])
        scores.append(values[5] if len(values) == 6 else 1.0)
    return make_boxes(rows, classes, scores)


def write_yolo(path: Path, boxes: Boxes, size: tuple[int, int], *, scored: bool = False) -> None:
    """Write boxes as `read_yolo` reads them; with their scores if ``scored``."""
    height, width = size
    lines = []
    for (left, top, right, bottom), number, score in zip(
        boxes.xyxy, boxes.classes, boxes.scores, strict=True
    ):
        centre = (left + right) / 2 / width, (top + bottom) / 2 / height
        values = (*centre, (right - left) / width, (bottom - top) / height, *((score,) if scored else ()))
        lines.append(f"{number} {' '.join(f'{value:.6f}' for value in values)}\n")
    path.write_text("".join(lines))


def read_voc(path: Path, size: tuple[int, int], names: Mapping[str, int]) -> Boxes:
    """Read the objects of a Pascal VOC annotation, an XML file.

    Args:
        path: the XML file.
        size: height and width of the picture.
        names: from the names in the file, in lower case, to our classes.

    Raises InputError, naming the file: no such XML, an unknown name, a box outside the picture.
    """
    text = _text(path)
    if "<!" in text:  # entities and document types: no annotation has them, and they can be made to harm
        raise InputError(f"{path}: holds XML declarations that no annotation needs; save it without them")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise InputError(f"{path}: not a readable annotation ({error})") from error
    rows, classes = [], []
    for number, item in enumerate(root.iter("object"), 1):
        where = f"{path}, object {number}"
        name = (item.findtext("name") or "").strip().lower()
        if name not in names:
            raise InputError(f"{where}: class {name!r} is not one of {', '.join(names)}")
        try:
            box = tuple(
                float(item.findtext(f"bndbox/{side}") or "") for side in ("xmin", "ymin", "xmax", "ymax")
            )
        except ValueError as error:
            raise InputError(f"{where}: has no bndbox of four numbers") from error
        rows.append(_checked(box, size, where))
        classes.append(names[name])
    return make_boxes(rows, classes)


def intersection_over_union(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share that boxes have in common, (N, M) of (N, 4) and (M, 4)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    common = (high - low).clip(0).prod(-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(-1) for boxes in (a, b)]
    union = areas[0][:, None] + areas[1][None] - common
    shares: NDArray[np.float64] = common / np.maximum(union, np.finfo(float).tiny)
    return shares


def suppressed(boxes: Boxes, threshold: float) -> Boxes:
    """Drop each box that overlaps a better one of its class by more than ``threshold`` (greedy NMS)."""
    order = np.argsort(-boxes.scores, kind="stable")
    overlap = intersection_over_union(boxes.xyxy, boxes.xyxy) > threshold
    overlap &= boxes.classes[:, None] == boxes.classes[None]
    kept: list[int] = []
    for index in order:
        if not overlap[index, kept].any():
            kept.append(int(index))
    return boxes.chosen(np.asarray(kept, np.intp))


def _checked(box: Sequence[float], size: tuple[int, int], where: str) -> tuple[float, ...]:
    """Return the box, cut to the picture; refuse one that lies outside it or has no area."""
    left, top, right, bottom = box
    height, width = size
    if min(left, top) < -SLACK or right > width + SLACK or bottom > height + SLACK:
        shown = ", ".join(f"{side:.1f}" for side in box)
        raise InputError(f"{where}: box ({shown}) is outside the picture of {width}x{height} pixels")
    left, right = (min(max(side, 0.0), float(width)) for side in (left, right))
    top, bottom = (min(max(side, 0.0), float(height)) for side in (top, bottom))
    if not (right > left and bottom > top):
        raise InputError(f"{where}: box has no area")
    return left, top, right, bottom


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text ({error})") from error
