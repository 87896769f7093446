"""A folder behind a URL: s3://bucket/folder, gs://..., az://..., by obstore (pip install 'ddfm[remote]').

Objects appear whole at the end of their upload, in one step, so they need no temporary names. Credentials and
the endpoint come from the environment (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, ...). A run keeps others out by a
lock object beside the outputs, which it renews; one that was not renewed for minutes is taken for dead.
SQLite cannot write to such places: the record lies on this machine, and a copy of it beside the outputs.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import platformdirs
import psutil

from ddfm.errors import InputError, reason_of
from ddfm.formats.atomic import write_whole
from ddfm.formats.pictures import is_image_name
from ddfm.places.base import MAGIC_BYTES, Entry, Held, PlaceError

LOCK = ".ddfm-lock"
RENEWED, STALE = 60.0, 600.0  # seconds between signs of life, and after which nobody is expected
LISTED = 1000  # names that are asked for at once


class RemoteFolder:
    """Read and write objects below a URL."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        store_of(self.url)

    @property
    def name(self) -> str:
        """Return the URL as given."""
        return self.url

    @property
    def whole_name(self) -> str:
        """Return the URL."""
        return self.url

    def listing(self) -> Iterator[Entry]:
        """Yield the pictures right below the URL, as the store lists them."""
        import obstore

        with self._explained("cannot be listed"):
            for chunk in obstore.list(store_of(self.url), chunk_size=LISTED):
                for about in chunk:
                    name = str(about["path"])
                    if "/" not in name and is_image_name(name):
                        yield Entry(Path(name), _stamp(about))

    @contextmanager
    def reading(self, path: Path) -> Iterator[Path]:
        """Give a copy of the object; what is said of the copy within the block is said of the URL."""
        import obstore

        with tempfile.TemporaryDirectory(prefix="ddfm-") as folder:
            copy = Path(folder) / path.name
            with self._explained(f"{path.name}: cannot be read"), copy.open("wb") as file:
                for part in obstore.get(store_of(self.url), path.name):
                    file.write(part)
            with self._named(folder):
                yield copy

    @contextmanager
    def writing(self) -> Iterator[Path]:
        """Give a folder whose files are uploaded when the block is left without an error."""
        import obstore

        with tempfile.TemporaryDirectory(prefix="ddfm-") as folder:
            with self._named(folder):
                yield Path(folder)
            for path in sorted(Path(folder).iterdir()):
                with self._explained(f"{path.name}: cannot be written"):
                    obstore.put(store_of(self.url), path.name, path)

    def prepare(self) -> None:
        """Do nothing: that it can be written to shows when the lock is."""

    @contextmanager
    def holding(self, name: str) -> Iterator[Held]:
        """Keep other runs out by a lock object, and give this machine's record."""
        own = json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "since": time.time()}).encode()
        self._lock(own)
        path = self._record(name)
        held = RemoteHeld(self, name, path, own)
        try:
            yield held
            held.upload()
        finally:
            with suppress(InputError), self._explained("cannot be unlocked"):
                import obstore

                obstore.delete(store_of(self.url), LOCK)

    def head(self, name: str) -> bytes:
        """Return the first bytes of an object; none if there is none."""
        import obstore

        with self._explained(f"{name}: cannot be read"):
            try:
                return bytes(obstore.get_range(store_of(self.url), name, start=0, length=MAGIC_BYTES))
            except (obstore.exceptions.NotFoundError, FileNotFoundError):
                return b""

    def stamp(self, name: str) -> str:
        """Return the object's tag and time."""
        about = self._about(name)
        return "" if about is None else _stamp(about)

    def put(self, name: str, data: bytes, *, new: bool = False) -> bool:
        """Write an object; False if it has to be a new one and there is one."""
        import obstore

        with self._explained(f"{name}: cannot be written"):
            try:
                obstore.put(store_of(self.url), name, data, mode="create" if new else "overwrite")
            except obstore.exceptions.AlreadyExistsError:
                return False
        return True

    def _lock(self, own: bytes) -> None:
        """Make the lock. Raises InputError if another run has it."""
        import obstore

        if self.put(LOCK, own, new=True):
            return
        about = self._about(LOCK)
        with self._explained(f"{LOCK}: cannot be read"):
            owner = json.loads(bytes(obstore.get(store_of(self.url), LOCK).bytes()))
        gone = owner["host"] == socket.gethostname() and not psutil.pid_exists(owner["pid"])
        if about is not None and time.time() - about["last_modified"].timestamp() > STALE:
            gone = True
        if not gone:
            raise InputError(
                f"{self.url}: another run is writing to this folder (process {owner['pid']} on "
                f"{owner['host']}); wait until it has ended, or remove {LOCK} if that machine is gone"
            )
        self.put(LOCK, own)

    def _record(self, name: str) -> Path:
        """Return the record on this machine: the one that a killed run left, or the copy if that is newer."""
        import obstore

        key = hashlib.sha256(self.url.encode()).hexdigest()[:16]
        path = platformdirs.user_state_path("ddfm") / "records" / f"{key}{name}"
        about = self._about(name)
        with self._explained(f"{name}: cannot be read"):
            path.parent.mkdir(parents=True, exist_ok=True)
            if about is not None and not (
                path.exists() and path.stat().st_mtime >= about["last_modified"].timestamp() - 1
            ):
                for end in ("-wal", "-shm"):
                    path.with_name(path.name + end).unlink(missing_ok=True)
                write_whole(path, bytes(obstore.get(store_of(self.url), name).bytes()))
        return path

    def _about(self, name: str) -> Any:
        """Return what the store knows of an object; None if there is none."""
        import obstore

        with self._explained(f"{name}: cannot be looked at"):
            try:
                return obstore.head(store_of(self.url), name)
            except (obstore.exceptions.NotFoundError, FileNotFoundError):
                return None

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        """Turn a store's refusals into errors that may pass."""
        import obstore

        try:
            yield
        except (obstore.exceptions.BaseError, OSError) as error:
            words = reason_of(error).split("Debug source")[0][:300]
            raise PlaceError(f"{self.url}: {what} ({words})") from error

    @contextmanager
    def _named(self, folder: str) -> Iterator[None]:
        """Have errors name the URL where they name the folder of copies."""
        try:
            yield
        except InputError as error:
            raise type(error)(str(error).replace(folder, self.url)) from error.__cause__


