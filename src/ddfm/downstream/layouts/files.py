"""What the layouts share: finding folders, reading lists of names, saying what is missing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from ddfm.errors import InputError


def missing_folders(root: Path, names: Sequence[str]) -> list[str]:
    """Return a line for each folder that is missing below ``root``."""
    return [f"{root / name}: this folder is missing" for name in names if not (root / name).is_dir()]


def first_folder(root: Path, names: Sequence[str]) -> Path:
    """Return the first of the folders that exists; the first name if none does."""
    return next((root / name for name in names if (root / name).is_dir()), root / names[0])


def read_list(path: Path) -> list[str]:
    """Read names, one a line, suffixes dropped; raises InputError if the file is missing or empty."""
    try:
        lines = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: this list of names cannot be read ({error})") from error
    if not lines:
        raise InputError(f"{path}: the split is empty")
    return [line.removesuffix(".png") for line in lines]


def stems(folder: Path, suffixes: Collection[str]) -> set[str]:
    """Return the names of the files of those suffixes, without them; none if there is no such folder."""
    if not folder.is_dir():
        return set()
    return {path.stem for path in folder.iterdir() if path.suffix.lower() in suffixes}


def missing_names(folder: Path, wanted: Collection[str], found: Collection[str]) -> list[str]:
    """Return a line that counts the wanted names that were not found, or none."""
    lacking = sorted(set(wanted) - set(found))
    return [f"{folder}: lacks {len(lacking)} of {len(wanted)} files, {lacking[0]} for one"] if lacking else []


def wrong_counts(splits: Mapping[str, int], official: Mapping[str, int], title: str) -> list[str]:
    """Return a line for each split that has another size than the published one."""
    return [
        f"{title}: the split {name} has {splits.get(name, 0)} pairs, the published one {count}"
        for name, count in official.items()
        if splits.get(name, 0) != count
    ]


def refuse(problems: Sequence[str]) -> None:
    """Raise InputError with the first problem and the number of the others; return if there is none."""
    if problems:
        more = f" (and {len(problems) - 1} more: ddfm datasets check lists them)" if len(problems) > 1 else ""
        raise InputError(problems[0] + more)
