"""Simulate the scheduler of folder runs with many workers, stragglers and failures.

    python benchmarks scale_simulation

Discrete events by the rules of `ddfm.cluster.ray_engine`: each worker has one pair in work and one that
waits; one driver serves all, so many milliseconds a pair (results/engine.json); a worker that is lost gives
both pairs back, and another takes its place after a minute. Pairs take a lognormal time (sigma 0.25) of one
core's mean (results/folders.json), or less, as on a GPU; one in two hundred takes ten times as long. Workers
are lost at random, each once in so many hours on average.

For each case the share of the workers' time that went into pairs which were kept, into what was lost, and
into nothing: the mean of three seeds.

The arithmetic beside it: pairs a second, hours, dollars, bytes a second for clusters of some sizes, by the
measured time of a core, and for GPUs by a rate that is taken as given. Prices are assumed, not looked up.
So measure `engine` and `folders` before. Written to results/scale_simulation.json, and into the tables of
docs/use/folders.md.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Any

import numpy as np
from common import FOLDER, RESULTS, Tables, read_json, script_parser, write_result, write_tables

SPREAD, STRAGGLERS, SLOWER = 0.25, 1 / 200, 10.0
START = 60.0  # seconds from a loss until another worker is ready
AHEAD = 2
SEEDS = 3
MEAN = 500  # pairs of a worker
CORE_HOUR, GPU_HOUR = 0.04, 2.5  # dollars, assumed
PAGE = FOLDER.parent / "docs/use/folders.md"


@dataclass
class Case:
    """What is simulated: seconds a pair (mean), hours between a worker's losses."""

    workers: int
    pairs: int
    seconds: float
    hours: float
    driver: float


def times_of(case: Case, rng: np.random.Generator) -> list[float]:
    """The pairs' times; stragglers are part of the mean."""
    times = rng.lognormal(-(SPREAD**2) / 2, SPREAD, case.pairs)
    times[rng.random(case.pairs) < STRAGGLERS] *= SLOWER
    seconds: list[float] = (times * case.seconds / (1 + STRAGGLERS * (SLOWER - 1))).tolist()
    return seconds


class Simulation:
    """One run; events are (time, number, worker, generation of that worker)."""

    def __init__(self, case: Case, seed: int) -> None:
        self.case, self.rng = case, np.random.default_rng(seed)
        self.waiting = times_of(case, self.rng)
        # Of each worker: the pairs' seconds, and when the driver had sent them.
        self.queues: list[list[tuple[float, float]]] = [[] for _ in range(case.workers)]
        self.begun = [0.0] * case.workers
        self.generation = [0] * case.workers
        self.events: list[tuple[float, str, int, int]] = []
        self.free = 0.0  # when the driver has time
        self.useful = self.lost = 0.0
        self.done = self.losses = 0

    def run(self) -> dict[str, float]:
        """Until the last pair is done; shares of all workers' time."""
        mean = self.case.hours * 3600
        for worker in range(self.case.workers):
            self.hand_out(worker, 0.0)
            heapq.heappush(self.events, (self.rng.exponential(mean), "loss", worker, 0))
        now = 0.0
        while self.done < self.case.pairs:
            now, kind, worker, generation = heapq.heappop(self.events)
            if kind == "start":
                self.hand_out(worker, now)
            elif kind == "loss":
                self.lose(worker, now)
                heapq.heappush(self.events, (now + START + self.rng.exponential(mean), "loss", worker, 0))
            elif generation == self.generation[worker]:
                self.finish(worker, now)
        total = now * self.case.workers
        return {
            "useful": self.useful / total,
            "lost with workers": self.lost / total,
            "idle": 1 - (self.useful + self.lost) / total,
            "losses": self.losses,
            "hours": now / 3600,
        }

    def finish(self, worker: int, now: float) -> None:
        """A pair is done: the next one begins at once, the driver hears of it and sends another."""
        self.useful += self.queues[worker].pop(0)[0]
        self.done += 1
        if self.queues[worker]:
            self.begin(worker, now)
        self.hand_out(worker, now)

    def hand_out(self, worker: int, now: float) -> None:
        """Fill a worker's queue, each pair when the driver has time for it."""
        while self.waiting and len(self.queues[worker]) < AHEAD:
            self.free = max(self.free, now) + self.case.driver
            self.queues[worker].append((self.waiting.pop(), self.free))
            if len(self.queues[worker]) == 1:
                self.begin(worker, now)

    def begin(self, worker: int, now: float) -> None:
        """The first pair of a queue is begun as soon as it is there."""
        seconds, sent = self.queues[worker][0]
        self.begun[worker] = max(now, sent)
        event = (self.begun[worker] + seconds, "end", worker, self.generation[worker])
        heapq.heappush(self.events, event)

    def lose(self, worker: int, now: float) -> None:
        """A worker ends, with what it was at; another one starts."""
        self.losses += 1
        self.generation[worker] += 1
        if self.queues[worker]:
            self.lost += max(0.0, now - self.begun[worker])
        self.waiting += [seconds for seconds, _ in self.queues[worker]]
        self.queues[worker] = []
        heapq.heappush(self.events, (now + START, "start", worker, 0))


