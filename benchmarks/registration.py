"""Registration against known warps, on unrelated scenes, and by what fusion makes of it.

    python benchmarks/registration.py DATA [--every K] [--only PART ...]

Reads misaligned (SuperFusion's test data), ivf and vifb under DATA and writes results/registration.json.
End-point errors are in pixels of the fixed picture, over what the moving one covers. Seconds are of
processor time on one thread. Of a pair of misaligned, and of a model,

- "loss against ir as given": Qabf and VIF (convention paper) of fuse(registered ir_warp, vi), against ir and
  vi as given, relative to those of fuse(ir, vi), in percent; "by the given warp" has the true warp instead
  of a found one: what is lost with the parts that ir_warp no longer shows, and by interpolation;
- "ir as given moves by", "its loss": the same for ir itself, which is said to be aligned with vi already;
- "loss against ir registered, too": with that registered ir as the reference;
- "own sources": against the sources that were fused;
- "MI of details": mutual information of the details of vi and of the result; nothing maximises it.

"peers" has OpenCV's findTransformECC and SimpleITK's Mattes mutual information (extra ``dev``) on the same
warps: from coarse to fine, with a mask for the black frame. ECC, which compares contrasts, gets magnitudes
of gradients, too. The settings of Mattes are the best of six on eight of these pairs. Affine methods also get
every picture with that of another scene, which should be refused. A score is what a method says of its own
result: our confidence, ECC's correlation, the mutual information.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, get_args

import cv2
import numpy as np
import torch
from common import measure_parts, script_parser
from numpy.typing import NDArray

from ddfm import fuse
from ddfm.formats.pictures import images_by_stem, read_image
from ddfm.metrics import evaluate
from ddfm.registration.estimate import LEAST_CONFIDENCE, Registration, register
from ddfm.registration.models import Registering

Array = NDArray[np.float32]
MISALIGNED = ("misaligned/msrs", "misaligned/roadscene")
SETS = (*MISALIGNED, "ivf/roadscene", "ivf/tno", "vifb")
METRICS = ("Qabf", "VIF")
ECC_SHRINKS = (8, 4, 2, 1)  # sizes that ECC goes through, from coarse to fine
ECC_ITERATIONS = 200  # at each size


def pixels(path: Path) -> Array:
    return read_image(path).pixels


def grid(height: int, width: int) -> Array:
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return np.dstack([x, y])


def given_warp(path: Path) -> Array:
    """Where in ir each pixel of ir_warp came from; the file has torch's sampling grid, in [-1, 1]."""
    flow = np.load(path)["flow"].astype(np.float32)
    height, width = flow.shape[:2]
    return ((flow + 1) * np.array([width, height], np.float32) - 1) / 2


def inverse(warp: Array) -> Array:
    """The displacements that undo a warp: by fixed point, with an affine map where it is not defined."""
    here = grid(*warp.shape[:2])
    points = np.c_[here.reshape(-1, 2), np.ones(here[..., 0].size)]
    affine = np.linalg.lstsq(points, warp.reshape(-1, 2), rcond=None)[0]
    rest = (warp - (points @ affine).reshape(warp.shape)).astype(np.float32)
    turn = np.linalg.inv(affine[:2].T)
    at = (here - affine[2]) @ turn.T
    for _ in range(30):
        x, y = (np.ascontiguousarray(at[..., k], np.float32) for k in (0, 1))
        at = (
            here - affine[2] - cv2.remap(rest, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        ) @ turn.T
    return (at - here).astype(np.float32)


def error(flow: Array, truth: Array, size: tuple[int, ...]) -> float:
    """Mean end-point error over the pixels that the moving picture of ``size`` covers."""
    at = grid(*truth.shape[:2]) + truth
    covered = ((at >= 0) & (at <= (size[1] - 1, size[0] - 1))).all(2)
    return float(np.linalg.norm(flow - truth, axis=2)[covered].mean())


def drawn_warp(height: int, width: int, seed: int) -> Array:
    """A warp like SuperFusion's: a turn, scale, shear and shift, and smooth noise of some 1.5 pixels."""
    rng = np.random.default_rng(seed)
    angle, scale, shear = rng.uniform(-0.14, 0.14), rng.uniform(0.95, 1.05), rng.uniform(-0.03, 0.03)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle) + shear], [np.sin(angle), np.cos(angle)]])
    centre = np.array([width - 1, height - 1]) / 2
    shift = rng.uniform(-0.05, 0.05, 2) * (width, height)
    noise = [cv2.GaussianBlur(rng.normal(size=(height, width)), (0, 0), 25) for _ in range(2)]
    smooth = np.dstack([1.1 * plane / plane.std() for plane in noise])
    return ((grid(height, width) - centre) @ turn.T + centre + shift + smooth).astype(np.float32)


