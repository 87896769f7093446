"""Set how many threads torch computes on, and let them sleep while they wait where cores are scarce.

OpenMP's threads wait for each other at every operation. They spin, which is quickest while each has a core.
With other busy processes beside them, they spin for one that is not running, time and again.
A fusion then takes up to sixty times as long, and so do the others.

GNU's OpenMP, which torch has on Linux, has a remedy: its threads sleep once the process has more of them
than cores. So while others are busy, a few threads that do nothing are kept.
Nobody's number of threads changes, and no result: rounding depends on how many threads share the sums.
Other systems have another OpenMP, whose threads go on as they did.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

from ddfm.cores import Load, allowed_cores, container_quota

KEEPER = "ddfm sleepers"
SHARED = 2**17  # samples, so many that torch shares the work on them
_setting = threading.Lock()


def use_threads(count: int) -> None:
    """Let torch compute on so many threads wherever the calling thread asks it to, and nowhere else."""
    if count == torch.get_num_threads():
        return
    # A thread takes over the number that any thread set last when it first needs one. So another one puts
    # back what it finds.
    with _setting, ThreadPoolExecutor(1) as other:
        before = other.submit(torch.get_num_threads).result()
        torch.set_num_threads(count)
        other.submit(torch.set_num_threads, before).result()


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Set the number of threads within the context, as `use_threads` does."""
    before = torch.get_num_threads()
    use_threads(count)
    try:
        yield
    finally:
        use_threads(before)


def each_has_a_core(threads: int, free: float, quota: float) -> bool:
    """Tell whether so many threads find as many cores, give or take half of one."""
    return min(free, quota) >= threads - 0.5


class Sleepers:
    """Keep more OpenMP threads than there are cores, from `start` to `stop`."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.ready = threading.Event()

    def start(self) -> None:
        """Return once they are there."""
        threading.Thread(target=self._keep, name=KEEPER, daemon=True).start()
        self.ready.wait()

    def stop(self) -> None:
        """Let them go."""
        self.over.set()

    def _keep(self) -> None:
        # OpenMP keeps the threads of a computation for the next one, as long as there is who asked for it.
        try:
            use_threads(len(allowed_cores()) + 1)
            torch.zeros(SHARED).add_(1)
        finally:
            self.ready.set()
        self.over.wait()


class Here(threading.local):
    """Hold the calling thread's context: `fair_threads` or not, with sleepers or without."""

    inside = False
    sleepers: Sleepers | None = None


@contextmanager
def fair_threads() -> Iterator[None]:
    """Wait for other threads as the load demands, within the block and at each `follow_load`."""
    if here.inside:
        yield
        return
    here.inside = True
    try:
        follow_load()
        yield
    finally:
        here.inside = False
        wait_awake()


def follow_load() -> None:
    """Let threads wait awake or asleep by the others' load; within `fair_threads`, else do nothing."""
    count = torch.get_num_threads()
    if not here.inside or count == 1:
        return
    if each_has_a_core(count, load.free_cores(), container_quota()):
        wait_awake()
    else:
        wait_asleep()


def wait_asleep() -> None:
    """Start sleepers, if there are none."""
    if here.sleepers is None:
        here.sleepers = Sleepers()
        here.sleepers.start()


def wait_awake() -> None:
    """Stop the sleepers, if there are any."""
    if here.sleepers is not None:
        here.sleepers.stop()
        here.sleepers = None


here, load = Here(), Load()
