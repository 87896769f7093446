"""What the engine of folder runs costs: time of the driver, idle workers, memory by the number of pairs.

    python benchmarks engine [--only PART ...]

driver: processor time of the driver a pair, with work that is none: listing, record, files looked at.

waiting, computing, batched, pictures: one and two workers on Ray, in turn. A pair waits 0.25 s without
computing, so that two cores that others use as well do not decide; pairs of 32x32 that compute; the same
handed out eight at a time; pairs of 512x512.
The share of the workers' time between the first and the last pair that went into pairs ("busy") says what the
engine leaves idle.

memory: highest resident memory of the driver with 10^3 to 10^6 listed pairs, each in a fresh process, listed
by a generator, with work that is none.

Written to results/engine.json, and into the tables of docs/use/folders.md.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from common import FOLDER, Tables, measure_parts, script_parser, write_tables
from kills import draw_pairs
from ray_cluster import ray_cluster

from ddfm.fusion.options import Options
from ddfm.fusion.pipeline import Fusion
from ddfm.jobs.folders import Run, Watch, fuse_folders
from ddfm.jobs.listing import Listing
from ddfm.jobs.manifest import Outcome
from ddfm.jobs.work import Item, Job, Progress, Targets
from ddfm.places.base import Entry, Held
from ddfm.sampling.loop import sample

PAIRS, ROUNDS = 2000, 3
WAIT = 0.25  # seconds
KINDS = {
    "waiting": (80, 32),
    "computing": (300, 32),
    "batched": (300, 32),
    "pictures": (60, 512),
}  # pairs, side
LISTED = (1000, 10_000, 100_000, 1_000_000)
PAGE = FOLDER.parent / "docs/use/folders.md"
PAIRS_THAT = {
    "waiting": "wait 0.25 s, then compute",
    "pictures": "compute (512x512, `--steps 0`)",
    "computing": "compute (32x32, `--steps 0`)",
    "batched": "the same, eight at a time",
}
OPTIONS = Options(steps=0, noise="off", task="infrared", device="cpu")


class Nothing:
    """An engine whose work is none."""

    batch = 1

    def __init__(self) -> None:
        self.items: list[Item] = []

    def start(
        self, job: Job, fusion: Fusion, batch: int | None, progress: Callable[[Progress], None]
    ) -> None:
        return

    def room(self) -> bool:
        return len(self.items) < 8

    def submit(self, items: Sequence[Item]) -> None:
        self.items += items

    def ready(self) -> int:
        return 1

    def busy(self) -> bool:
        return bool(self.items)

    def wait(self, seconds: float, more: bool) -> list[Outcome]:
        done, self.items = self.items, []
        settings = {"task": "infrared", "why": ""}
        return [Outcome(item.group, settings, inputs="0" * 64, seconds=0.1, worker="nobody") for item in done]

    def stop(self) -> None:
        return


@dataclass
class Names:
    """A place of so many pictures that are names alone; a place of results that takes none."""

    folder: Path
    count: int

    @property
    def name(self) -> str:
        return "names"

    whole_name = name

    def listing(self) -> Iterator[Entry]:
        # Not in order, as systems list: 7919 is prime to the counts.
        return (Entry(Path(f"{7919 * k % self.count:08}.png"), "1000 0") for k in range(self.count))

    @contextmanager
    def reading(self, path: Path) -> Iterator[Path]:
        yield path

    @contextmanager
    def writing(self) -> Iterator[Path]:
        yield self.folder

    def prepare(self) -> None:
        return

    @contextmanager
    def holding(self, name: str) -> Iterator[Held]:
        yield Held(self.folder / name)

    def head(self, name: str) -> bytes:
        return b""

    def stamp(self, name: str) -> str:
        return ""


def listed(count: int) -> dict[str, Any]:
    """Plan, hand out and put down so many pairs; in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        place = Names(Path(folder), count)
        fusion = Fusion(OPTIONS)
        job = Job((place, place), Targets(place), (None, None), OPTIONS, "natural", fusion.chosen([]))
        listing = Listing(job.sources)
        start, busy = time.perf_counter(), time.process_time()
        result = Run(listing, listing.rounds(), job, fusion, False, Watch()).by(Nothing(), None)
        assert result.fused == count
        return {
            "pairs": count,
            "peak MiB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
            "processor milliseconds a pair": round(1e3 * (time.process_time() - busy) / count, 3),
            "seconds": round(time.perf_counter() - start, 1),
            "record MiB": round(sum(p.stat().st_size for p in Path(folder).iterdir()) / 2**20, 1),
        }


