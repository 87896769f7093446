"""How far a folder run is: counts, rates, and the time left."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice

WINDOW = 60.0  # seconds that a rate is taken over
MOST_MOMENTS = 5000


@dataclass
class Numbers:
    """Count what becomes of the groups of a run. One thread counts; others may read.

    Attributes:
        listed: groups found so far.
        all_listed: whether those are all.
        kept: groups whose outputs were there already.
        fused: groups done in this run.
        failed: groups that this run gave up, those in quarantine included.
        retried: attempts after the first.
        lost: workers that ended without a word.
        workers: those that can work now.
        by_worker: groups done, by worker.
        seconds: that the fused groups took their workers, in sum.
    """

    clock: Callable[[], float] = time.monotonic
    listed: int = 0
    all_listed: bool = False
    kept: int = 0
    fused: int = 0
    failed: int = 0
    retried: int = 0
    lost: int = 0
    workers: int = 0
    by_worker: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.begun = self.clock()
        self._moments: deque[tuple[float, str]] = deque(maxlen=MOST_MOMENTS)

    def count_fused(self, worker: str, seconds: float) -> None:
        """Count a group that was done."""
        self.fused += 1
        self.seconds += seconds
        self.by_worker[worker] += 1
        self._moments.append((self.clock(), worker))

    @property
    def done(self) -> int:
        """Count the groups that are through, in whatever way."""
        return self.kept + self.fused + self.failed

    @property
    def rate(self) -> float:
        """Return fused groups a second, over the last minute."""
        return sum(self.rates.values())

    @property
    def rates(self) -> dict[str, float]:
        """Return fused groups a second by worker, over the last minute, or over the run if it is younger."""
        now = self.clock()
        moments = list(islice(self._moments, None))
        first = max(self.begun, now - WINDOW)
        if len(moments) == MOST_MOMENTS:  # older ones were forgotten
            first = max(first, moments[0][0])
        counts = Counter(worker for moment, worker in moments if moment >= first)
        return {worker: count / max(now - first, 1e-3) for worker, count in sorted(counts.items())}

    def mean_rate(self, worker: str) -> float:
        """Return a worker's fused groups a second, over the whole run."""
        return self.by_worker[worker] / max(self.clock() - self.begun, 1e-3)

    @property
    def seconds_left(self) -> float | None:
        """Return the time left by the present rate; None before there is one, or while folders are listed."""
        rate = self.rate
        return (self.listed - self.done) / rate if rate and self.all_listed else None
