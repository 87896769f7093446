"""Open what a user named: regular files only, and every refusal of the system in one plain line."""

from __future__ import annotations

import json
import os
import stat
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from ddfm.errors import InputError, reason_of

# What decoders raise on damaged data. They are others' code, each stumbles over something else, and none says
# what. Used around calls of decoders alone, never around this package's own code.
DAMAGE: tuple[type[Exception], ...] = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)


@contextmanager
def decoding(name: str, what: str = "is damaged or cut short", *kinds: type[Exception]) -> Iterator[None]:
    """Turn what a decoder stumbles on, ``kinds`` of its own as well, into an InputError with the name."""
    try:
        yield
    except InputError:
        raise
    except DAMAGE + kinds as error:
        raise InputError(f"{name}: {what} ({reason_of(error)[:300]})") from error


@contextmanager
def open_regular(path: Path, what: str = "an image file") -> Iterator[BinaryIO]:
    """Open a regular file that is not empty, for reading.

    A pipe or a device could be waited for, or read, for ever.

    Args:
        what: is needed here, for the message.

    Raises:
        InputError: there is none, it is a folder, a pipe or a device, is empty, or may not be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        if is_folder(path):  # which Windows does not open
            raise InputError(f"{path}: is a folder, {what} is needed") from error
        raise InputError(f"{path}: cannot be read ({reason_of(error)})") from error
    try:
        _check_regular(os.fstat(descriptor), path, what)
        file = open(descriptor, "rb")  # noqa: PTH123, SIM115 - a descriptor, not a path
    except InputError:
        os.close(descriptor)
        raise
    with file:
        yield file


def _check_regular(about: os.stat_result, path: Path, what: str) -> None:
    """Raise InputError unless it is a regular file that is not empty."""
    if stat.S_ISDIR(about.st_mode):
        raise InputError(f"{path}: is a folder, {what} is needed")
    if not stat.S_ISREG(about.st_mode):
        raise InputError(f"{path}: is no regular file (a pipe or a device); {what} is needed")
    if not about.st_size:
        raise InputError(f"{path}: is empty (0 bytes)")


def read_whole(path: Path, what: str = "an image file", most: int | None = None) -> bytes:
    """Return the bytes of a regular file; InputError as `open_regular`, or if it is longer than ``most``."""
    with open_regular(path, what) as file:
        size = size_of(file)
        if most is not None and size > most:
            raise InputError(f"{path}: has {size} bytes; {what} has {most} at most")
        try:
            return file.read(size)  # /proc's files say 0, and were refused
        except (OSError, MemoryError) as error:
            raise InputError(f"{path}: cannot be read ({reason_of(error)})") from error


def read_text(path: Path, what: str, most: int = 2**20) -> str:
    """Return the text (UTF-8) of a small regular file. Raises InputError."""
    try:
        return read_whole(path, what, most).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text; {what} is needed") from error


def size_of(file: BinaryIO) -> int:
    """Return the bytes of an open file."""
    return os.fstat(file.fileno()).st_size


def exists(path: Path) -> bool:
    """Tell whether there is something of that name. Raises InputError where that cannot be told."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be looked at ({reason_of(error)})") from error
    return True


def is_folder(path: Path) -> bool:
    """Tell whether it is a folder. Raises InputError where that cannot be told."""
    return exists(path) and path.is_dir()


def is_file(path: Path) -> bool:
    """Tell whether it is a regular file. Raises InputError where that cannot be told."""
    return exists(path) and path.is_file()


def entries(folder: Path) -> list[Path]:
    """Return what lies in a folder, sorted. Raises InputError if it cannot be listed."""
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed ({reason_of(error)})") from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a configuration: names and values in braces. Raises InputError for anything else."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a readable JSON file ({str(error).splitlines()[0]})") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: not a configuration; names and values in braces are needed")
    return values
