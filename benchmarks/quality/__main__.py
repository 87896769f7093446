"""What the fused pictures are worth: every table that the README's claims of quality rest on.

    python benchmarks quality DATA [--only PART ...] [--output FILE] [--sheets FOLDER] [--released-steps N]
        [--every K]

DATA holds ivf/tno and ivf/msrs (with peers/<method>), ivf/roadscene, vifb (with published_values.csv) and
mif/mri_ct, mri_pet, mri_spect. Each part can be run by itself: it takes its place in results/quality.json,
from which quality.md is written anew. Ranks are by mean value, 1 the best, averaged over the metrics shown.
The contact sheets of the part "sheets" show data that may not be handed on: they go to FOLDER only.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from common import script_parser

from ddfm.benchmark.datasets import get_dataset
from ddfm.benchmark.evaluation import MethodResult, mean_ranks, mean_values
from ddfm.benchmark.methods import Method, find_methods
from ddfm.likelihoods.hierarchical import HierarchicalLikelihood
from ddfm.likelihoods.tasks import TASKS
from ddfm.pictures.colour import luminance
from ddfm.pictures.image import Image
from ddfm.priors.base import Prior
from ddfm.priors.loading import load_prior
from quality.noise import noise
from quality.sheets import sheets
from quality.tables import (
    FEW,
    LIKELIHOOD,
    OURS,
    Job,
    Measured,
    Part,
    Results,
    Row,
    Table,
    baselines,
    both_of_ours,
    measure,
    measure_tables,
    ours,
    standing,
    targets,
)

NINE = ("EN", "SD", "SF", "AG", "MI", "SCD", "VIF", "Qabf", "SSIM_dr2")
INFRARED = TASKS["infrared"]
PLAIN = (1.0,) * len(INFRARED.acutance)  # contrast of the bands as the sources have it
WANTED_MSRS = {"VIF": 0.97, "Qabf": 0.67, "SSIM_dr2": 0.99, "MI": 2.8, "AG": 2.95, "SD": 43.0}
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


def altered(name: str, prior: Prior, **fields: Any) -> Method:
    """Fuse by the likelihood alone, with other fields of its infrared task."""
    return ours(name, prior, task=replace(INFRARED, **fields), steps=0, noise="off")


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
    """All pairs beside the trivial baselines and what is published of the paper."""
    pairs = job.pairs("roadscene", "ivf/roadscene")
    found = measure("roadscene", pairs, [*both_of_ours(job.prior), *baselines()])
    return [
        targets("Ours against the published figures", found.results[OURS].mean, PUBLISHED_ROADSCENE),
        targets("Steps 0 against the published figures", found.results[LIKELIHOOD].mean, PUBLISHED_ROADSCENE),
        targets("The infrared image alone against them", found.results["a-only"].mean, PUBLISHED_ROADSCENE),
        standing("Ours among everything: rank in each metric", found.among(NINE)),
        found.table("Everything", NINE, [name for name in found.results if name != LIKELIHOOD]),
        found.table("Likelihood alone and everything else", NINE, [n for n in found.results if n != OURS]),
    ]


def msrs(job: Job) -> list[Table]:
    """Ours beside the trivial baselines, and beside SeAFusion where its results are at hand."""
    pairs = job.pairs("msrs", "ivf/msrs")
    peer = job.data / "ivf/msrs/peers/SeAFusion"
    shown = {path.stem for path in peer.iterdir()}
    some = [pair for pair in pairs if pair.stem in shown]
    found = measure("msrs", pairs, [*both_of_ours(job.prior, task="infrared"), *baselines()])
    beside = found.on([pair.stem for pair in some])
    others = find_methods([str(peer)], get_dataset("msrs"), [pair.stem for pair in some])
    methods = [method for method in others if method.name == peer.name]
    beside.results |= measure("msrs, SeAFusion", some, methods).results
    return [
        targets("Ours against what SeAFusion reaches", found.results[OURS].mean, WANTED_MSRS),
        targets("Steps 0 against what SeAFusion reaches", found.results[LIKELIHOOD].mean, WANTED_MSRS),
        standing("Ours among the trivial baselines: rank in each metric", found.among(NINE)),
        found.table("Everything", NINE, [name for name in found.results if name != LIKELIHOOD]),
        found.table("Likelihood alone and everything else", NINE, [n for n in found.results if n != OURS]),
        standing(f"{len(some)} pairs, with SeAFusion: rank in each metric", beside.among(NINE)),
        beside.table(
            f"{len(some)} pairs, with SeAFusion",
            NINE,
            [name for name in beside.results if name != LIKELIHOOD],
        ),
        targets(f"{len(some)} pairs: ours", beside.results[OURS].mean, WANTED_MSRS),
        targets(f"{len(some)} pairs: SeAFusion", beside.results[peer.name].mean, WANTED_MSRS),
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


def frontier(job: Job) -> list[Table]:
    """What one set gains from a constant and another loses: the likelihood alone, on some pairs of each."""
    rows = [
        altered(f"union {union:g}, acutance {contrast}, bright {bright:g}", job.prior, **fields)
        for union in (0.0, INFRARED.union or 0.0, 1.0)
        for contrast, acutance in (("1", PLAIN), ("as it is", INFRARED.acutance))
        for bright in (0.0, INFRARED.bright)
        for fields in ({"union": union, "acutance": acutance, "bright": bright},)
    ]
    return [traded(job, "Union, acutance and brightness", rows)]


def traded(job: Job, title: str, rows: Sequence[Method]) -> Table:
    """Measure alterations on a part of TNO, MSRS and VIFB; each is ranked beside the peers alone."""
    tno_pairs = job.pairs("tno", "ivf/tno")[::3]
    folders = sorted(path for path in (job.data / "ivf/tno/peers").iterdir() if path.is_dir())
    others = find_methods([str(path) for path in folders], get_dataset("tno"), [p.stem for p in tno_pairs])
    peers = [method for method in others if method.name in {path.name for path in folders}]
    on_tno = measure("frontier, TNO", tno_pairs, [*rows, *peers])
    on_msrs = measure("frontier, MSRS", job.pairs("msrs", "ivf/msrs")[::4], rows).results
    vifb_pairs = job.pairs("vifb", "vifb")[::3]
    on_vifb = measure("frontier, VIFB", vifb_pairs, rows, "vifb")
    published = published_vifb(job.data / "vifb/published_values.csv", [pair.stem for pair in vifb_pairs])

    def rank(name: str, of: Results, beside: Results) -> float:
        return mean_ranks({name: of[name], **beside})[name]

    results = on_tno.among(NINE)
    beside = {peer.name: results[peer.name] for peer in peers}
    table: dict[str, Row] = {
        row.name: {
            "TNO mean rank": rank(row.name, results, beside),
            **{f"{metric} TNO": results[row.name].mean[metric] for metric in ("SCD", "SSIM_dr2")},
            **{f"{metric} MSRS": on_msrs[row.name].mean[metric] for metric in ("VIF", "MI", "SSIM_dr2")},
            "VIFB mean rank": rank(row.name, on_vifb.results, published),
        }
        for row in rows
    }
    counts = f"{len(tno_pairs)} pairs of TNO, {len(on_msrs[rows[0].name].images)} of MSRS and "
    return Table(title, table, f"Means over {counts}{len(vifb_pairs)} of VIFB; ranks beside the peers alone.")


def ablation(job: Job) -> list[Table]:
    """Form, steps, EM iterations, stretch and parts, each varied alone, on every second pair of TNO."""
    pairs = job.pairs("tno", "ivf/tno")[::2]
    prior = job.prior
    steps = {n: ours(f"ddfm, {n} steps", prior, steps=n) for n in (0, 2, 5, 10)}
    forms = [ours(f"{form}, {FEW} steps", prior, form=form, steps=FEW) for form in ("paper", "released")]
    iterations = [iterated(f"{n + 1} EM iterations", n) for n in (0, 1, 2, 5)]
    switches = [
        ours(f"stretch {stretch}, {n} steps", prior, stretch=stretch, steps=n)
        for n in (5, 0)
        for stretch in ("auto", "none")
    ]
    parts = altered_parts(prior)
    found = measure("ablation", pairs, [*steps.values(), *forms, *iterations, *switches, *parts])

    def table(title: str, methods: Sequence[Method]) -> Table:
        return found.table(title, NINE, [method.name for method in methods])

    return [
        table("Form of the likelihood", [steps[5], steps[0], steps[FEW], *forms]),
        table("Network evaluations", list(steps.values())),
        table("Parts of the likelihood, no network", parts),
        traded(job, "The same on three sets", parts),
        table("EM iterations, no network", iterations),
        table("Stretch", switches),
    ]


def altered_parts(prior: Prior) -> list[Method]:
    """List the likelihood with one part taken out at a time."""
    return [
        altered("as it is", prior),
        altered("no joint explanation of intensities", prior, union=0.0),
        altered("all sources taken to speak together", prior, present=1e-6),
        altered("the brighter source is not preferred", prior, bright=0.0),
        altered("dark sources are not passed over", prior, absent=0.0),
        altered("the whole picture does not decide", prior, overall=0.0),
        altered("details do not follow the choice", prior, followed=0.0),
        altered("saliency: details count alike", prior, energy_power=0.0),
        altered("no energy given back", prior, gain=1.0),
        altered("acutance 1", prior, acutance=PLAIN),
        altered("not bounded by the sources", prior, overshoot=1.0),
        altered("strictly bounded by them", prior, overshoot=0.0),
    ]


# --- Out -----------------------------------------------------------------------------------------

PARTS: dict[str, Part] = {
    "tno": tno,
    "vifb": vifb,
    "roadscene": roadscene,
    "msrs": msrs,
    "medical": medical,
    "frontier": frontier,
    "ablation": ablation,
    "noise": noise,
    "sheets": sheets,
}


def main() -> None:
    parser = script_parser(__doc__, "quality.json", data=True, parts=tuple(PARTS), every="pair")
    parser.add_argument("--sheets", type=Path, help="folder for the contact sheets")
    parser.add_argument("--released-steps", type=int, default=100, help="of the released form on TNO")
    arguments = parser.parse_args()
    everything = [part for part in PARTS if part != "sheets" or arguments.sheets]
    job = Job(arguments.data, load_prior(), arguments.released_steps, arguments.every, arguments.sheets)
    measure_tables("Quality", PARTS, job, arguments.output, arguments.only or everything)


if __name__ == "__main__":
    main()
