"""Brackets shot by hand: exposures and focus stacks that were turned, shifted and scaled, then registered.

    python benchmarks brackets DATA [--only PART ...] [--every K]

Reads mef/mefb and mff/mfifb under DATA and writes results/brackets.json.

registration: of each pair, the source that is not the middle one is turned by up to 3 degrees, shifted by
up to 3 % and scaled by up to 2 % (drawn, seeded by the pair's place). MEF-SSIM and Qcb (convention paper) of
the fused picture (steps 0), without 8 % at each border. "by the given warp" undoes it exactly: what
interpolation alone costs. References: the pair as given; that pair with its second picture through the given
warp and back, "through the warp"; the two pictures that were fused, "own sources"; and, since some pairs are
not aligned, the pair as given after registration. Errors are mean end-point errors in pixels against the
given map; "as given moves by" is how far the pair itself moves when it is registered.
static: how much of each pair of MEFB --deghost auto takes for moving, though nearly all of them stand still.
times: whether known exposure times would help as weights. Photographs of natural/bsds500/test become light of
a wide range (half of each lies in shade), which a camera sees at three times, with the noise of photons and
readout. Each exposure's weight, of intensities and details, is multiplied by (t / longest t) to a power;
power 0 is what `ddfm fuse` does. PSNR of the fused picture against that of the same exposures without noise,
with the same power and with power 0; MEF-SSIM with the three exposures without noise, and Qcb with the
shortest and the longest of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from camera_model import GAINS, Values, noisy
from common import measure_parts, script_parser
from numpy.typing import NDArray

from ddfm import fuse
from ddfm.demo.rendering import developed
from ddfm.errors import InputError
from ddfm.formats.pictures import images_by_stem, read_image
from ddfm.likelihoods.base import Likelihood
from ddfm.likelihoods.forms import Form
from ddfm.likelihoods.hierarchical import HierarchicalLikelihood
from ddfm.likelihoods.tasks import Task
from ddfm.metrics import evaluate, mef_ssim
from ddfm.registration.alignment import Floats, positions, transformed
from ddfm.registration.estimate import register

Array = NDArray[np.float32]
SETS = {"mef/mefb": ("exposure", "under", "over"), "mff/mfifb": ("focus", "near", "far")}
METRICS = ("MEF_SSIM", "Qcb")
TURN, SHIFT, SCALE = 3.0, 0.03, 0.02  # degrees, and shares of the sides
BORDER = 0.08  # share of each side that is not measured
CLOSE = 0.98  # of the aligned pair's value
STOPS = (-2.0, 0.0, 2.0)  # of the three exposures of part "times"
SHADE = 4.0  # stops between what is lit and what lies in shade
POWERS = (-0.25, 0.0, 0.25, 0.5, 1.0)  # of the exposure time, as a weight
PHOTOGRAPHS = 6


def pairs(data: Path, every: int) -> Iterator[tuple[str, str, Array, Array]]:
    """Yield the task, the name and the pixels of each pair."""
    for folder, (task, *kinds) in SETS.items():
        first, second = (images_by_stem(data / folder / kind) for kind in kinds)
        for stem in list(first)[::every]:
            yield task, stem, read_image(first[stem]).pixels, read_image(second[stem]).pixels


def drawn_map(size: tuple[int, ...], seed: int) -> Floats:
    """Draw a map from the pixels of a picture of that size to those of the same one held otherwise."""
    rng = np.random.default_rng(seed)
    height, width = size[:2]
    angle, scale = np.deg2rad(rng.uniform(-TURN, TURN)), rng.uniform(1 - SCALE, 1 + SCALE)
    shift = rng.uniform(-SHIFT, SHIFT, 2) * (width, height)
    centre = np.array([[1, 0, (width - 1) / 2], [0, 1, (height - 1) / 2], [0, 0, 1]])
    turn = np.array(
        [
            [scale * np.cos(angle), -scale * np.sin(angle), shift[0]],
            [scale * np.sin(angle), scale * np.cos(angle), shift[1]],
            [0, 0, 1],
        ]
    )
    return centre @ turn @ np.linalg.inv(centre)


def held_otherwise(picture: Array, matrix: Floats) -> Array:
    """Return the picture with the camera held otherwise: at matrix(x) what it shows at x; else mirrored."""
    height, width = picture.shape[:2]
    moved = cv2.warpPerspective(
        picture, matrix, (width, height), flags=cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REFLECT
    )
    return np.asarray(moved, np.float32).clip(0, 1).reshape(height, width, -1)


def put_back(picture: Array, matrix: Floats) -> Array:
    """Undo `held_otherwise`, but for what interpolation loses."""
    return held_otherwise(picture, np.linalg.inv(matrix))


def inner(picture: Array) -> torch.Tensor:
    """Return the picture without its border, (1, C, H, W) in 0 to 255."""
    height, width = picture.shape[:2]
    down, across = round(BORDER * height), round(BORDER * width)
    return torch.from_numpy(np.rint(255 * picture[down : height - down, across : width - across])).movedim(
        -1, 0
    )[None]


def quality(a: Array, b: Array, fused: Array) -> dict[str, float]:
    values = evaluate(inner(a), inner(b), inner(fused), metrics=METRICS)
    return {name: round(values[name].item(), 4) for name in METRICS}


def error(flow: Array, matrix: Floats) -> float:
    here = positions((flow.shape[1], flow.shape[0]))
    off = np.linalg.norm(here + flow - transformed(matrix, here), axis=2)
    height, width = off.shape
    down, across = round(BORDER * height), round(BORDER * width)
    return round(float(off[down:-down, across:-across].mean()), 2)


def measure_pair(task: str, a: Array, b: Array, seed: int) -> dict[str, Any]:
    """One pair, as given and held otherwise."""
    matrix = drawn_map(b.shape, seed)
    moving = held_otherwise(b, matrix)
    exact = put_back(moving, matrix)

    def mixed(second: Array, **how: Any) -> Array:
        return fuse(a, second, task=task, steps=0, **how).image.pixels

    registration = register(moving, a, one_camera=True)
    own = register(b, a, one_camera=True)
    row: dict[str, Any] = {
        "as given": quality(a, b, mixed(b)),
        "unregistered": quality(a, b, mixed(moving)),
        "by the given warp": quality(a, b, mixed(exact)),
        "confidence": round(registration.confidence, 3),
        "error": error(registration.flow, matrix),
        "as given moves by": error(own.flow, np.eye(3)),
    }
    try:
        fused = mixed(moving, register="affine")
    except InputError:
        return row | {"refused": True}
    warped = registration.warp(moving, a)
    row["registered"] = quality(a, b, fused)
    row["registered, of its own sources"] = quality(a, warped, fused)
    row["through the warp"] = quality(a, exact, mixed(exact))
    row["registered, of the pair through the warp"] = quality(a, exact, fused)
    brought = own.warp(b, a)
    row["as given, registered"] = quality(a, brought, mixed(brought))
    row["registered, of the given pair registered"] = quality(a, brought, fused)
    row["task found"] = fuse(a, moving, steps=0, register="affine", noise="off").settings["task"]
    return row


def registration(data: Path, every: int) -> dict[str, Any]:
    """Measure all pairs of both sets, and count those that come within 2 %."""
    found: dict[str, Any] = {"pairs": {}}
    for seed, (task, stem, a, b) in enumerate(pairs(data, every)):
        row = found["pairs"][f"{task} {stem}"] = measure_pair(task, a, b, seed)
        print(task, stem, json.dumps(row), flush=True)
    for task in ("exposure", "focus"):
        rows = [row for name, row in found["pairs"].items() if name.startswith(task)]
        found[task] = {
            "pairs": len(rows),
            "refused": sum("refused" in row for row in rows),
            "task found": sum(row.get("task found") == task for row in rows),
            **{
                f"{value}, within 2 % of {reference}": count_close(rows, value, reference)
                for value, reference in (
                    ("unregistered", "as given"),
                    ("by the given warp", "as given"),
                    ("registered", "as given"),
                    ("registered, of the pair through the warp", "through the warp"),
                    ("registered, of its own sources", "as given"),
                    ("registered, of the given pair registered", "as given, registered"),
                )
            },
            "median error": float(np.median([row["error"] for row in rows])),
            "median move as given": float(np.median([row["as given moves by"] for row in rows])),
        }
    return found


def count_close(rows: list[dict[str, Any]], value: str, reference: str) -> dict[str, int]:
    """Count, by metric and for both at once, the pairs that lose no more than 2 %."""
    close = [
        {name: value in row and row[value][name] >= CLOSE * row[reference][name] for name in METRICS}
        for row in rows
        if "refused" not in row
    ]
    counts = {name: sum(row[name] for row in close) for name in METRICS}
    return {**counts, "both": sum(all(row.values()) for row in close)}


def static(data: Path, every: int) -> dict[str, Any]:
    """Measure what of the exposures is replaced, and what that changes."""
    rows: dict[str, Any] = {}
    for task, stem, a, b in pairs(data, every):
        if task != "exposure":
            continue
        on, off = (fuse(a, b, task=task, steps=0, deghost=how) for how in ("auto", "off"))
        rows[stem] = {
            "replaced": max(on.settings["moving"]["replaced"]),
            "same bytes": bool((on.image.pixels == off.image.pixels).all()),
            "off": quality(a, b, off.image.pixels),
            "auto": quality(a, b, on.image.pixels),
        }
    return {"pairs": rows, "untouched": f"{sum(row['same bytes'] for row in rows.values())} of {len(rows)}"}


# --- Exposure times as weights --------------------------------------------------------------------------


def light_of(picture: Array, seed: int) -> Values:
    """Return light (H, W, 3) of a photograph, of which a drawn half lies in shade; middle grey is .2."""
    height, width = picture.shape[:2]
    angle = np.random.default_rng(seed).uniform(0, 2 * np.pi)
    down, across = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    lit = 1 / (1 + np.exp(-8 * (np.cos(angle) * down + np.sin(angle) * across)))
    light = picture.astype(float) ** 2.2 * 2 ** (SHADE * (lit[..., None] - 0.5))
    return np.asarray(light * 0.2 / np.median(light.mean(2)))


def exposures(light: Values, shot: float | None, seed: int) -> list[NDArray[np.uint8]]:
    """Return what a camera makes of the light in three times, shortest first; without noise for None."""
    random = np.random.default_rng(seed)
    shots = []
    for stop in STOPS:
        seen = (light * 2**stop).clip(0, 1)
        read = seen if shot is None else noisy(seen, shot, random)
        shots.append(np.asarray(developed(read.astype(np.float32))))
    return shots


def weighed_by_time(power: float) -> Form:
    """Return the form ddfm for sources in the order of `STOPS`, with the time's power in their weights."""
    weights = [2 ** (power * (stop - (max(STOPS) if power > 0 else min(STOPS)))) for stop in STOPS]

    def make(sources: Sequence[torch.Tensor], noise: Sequence[torch.Tensor], task: Task) -> Likelihood:
        shown = [torch.full_like(x, weight) for x, weight in zip(sources, weights, strict=True)]
        return HierarchicalLikelihood(sources, noise, task, shown=shown if power else None)

    return Form("by time", make, least_steps=0, most_sources=None, warm=True, denoises=True, tasks=True)