def warped(picture: Array, at: Array) -> Array:
    result = cv2.remap(
        picture, np.ascontiguousarray(at[..., 0]), np.ascontiguousarray(at[..., 1]), cv2.INTER_LINEAR
    )
    return np.asarray(result, np.float32).reshape(*at.shape[:2], -1)


def timed(moving: Array, fixed: Array, model: Registering) -> tuple[Registration, float]:
    start = time.process_time()
    return register(moving, fixed, model), time.process_time() - start


def quality(a: Array, b: Array, fused: Array) -> NDArray[np.float64]:
    first, second, third = (torch.from_numpy(np.rint(i * 255)).movedim(-1, 0)[None] for i in (a, b, fused))
    values = evaluate(first, second, third, metrics=METRICS)
    return np.array([values[name].item() for name in METRICS])


def mixed(a: Array, b: Array) -> Array:
    return fuse(a, b, steps=0).image.pixels


def mutual_information(a: Array, b: Array) -> float:
    """Of what a Gaussian of 6 pixels takes away, within +-0.1, in nats, without 40 pixels of border."""
    planes = []
    for image in (a, b):
        grey = image.mean(2)
        planes.append((grey - cv2.GaussianBlur(grey, (0, 0), 6)).clip(-0.1, 0.1)[40:-40, 40:-40].ravel())
    joint = np.histogram2d(planes[0], planes[1], 48)[0] / planes[0].size
    apart = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    return float((joint[joint > 0] * np.log(joint[joint > 0] / apart[joint > 0])).sum())


def percent(values: NDArray[np.float64]) -> list[float]:
    return (100 * values).round(1).tolist()


def measure_pair(folder: Path, name: str) -> dict[str, Any]:
    """One pair of the misaligned sets, by all models."""
    ir, vi, moving = (pixels(folder / kind / f"{name}.png") for kind in ("ir", "vi", "ir_warp"))
    truth = inverse(given_warp(folder / "flow" / f"{name}.npz"))
    aligned = quality(ir, vi, mixed(ir, vi))
    at = grid(*truth.shape[:2]) + truth
    kept = warped(np.ones_like(moving), given_warp(folder / "flow" / f"{name}.npz"))
    exact = Registration(truth, "affine", np.eye(3), 1.0, warped(kept, at)[..., 0] > 0.999)
    row: dict[str, Any] = {
        "unaligned": round(error(np.zeros_like(truth), truth, moving.shape), 2),
        "fused, loss of Qabf and VIF in %, unregistered": percent(
            quality(ir, vi, mixed(moving, vi)) / aligned - 1
        ),
        "by the given warp": percent(quality(ir, vi, mixed(exact.warp(moving, vi), vi)) / aligned - 1),
        "MI of details, ir as given": round(mutual_information(ir, vi), 4),
    }
    for model in get_args(Registering):
        registration, seconds = timed(moving, vi, model)
        own = register(ir, vi, model)
        result, reference = registration.warp(moving, vi), own.warp(ir, vi)
        fused = mixed(result, vi)
        row[model] = {
            "error": round(error(registration.flow, truth, moving.shape), 2),
            "confidence": round(registration.confidence, 3),
            "seconds": round(seconds, 2),
            "loss against ir as given": percent(quality(ir, vi, fused) / aligned - 1),
            "ir as given moves by": round(error(own.flow, np.zeros_like(own.flow), ir.shape), 2),
            "its loss": percent(quality(ir, vi, mixed(reference, vi)) / aligned - 1),
            "loss against ir registered, too": percent(
                quality(reference, vi, fused) / quality(reference, vi, mixed(reference, vi)) - 1
            ),
            "own sources": percent(quality(result, vi, fused) / aligned - 1),
            "MI of details": round(mutual_information(result, vi), 4),
        }
    return row


