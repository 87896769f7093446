"""Folder jobs: pairs matched by stem, finished ones kept, bad ones named at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ddfm.errors import InputError
from ddfm.images import images_by_stem

OUTPUT_SUFFIXES = (".png", ".tif")


@dataclass(frozen=True)
class Pair:
    """Two files of one stem, and that stem."""

    stem: str
    a: Path
    b: Path


def match_folders(a: Path, b: Path) -> tuple[list[Pair], list[Path]]:
    """Pairs of image files with the same stem, and the files without a partner, both sorted.

    Raises InputError if a folder cannot be listed or holds one stem twice, or if nothing matches.
    """
    left, right = images_by_stem(a), images_by_stem(b)
    pairs = [Pair(stem, left[stem], right[stem]) for stem in sorted(left.keys() & right.keys())]
    if not pairs:
        raise InputError(
            f"{a} and {b}: no two images with the same name (before the suffix); "
            f"{len(left)} and {len(right)} images found"
        )
    return pairs, sorted((left | right)[stem] for stem in left.keys() ^ right.keys())


def output_name(pair: Pair, depth: np.dtype[Any]) -> str:
    """The pair's output: PNG, which holds 8 and 16 bits, colour and alpha; TIFF for float samples."""
    return pair.stem + OUTPUT_SUFFIXES[depth == np.float32]


def finished(pair: Pair, folder: Path) -> bool:
    """Whether the pair's output lies in the folder already (outputs are written whole or not at all)."""
    return any((folder / f"{pair.stem}{suffix}").exists() for suffix in OUTPUT_SUFFIXES)


def run(pairs: Iterable[Pair], fuse_pair: Callable[[Pair], None]) -> list[tuple[Pair, str]]:
    """Fuse every pair, whatever happens to the others; returns the failed ones with the reason."""
    failed = []
    for pair in pairs:
        try:
            fuse_pair(pair)
        except InputError as error:
            failed.append((pair, str(error)))
        except Exception as error:  # out of memory, say: the other pairs may be smaller
            failed.append((pair, f"{type(error).__name__}: {error}"))
    return failed