def simulated(case: Case) -> dict[str, Any]:
    """The mean over seeds."""
    rows = [Simulation(case, seed).run() for seed in range(SEEDS)]
    means = {name: round(float(np.mean([row[name] for row in rows])), 4) for name in rows[0]}
    return {
        "workers": case.workers,
        "pairs": case.pairs,
        "seconds a pair": case.seconds,
        "hours between losses of a worker": case.hours,
        "driver milliseconds a pair": round(1e3 * case.driver, 3),
        "pairs a second": round(case.pairs / means["hours"] / 3600, 1),
        **means,
    }


@dataclass
class Measured:
    """What engine.json and folders.json say of one pair: times in seconds, files in MB."""

    default: float
    without_steps: float
    driver: float
    driver_in_batches: float
    read: float
    written: float


def measured() -> Measured:
    """Read both results."""
    engine, folders = (read_json(RESULTS / name, {}) for name in ("engine.json", "folders.json"))
    without = next(row for row in folders["speed"] if row["steps"] == 0 and row["workers"] == 1)
    return Measured(
        folders["batches"][0]["processor seconds a pair"],
        1 / without["pairs a second"],
        engine["computing"][-1]["driver milliseconds a pair"] / 1e3,
        engine["batched"][-1]["driver milliseconds a pair"] / 1e3,
        folders["MB a pair"]["read"],
        folders["MB a pair"]["written"],
    )


def bounds(pair: Measured) -> list[dict[str, Any]]:
    """How many cores, or GPUs of 20 pairs a second, the driver of one run keeps busy."""
    return [
        {
            "what": name,
            "seconds a pair": round(seconds, 3),
            "workers": round(seconds / pair.driver),
            "workers in batches of 8": round(seconds / pair.driver_in_batches),
        }
        for name, seconds in (
            ("cores, default steps", pair.default),
            ("cores, `--steps 0`", pair.without_steps),
            ("GPUs of 20/s (given)", 0.05),
        )
    ]


def arithmetic(pair: Measured) -> list[dict[str, Any]]:
    """Clusters of some sizes; the driver bounds the rate of each run."""
    rows = []
    default, without_steps = 1 / pair.default, 1 / pair.without_steps
    for name, units, each, dollars in (
        ("1 core", 1, default, CORE_HOUR),
        ("1 core, --steps 0", 1, without_steps, CORE_HOUR),
        ("200 cores", 200, default, CORE_HOUR),
        ("1,000 cores", 1000, default, CORE_HOUR),
        ("1,000 cores, no bound", 1000, default, CORE_HOUR),
        ("8 GPUs of 20/s (given)", 8, 20.0, GPU_HOUR),
        ("64 GPUs of 20/s (given), no bound", 64, 20.0, GPU_HOUR),
    ):
        bound = float("inf") if "no bound" in name else 1 / pair.driver
        rate = min(units * each, bound)
        rows.append(
            {
                "what": name,
                "pairs a second": round(rate, 2),
                "hours for a million": round(1e6 / rate / 3600, 2),
                "days for a billion": round(1e9 / rate / 86400, 1),
                "dollars a million": round(units * dollars * 1e6 / rate / 3600, 2),
                "pairs a dollar": round(rate * 3600 / units / dollars),
                "MB/s read": round(rate * pair.read, 1),
                "MB/s written": round(rate * pair.written, 1),
            }
        )
    return rows


def tables(results: dict[str, Any]) -> Tables:
    """The rows of the page's tables."""
    return {
        "| one run keeps busy | s a pair | at most | with `--batch 8` |": [
            [row["what"], row["seconds a pair"], row["workers"], row["workers in batches of 8"]]
            for row in results["bounds"]
        ],
        "| | pairs/s | hours, 10^6 | days, 10^9 | $ a million | pairs a $ | MB/s read / written |": [
            [
                row["what"],
                f"{row['pairs a second']:,}",
                row["hours for a million"],
                f"{row['days for a billion']:,}",
                row["dollars a million"],
                f"{row['pairs a dollar']:,}",
                f"{row['MB/s read']} / {row['MB/s written']}",
            ]
            for row in results["arithmetic"]
        ],
        "| workers | s a pair | driver, ms | hours between losses | pairs/s | useful | lost | idle |": [
            [
                f"{row['workers']:,}",
                row["seconds a pair"],
                row["driver milliseconds a pair"],
                f"{row['hours between losses of a worker']:g}",
                row["pairs a second"],
                *(f"{row['useful']:.1%}", f"{row['lost with workers']:.2%}", f"{row['idle']:.1%}"),
            ]
            for row in results["cases"]
        ],
    }


def main() -> None:
    arguments = script_parser(__doc__, "scale_simulation.json").parse_args()
    pair = measured()
    core, driver = pair.default, pair.driver
    cases = [Case(workers, MEAN * workers, core, 24.0, driver) for workers in (10, 100, 250, 1000)]
    # What stragglers and losses cost by themselves: a driver that takes a tenth of the time.
    cases += [Case(1000, MEAN * 1000, core, hours, driver / 10) for hours in (24.0, 2.0, 0.5)]
    # GPUs of 20 pairs a second.
    cases += [Case(workers, 20 * MEAN * workers, 0.05, 24.0, driver) for workers in (8, 64)]
    results = {
        "dollars assumed": {"a core hour": CORE_HOUR, "a GPU hour": GPU_HOUR},
        "bounds": bounds(pair),
        "arithmetic": arithmetic(pair),
        "cases": [simulated(case) for case in cases],
    }
    write_result(arguments.output, results)
    write_tables(PAGE, tables(results), arguments.output)
    print(arguments.output.read_text(), end="")


if __name__ == "__main__":
    main()