def psnr(made: Array, wanted: Array) -> float:
    return float(-10 * np.log10(np.square(made.astype(float) - wanted).mean()))


def measure_times(picture: Array, gain: str, seed: int, noise: str) -> dict[str, dict[str, float]]:
    """Return the scores of one photograph's bracket for each power of the time."""
    light = light_of(picture, seed)
    clean, given = exposures(light, None, seed), exposures(light, GAINS[gain], seed)

    def mixed(shots: Sequence[NDArray[np.uint8]], power: float, noise: str) -> Array:
        how = {"task": "exposure", "steps": 0, "deghost": "off", "noise": noise}
        return fuse(*shots, form=weighed_by_time(power), **how).image.pixels  # type: ignore[arg-type]

    plain = mixed(clean, 0, "off")
    rows = {}
    for power in POWERS:
        made = mixed(given, power, noise)
        planes = [torch.from_numpy(x.astype(float)).movedim(-1, 0)[None].mean(1, True) for x in clean]
        fused = torch.from_numpy(np.rint(255 * made.astype(float))).movedim(-1, 0)[None].mean(1, True)
        rows[f"power {power:g}"] = {
            "PSNR, same power": psnr(made, mixed(clean, power, "off")),
            "PSNR, power 0": psnr(made, plain),
            "MEF_SSIM": float(mef_ssim(planes, fused)),
            "Qcb": float(evaluate(planes[0], planes[-1], fused, metrics=("Qcb",))["Qcb"]),
        }
    return rows


def times(data: Path, every: int) -> dict[str, Any]:
    """Measure brackets of photographs at two gains, sources as they are and denoised, for each power."""
    paths = sorted((data / "natural/bsds500/test").iterdir())
    chosen = np.random.default_rng(0).permutation(len(paths))[:PHOTOGRAPHS:every]
    pictures = [read_image(paths[k]).pixels for k in chosen]
    found: dict[str, Any] = {"photographs": len(pictures)}
    for gain in list(GAINS)[:2]:
        for noise in ("off", "auto"):
            rows = [measure_times(picture, gain, seed, noise) for seed, picture in enumerate(pictures)]
            found[f"{gain}, noise {noise}"] = {
                power: {
                    score: round(float(np.mean([row[power][score] for row in rows])), 4) for score in scores
                }
                for power, scores in rows[0].items()
            }
    return found


PARTS = {"registration": registration, "static": static, "times": times}


def main() -> None:
    parser = script_parser(__doc__, "brackets.json", data=True, parts=tuple(PARTS), every="pair")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    parts = {name: partial(part, arguments.data, arguments.every) for name, part in PARTS.items()}
    measure_parts(parts, arguments.output, arguments.only)


if __name__ == "__main__":
    main()
