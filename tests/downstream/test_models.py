"""Detectors and SegFormer learn, decode what they were taught, and are built from a configuration."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ddfm.downstream.boxes import make_boxes
from ddfm.downstream.point_detector import STRIDE, PointDetector, _decoded, _targets
from ddfm.downstream.training import seeded
from ddfm.downstream.transformer_models import DETECTORS, Segmenter, TransformerDetector
from ddfm.errors import InputError

BOXES = make_boxes([[8, 8, 28, 40], [40, 20, 60, 30]], [0, 2])


def test_the_maps_of_boxes_decode_to_these_boxes() -> None:
    heat, sizes, offsets, where = _targets([BOXES], 3, (12, 16))
    maps = torch.zeros(4, 12, 16)
    for size, offset, (_, row, column) in zip(sizes, offsets, where, strict=True):
        maps[:, row, column] = torch.cat([size, offset])
    peaks = heat[0] * (heat[0] == 1)
    found = _decoded(peaks, maps, (12 * STRIDE, 16 * STRIDE))
    order = np.argsort(found.classes)
    np.testing.assert_array_equal(found.classes[order], BOXES.classes)
    np.testing.assert_allclose(found.xyxy[order], BOXES.xyxy, atol=1e-4)


def test_the_point_detector_learns_one_picture() -> None:
    picture = torch.zeros(1, 3, 48, 64)
    for (left, top, right, bottom), kind in zip(BOXES.xyxy.astype(int), BOXES.classes, strict=True):
        picture[0, kind, top:bottom, left:right] = 2
    detector = seeded(lambda: PointDetector(3), 0)
    assert isinstance(detector, PointDetector)
    optimizer = torch.optim.AdamW(detector.parameters(), 3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        detector.loss(picture, [BOXES]).backward()
        optimizer.step()
    (found,) = detector.detect(picture)  # in training mode: statistics of one picture
    best = found.chosen(found.scores > 0.5)
    order = np.argsort(best.classes)
    np.testing.assert_array_equal(best.classes[order], BOXES.classes)
    np.testing.assert_allclose(best.xyxy[order], BOXES.xyxy, atol=2)


def test_a_picture_without_objects_has_a_loss() -> None:
    assert PointDetector(2).loss(torch.zeros(1, 3, 32, 32), [make_boxes([], [])]).isfinite()


@pytest.mark.parametrize(
    "kind", [kind if kind == "yolos" else pytest.param(kind, marks=pytest.mark.slow) for kind in DETECTORS]
)
def test_transformers_detectors_are_built_without_weights(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    pytest.importorskip("scipy")
    detector = TransformerDetector(kind, 3)
    pictures = torch.rand(1, 3, 128, 160)
    loss = detector.loss(pictures, [BOXES])
    loss.backward()
    assert loss.isfinite()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in detector.parameters())
    detector.eval()
    (found,) = detector.detect(pictures)
    assert (found.xyxy[:, 2:] > found.xyxy[:, :2]).all()
    assert found.xyxy.max(initial=0) <= 160
    assert set(found.classes) <= {0, 1, 2}
    detector.model.save_pretrained(tmp_path)  # weights on the disk are taken up again
    again = TransformerDetector(kind, 3, str(tmp_path)).eval()
    np.testing.assert_allclose(again.detect(pictures)[0].scores, found.scores, atol=1e-5)


def test_segformer_has_the_size_of_its_pictures_and_learns() -> None:
    pytest.importorskip("transformers")
    model = seeded(lambda: Segmenter(3), 0)
    picture = torch.zeros(1, 3, 48, 64)
    picture[:, 1, :, 32:] = 3
    labels = torch.zeros(1, 48, 64, dtype=torch.long)
    labels[:, :, 32:] = 2
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(25):
        optimizer.zero_grad()
        logits = model(picture)
        F.cross_entropy(logits, labels).backward()
        optimizer.step()
    assert logits.shape == (1, 3, 48, 64)
    assert (logits.argmax(1) == labels).float().mean() > 0.9


def test_unknown_detectors_and_weights_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(InputError, match="unknown detector 'yolo'"):
        TransformerDetector("yolo", 3)
    with pytest.raises(InputError, match="neither a folder nor a name with such weights"):
        Segmenter(3, str(tmp_path))
