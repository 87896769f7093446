"""Know what a run reads and what it will write, and refuse overlaps before anything is opened.

Two names are one file if the system says so (device and number of an existing file, links resolved). A path
that does not exist yet is identified by its folder and its name in it. Names count as equal where that folder
does not tell them apart: upper and lower case, composed and decomposed characters, Windows' trailing dots.

Here, and not beside the readers, because every command needs it for files of every kind.
"""

from __future__ import annotations

import os
import stat
import sys
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from ddfm.errors import InputError, reason_of

MOST_NAME_BYTES, MOST_PATH_BYTES = 255, 4096
MOST_WINDOWS_PATH = 32_767  # characters
RESERVED = {
    *("con", "prn", "aux", "nul", "conin$", "conout$", "clock$"),
    *(f"{port}{digit}" for port in ("com", "lpt") for digit in "123456789¹²³"),
}
FORBIDDEN = '<>:"|?*'  # in Windows' names; a colon names a hidden stream of a file

Identity = tuple[object, ...]


def check_paths(reads: Iterable[Path], writes: Iterable[Path]) -> None:
    """Refuse a run that would write over what it reads, or twice over one file.

    Raises:
        InputError: two of the paths are one file, one of the writes lies in a file, or a name is none that
            the system has.
    """
    sources = {identity(path): path for path in reads}
    written: dict[Identity, Path] = {}
    for path in writes:
        check_name(path)
        key = identity(path)
        if key in sources:
            also = "" if str(sources[key]) == str(path) else f" ({sources[key]})"
            raise InputError(f"{path}: is one of the sources{also}; name another output")
        if key in written:
            other = written[key]
            also = "" if str(other) == str(path) else f" ({other})"
            raise InputError(f"{path}: two results would be written there{also}; name another output")
        written[key] = path


def numbered(path: Path, count: int) -> list[Path]:
    """Return the names of so many pictures that go by one: NAME-1, NAME-2, ..."""
    return [path.with_stem(f"{path.stem}-{k + 1}") for k in range(count)]


def identity(path: Path) -> Identity:
    """Return what is the same for all names of one file, be it there or not. Raises InputError."""
    missing: list[str] = []
    place = Path.cwd() / path
    for _ in range(MOST_PATH_BYTES):
        try:
            about = place.stat()
        except (FileNotFoundError, NotADirectoryError):
            missing.append(place.name)
            if place.is_symlink():  # one that leads nowhere yet
                target = Path(os.path.normpath(place.parent / place.readlink()))
                return identity(target.joinpath(*reversed(missing[:-1])))
            place = place.parent
            continue
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: cannot be looked at ({reason_of(error)})") from error
        if ".." in missing:  # of a folder that is not there yet
            return identity(Path(os.path.normpath(place.joinpath(*reversed(missing)))))
        fold = folds_case(place)
        return (about.st_dev, about.st_ino, *(same_name(name, fold) for name in reversed(missing)))
    raise InputError(f"{path}: cannot be looked at (too many folders)")


def folds_case(folder: Path) -> bool:
    """Tell whether a folder that exists takes upper and lower case for the same, without writing to it."""
    if os.name == "nt":
        return True
    for place in (folder, *folder.parents):
        other = place.name.swapcase()
        if other != place.name:
            try:
                return place.samefile(place.with_name(other))
            except OSError:
                return False
    return False


def same_name(name: str, fold: bool, system: str = sys.platform) -> str:
    """Return what all spellings of a name have in common.

    Args:
        fold: whether upper and lower case are the same there.
        system: as `sys.platform`. Windows drops dots and spaces at the end; where case is folded, and on
            macOS, composed and decomposed characters are the same.
    """
    if system == "win32":
        name = name.rstrip(". ") or name
    if fold or system in ("win32", "darwin"):
        name = unicodedata.normalize("NFC", name)
    return unicodedata.normalize("NFC", name.casefold()) if fold or system == "win32" else name


def check_name(path: Path, system: str = sys.platform) -> None:
    """Refuse a path that the system has no room for, or that means something else to it.

    Raises:
        InputError: a name of more than 255 bytes, or a path of more than 4096. On Windows also a device
            (NUL), a stream (a.png:b), a character or an ending that names cannot have.
    """
    names = [part for part in path.parts if part not in ("/", "\\", path.anchor)]
    for name in names:
        if "\0" in name:
            raise InputError(f"{path}: holds a zero byte, which no name can have")
        if system != "win32" and len(_encoded(name)) > MOST_NAME_BYTES:
            raise InputError(f"{path}: has a name of more than {MOST_NAME_BYTES} bytes; shorten it")
        if system == "win32":
            _check_windows_name(path, name)
    if system != "win32" and len(_encoded(str(path))) >= MOST_PATH_BYTES:
        raise InputError(f"{path}: has more than {MOST_PATH_BYTES} bytes; shorten it")
    if system == "win32" and len(str(path)) >= MOST_WINDOWS_PATH:
        raise InputError(f"{path}: has more than {MOST_WINDOWS_PATH} characters; shorten it")


def _check_windows_name(path: Path, name: str) -> None:
    """Raise InputError for a name that Windows does not have, or gives to something else."""
    if name in (".", ".."):
        return
    if len(name.encode("utf-16-le", "surrogatepass")) > 2 * MOST_NAME_BYTES:
        raise InputError(f"{path}: has a name of more than {MOST_NAME_BYTES} characters; shorten it")
    if name.split(".")[0].rstrip(" ").casefold() in RESERVED:
        raise InputError(f"{path}: {name} is the name of a device on Windows; name another file")
    if name != name.rstrip(". "):
        raise InputError(f"{path}: ends in a dot or space, which Windows drops; name another file")
    if any(character in FORBIDDEN or ord(character) < ord(" ") for character in name):
        raise InputError(f"{path}: holds a character that names on Windows cannot have; name another file")


def _encoded(text: str) -> bytes:
    """Return the bytes of a name; of one that cannot be a name, roughly."""
    return text.encode(sys.getfilesystemencoding(), "surrogatepass" if os.name == "nt" else "surrogateescape")


def files_below(folders: Iterable[Path]) -> list[Path]:
    """Return the folders and the regular files right in them: what a run over folders reads."""
    found = []
    for folder in folders:
        found.append(folder)
        try:
            with os.scandir(folder) as entries:
                found += [Path(entry.path) for entry in entries if _is_regular(entry)]
        except (FileNotFoundError, NotADirectoryError):
            raise InputError(f"{folder} is not a folder") from None
        except OSError as error:
            raise InputError(f"{folder}: cannot be listed ({reason_of(error)})") from error
    return found


def _is_regular(entry: os.DirEntry[str]) -> bool:
    """Tell whether an entry is, or leads to, a regular file."""
    try:
        return stat.S_ISREG(entry.stat().st_mode)
    except OSError:
        return False
