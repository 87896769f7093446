"""Match the files of several folders by stem while they are being listed.

What was listed lies in a private database on the disk, which ends with the run. So a million names take no
more memory than a thousand. The folders are listed in rounds, some thousand files of each at a time. A group
is given out in the round in which its last file is found; within a round groups are in the order of their
stems. A folder that one round lists is known whole before any work begins. A single folder of thermal
cameras' files is listed at once.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol

from ddfm.errors import InputError
from ddfm.jobs.matching import Group, match_thermograms
from ddfm.places.base import Entry, Place

ROUND = 10_000  # files of each folder
CACHE = 2048  # KiB of the database in memory


class Found(NamedTuple):
    """Hold a group whose files are all listed, and what changes when one of them does."""

    group: Group
    stamps: str


class Groups(Protocol):
    """Give out the groups of a run."""

    def rounds(self) -> Iterator[list[Found]]:
        """Yield groups in rounds, each in the order of stems. Raises InputError."""

    def every(self) -> Iterator[Group]:
        """Yield all groups of the rounds so far again, in the order of stems."""

    def unmatched(self) -> Iterator[Path]:
        """Yield the files without a partner, in the order of their paths."""

    def close(self) -> None:
        """Let go of what was listed."""


class Listing:
    """List folders side by side, and give out what has one stem in all of them.

    Attributes:
        files: how many were found so far, in each folder.
        groups: how many have all their files.
    """

    def __init__(self, places: Sequence[Place]) -> None:
        self.places = places
        self.files, self.groups = [0] * len(places), 0
        self._names = connect("")
        self._names.execute("PRAGMA journal_mode=OFF")
        self._names.execute(
            "CREATE TABLE files (stem TEXT, source INTEGER, path TEXT, stamp TEXT, new INTEGER, "
            "PRIMARY KEY (stem, source)) WITHOUT ROWID"
        )
        self._names.execute("CREATE INDEX fresh ON files (stem) WHERE new")

    def rounds(self) -> Iterator[list[Found]]:
        """Yield groups in rounds, each in the order of stems.

        Raises:
            InputError: a folder cannot be listed or holds one stem twice; or, at the end, nothing matched.
        """
        listings = [place.listing() for place in self.places]
        while True:
            self._names.execute("UPDATE files SET new = 0 WHERE new")
            counts = [self._add(k, islice(listing, ROUND)) for k, listing in enumerate(listings)]
            self.files = [known + count for known, count in zip(self.files, counts, strict=True)]
            found = list(self._complete(self._fresh()))
            self.groups += len(found)
            if found:
                yield found
            if not any(counts):
                break
        if not self.groups:
            names = " and ".join(place.name for place in self.places)
            raise InputError(
                f"{names}: no images with the same name (before the suffix) in all of them; "
                f"{' and '.join(map(str, self.files))} images found"
            )

    def every(self) -> Iterator[Group]:
        """Yield all groups of the rounds so far again, in the order of stems."""
        rows = self._names.execute("SELECT stem, path, stamp FROM files ORDER BY stem, source")
        return (found.group for found in self._complete(rows))

    def unmatched(self) -> Iterator[Path]:
        """Yield the files without a partner, in the order of their paths."""
        rows = self._names.execute(
            "SELECT path FROM files WHERE stem IN (SELECT stem FROM files GROUP BY stem HAVING count(*) < ?) "
            "ORDER BY path",
            (len(self.places),),
        )
        return (Path(path) for (path,) in rows)

    def close(self) -> None:
        """Give the disk's room back."""
        self._names.close()

    def _add(self, source: int, entries: Iterator[Entry]) -> int:
        """Put down some files of a folder; return how many."""
        count = 0
        for path, stamp in entries:
            stem = text(os.path.splitext(path.name)[0])  # noqa: PTH122 - quicker than a path's
            try:
                self._names.execute(
                    "INSERT INTO files VALUES (CAST(? AS TEXT), ?, CAST(? AS TEXT), ?, 1)",
                    (stem, source, text(str(path)), stamp),
                )
            except sqlite3.IntegrityError:
                query = "SELECT path FROM files WHERE stem = CAST(? AS TEXT) AND source = ?"
                (other,) = self._names.execute(query, (stem, source)).fetchone()
                raise twice(self.places[source], Path(other), path) from None
            count += 1
        return count

    def _fresh(self) -> Iterator[tuple[str, str, str]]:
        """Yield stem, path and stamp of the files whose stems this round found."""
        return self._names.execute(
            "SELECT stem, path, stamp FROM files WHERE stem IN (SELECT stem FROM files WHERE new) "
            "ORDER BY stem, source"
        )

    def _complete(self, rows: Iterable[tuple[str, str, str]]) -> Iterator[Found]:
        """Yield the groups that have all their files among such rows."""
        sources, files = len(self.places), list[tuple[str, str, str]]()
        for row in rows:
            if files and files[0][0] != row[0]:
                files = []
            files.append(row)
            if len(files) == sources:
                paths = tuple(Path(path) for _, path, _ in files)
                yield Found(Group(row[0], paths), "; ".join(stamp for _, _, stamp in files))


class Thermograms:
    """List one folder of thermal cameras' files, whole and in memory: pairs are known by their names."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._groups: list[Group] = []

    def rounds(self) -> Iterator[list[Found]]:
        """Yield all groups in one round.

        Raises:
            InputError: the folder cannot be listed, holds one stem twice, or nothing.
        """
        entries = dict[str, Entry]()
        for entry in self.place.listing():
            other = entries.setdefault(entry.path.stem, entry)
            if other is not entry:
                raise twice(self.place, other.path, entry.path)
        if not entries:
            raise InputError(f"{self.place.name}: holds no images")
        stamps = {entry.path: entry.stamp for entry in entries.values()}
        self._groups = match_thermograms({stem: entry.path for stem, entry in entries.items()})
        yield [Found(group, "; ".join(stamps[path] for path in group.files)) for group in self._groups]

    def every(self) -> Iterator[Group]:
        """Yield all groups again, in the order of stems."""
        return iter(self._groups)

    def unmatched(self) -> Iterator[Path]:
        """Yield nothing: each file is in a group."""
        return iter(())

    def close(self) -> None:
        """Do nothing."""


def twice(place: Place, one: Path, other: Path) -> InputError:
    """Return the error for two files of one stem."""
    first, second = sorted((one.name, other.name))
    return InputError(
        f"{place.name}: holds both {first} and {second}, which have the same stem; keep one of them"
    )


def connect(path: str) -> sqlite3.Connection:
    """Open a database whose texts may be names that are not UTF-8; an empty path is a private one.

    It is used by one thread, and takes little memory however large it is.
    """
    database = sqlite3.connect(path, timeout=0, isolation_level=None)
    database.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
    database.execute(f"PRAGMA cache_size=-{CACHE}")
    database.execute("PRAGMA temp_store=FILE")
    return database


def text(value: str) -> bytes:
    """Return what a database stores of a name, to be bound as ``CAST(? AS TEXT)``."""
    return value.encode("utf-8", "surrogateescape")
