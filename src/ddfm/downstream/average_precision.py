"""Average precision by COCO's rules, computed by faster-coco-eval, for all pictures or a resample of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddfm.downstream.boxes import Boxes
from ddfm.errors import InputError

DETECTIONS = 100  # a picture, at most, the best scores first: COCO's rule


@dataclass(frozen=True)
class Precision:
    """Average precision in 0..1; NaN for a class that no picture shows.

    Attributes:
        at_50: of each class at an overlap of .5, float64 (classes,).
        at_50_95: of each class, mean over the overlaps .5, .55, ..., .95.
        recall_50: of each class at an overlap of .5.
    """

    at_50: NDArray[np.float64]
    at_50_95: NDArray[np.float64]
    recall_50: NDArray[np.float64]

    @property
    def mean_50(self) -> float:
        """Return the mean over the classes that occur, at an overlap of .5."""
        return nan_mean(self.at_50)

    @property
    def mean_50_95(self) -> float:
        """Return the mean over the classes that occur, over all overlaps."""
        return nan_mean(self.at_50_95)


def nan_mean(values: NDArray[np.float64]) -> float:
    """Return the mean of what is not NaN; NaN if nothing is left."""
    left = values[~np.isnan(values)]
    return float(left.mean()) if left.size else float("nan")


class Matches:
    """Detections matched with labels picture by picture, to be summed up over any resample of them."""

    def __init__(self, truth: Sequence[Boxes], found: Sequence[Boxes], classes: int) -> None:
        """Match each picture's detections with its labels; raises InputError without faster-coco-eval."""
        self.count = len(truth)
        self._evaluation = _evaluation(truth, found, classes)
        self._evaluation.evaluate()
        self._pictures = self._evaluation._evalImgs_cpp

    def precision(self, chosen: NDArray[np.intp] | None = None) -> Precision:
        """Return the average precision over all pictures, or over those of the numbers ``chosen``.

        A number may come twice, as in a bootstrap: a picture's matches do not depend on the others.
        """
        indices = np.arange(self.count) if chosen is None else chosen
        evaluation = self._evaluation
        # Matches lie by class, then by picture; there is one range of areas.
        starts = range(0, len(self._pictures), self.count)
        evaluation._evalImgs_cpp = [self._pictures[start + index] for start in starts for index in indices]
        evaluation._paramsEval.imgIds = list(range(len(indices)))
        evaluation.accumulate()
        precision = np.where(evaluation.eval["precision"] < 0, np.nan, evaluation.eval["precision"])
        recall = np.where(evaluation.eval["recall"] < 0, np.nan, evaluation.eval["recall"])
        curves = precision[..., 0, 0]  # (overlaps, recalls, classes)
        return Precision(curves[0].mean(0), curves.mean((0, 1)), recall[0, :, 0, 0])

    def curves(self) -> NDArray[np.float64]:
        """Return precision at an overlap of .5 for recalls 0, .01, ..., 1: float64 (101, classes)."""
        self.precision()
        curves: NDArray[np.float64] = self._evaluation.eval["precision"][0, :, :, 0, 0]
        return curves


def _evaluation(truth: Sequence[Boxes], found: Sequence[Boxes], classes: int) -> Any:
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError as error:
        raise InputError(
            "average precision needs faster-coco-eval: pip install 'ddfm[downstream]'"
        ) from error
    images = [{"id": number} for number in range(len(truth))]
    categories = [{"id": number, "name": str(number)} for number in range(classes)]
    labels = {"images": images, "categories": categories, "annotations": _annotations(truth)}
    detections = {"images": images, "categories": categories, "annotations": _annotations(found)}
    evaluation = COCOeval_faster(COCO(labels), COCO(detections), "bbox", separate_eval=True)
    evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
    evaluation.params.maxDets = [DETECTIONS]
    return evaluation


def _annotations(pictures: Sequence[Boxes]) -> list[dict[str, Any]]:
    """Return boxes as COCO's annotations, numbered from 1."""
    rows: list[dict[str, Any]] = []
    for image, boxes in enumerate(pictures):
        for (left, top, right, bottom), number, score in zip(
            boxes.xyxy.tolist(), boxes.classes.tolist(), boxes.scores.tolist(), strict=True
        ):
            width, height = right - left, bottom - top
            rows.append(
                {
                    "id": len(rows) + 1,
                    "image_id": image,
                    "category_id": number,
                    "bbox": [left, top, width, height],
                    "area": width * height,
                    "iscrowd": 0,
                    "score": score,
                }
            )
    return rows
