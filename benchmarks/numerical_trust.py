"""How far rounding, batches, threads, tiles and back ends change what comes out; whether all of it is finite.

    python benchmarks numerical_trust DATA [--only PART ...]

Parts:

- "em": E-step, M-step and the whole way through a likelihood, in float32 beside float64;
- "metrics": every metric in float32 beside float64, which the package uses;
- "extremes": fusions and metrics of pictures that are constant, black, white, saturated, or of huge range;
- "same picture": one fusion in batches, on more threads, in tiles and parts, and by other back ends.

Pictures are the project's drawn scenes, extremes, and pairs of DATA/ivf. Differences are in 8-bit grey
levels, of results before they are rounded to bytes. Each has a bound, which tests hold, too. Results:
numerical_trust.json, and its table in .md.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import circumstances, measure_parts, script_parser, write_text
from numpy.typing import NDArray
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ddfm import Prior
from ddfm.demo.scenes import scenes
from ddfm.errors import InputError
from ddfm.formats.pictures import read_image
from ddfm.fusion.pipeline import fuse
from ddfm.jobs.matching import match_folders
from ddfm.likelihoods.forms import FORMS
from ddfm.likelihoods.hierarchical import HierarchicalLikelihood, shares
from ddfm.likelihoods.paper import PaperLikelihood, e_step, m_step
from ddfm.likelihoods.tasks import TASKS
from ddfm.likelihoods.tiled import TiledLikelihood
from ddfm.metrics import METRICS
from ddfm.pictures.colour import luminance
from ddfm.priors.loading import load_prior
from ddfm.threads import threads, use_threads

SETS = ("tno", "msrs", "roadscene")
PAIRS = 2  # of each set
ITERATIONS = 3  # of EM, as in so many sampling steps
GREY = 255 / 2  # grey levels in a unit of [-1, 1]

Picture = NDArray[Any]
Pair = tuple[NDArray[Any], NDArray[Any]]
Row = dict[str, Any]

# The largest difference that is allowed, in grey levels unless it says otherwise, by the end of a row's name.
# Tests hold the same bounds.
BOUNDS = {
    "share of a source": 1e-3,
    "relative precision": 1e-3,
    "M-step": 0.01,
    "likelihood": 0.01,
    "again": 0.0,
    "batch of 3": 0.001,
    "threads": 0.001,
    "tiles of 256 pixels": 0.5,
    "in parts": 0.001,
    "openvino float32": 0.01,
    "bfloat16": 5.0,
    "mean": 0.5,
}
NOISE = 20  # grey levels, in the pair that is denoised first


# --- Pictures ----------------------------------------------------------------------------------------


def drawn_pairs() -> dict[str, Pair]:
    """Return the pairs of ``ddfm demo``."""
    return {f"drawn {scene.name}": (np.asarray(scene.a), np.asarray(scene.b)) for scene in scenes()}


def measured_pairs(data: Path) -> dict[str, Pair]:
    """Return some infrared and visible pairs of each set, evenly spread over it."""
    pairs = {}
    for name in SETS:
        groups, _ = match_folders(data / "ivf" / name / "ir", data / "ivf" / name / "vi")
        for group in groups[:: len(groups) // PAIRS][:PAIRS]:
            a, b = (read_image(file).to_array() for file in group.files)
            pairs[f"{name} {group.stem}"] = (a, b)
    return pairs


def extremes(side: int = 64) -> dict[str, NDArray[Any]]:
    """Return pictures at the ends of what may come, (side, side), of several depths."""
    rng = np.random.default_rng(0)
    flat = np.zeros((side, side))
    spike, column = flat.copy(), flat.copy()
    spike[side // 2, side // 2] = 1
    column[:, side // 2] = 1
    noise = rng.random((side, side))
    shares: dict[str, NDArray[np.float64]] = {
        "black": flat,
        "white": flat + 1,
        "grey": flat + 0.5,
        "saturated": (noise > 0.03).astype(float),
        "spike": spike,
        "dark spike": 1 - spike,
        "column of one pixel": column,
        "checkerboard": np.indices((side, side)).sum(0) % 2.0,
        "halves": (np.arange(side) < side // 2) * np.ones((side, 1)),
        "noise": noise,
    }
    pictures: dict[str, NDArray[Any]] = {}
    for name, share in shares.items():
        pictures[f"{name}, 8 bit"] = np.rint(share * 255).astype(np.uint8)
    for name in ("white", "spike", "noise"):
        pictures[f"{name}, 16 bit"] = np.rint(shares[name] * 65535).astype(np.uint16)
    pictures["one count, 16 bit"] = np.uint16(65534) + shares["checkerboard"].astype(np.uint16)
    pictures["signed, 16 bit"] = np.rint(shares["noise"] * 65535 - 32768).astype(np.int16)
    pictures["up to 1e38, float"] = ((noise - 0.5) * 2e38).astype(np.float32)
    pictures["down to 1e-38, float"] = (noise * 1e-38).astype(np.float32)
    pictures["one rounding apart, float"] = np.nextafter(
        np.float32(300), np.float32(301) * shares["checkerboard"].astype(np.float32)
    )
    pictures["constant 1e30, float"] = np.full((side, side), 1e30, np.float32)
    return pictures


def noisy(pair: Pair) -> Pair:
    """Return a pair of 8 bits with white noise on both."""
    rng = np.random.default_rng(0)
    a, b = ((p + rng.normal(0, NOISE, p.shape)).round().clip(0, 255).astype(np.uint8) for p in pair)
    return a, b


def lumas(pair: Pair) -> list[Tensor]:
    """Return luminances in [-1, 1], (1, 1, H, W), float64, of pictures of 8 bits."""
    stacked = (torch.from_numpy(np.atleast_3d(picture) / 255.0).movedim(-1, 0)[None] for picture in pair)
    return [2 * luminance(image) - 1 for image in stacked]


def grey_bytes(pair: Pair) -> list[Tensor]:
    """Return luminances as metrics take them, (1, 1, H, W), uint8."""
    return [((x + 1) * GREY).round().to(torch.uint8) for x in lumas(pair)]


def largest(a: Tensor | NDArray[Any], b: Tensor | NDArray[Any]) -> float:
    """Return the largest absolute difference."""
    return float(np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)).max())


# --- The EM step -------------------------------------------------------------------------------------


def em_differences(x: Sequence[Tensor]) -> Row:
    """Return the largest differences between float32 and float64, by step and form.

    Args:
        x: two luminances, (1, 1, H, W) in [-1, 1], float64.
    """
    generator = torch.Generator().manual_seed(0)
    noise = 0.1 * torch.randn(x[0].shape, generator=generator, dtype=torch.float64)
    estimates = [(x[0] + x[1]) / 2 + noise / (n + 1) for n in range(ITERATIONS)]
    single, exact = [y.float() for y in x], list(x)
    rows: Row = {}
    for task in TASKS.values():
        few, many = (hierarchical_steps(s, estimates[0], task.name) for s in (single, exact))
        rows[f"ddfm, {task.name}: E-step, share of a source"] = largest(few[0], many[0])
        rows[f"ddfm, {task.name}: M-step"] = GREY * largest(few[1], many[1])
        rows[f"ddfm, {task.name}: likelihood"] = (
            GREY * 2 * largest(*(through("ddfm", s, estimates, task.name) for s in (single, exact)))
        )
    few, many = (paper_steps(s, estimates[0]) for s in (single, exact))
    rows["paper: E-step, relative precision"] = largest(few[0].double() / many[0], torch.ones_like(many[0]))
    rows["paper: M-step"] = GREY * largest(few[1], many[1])
    for form in ("paper", "released"):
        rows[f"{form}: likelihood"] = (
            GREY * 2 * largest(*(through(form, s, estimates, "infrared") for s in (single, exact)))
        )
    return rows


def hierarchical_steps(x: Sequence[Tensor], f: Tensor, task: str) -> tuple[Tensor, Tensor]:
    """Return shares of the intensities after an E-step of form ddfm, and the picture after the M-step."""
    likelihood = HierarchicalLikelihood(x, [y.new_zeros(1) for y in x], TASKS[task])
    seen = likelihood.intensities
    f = f.to(x[0])
    return shares(seen.candidates, f, seen.weight, seen.scale), likelihood.solve(f)


def paper_steps(x: Sequence[Tensor], f: Tensor) -> tuple[Tensor, Tensor]:
    """Return both precisions after an E-step of form paper, and x after the M-step."""
    likelihood = PaperLikelihood(*x)
    difference = f.to(x[0]) - likelihood.v
    m_bar, n_bar = e_step(difference, likelihood.y, likelihood.gamma, likelihood.rho)
    moved, _, _ = m_step(difference, likelihood.y, m_bar, n_bar, likelihood.u)
    return torch.cat([m_bar, n_bar], 1), moved


def through(form: str, x: Sequence[Tensor], estimates: Sequence[Tensor], task: str) -> Tensor:
    """Return the picture in [0, 1] after EM iterations on those estimates of the clean image."""
    likelihood = FORMS[form].likelihood(x, [y.new_zeros(1) for y in x], TASKS[task])
    channels = 3 if form == "released" else 1  # which weighs R, G and B by itself
    for estimate in estimates:
        f = likelihood.rectify(estimate.to(x[0]).expand(-1, channels, -1, -1))
    return likelihood.finish(luminance(f))


# --- Metrics -----------------------------------------------------------------------------------------


class Single(TorchFunctionMode):
    """Have torch compute in float32 what a program asks float64 for."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call the function with float32 in the place of float64."""
        if func is Tensor.double:
            return args[0].float()
        given = {k: torch.float32 if v is torch.float64 else v for k, v in (kwargs or {}).items()}
        return func(*(torch.float32 if a is torch.float64 else a for a in args), **given)


