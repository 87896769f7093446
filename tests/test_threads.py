import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import ddfm
from ddfm import threads
from ddfm.cores import Load
from ddfm.priors.base import Prior
from ddfm.priors.loading import load_prior
from ddfm.sampling.loop import Step
from ddfm.threads import each_has_a_core, fair_threads, follow_load
from tests.conftest import picture


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
    ("count", "free", "quota", "awake"),
    [
        (4, 4, np.inf, True),
        (4, 3.6, np.inf, True),  # others do little
        (4, 2.9, np.inf, False),
        (4, 0, np.inf, False),
        (2, 2.5, np.inf, True),  # the caller wants no more
        (4, 4, 2.0, False),
    ],
)
def test_threads_wait_awake_if_each_has_a_core(count: int, free: float, quota: float, awake: bool) -> None:
    assert each_has_a_core(count, free, quota) == awake


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processes cannot be bound to cores here")
def test_on_one_core_threads_wait_asleep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "load", Load(wait=lambda seconds: None))
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        with fair_threads():
            assert asleep()
    finally:
        os.sched_setaffinity(0, allowed)


def asleep() -> bool:
    """Whether threads sleep while they wait; the keepers that were let go are waited for."""
    keepers = [thread for thread in threading.enumerate() if thread.name == threads.KEEPER]
    if threads.here.sleepers is None:
        for thread in keepers:
            thread.join()
        return False
    return bool(keepers)


def test_waiting_follows_the_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "load", Told(2.0, 4.0, 0.0))
    follow_load()
    assert not asleep()  # nobody asked for it
    with fair_threads():
        assert asleep()
        with fair_threads():  # of a function that another one calls
            assert asleep()
        follow_load()
        assert not asleep()
        follow_load()
        assert asleep()
    assert not asleep()


def test_one_thread_waits_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "load", Told(0.0))
    torch.set_num_threads(1)
    with fair_threads():
        assert not asleep()


def test_numbers_of_threads_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "load", Told(0.0))
    with fair_threads(), ThreadPoolExecutor(1) as other:
        assert asleep()
        assert torch.get_num_threads() == 4
        assert other.submit(torch.get_num_threads).result() == 4


def test_a_number_of_threads_is_the_calling_ones_alone() -> None:
    with threads.threads(2), ThreadPoolExecutor(1) as other:
        assert torch.get_num_threads() == 2
        assert other.submit(torch.get_num_threads).result() == 4
    assert torch.get_num_threads() == 4


def pair() -> list[NDArray[np.uint8]]:
    return [picture(32, 48, 1, np.uint8, seed) for seed in (1, 2)]


def test_a_fusion_follows_the_load_and_its_bytes_do_not(
    prior: Prior, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = []
    for told, states in [([4.0], [False] * 3), ([4.0, 4.0, 1.0, 4.0], [False, True, False])]:
        monkeypatch.setattr(threads, "load", Told(*told))
        seen: list[tuple[bool, int]] = []

        def note(step: Step, seen: list[tuple[bool, int]] = seen) -> None:
            seen.append((asleep(), torch.get_num_threads()))

        results.append(ddfm.fuse(*pair(), prior=prior, steps=3, noise="off", callback=note).to_array())
        assert seen == [(state, 4) for state in states]
    assert np.array_equal(results[0], results[1])


def test_a_fusion_that_fails_leaves_no_threads(prior: Prior, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "load", Told(0.0))

    def fail(step: Step) -> None:
        assert asleep()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ddfm.fuse(*pair(), prior=prior, steps=2, noise="off", callback=fail)
    assert not asleep()
    assert torch.get_num_threads() == 4
