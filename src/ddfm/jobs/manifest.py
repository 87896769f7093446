"""The record of a folder run: what became of each group, in a SQLite file beside the outputs.

A run holds the file locked while it lives, so that two runs never write to one folder. It writes down that a
group has begun before it hands it to a worker, with the stamp of the output that lies there. So after a kill
the next run knows which of the unfinished ones had their output written already.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddfm.errors import InputError, reason_of
from ddfm.jobs.listing import connect, text
from ddfm.jobs.matching import Group

NAME = ".ddfm-manifest.sqlite"
VERSION = 1
# What can become of a group. A failed one is tried again by the next run, one in quarantine only when its
# sources or the options change.
BEGUN, DONE, WAITING, FAILED, QUARANTINED = "begun", "done", "waiting", "failed", "quarantined"
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS pairs (
    pair TEXT PRIMARY KEY,   -- stem of the files
    files TEXT NOT NULL,     -- their paths, JSON
    stamps TEXT NOT NULL,    -- their sizes and times, as they were listed
    inputs TEXT NOT NULL,    -- SHA-256 of their contents, empty until a worker has read them
    options TEXT NOT NULL,   -- SHA-256 of options, task and prior
    state TEXT NOT NULL,     -- {BEGUN}, {DONE}, {WAITING}, {FAILED} or {QUARANTINED}
    before TEXT NOT NULL,    -- stamp of the output that lay there when it was begun
    attempts INTEGER NOT NULL,
    crashes INTEGER NOT NULL,
    due REAL NOT NULL,       -- when a waiting one is tried again, seconds since 1970
    run INTEGER NOT NULL,    -- that wrote this line last
    worker TEXT,
    seconds REAL,
    ended TEXT,              -- UTC
    settings TEXT,           -- JSON
    metrics TEXT,            -- JSON
    error TEXT
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS states ON pairs (run, state);
CREATE TABLE IF NOT EXISTS unmatched (path TEXT);
CREATE TABLE IF NOT EXISTS runs (
    run INTEGER PRIMARY KEY, begun TEXT, ended TEXT, options TEXT, what TEXT
);
"""


@dataclass(frozen=True)
class Outcome:
    """Hold what became of a group.

    Attributes:
        group: the files.
        settings: what it was fused with; None if it failed, or was not fused anew.
        failure: why it was not fused.
        passing: whether the cause of the failure may pass.
        crashed: whether the worker ended with it.
        lost: whether the worker was lost for a cause that is not the group's.
        stops: whether the next group would fail by the same cause: a disk that is full or read-only.
        inputs: SHA-256 of the sources' contents, hexadecimal; empty if they could not be read.
        seconds: that it took.
        worker: who did it.
        metrics: by name, if they were asked for.
    """

    group: Group
    settings: dict[str, Any] | None = None
    failure: str | None = None
    passing: bool = False
    crashed: bool = False
    lost: bool = False
    stops: bool = False
    inputs: str = ""
    seconds: float = 0.0
    worker: str = ""
    metrics: dict[str, float] | None = None


@dataclass(frozen=True)
class Line:
    """Hold a group's line in the record."""

    group: Group
    stamps: str
    inputs: str
    options: str
    state: str
    before: str
    attempts: int
    crashes: int
    run: int
    error: str | None


COLUMNS = "pair, files, stamps, inputs, options, state, before, attempts, crashes, run, error"


