"""How fast folders are fused, and how busy that keeps the machine.

    python benchmarks/folders.py DATA [--pairs N] [--runs N] [--device NAME]

DATA is the folder with misaligned/msrs: pairs of 480x640, infrared in grey and visible in colour, PNG in and
PNG out, as often as it takes to have N pairs. `ddfm fuse` on the folders in a fresh process, without the time
that loading takes: pairs a second, and processor time by wall time and cores, with one worker on one core and
with as many as there are cores, without steps and with the default ones; one run of each in turn, the median
of all rounds.

computing: the same without reading and writing: pictures that were read before, results that are dropped.

batches: the processor time of a pair on one thread, with batches of 1, 4 and 8.

MB a pair: of the sources' files, and of the outputs with default steps.

Written to results/folders.json, and into the tables of docs/reference/speed.md.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch
from common import FOLDER, Tables, script_parser, write_result, write_tables

from ddfm.devices import pick_dtype
from ddfm.formats.pictures import read_image
from ddfm.fusion.pipeline import fuse
from ddfm.jobs.matching import Group, match_folders
from ddfm.likelihoods.forms import FORMS
from ddfm.priors.loading import load_prior
from ddfm.threads import use_threads

BATCHES = (1, 4, 8)
PAGE = FOLDER.parent / "docs/reference/speed.md"
# The first run, of one pair, loads what is loaded once.
MEASURED = """
import os, sys, time
from ddfm.cli import main

def run(arguments):
    sys.argv = ["ddfm", "fuse", *arguments]
    try:
        main()
    except SystemExit as finished:
        if finished.code:
            raise

_, one, many, *options = sys.argv
run([one + "/ir", one + "/vi", "-o", one + "/fused", "--overwrite", *options])
start, busy = time.perf_counter(), time.process_time()
run([many + "/ir", many + "/vi", "-o", many + "/fused", "--overwrite", *options])
print("measured", time.perf_counter() - start, time.process_time() - busy)
"""


class Times(NamedTuple):
    """Of all pairs: seconds that passed, and seconds of all cores together."""

    wall: float
    cores: float


def fused(one: Path, many: Path, threads: int, options: Sequence[str]) -> Times:
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(one), str(many), *options],
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        capture_output=True,
        text=True,
        check=True,
    )
    return Times(*map(float, done.stdout.split("measured ")[1].split()))


def copied(data: Path, folder: Path, count: int) -> Path:
    """A folder with that many pairs in ir and vi."""
    groups, _ = match_folders(data / "misaligned/msrs/ir", data / "misaligned/msrs/vi")
    for name in ("ir", "vi"):
        (folder / name).mkdir(parents=True)
    for n in range(count):
        for name, path in zip(("ir", "vi"), groups[n % len(groups)].files, strict=True):
            shutil.copy(path, folder / name / f"{n:04}{path.suffix}")
    return folder


def speed(one: Path, many: Path, pairs: int, runs: int, steps: int, device: str) -> list[dict[str, Any]]:
    workers = sorted({1, os.cpu_count() or 1})
    options = ["--task", "infrared", "--steps", str(steps), "--device", device]
    rounds = [{count: fused(one, many, count, options) for count in workers} for _ in range(runs)]
    return [
        {
            "steps": steps,
            "workers": count,
            "pairs a second": round(pairs / statistics.median(times[count].wall for times in rounds), 2),
            "cores busy": round(
                statistics.median(times[count].cores / times[count].wall / count for times in rounds), 3
            ),
        }
        for count in workers
    ]


def computed(data: Path, pairs: int, workers: int, steps: int) -> Times:
    """Pairs that were read before, by the workers that a folder run has; to be called in a fresh process."""
    torch.set_num_threads(1)
    groups, _ = match_folders(data / "misaligned/msrs/ir", data / "misaligned/msrs/vi")
    read = {group: [read_image(path) for path in group.files] for group in groups}
    prior = load_prior().to("cpu", pick_dtype("auto", torch.device("cpu"), warm=True))

    def work(group: Group) -> None:
        fuse(*read[group], prior=prior, task="infrared", steps=steps)

    def all_of(todo: Sequence[Group]) -> None:
        with ThreadPoolExecutor(workers, initializer=lambda: use_threads(1)) as pool:
            list(pool.map(work, todo))

    all_of(groups[:workers])
    start, busy = time.perf_counter(), time.process_time()
    all_of([groups[n % len(groups)] for n in range(pairs)])
    return Times(time.perf_counter() - start, time.process_time() - busy)


def computing(data: Path, pairs: int, runs: int, steps: int) -> list[dict[str, Any]]:
    workers = sorted({1, os.cpu_count() or 1})
    fresh = multiprocessing.get_context("spawn")
    seconds: dict[int, list[float]] = defaultdict(list)
    for _ in range(runs):
        for count in workers:
            with fresh.Pool(1) as pool:
                seconds[count].append(pool.apply(computed, (data, pairs, count, steps)).wall)
    return [
        {
            "steps": steps,
            "workers": count,
            "pairs a second": round(pairs / statistics.median(seconds[count]), 2),
        }
        for count in workers
    ]


def batches(one: Path, many: Path, pairs: int, runs: int, steps: int) -> list[dict[str, Any]]:
    options = ["--task", "infrared", "--steps", str(steps), "--device", "cpu"]
    rounds = [
        {size: fused(one, many, 1, [*options, "--batch", str(size)]).cores for size in BATCHES}
        for _ in range(runs)
    ]
    return [
        {
            "steps": steps,
            "batch": size,
            "processor seconds a pair": round(statistics.median(times[size] for times in rounds) / pairs, 3),
        }
        for size in BATCHES
    ]


def megabytes(many: Path, pairs: int) -> dict[str, float]:
    """Of a pair's sources, and of its output, when the folder was fused last."""

    def mean(*names: str) -> float:
        files = [path for name in names for path in (many / name).glob("*.png")]
        return round(sum(path.stat().st_size for path in files) / pairs / 1e6, 3)

    return {"read": mean("ir", "vi"), "written": mean("fused")}


