import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import ddfm
from ddfm import threads
from ddfm.priors.diffusion import Prior
from ddfm.priors.loading import load_prior
from ddfm.sampling.loop import Step
from ddfm.threads import (
    GLANCE,
    LEAST,
    OLDEST,
    Load,
    Reading,
    fair_share,
    fair_threads,
    follow_load,
    free_cores,
)

START = Reading(clock=100.0, own=10.0, idle=50.0, total=400.0, cores=4)


def later(seconds: float, idle: float, own: float) -> Reading:
    """What the clocks say after so many seconds in which so many cores were idle and so many our own."""
    return Reading(
        START.clock + seconds,
        START.own + own * seconds,
        START.idle + idle * seconds,
        START.total + 4 * seconds,
        4,
    )


class Told(Load):
    """A load that is as one says."""

    def __init__(self, *free: float) -> None:
        super().__init__()
        self.told = list(free)

    def free_cores(self) -> float:
        return self.told.pop(0) if len(self.told) > 1 else self.told[0]


@pytest.fixture(autouse=True)
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def prior() -> Prior:
    return load_prior()


@pytest.mark.parametrize(
    ("idle", "own", "free"),
    [(4, 0, 4), (0, 0, 0), (3, 1, 4), (0, 2, 2), (1.5, 0.5, 2), (4, 0.5, 4)],
)
def test_cores_are_free_that_are_idle_or_ours(idle: float, own: float, free: float) -> None:
    assert free_cores(START, later(0.5, idle, own)) == pytest.approx(free)


def test_all_cores_are_free_where_the_system_does_not_tell() -> None:
    assert free_cores(START, START._replace(clock=101.0)) == 4


@pytest.mark.parametrize(
    ("most", "free", "quota", "count"),
    [
        (4, 4, np.inf, 4),
        (4, 3.6, np.inf, 4),  # others do little
        (4, 2.9, np.inf, 3),
        (4, 0, np.inf, 1),
        (2, 16, np.inf, 2),  # the caller wants no more
        (4, 4, 2.0, 2),
        (4, 4, 0.5, 1),
    ],
)
def test_share(most: int, free: float, quota: float, count: int) -> None:
    assert fair_share(most, free, quota) == count


def test_looking_waits_only_after_a_pause() -> None:
    seconds = OLDEST + 1
    readings = [
        START,
        later(GLANCE, 4, 0),
        later(GLANCE + LEAST / 2, 2, 0),
        later(1.0, 0, 1),
        later(1.0 + seconds, 4, 0),
        later(1.1 + seconds, 4, 0),
    ]
    waits: list[float] = []
    load = Load(lambda: readings.pop(0), waits.append)
    assert load.free_cores() == pytest.approx(4)
    assert waits == [GLANCE]
    assert load.free_cores() == pytest.approx(4)  # too soon for another answer
    assert load.free_cores() < 2
    assert waits == [GLANCE]
    assert load.free_cores() == pytest.approx(4)
    assert waits == [GLANCE, GLANCE]


def test_clocks_go_on() -> None:
    before, after = threads.read(), threads.read()
    assert after.clock > before.clock
    assert after.own >= before.own
    assert after.total >= before.total
    assert 1 <= after.cores <= (os.cpu_count() or 1)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processes cannot be bound to cores here")
def test_one_core_is_for_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "load", Load(wait=lambda seconds: None))
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        with fair_threads():
            assert torch.get_num_threads() == 1
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.mark.parametrize(
    ("text", "quota"), [("150000 100000\n", 1.5), ("max 100000\n", np.inf), (None, np.inf)]
)
def test_quota_of_a_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, quota: float
) -> None:
    monkeypatch.setattr(threads, "QUOTA", tmp_path / "cpu.max")
    if text is not None:
        (tmp_path / "cpu.max").write_text(text)
    assert threads.container_quota() == quota


def test_threads_follow_the_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "load", Told(2.0, 0.0, 4.0))
    follow_load()
    assert torch.get_num_threads() == 4  # nobody asked for it
    with fair_threads():
        assert torch.get_num_threads() == 2
        with fair_threads():
            follow_load()
        assert torch.get_num_threads() == 1
        follow_load()
        assert torch.get_num_threads() == 4
    assert torch.get_num_threads() == 4


def test_other_threads_keep_the_callers_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "load", Told(0.0))
    with fair_threads(), ThreadPoolExecutor(1) as other:
        assert torch.get_num_threads() == 1
        assert other.submit(torch.get_num_threads).result() == 4


def pair() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (32, 32), dtype=np.uint8), rng.integers(0, 256, (32, 32), dtype=np.uint8)


def test_a_fusion_follows_the_load(prior: Prior, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "load", Told(4.0, 4.0, 1.0, 3.0))
    seen: list[int] = []

    def note(step: Step) -> None:
        seen.append(torch.get_num_threads())

    ddfm.fuse(*pair(), prior=prior, steps=3, noise="off", task="infrared", callback=note)
    assert seen == [4, 1, 3]
    assert torch.get_num_threads() == 4


def test_a_fusion_that_fails_leaves_the_callers_number(prior: Prior, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "load", Told(0.0))

    def fail(step: Step) -> None:
        assert torch.get_num_threads() == 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ddfm.fuse(*pair(), prior=prior, steps=2, noise="off", task="infrared", callback=fail)
    assert torch.get_num_threads() == 4
