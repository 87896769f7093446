"""Pairs of any size, and what the command takes for them in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage

from ddfm.jobs.matching import match_folders

ENLARGED = 2
# The first of two runs loads what is loaded once. What it leaves free is given back to the system, and the
# mark of the highest memory is set to what is left (Linux): so the second run's own memory is seen.
MEASURED = """
import ctypes, re, sys, time
from pathlib import Path
from ddfm.cli import main

def run(arguments):
    sys.argv = ["ddfm", *arguments]
    try:
        main()
    except SystemExit as finished:
        if finished.code:
            raise

def resident(kind):
    return int(re.search(kind + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

middle = sys.argv.index("--then")
first, second = sys.argv[1:middle], sys.argv[middle + 1 :]
run(first)
ctypes.CDLL("libc.so.6").malloc_trim(0)
Path("/proc/self/clear_refs").write_text("5")
before, start = resident("VmRSS"), time.perf_counter()
run(second)
print("measured", resident("VmHWM"), before, time.perf_counter() - start)
"""


class Taken(NamedTuple):
    """What a run of the command took.

    Attributes:
        peak: largest resident memory of its process, bytes.
        grown: by how much that is more than what a tiny pair had left there.
        seconds: without those of loading.
    """

    peak: int
    grown: int
    seconds: float


def mosaic(data: Path, kind: int, height: int, width: int, colour: bool | None = None) -> NDArray[np.uint8]:
    """Infrared (0) or visible (1) pictures, enlarged and side by side, cut to size.

    ``data`` is the folder with misaligned/msrs. Visible ones are in colour, unless ``colour`` says otherwise;
    infrared ones that are to be get a tint.
    """
    groups, _ = match_folders(data / "misaligned/msrs/ir", data / "misaligned/msrs/vi")
    colour = bool(kind) if colour is None else colour
    pictures = [PILImage.open(group.files[kind]).convert("RGB" if colour else "L") for group in groups]
    across, down = (ENLARGED * side for side in pictures[0].size)
    canvas = PILImage.new(pictures[0].mode, (width, height))
    places = [(x, y) for y in range(0, height, down) for x in range(0, width, across)]
    for n, place in enumerate(places):
        canvas.paste(pictures[n % len(pictures)].resize((across, down), PILImage.Resampling.BICUBIC), place)
    made = np.asarray(canvas)
    return made // np.array([1, 2, 3], np.uint8) if colour and not kind else made


def save(path: Path, picture: NDArray[np.uint8]) -> Path:
    PILImage.fromarray(picture).save(path, compress_level=1)
    return path


def fused_in_a_fresh_process(
    sources: Sequence[Path], output: Path, options: Sequence[str], threads: int
) -> Taken:
    """``ddfm fuse`` of the sources, after one of their top left corners with the same options."""
    corners = [source.with_stem(f"{source.stem}-corner") for source in sources]
    for source, corner in zip(sources, corners, strict=True):
        save(corner, np.asarray(PILImage.open(source).crop((0, 0, 64, 64))))
    runs = [["fuse", *map(str, paths), "-o", str(output), *options] for paths in (corners, sources)]
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *runs[0], "--then", *runs[1]],
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        capture_output=True,
        text=True,
        check=True,
    )
    peak, before, seconds = done.stdout.split("measured ")[1].split()
    return Taken(int(peak), int(peak) - int(before), float(seconds))