def metric_differences(images: Sequence[Tensor]) -> dict[str, float]:
    """Return by how much each metric of (a, b, f) is off in float32, relative to its value."""
    rows = {}
    for name, metric in METRICS.items():
        exact = float(metric.compute(*images))
        with Single():
            single = float(metric.compute(*images))
        rows[name] = 0.0 if single == exact else abs(single - exact) / max(abs(exact), 1e-12)
    return rows


def unsound_metrics(images: Sequence[Tensor], names: Iterable[str]) -> list[str]:
    """Return those metrics of (a, b, f) that are no number, or outside of the range that they declare."""
    found = []
    for name in names:
        value, (low, high) = float(METRICS[name].compute(*images)), METRICS[name].range
        if not low - 1e-9 <= value <= high + 1e-9:  # NaN is not, either
            found.append(f"{name} = {value}")
    return found


# --- Extremes ----------------------------------------------------------------------------------------


def extreme_fusions(side: int) -> Iterator[tuple[list[NDArray[Any]], Row]]:
    """Yield pairs of extremes with the options that they are to be fused with.

    Every two are fused for task infrared; each one with itself and with noise by all forms and tasks.
    """
    pictures = extremes(side)
    every = list(itertools.combinations_with_replacement(pictures, 2))
    some = [pair for pair in every if pair[0] == pair[1] or "noise, 8 bit" in pair]
    jobs: list[tuple[list[tuple[str, str]], Row]] = [
        (every, {"task": "infrared", "steps": n}) for n in (0, 2)
    ]
    jobs += [(some, {"task": task, "steps": 0}) for task in TASKS if task != "infrared"]
    jobs += [(some, {"form": form, "steps": 2}) for form in ("paper", "released")]
    for pairs, options in jobs:
        for pair in pairs:
            yield [pictures[name] for name in pair], {"names": " and ".join(pair), **options}


