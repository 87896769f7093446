"""Peak memory of the command beside the formula that folder runs reckon with (`ddfm.jobs.memory`).

    python benchmarks/memory.py DATA [--sizes N ...] [--steps N ...]

DATA is the folder with misaligned/msrs; its pictures, enlarged and laid side by side, make sources of any
size, two or four, all grey or all in colour. `ddfm fuse` on files, noise left alone, one thread: by how much
resident memory grows, at most, in a process that has fused a tiny picture before. Steps other than 0 are
measured with a network in float32 and in bfloat16, pictures of 4096x4096, which take long, with two sources
only. Further rows have the other tasks, at 1024x1024.

Where the measurement is more than the formula, or less than 1 / 1.5 of it, and a side is of 512 pixels at
least, the script says so and exits with 1.

Merged into results/memory.json.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from common import read_json, script_parser, write_json
from pairs import fused_in_a_fresh_process, mosaic, save

from ddfm.jobs.memory import peak_bytes
from ddfm.likelihoods.forms import FORMS
from ddfm.priors.loading import load_prior

LEAST, SLACK = 512, 1.5  # of the sides that the formula is held to; of the formula by the measurement
LONG = 4096  # takes so long that not all is measured


class Case(NamedTuple):
    side: int
    sources: int
    colour: bool
    steps: int
    dtype: str = "float32"
    task: str = "infrared"


def cases(sizes: list[int], steps: list[int]) -> Iterator[Case]:
    for side in sizes:
        for count in steps:
            for sources in (2, 4) if side < LONG or not count else (2,):
                for colour in (False, True):
                    for dtype in ("float32", "bfloat16") if count else ("float32",):
                        yield Case(side, sources, colour, count, dtype)
    if 1024 in sizes:
        for task in ("medical", "exposure", "focus"):
            for count in steps:
                yield Case(1024, 2, True, count, task=task)


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


def main() -> None:
    parser = script_parser(__doc__, "memory.json", data=True)
    parser.add_argument("--sizes", nargs="+", type=int, default=[256, 512, 1024, 2048, LONG])
    parser.add_argument("--steps", nargs="+", type=int, default=[0, FORMS["ddfm"].steps])
    arguments = parser.parse_args()
    wanted = list(cases(arguments.sizes, arguments.steps))
    before = read_json(arguments.output, [])
    rows = [row for row in before if Case(*(row[name] for name in Case._fields)) not in wanted]
    for case in wanted:
        rows.append(measure(arguments.data, case))
        print(rows[-1], flush=True)
        write_json(arguments.output, rows)
    outside = [
        row for row in rows if row["side"] >= LEAST and not 1 / SLACK <= row["measured / formula"] <= 1
    ]
    for row in outside:
        print(f"outside 1 / {SLACK} to 1: {row}", file=sys.stderr)
    sys.exit(bool(outside))


if __name__ == "__main__":
    main()