def tables(results: dict[str, Any]) -> Tables:
    """The rows of the page's tables; for folders on the CPU."""
    default = FORMS["ddfm"].steps

    def of(part: str, steps: int) -> list[dict[str, Any]]:
        return [row for row in results[part] if row["steps"] == steps]

    rows = []
    for name, steps in (("default steps", default), ("`--steps 0`", 0)):
        one, *_, most = of("speed", steps)
        computing = of("computing", steps)[-1]["pairs a second"]
        rates = [f"{rate:.2f}" for rate in (one["pairs a second"], most["pairs a second"])]
        rows.append([name, *rates, f"{most['cores busy']:.0%}", f"{computing:.2f}"])
    return {
        "| | one worker | two | cores busy | two, without reading and writing |": rows,
        "| pairs in a batch | seconds of the processor a pair |": [
            [row["batch"], row["processor seconds a pair"]] for row in results["batches"]
        ],
    }


def main() -> None:
    parser = script_parser(__doc__, "folders.json", data=True)
    parser.add_argument("--pairs", type=int, default=32)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    pairs, runs, default = arguments.pairs, arguments.runs, FORMS["ddfm"].steps
    results: dict[str, Any] = {"pairs": pairs, "cores": os.cpu_count(), "device": arguments.device}
    with tempfile.TemporaryDirectory() as folder:
        one, many = (copied(arguments.data, Path(folder) / str(n), n) for n in (1, pairs))
        results["speed"] = [
            row for steps in (0, default) for row in speed(one, many, pairs, runs, steps, arguments.device)
        ]
        if arguments.device == "cpu":
            results["computing"] = [
                row for steps in (0, default) for row in computing(arguments.data, pairs, runs, steps)
            ]
            results["batches"] = batches(one, many, pairs, runs, default)
        results["MB a pair"] = megabytes(many, pairs)
    write_result(arguments.output, results)
    if arguments.device == "cpu":
        write_tables(PAGE, tables(results), arguments.output)
    print(arguments.output.read_text(), end="")


if __name__ == "__main__":
    main()
