"""How long an evaluation of the bundled prior takes, by back end and number format; what starts cost.

    python benchmarks/backends.py

The variants take turns, on one thread. Times are of the processor, in seconds: the median of the turns after
the first, and the first itself, which compiles kernels for the size. Written to results/backends.json.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from common import script_parser, write_result

from ddfm.priors.base import Prior
from ddfm.priors.loading import load_prior

SIZES = ((256, 320), (480, 640), (1024, 1024))
TURNS = 8


def seconds(function: Callable[[], object]) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


def main() -> None:
    arguments = script_parser(__doc__, "backends.json").parse_args()
    torch.set_num_threads(1)
    prior = load_prior()
    table: dict[str, object] = {"threads": 1, "cpu": torch.cpu.get_capabilities()["cpu_name"]}
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        prior = replace(prior, folder=Path(folder))
        small = torch.zeros(1, 1, 32, 32)

        def start(dtype: torch.dtype) -> Prior:
            started = prior.to("cpu", dtype, "openvino")
            started.denoise(small, 0.1)
            return started

        table["openvino: exported and compiled"] = round(seconds(lambda: start(torch.float32)), 2)
        table["openvino: found and compiled"] = round(seconds(lambda: start(torch.float32)), 2)
        variants = {
            f"{backend} {str(dtype).removeprefix('torch.')}": prior.to("cpu", dtype, backend)
            for backend in ("torch", "openvino")
            for dtype in (torch.float32, torch.bfloat16)
        }
        for height, width in SIZES:
            x = torch.randn(1, 1, height, width)
            turns = [
                {name: seconds(partial(model.denoise, x, 0.1)) for name, model in variants.items()}
                for _ in range(TURNS)
            ]
            table[f"{height}x{width}"] = {
                name: {
                    "seconds": round(statistics.median(turn[name] for turn in turns[1:]), 3),
                    "first": round(turns[0][name], 3),
                }
                for name in variants
            }
            print(f"{height}x{width}", table[f"{height}x{width}"], flush=True)
    write_result(arguments.output, table)


if __name__ == "__main__":
    main()