class RemoteHeld(Held):
    """Renew the lock and the copy of the record, now and then."""

    def __init__(self, place: RemoteFolder, name: str, path: Path, own: bytes) -> None:
        super().__init__(path)
        self.place, self.name, self.own, self.renewed = place, name, own, time.monotonic()

    def publish(self, copy: Callable[[Path], None]) -> None:
        """Upload a copy of the record if the last one is a minute old."""
        if time.monotonic() - self.renewed < RENEWED:
            return
        self.renewed = time.monotonic()
        self.place.put(LOCK, self.own)
        with tempfile.TemporaryDirectory(prefix="ddfm-") as folder:
            path = Path(folder) / self.name
            copy(path)
            self.place.put(self.name, path.read_bytes())

    def upload(self) -> None:
        """Upload the record of a run that has ended."""
        self.place.put(self.name, self.path.read_bytes())


def _stamp(about: Any) -> str:
    """Return what changes when an object does."""
    return f"{about['size']} {about['e_tag']} {about['last_modified'].isoformat()}"


@cache
def store_of(url: str) -> Any:
    """Return the connection to a URL, one a process. Raises InputError."""
    try:
        import obstore
        from obstore.store import from_url
    except ImportError as missing:
        raise InputError(f"{url}: URLs need obstore: pip install 'ddfm[remote]'") from missing
    # Plain HTTP is for stores on this machine or in a closed network; the endpoint says which it is.
    plain = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
    try:
        return from_url(url, client_options={"allow_http": True} if plain else None)
    except (obstore.exceptions.BaseError, ValueError, OSError) as error:
        raise InputError(f"{url}: cannot be opened ({reason_of(error)[:300]})") from error
