"""What back ends and number formats of the network change in the result, beside torch in float32.

    python benchmarks/precision.py DATA [--every K] [--sheets FOLDER]

DATA holds the sets below. Of each, as many pairs as it says are fused at the default steps; "noisy" ones
with white noise of 20 grey levels on both sources, so that they are denoised first, and then measured
against the clean sources. results/precision.json has for every set and variant

- "mean" and "largest": absolute difference from float32, in grey levels, before the result is rounded;
- for each metric of convention paper "of the mean": the relative difference of its mean over the set, in
  percent, and "of a pair": the largest of a single pair;

and in "worst" the extremes over all sets, with those that miss a target: a mean difference of 0.5 grey
levels, 0.5 % of a metric's mean over a set. With --sheets, pictures of the differences go to FOLDER.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import script_parser, write_result
from numpy.typing import NDArray
from PIL import Image as PILImage

from ddfm.formats.pictures import read_image
from ddfm.fusion.pipeline import fuse
from ddfm.fusion.result import FusionResult
from ddfm.jobs.matching import match_folders
from ddfm.metrics import evaluate, metric_names
from ddfm.priors.base import Prior
from ddfm.priors.loading import load_prior

REFERENCE = ("torch", "float32")
VARIANTS = (("torch", "bfloat16"), ("openvino", "float32"), ("openvino", "bfloat16"))
GREY_LEVELS, PERCENT = 0.5, 0.5  # the targets
NOISE = 20
AMPLIFIED = 32  # differences in the sheets

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Subset:
    folder: str
    a: str
    b: str
    task: str
    pairs: int
    noise: int = 0

    @property
    def name(self) -> str:
        return f"{self.folder}, noisy" if self.noise else self.folder


SETS = (
    Subset("ivf/tno", "ir", "vi", "infrared", 6),
    Subset("ivf/tno", "ir", "vi", "infrared", 3, NOISE),
    Subset("ivf/roadscene", "ir", "vi", "infrared", 6),
    Subset("ivf/roadscene", "ir", "vi", "infrared", 3, NOISE),
    Subset("vifb", "ir", "vi", "infrared", 4),
    Subset("misaligned/msrs", "ir", "vi", "infrared", 4),
    Subset("misaligned/msrs", "ir", "vi", "infrared", 2, NOISE),
    Subset("mif/mri_ct", "ct", "mri", "medical", 3),
    Subset("mif/mri_pet", "pet", "mri", "medical", 4),
    Subset("mif/mri_spect", "spect", "mri", "medical", 4),
)


def noisy(image: Bytes, noise: int, seed: int) -> Bytes:
    disturbed = image + np.random.default_rng(seed).normal(0, noise, image.shape)
    return np.rint(disturbed).clip(0, 255).astype(np.uint8)


def as_batch(image: Bytes) -> torch.Tensor:
    return torch.from_numpy(np.atleast_3d(image)).movedim(-1, 0)[None]


def write_sheet(path: Path, reference: FusionResult, others: dict[str, FusionResult]) -> None:
    """The result in float32, and beside it the others' differences from it, amplified about grey."""
    parts = [np.atleast_3d(reference.to_array())]
    for other in others.values():
        difference = other.image.pixels.astype(float) - reference.image.pixels
        parts.append(np.rint(127.5 + 255 * AMPLIFIED * difference).clip(0, 255).astype(np.uint8))
    channels = max(part.shape[-1] for part in parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet = np.concatenate([np.broadcast_to(part, (*part.shape[:2], channels)) for part in parts], 1)
    PILImage.fromarray(sheet.squeeze()).save(path)


def measure(subset: Subset, data: Path, prior: Prior, every: int, sheets: Path | None) -> dict[str, Any]:
    """The rows of one set, by variant."""
    groups, _ = match_folders(*(data / subset.folder / name for name in (subset.a, subset.b)))
    chosen = groups[:: max(1, len(groups) // subset.pairs)][: subset.pairs][::every]
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    means, largest = defaultdict(list), defaultdict(list)
    for n, group in enumerate(chosen):
        clean = [read_image(file).to_array() for file in group.files]
        given = [noisy(image, subset.noise, 2 * n + k) for k, image in enumerate(clean)]
        options: dict[str, Any] = {"task": subset.task, "prior": prior, "device": "cpu"}
        results = {
            f"{backend} {dtype}": fuse(*given, backend=backend, dtype=dtype, **options)
            for backend, dtype in (REFERENCE, *VARIANTS)
        }
        reference = results[" ".join(REFERENCE)]
        if subset.noise and min(reference.settings["denoised"]) == 0:
            raise SystemExit(f"{group.stem}: was not denoised")
        for name, result in results.items():
            a, b, fused = map(as_batch, (*clean, result.to_array()))
            for metric, value in evaluate(a, b, fused).items():
                values[name][metric].append(float(value))
            difference = 255 * np.abs(result.image.pixels.astype(float) - reference.image.pixels)
            means[name].append(float(difference.mean()))
            largest[name].append(float(difference.max()))
        if sheets and n == 0:
            others = {name: result for name, result in results.items() if result is not reference}
            name = subset.name.replace("/", "-").replace(", ", "-")
            write_sheet(sheets / f"{name}-{group.stem}.png", reference, others)
    rows = {}
    of_reference = values.pop(" ".join(REFERENCE))
    for name, metrics in values.items():
        rows[name] = {
            "mean": round(float(np.mean(means[name])), 4),
            "largest": round(max(largest[name]), 3),
            "metrics": {m: compared(metrics[m], of_reference[m]) for m in metric_names("paper")},
        }
    return {"pairs": len(chosen), **rows}


def compared(values: list[float], reference: list[float]) -> dict[str, float]:
    """Relative differences in percent: of the mean, and the largest of one pair."""
    ours, theirs = np.array(values), np.array(reference)
    return {
        "of the mean": round(100 * float(abs(ours.mean() / theirs.mean() - 1)), 4),
        "of a pair": round(100 * float(np.abs(ours / theirs - 1).max()), 4),
    }


def worst(sets: dict[str, Any]) -> dict[str, Any]:
    """The extremes over all sets, by variant, and what misses the targets."""
    rows = {}
    for variant in (" ".join(pair) for pair in VARIANTS):
        made = {name: row[variant] for name, row in sets.items()}
        each = [(m, name, v) for name, row in made.items() for m, v in row["metrics"].items()]
        far = {kind: max((v[kind], m, name) for m, name, v in each) for kind in ("of the mean", "of a pair")}
        rows[variant] = {
            "mean": max(row["mean"] for row in made.values()),
            "largest": max(row["largest"] for row in made.values()),
            **{kind: f"{value} % {metric} ({name})" for kind, (value, metric, name) in far.items()},
            "missed": [name for name, row in made.items() if row["mean"] >= GREY_LEVELS]
            + [f"{m} ({name})" for m, name, v in each if v["of the mean"] > PERCENT],
        }
    return rows


def main() -> None:
    parser = script_parser(__doc__, "precision.json", data=True, every="pair")
    parser.add_argument("--sheets", type=Path, help="folder for pictures of the differences")
    arguments = parser.parse_args()
    prior, sets = load_prior(), {}
    for subset in SETS:
        sets[subset.name] = measure(subset, arguments.data, prior, arguments.every, arguments.sheets)
        print(subset.name, json.dumps(sets[subset.name]), flush=True)
    table = {
        "cpu": torch.cpu.get_capabilities()["cpu_name"],
        "threads": torch.get_num_threads(),
        "worst": worst(sets),
        "sets": sets,
    }
    write_result(arguments.output, table)
    print(json.dumps(table["worst"], indent=1))


if __name__ == "__main__":
    main()
