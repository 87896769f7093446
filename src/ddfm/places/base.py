"""Say what a folder of pictures has to be able to do, wherever it lies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Protocol

from ddfm.errors import InputError

MAGIC_BYTES = 8  # by which a written picture is known


class Entry(NamedTuple):
    """Hold one picture of a listing.

    Attributes:
        path: of a local file; below a URL, the name.
        stamp: changes when the file does: its size and time, or a store's own tag.
    """

    path: Path
    stamp: str


class Held:
    """Hold a place's record while a run works there.

    Attributes:
        path: of the local file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def publish(self, copy: Callable[[Path], None]) -> None:
        """Put a copy of the record beside the outputs now and then, unless it lies there.

        Args:
            copy: writes one to the path that it is given.
        """


class Place(Protocol):
    """Hold pictures, to be read, or written whole or not at all. Methods raise InputError."""

    @property
    def name(self) -> str:
        """Return what the user calls it."""

    @property
    def whole_name(self) -> str:
        """Return a name that means the same in other folders and on other machines."""

    def listing(self) -> Iterator[Entry]:
        """Yield the picture files in no order, never all of them in memory; hidden ones are left out."""

    def reading(self, path: Path) -> AbstractContextManager[Path]:
        """Give a local file with the contents of a listed one, for the block."""

    def writing(self) -> AbstractContextManager[Path]:
        """Give a local folder; files that are written there are in this place when the block is left."""

    def prepare(self) -> None:
        """Make the place if there is none, and see that it can be written to."""

    def holding(self, name: str) -> AbstractContextManager[Held]:
        """Keep other runs out for the block, and give a local file for the record of that name."""

    def head(self, name: str) -> bytes:
        """Return the first `MAGIC_BYTES` of a file; none if there is no such file."""

    def stamp(self, name: str) -> str:
        """Return what changes when the file does; empty if there is none."""


class PlaceError(InputError):
    """Say that a place did not answer, or refused what it may grant later."""
