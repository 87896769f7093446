"""Write files and folders whole or not at all.

What is being written has a random name in the folder of its target, `.ddfm-` and 16 hexadecimal digits. It is
made exclusively, so that no link is followed and no two runs meet. It is locked (advisory) while its writer
lives. Once complete it is flushed to the disk and renamed. What a killed run leaves has no lock, by which the
next run in that folder knows it and removes it. Where there are no such locks (Windows), open files cannot be
removed, which protects them as well; folders of killed runs stay there.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from ddfm.errors import InputError, reason_of

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

PREFIX = ".ddfm-"
DIGITS = 16  # hexadecimal ones of a random name
ATTEMPTS = 100
SCHEME = re.compile(r"[A-Za-z][\w+.-]+:([\\/]|$)")  # of a URL that was taken for a path
_swept: set[tuple[int, int, str]] = set()


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is never seen half-written. Raises InputError."""
    with whole_file(path) as file:
        file.write(data)


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for writing that gets its name when the block is left, and is removed on an error.

    Raises InputError for what the system refuses, within the block or at its end.
    """
    check_target(path)
    sweep_once(path.parent, PREFIX)
    with explained(path), partial_file(path.parent, PREFIX) as (file, name):
        yield file
        settle(file, name, path)


@contextmanager
def partial_file(folder: Path, prefix: str, suffix: str = "") -> Iterator[tuple[IO[bytes], Path]]:
    """Make a file as `create_partial`; removed at the end if it is still there."""
    file, name = create_partial(folder, prefix, suffix)
    try:
        with file:
            yield file, name
    finally:
        with suppress(OSError):
            name.unlink()


def create_partial(folder: Path, prefix: str, suffix: str = "") -> tuple[IO[bytes], Path]:
    """Make a locked file under a random name of that pattern, open for writing. Raises OSError."""
    descriptor, name = _create(folder, prefix, suffix)
    return open(descriptor, "w+b"), name  # noqa: PTH123 - a descriptor, not a path


def settle(file: IO[bytes], name: Path, path: Path) -> None:
    """Flush a complete file to the disk and give it its name. Raises OSError."""
    file.flush()
    os.fsync(file.fileno())
    if os.name == "nt":  # where open files cannot be renamed
        file.close()
    name.replace(path)
    _sync_folder(path.parent)


def write_folder(path: Path, files: dict[str, bytes]) -> None:
    """Write a folder of files, seen only when all are there. Raises InputError."""
    with whole_folder(path) as folder:
        for name, data in files.items():
            (folder / name).write_bytes(data)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Make a folder that gets its name when the block is left, and is removed on an error.

    The name may be that of an empty folder. Raises InputError for what the system refuses.
    """
    sweep_once(path.parent, PREFIX)
    with explained(path), partial_folder(path.parent) as folder:
        yield folder
        sync_all(folder)
        if path.is_dir() and not path.is_symlink():
            path.rmdir()  # an empty one; anything else fails, as it should
        folder.rename(path)
        _sync_folder(path.parent)


