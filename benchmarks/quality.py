"""What the fused pictures are worth: every table that the README's claims of quality rest on.

    python benchmarks/quality.py DATA [--only tno,vifb,roadscene,medical,noise,ablation,sheets]
        [--out benchmarks/results/quality] [--sheets FOLDER] [--released-steps N] [--every K]

DATA holds ivf/tno (with peers/<method>), ivf/roadscene, vifb (with published_values.csv) and
mif/mri_ct, mri_pet, mri_spect. Parts are merged into OUT.json, from which OUT.md is written anew, so
that each can be run by itself. Ranks are by mean value, 1 the best, averaged over the metrics shown.
The contact sheets of the part "sheets" show data that may not be handed on: they go to FOLDER only.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as PILImage
from PIL import ImageDraw

from ddfm.batch import Pair
from ddfm.benchmark import run as runner
from ddfm.benchmark.methods import RULES, Method, as_bytes, find_methods, on_luminance
from ddfm.benchmark.sheet import most_different
from ddfm.colour import luminance
from ddfm.datasets import find_pairs, get_dataset
from ddfm.evaluation import MethodResult, as_json, mean_ranks, mean_values
from ddfm.fusion import fuse
from ddfm.hierarchical import ACUTANCE, ENERGY_FLOOR, HierarchicalLikelihood
from ddfm.images import Image, from_array, read_image
from ddfm.metrics import METRICS, Convention
from ddfm.prior import Prior, load_prior

Row = dict[str, float | str]
Results = dict[str, MethodResult]
Bytes = NDArray[np.uint8]

NINE = ("EN", "SD", "SF", "AG", "MI", "SCD", "VIF", "Qabf", "SSIM_dr2")
OURS, LIKELIHOOD = "ours", "ours, steps 0"
FEW = 10  # steps of the older forms where a hundred would take too long
MEDICAL: dict[str, Any] = {"stretch": "none"}  # what a medical pair is fused with
PUBLISHED_ROADSCENE = {
    "EN": 7.41, "SD": 52.61, "MI": 2.35, "VIF": 0.75, "Qabf": 0.65, "SSIM_dr2": 0.98, "AG": 3.63
}  # fmt: skip
PUBLISHED_MEDICAL = {"MI": 1.99, "VIF": 0.76, "Qabf": 0.60, "SSIM_dr2": 1.41}
PUBLISHED_MRI_CT = {"EN": 4.31}


@dataclass(frozen=True)
class Table:
    """A title, named rows with the same columns, and what to know before reading them."""

    title: str
    rows: Mapping[str, Row]
    note: str = ""


@dataclass(frozen=True)
class Job:
    """What every part needs."""

    data: Path
    prior: Prior
    released_steps: int = 100
    every: int = 1
    sheets: Path | None = None

    def pairs(self, dataset: str, folder: str) -> list[Pair]:
        """Every pair of a set, or every so many-th."""
        return find_pairs(get_dataset(dataset), self.data / folder)[:: self.every]


@dataclass
class Measured:
    """Values of methods on one set of pairs."""

    results: Results
    seconds: dict[str, float | None] = field(default_factory=dict)

    def among(self, metrics: Sequence[str], names: Iterable[str] | None = None) -> Results:
        """Those metrics of those methods, all by default."""
        return {name: only(self.results[name], metrics) for name in names or self.results}

    def table(
        self, title: str, metrics: Sequence[str], names: Iterable[str] | None = None, note: str = ""
    ) -> Table:
        """Mean values, mean rank among the methods shown, and seconds a pair where they are known."""
        chosen = self.among(metrics, names)
        ranks = mean_ranks(chosen)
        rows: dict[str, Row] = {}
        for name, result in chosen.items():
            seconds = self.seconds.get(name)
            cost: Row = {"seconds": "" if seconds is None else seconds} if any(self.seconds.values()) else {}
            rows[name] = {**result.mean, "mean rank": ranks[name], **cost}
        return Table(title, rows, note)


def only(result: MethodResult, metrics: Sequence[str]) -> MethodResult:
    return MethodResult(
        {metric: result.mean[metric] for metric in metrics},
        {stem: {metric: row[metric] for metric in metrics} for stem, row in result.images.items()},
    )


def measure(
    what: str, pairs: Sequence[Pair], methods: Sequence[Method], convention: Convention = "paper"
) -> Measured:
    """Every method on every pair; a failure ends the run, because a table with a hole would mislead."""
    total, done, start = len(pairs) * len(methods), 0, time.perf_counter()
    shown = 0

    def progress(name: str) -> None:
        nonlocal done, shown
        done += 1
        if done * 10 // total > shown:
            shown = done * 10 // total
            print(f"  {what}: {done} of {total}, {time.perf_counter() - start:.0f} s", flush=True)

    root = pairs[0].a.parent.parent
    found = runner.run(get_dataset("folder"), root, pairs, methods, convention, progress=progress)
    if found.failures:
        first = found.failures[0]
        sys.exit(f"{what}: {first.method} failed on {first.stem}: {first.reason}")
    return Measured(
        dict(found.evaluation.methods), {name: cost.seconds for name, cost in found.costs.items()}
    )


# --- Methods -------------------------------------------------------------------------------------


def ours(name: str, prior: Prior, **options: Any) -> Method:
    """Our fusion with those options of `ddfm.fuse`."""
    return Method(name, lambda a, b: fuse(a, b, prior=prior, **options).image)


def both_of_ours(prior: Prior, **options: Any) -> list[Method]:
    return [ours(OURS, prior, **options), ours(LIKELIHOOD, prior, steps=0, **options)]


def baselines() -> list[Method]:
    return find_methods([], get_dataset("folder"), [])


def iterated(name: str, times: int) -> Method:
    """The likelihood alone, with so many more EM iterations than the one that gives its start."""

    def run(a: Image, b: Image) -> Image:
        sources = [torch.from_numpy(image.pixels).movedim(-1, 0)[None] for image in (a, b)]
        likelihood = HierarchicalLikelihood(
            [2 * luminance(source) - 1 for source in sources], [torch.zeros(1)] * 2
        )
        f = likelihood.start
        for _ in range(times):
            f = likelihood.solve(f)
        return Image(likelihood.finish(f)[0].movedim(0, -1).numpy(), a.depth)

    return Method(name, run)


def with_constants(name: str, prior: Prior, **constants: Any) -> Method:
    """The likelihood alone with other constants of `ddfm.hierarchical`."""

    def run(a: Image, b: Image) -> Image:
        with patch.multiple("ddfm.hierarchical", **constants):
            return fuse(a, b, prior=prior, steps=0, noise="off").image

    return Method(name, run)


def targets(title: str, mean: Mapping[str, float], needed: Mapping[str, float]) -> Table:
    """Whether means are above published ones."""
    rows: dict[str, Row] = {
        metric: {"above": bound, "ours": mean[metric], "met": "yes" if mean[metric] > bound else "no"}
        for metric, bound in needed.items()
    }
    met = sum(row["met"] == "yes" for row in rows.values())
    return Table(title, rows, f"{met} of {len(rows)} met.")


def ranks_of(name: str, results: Results) -> Row:
    """A method's rank in each metric."""
    metrics = list(results[name].mean)
    return {
        metric: mean_ranks({key: only(r, [metric]) for key, r in results.items()})[name] for metric in metrics
    }


