"""Peak memory of the command beside the formula that folder runs reckon with (`ddfm.jobs.memory`).

    python benchmarks/memory.py DATA [--only SIDE ...]

DATA is the folder with misaligned/msrs; its pictures, enlarged and laid side by side, make sources of any
size, two or four, all grey or all in colour. `ddfm fuse` on files, noise left alone, one thread: by how much
resident memory grows, at most, in a process that has fused a tiny picture before. Steps other than 0 are
measured with a network in float32 and in bfloat16; pictures of 4096x4096, which take long, with two sources
only. Further rows have the other tasks, at 1024x1024.

Where the measurement is more than the formula, or less than 1 / 1.5 of it, and a side is of 512 pixels at
least, the script says so and exits with 1.

The parts are the sides. Written to results/memory.json.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from common import measure_parts, read_json, script_parser
from pairs import fused_in_a_fresh_process, mosaic, save

from ddfm.jobs.memory import peak_bytes
from ddfm.likelihoods.forms import FORMS
from ddfm.priors.loading import load_prior

LEAST, SLACK = 512, 1.5  # of the sides that the formula is held to; of the formula by the measurement
SIDES = (256, 512, 1024, 2048, 4096)
SIDE_OF_TASKS = 1024
LONG = 4096  # takes so long that not all is measured


class Case(NamedTuple):
    side: int
    sources: int
    colour: bool
    steps: int
    dtype: str = "float32"
    task: str = "infrared"


def cases(side: int) -> Iterator[Case]:
    all_steps = (0, FORMS["ddfm"].steps)
    for steps in all_steps:
        for sources in (2, 4) if side < LONG or not steps else (2,):
            for colour in (False, True):
                for dtype in ("float32", "bfloat16") if steps else ("float32",):
                    yield Case(side, sources, colour, steps, dtype)
    if side == SIDE_OF_TASKS:
        for task in ("medical", "exposure", "focus"):
            for steps in all_steps:
                yield Case(side, 2, True, steps, task=task)


def measure(data: Path, case: Case) -> dict[str, Any]:
    prior = load_prior().to("cpu", getattr(torch, case.dtype)).for_tiles("auto", case.side, case.side)
    with tempfile.TemporaryDirectory() as folder:
        sources = [
            save(
                Path(folder) / f"{k}.png",
                mosaic(data, k % 2, case.side, case.side, case.colour) // (1 + k // 2),
            )
            for k in range(case.sources)
        ]
        options = ["--noise", "off", "--task", case.task, "--steps", str(case.steps), "--dtype", case.dtype]
        taken = fused_in_a_fresh_process(sources, Path(folder) / "fused.png", options, threads=1)
    formula = peak_bytes(
        case.side,
        case.side,
        case.sources,
        case.sources if case.colour else 0,
        prior.evaluation_bytes(case.side, case.side) if case.steps else 0,
        case.task,
    )
    return {
        **case._asdict(),
        "measured, MiB": round(taken.grown / 2**20, 1),
        "formula, MiB": round(formula / 2**20, 1),
        "measured / formula": round(taken.grown / formula, 3),
    }


def measure_side(data: Path, side: int) -> list[dict[str, Any]]:
    rows = []
    for case in cases(side):
        rows.append(measure(data, case))
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    names = tuple(map(str, SIDES))
    arguments = script_parser(__doc__, "memory.json", data=True, parts=names).parse_args()
    measure_parts(
        {str(side): partial(measure_side, arguments.data, side) for side in SIDES},
        arguments.output,
        arguments.only,
    )
    rows = [row for name in names for row in read_json(arguments.output, {}).get(name, [])]
    outside = [
        row for row in rows if row["side"] >= LEAST and not 1 / SLACK <= row["measured / formula"] <= 1
    ]
    for row in outside:
        print(f"outside 1 / {SLACK} to 1: {row}", file=sys.stderr)
    sys.exit(bool(outside))


if __name__ == "__main__":
    main()