@contextmanager
def partial_folder(parent: Path) -> Iterator[Path]:
    """Make a folder under a random name; it is removed with what is in it when the block is left.

    To keep it, rename it or what is in it within the block. Raises OSError.
    """
    folder, lock = _create_folder(parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def prepare_folder(folder: Path) -> None:
    """Create the folder, remove what killed runs left in it, and make sure that files can be created in it.

    Raises InputError, also for a URL: as a path it would be a folder of this machine.
    """
    if SCHEME.match(str(folder)):
        raise InputError(
            f"{folder}: is a URL; only ddfm fuse writes there, folders alone: name a place on this machine"
        )
    with explained(folder, "cannot be written to"):
        folder.mkdir(parents=True, exist_ok=True)
        with partial_file(folder, PREFIX):
            pass
        sweep_once(folder, PREFIX)


def check_target(path: Path) -> None:
    """Raise InputError if the path names something else than a file: a folder, a pipe, a device."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({reason_of(error)})") from error
    if stat.S_ISDIR(mode):
        raise InputError(f"{path}: is a folder; name a file in it")
    if not stat.S_ISREG(mode):
        raise InputError(f"{path}: is no regular file; name another")


def sweep_once(folder: Path, prefix: str, suffix: str = "") -> None:
    """Do `sweep`, once in the life of a process: folders of many thousand files take time to list."""
    with suppress(OSError):
        about = folder.stat()
        key = (about.st_dev, about.st_ino, prefix + suffix)
        if key not in _swept:
            _swept.add(key)
            sweep(folder, prefix, suffix)


def sweep(folder: Path, prefix: str = PREFIX, suffix: str = "") -> None:
    """Remove what killed runs left in the folder: names of that pattern that nobody holds a lock on."""
    for name in leftovers(folder, prefix, suffix):
        with suppress(OSError):
            _remove_unlocked(name)


def leftovers(folder: Path, prefix: str = PREFIX, suffix: str = "") -> list[Path]:
    """List what has the name of something unfinished, be its writer alive or not."""
    pattern = re.compile(f"{re.escape(prefix)}[0-9a-f]{{{DIGITS}}}{re.escape(suffix)}")
    with os.scandir(folder) as entries:
        return sorted(Path(entry.path) for entry in entries if pattern.fullmatch(entry.name))


def _create(folder: Path, prefix: str, suffix: str) -> tuple[int, Path]:
    """Make a locked file under a random name. Raises OSError."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
    for extra in ("O_NOFOLLOW", "O_CLOEXEC", "O_BINARY"):
        flags |= getattr(os, extra, 0)
    for _ in range(ATTEMPTS):
        name = folder / f"{prefix}{secrets.token_hex(DIGITS // 2)}{suffix}"
        try:
            descriptor = os.open(name, flags, 0o666)
        except FileExistsError:
            continue
        if _lock(descriptor, name):
            return descriptor, name
        os.close(descriptor)
    raise FileExistsError(f"no name is free in {folder}")


def _create_folder(parent: Path) -> tuple[Path, int | None]:
    """Make a folder under a random name, and lock it where that can be done. Raises OSError."""
    for _ in range(ATTEMPTS):
        folder = parent / f"{PREFIX}{secrets.token_hex(DIGITS // 2)}"
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        if fcntl is None:
            return folder, None
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except FileNotFoundError:  # taken for litter between the two
            continue
        if _lock(descriptor, folder):
            return folder, descriptor
        os.close(descriptor)
    raise FileExistsError(f"no name is free in {parent}")


def _lock(descriptor: int, name: Path) -> bool:
    """Lock what was just made; False if another run took it for litter before that."""
    if fcntl is None:
        return True
    with suppress(OSError):  # a file system without locks: nothing is removed there either
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(name))
    except FileNotFoundError:
        return False


def _remove_unlocked(name: Path) -> None:
    """Remove a file or folder of ours unless its writer lives. Raises OSError."""
    mode = os.lstat(name).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        return  # not made here
    if fcntl is None:
        if stat.S_ISREG(mode):
            name.unlink()
        return
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if stat.S_ISDIR(mode):
            shutil.rmtree(name, ignore_errors=True)
        else:
            name.unlink()
    finally:
        os.close(descriptor)


def sync_all(folder: Path) -> None:
    """Flush the files of a folder, and of those in it, to the disk."""
    for place, _, names in os.walk(folder):
        for name in names:
            with (Path(place) / name).open("rb") as file, suppress(OSError):
                os.fsync(file.fileno())
        _sync_folder(Path(place))


def _sync_folder(folder: Path) -> None:
    """Flush a folder's list of names, where the system can."""
    if os.name == "nt":
        return
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def explained(path: Path, what: str = "cannot be written") -> Iterator[None]:
    """Turn the system's refusals into InputError."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: {what} ({reason_of(error)})") from error
