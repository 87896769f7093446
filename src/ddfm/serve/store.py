"""Keep the jobs in SQLite: accepted once, claimed by one worker at a time, finished once.

The database is in write-ahead mode. A transaction that returned survives a kill, and, for those of the web
process, a power cut. A worker holds a job by a claim, a random word. Whoever takes the job away from it (a
cancel, a restart) changes the claim, and what the worker says afterwards changes nothing.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

State = Literal["queued", "running", "done", "failed", "cancelled"]
Lane = Literal["main", "quick"]
OVER = ("done", "failed", "cancelled")
MOST_DEATHS = 3  # of workers at one job: it is taken again twice
BUSY_SECONDS = 30.0
SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    lane TEXT NOT NULL,
    state TEXT NOT NULL,
    request TEXT NOT NULL,
    alike TEXT NOT NULL,
    retry_key TEXT UNIQUE,
    created REAL NOT NULL,
    started REAL,
    finished REAL,
    step INTEGER NOT NULL DEFAULT 0,
    steps INTEGER NOT NULL DEFAULT 0,
    claim TEXT,
    worker TEXT,
    deaths INTEGER NOT NULL DEFAULT 0,
    result TEXT,
    problem TEXT,
    bytes INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS waiting ON jobs (state, lane, number);
"""


class QueueFullError(Exception):
    """Say that no more jobs can wait."""


@dataclass(frozen=True)
class Job:
    """Hold a row.

    Attributes:
        number: in the order of arrival.
        id: a random word of 32 hexadecimal digits, which nobody can guess.
        kind: fusion, evaluation or preview.
        request: what was asked for.
        alike: the same for jobs that can be fused at once; empty if there are none.
        step: of ``steps`` that are done.
        deaths: workers that died at it.
        result: what a worker has to say of it when it is done.
        problem: why it failed.
        bytes: of its files.
    """

    number: int
    id: str
    kind: str
    lane: Lane
    state: State
    request: dict[str, Any]
    alike: str
    created: float
    started: float | None
    finished: float | None
    step: int
    steps: int
    claim: str | None
    worker: str | None
    deaths: int
    result: dict[str, Any] | None
    problem: str | None
    bytes: int

    @property
    def is_over(self) -> bool:
        """Tell whether nothing more will happen to it."""
        return self.state in OVER


COLUMNS = ", ".join(Job.__dataclass_fields__)