def measure_unrelated(root: Path, every: int) -> dict[str, Any]:
    """Confidences of true pairs and of pictures of two scenes, within a set and across sets."""
    pairs = []
    for name in SETS:
        moving = images_by_stem(root / name / ("ir_warp" if name in MISALIGNED else "ir"))
        fixed = images_by_stem(root / name / "vi")
        step = every * (18 if name == "ivf/roadscene" else 1)
        pairs += [(name, moving[stem], fixed[stem]) for stem in list(fixed)[::step]]
    values: dict[str, dict[str, list[float]]] = {name: {"same scene": [], "unrelated": []} for name in SETS}
    for index, (name, ir, vi) in enumerate(pairs):
        values[name]["same scene"].append(register(pixels(ir), pixels(vi)).confidence)
        for offset in (3, len(pairs) // 2):
            other = pairs[(index + offset) % len(pairs)][1]
            values[name]["unrelated"].append(register(pixels(other), pixels(vi)).confidence)
        print(name, vi.stem, [round(found[-1], 3) for found in values[name].values()], flush=True)
    table: dict[str, Any] = {}
    for name in SETS:
        true, false = values[name]["same scene"], values[name]["unrelated"]
        others = [v for other in SETS if other != name for v in values[other]["unrelated"]]
        threshold = 1.2 * max(others)
        table[name] = {
            "same scene": [round(v, 2) for v in sorted(true)],
            "unrelated": [round(v, 2) for v in sorted(false)],
            "accepted": f"{sum(v >= LEAST_CONFIDENCE for v in true)} of {len(true)}",
            "refused": f"{sum(v < LEAST_CONFIDENCE for v in false)} of {len(false)}",
            "threshold by the other sets": round(threshold, 2),
            "accepted by it": f"{sum(v >= threshold for v in true)} of {len(true)}",
            "refused by it": f"{sum(v < threshold for v in false)} of {len(false)}",
        }
    return table


def measure_held_out(root: Path, every: int) -> dict[str, Any]:
    """Pairs that nothing was chosen on, warped by us; then shrunk, cut to another aspect, and inverted."""
    fixed, moving = (images_by_stem(root / "ivf/roadscene" / kind) for kind in ("vi", "ir"))
    rows: dict[str, Any] = {}
    for seed, stem in enumerate(list(fixed)[4 :: 16 * every]):
        ir, vi = pixels(moving[stem]), pixels(fixed[stem])
        height, width = vi.shape[:2]
        warp = drawn_warp(height, width, seed)
        truth, there = inverse(warp), warped(ir, warp)
        half = np.asarray(
            cv2.resize(there, (width // 2, height // 2), interpolation=cv2.INTER_AREA), np.float32
        )
        factor = np.array([width // 2, height // 2]) / (width, height)
        at = (grid(height, width) + truth + 0.5) * factor - 0.5
        left, right = width // 8, width - width // 8
        kinds = {
            "as it is": (there, truth),
            "half size": (half[..., None], (at - grid(height, width)).astype(np.float32)),
            "cut to 3/4 of its width": (
                np.ascontiguousarray(there[:, left:right]),
                truth - np.array([left, 0], np.float32),
            ),
            "inverted": (np.where(there > 0, 1 - there, there), truth),
        }
        row: dict[str, Any] = {"unaligned": round(error(np.zeros_like(truth), truth, there.shape), 2)}
        for kind, (picture, flow) in kinds.items():
            for model in get_args(Registering) if kind == "as it is" else ("affine",):
                registration, seconds = timed(picture, vi, model)
                scale = picture.shape[1] / there.shape[1] if kind == "half size" else 1
                row[f"{kind}, {model}"] = {
                    "error": round(error(registration.flow, flow, picture.shape) / scale, 2),
                    "confidence": round(registration.confidence, 3),
                    "seconds": round(seconds, 2),
                }
        rows[stem] = row
        print(stem, json.dumps(row), flush=True)
    summary = {
        kind: {
            "pairs": len(rows),
            "error at most half": sum(row[kind]["error"] <= row["unaligned"] / 2 for row in rows.values()),
            "accepted": sum(row[kind]["confidence"] >= LEAST_CONFIDENCE for row in rows.values()),
            "accepted, and the error more than half": sum(
                row[kind]["error"] > row["unaligned"] / 2 and row[kind]["confidence"] >= LEAST_CONFIDENCE
                for row in rows.values()
            ),
            "mean unaligned": round(float(np.mean([row["unaligned"] for row in rows.values()])), 2),
            "median error": round(float(np.median([row[kind]["error"] for row in rows.values()])), 2),
        }
        for kind in next(iter(rows.values()))
        if kind != "unaligned"
    }
    return {"summary": summary, "pairs": rows}


# --- Peers -----------------------------------------------------------------------------------------


class Found(NamedTuple):
    """What a method finds: displacements (H, W, 2) in pixels, None if it refuses, and its own score."""

    flow: Array | None
    score: float


def grey_and_mask(pixels: Array) -> tuple[Array, NDArray[np.uint8]]:
    """The luminance, and where it shows something: not in the black frame that a warp leaves."""
    grey = pixels[..., 0] if pixels.shape[2] == 1 else cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    shown = cv2.erode((grey > 0).astype(np.uint8), np.ones((5, 5), np.uint8))
    return np.ascontiguousarray(grey, np.float32), np.asarray(shown, np.uint8)


def by_ours(moving: Array, fixed: Array, model: Registering) -> Found:
    registration = register(moving, fixed, model)
    accepted = registration.confidence >= LEAST_CONFIDENCE
    return Found(registration.flow if accepted else None, registration.confidence)


def gradients(grey: Array) -> Array:
    """Magnitude of the gradient, usual where sensors differ in contrast."""
    blurred = cv2.GaussianBlur(grey, (0, 0), 1)
    return np.asarray(cv2.magnitude(*(cv2.Sobel(blurred, cv2.CV_32F, *order) for order in ((1, 0), (0, 1)))))


def by_ecc(moving: Array, fixed: Array, look: Callable[[Array], Array]) -> Found:
    """OpenCV's ECC from the identity, rigid at the coarsest size, then affine; it may not converge."""
    (still, _), (mover, mask) = grey_and_mask(fixed), grey_and_mask(moving)
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, ECC_ITERATIONS, 1e-6)
    matrix, score = np.eye(3), 0.0
    rigid = [(ECC_SHRINKS[0], cv2.MOTION_EUCLIDEAN)]
    for shrink, motion in rigid + [(shrink, cv2.MOTION_AFFINE) for shrink in ECC_SHRINKS]:
        shown = cv2.erode(shrunk(mask, shrink, cv2.INTER_NEAREST), np.ones((3, 3), np.uint8))
        # Pixel x of the whole picture lies at (x + 1/2) / shrink - 1/2 of the small one.
        half = 0.5 / shrink - 0.5
        to_small = np.array([[1 / shrink, 0, half], [0, 1 / shrink, half], [0, 0, 1]])
        start = (to_small @ matrix @ np.linalg.inv(to_small))[:2].astype(np.float32)
        template, other = look(shrunk(still, shrink)), look(shrunk(mover, shrink))
        try:
            score, found = cv2.findTransformECC(template, other, start, motion, stop, shown, 5)
        except cv2.error:
            return Found(None, 0.0)
        matrix = np.linalg.inv(to_small) @ np.vstack([found, [[0, 0, 1]]]) @ to_small
    here = grid(*still.shape)
    at = np.dstack([here, np.ones_like(here[..., 0])]) @ matrix[:2].T
    return Found((at - here).astype(np.float32), float(score))


def shrunk(picture: NDArray[Any], factor: int, way: int = cv2.INTER_AREA) -> Array:
    size = picture.shape[1] // factor, picture.shape[0] // factor
    return np.asarray(cv2.resize(picture, size, interpolation=way))


def by_mattes(moving: Array, fixed: Array, *, bend: bool) -> Found:
    """SimpleITK's Mattes mutual information: a similarity, an affine map, B-splines; it never refuses."""
    import SimpleITK as sitk  # noqa: N813, its usual name

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    (grey, _), (other, mask) = grey_and_mask(fixed), grey_and_mask(moving)
    still, mover = sitk.GetImageFromArray(grey), sitk.GetImageFromArray(other)

    def method(shrinks: Sequence[int]) -> Any:
        made = sitk.ImageRegistrationMethod()
        made.SetMetricAsMattesMutualInformation(50)
        made.SetMetricMovingMask(sitk.GetImageFromArray(mask))
        made.SetInterpolator(sitk.sitkLinear)
        made.SetShrinkFactorsPerLevel(shrinks)
        made.SetSmoothingSigmasPerLevel([shrink / 2 for shrink in shrinks])
        return made

    found = sitk.CenteredTransformInitializer(
        still, mover, sitk.Similarity2DTransform(), sitk.CenteredTransformInitializerFilter.GEOMETRY
    )
    for kind in (sitk.Similarity2DTransform, sitk.AffineTransform):
        start = kind(2) if kind is sitk.AffineTransform else kind()
        start.SetMatrix(found.GetMatrix())
        start.SetTranslation(found.GetTranslation())
        start.SetCenter(found.GetCenter())
        work = method((8, 4, 2))
        work.SetOptimizerAsRegularStepGradientDescent(2.0, 1e-3, 200, 0.7, 1e-8)
        work.SetOptimizerScalesFromPhysicalShift()
        work.SetInitialTransform(start, inPlace=True)
        work.Execute(still, mover)
        found = start
    if bend:
        work = method((4, 2))
        work.SetMovingInitialTransform(found)
        work.SetInitialTransform(sitk.BSplineTransformInitializer(still, [8, 8], 3), inPlace=True)
        work.SetOptimizerAsLBFGS2(solutionAccuracy=1e-4, numberOfIterations=60)
        found = sitk.CompositeTransform([found, work.Execute(still, mover)])
    field = sitk.TransformToDisplacementField(
        found, sitk.sitkVectorFloat64, still.GetSize(), still.GetOrigin(), still.GetSpacing()
    )
    return Found(sitk.GetArrayFromImage(field).astype(np.float32), -work.GetMetricValue())


PEERS: dict[str, Callable[[Array, Array], Found]] = {
    **{f"ours, {model}": partial(by_ours, model=model) for model in get_args(Registering)},
    "ECC, affine": partial(by_ecc, look=np.asarray),
    "ECC of gradients, affine": partial(by_ecc, look=gradients),
    "Mattes, affine": partial(by_mattes, bend=False),
    "Mattes, B-spline": partial(by_mattes, bend=True),
}


def measure_peers(data: Path, every: int) -> dict[str, Any]:
    """Ours beside OpenCV and SimpleITK on the given warps, and on pictures of two scenes."""
    tables: dict[str, Any] = {}
    for name in MISALIGNED:
        stems = list(images_by_stem(data / name / "vi"))[::every]
        rows: dict[str, dict[str, Any]] = {}
        for n, stem in enumerate(stems):
            fixed, moving = (pixels(data / name / kind / f"{stem}.png") for kind in ("vi", "ir_warp"))
            other = pixels(data / name / "ir_warp" / f"{stems[(n + 3) % len(stems)]}.png")
            truth = inverse(given_warp(data / name / "flow" / f"{stem}.npz"))
            rows[stem] = {"unaligned": round(error(np.zeros_like(truth), truth, moving.shape), 2)}
            for method, find in PEERS.items():
                start = time.process_time()
                found = find(moving, fixed)
                seconds = time.process_time() - start
                rows[stem][method] = {
                    "error": None if found.flow is None else round(error(found.flow, truth, moving.shape), 2),
                    "score": round(found.score, 3),
                    "seconds": round(seconds, 2),
                }
                if method.endswith("affine"):
                    stranger = find(other, fixed)
                    rows[stem][method] |= {
                        "of two scenes: refused": stranger.flow is None,
                        "of two scenes: score": round(stranger.score, 3),
                    }
            print(stem, json.dumps(rows[stem]), flush=True)
        tables[name] = {"summary": {method: beside(rows, method) for method in PEERS}, "pairs": rows}
    return tables


def beside(rows: dict[str, dict[str, Any]], method: str) -> dict[str, Any]:
    """Sum up a method; a refused pair stays unaligned."""
    made = [row[method] for row in rows.values()]
    pairs = [(row[method]["error"], row["unaligned"]) for row in rows.values()]
    errors = [given if found is None else found for found, given in pairs]
    summary = {
        "pairs": len(made),
        "mean error": round(float(np.mean(errors)), 2),
        "median error": round(float(np.median(errors)), 2),
        "error at most half": sum(found is not None and found <= given / 2 for found, given in pairs),
        "error larger than unaligned": sum(found is not None and found > given for found, given in pairs),
        "refused": sum(found is None for found, _ in pairs),
        "mean seconds": round(float(np.mean([row["seconds"] for row in made])), 2),
    }
    if not method.endswith("affine"):
        return summary
    highest = max(row["of two scenes: score"] for row in made)
    return summary | {
        "of two scenes: refused": sum(row["of two scenes: refused"] for row in made),
        "score above all of two scenes": sum(row["score"] > highest for row in made),
    }


def measure_set(data: Path, every: int, *, name: str) -> dict[str, Any]:
    """Every pair of one of the misaligned sets."""
    rows = {}
    for stem in list(images_by_stem(data / name / "vi"))[::every]:
        rows[stem] = measure_pair(data / name, stem)
        print(stem, json.dumps(rows[stem]), flush=True)
    return rows


PARTS: dict[str, Callable[[Path, int], dict[str, Any]]] = {
    **{name: partial(measure_set, name=name) for name in MISALIGNED},
    "confidence": measure_unrelated,
    "held out": measure_held_out,
    "peers": measure_peers,
}


def main() -> None:
    parser = script_parser(__doc__, "registration.json", data=True, parts=tuple(PARTS), every="pair")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    parts = {name: partial(work, arguments.data, arguments.every) for name, work in PARTS.items()}
    measure_parts(parts, arguments.output, arguments.only)


if __name__ == "__main__":
    main()
