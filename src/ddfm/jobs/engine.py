"""Have the groups of a folder run worked on: the protocol of engines, and threads of this process."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from pathlib import Path
from threading import Event, Lock
from typing import Protocol

from ddfm.fusion.pipeline import Fusion
from ddfm.jobs.manifest import Outcome
from ddfm.jobs.work import Item, Job, Progress, Worker, check
from ddfm.threads import use_threads

GPU_WORKERS, GPU_BATCH = 3, 8  # one reads, one computes, one writes
AHEAD = 2  # batches a worker, one of them in work
GLANCE = 0.2  # seconds between looks at a process


class Engine(Protocol):
    """Do the work of one job. Whoever drives it uses it in one thread.

    Attributes:
        batch: groups that are handed over at once.
    """

    batch: int

    def start(
        self, job: Job, fusion: Fusion, batch: int | None, progress: Callable[[Progress], None]
    ) -> None:
        """Have workers begin to get ready.

        Args:
            job: what workers elsewhere need.
            fusion: the same in this process; its prior may be loaded already.
            batch: groups handed over at once; None for what suits the device.
            progress: called with the steps of pictures in work, where they can be seen.

        Raises:
            InputError: there are no workers.
        """

    def room(self) -> bool:
        """Tell whether a batch more may be handed over: workers should have something, and not much more."""

    def submit(self, items: Sequence[Item]) -> None:
        """Hand a batch over."""

    def ready(self) -> int:
        """Return how many workers can work."""

    def busy(self) -> bool:
        """Tell whether anything that was handed over has not come back."""

    def wait(self, seconds: float, more: bool) -> list[Outcome]:
        """Return what was done since the last call.

        Args:
            seconds: to wait for something, at most.
            more: whether there seems to be work for more workers.

        Raises:
            InputError: there are no workers any more.
        """

    def stop(self) -> None:
        """Begin nothing more, have what is in work break off, and let the workers go."""


class Threads:
    """Work in threads of this process: as many as processors are lent to torch, or three beside a GPU.

    Each worker reads, fuses and writes on its own, so one worker's reading overlaps another's computing.
    Some groups were in work when an earlier run ended without a word. Each of them is worked on in a process
    of its own: it may be what ended that run.
    """

    def __init__(self) -> None:
        self.batch = 1
        self._stop = Event()
        self._futures: set[Future[list[Outcome]]] = set()

    def start(
        self, job: Job, fusion: Fusion, batch: int | None, progress: Callable[[Progress], None]
    ) -> None:
        """Make the threads; the prior is loaded when it is first asked for, once for all."""
        self._job, self._worker = job, Worker(job, "this process", fusion, progress)
        on_cpu = self._worker.on_cpu
        self.batch = batch or (1 if on_cpu else GPU_BATCH)
        self._count = self._worker.threads if on_cpu else GPU_WORKERS
        # More threads for one picture gain less than more pictures, and round otherwise.
        prepare = (lambda: use_threads(1)) if on_cpu else (lambda: None)
        self._pool = ThreadPoolExecutor(self._count, initializer=prepare)
        self._one = Lock()  # processes are as large as this one

    def room(self) -> bool:
        """Tell whether a thread may soon have nothing to do."""
        return len(self._futures) < AHEAD * self._count

    def submit(self, items: Sequence[Item]) -> None:
        """Hand a batch over."""
        self._futures.add(self._pool.submit(self._work, items))

    def ready(self) -> int:
        """Return how many threads there are."""
        return self._count

    def busy(self) -> bool:
        """Tell whether anything has not come back."""
        return bool(self._futures)

    def wait(self, seconds: float, more: bool) -> list[Outcome]:
        """Return what was done. Raises whatever a worker could not put down to a group."""
        if not self._futures:
            time.sleep(seconds)
        done, self._futures = wait_for(self._futures, seconds, FIRST_COMPLETED)
        return [outcome for future in done for outcome in future.result()]

    def stop(self) -> None:
        """Break off at the next step."""
        self._stop.set()
        self._pool.shutdown(cancel_futures=True)

    def _work(self, items: Sequence[Item]) -> list[Outcome]:
        """Work on a batch in this thread, and on doubtful groups in a process."""
        outcomes = []
        trusted = [item for item in items if not item.alone]
        if trusted:
            outcomes += self._worker(trusted, self._stop)
        for item in items:
            if item.alone:
                with self._one:
                    outcomes.append(in_process(self._job, item, self._worker, self._stop))
        return outcomes


def in_process(job: Job, item: Item, worker: Worker, stop: Event) -> Outcome:
    """Work on a group in a process of its own, and say so if that ends without a word.

    A job with a prior that cannot be handed to a process (a function of the caller's) is done here.
    """
    try:
        order = pickle.dumps((job, item, worker.threads))
    except (pickle.PicklingError, AttributeError, TypeError):
        (outcome,) = worker([item], stop)
        return outcome
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer"
        command = [sys.executable, "-m", "ddfm.jobs.alone", str(answer)]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            _, error = _talk(child, order, stop)
        finally:
            child.kill()
            child.wait()
        if child.returncode == 0:
            result: Outcome = pickle.loads(answer.read_bytes())
            return result
    if child.returncode < 0:
        how = signal.Signals(-child.returncode).name
        return Outcome(item.group, failure=f"ended the process that worked on it ({how})", crashed=True)
    last = error.decode(errors="replace").strip().splitlines()[-1:]
    raise RuntimeError(f"{item.group.stem}: {''.join(last)}")


def _talk(child: subprocess.Popen[bytes], order: bytes, stop: Event) -> tuple[bytes, bytes]:
    """Give a process its order and wait for its end, or until the run is to stop."""
    pending: bytes | None = order
    while True:
        try:
            return child.communicate(pending, timeout=GLANCE)
        except subprocess.TimeoutExpired:
            pending = None
            check(stop)
