"""Folder runs on a Ray cluster of two nodes on loopback, with authentication: what a loss costs."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from kills import OPTIONS, differing, draw_pairs, kills, local
from PIL import Image
from ray_cluster import PATIENCE, RayCluster, ray_cluster

from tests.conftest import Command, picture, seen

pytest.importorskip("ray")
pytestmark = pytest.mark.slow
PAIRS = 160
# The sampler ends the process that it is in at the one pair of another width.
ENDING = """
import os, signal, sys
import ray.cloudpickle
from ddfm.cluster.ray_engine import RayEngine
from ddfm.fusion.options import Options
from ddfm.jobs.folders import fuse_folders
from ddfm.sampling.loop import sample

def ending(prior, likelihood, f, timesteps, **options):
    if f.shape[-1] == 48:
        os.kill(os.getpid(), signal.SIGSEGV)
    return sample(prior, likelihood, f, timesteps, **options)

options = Options(steps=1, sampler=ending, noise="off", task="infrared", device="cpu")
result = fuse_folders(sys.argv[1:3], sys.argv[3], options, batch=4, engine=RayEngine(sys.argv[4]))
print(result.fused + result.kept, [outcome.group.stem for outcome in result.failed], result.numbers.lost)
print(result.failed[0].failure)
"""
# The sampler waits until two workers are there; at the one pair of another width, until it is told to go on.
SCALING = """
import os, sys, time
from pathlib import Path
import ray.cloudpickle
from ddfm.cluster import ray_engine
from ddfm.fusion.options import Options
from ddfm.jobs.folders import fuse_folders
from ddfm.sampling.loop import sample

ray_engine.LOOK, ray_engine.IDLE = 1.0, 3.0
workers, go_on = Path(sys.argv[5]), Path(sys.argv[6])

def waiting(prior, likelihood, f, timesteps, **options):
    (workers / str(os.getpid())).touch()
    while len(list(workers.iterdir())) < 2 or (f.shape[-1] == 48 and not go_on.exists()):
        time.sleep(0.05)
    return sample(prior, likelihood, f, timesteps, **options)

options = Options(steps=1, sampler=waiting, noise="off", task="infrared", device="cpu")
engine = ray_engine.RayEngine(sys.argv[4])
result = fuse_folders(sys.argv[1:3], sys.argv[3], options, engine=engine)
print(result.fused, result.numbers.lost, result.numbers.retried)
"""


@pytest.fixture
def cluster() -> Iterator[RayCluster]:
    with ray_cluster(2) as started:
        yield started


def test_kills(cluster: RayCluster, tmp_path: Path) -> None:
    """A worker, a node and the driver; every output is there once, and has the local engine's bytes."""
    sources = draw_pairs(tmp_path, PAIRS)
    found = kills(cluster, sources, tmp_path / "ray", PAIRS)
    assert found["status of the second run"] == 0
    assert found["outputs in the end"] == PAIRS
    assert PAIRS / 2 <= found["outputs when the driver was killed"] < PAIRS
    assert found["outputs written twice"] == 0
    fused, kept = map(int, re.findall(r"(\d+) fused, (\d+) kept", found["said by the second run"])[0])
    assert fused + kept == PAIRS
    # What was there is kept. So is what the workers, which outlive the driver by a moment, wrote later.
    assert 0 <= kept - found["outputs when the driver was killed"] <= 4
    local(sources, tmp_path / "local")
    assert differing(tmp_path / "ray", tmp_path / "local") == 0


def test_a_pair_that_ends_its_worker(cluster: RayCluster, tmp_path: Path) -> None:
    """Twice; then it is set aside, and all others are done."""
    sources = draw_pairs(tmp_path, 20)
    for folder in sources:
        Image.fromarray(picture(32, 48, 1, np.uint8)).save(folder / "00007.png")
    done = subprocess.run(
        [sys.executable, "-c", ENDING, *sources, tmp_path / "out", cluster.address],
        env=cluster.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    counts, failure = done.stdout.splitlines()[-2:]  # Ray says something, too
    assert counts.startswith("19 ['00007'] ")
    assert "ended the worker on" in failure
    assert len(seen(tmp_path / "out")) == 19


def test_a_cluster_that_grows_and_shrinks(tmp_path: Path) -> None:
    """A head without processors: nodes come for a run, and go when they have no more work."""
    sources = draw_pairs(tmp_path, 20)
    for folder in sources:
        Image.fromarray(picture(32, 48, 1, np.uint8)).save(folder / "00000.png")
    workers, go_on = tmp_path / "workers", tmp_path / "go on"
    workers.mkdir()
    with ray_cluster(0) as cluster:
        cluster.start_autoscaling(2, idle=3)
        (head,) = cluster.raylets()
        arguments: list[str | Path] = [*sources, tmp_path / "out", cluster.address, workers, go_on]
        run = subprocess.Popen(
            [sys.executable, "-c", SCALING, *arguments],
            env=cluster.environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            until(lambda: len(cluster.raylets()) == 3, run)
            until(lambda: len(seen(tmp_path / "out")) >= 18, run)  # one waits, and perhaps one behind it
            until(lambda: len(cluster.raylets()) == 2, run)
            go_on.touch()
            said, _ = run.communicate(timeout=PATIENCE)
        finally:
            run.kill()
            run.wait()
        assert run.returncode == 0
        assert said.splitlines()[-1] == "20 0 0"
        assert len(seen(tmp_path / "out")) == 20
        until(lambda: cluster.raylets() == [head])


def until(reached: Callable[[], bool], run: subprocess.Popen[str] | None = None) -> None:
    """Return when something is so, and while a run goes on that is given."""
    end = time.monotonic() + PATIENCE
    while not reached():
        assert run is None or run.poll() is None, "the run has ended"
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.1)


def test_a_wrong_token_is_refused(cluster: RayCluster, tmp_path: Path) -> None:
    sources = draw_pairs(tmp_path, 2)
    out = tmp_path / "out"
    command = ["fuse", *map(str, sources), "-o", str(out), *OPTIONS, "--engine", "ray"]
    done = subprocess.run(
        [sys.executable, "-m", "ddfm.cli", *command, "--address", cluster.address],
        env={**cluster.environment, "RAY_AUTH_TOKEN": "0" * 64},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done
    assert f"Ray at {cluster.address}: no connection" in done.stderr
    assert "RAY_AUTH_TOKEN" in done.stderr
    assert not seen(out)


def test_options_that_have_no_effect_are_refused(ddfm: Command, tmp_path: Path) -> None:
    a, b = draw_pairs(tmp_path, 1)
    for arguments, message in (
        ((a, b, "--engine", "spark"), "--engine spark: not one of local, ray"),
        ((a, b, "--workers", 2), "are for --engine ray"),
        ((a / "00000.png", b / "00000.png", "--engine", "ray"), "are for folders"),
        ((a, b, "--engine", "ray", "--workers", 0), "one or more are needed"),
        ((a, b, "--metrics", "beauty"), "unknown metric beauty"),
    ):
        done = ddfm("fuse", *arguments, "-o", tmp_path / "out", "--steps", 0)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done
        assert message in done.stderr
