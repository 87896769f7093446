"""Lay out the data folder. A job's files lie in a folder named by its id, under names of our own."""

from __future__ import annotations

import os
import re
import shutil
from contextlib import suppress
from pathlib import Path

from ddfm.errors import InputError, reason_of

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

ID = re.compile(r"[0-9a-f]{32}")
VIEWS = re.compile(r"^(fused|source-[1-9][0-9]?|source-map|uncertainty)$")


class Folders:
    """Name the places of the data folder; raises InputError if it cannot be made."""

    def __init__(self, data: Path) -> None:
        self.data = data.absolute()
        self.jobs, self.incoming = self.data / "jobs", self.data / "incoming"
        self.database = self.data / "jobs.sqlite3"
        try:
            for folder in (self.jobs, self.incoming):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise InputError(f"{data}: cannot hold the service's data ({reason_of(error)})") from error

    def lock(self) -> int:
        """Keep other servers off the folder as long as this process lives. Raises InputError."""
        descriptor = os.open(self.data / "lock", os.O_CREAT | os.O_RDWR | getattr(os, "O_CLOEXEC", 0), 0o600)
        if fcntl is not None:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(descriptor)
                raise InputError(
                    f"{self.data}: another service uses this folder; name another one with --data"
                ) from None
        return descriptor

    def job(self, id_: str) -> Path:
        """Return the folder of a job. Raises ValueError for what could lead elsewhere."""
        if not ID.fullmatch(id_):
            raise ValueError(f"{id_!r} is no job's id")
        return self.jobs / id_

    def view(self, id_: str, name: str, slice_: int | None = None) -> Path:
        """Return where an 8-bit PNG for the page lies, of a picture or of a volume's slice, from 1.

        Raises ValueError for what could lead elsewhere.
        """
        if not VIEWS.fullmatch(name):
            raise ValueError(f"{name!r} is no view's name")
        number = "" if slice_ is None else f"-{slice_:05d}"
        return self.job(id_) / "views" / f"{name}{number}.png"

    def preview(self, id_: str) -> Path:
        """Return where the picture of the last sampling step lies."""
        return self.job(id_) / "preview.png"

    def remove(self, id_: str) -> None:
        """Remove a job's files."""
        shutil.rmtree(self.job(id_), ignore_errors=True)

    def clear_incoming(self) -> None:
        """Remove uploads that a killed server left."""
        for path in self.incoming.iterdir():
            shutil.rmtree(path, ignore_errors=True)

    def orphans(self, known: set[str]) -> list[str]:
        """Return the ids of folders without a job."""
        return [path.name for path in self.jobs.iterdir() if path.name not in known]


def size_of(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            total += path.lstat().st_size
    return total


def put(path: Path, data: bytes) -> None:
    """Write a small file that may be lost in a crash, but is never seen half-written."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(data)
    partial.replace(path)
