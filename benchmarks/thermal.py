"""Thermal cameras' own files: what opens, temperatures beside ExifTool, the place of the photograph; MSX.

    python benchmarks/thermal.py DATA [--only files]

Reads thermal and ivf/tno under DATA and writes results/thermal.json. ExifTool is called if it is installed.

- "against ExifTool": the largest difference, in degrees, to temperatures of the counts that ExifTool extracts
  and of its calibration tags, by the published formula (tests/formats/test_radiometric.py has it);
- "residual": mean length of what our own registration would still move, in pixels of the sensor, with its
  confidence: by the file's offsets (--place file), by default, and after --register affine. A registration of
  less than 0.15 says nothing;
- "TNO": mean metrics (convention paper), over all pairs, of the cameras'
  edge overlay (`msx`), of the mean, and of ours.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import measure_parts, script_parser

from ddfm.benchmark.datasets import DATASETS
from ddfm.benchmark.methods import as_bytes, find_methods
from ddfm.errors import InputError
from ddfm.formats.pictures import images_by_stem, read_image
from ddfm.formats.radiometric import Thermogram, read_thermogram
from ddfm.fusion.options import Options
from ddfm.metrics import evaluate
from ddfm.registration import register
from ddfm.thermal.place import place

sys.path.insert(0, str(Path(__file__).parents[1]))
PARTS = ("files", "TNO")
METHODS = ("ddfm", "msx", "mean")
METRICS = ("MI", "SCD", "VIF", "Qabf", "SSIM_dr255")


def against_exiftool(path: Path, found: Thermogram) -> float:
    """Return the largest difference in degrees Celsius."""
    from tests.formats.test_radiometric import by_the_published_formula, exiftool, exiftool_counts

    (tags,) = json.loads(exiftool(path, "-j", "-n", "-FLIR:all"))
    numbers: dict[str, float] = {}
    for name, value in tags.items():
        try:
            numbers[name] = float(value)
        except (TypeError, ValueError):
            continue
    expected = by_the_published_formula(exiftool_counts(path), numbers)
    return float(np.abs(found.readings - expected).max())


def residual(found: Thermogram, options: Options, refine: bool = False) -> dict[str, Any] | str:
    """Return what our registration would still move, and how sure it is."""
    try:
        placed = place(found, None, options, refine=refine)
    except InputError as error:
        return str(error).replace(found.name, Path(found.name).name)
    thermal, light = (image.pixels for image in placed.images)
    registration = register(thermal, light, "affine")
    box = placed.thermogram.box
    assert box is not None
    pixel = (box[2] - box[0]) / found.size[1]
    moved = np.linalg.norm(registration.flow, axis=2)[registration.shown].mean() / pixel
    left = {"pixels": round(float(moved), 2), "confidence": round(registration.confidence, 2)}
    return left | ({"how": placed.how} if refine else {})


def opened(path: Path) -> dict[str, Any]:
    """Return what a file gives, or why it is refused."""
    try:
        found = read_thermogram(path)
    except InputError as error:
        return {"refused": str(error)}
    about: dict[str, Any] = {"camera": found.camera, "size": f"{found.size[1]}x{found.size[0]}"}
    if found.uncalibrated:
        return about | {"temperatures": f"refused: {found.uncalibrated}"}
    low, high = float(np.nanmin(found.readings)), float(np.nanmax(found.readings))
    about["temperatures"] = f"{low:.2f} to {high:.2f}"
    if found.maker == "FLIR" and shutil.which("exiftool"):
        about["against ExifTool"] = round(against_exiftool(path, found), 6)
    if found.photograph is None:
        return about | {"photograph": found.missing}
    about["by the file's offsets"] = residual(found, Options())
    about["by default"] = residual(found, Options(), refine=True)
    about["after --register affine"] = residual(found, Options(register="affine"))
    return about


def overlays(folder: Path) -> dict[str, dict[str, float]]:
    """Return the mean metrics of the methods on TNO."""
    thermal, visible = (images_by_stem(folder / name) for name in ("ir", "vi"))
    stems = sorted(set(thermal) & set(visible))
    means: dict[str, dict[str, float]] = {}
    for method in find_methods(METHODS, DATASETS["tno"], stems):
        if method.name not in METHODS or method.fuse is None:
            continue
        rows = []
        for stem in stems:
            a, b = read_image(thermal[stem]), read_image(visible[stem])
            fused = method.fuse(a, b)
            first, second, third = (
                torch.from_numpy(as_bytes(i)).movedim(-1, 0)[None].double() for i in (a, b, fused)
            )
            values = evaluate(first, second, third, "paper", METRICS)
            rows.append([float(values[name]) for name in METRICS])
        means[method.name] = dict(zip(METRICS, np.mean(rows, 0).round(3).tolist(), strict=True))
    return means


def main() -> None:
    arguments = script_parser(__doc__, "thermal.json", data=True, parts=PARTS).parse_args()
    files, tno = arguments.data / "thermal", arguments.data / "ivf" / "tno"
    measured = (lambda: {path.name: opened(path) for path in sorted(files.iterdir())}, lambda: overlays(tno))
    measure_parts(dict(zip(PARTS, measured, strict=True)), arguments.output, arguments.only)


if __name__ == "__main__":
    main()
