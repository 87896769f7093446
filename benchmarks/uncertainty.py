"""Whether `--uncertainty` means what it says: how often clean sources' result lies within two spreads.

    python benchmarks/uncertainty.py DATA [--output FILE] [--crops N]

DATA is the folder with ivf/. Grey crops of 192x192 pixels from N pairs each of TNO and RoadScene get white
noise on both sources, which are fused blind, with their uncertainty; the same is done without noise and
without denoising, and compared: the share of the pixels whose error is within one and two spreads, and the
factor that would make it 95 % within two. Every other crop had a say in
`sampling.uncertainty.CALIBRATION`; the rest had none.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from common import script_parser, write_result
from numpy.typing import NDArray

from ddfm import fuse, load_prior
from ddfm.formats.pictures import read_image
from ddfm.jobs.matching import match_folders
from ddfm.pictures.colour import WEIGHTS

SIDE = 192
NOISE = ((10, 10), (20, 20), (5, 15))
SETS = ("tno", "roadscene")


def crops(folder: Path, count: int) -> dict[str, list[NDArray[np.uint8]]]:
    """Luminances of the middle of pairs spread evenly over a set."""
    groups, _ = match_folders(folder / "ir", folder / "vi")
    chosen = [groups[n] for n in np.linspace(0, len(groups) - 1, count).round().astype(int)]
    return {group.stem: [middle(path) for path in group.files] for group in chosen}


def middle(path: Path) -> NDArray[np.uint8]:
    pixels = read_image(path).pixels
    grey = pixels[..., 0] if pixels.shape[2] == 1 else pixels @ np.array(WEIGHTS, np.float32)
    top, left = ((side - SIDE) // 2 for side in grey.shape)
    return np.rint(255 * grey[top : top + SIDE, left : left + SIDE]).astype(np.uint8)


def noisy(clean: NDArray[np.uint8], sigma: float, seed: int) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).normal(0, sigma, clean.shape)
    return np.rint((clean + noise).clip(0, 255)).astype(np.uint8)


def main() -> None:
    parser = script_parser(__doc__, "uncertainty.json", data=True)
    parser.add_argument("--crops", type=int, default=8)
    arguments = parser.parse_args()
    prior = load_prior()
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    ratios: dict[str, list[NDArray[np.float64]]] = defaultdict(list)
    for steps in (0, 5):
        options: dict[str, Any] = {"prior": prior, "steps": steps, "task": "infrared", "stretch": "none"}
        for name in SETS:
            pairs = crops(arguments.data / "ivf" / name, arguments.crops)
            for place, (stem, sources) in enumerate(pairs.items()):
                wanted = fuse(*sources, noise="off", **options).to_array() / 255
                for levels in NOISE:
                    given = [noisy(x, s, n) for n, (x, s) in enumerate(zip(sources, levels, strict=True))]
                    result = fuse(*given, uncertainty=True, **options)
                    assert result.std is not None
                    error = np.abs(result.to_array() / 255 - wanted)
                    ratio = error / np.maximum(result.std, 1e-6)
                    row = {
                        "pair": f"{name} {stem}",
                        "noise": levels,
                        "steps": steps,
                        "rms error": 255 * float(np.sqrt((error**2).mean())),
                        "rms spread": 255 * float(np.sqrt((result.std**2).mean())),
                        "within one": float((ratio < 1).mean()),
                        "within two": float((ratio < 2).mean()),
                    }
                    part = "had a say" if place % 2 == 0 else "held out"
                    rows[f"{part}, {steps} steps"].append(row)
                    ratios[f"{part}, {steps} steps"].append(ratio)
                    print({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}, flush=True)
    summary = {
        part: {
            "within one": float(np.mean([row["within one"] for row in made])),
            "within two": float(np.mean([row["within two"] for row in made])),
            "least and most within two": [f(row["within two"] for row in made) for f in (min, max)],
            "rms error": float(np.sqrt(np.mean([row["rms error"] ** 2 for row in made]))),
            "rms spread": float(np.sqrt(np.mean([row["rms spread"] ** 2 for row in made]))),
            "factor for 95 %": float(np.quantile(np.concatenate(ratios[part]), 0.95) / 2),
        }
        for part, made in rows.items()
    }
    print(json.dumps(summary, indent=1))
    write_result(arguments.output, {"summary": summary, "pairs": rows})


if __name__ == "__main__":
    main()
