"""How long a fusion takes alone, and beside as many busy processes as there are cores.

    python benchmarks/busy.py [--aside]

One pair of 480 x 640 (the street of `ddfm demo`) by the command and by `ddfm.fuse` in a process that runs
already, and a folder of six such pairs by the command: seconds on the clock and of the processor, the median
of some runs. "before" is the same without `ddfm.threads`: threads that wait for each other always spin.
With --aside the load that others bring is not looked at in the runs alone: for a machine that others use,
where these runs go first by their priority. Written to results/busy.json.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import torch
from common import script_parser, write_result

from ddfm import cores, threads
from ddfm.cores import Reading
from ddfm.demo.scenes import night

RUNS, PAIRS = 5, 6
CORES = len(cores.allowed_cores())
Seconds = tuple[float, float]  # on the clock, of the processor


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Within it, so many processes compute without end."""
    companions = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for companion in companions:
            companion.kill()
            companion.wait()


def read_aside(read: Callable[[], Reading] = cores.read) -> Reading:
    """Read the clocks as if nobody else used the cores."""
    now = read()
    total = now.clock * now.cores
    return now._replace(total=total, idle=total - now.own)


def child(kind: str, way: str, *arguments: str) -> None:
    """Do one kind of run in this process, in one of the ways."""
    if way == "before":
        threads.load.free_cores = lambda: float("inf")  # type: ignore[method-assign]
    if way == "aside":
        threads.load.read = read_aside
    if kind == "command":
        from ddfm.cli import main as command

        with patch.object(sys, "argv", ["ddfm", "fuse", *arguments]):
            command()
    from ddfm import fuse

    for run in range(RUNS + 1):
        clock, own = time.perf_counter(), time.process_time()
        fuse(*arguments)
        if run:  # the first one loads the network
            print(time.perf_counter() - clock, time.process_time() - own)


def python(*arguments: str) -> str:
    """Run this file as a child; what it printed."""
    return subprocess.run(
        [sys.executable, __file__, "child", *arguments], check=True, text=True, stdout=subprocess.PIPE
    ).stdout


def commands(runs: int, way: str, *arguments: str) -> list[Seconds]:
    """Time the command, a new process each time."""
    seconds = []
    for _ in range(runs):
        before, clock = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        python("command", way, *arguments)
        wall, after = time.perf_counter() - clock, resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append((wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime))
    return seconds


def calls(way: str, *sources: str) -> list[Seconds]:
    """Time `ddfm.fuse` in a process that runs already."""
    lines = [line.split() for line in python("python", way, *sources).splitlines()]
    return [(float(wall), float(processor)) for wall, processor in lines]


def median(seconds: Sequence[Seconds]) -> dict[str, float]:
    wall, processor = (round(statistics.median(column), 2) for column in zip(*seconds, strict=True))
    return {"wall": wall, "processor": processor}


def measure(way: str, folder: Path) -> dict[str, dict[str, float]]:
    pair = [str(folder / side / "0.png") for side in "ab"]
    sides = [str(folder / side) for side in "ab"]
    return {
        "command": median(commands(3, way, *pair, "-o", str(folder / "fused.png"))),
        "python": median(calls(way, *pair)),
        "folder": median(commands(2, way, *sides, "-o", str(folder / "fused"), "--overwrite")),
    }


def main() -> None:
    parser = script_parser(__doc__, "busy.json")
    parser.add_argument("--aside", action="store_true", help="do not look at others' load in the runs alone")
    arguments = parser.parse_args()
    aside = arguments.aside
    table = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scene = night()
        for side, picture in (("a", scene.a), ("b", scene.b)):
            (folder / side).mkdir()
            for number in range(PAIRS):
                picture.save(folder / side / f"{number}.png")
        for way in ("before", "after"):
            alone = measure("aside" if aside and way == "after" else way, folder)
            with busy(CORES):
                beside = measure(way, folder)
            table[way] = {
                kind: {
                    "alone": alone[kind],
                    "busy": beside[kind],
                    "times as long": round(beside[kind]["wall"] / alone[kind]["wall"], 2),
                }
                for kind in alone
            }
    result = {
        "cores": CORES,
        "busy processes": CORES,
        "threads": torch.get_num_threads(),
        "size": "x".join(map(str, scene.a.size[::-1])),
        "pairs in the folder": PAIRS,
        "others on the machine": aside,
        "niceness": os.nice(0),
        "seconds": table,
    }
    write_result(arguments.output, result)
    print(arguments.output.read_text(), end="")


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        child(*sys.argv[2:])
    else:
        main()