def standing(title: str, results: Results) -> Table:
    """Rank of ours in each metric, alone against the others: `LIKELIHOOD` does not count beside `OURS`."""
    rows: dict[str, Row] = {}
    for name in (OURS, LIKELIHOOD):
        others = {
            key: value for key, value in results.items() if key == name or key not in (OURS, LIKELIHOOD)
        }
        ranks = mean_ranks(others)
        best = min((key for key in others if key != name), key=ranks.__getitem__)
        rows[name] = {
            **ranks_of(name, others),
            "mean rank": ranks[name],
            "best other": f"{best} {ranks[best]:.2f}",
        }
    return Table(title, rows, "Each row of ours is ranked without the other.")


# --- Parts ---------------------------------------------------------------------------------------


def tno(job: Job) -> list[Table]:
    """Ours beside nine published methods and the trivial ones."""
    root = job.data / "ivf/tno"
    pairs = job.pairs("tno", "ivf/tno")
    peers = sorted(folder for folder in (root / "peers").iterdir() if folder.is_dir())
    others = find_methods([str(peer) for peer in peers], get_dataset("tno"), [pair.stem for pair in pairs])
    released = f"released form, {job.released_steps} steps"
    methods = [
        *both_of_ours(job.prior),
        ours(released, job.prior, form="released", steps=job.released_steps),
        *others,
    ]
    found = measure("tno", pairs, methods)
    ten = [OURS, LIKELIHOOD, *(peer.name for peer in peers)]
    everything = [name for name in found.results if name != LIKELIHOOD]
    return [
        standing(f"Ours among the {len(peers)} peers: rank in each metric", found.among(NINE, ten)),
        standing("Ours among everything: rank in each metric", found.among(NINE)),
        found.table("Ours and the peers", NINE, [name for name in ten if name != LIKELIHOOD]),
        found.table(
            "Everything", NINE, everything, "a is the infrared source, b the visible one, as in every table."
        ),
        found.table("Likelihood alone and everything else", NINE, [n for n in found.results if n != OURS]),
    ]


