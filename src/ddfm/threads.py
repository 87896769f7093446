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

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil
import torch

LEAST, OLDEST = 0.1, 2.0  # seconds that a look at the load covers
GLANCE = 0.03  # seconds that one takes when the last is too old
KEEPER = "ddfm sleepers"
SHARED = 2**17  # samples, so many that torch shares the work on them
QUOTA = Path("/sys/fs/cgroup/cpu.max")
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


class Reading(NamedTuple):
    """Seconds on the clocks at one moment.

    Attributes:
        clock: of the wall.
        own: that this process has computed, on all cores.
        idle: that the cores it may use have been idle, together.
        total: that they have been on, together.
        cores: how many they are.
    """

    clock: float
    own: float
    idle: float
    total: float
    cores: int


def read() -> Reading:
    """Read the clocks."""
    cores = psutil.cpu_times(percpu=True)
    allowed = allowed_cores()
    cores = [core for number, core in enumerate(cores) if number in allowed] or cores
    idle = sum(core.idle + getattr(core, "iowait", 0.0) for core in cores)
    guests = sum(getattr(core, "guest", 0.0) + getattr(core, "guest_nice", 0.0) for core in cores)
    total = sum(map(sum, cores)) - guests  # which Linux counts twice
    return Reading(time.perf_counter(), time.process_time(), idle, total, len(cores))


def allowed_cores() -> set[int]:
    """Tell which cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def free_cores(before: Reading, after: Reading) -> float:
    """Count the cores that between two readings nobody but this process used."""
    passed = after.total - before.total
    if passed <= 0:  # a system that does not tell
        return float(after.cores)
    idle = after.cores * (after.idle - before.idle) / passed
    own = (after.own - before.own) / (after.clock - before.clock)
    return min(float(after.cores), idle + own)


def each_has_a_core(threads: int, free: float, quota: float) -> bool:
    """Tell whether so many threads find as many cores, give or take half of one."""
    return min(free, quota) >= threads - 0.5


def container_quota() -> float:
    """Tell how many cores' time a container's control group grants (Linux, version 2).

    Without such a group it is infinity.
    """
    try:
        granted, period = QUOTA.read_text().split()
        return int(granted) / int(period)
    except (OSError, ValueError):  # no such group, or its limit is "max"
        return float("inf")


class Load:
    """Remember the last look at the load, so that looking takes time only after a pause."""

    def __init__(
        self, read: Callable[[], Reading] = read, wait: Callable[[float], None] = time.sleep
    ) -> None:
        self.read, self.wait = read, wait
        self.lock = threading.Lock()
        self.last: Reading | None = None
        self.free = 0.0

    def free_cores(self) -> float:
        """Tell how many cores are free, by the time since the last look."""
        with self.lock:
            now = self.read()
            if self.last is None or now.clock - self.last.clock > OLDEST:
                self.last = now
                self.wait(GLANCE)
                now = self.read()
            elif now.clock - self.last.clock < LEAST:
                return self.free
            self.free = free_cores(self.last, now)
            self.last = now
            return self.free


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
