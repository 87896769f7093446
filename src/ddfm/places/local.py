"""A folder of this machine, or of a file system that all machines share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ddfm.errors import InputError, reason_of
from ddfm.formats.atomic import prepare_folder
from ddfm.formats.files import is_folder, open_regular
from ddfm.formats.pictures import is_image_name
from ddfm.places.base import MAGIC_BYTES, Entry, Held


class LocalFolder:
    """Read and write files where they are; writers see to it that they are whole (`formats.atomic`)."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        """Return the path as given."""
        return str(self.path)

    @property
    def whole_name(self) -> str:
        """Return the path from the root."""
        return str(self.path.absolute())

    def listing(self) -> Iterator[Entry]:
        """Yield the picture files as the system lists them."""
        if not is_folder(self.path):
            raise InputError(f"{self.path}: is not a folder")
        try:
            with os.scandir(self.path) as entries:
                for entry in entries:
                    if is_image_name(entry.name) and entry.is_file():
                        about = entry.stat()
                        yield Entry(self.path / entry.name, f"{about.st_size} {about.st_mtime_ns}")
        except OSError as error:
            raise InputError(f"{self.path}: cannot be listed ({reason_of(error)})") from error

    @contextmanager
    def reading(self, path: Path) -> Iterator[Path]:
        """Give the file itself."""
        yield self.path / path.name

    @contextmanager
    def writing(self) -> Iterator[Path]:
        """Give the folder itself."""
        yield self.path

    def prepare(self) -> None:
        """Make the folder, and remove what killed runs left in it."""
        prepare_folder(self.path)

    @contextmanager
    def holding(self, name: str) -> Iterator[Held]:
        """Give the record in the folder itself; who opens it locks it."""
        yield Held(self.path / name)

    def head(self, name: str) -> bytes:
        """Return the first bytes of a regular file, none of anything else."""
        with suppress(InputError, OSError), open_regular(self.path / name) as file:
            return file.read(MAGIC_BYTES)
        return b""

    def stamp(self, name: str) -> str:
        """Return the file's number and time: a new file of that name has others."""
        try:
            about = (self.path / name).lstat()
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise InputError(f"{self.path / name}: cannot be looked at ({reason_of(error)})") from error
        return f"{about.st_ino} {about.st_size} {about.st_mtime_ns}"
