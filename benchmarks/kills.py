"""Kill a worker, a node and the driver of a folder run on Ray, and see what is there in the end.

    python benchmarks/kills.py [--pairs N]

N pairs of 32x32 are drawn and fused with `--steps 0` by `--engine ray` on a cluster of two nodes on
loopback, with authentication. At a sixth of the pairs a worker is killed, at a third the second node's
raylet, at a half the driver; then the command is given again.

Checked: every output is there once, has the bytes that `--engine local` gives, and no output that was there
was ever written anew (its inode, looked at all the time).
Written to results/kills.json.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import script_parser, write_result
from PIL import Image
from ray_cluster import HOST, PATIENCE, RayCluster, free_port, kill, ray_cluster

SIDE = 32  # pixels
OPTIONS = ("--steps", "0", "--noise", "off", "--task", "infrared", "--device", "cpu")
LOOK = 0.2  # seconds between looks at the outputs


def draw_pairs(folder: Path, count: int, side: int = SIDE) -> tuple[Path, Path]:
    """Folders a and b with so many pairs, each of its own noise on a slope."""
    rng = np.random.default_rng(count)
    slope = np.linspace(0, 180, side)[:, None]
    for name, channels in (("a", 1), ("b", 3)):
        (folder / name).mkdir(parents=True)
        for k in range(count):
            noise = rng.integers(0, 75, (side, side, channels))
            drawn = (slope[..., None] + noise).astype(np.uint8)
            Image.fromarray(drawn[..., 0] if channels == 1 else drawn).save(folder / name / f"{k:05}.png")
    return folder / "a", folder / "b"


class Driver:
    """The command on a cluster, as a process, whose numbers are read from its page."""

    def __init__(self, cluster: RayCluster, sources: tuple[Path, Path], output: Path, log: Path) -> None:
        self.port, self.log = free_port(), log
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ddfm.cli", "fuse", *map(str, sources), "-o", str(output), *OPTIONS,
                 "--engine", "ray", "--address", cluster.address, "--metrics-port", str(self.port)],
                env=cluster.environment, stdout=file, stderr=file,
            )  # fmt: skip

    def numbers(self) -> dict[str, float]:
        """What the page shows now; empty while there is none."""
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self.port}/metrics", timeout=5) as page:
                lines = page.read().decode().splitlines()
        except OSError:
            return {}
        rows = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, value in rows}

    def fused(self) -> float:
        """Pairs that were fused so far."""
        return self.numbers().get('ddfm_pairs_total{state="fused"}', 0)

    def workers(self) -> list[int]:
        """Process ids of the workers that have fused something."""
        found = (re.search(r'ddfm_worker_pairs_total\{worker="\w+/(\d+)"\}', name) for name in self.numbers())
        return [int(match[1]) for match in found if match]


class Lookout:
    """Look at the outputs again and again, and remember the inodes that each name has had."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.inodes: dict[str, set[int]] = defaultdict(set)

    def look(self) -> None:
        for path in self.output.glob("*.png"):
            self.inodes[path.name].add(path.stat().st_ino)

    def until(self, reached: Callable[[], bool], driver: Driver) -> None:
        """Look until something is so. Raises RuntimeError if the driver ends before, or it takes too long."""
        end = time.monotonic() + 5 * PATIENCE
        while not reached():
            self.look()
            if driver.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(driver.log.read_text()[-2000:])
            time.sleep(LOOK)


def kills(cluster: RayCluster, sources: tuple[Path, Path], output: Path, pairs: int) -> dict[str, Any]:
    """Run and kill as the docstring says; what was seen."""
    log, lookout = output.with_suffix(".log"), Lookout(output)
    start = time.monotonic()
    driver = Driver(cluster, sources, output, log)
    try:
        lookout.until(lambda: driver.fused() >= pairs / 6 and len(driver.workers()) > 1, driver)
        kill(driver.workers()[0])
        lookout.until(lambda: driver.fused() >= pairs / 3, driver)
        kill(cluster.nodes[1])
        lookout.until(lambda: driver.fused() >= pairs / 2, driver)
        before = driver.numbers()
    finally:
        driver.process.kill()
        driver.process.wait()
    lookout.look()
    there = len(lookout.inodes)
    again = Driver(cluster, sources, output, log)
    try:
        while again.process.poll() is None:
            lookout.look()
            time.sleep(LOOK)
    finally:
        again.process.kill()
        again.process.wait()
    lookout.look()
    return {
        "pairs": pairs,
        "pairs whose worker was lost": before["ddfm_lost_pairs_total"],
        "outputs when the driver was killed": there,
        "outputs in the end": len(lookout.inodes),
        "outputs written twice": sum(len(inodes) > 1 for inodes in lookout.inodes.values()),
        "status of the second run": again.process.returncode,
        "said by the second run": log.read_text().splitlines()[-1].split(": ", 1)[1],
        "seconds": round(time.monotonic() - start, 1),
    }


def local(sources: tuple[Path, Path], output: Path) -> None:
    """The same by threads of one process."""
    subprocess.run(
        [sys.executable, "-m", "ddfm.cli", "fuse", *sources, "-o", output, *OPTIONS],
        check=True,
        stdout=subprocess.DEVNULL,
    )


def differing(one: Path, other: Path) -> int:
    """How many names are in one folder only, or have other bytes there."""
    names = {path.name for folder in (one, other) for path in folder.glob("*.png")}
    read = [[(folder / name).read_bytes() for folder in (one, other) if (folder / name).exists()]
            for name in names]  # fmt: skip
    return sum(len(found) < 2 or found[0] != found[1] for found in read)


def measure(folder: Path, pairs: int) -> dict[str, Any]:
    """All of it, in a folder that is empty."""
    sources = draw_pairs(folder, pairs)
    with ray_cluster(2) as cluster:
        seen = kills(cluster, sources, folder / "ray", pairs)
    local(sources, folder / "local")
    return seen | {"outputs that differ from the local engine's": differing(folder / "ray", folder / "local")}


def main() -> None:
    parser = script_parser(__doc__, "kills.json")
    parser.add_argument("--pairs", type=int, default=2000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = measure(Path(folder), arguments.pairs)
    write_result(arguments.output, results)
    print(arguments.output.read_text(), end="")


if __name__ == "__main__":
    main()