def fault_of(sources: Sequence[NDArray[Any]], prior: Prior, **options: Any) -> str:
    """Say what is wrong with a fusion (not finite, out of range, changed sources), or nothing."""
    before = [source.copy() for source in sources]
    result = fuse(*sources, prior=prior, device="cpu", dtype="float32", **options)
    pixels, array = result.image.pixels, result.to_array()
    if not (np.isfinite(pixels).all() and np.isfinite(array).all()):
        return "not finite"
    if pixels.min() < -1e-6 or pixels.max() > 1 + 1e-6:
        return f"outside of its range: {pixels.min()} to {pixels.max()}"
    if any((now != then).any() for now, then in zip(sources, before, strict=True)):
        return "a source was changed"
    return ""


def refusals() -> dict[str, str]:
    """Return what is said of pictures that are no numbers, or too small."""
    fine = np.zeros((32, 32), np.float32)
    spoilt = {"NaN": np.nan, "infinity": np.inf, "minus infinity": -np.inf}
    given = {name: np.where(np.eye(32, dtype=bool), value, fine) for name, value in spoilt.items()}
    given["one pixel wide"] = np.zeros((32, 1), np.float32)
    said = {}
    for name, picture in given.items():
        try:
            fuse(picture, np.zeros_like(picture))
        except InputError as error:
            said[name] = str(error)
        else:
            said[name] = "was not refused"
    return said


