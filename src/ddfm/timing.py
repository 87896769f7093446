"""Where the time goes: the stages of a fusion, timed while someone is recording.

    with ddfm.profile() as times:
        ddfm.fuse("thermal.png", "visible.png").save("fused.png")
    print(times)

The code says what it is at by ``with stage("read"):`` or ``@stage("read")``, which costs a microsecond when
nothing is recorded. One stage may lie within another. Each counts only the time outside those within it, so
that all add up to the whole.
"""

from __future__ import annotations

import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock, get_ident

from ddfm.errors import InputError

Path = tuple[str, ...]  # of a stage: the names of those it lies within, from the outermost, and its own

OTHER = "other"
STEPS, STEP = "steps", "step "  # the sampling, and each step in it: "step 1", ...
RESTORE = "restore"  # what is done once for every picture


class Times:
    """Hold the seconds and the calls of each stage; ``str`` of it is a table.

    Attributes:
        seconds: of each stage by its path, ``("steps", "step 1", "network")`` say, without the stages
            within it, in all threads together; ``("other",)`` is when no thread was in any stage.
        calls: how often each was entered.
        wall: seconds from the beginning to the end of the recording, 0 before that; the same as ``total``
            unless stages ran side by side, in threads.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.seconds: dict[Path, float] = defaultdict(float)
        self.calls: Counter[Path] = Counter()
        self.wall = 0.0
        self._clock = clock
        self._lock = Lock()
        self._open: dict[int, list[Path]] = {}  # by thread, those that are in a stage
        self._since: dict[int, float] = {}  # when that thread last entered or left one
        self._began = self._idle_since = clock()

    @property
    def total(self) -> float:
        """Return the seconds of all stages, ``other`` included."""
        return sum(self.seconds.values())

    def enter(self, name: str) -> None:
        """Enter a stage on this thread; one that lies directly within one of its own name is part of it."""
        wait_for_devices()
        with self._lock:
            now, thread = self._clock(), get_ident()
            if not self._open:
                self.seconds[OTHER,] += now - self._idle_since
            stack = self._open.setdefault(thread, [])
            outer = stack[-1] if stack else ()
            if stack:
                self.seconds[outer] += now - self._since[thread]
            if outer[-1:] == (name,):
                stack.append(outer)
            else:
                stack.append((*outer, name))
                self.calls[stack[-1]] += 1
            self._since[thread] = now

    def leave(self) -> None:
        """Leave the stage that this thread entered last."""
        wait_for_devices()
        with self._lock:
            now, thread = self._clock(), get_ident()
            stack = self._open[thread]
            self.seconds[stack.pop()] += now - self._since[thread]
            self._since[thread] = now
            if not stack:
                del self._open[thread], self._since[thread]
            if not self._open:
                self._idle_since = now

    def end(self) -> None:
        """End the recording."""
        wait_for_devices()
        with self._lock:
            now = self._clock()
            if not self._open:
                self.seconds[OTHER,] += now - self._idle_since
            self.wall = now - self._began

    def __str__(self) -> str:
        return "\n".join([*self._stages(), *self._steps(), "", self._whole()])

    def _stages(self) -> Iterator[str]:
        """List the outermost stages, which sum to the total, and below each what lies within it."""
        total = self.total

        def row(label: str, calls: int, seconds: float) -> str:
            share = seconds / total if total else 0.0
            return f"{label:<24}{calls or '':>6}{seconds:>11.3f}{share:>8.1%}"

        yield f"{'stage':<24}{'calls':>6}{'seconds':>11}{'share':>8}"
        for outermost in dict.fromkeys(path[0] for path in self.calls):
            inside = [path for path in self.seconds if path[0] == outermost]
            yield row(outermost, self.calls[outermost,], sum(self.seconds[path] for path in inside))
            parts = [path for path in self.calls if path in inside and len(path) > 1]
            for name in dict.fromkeys(path[-1] for path in parts if not path[-1].startswith(STEP)):
                same = [path for path in parts if path[-1] == name]
                calls, seconds = sum(self.calls[p] for p in same), sum(self.seconds[p] for p in same)
                yield row(f"  {name}", calls, seconds)
        yield row(OTHER, 0, self.seconds[OTHER,])
        yield row("total", 0, total)

    def _steps(self) -> Iterator[str]:
        """List the milliseconds of what makes up each step, the mean over the pictures."""
        steps = [path for path in self.calls if len(path) == 3 and path[0] == STEPS]
        if not steps:
            return
        parts = list(dict.fromkeys(path[2] for path in steps))
        pictures = max(self.calls[path] for path in steps)
        mean = f", mean of {pictures}" if pictures > 1 else ""
        yield ""
        yield f"{'step':<8}" + "".join(f"{part:>14}" for part in parts) + f"   (ms{mean})"
        for step in dict.fromkeys(path[1] for path in steps):
            paths = [(STEPS, step, part) for part in parts]
            means = (1000 * self.seconds[path] / max(1, self.calls[path]) for path in paths)
            yield f"{step.removeprefix(STEP):<8}" + "".join(f"{mean:>14.2f}" for mean in means)

    def _whole(self) -> str:
        line, fused = f"wall time {self.wall:.3f} s", self.calls[RESTORE,]
        if self.total > 1.01 * self.wall:
            line += f" ({self.total / self.wall:.1f} stages at a time)"
        return line if fused < 2 else f"{line}, {fused} fused, {fused / self.wall:.2f} a second"


_recording: Times | None = None  # of the whole process, because worker threads belong to it


@contextmanager
def profile(clock: Callable[[], float] = time.perf_counter) -> Iterator[Times]:
    """Record where the time goes, in all threads of this process, as long as the context lasts.

    Every stage waits for GPUs at its begin and end. So work that overlaps takes a little longer than it would
    unrecorded. Results are the same.

    Args:
        clock: seconds from some fixed point.

    Raises:
        InputError: something is being recorded already.
    """
    global _recording
    if _recording is not None:
        raise InputError("profile: a recording is going on already; end that one first")
    _recording = times = Times(clock)
    try:
        yield times
    finally:
        _recording = None
        times.end()


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Count what is done within as the stage of that name; also as a decorator."""
    times = _recording
    if times is None:
        yield
        return
    times.enter(name)
    try:
        yield
    finally:
        times.leave()


def wait_for_devices() -> None:
    """Wait until GPUs are done with what they were given: before that a stage has not ended."""
    if "torch" in sys.modules:  # which must not be imported for this
        from ddfm.devices import synchronise

        synchronise()
