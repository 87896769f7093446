"""Large pictures: what tiles change, and the memory that a pair of 8192x8192 pixels takes.

    python benchmarks/large.py DATA [--only differences memory] [--steps N ...] [--threads N] [--output FILE]

DATA is the folder with misaligned/msrs. Pairs of its pictures, enlarged to twice their size and laid side by
side, make large pairs (infrared grey, visible in colour, 8 bits), in a temporary folder.

differences: a pair of 2048x3072 pixels, as it is (default steps) and with noise of 10 grey levels in the
infrared one (denoised, no steps), fused in tiles and in one piece: mean and largest difference in grey
levels; and the gradient across the borders of the tiles (of their overlaps: where they start, meet and end)
beside that of the lines around them, in the picture in tiles and in the one in one piece.

memory: `ddfm fuse` on files in a fresh process: the largest resident memory and the time, for each number of
steps.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import measure_parts, script_parser
from numpy.typing import NDArray
from pairs import fused_in_a_fresh_process, mosaic, save

from ddfm.fusion.pipeline import fuse
from ddfm.likelihoods.forms import FORMS
from ddfm.pictures.tiles import spans
from ddfm.priors.diffusion import OVERLAP
from ddfm.priors.loading import load_prior

HEIGHT, WIDTH = 2048, 3072
NOISE = 10
AROUND = 8  # lines on either side that a border is compared with


def borders(length: int, side: int) -> list[int]:
    """Lines where something begins or ends: tiles, and the overlaps' middles."""
    cut = spans(length, side, OVERLAP, 16)
    return sorted({edge for span in cut for edge in (span.start, span.stop, span.own.stop)} - {0, length})


def largest_step(picture: NDArray[np.float64], side: int) -> float:
    """Of all borders the largest mean gradient across one, by the median of those of the lines around it."""
    steps = []
    for axis in (0, 1):
        gradient = np.abs(np.diff(picture, axis=axis)).mean(axis=(1 - axis, *range(2, picture.ndim)))
        for border in borders(picture.shape[axis], side):
            around = np.r_[gradient[border - 1 - AROUND : border - 1], gradient[border : border + AROUND]]
            steps.append(gradient[border - 1] / np.median(around))
    return float(max(steps))


def differences(data: Path, sides: list[int]) -> Iterator[dict[str, Any]]:
    infrared, visible = (mosaic(data, kind, HEIGHT, WIDTH) for kind in (0, 1))
    disturbed = infrared + np.random.default_rng(0).normal(0, NOISE, infrared.shape)
    prior = load_prior()
    noisy = np.rint(disturbed.clip(0, 255)).astype(np.uint8)

    def fused(source: NDArray[np.uint8], steps: int, tile: Any) -> NDArray[np.float64]:
        result = fuse(source, visible, prior=prior, task="infrared", steps=steps, tile=tile)
        return np.asarray(result.to_array()).astype(np.float64)

    for name, source, steps in (("noisy", noisy, 0), ("as it is", infrared, FORMS["ddfm"].steps)):
        whole = fused(source, steps, "off")
        for side in sides:
            tiled = fused(source, steps, side)
            difference = np.abs(tiled - whole)
            yield {
                "pair": f"{HEIGHT}x{WIDTH}, {name}",
                "steps": steps,
                "tile": side,
                "mean difference": round(float(difference.mean()), 4),
                "largest difference": float(difference.max()),
                "largest step at a border, in tiles": round(largest_step(tiled, side), 3),
                "in one piece": round(largest_step(whole, side), 3),
            }


def memory(data: Path, side: int, steps: list[str], threads: int) -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        sources = [save(Path(folder) / f"{kind}.png", mosaic(data, kind, side, side)) for kind in (0, 1)]
        for number in steps:
            options = ["--task", "infrared"] + ([] if number == "default" else ["--steps", number])
            taken = fused_in_a_fresh_process(sources, Path(folder) / "fused.png", options, threads)
            yield {
                "pair": f"{side}x{side}",
                "steps": number,
                "peak resident memory, GiB": round(taken.peak / 2**30, 2),
                "seconds": round(taken.seconds),
                "threads": threads,
            }


def main() -> None:
    parser = script_parser(__doc__, "large.json", data=True, parts=("memory", "differences"))
    parser.add_argument("--steps", nargs="+", default=["0", "1"])
    parser.add_argument("--tiles", nargs="+", type=int, default=[1024, 512, 256])
    parser.add_argument("--side", type=int, default=8192)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    parts = {
        "memory": lambda: list(memory(arguments.data, arguments.side, arguments.steps, arguments.threads)),
        "differences": lambda: list(differences(arguments.data, arguments.tiles)),
    }
    measure_parts(parts, arguments.output, arguments.only)


if __name__ == "__main__":
    main()
