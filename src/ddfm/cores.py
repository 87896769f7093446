"""Tell which cores this process may use, and how many of them others leave it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import psutil

LEAST, OLDEST = 0.1, 2.0  # seconds that a look at the load covers
GLANCE = 0.03  # seconds that one takes when the last is too old
QUOTA = Path("/sys/fs/cgroup/cpu.max")


def allowed_cores() -> set[int]:
    """Tell which cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def container_quota() -> float:
    """Tell how many cores' time a container's control group grants (Linux, version 2).

    Without such a group it is infinity.
    """
    try:
        granted, period = QUOTA.read_text().split()
        return int(granted) / int(period)
    except (OSError, ValueError):  # no such group, or its limit is "max"
        return float("inf")


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


def free_cores(before: Reading, after: Reading) -> float:
    """Count the cores that between two readings nobody but this process used."""
    passed = after.total - before.total
    if passed <= 0:  # a system that does not tell
        return float(after.cores)
    idle = after.cores * (after.idle - before.idle) / passed
    own = (after.own - before.own) / (after.clock - before.clock)
    return min(float(after.cores), idle + own)


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