# --- The same picture --------------------------------------------------------------------------------


def fused(pair: Pair, prior: Prior, **options: Any) -> NDArray[np.float32]:
    """Return the fused pixels of the first pair, in [0, 1]; in float32 and one piece by default."""
    defaults: Row = {"device": "cpu", "dtype": "float32", "tile": "off", "task": "infrared"}
    return fuse(*pair, prior=prior, **{**defaults, **options}).images[0].pixels


def same_picture(pair: Pair, prior: Prior) -> dict[str, float]:
    """Return the largest differences from a picture alone, in one piece, on one thread, in float32."""
    with threads(1):
        reference = fused(pair, prior)
        rows = {"again": 255 * largest(fused(pair, prior), reference)}
        rows["batch of 3"] = 255 * largest(fused(turned_copies(pair), prior), reference)
        rows["tiles of 256 pixels"] = 255 * largest(fused(pair, prior, tile=256), reference)
        rows["likelihood in parts"] = parts_difference(lumas(pair))
        for backend, dtype in (("openvino", "float32"), ("torch", "bfloat16"), ("openvino", "bfloat16")):
            other = fused(pair, prior, backend=backend, dtype=dtype)
            rows[f"{backend} {dtype}"] = 255 * largest(other, reference)
            if dtype == "bfloat16":
                rows[f"{backend} {dtype}, mean"] = 255 * float(np.abs(other - reference).mean())
    for count in (2, 4):
        with threads(count):
            rows[f"{count} threads"] = 255 * largest(fused(pair, prior), reference)
    return rows


def turned_copies(pair: Pair) -> Pair:
    """Return a batch (3, C, H, W) of each picture: as it is, upside down and mirrored."""
    a, b = (np.moveaxis(np.stack([p, p[::-1], p[:, ::-1]]), -1, 1) for p in map(np.atleast_3d, pair))
    return a, b


def parts_difference(x: Sequence[Tensor], side: int = 128) -> float:
    """Return the largest difference, in grey levels, of form ddfm in parts from form ddfm in one piece."""
    single = [y.float() for y in x]
    noise = [y.new_zeros(1) for y in single]
    task = TASKS["infrared"]
    whole, parts = HierarchicalLikelihood(single, noise, task), TiledLikelihood(single, noise, task, side)
    f = whole.start + 0.05
    return GREY * max(largest(whole.start, parts.start), largest(whole.rectify(f), parts.rectify(f)))


# --- The parts and the table -------------------------------------------------------------------------


def bound(name: str) -> float:
    """Return the bound of a row."""
    return next(value for end, value in BOUNDS.items() if name.endswith(end))