class Manifest:
    """Keep the record of one folder of outputs, for one run.

    Attributes:
        path: of the file.
        run: number of this run, from 1.
    """

    def __init__(self, path: Path, options: str, what: str) -> None:
        """Open the record, or begin one, and lock it until `close`.

        Args:
            options: SHA-256 of this run's.
            what: the same for people, JSON.

        Raises:
            InputError: another run is at work in the folder, or the file is damaged or cannot be written.
        """
        self.path = path
        with explained(path):
            self._file = connect(str(path))
            try:
                self._file.execute("PRAGMA locking_mode=EXCLUSIVE")
                self._file.execute("PRAGMA journal_mode=WAL")
                self._file.execute("PRAGMA synchronous=NORMAL")
                self._file.execute("BEGIN IMMEDIATE")
                self._check()
                for statement in SCHEMA.split(";"):
                    self._file.execute(statement)
                self._file.execute(f"PRAGMA user_version={VERSION}")
                self._file.execute("DELETE FROM unmatched")
                (last,) = self._file.execute("SELECT max(run) FROM runs").fetchone()
                self.run = (last or 0) + 1
                self._file.execute(
                    "INSERT INTO runs VALUES (?, ?, NULL, ?, ?)", (self.run, now(), options, what)
                )
                self._file.execute("COMMIT")
            except BaseException:
                self._file.close()
                raise

    def _check(self) -> None:
        """Raise an error if the record is damaged or of another version."""
        (result,) = self._file.execute("PRAGMA quick_check(1)").fetchone()
        if result != "ok":
            raise sqlite3.DatabaseError(result)
        (version,) = self._file.execute("PRAGMA user_version").fetchone()
        if version not in (0, VERSION):
            raise InputError(
                f"{self.path}: was written by a later version of ddfm; use that, or remove the file: "
                "outputs are kept"
            )

    def line(self, pair: str) -> Line | None:
        """Return a group's line; None if it has none."""
        with explained(self.path):
            row = self._file.execute(
                f"SELECT {COLUMNS} FROM pairs WHERE pair = CAST(? AS TEXT)", (text(pair),)
            ).fetchone()
        return None if row is None else line_of(row)

    def begin(self, lines: Iterable[tuple[Line, bool]]) -> None:
        """Write down lines as they are, all or none; True with those that an attempt begins of."""
        with explained(self.path), self._file:
            self._file.execute("BEGIN")
            for line, attempt in lines:
                files = json.dumps([str(path) for path in line.group.files])
                self._file.execute(
                    "INSERT INTO pairs VALUES (CAST(? AS TEXT), ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, "
                    "NULL, NULL, NULL, NULL, NULL, ?) "
                    "ON CONFLICT (pair) DO UPDATE SET files = excluded.files, stamps = excluded.stamps, "
                    "inputs = excluded.inputs, options = excluded.options, state = excluded.state, "
                    "before = excluded.before, attempts = excluded.attempts, crashes = excluded.crashes, "
                    "run = excluded.run, error = excluded.error",
                    (text(line.group.stem), files, line.stamps, line.inputs, line.options, line.state,
                     line.before, line.attempts + attempt, line.crashes, self.run if attempt else line.run,
                     line.error),
                )  # fmt: skip

    def finish(self, ends: Iterable[tuple[Outcome, str, float]]) -> None:
        """Write down what became of groups, all or none.

        Args:
            ends: each with its state, and the seconds after which a waiting one is due.
        """
        with explained(self.path), self._file:
            self._file.execute("BEGIN")
            for outcome, state, pause in ends:
                self._file.execute(
                    "UPDATE pairs SET state = ?, inputs = CASE ? WHEN '' THEN inputs ELSE ? END, "
                    "run = CASE WHEN ? THEN run ELSE 0 END, attempts = attempts - ?, crashes = crashes + ?, "
                    "due = ?, worker = ?, seconds = ?, "
                    "ended = ?, settings = coalesce(?, settings), metrics = coalesce(?, metrics), error = ? "
                    "WHERE pair = CAST(? AS TEXT)",
                    (state, outcome.inputs, outcome.inputs, bool(outcome.settings or outcome.failure),
                     outcome.lost, outcome.crashed, time.time() + pause, outcome.worker,
                     round(outcome.seconds, 4), now(),
                     as_json(outcome.settings), as_json(outcome.metrics), outcome.failure,
                     text(outcome.group.stem)),
                )  # fmt: skip

    def waiting(self, most: int) -> list[Line]:
        """Return so many of this run's groups that are due to be tried again."""
        with explained(self.path):
            rows = self._file.execute(
                f"SELECT {COLUMNS} FROM pairs WHERE run = ? AND state = ? AND due <= ? ORDER BY pair LIMIT ?",
                (self.run, WAITING, time.time(), most),
            ).fetchall()
        return [line_of(row) for row in rows]

    def any_waiting(self) -> bool:
        """Tell whether groups of this run are to be tried again, now or later."""
        with explained(self.path):
            query = "SELECT 1 FROM pairs WHERE run = ? AND state = ? LIMIT 1"
            return self._file.execute(query, (self.run, WAITING)).fetchone() is not None

    def put_unmatched(self, paths: Iterable[Path]) -> None:
        """Write down which files have no partner."""
        with explained(self.path), self._file:
            self._file.execute("BEGIN")
            rows = ((text(str(path)),) for path in paths)
            self._file.executemany("INSERT INTO unmatched VALUES (CAST(? AS TEXT))", rows)

    def copy_to(self, path: Path) -> None:
        """Write a copy of the record as it is now."""
        with explained(path):
            copy = sqlite3.connect(path)
            try:
                self._file.backup(copy)
            finally:
                copy.close()

    def close(self) -> None:
        """Put down that the run has ended, and that what was in work is not to blame; let go of the file."""
        with suppress(sqlite3.Error):
            states = (WAITING, self.run, BEGUN)
            self._file.execute("UPDATE pairs SET state = ? WHERE run = ? AND state = ?", states)
            self._file.execute("UPDATE runs SET ended = ? WHERE run = ?", (now(), self.run))
        self._file.close()