def in_fresh_process(what: str, *arguments: object, environment: dict[str, str] | None = None) -> Any:
    """What a function of this module gives, called in a process of its own."""
    code = "import engine, json, sys\n"
    code += "print(json.dumps(getattr(engine, sys.argv[1])(*json.loads(sys.argv[2]))))"
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", code, what, json.dumps(arguments)],
        env={**(environment or os.environ), "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def local_driver(a: str, b: str, out: str) -> dict[str, float]:
    """Processor time a pair of the driver alone, with files that are there and work that is none."""
    start, busy = time.perf_counter(), time.process_time()
    result = fuse_folders([a, b], out, OPTIONS, engine=Nothing())
    pairs = result.fused
    return {
        "pairs": pairs,
        "driver milliseconds a pair": round(1e3 * (time.process_time() - busy) / pairs, 3),
        "wall milliseconds a pair": round(1e3 * (time.perf_counter() - start) / pairs, 3),
    }


def waiting_sample(*arguments: Any, **options: Any) -> Any:
    """Wait, then sample."""
    time.sleep(WAIT)
    return sample(*arguments, **options)


def on_ray(a: str, b: str, out: str, address: str, workers: int, kind: str) -> dict[str, float]:
    """A run on Ray: what the driver took, and how busy its workers were, without their start.

    Args:
        kind: of the work, a name in `KINDS`.
    """

    import ray

    from ddfm.cluster.ray_engine import RayEngine

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    options = OPTIONS.but(steps=1, sampler=waiting_sample) if kind == "waiting" else OPTIONS
    moments: list[float] = []
    busy = [0.0]

    def progress(progress: Progress) -> None:
        if not moments:
            busy[0] = time.process_time()
        if progress.done and (not moments or progress.done > count[0]):
            moments.append(time.perf_counter())
            count[0] = progress.done

    count = [0]
    result = fuse_folders(
        [a, b],
        out,
        options,
        batch=8 if kind == "batched" else 1,
        engine=RayEngine(address, workers),
        watch=Watch(progress=progress),
    )
    ended = time.process_time()
    seconds = moments[-1] - moments[0]
    return {
        "pairs": result.fused,
        "pairs a second": (result.fused - 1) / seconds,
        "busy": result.numbers.seconds / seconds / workers,
        "driver milliseconds a pair": 1e3 * (ended - busy[0]) / result.fused,
    }


def runs_on_ray(kind: str) -> list[dict[str, Any]]:
    """One and two workers in turn, the median of all rounds."""
    rounds: dict[int, list[dict[str, float]]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as name, ray_cluster(2) as cluster:
        folder = Path(name)
        a, b = draw_pairs(folder, *KINDS[kind])
        for n in range(ROUNDS):
            for workers in rounds:
                out = str(folder / f"{workers}-{n}")
                given = (str(a), str(b), out, cluster.address, workers, kind)
                seen = in_fresh_process("on_ray", *given, environment=cluster.environment)
                rounds[workers].append(seen)
                print(kind, workers, seen, flush=True)
    return [
        {"workers": workers}
        | {name: round(statistics.median(seen[name] for seen in found), 3) for name in found[0]}
        for workers, found in rounds.items()
    ]


def driver_alone() -> dict[str, float]:
    """The middle one of some runs without work."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        a, b = draw_pairs(folder, PAIRS)
        runs = [
            in_fresh_process("local_driver", str(a), str(b), str(folder / f"none-{n}")) for n in range(ROUNDS)
        ]
    ordered: list[dict[str, float]] = sorted(runs, key=lambda run: run["driver milliseconds a pair"])
    return ordered[ROUNDS // 2]


def tables(results: dict[str, Any]) -> Tables:
    """The rows of the page's tables."""
    workers = []
    for kind, name in PAIRS_THAT.items():
        one, two = results[kind]
        times = two["pairs a second"] / one["pairs a second"]
        workers.append(
            [
                name,
                f"{one['pairs a second']:.2f}",
                f"{two['pairs a second']:.2f}",
                f"{times:.2f}",
                f"{min(two['busy'], 1):.0%}",
                f"{two['driver milliseconds a pair']:.2f}",
            ]
        )
    memory = [
        [f"{row['pairs']:,}", row["peak MiB"], row["processor milliseconds a pair"], row["record MiB"]]
        for row in results["memory"]
    ]
    return {
        "| pairs that | one, pairs/s | two | times | workers' time in pairs | driver, ms a pair |": workers,
        "| pairs | peak, MiB | driver, ms a pair | record, MiB |": memory,
    }


def main() -> None:
    names = ("driver", *KINDS, "memory")
    parser = script_parser(__doc__, "engine.json", parts=names)
    parser.add_argument("--listed", type=int, default=LISTED[-1], help="most pairs to list")
    arguments = parser.parse_args()
    counts = [count for count in LISTED if count <= arguments.listed]
    parts: dict[str, Callable[[], object]] = {"driver": driver_alone}
    parts |= {kind: partial(runs_on_ray, kind) for kind in KINDS}
    parts["memory"] = lambda: [in_fresh_process("listed", count) for count in counts]

    def report(results: dict[str, Any]) -> None:
        if all(name in results for name in names):
            write_tables(PAGE, tables(results), arguments.output)

    facts = {"cores": os.cpu_count()}
    measure_parts(parts, arguments.output, arguments.only, facts=lambda: facts, report=report)


if __name__ == "__main__":
    main()