def worst(rows: Mapping[str, Mapping[str, float]], bounded: bool = True) -> dict[str, Row]:
    """Return, for each number, its largest value over the pictures, of which picture, and its bound."""
    found: dict[str, Row] = {}
    for picture, numbers in rows.items():
        for name, value in numbers.items():
            if name not in found or value > found[name]["largest"]:
                found[name] = {"largest": value, "of": picture}
    for name, row in found.items() if bounded else ():
        row["bound"] = bound(name)
    return found


def measure_metrics(pairs: Mapping[str, Pair]) -> dict[str, Row]:
    """Return what float32 would change in each metric of the sources' mean, by pair."""
    rows = {}
    for name, pair in pairs.items():
        a, b = grey_bytes(pair)
        rows[name] = metric_differences([a, b, ((a.double() + b.double()) / 2).round()])
    return worst(rows, bounded=False)


def measure_extremes(prior: Prior) -> Row:
    """Return how many fusions and metrics of extremes there were, and every fault."""
    fusions, faults = 0, []
    for sources, options in extreme_fusions(32):
        names = options.pop("names")
        fusions += 1
        if fault := fault_of(sources, prior, **options):
            faults.append(f"{names}, {options}: {fault}")
    metrics = 0
    for side, wanted in ((64, [name for name in METRICS if name != "MS_SSIM"]), (176, ["MS_SSIM"])):
        pictures = {
            name: torch.from_numpy(p)[None, None] for name, p in extremes(side).items() if p.itemsize == 1
        }
        for (a, x), (b, y) in itertools.combinations_with_replacement(pictures.items(), 2):
            for c, f in (
                (a, x),
                ("their mean", (x.double() + y.double()) / 2),
                ("noise", pictures["noise, 8 bit"]),
            ):
                metrics += len(wanted)
                faults += [f"{a}, {b}, {c}: {fault}" for fault in unsound_metrics([x, y, f], wanted)]
    return {"fusions": fusions, "metrics": metrics, "faults": faults, "refused": refusals()}


def table(results: Row) -> str:
    """Return the results as Markdown."""
    lines = ["| of | largest | bound | at | |", "| --- | --- | --- | --- | --- |"]
    for part in ("em", "same picture"):
        for name, row in results.get(part, {}).items():
            missed = " missed" if row["largest"] > row["bound"] else ""
            lines.append(f"| {name} | {row['largest']:.2g} | {row['bound']:g} | {row['of']} |{missed} |")
    if "extremes" in results:
        seen = results["extremes"]
        lines += ["", f"Extremes: {seen['fusions']} fusions and {seen['metrics']} values of metrics, "]
        lines[-1] += f"{len(seen['faults'])} of them not finite or outside of their range."
    if "metrics" in results:
        lines += ["", "| metric | off by, if computed in float32 | at |", "| --- | --- | --- |"]
        for name, row in results["metrics"].items():
            lines.append(f"| {name} | {row['largest']:.1g} | {row['of']} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    names = ("em", "metrics", "extremes", "same picture")
    arguments = script_parser(__doc__, "numerical_trust.json", data=True, parts=names).parse_args()
    use_threads(1)
    prior = load_prior()
    drawn = drawn_pairs()
    pairs = {**drawn, **measured_pairs(arguments.data)}
    one_each = dict([*list(drawn.items())[:1], *list(pairs.items())[len(drawn) :: PAIRS]])
    noise = {f"{name}, noisy": noisy(pair) for name, pair in one_each.items() if name.startswith(SETS[0])}
    parts: dict[str, Callable[[], object]] = {
        "em": lambda: worst({name: em_differences(lumas(pair)) for name, pair in pairs.items()}),
        "metrics": lambda: measure_metrics(pairs),
        "extremes": lambda: measure_extremes(prior),
        "same picture": lambda: worst(
            {name: same_picture(pair, prior) for name, pair in {**one_each, **noise}.items()}
        ),
    }
    output = arguments.output
    report = output.with_suffix(".md")
    measure_parts(
        parts,
        output,
        arguments.only,
        facts=circumstances,
        report=lambda all_: write_text(report, table(all_)),
    )


if __name__ == "__main__":
    main()
