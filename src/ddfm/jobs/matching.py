"""Match the files of several folders by stem."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ddfm.errors import InputError
from ddfm.formats.files import open_regular
from ddfm.formats.pictures import images_by_stem, suffix_for
from ddfm.formats.raster import PNG_MAGIC
from ddfm.formats.tiff import MAGIC

OUTPUT_SUFFIXES = (".png", ".tif")
THERMAL_ENDS, PHOTOGRAPH_ENDS = ("_T", "_R"), "VvWw"  # of the names of DJI's pairs


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


def match_thermograms(folder: Path) -> tuple[list[Group], list[Path]]:
    """Group a folder's files: DJI's thermal ones with their photographs, all others by themselves.

    Names of a pair differ in their end: _T or _R of the thermal picture, _V of the photograph, or _W of one
    with a wide lens. Nothing is left out: what is no thermogram fails by itself, and is named.

    Raises InputError as `match_folders`.
    """
    listed = images_by_stem(folder)
    partners: dict[str, str] = {}
    for stem in listed:
        if stem.upper().endswith(THERMAL_ENDS):
            beside = (stem[:-1] + end for end in PHOTOGRAPH_ENDS)
            partner = next((other for other in beside if other in listed), None)
            if partner is not None:
                partners[stem] = partner
    groups = [
        Group(stem[:-2], (path, listed[partners[stem]])) if stem in partners else Group(stem, (path,))
        for stem, path in listed.items()
        if stem not in partners.values()
    ]
    if not groups:
        raise InputError(f"{folder}: holds no images")
    return groups, []


def output_name(group: Group, depth: np.dtype[Any]) -> str:
    """Return the group's output: PNG as far as it holds the samples, TIFF for floats and signed ones."""
    return group.stem + suffix_for(depth)


def finished(group: Group, folder: Path) -> bool:
    """Tell whether the group's output lies in the folder already (outputs are written whole or not at all).

    An empty file, a folder or something else of that name is no output.
    """
    return any(is_picture(folder / f"{group.stem}{suffix}") for suffix in OUTPUT_SUFFIXES)


def is_picture(path: Path) -> bool:
    """Tell whether it is a regular file that starts as our outputs do."""
    try:
        with open_regular(path) as file:
            return file.read(8).startswith((PNG_MAGIC, *MAGIC))
    except (InputError, OSError):
        return False
