"""Match the files of several folders by stem."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ddfm.errors import InputError
from ddfm.formats.pictures import images_by_stem, suffix_for
from ddfm.formats.raster import PNG_MAGIC
from ddfm.formats.tiff import MAGIC

OUTPUT_SUFFIXES = (".png", ".tif")


@dataclass(frozen=True)
class Group:
    """Files of one stem, one from each folder, and that stem."""

    stem: str
    files: tuple[Path, ...]


def match_folders(*folders: Path) -> tuple[list[Group], list[Path]]:
    """Group image files with the same stem in all folders; return groups and unmatched files, both sorted.

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
    unmatched = [path for files in listed for stem, path in files.items() if stem not in common]
    return groups, sorted(unmatched)


def output_name(group: Group, depth: np.dtype[Any]) -> str:
    """Return the group's output: PNG as far as it holds the samples, TIFF for floats and signed ones."""
    return group.stem + suffix_for(depth)


def is_output(head: bytes) -> bool:
    """Tell whether a file that begins so may be an output; those are written whole or not at all."""
    return head.startswith((PNG_MAGIC, *MAGIC))
