"""Choose how many threads a fusion computes on: no more than there are cores that others leave it.

Threads that share one computation wait for each other at every operation. They wait without sleeping, which
is quickest while each has a core. With fewer cores than threads, they wait for one that is not running, time
and again: a fusion then takes many times what one thread would.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil
import torch

from ddfm.devices import use_threads

LEAST, OLDEST = 0.1, 2.0  # seconds that a look at the load covers
GLANCE = 0.03  # seconds that one takes when the last is too old
QUOTA = Path("/sys/fs/cgroup/cpu.max")


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
    if hasattr(os, "sched_getaffinity"):
        allowed = os.sched_getaffinity(0)
        cores = [core for number, core in enumerate(cores) if number in allowed] or cores
    idle = sum(core.idle + getattr(core, "iowait", 0.0) for core in cores)
    guests = sum(getattr(core, "guest", 0.0) + getattr(core, "guest_nice", 0.0) for core in cores)
    total = sum(map(sum, cores)) - guests  # which Linux counts twice
    return Reading(time.perf_counter(), time.process_time(), idle, total, len(cores))


def free_cores(before: Reading, after: Reading) -> float:
    """Count the cores that between two readings nobody but this process used."""
    passed = after.total - before.total
    if passed <= 0:  # a system that does not tell
        return float(after.cores)
    idle = after.cores * (after.idle - before.idle) / passed
    own = (after.own - before.own) / (after.clock - before.clock)
    return min(float(after.cores), idle + own)


def fair_share(most: int, free: float, quota: float) -> int:
    """Choose a number of threads: one for each free core that the quota allows, from 1 to ``most``."""
    return max(1, min(most, round(min(free, quota))))


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


@contextmanager
def fair_threads() -> Iterator[None]:
    """Within it, use the calling thread's share of the cores: its own number of threads or fewer."""
    most = torch.get_num_threads()
    if most == 1 or within.most:
        yield
        return
    within.most = most
    try:
        follow_load()
        yield
    finally:
        within.most = 0
        use_threads(most)


def follow_load() -> None:
    """Choose the number of threads again, within `fair_threads`; do nothing elsewhere."""
    if within.most:
        use_threads(fair_share(within.most, load.free_cores(), container_quota()))


class Within(threading.local):
    """Hold the number of threads that the caller of `fair_threads` has, in each thread its own."""

    most = 0


within, load = Within(), Load()
