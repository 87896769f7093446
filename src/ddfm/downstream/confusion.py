"""Confusion matrices of pixels or of pictures, and what is read off them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddfm.downstream.average_precision import nan_mean
from ddfm.errors import InputError

Matrix = NDArray[np.int64]  # (classes, classes): rows are the truth, columns what was predicted


def confusion_matrix(truth: NDArray[Any], predicted: NDArray[Any], classes: int) -> Matrix:
    """Count how often each true class was predicted as each class.

    Raises InputError: shapes that differ, values outside 0..classes - 1.
    """
    if truth.shape != predicted.shape:
        raise InputError(f"predictions have shape {predicted.shape}, labels {truth.shape}")
    for name, values in (("label", truth), ("prediction", predicted)):
        if values.size and (values.min() < 0 or values.max() >= classes):
            wrong = int(values.max() if values.max() >= classes else values.min())
            raise InputError(f"{name} {wrong} is outside the classes 0 to {classes - 1}")
    pairs = truth.astype(np.int64).ravel() * classes + predicted.astype(np.int64).ravel()
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes).astype(np.int64)


def class_iou(matrix: Matrix) -> NDArray[np.float64]:
    """Return intersection over union of each class; NaN where it is neither there nor predicted."""
    common = matrix.diagonal().astype(np.float64)
    union = matrix.sum(0) + matrix.sum(1) - common
    return _shares(common, union)


def mean_iou(matrix: Matrix) -> dict[str, float]:
    """Return the mean IoU by both conventions of the field, classes that occur nowhere left out.

    ``with_background`` counts class 0 as one of the classes; ``without_background`` leaves it out of the
    mean. In both, a pixel of the background that is taken for an object is an error of that object's.
    """
    shares = class_iou(matrix)
    return {"with_background": nan_mean(shares), "without_background": nan_mean(shares[1:])}


def accuracies(matrix: Matrix) -> dict[str, float]:
    """Return accuracy, and the mean (balanced) and the worst of the classes' recalls."""
    recalls = class_recall(matrix)
    return {
        "accuracy": float(matrix.trace() / max(matrix.sum(), 1)),
        "balanced": nan_mean(recalls),
        "worst": float(np.nanmin(recalls)) if not np.isnan(recalls).all() else float("nan"),
    }


def class_recall(matrix: Matrix) -> NDArray[np.float64]:
    """Return the share of each class that was found; NaN for a class that does not occur."""
    return _shares(matrix.diagonal().astype(np.float64), matrix.sum(1))


def _shares(part: NDArray[np.float64], whole: NDArray[Any]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
