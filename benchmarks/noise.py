"""What `ddfm.noise` finds in pictures to which a known disturbance was added, and in clean ones.

    python benchmarks/noise.py DATA [--every K]

ROOT holds ivf, vifb, mif, mef and mff as in the sets below. Each picture's luminance, 8 bits, is measured
as it is and with white noise of 10 and 20 of 255, with column and row offsets of 6, with both, and
after JPEG of quality 30; each is rounded and cut off to 8 bits as a file would be. A set's row in
results/noise.json has

- clean: quantiles of the noise estimated in the pictures as they are, and how many open a gate;
- "noise S": the extreme relative errors of the estimate against hypot(S, the picture's own noise),
  those against S alone, and how many of the noisy pictures are taken for striped;
- "stripes 6", "stripes 6, noise 10": how many are found, the standard deviation of what the removal leaves
  of the offsets, and the largest noise estimated, or its extreme errors;
- "jpeg 30": how many are found;
- seconds: for a picture in which nothing is found, on one thread.
"""

from __future__ import annotations

import io
import json
import math
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import script_parser, write_result
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ddfm.formats.pictures import images_by_stem
from ddfm.noise.clean import clean_source
from ddfm.noise.compression import quantisation_step
from ddfm.noise.level import GREY_LEVEL, NOISE_GATE, estimate_noise
from ddfm.noise.stripes import remove_stripes

SETS = (
    "ivf/tno/ir",
    "ivf/tno/vi",
    "ivf/roadscene/ir",
    "ivf/roadscene/vi",
    "vifb/ir",
    "vifb/vi",
    "mif/mri_ct/ct",
    "mif/mri_ct/mri",
    "mif/mri_pet/mri",
    "mif/mri_pet/pet",
    "mif/mri_spect/spect",
    "mif/mri_spect/mri",
    "mef/mefb/under",
    "mef/mefb/over",
    "mff/mfifb/near",
    "mff/mfifb/far",
)
Grey = NDArray[np.float64]


def as_file(grey: Grey) -> Tensor:
    """Grey levels rounded and cut off to 8 bits, as luminance (1, 1, H, W)."""
    samples = np.rint(grey).clip(0, 255).astype(np.float32)
    return torch.from_numpy(samples)[None, None] * GREY_LEVEL - 1


def after_jpeg(grey: Grey, quality: int) -> Grey:
    buffer = io.BytesIO()
    Image.fromarray(grey.astype(np.uint8)).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as file:
        return np.asarray(file, np.float64)


def noise_of(luma: Tensor) -> float:
    """Estimated noise, in units of 0..255."""
    return float(estimate_noise(luma)) / GREY_LEVEL


def is_striped(luma: Tensor) -> bool:
    return not torch.equal(remove_stripes(luma), luma)


def spread(values: list[float]) -> list[float]:
    return [round(min(values), 4), round(max(values), 4)]


def measure(paths: list[Path]) -> dict[str, Any]:
    """The row of one set."""
    own, seconds = [], []
    clean = {"noisy": 0, "striped": 0, "compressed": 0}
    errors: dict[int, list[float]] = {10: [], 20: []}
    raw: dict[int, list[float]] = {10: [], 20: []}
    striped = {10: 0, 20: 0}
    left: dict[int, list[float]] = {0: [], 10: []}
    found = {0: 0, 10: 0}
    under_stripes: dict[int, list[float]] = {0: [], 10: []}
    jpeg = 0
    for index, path in enumerate(paths):
        with Image.open(path) as file:
            grey = np.asarray(file.convert("L"), np.float64)
        rng = np.random.default_rng(index)
        luma = as_file(grey)
        own.append(noise_of(luma))
        gates = own[-1] > NOISE_GATE / GREY_LEVEL, is_striped(luma), bool(quantisation_step(luma) > 0)
        for gate, opened in zip(clean, gates, strict=True):
            clean[gate] += opened
        if not any(gates):
            start = time.perf_counter()
            clean_source(luma, lambda: 1 / 0)  # type: ignore[arg-type, return-value]
            seconds.append(time.perf_counter() - start)
        for sigma in errors:
            noisy = as_file(grey + rng.normal(0, sigma, grey.shape))
            estimate = noise_of(noisy)
            errors[sigma].append(estimate / math.hypot(sigma, own[-1]) - 1)
            raw[sigma].append(estimate / sigma - 1)
            striped[sigma] += is_striped(noisy)
        offsets = rng.normal(0, 6, (grey.shape[0], 1)) + rng.normal(0, 6, (1, grey.shape[1]))
        for sigma in left:
            disturbed = as_file(grey + offsets + rng.normal(0, sigma, grey.shape))
            removed = (disturbed - remove_stripes(disturbed))[0, 0].numpy() / GREY_LEVEL
            found[sigma] += bool((removed != 0).any())
            left[sigma].append(float((offsets - removed).std()))
            under_stripes[sigma].append(noise_of(disturbed))
        jpeg += bool(quantisation_step(as_file(after_jpeg(grey, 30))) > 0)
    with_noise = [
        estimate / math.hypot(10, noise) - 1 for estimate, noise in zip(under_stripes[10], own, strict=True)
    ]
    row: dict[str, Any] = {
        "pictures": len(paths),
        "clean": {"quantiles 0 .5 .9 1": np.quantile(own, (0, 0.5, 0.9, 1)).round(2).tolist(), **clean},
    }
    for sigma, values in errors.items():
        row[f"noise {sigma}"] = {
            "errors": spread(values),
            "beyond 10 %": sum(abs(value) > 0.1 for value in values),
            "errors against noise added": spread(raw[sigma]),
            "taken for striped": striped[sigma],
        }
    row["stripes 6"] = {
        "found": found[0],
        "left, median and worst": [round(statistics.median(left[0]), 2), round(max(left[0]), 2)],
        "noise estimated, largest": round(max(under_stripes[0]), 2),
    }
    row["stripes 6, noise 10"] = {
        "found": found[10],
        "left, median and worst": [round(statistics.median(left[10]), 2), round(max(left[10]), 2)],
        "errors": spread(with_noise),
    }
    row["jpeg 30"] = {"found": jpeg}
    row["seconds"] = round(statistics.median(seconds), 4) if seconds else None
    return row


def main() -> None:
    parser = script_parser(__doc__, "noise.json", data=True, every="picture")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    table = {}
    for name in SETS:
        table[name] = measure(list(images_by_stem(arguments.data / name).values())[:: arguments.every])
        print(name, json.dumps(table[name]), flush=True)
    write_result(arguments.output, table)


if __name__ == "__main__":
    main()