def vifb(job: Job) -> list[Table]:
    """Ours, in colour, beside the published values of 25 methods."""
    root = job.data / "vifb"
    pairs = job.pairs("vifb", "vifb")
    found = measure("vifb", pairs, [*both_of_ours(job.prior), *baselines()], "vifb")
    published = published_vifb(root / "published_values.csv", [pair.stem for pair in pairs])
    metrics = list(found.results[OURS].mean)
    trivial = [name for name in found.results if name not in (OURS, LIKELIHOOD)]
    found.results |= published
    return [
        standing(
            f"Ours among the {len(published)} published methods: rank in each metric",
            found.among(metrics, [OURS, LIKELIHOOD, *published]),
        ),
        standing("Ours among everything: rank in each metric", found.among(metrics)),
        found.table("Ours and the published methods", metrics, [OURS, *published]),
        found.table("Everything", metrics, [OURS, *trivial, *published]),
    ]


def published_vifb(path: Path, scenes: Sequence[str]) -> Results:
    """Values as the benchmark publishes them; MST_SR, the old name of LP_SR, is left out."""
    values: dict[str, dict[str, dict[str, float]]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["algorithm"] != "MST_SR" and row["image"].lower() in {scene.lower() for scene in scenes}:
                images = values.setdefault(row["algorithm"], {})
                images.setdefault(row["image"], {})[row["metric"]] = float(row["value"])
    for name, images in values.items():
        if len(images) != len(scenes):
            sys.exit(f"{path}: {len(images)} scenes of {name}, {len(scenes)} are needed")
    return {name: MethodResult(mean_values(list(images.values())), images) for name, images in values.items()}


def roadscene(job: Job) -> list[Table]:
    """All pairs beside the trivial baselines and what is published of the paper, and the frontier."""
    pairs = job.pairs("roadscene", "ivf/roadscene")
    found = measure("roadscene", pairs, [*both_of_ours(job.prior), *baselines()])
    some = pairs[::4]
    line = [
        with_constants(f"floor {floor}, {name}", job.prior, ENERGY_FLOOR=floor, ACUTANCE=contrast)
        for floor in (0.0025, 0.01, ENERGY_FLOOR, 0.06)
        for name, contrast in (("contrast 1", (1.0,) * len(ACUTANCE)), ("contrast of the form", ACUTANCE))
    ]
    frontier = measure("roadscene, frontier", some, line)
    return [
        targets("Ours against the published figures", found.results[OURS].mean, PUBLISHED_ROADSCENE),
        targets("Steps 0 against the published figures", found.results[LIKELIHOOD].mean, PUBLISHED_ROADSCENE),
        targets("The infrared image alone against them", found.results["a-only"].mean, PUBLISHED_ROADSCENE),
        found.table("Everything", NINE, [name for name in found.results if name != LIKELIHOOD]),
        found.table("Likelihood alone and everything else", NINE, [n for n in found.results if n != OURS]),
        frontier.table(
            f"Frontier: the likelihood alone on {len(some)} pairs",
            NINE,
            note="ENERGY_FLOOR is the energy of details below which both sources are averaged, ACUTANCE "
            "the contrast of the bands. Copying the stronger detail (low floor) is what Qabf rewards, "
            "keeping both is what SSIM does; contrast costs SSIM.",
        ),
    ]


def medical(job: Job) -> list[Table]:
    """MRI (first source) with CT, PET and SPECT; metrics on luminance."""
    metrics = ("EN", "MI", "VIF", "Qabf", "SSIM_dr2")
    methods = [*both_of_ours(job.prior, **MEDICAL), *baselines()]
    sets = {
        name: measure(name, job.pairs(name, f"mif/{name.replace('-', '_')}"), methods)
        for name in ("mri-ct", "mri-pet", "mri-spect")
    }
    names = [method.name for method in methods]
    pooled, averaged = Measured({}), Measured({})
    for name in names:
        images = {
            f"{which} {stem}": row
            for which, found in sets.items()
            for stem, row in found.results[name].images.items()
        }
        pooled.results[name] = MethodResult(mean_values(list(images.values())), images)
        means = {which: found.results[name].mean for which, found in sets.items()}
        averaged.results[name] = MethodResult(mean_values(list(means.values())), means)
    return [
        targets("Mean over all pairs of the three sets", pooled.results[OURS].mean, PUBLISHED_MEDICAL),
        targets("Mean of the three sets' means", averaged.results[OURS].mean, PUBLISHED_MEDICAL),
        targets("MRI-CT", sets["mri-ct"].results[OURS].mean, PUBLISHED_MRI_CT),
        pooled.table("All pairs of the three sets", metrics),
        averaged.table("Mean of the three sets' means", metrics),
        *(found.table(name, metrics) for name, found in sets.items()),
    ]


def ablation(job: Job) -> list[Table]:
    """Form, steps, EM iterations, stretch and noise model, each varied alone, on TNO."""
    pairs = job.pairs("tno", "ivf/tno")
    prior = job.prior
    steps = {n: ours(f"ddfm, {n} steps", prior, steps=n) for n in (0, 2, 5, 10, 25)}
    forms = [ours(f"{form}, {FEW} steps", prior, form=form, steps=FEW) for form in ("paper", "released")]
    iterations = [iterated(f"{n + 1} EM iterations", n) for n in (0, 1, 2, 5)]
    switches = [
        ours(f"stretch {stretch}, noise {noise}, {n} steps", prior, stretch=stretch, noise=noise, steps=n)
        for n in (5, 0)
        for stretch, noise in (("auto", "auto"), ("none", "auto"), ("auto", "off"), ("none", "off"))
    ]
    found = measure("ablation", pairs, [*steps.values(), *forms, *iterations, *switches])
    long = [steps[0], steps[5], ours("ddfm, 100 steps", prior, steps=100)]
    some = pairs[:: max(1, len(pairs) // 3)]

    def table(title: str, methods: Sequence[Method]) -> Table:
        return found.table(title, NINE, [method.name for method in methods])

    return [
        table("Form of the likelihood", [steps[5], steps[0], steps[FEW], *forms]),
        table("Network evaluations", list(steps.values())),
        measure("ablation, 100 steps", some, long).table(f"A hundred of them, on {len(some)} pairs", NINE),
        table("EM iterations, no network", iterations),
        table("Stretch and noise model", switches),
    ]


# --- Noise ---------------------------------------------------------------------------------------

CROP, CROPS = 256, 6
NOISE_METRICS = ("VIF", "Qabf", "MI", "SSIM_dr2")
CEILING = "clean sources (ceiling)"
BLUR = 1.0  # pixels, of the Gaussian blur
NL_MEANS = 0.9  # h for each grey level of noise: the best of .8 to 1.5 by PSNR on four TNO pictures
LEVEL = 0.97  # of the reference's value that still counts as level with it

Degrade = Callable[[Bytes, np.random.Generator], NDArray[Any]]
Denoise = Callable[[Bytes, float], NDArray[Any]]


def gaussian(sigma: float) -> Degrade:
    return lambda x, random: x + random.normal(0, sigma, x.shape)


def stripes(axis: int, noise: float = 0, deviation: float = 6) -> Degrade:
    """Offsets of columns (axis 0: the same all along it) or rows, and noise."""

    def degrade(x: Bytes, random: np.random.Generator) -> NDArray[Any]:
        offsets = random.normal(0, deviation, x.shape[1 - axis])
        return x + np.expand_dims(offsets, axis) + random.normal(0, 1, x.shape) * noise

    return degrade


def jpeg(x: Bytes, random: np.random.Generator) -> NDArray[Any]:
    import cv2

    data = cv2.imencode(".jpg", x, [cv2.IMWRITE_JPEG_QUALITY, 30])[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE))


@dataclass(frozen=True)
class Degradation:
    """What is done to the first source (infrared) alone or to both.

    ``sigma`` is what a denoiser is told: the true level, or for JPEG, where there is none, the rms of what
    it changed.
    """

    name: str
    degrade: Degrade
    both: bool
    sigma: float | None = None

    def apply(self, image: Image, first: bool) -> tuple[Bytes, float]:
        """The degraded picture, clipped and rounded to 8 bits, and sigma; 0 if this source is spared."""
        clean = as_bytes(image)[..., 0]
        if not (first or self.both):
            return clean, 0.0
        seed = zlib.crc32(f"{self.name} {Path(image.name).stem} {first}".encode())
        changed = np.rint(self.degrade(clean, np.random.default_rng(seed))).clip(0, 255).astype(np.uint8)
        rms = float(np.sqrt(np.mean((changed.astype(float) - clean) ** 2)))
        return changed, rms if self.sigma is None else self.sigma


DEGRADATIONS = (
    Degradation("Gaussian 10 on both", gaussian(10), True, 10),
    Degradation("Gaussian 20 on both", gaussian(20), True, 20),
    Degradation("Gaussian 10 on the first", gaussian(10), False, 10),
    Degradation("Gaussian 20 on the first", gaussian(20), False, 20),
    Degradation("columns 6 on the first", stripes(0), False, 6),
    Degradation("rows 6 on the first", stripes(1), False, 6),
    Degradation("columns 6 and noise 10 on the first", stripes(0, 10), False, 136**0.5),
    Degradation("rows 6 and noise 10 on the first", stripes(1, 10), False, 136**0.5),
    Degradation("JPEG 30 on both", jpeg, True),
    Degradation("none (clean)", gaussian(0), False, 0),
)


def blur(x: Bytes, sigma: float) -> NDArray[Any]:
    import cv2

    return cv2.GaussianBlur(x, (0, 0), BLUR)


def nl_means(x: Bytes, sigma: float) -> NDArray[Any]:
    import cv2

    return cv2.fastNlMeansDenoising(x, None, NL_MEANS * sigma, 7, 21)


def bm3d(x: Bytes, sigma: float) -> NDArray[Any]:
    import bm3d as package

    return np.asarray(package.bm3d(x.astype(np.float64), sigma)).clip(0, 255).astype(np.float32) / 255


def noise(job: Job) -> list[Table]:
    """Degraded crops, fused, against the clean sources."""
    with tempfile.TemporaryDirectory() as folder:
        crops = {
            "TNO": make_crops(job.pairs("tno", "ivf/tno"), Path(folder, "tno"), CROPS // job.every),
            "RoadScene": make_crops(
                job.pairs("roadscene", "ivf/roadscene"), Path(folder, "roadscene"), CROPS // job.every
            ),
        }
        found = {
            degradation.name: {
                which: measure(
                    f"noise, {degradation.name}, {which}", pairs, noisy_methods(job.prior, degradation)
                )
                for which, pairs in crops.items()
            }
            for degradation in DEGRADATIONS
        }
    return [
        Table(
            "Ours, blind, beside the others",
            {name: noise_verdict(of_sets) for name, of_sets in found.items()},
            f"Differences to the best in each metric, the worst of {len(NOISE_METRICS)} metrics and "
            f"{len(crops)} sets; level: at least {LEVEL:.0%} of the value in every metric.",
        ),
        *(
            Table(name, noise_rows(of_sets), "Means over the crops of each set.")
            for name, of_sets in found.items()
        ),
    ]


def make_crops(pairs: Sequence[Pair], folder: Path, count: int) -> list[Pair]:
    """Grey crops from the middle of some pairs that are large enough, as PNG files."""
    large = [pair for pair in pairs if min(read_image(pair.a).size) >= CROP]
    chosen = np.random.default_rng(0).choice(len(large), count, replace=False)
    made = []
    for pair in (large[i] for i in sorted(chosen)):
        files = []
        for kind, path in (("a", pair.a), ("b", pair.b)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            files.append(folder / kind / f"{pair.stem}.png")
            with PILImage.open(path) as picture:
                left, top = (picture.width - CROP) // 2, (picture.height - CROP) // 2
                picture.convert("L").crop((left, top, left + CROP, top + CROP)).save(files[-1])
        made.append(Pair(pair.stem, *files))
    return made


def noisy_methods(prior: Prior, degradation: Degradation) -> list[Method]:
    """Every method takes the clean sources, which it is scored against, and degrades them first."""

    def denoised(name: str, denoise: Denoise | None) -> Method:
        def run(*clean: Image) -> Image:
            sources = []
            for index, image in enumerate(clean):
                x, sigma = degradation.apply(image, index == 0)
                y = x if denoise is None or sigma == 0 else denoise(x, sigma)
                sources.append(from_array(y))
            return fuse(*sources, prior=prior, steps=0, noise="off").image

        return Method(name, run)

    def blind(name: str, **options: Any) -> Method:
        def run(*clean: Image) -> Image:
            noisy = [degradation.apply(image, index == 0)[0] for index, image in enumerate(clean)]
            return fuse(noisy[0], noisy[1], prior=prior, noise="auto", **options).image

        return Method(name, run)

    return [
        denoised("likelihood only", None),
        denoised("Gaussian blur first", blur),
        denoised("non-local means first", nl_means),
        denoised("BM3D first", bm3d),
        blind(OURS),
        blind(LIKELIHOOD, steps=0),
        ours(CEILING, prior, steps=0, noise="off"),
    ]


def noise_rows(of_sets: Mapping[str, Measured]) -> dict[str, Row]:
    """A row for each method: the metrics on each set, and seconds."""
    first = next(iter(of_sets.values()))
    rows: dict[str, Row] = {}
    for name in first.results:
        rows[name] = {
            f"{metric} {which}": found.results[name].mean[metric]
            for which, found in of_sets.items()
            for metric in NOISE_METRICS
        }
        rows[name]["seconds"] = first.seconds[name] or 0.0
    return rows


def noise_verdict(of_sets: Mapping[str, Measured]) -> Row:
    """Ours against each other way in every metric on every set: yes, or where not."""

    def where_not(reference: str, share: float) -> str:
        below = [
            f"{metric} {which} {means[OURS].mean[metric]:.3f} < {means[reference].mean[metric]:.3f}"
            for which, means in ((which, found.results) for which, found in of_sets.items())
            for metric in NOISE_METRICS
            if means[OURS].mean[metric] < share * means[reference].mean[metric]
        ]
        return "yes" if not below else f"not in {', '.join(below)}"

    return {
        "above likelihood only": where_not("likelihood only", 1),
        "above non-local means": where_not("non-local means first", 1),
        "above Gaussian blur": where_not("Gaussian blur first", 1),
        "level with BM3D": where_not("BM3D first", LEVEL),
    }


# --- Contact sheets ------------------------------------------------------------------------------

WIDTH, CAPTION = 360, 18  # of a picture, and the height of its caption, in pixels
SHEETS = {"tno": 10, "roadscene": 10, "vifb": 6}


def sheets(job: Job) -> list[Table]:
    """A PNG for each of some pairs: the sources, baselines, the best peer and ours; whole and in part."""
    if job.sheets is None:
        sys.exit("sheets: --sheets FOLDER must say where to put them")
    job.sheets.mkdir(parents=True, exist_ok=True)
    for name, count in SHEETS.items():
        root = job.data / ("vifb" if name == "vifb" else f"ivf/{name}")
        pairs = find_pairs(get_dataset(name), root)
        for i in np.linspace(0, len(pairs) - 1, count).round().astype(int):
            pair = pairs[i]
            peer = {
                "tno": root / f"peers/SeAFusion/{pair.stem}.png",
                "vifb": root / f"fused/{pair.stem}_SeAFusion.jpg",
            }.get(name)
            contact_sheet(pair, peer, job.prior).save(job.sheets / f"{name}-{pair.stem}.png")
            print(f"  sheets: {name} {pair.stem}", flush=True)
    return []


def contact_sheet(pair: Pair, peer: Path | None, prior: Prior) -> PILImage.Image:
    a, b = read_image(pair.a), read_image(pair.b)
    pictures = {
        "first source": a,
        "second source": b,
        "max": on_luminance(RULES["max"], 0, a, b),
        "stretched mean": on_luminance(RULES["stretched-mean"], 0, a, b),
        f"released form, {FEW} steps": fuse(a, b, prior=prior, form="released", steps=FEW).image,
        **({"SeAFusion": read_image(peer)} if peer is not None and peer.exists() else {}),
        LIKELIHOOD: fuse(a, b, prior=prior, steps=0).image,
        OURS: fuse(a, b, prior=prior).image,
    }
    top, left, side = most_different(as_bytes(a), as_bytes(b))
    side = min(2 * side, *a.size)
    top, left = (
        max(0, min(at - side // 4, length - side)) for at, length in zip((top, left), a.size, strict=True)
    )
    height = round(WIDTH * a.size[0] / a.size[1])
    columns = (len(pictures) + 1) // 2
    tile = CAPTION + height + WIDTH
    sheet = PILImage.new("RGB", (columns * (WIDTH + 4), 2 * (tile + 4)), "white")
    draw = ImageDraw.Draw(sheet)
    for index, (name, image) in enumerate(pictures.items()):
        x, y = index % columns * (WIDTH + 4), index // columns * (tile + 4)
        picture = PILImage.fromarray(as_bytes(image).repeat(3 // image.pixels.shape[2], 2))
        draw.text((x + 4, y + 3), f"{pair.stem}: {name}", fill="black")
        sheet.paste(picture.resize((WIDTH, height), PILImage.Resampling.LANCZOS), (x, y + CAPTION))
        part = picture.crop((left, top, left + side, top + side)).resize((WIDTH, WIDTH))
        sheet.paste(part, (x, y + CAPTION + height))
    return sheet


# --- Out -----------------------------------------------------------------------------------------

PARTS: dict[str, Callable[[Job], list[Table]]] = {
    "tno": tno,
    "vifb": vifb,
    "roadscene": roadscene,
    "medical": medical,
    "noise": noise,
    "ablation": ablation,
    "sheets": sheets,
}


def markdown(results: Mapping[str, Any]) -> str:
    """All tables, the best of each metric in bold; best of what the table ranks."""
    lines = ["# Quality", "", "Written by benchmarks/quality.py. An arrow says which way a metric improves."]
    for part in (part for part in PARTS if part in results):
        made = results[part]
        fewer = f" A trial: 1 of {made['every']} pairs only." if made.get("every", 1) > 1 else ""
        cost = f"{made['seconds']:.0f} s on {made['about']}."
        lines += ["", f"## {part}", "", f"{PARTS[part].__doc__}{fewer} {cost}"]
        for table in made["tables"]:
            lines += ["", f"### {table['title']}", "", *markdown_table(table["rows"])]
            if table["note"]:
                lines += ["", table["note"]]
    return "\n".join(lines) + "\n"


def markdown_table(rows: Mapping[str, Mapping[str, float | str]]) -> list[str]:
    columns = list(next(iter(rows.values())))
    metrics = {column: METRICS[name] for column in columns if (name := column.split()[0]) in METRICS}
    if len(rows) < 3:
        metrics = {}  # ranks of ours, say: nothing to compare
    compared = [row for name, row in rows.items() if name != CEILING]
    best = {
        column: (max if metric.higher_is_better else min)(float(row[column]) for row in compared)
        for column, metric in metrics.items()
    }

    def heading(column: str) -> str:
        metric = metrics.get(column)
        return column if metric is None else f"{column} {'↑' if metric.higher_is_better else '↓'}"

    def cell(column: str, value: float | str) -> str:
        if isinstance(value, str):
            return value
        text = f"{value:.2f}" if column in ("seconds", "mean rank") or abs(value) >= 10 else f"{value:.3f}"
        return f"**{text}**" if best.get(column) == value else text

    lines = [f"| | {' | '.join(map(heading, columns))} |", f"|---|{'---:|' * len(columns)}"]
    for name, row in rows.items():
        lines.append(f"| {name} | {' | '.join(cell(c, row[c]) for c in columns)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", default=None, help=f"some of {','.join(PARTS)}")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "quality")
    parser.add_argument("--sheets", type=Path, help="folder for the contact sheets")
    parser.add_argument("--released-steps", type=int, default=100, help="of the released form on TNO")
    parser.add_argument("--every", type=int, default=1, metavar="K", help="every K-th pair only, for a trial")
    arguments = parser.parse_args()
    everything = [part for part in PARTS if part != "sheets" or arguments.sheets]
    parts = arguments.only.split(",") if arguments.only else everything
    if unknown := [part for part in parts if part not in PARTS]:
        parser.error(f"unknown part {', '.join(unknown)}; known: {', '.join(PARTS)}")
    job = Job(arguments.data, load_prior(), arguments.released_steps, arguments.every, arguments.sheets)
    source = arguments.out.with_suffix(".json")
    for part in parts:
        print(part, flush=True)
        start = time.perf_counter()
        tables = PARTS[part](job)
        if not tables:
            continue
        about = runner.describe()
        results = json.loads(source.read_text()) if source.exists() else {}
        results[part] = {
            "seconds": round(time.perf_counter() - start, 1),
            "every": arguments.every,
            "about": f"{about['system']}, {about['threads']} thread, {about['date'][:10]}, {job.prior.name}",
            "versions": about["versions"],
            "tables": [{"title": t.title, "note": t.note, "rows": rounded(t.rows)} for t in tables],
        }
        source.write_text(as_json(results))
        arguments.out.with_suffix(".md").write_text(markdown(results))
        print(f"{part}: {results[part]['seconds']:.0f} s", flush=True)


def rounded(rows: Mapping[str, Row]) -> dict[str, Row]:
    """Six significant digits, which is more than any comparison here bears."""
    return {
        name: {key: value if isinstance(value, str) else float(f"{value:.6g}") for key, value in row.items()}
        for name, row in rows.items()
    }


if __name__ == "__main__":
    main()
