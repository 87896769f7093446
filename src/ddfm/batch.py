"""Folder jobs: files matched by stem, finished ones kept, several done at once, bad ones named at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np

from ddfm.errors import InputError
from ddfm.formats.pictures import images_by_stem, suffix_for

OUTPUT_SUFFIXES = (".png", ".tif")


@dataclass(frozen=True)
class Group:
    """Files of one stem, one from each folder, and that stem."""

    stem: str
    files: tuple[Path, ...]


def match_folders(*folders: Path) -> tuple[list[Group], list[Path]]:
    """Groups of image files with the same stem in all folders, and the files left over, both sorted.

    Raises InputError if a folder cannot be listed or holds one stem twice, or if nothing matches.
    """
    listed = [images_by_stem(folder) for folder in folders]
    common = set.intersection(*(set(files) for files in listed))
    groups = [Group(stem, tuple(files[stem] for files in listed)) for stem in sorted(common)]
    if not groups:
        names, counts = (" and ".join(map(str, what)) for what in (folders, map(len, listed)))
        raise InputError(
            f"{names}: no images with the same name (before the suffix) in all of them; {counts} images found"
        )
    lonely = [path for files in listed for stem, path in files.items() if stem not in common]
    return groups, sorted(lonely)


def output_name(group: Group, depth: np.dtype[Any]) -> str:
    """The group's output: PNG as far as it holds the samples, TIFF for floats and signed ones."""
    return group.stem + suffix_for(depth)


def finished(group: Group, folder: Path) -> bool:
    """Whether the group's output lies in the folder already (outputs are written whole or not at all)."""
    return any((folder / f"{group.stem}{suffix}").exists() for suffix in OUTPUT_SUFFIXES)


@dataclass(frozen=True)
class Outcome:
    """What became of a group: the settings it was fused with, or the reason why it was not."""

    group: Group
    settings: dict[str, Any] | None = None
    failure: str | None = None


Work = Callable[[Sequence[Group], Event], list[Outcome]]
"""What is done with some groups at once, in one of several threads: they are read, fused and written, and
what goes wrong is put down. It looks at the event now and then: set, it says to raise KeyboardInterrupt."""


def run(
    groups: Sequence[Group],
    work: Work,
    *,
    workers: int = 1,
    together: int = 1,
    prepare: Callable[[], None] = lambda: None,
) -> list[Outcome]:
    """Have all groups worked on, each worker a few groups at a time; what became of them, in their order.

    Whoever has read and is computing leaves the disk to the others: that is all there is to overlapping.

    Args:
        groups: in the order in which they are begun.
        work: done in the workers' threads.
        workers: how many there are.
        together: how many groups are worked on at once.
        prepare: called in each worker's thread before anything else.

    Raises:
        KeyboardInterrupt: when the workers have stopped; what they had not begun is left out.
    """
    stop = Event()
    pool = ThreadPoolExecutor(workers, initializer=prepare)
    try:
        begun = [
            pool.submit(work, groups[first : first + together], stop)
            for first in range(0, len(groups), together)
        ]
        return [outcome for future in begun for outcome in future.result()]
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def reason(error: Exception) -> str:
    """Why a group failed, in one line; out of memory, say: the other pictures may be smaller."""
    text = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())
