"""How often `--task auto` is right: every pair of the development data, as it is and made grey.

    python benchmarks/auto_task.py DATA [--output FILE]

DATA is the folder with ivf/, mif/, mef/, mff/, vifb/ and misaligned/. A pair that is refused, because it may
be medical or not, counts as refused. Made grey is harder: colour tells much.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import torch
from common import script_parser, write_result

from ddfm.errors import InputError
from ddfm.formats.pictures import read_image
from ddfm.fusion.task import choose_task
from ddfm.jobs.matching import match_folders
from ddfm.pictures.colour import luminance
from ddfm.pictures.image import Image

SETS = {
    ("ivf/tno", "ir", "vi"): "infrared",
    ("ivf/roadscene", "ir", "vi"): "infrared",
    ("vifb", "ir", "vi"): "infrared",
    ("misaligned/msrs", "ir", "vi"): "infrared",
    ("mif/mri_ct", "mri", "ct"): "medical",
    ("mif/mri_pet", "mri", "pet"): "medical",
    ("mif/mri_spect", "mri", "spect"): "medical",
    ("mef/mefb", "under", "over"): "exposure",
    ("mff/mfifb", "near", "far"): "focus",
}


def grey(image: Image) -> Image:
    plane = luminance(torch.from_numpy(image.pixels).movedim(-1, 0)[None])
    return replace(image, pixels=plane[0].movedim(0, -1).numpy())


def chosen(images: list[Image]) -> str:
    try:
        return choose_task(images).task
    except InputError:
        return "refused"


def main() -> None:
    parser = script_parser(__doc__, "auto_task.json", data=True)
    arguments = parser.parse_args()
    results = {}
    for (root, a, b), task in SETS.items():
        groups, _ = match_folders(arguments.data / root / a, arguments.data / root / b)
        pairs = [[read_image(path) for path in group.files] for group in groups]
        results[root] = {
            "task": task,
            "chosen": Counter(map(chosen, pairs)),
            "chosen, made grey": Counter(chosen([grey(image) for image in pair]) for pair in pairs),
        }
        print(root, results[root], flush=True)
    write_result(arguments.output, results)


if __name__ == "__main__":
    main()
