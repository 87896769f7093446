"""Where the time of a fusion goes: the tables of ``ddfm fuse --profile`` for the demonstration's street.

    python benchmarks/where_time_goes.py

As it is, with noise of 10 grey levels on both sources, and without the network; each in a process of its own.
Besides, what ``with stage(...)`` costs when nothing is recorded. Written to results/where_time_goes.txt.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import timeit
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from common import script_parser, write_result
from PIL import Image

from ddfm.demo.scenes import night
from ddfm.timing import stage

COMMAND = Path(sys.executable).with_name("ddfm")
NOISE = 10.0
CALLS = 100_000


def profile(sources: Sequence[Path], *options: str) -> str:
    """The command without the names of its files, and the table."""
    out = sources[0].with_name("fused.png")
    done = subprocess.run(
        [COMMAND, "fuse", *sources, "-o", out, "--profile", *options],
        check=True,
        capture_output=True,
        text=True,
    )
    shown = " ".join(["ddfm fuse", *(path.name for path in sources), *options])
    return f"{shown}\n\n{done.stderr[done.stderr.index('stage  ') :]}"


def noisy(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    pixels = np.asarray(image)
    return Image.fromarray(
        (pixels + rng.normal(0, NOISE, pixels.shape)).round().clip(0, 255).astype(np.uint8)
    )


def idle_stage() -> None:
    with stage("nothing"):
        pass


def main() -> None:
    arguments = script_parser(__doc__, "where_time_goes.txt").parse_args()
    scene, rng = night(), np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clean = [folder / "thermal.png", folder / "visible.png"]
        grainy = [folder / "noisy-thermal.png", folder / "noisy-visible.png"]
        for image, *paths in zip((scene.a, scene.b), clean, grainy, strict=True):
            image.save(paths[0])
            noisy(image, rng).save(paths[1])
        tables = [profile(clean), profile(grainy), profile(clean, "--steps", "0")]
    microseconds = 1e6 * min(timeit.repeat(idle_stage, number=CALLS)) / CALLS
    height, width = scene.a.size[::-1]
    head = f"{height}x{width} pixels, {torch.get_num_threads()} thread(s)\n"
    tail = f"with stage(...), nothing recorded: {microseconds:.2f} microseconds\n"
    write_result(arguments.output, "\n\n".join([head, *tables, tail]))
    print(arguments.output.read_text(), end="")


if __name__ == "__main__":
    main()