class Store:
    """Hold the jobs of one data folder; safe to use from several threads and processes."""

    def __init__(self, path: Path, *, durable: bool = True) -> None:
        self._lock = threading.RLock()
        self._db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        self._db.executescript(SCHEMA)

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._db.close()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._lock:
            return self._db.execute(query, values).fetchall()

    # What the web process does.

    def add(
        self,
        kind: str,
        request: Mapping[str, Any],
        *,
        id_: str | None = None,
        lane: Lane = "main",
        alike: str = "",
        retry_key: str | None = None,
        size: int = 0,
        most: int = 2**31,
    ) -> Job:
        """Accept a job; the one there is, if the client sends the same key again.

        Raises:
            QueueFullError: as many jobs of that lane wait as may.
        """
        id_ = id_ or new_id()
        with self._writing() as db:
            if retry_key is not None:
                row = db.execute("SELECT id FROM jobs WHERE retry_key = ?", (retry_key,)).fetchone()
                if row:
                    return self.need(row[0])
            if self.waiting(lane) >= most:
                raise QueueFullError
            db.execute(
                "INSERT INTO jobs (id, kind, lane, state, request, alike, retry_key, created, bytes)"
                " VALUES (?, ?, ?, 'queued', ?, ?, ?, ?, ?)",
                (id_, kind, lane, json.dumps(request), alike, retry_key, time.time(), size),
            )
        return self.need(id_)

    def get(self, id_: str) -> Job | None:
        """Return a job, None if there is none."""
        rows = self._rows(f"SELECT {COLUMNS} FROM jobs WHERE id = ?", (id_,))
        return _job(rows[0]) if rows else None

    def by_key(self, retry_key: str) -> Job | None:
        """Return the job that was accepted with that key, None if there is none."""
        rows = self._rows(f"SELECT {COLUMNS} FROM jobs WHERE retry_key = ?", (retry_key,))
        return _job(rows[0]) if rows else None

    def need(self, id_: str) -> Job:
        """Return a job. Raises KeyError."""
        job = self.get(id_)
        if job is None:
            raise KeyError(id_)
        return job

    def waiting(self, lane: Lane = "main") -> int:
        """Count the jobs that wait."""
        return int(self._rows("SELECT COUNT(*) FROM jobs WHERE state = 'queued' AND lane = ?", (lane,))[0][0])

    def place(self, job: Job) -> int:
        """Return the place of a job in its queue, 1 for the next; 0 if it does not wait."""
        if job.state != "queued":
            return 0
        query = "SELECT COUNT(*) FROM jobs WHERE state = 'queued' AND lane = ? AND number <= ?"
        return int(self._rows(query, (job.lane, job.number))[0][0])

    def counts(self) -> dict[str, int]:
        """Count the jobs by state."""
        return dict(self._rows("SELECT state, COUNT(*) FROM jobs GROUP BY state"))

    def seconds_a_job(self) -> float:
        """Return the mean time of the last jobs, in seconds; 2 before there are any."""
        query = (
            "SELECT AVG(finished - started) FROM (SELECT finished, started FROM jobs WHERE state = 'done'"
            " AND lane = 'main' ORDER BY number DESC LIMIT 50)"
        )
        return float(self._rows(query)[0][0] or 2.0)

    def cancel(self, id_: str) -> bool:
        """Cancel a job that is not over; tell whether it was not."""
        with self._writing() as db:
            done = db.execute(
                "UPDATE jobs SET state = 'cancelled', finished = ?, claim = NULL"
                " WHERE id = ? AND state IN ('queued', 'running')",
                (time.time(), id_),
            )
            return done.rowcount > 0

    def remove(self, id_: str) -> None:
        """Forget a job."""
        with self._writing() as db:
            db.execute("DELETE FROM jobs WHERE id = ?", (id_,))

    def ids(self) -> set[str]:
        """Return the ids of all jobs."""
        return {row[0] for row in self._rows("SELECT id FROM jobs")}

    def expired(self, before: float, most_bytes: int) -> list[str]:
        """Return the ids of finished jobs that are too old, or the oldest of too many bytes."""
        query = f"SELECT id, finished, bytes FROM jobs WHERE state IN {OVER} ORDER BY finished DESC"
        total, gone = 0, []
        for id_, finished, size in self._rows(query):
            total += size
            if finished < before or total > most_bytes:
                gone.append(id_)
        return gone

    def recover(self) -> int:
        """Put what a killed server was computing back into the queue; return how many."""
        with self._writing() as db:
            return db.execute(
                "UPDATE jobs SET state = 'queued', claim = NULL, worker = NULL, started = NULL, step = 0"
                " WHERE state = 'running'"
            ).rowcount

    def bury(self, worker: str, problem: str) -> int:
        """Put a dead worker's jobs back into the queue, or fail those that it was the third to die at."""
        with self._writing() as db:
            db.execute(
                "UPDATE jobs SET deaths = deaths + 1, claim = NULL, worker = NULL, step = 0"
                " WHERE state = 'running' AND worker = ?",
                (worker,),
            )
            db.execute(
                "UPDATE jobs SET state = 'failed', problem = ?, finished = ?"
                " WHERE state = 'running' AND worker IS NULL AND deaths >= ?",
                (problem, time.time(), MOST_DEATHS),
            )
            return db.execute(
                "UPDATE jobs SET state = 'queued', started = NULL WHERE state = 'running' AND worker IS NULL"
            ).rowcount

    def overdue(self, seconds: float) -> list[Job]:
        """Return the jobs that have been computed for too long."""
        query = f"SELECT {COLUMNS} FROM jobs WHERE state = 'running' AND started < ?"
        return [_job(row) for row in self._rows(query, (time.time() - seconds,))]

    def version(self) -> int:
        """Return a number that changes when another connection has written."""
        return int(self._rows("PRAGMA data_version")[0][0])

    # What a worker does.

    def claim(self, worker: str, lane: Lane, most: int = 1) -> list[Job]:
        """Take the next job, and up to ``most`` that can be fused with it at once.

        One that a worker died at is taken alone, so that it takes no others along.
        """
        with self._lock:
            if not self.waiting(lane):
                return []
        with self._writing() as db:
            first = db.execute(
                "SELECT id, alike, deaths FROM jobs WHERE state = 'queued' AND lane = ?"
                " ORDER BY number LIMIT 1",
                (lane,),
            ).fetchone()
            if first is None:
                return []
            ids = [first[0]]
            if first[1] and not first[2] and most > 1:
                query = (
                    "SELECT id FROM jobs WHERE state = 'queued' AND lane = ? AND alike = ? AND deaths = 0"
                    " ORDER BY number LIMIT ?"
                )
                ids = [row[0] for row in db.execute(query, (lane, first[1], most))]
            for id_ in ids:
                db.execute(
                    "UPDATE jobs SET state = 'running', worker = ?, claim = ?, started = ?, step = 0"
                    " WHERE id = ?",
                    (worker, secrets.token_hex(8), time.time(), id_),
                )
        return [self.need(id_) for id_ in ids]

    def progress(self, job: Job, step: int, steps: int) -> bool:
        """Note how far a job is; tell whether the worker still holds it."""
        with self._writing() as db:
            done = db.execute(
                "UPDATE jobs SET step = ?, steps = ? WHERE id = ? AND claim = ?",
                (step, steps, job.id, job.claim),
            )
            return done.rowcount > 0

    def finish(self, job: Job, result: Mapping[str, Any], size: int) -> bool:
        """Note that a job is done; tell whether the worker still held it."""
        return self._end(job, "done", json.dumps(result), None, size)

    def fail(self, job: Job, problem: str) -> bool:
        """Note that a job failed, and why; tell whether the worker still held it."""
        return self._end(job, "failed", None, problem, job.bytes)

    def _end(self, job: Job, state: State, result: str | None, problem: str | None, size: int) -> bool:
        with self._writing() as db:
            done = db.execute(
                "UPDATE jobs SET state = ?, result = ?, problem = ?, finished = ?, bytes = ?, claim = NULL"
                " WHERE id = ? AND claim = ?",
                (state, result, problem, time.time(), size, job.id, job.claim),
            )
            return done.rowcount > 0


def new_id() -> str:
    """Return a word for a job that nobody can guess."""
    return secrets.token_hex(16)


def _job(row: Sequence[Any]) -> Job:
    values = dict(zip(Job.__dataclass_fields__, row, strict=True))
    values["request"] = json.loads(values["request"])
    values["result"] = json.loads(values["result"]) if values["result"] else None
    return Job(**values)
