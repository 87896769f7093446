"""Average precision against pycocotools, IoU against scikit-learn, the bootstrap against theory."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ddfm.downstream import bootstrap
from ddfm.downstream.average_precision import Matches
from ddfm.downstream.boxes import Boxes, make_boxes, suppressed
from ddfm.downstream.confusion import accuracies, class_iou, class_recall, confusion_matrix, mean_iou
from ddfm.downstream.detection import Detected, Detections
from ddfm.downstream.scenes import LabelledScene
from ddfm.errors import InputError

CLASSES = 4


def random_boxes(generator: np.random.Generator, count: int) -> np.ndarray[Any, Any]:
    corners = generator.uniform(0, 80, (count, 2))
    return np.concatenate([corners, corners + generator.uniform(4, 30, (count, 2))], 1)


def random_case(seed: int, pictures: int = 9) -> tuple[list[Boxes], list[Boxes]]:
    """Labels and detections: near ones, wrong ones, pictures without either, a class that never occurs."""
    generator = np.random.default_rng(seed)
    truth, found = [], []
    for _ in range(pictures):
        count = int(generator.integers(0, 6))
        boxes, classes = random_boxes(generator, count), generator.integers(0, CLASSES - 1, count)
        truth.append(make_boxes(boxes.tolist(), classes.tolist()))
        near = boxes + generator.normal(0, 2, boxes.shape)
        others = random_boxes(generator, int(generator.integers(0, 5)))
        kinds = np.concatenate([classes, generator.integers(0, CLASSES - 1, len(others))])
        scores = generator.choice([0.1, 0.3, 0.5, 0.7, 0.9], len(kinds))  # ties are the hard part
        found.append(make_boxes(np.concatenate([near, others]).tolist(), kinds.tolist(), scores.tolist()))
    return truth, found


def by_pycocotools(truth: list[Boxes], found: list[Boxes]) -> tuple[Any, Any]:
    """AP at .5 and at .5:.95 of each class, by the reference implementation."""
    coco = pytest.importorskip("pycocotools.coco")
    evaluation = pytest.importorskip("pycocotools.cocoeval")

    def annotations(pictures: list[Boxes]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for image, boxes in enumerate(pictures):
            for (left, top, right, bottom), kind, score in zip(
                boxes.xyxy.tolist(), boxes.classes.tolist(), boxes.scores.tolist(), strict=True
            ):
                size = right - left, bottom - top
                row = {
                    "id": len(rows) + 1,
                    "image_id": image,
                    "category_id": kind,
                    "bbox": [left, top, *size],
                }
                rows.append({**row, "area": size[0] * size[1], "iscrowd": 0, "score": score})
        return rows

    with contextlib.redirect_stdout(io.StringIO()):
        labels = coco.COCO()
        labels.dataset = {
            "images": [{"id": n} for n in range(len(truth))],
            "categories": [{"id": n} for n in range(CLASSES)],
            "annotations": annotations(truth),
        }
        labels.createIndex()
        run = evaluation.COCOeval(labels, labels.loadRes(annotations(found)), "bbox")
        run.evaluate()
        run.accumulate()
    precision = np.where(run.eval["precision"] < 0, np.nan, run.eval["precision"])[:, :, :, 0, 2]
    return precision[0].mean(0), precision.mean((0, 1))


@pytest.mark.parametrize("seed", range(6))
def test_average_precision_is_that_of_pycocotools(seed: int) -> None:
    truth, found = random_case(seed)
    ours = Matches(truth, found, CLASSES).precision()
    fifty, all_ = by_pycocotools(truth, found)
    np.testing.assert_allclose(ours.at_50, fifty, rtol=0, atol=1e-12)
    np.testing.assert_allclose(ours.at_50_95, all_, rtol=0, atol=1e-12)
    assert np.isnan(ours.at_50[-1])  # the class that never occurs counts for nothing
    assert ours.mean_50 == pytest.approx(np.nanmean(fifty))


def test_a_resample_is_measured_like_the_pictures_it_holds() -> None:
    truth, found = random_case(7)
    chosen = np.random.default_rng(0).integers(len(truth), size=len(truth))
    resampled = Matches(truth, found, CLASSES).precision(chosen)
    copied = Matches([truth[n] for n in chosen], [found[n] for n in chosen], CLASSES).precision()
    np.testing.assert_array_equal(resampled.at_50, copied.at_50)
    np.testing.assert_array_equal(resampled.at_50_95, copied.at_50_95)


def test_average_precision_of_easy_cases() -> None:
    truth = [make_boxes([[0, 0, 10, 10], [20, 20, 40, 40]], [0, 0])]
    assert Matches(truth, truth, 1).precision().mean_50_95 == pytest.approx(1)
    assert Matches(truth, [make_boxes([], [])], 1).precision().mean_50 == 0
    half = Matches(truth, [truth[0].chosen(np.array([True, False]))], 1).precision()
    assert half.recall_50[0] == 0.5
    assert half.mean_50 == pytest.approx(51 / 101)  # recalls 0, .01, ..., .5 of 101
    curve = Matches(truth, truth, 1).curves()
    assert curve.shape == (101, 1)


def test_one_of_two_boxes_around_an_object_is_kept() -> None:
    boxes = make_boxes([[0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 60, 60]], [0, 0, 0], [0.5, 0.9, 0.2])
    assert sorted(suppressed(boxes, 0.5).scores.tolist()) == [0.2, 0.9]
    assert len(suppressed(Boxes(boxes.xyxy, np.array([0, 1, 0]), boxes.scores), 0.5)) == 3


@pytest.mark.parametrize("seed", range(4))
def test_confusion_and_iou_are_those_of_scikit_learn(seed: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, 5, (40, 30)).astype(np.uint8)
    predicted = np.where(generator.random(truth.shape) < 0.6, truth, generator.integers(0, 5, truth.shape))
    matrix = confusion_matrix(truth, predicted, 6)
    expected = metrics.confusion_matrix(truth.ravel(), predicted.ravel(), labels=range(6))
    np.testing.assert_array_equal(matrix, expected)
    iou = metrics.jaccard_score(truth.ravel(), predicted.ravel(), labels=range(5), average=None)
    np.testing.assert_allclose(class_iou(matrix)[:5], iou)
    assert np.isnan(class_iou(matrix)[5])
    assert mean_iou(matrix)["with_background"] == pytest.approx(iou.mean())
    assert mean_iou(matrix)["without_background"] == pytest.approx(iou[1:].mean())
    found = accuracies(matrix)
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(truth.ravel(), predicted.ravel()))
    assert found["balanced"] == pytest.approx(
        metrics.balanced_accuracy_score(truth.ravel(), predicted.ravel())
    )
    recall = metrics.recall_score(truth.ravel(), predicted.ravel(), labels=range(5), average=None)
    assert found["worst"] == pytest.approx(recall.min())
    np.testing.assert_allclose(class_recall(matrix)[:5], recall)


def test_classes_outside_the_matrix_are_refused() -> None:
    with pytest.raises(InputError, match="prediction 3 is outside the classes 0 to 2"):
        confusion_matrix(np.zeros((2, 2), int), np.full((2, 2), 3), 3)
    with pytest.raises(InputError, match="shape"):
        confusion_matrix(np.zeros((2, 2), int), np.zeros((2, 3), int), 3)


def test_the_bootstrap_has_the_standard_error_of_a_mean() -> None:
    values = np.random.default_rng(0).normal(5, 2, 200)
    found = bootstrap.interval(lambda chosen: float(values[chosen].mean()), len(values))
    assert found.value == pytest.approx(values.mean())
    error = values.std(ddof=1) / np.sqrt(len(values))
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.1)
    shifted = bootstrap.difference(
        lambda chosen: float(values[chosen].mean() + 1),
        lambda chosen: float(values[chosen].mean()),
        len(values),
    )
    assert (shifted.low, shifted.high) == pytest.approx((1, 1))  # paired: what both share cancels


def test_average_precisions_are_compared_on_the_same_resamples() -> None:
    truth, found = random_case(3)
    _, others = random_case(4)
    inputs = {"a": Detections([found, others]), "b": Detections([others])}
    scenes = [LabelledScene("", Path(), Path(), Path())] * len(truth)
    detected = Detected("set", tuple("abcd"), scenes, truth, inputs)
    runs = [Matches(truth, boxes, CLASSES) for boxes in (found, others)]

    def gain(chosen: NDArray[np.intp]) -> float:
        first, second = (run.precision(chosen).mean_50 for run in runs)
        return (first + second) / 2 - second

    expected = bootstrap.interval(gain, len(truth))
    assert vars(detected.difference_50("a", "b")) == pytest.approx(vars(expected))
    assert detected.interval_50("b").value == runs[1].precision().mean_50


def test_spread_over_seeds_is_the_sample_standard_deviation() -> None:
    assert bootstrap.mean_and_std([1, 2, 3]) == (2, 1)
    assert bootstrap.mean_and_std([4]) == (4, 0)
