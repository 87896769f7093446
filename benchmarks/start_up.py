"""How long one waits for the command to start, and for the first picture.

    python benchmarks/start_up.py

Every line is run in a fresh process, 15 times, the lines taking turns so that other work on the machine meets
all of them: seconds on the clock and of the processor, minimum, median and maximum. A first run, which
compiles the modules as pip does, is not counted. The pictures are the street of `ddfm demo`. What is imported
on the way to the network is listed by package, each without what it imports in turn (``python -X
importtime``, which itself takes time; the median of five). What the default steps cost beyond none is the
processor time of the two lines, run by run, and whether diffusers gets imported on the way. Written to
results/start_up.json.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from common import script_parser, write_result

from ddfm.demo.scenes import night

RUNS, IMPORT_RUNS = 15, 5
HEAVIEST = 8
NO_STEPS, STEPS = "ddfm fuse a.png b.png -o fused.png --steps 0", "ddfm fuse a.png b.png -o fused.png"
PYTHON = sys.executable
COMMAND = str(Path(PYTHON).with_name("ddfm"))
NAMED = ("torch", "torch._dynamo", "scipy.stats", "diffusers.models.unets.unet_2d", "ddfm.priors.diffusion")


def timed(command: Sequence[str]) -> tuple[float, float]:
    """Seconds on the clock and of the processor that a process takes."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def summary(seconds: Sequence[float]) -> list[float]:
    """Minimum, median, maximum."""
    return [round(value, 3) for value in (min(seconds), statistics.median(seconds), max(seconds))]


def imports(statement: str) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds of each package's own, and those of some modules with all that they import."""
    done = subprocess.run(
        [PYTHON, "-X", "importtime", "-c", statement], check=True, capture_output=True, text=True
    )
    own: dict[str, float] = defaultdict(float)
    whole = {}
    for line in done.stderr.splitlines():
        times, _, module = line.removeprefix("import time:").rpartition("|")
        alone, _, together = times.partition("|")
        if alone.strip().isdigit():
            own[module.strip().partition(".")[0]] += int(alone) / 1e6
            whole[module.strip()] = int(together) / 1e6
    return own, {name: whole[name] for name in NAMED if name in whole}


def median_imports(statement: str) -> dict[str, dict[str, float]]:
    runs = [imports(statement) for _ in range(IMPORT_RUNS)]
    own = {name: statistics.median(run[0][name] for run in runs) for name in runs[0][0]}
    heaviest = sorted(own, key=lambda name: -own[name])[:HEAVIEST]
    return {
        "own seconds by package": {name: round(own[name], 3) for name in heaviest},
        "seconds with what it imports": {
            name: round(statistics.median(run[1][name] for run in runs), 3) for name in runs[0][1]
        },
    }


def over(runs: Sequence[tuple[float, float]], base: Sequence[tuple[float, float]]) -> list[float]:
    """Processor time as a multiple of another line's, run by run: minimum, median, maximum."""
    return summary([run[1] / other[1] for run, other in zip(runs, base, strict=True)])


def imports_diffusers(command: Sequence[str]) -> bool:
    """Whether diffusers is among the modules when the command is done."""
    script = (
        "import sys\nfrom ddfm.cli import main\n"
        "try: main()\nfinally: print('diffusers' in sys.modules, file=sys.__stderr__)"
    )
    done = subprocess.run([PYTHON, "-c", script, *command[1:]], check=True, capture_output=True, text=True)
    return done.stderr.split()[-1] == "True"


def main() -> None:
    arguments = script_parser(__doc__, "start_up.json").parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package is compiled: pip does that
    with tempfile.TemporaryDirectory() as folder:
        lines = {
            "python -c pass": [PYTHON, "-c", "pass"],
            "import ddfm": [PYTHON, "-c", "import ddfm"],
            "ddfm --version": [COMMAND, "--version"],
            "ddfm --help": [COMMAND, "--help"],
            "ddfm fuse --help": [COMMAND, "fuse", "--help"],
        }
        scene = night()
        files = [str(Path(folder, f"{name}.png")) for name in ("a", "b", "fused")]
        scene.a.save(files[0])
        scene.b.save(files[1])
        fuse = [COMMAND, "fuse", *files[:2], "-o", files[2]]
        lines[NO_STEPS] = [*fuse, "--steps", "0"]
        lines[STEPS] = fuse
        for command in lines.values():
            timed(command)
        seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in lines}
        for number in range(RUNS):
            for name, command in lines.items():
                seconds[name].append(timed(command))
            print(f"run {number + 1} of {RUNS}", flush=True)
        diffusers = imports_diffusers(fuse)
    table: dict[str, Any] = {
        "threads": torch.get_num_threads(),
        "processors": len(os.sched_getaffinity(0)),
        "runs": RUNS,
        "size": "x".join(map(str, scene.a.size[::-1])),
        "seconds (minimum, median, maximum)": {
            name: {"wall": summary([w for w, _ in runs]), "processor": summary([p for _, p in runs])}
            for name, runs in seconds.items()
        },
        "processor time of the default steps over none": over(seconds[STEPS], seconds[NO_STEPS]),
        "the default steps import diffusers": diffusers,
        "imports of the command": median_imports("import ddfm.cli"),
        "imports for steps 0": median_imports("import ddfm.fusion.pipeline"),
        "imports for the network": median_imports(
            "import ddfm.fusion.pipeline, ddfm.priors.loading, ddfm.sampling.loop"
        ),
    }
    write_result(arguments.output, table)
    print(arguments.output.read_text(), end="")


if __name__ == "__main__":
    main()
