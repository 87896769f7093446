"""Where a training step's time goes: in drawing its crops, or in the network.

    python benchmarks training_time DATA [--steps N]

Reads natural/bsds500 under DATA, and writes results/training_time.json: seconds a step of the default
recipe on this machine's CPU, one thread, the median of N steps after one to warm up. What other workers
could take over is the drawing alone, for each step needs the weights that the one before has left.
"""

from __future__ import annotations

import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import measure_parts, script_parser

from ddfm.training.crops import Crops, find_images
from ddfm.training.recipe import PriorRecipe
from ddfm.training.run import Run


def steps(data: Path, count: int) -> dict[str, Any]:
    """Measure so many steps."""
    torch.set_num_threads(1)
    recipe = PriorRecipe()
    run = Run(recipe, "cpu")
    crops = Crops(find_images([data / "natural" / "bsds500"]), recipe, run.prior.sigmas)
    drawn, stepped = [], []
    for number in range(count + 1):
        start = time.perf_counter()
        batch = crops.batch(number)
        between = time.perf_counter()
        run.step(run.loss_of, *batch)
        drawn.append(between - start)
        stepped.append(time.perf_counter() - between)
    drawing, stepping = statistics.median(drawn[1:]), statistics.median(stepped[1:])
    return {
        "batch": recipe.batch,
        "crop": recipe.crop,
        "seconds to draw": round(drawing, 4),
        "seconds in the network": round(stepping, 2),
        "share of drawing": round(drawing / (drawing + stepping), 5),
    }


def main() -> None:
    parser = script_parser(__doc__, "training_time.json", data=True)
    parser.add_argument("--steps", type=int, default=5, metavar="N", help="to measure")
    arguments = parser.parse_args()
    measure_parts({"steps": partial(steps, arguments.data, arguments.steps)}, arguments.output)


if __name__ == "__main__":
    main()
