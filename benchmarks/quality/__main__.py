"""What the fused pictures are worth: every table that the README's claims of quality rest on.

    python benchmarks quality DATA [--only tno,vifb,roadscene,medical,noise,ablation,sheets]
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
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from ddfm.benchmark import run as runner
from ddfm.benchmark.datasets import get_dataset
from ddfm.benchmark.evaluation import MethodResult, as_json, mean_values
from ddfm.benchmark.methods import Method, find_methods
from ddfm.fusion.pipeline import fuse
from ddfm.likelihoods import hierarchical
from ddfm.likelihoods.hierarchical import HierarchicalLikelihood
from ddfm.likelihoods.tasks import LEVELS, TASKS
from ddfm.pictures.colour import luminance
from ddfm.pictures.image import Image
from ddfm.priors.diffusion import Prior
from ddfm.priors.loading import load_prior
from quality.noise import noise
from quality.sheets import sheets
from quality.tables import (
    FEW,
    LIKELIHOOD,
    OURS,
    Job,
    Measured,
    Results,
    Table,
    baselines,
    both_of_ours,
    markdown,
    measure,
    ours,
    rounded,
    standing,
    targets,
)

NINE = ("EN", "SD", "SF", "AG", "MI", "SCD", "VIF", "Qabf", "SSIM_dr2")
INFRARED = TASKS["infrared"]
PUBLISHED_ROADSCENE = {
    "EN": 7.41, "SD": 52.61, "MI": 2.35, "VIF": 0.75, "Qabf": 0.65, "SSIM_dr2": 0.98, "AG": 3.63
}  # fmt: skip
PUBLISHED_MEDICAL = {"MI": 1.99, "VIF": 0.76, "Qabf": 0.60, "SSIM_dr2": 1.41}
PUBLISHED_MRI_CT = {"EN": 4.31}


# --- Methods -------------------------------------------------------------------------------------


def iterated(name: str, times: int) -> Method:
    """The likelihood alone, with so many more EM iterations than the one that gives its start."""

    def run(a: Image, b: Image) -> Image:
        sources = [torch.from_numpy(image.pixels).movedim(-1, 0)[None] for image in (a, b)]
        likelihood = HierarchicalLikelihood(
            [2 * luminance(source) - 1 for source in sources], [torch.zeros(1)] * 2, INFRARED
        )
        f = likelihood.start
        for _ in range(times):
            f = likelihood.solve(f)
        return Image(likelihood.finish(f)[0].movedim(0, -1).numpy(), a.depth)

    return Method(name, run)


def altered(name: str, prior: Prior, constants: dict[str, Any] | None = None, **task: Any) -> Method:
    """The likelihood alone with other constants of `likelihoods.hierarchical` or of its infrared task."""

    def run(a: Image, b: Image) -> Image:
        with (
            patch.dict(vars(hierarchical), constants or {}),
            patch.dict(TASKS, infrared=replace(INFRARED, **task)),
        ):
            return fuse(a, b, prior=prior, steps=0, noise="off").image

    return Method(name, run)


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
        altered(f"floor {floor}, {name}", job.prior, energy_floor=floor, acutance=contrast)
        for floor in (0.0025, 0.01, INFRARED.energy_floor, 0.06)
        for name, contrast in (("acutance 1", (1.0,) * LEVELS), ("the form's", INFRARED.acutance))
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
            note="The floor is the energy of details below which both sources are averaged, acutance the "
            "contrast of the bands. Copying the stronger detail (low floor) is what Qabf rewards, "
            "keeping both is what SSIM does; contrast costs SSIM.",
        ),
    ]


def medical(job: Job) -> list[Table]:
    """MRI (first source) with CT, PET and SPECT; metrics on luminance."""
    metrics = ("EN", "MI", "VIF", "Qabf", "SSIM_dr2")
    methods = [*both_of_ours(job.prior, task="medical"), *baselines()]
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
    parts = [
        altered("as it is", prior),
        altered("no joint explanation of intensities", prior, union=0.0),
        altered("details do not follow the choice", prior, {"TRUST_POWER": 0.0}),
        altered("saliency: details count alike", prior, {"ENERGY_POWER": 0.0}),
        altered("no energy given back", prior, {"MAX_GAIN": 1.0}),
        altered("acutance 1", prior, acutance=(1.0,) * LEVELS),
        altered("not bounded by the sources", prior, overshoot=1.0),
        altered("strictly bounded by them", prior, overshoot=0.0),
    ]
    found = measure("ablation", pairs, [*steps.values(), *forms, *iterations, *switches, *parts])
    long = [steps[0], steps[5], ours("ddfm, 100 steps", prior, steps=100)]
    some = pairs[:: max(1, len(pairs) // 3)]

    def table(title: str, methods: Sequence[Method]) -> Table:
        return found.table(title, NINE, [method.name for method in methods])

    return [
        table("Form of the likelihood", [steps[5], steps[0], steps[FEW], *forms]),
        table("Network evaluations", list(steps.values())),
        measure("ablation, 100 steps", some, long).table(f"A hundred of them, on {len(some)} pairs", NINE),
        table("Parts of the likelihood, no network", parts),
        table("EM iterations, no network", iterations),
        table("Stretch and noise model", switches),
    ]


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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", default=None, help=f"some of {','.join(PARTS)}")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "results" / "quality")
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
        arguments.out.with_suffix(".md").write_text(
            markdown(results, {part: str(function.__doc__) for part, function in PARTS.items()})
        )
        print(f"{part}: {results[part]['seconds']:.0f} s", flush=True)


if __name__ == "__main__":
    main()