class Record:
    """Read a record that no run holds.

    Attributes:
        path: of the file.
        run: whose lines are wanted.
    """

    def __init__(self, path: Path, run: int) -> None:
        self.path, self.run = path, run

    def outcomes(self, states: Sequence[str]) -> Iterator[Outcome]:
        """Yield what the run did that ended so, in the order of stems."""
        marks = ", ".join("?" * len(states))
        for pair, files, inputs, seconds, worker, settings, metrics, error in self._rows(
            "SELECT pair, files, inputs, seconds, worker, settings, metrics, error FROM pairs "
            f"WHERE run = ? AND state IN ({marks}) ORDER BY pair",
            (self.run, *states),
        ):
            yield Outcome(
                Group(pair, tuple(map(Path, json.loads(files)))),
                None if error or not settings else json.loads(settings),
                error,
                inputs=inputs,
                seconds=seconds or 0.0,
                worker=worker or "",
                metrics=json.loads(metrics) if metrics else None,
            )

    def tasks(self) -> list[tuple[str, str, str, int]]:
        """Return for each task that groups were fused with: why, the first stem, and how many they are."""
        query = (
            "SELECT json_extract(settings, '$.task') AS task, json_extract(settings, '$.why') AS why, "
            "min(pair), count(*) FROM pairs WHERE run = ? AND state = ? AND settings IS NOT NULL "
            "GROUP BY task, why ORDER BY min(pair)"
        )
        return [(task, why, stem, count) for task, why, stem, count in self._rows(query, (self.run, DONE))]

    def unmatched(self) -> Iterator[Path]:
        """Yield the files that had no partner, in the order of their paths."""
        return (Path(path) for (path,) in self._rows("SELECT path FROM unmatched ORDER BY path", ()))

    def _rows(self, query: str, values: Sequence[object]) -> Iterator[tuple[Any, ...]]:
        with explained(self.path):
            file = connect(str(self.path))
            try:
                yield from file.execute(query, values)
            finally:
                file.close()


def line_of(row: Sequence[Any]) -> Line:
    """Return a line from its columns."""
    pair, files, *others = row
    return Line(Group(pair, tuple(map(Path, json.loads(files)))), *others)


def as_json(value: object) -> str | None:
    """Return JSON of a value, None of None."""
    return None if value is None else json.dumps(value)


def now() -> str:
    """Return the time, UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn the database's refusals into InputError."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)
        code = None if code is None else code & 0xFF  # without what it says more precisely
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise InputError(
                f"{path.parent}: another run is writing to this folder; wait until it has ended"
            ) from error
        if code == sqlite3.SQLITE_FULL:
            raise InputError(
                f"{path}: the disk is full; make room and run the command again: what is finished is kept"
            ) from error
        if code in (None, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR):
            raise InputError(
                f"{path}: is damaged ({reason_of(error)}); remove it and run the command again: "
                "outputs are kept, failed pairs are tried again"
            ) from error
        raise InputError(f"{path}: cannot be written ({reason_of(error)})") from error
