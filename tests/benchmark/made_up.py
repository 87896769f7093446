"""A benchmark made by hand, whose marks and order are known."""

from __future__ import annotations

from typing import Any

import numpy as np

from ddfm.benchmark.datasets import DATASETS
from ddfm.benchmark.methods import Method
from ddfm.benchmark.run import Benchmark, Cost, Example, Failure, summarise
from ddfm.metrics import Convention
from tests.conftest import picture

# Method: EN (higher is better) and MSE (lower is better) of two images, seconds.
TABLE = {
    "ddfm": ((7.0, 30.0), (7.2, 20.0), 1.5),
    "mean": ((6.0, 20.0), (6.2, 10.0), 0.01),
    "<b>theirs</b>": ((7.1, 90.0), (7.1, 60.0), None),
}
# By hand: EN 7.1, 6.1, 7.1 (two bests); MSE 25, 15, 75; ranks (1.5 + 2)/2, (3 + 1)/2, (1.5 + 3)/2.
RANKS = {"ddfm": 1.75, "mean": 2.0, "<b>theirs</b>": 2.25}


def benchmark(dataset: str = "tno", convention: Convention = "paper", **changes: Any) -> Benchmark:
    values = {
        name: {
            stem: dict(zip(("EN", "MSE"), pair, strict=True)) for stem, pair in zip("12", rows, strict=True)
        }
        for name, (*rows, _) in TABLE.items()
    }
    grey, colour = picture(40, 64, 1, np.uint8)[..., None], picture(40, 64, 3, np.uint8, 1)
    parts: dict[str, Any] = {
        "dataset": DATASETS[dataset],
        "methods": [Method(name, baseline=name == "mean") for name in TABLE],
        "evaluation": summarise(values, convention, []),
        "costs": {name: Cost(seconds, None) for name, (*_, seconds) in TABLE.items()},
        "failures": [Failure("3", "mean", "too <small>")],
        "examples": [Example(stem, grey, colour, dict.fromkeys(TABLE, colour)) for stem in "12"],
        "about": {
            "date": "2026-01-02T03:04:05+00:00",
            "versions": {"ddfm": "1.2.3"},
            "command": "ddfm benchmark tno --root 'my data' -o report",
            "seed": 3407,
            "sha256": {"ir/1.png": "ab" * 32},
        },
    }
    return Benchmark(**{**parts, **changes})
