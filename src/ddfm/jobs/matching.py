"""Match the files of several folders by stem."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ddfm.errors import InputError
from ddfm.formats.pictures import images_by_stem
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


def match_thermograms(listed: Mapping[str, Path]) -> list[Group]:
    """Group a folder's files: DJI's thermal ones with their photographs, all others by themselves.

    Names of a pair differ in their end: _T or _R of the thermal picture, _V of the photograph, or _W of one
    with a wide lens. A pair is called what its names have in common, unless that is another group's name.
    Nothing is left out: what is no thermogram fails by itself, and is named.

    Args:
        listed: the files, by stem.
    """
    partners: dict[str, str] = {}
    for stem in listed:
        if stem.upper().endswith(THERMAL_ENDS):
            beside = (stem[:-1] + end for end in PHOTOGRAPH_ENDS)
            partner = next((other for other in beside if other in listed), None)
            if partner is not None:
                partners[stem] = partner
    groups = dict[str, Group]()
    for stem in sorted(listed.keys() - partners.values()):
        if stem in partners:
            common = stem[:-2]
            name = stem if common in listed or common in groups else common
            groups[name] = Group(name, (listed[stem], listed[partners[stem]]))
        else:
            groups[stem] = Group(stem, (listed[stem],))
    return [groups[name] for name in sorted(groups)]


def is_output(head: bytes) -> bool:
    """Tell whether a file that begins so may be an output; those are written whole or not at all."""
    return head.startswith((PNG_MAGIC, *MAGIC))
