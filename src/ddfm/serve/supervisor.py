"""Start worker processes, start them anew when they die, and end those that compute for too long."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field

from ddfm.serve.folders import Folders
from ddfm.serve.settings import Settings
from ddfm.serve.store import Lane, Store

logger = logging.getLogger("ddfm.serve")

LOOK_SECONDS = 0.1  # between two looks at the workers
SWEEP_SECONDS = 30.0  # between two looks for expired jobs
FIRST_PAUSE, LAST_PAUSE = 0.2, 10.0  # before a worker is started anew, if it keeps dying
DIED = "the worker process died at it, and so did those that took it again"
TOO_LONG = "it took longer than the service allows a job"


@dataclass
class Worker:
    """Hold one place for a worker, and the process that fills it."""

    name: str
    lane: Lane
    process: subprocess.Popen[str] | None = None
    ready: threading.Event = field(default_factory=threading.Event)
    pause: float = FIRST_PAUSE
    begin: float = 0.0  # when the next process may be started

    @property
    def alive(self) -> bool:
        """Tell whether the process runs."""
        return self.process is not None and self.process.poll() is None


def without_token() -> dict[str, str]:
    """Return the environment for workers, which handle others' files and need no token."""
    return {name: value for name, value in os.environ.items() if name != "DDFM_TOKEN"}


class Supervisor:
    """Run the workers in a thread of its own, from `start` to `stop`."""

    def __init__(self, settings: Settings, store: Store, folders: Folders) -> None:
        self.settings, self.store, self.folders = settings, store, folders
        self.workers = [Worker(f"worker-{k + 1}", "main") for k in range(settings.workers)]
        self.workers.append(Worker("quick", "quick"))
        self.restarts = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)
        self._swept = 0.0

    def start(self) -> None:
        """Start the workers; they are ready a few seconds later, and jobs wait for them."""
        for worker in self.workers:
            self._begin(worker)
        self._thread.start()

    def stop(self) -> None:
        """End the workers; what they compute is computed again when the service next starts."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        for worker in self.workers:
            self._kill(worker)

    @property
    def alive(self) -> int:
        """Count the workers that run."""
        return sum(worker.alive for worker in self.workers)

    @property
    def ready(self) -> int:
        """Count the workers that have loaded what they need."""
        return sum(worker.alive and worker.ready.is_set() for worker in self.workers)

    def _begin(self, worker: Worker) -> None:
        worker.ready.clear()
        command = [sys.executable, "-m", "ddfm.serve.worker", worker.name, worker.lane]
        worker.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=without_token()
        )
        assert worker.process.stdin
        with suppress(BrokenPipeError):
            worker.process.stdin.write(self.settings.as_json() + "\n")
            worker.process.stdin.flush()
        threading.Thread(target=self._listen, args=(worker, worker.process), daemon=True).start()

    def _listen(self, worker: Worker, process: subprocess.Popen[str]) -> None:
        assert process.stdout
        with suppress(ValueError):
            if process.stdout.readline().strip() == "ready":
                worker.ready.set()

    def _kill(self, worker: Worker) -> None:
        if worker.process is not None:
            worker.process.kill()
            worker.process.wait()
            for stream in (worker.process.stdin, worker.process.stdout):
                with suppress(OSError):
                    assert stream
                    stream.close()

    def _run(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            try:
                self._look()
            except Exception:  # the supervisor must outlive a full disk or a locked database
                logger.exception("supervisor")

    def _look(self) -> None:
        now = time.monotonic()
        for worker in self.workers:
            if worker.process is not None and not worker.alive:
                code = worker.process.returncode
                again = self.store.bury(worker.name, DIED)
                logger.warning("%s died (%s); %d of its jobs are taken again", worker.name, code, again)
                self._kill(worker)
                worker.pause = FIRST_PAUSE if worker.ready.is_set() else min(LAST_PAUSE, 2 * worker.pause)
                worker.process, worker.begin = None, now + worker.pause
                self.restarts += 1
            if worker.process is None and now >= worker.begin:
                self._begin(worker)
        for job in self.store.overdue(self.settings.job_seconds):
            if self.store.fail(job, TOO_LONG):
                for worker in self.workers:
                    if worker.name == job.worker and worker.process is not None:
                        worker.process.kill()
        if now - self._swept > SWEEP_SECONDS:
            self._swept = now
            self.sweep()

    def sweep(self) -> None:
        """Remove finished jobs that are too old or too many bytes."""
        before = time.time() - 3600 * self.settings.keep_hours
        for id_ in self.store.expired(before, self.settings.keep_bytes):
            self.store.remove(id_)
            self.folders.remove(id_)
