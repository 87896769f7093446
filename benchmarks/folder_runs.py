"""Fuse whole data sets with the command, ten steps a pair, twice, and check what comes out.

    python benchmarks/folder_runs.py NAME A_DIR B_DIR [NAME A_DIR B_DIR ...]

For every set: pairs fused, pairs whose output has not the first source's depth, the sources' size and
the colour source's channels, files that differ between the two runs, seconds a pair. Merged into
results/folder_runs.json.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import torch
from common import measure_parts, script_parser

from ddfm.formats.pictures import read_image
from ddfm.jobs.matching import match_folders


def measure(a: Path, b: Path) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        runs = [Path(folder) / name for name in ("first", "second")]
        start = time.perf_counter()
        for run in runs:
            subprocess.run(
                [Path(sys.executable).with_name("ddfm"), "fuse", a, b, "-o", run, "--steps", "10"], check=True
            )
        seconds = time.perf_counter() - start
        pairs, _ = match_folders(a, b)
        wrong = different = 0
        for pair in pairs:
            outputs = [run / f"{pair.stem}.png" for run in runs]
            different += outputs[0].read_bytes() != outputs[1].read_bytes()
            fused, *sources = (read_image(path) for path in (outputs[0], *pair.files))
            colour = any(source.is_colour for source in sources)
            expected = (sources[0].size, sources[0].depth, colour)
            wrong += (fused.size, fused.depth, fused.is_colour) != expected
    return {
        "pairs": len(pairs),
        "steps": 10,
        "wrong size, depth or colour": wrong,
        "different bytes with the same seed": different,
        "seconds a pair": round(seconds / 2 / len(pairs), 2),
        "threads": torch.get_num_threads(),
    }


def main() -> None:
    parser = script_parser(__doc__, "folder_runs.json")
    parser.add_argument("sets", nargs="+", metavar="NAME A_DIR B_DIR", help="name and folders of each set")
    arguments = parser.parse_args()
    sets = arguments.sets
    if len(sets) % 3:
        parser.error("a name and two folders for each set are needed")
    folders = zip(sets[::3], sets[1::3], sets[2::3], strict=True)
    parts = {name: partial(measure, Path(a), Path(b)) for name, a, b in folders}
    measure_parts(parts, arguments.output)


if __name__ == "__main__":
    main()
