"""What the tasks medical, exposure and focus are worth, and what more than two sources cost.

    python benchmarks tasks DATA [--only PART ...] [--output FILE] [--sheets FOLDER] [--every K]

DATA holds mif/mri_ct, mri_pet, mri_spect, mef/mefb and mff/mfifb. Metrics are by convention paper, on the
grey values of the coloured results. Each part takes its place in results/tasks.json, from which tasks.md is
written anew.
Ranks are by mean value, 1 the best, averaged over the metrics shown. Contact sheets (--sheets) show data
that may not be handed on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from common import script_parser
from PIL import Image as PILImage
from PIL import ImageDraw
from quality.tables import Job, Measured, Part, Row, Table, measure_tables
from torch import Tensor

from ddfm.benchmark.datasets import get_dataset
from ddfm.benchmark.evaluation import MethodResult, mean_values
from ddfm.benchmark.methods import Method, as_bytes, find_methods
from ddfm.formats.pictures import read_image
from ddfm.fusion.pipeline import fuse
from ddfm.jobs.matching import Group
from ddfm.metrics import evaluate
from ddfm.pictures.colour import chroma, luminance, well_exposed
from ddfm.pictures.image import Image
from ddfm.priors.base import Prior
from ddfm.priors.loading import load_prior
from tasks.stacks import cost, stacks

OURS, LIKELIHOOD = "ours", "ours, steps 0"
EXPOSURE = ("MEF_SSIM", "Qabf", "Qcb")
FOCUS = ("Qabf", "Qcb", "MI", "VIF")
MEDICAL = ("MI", "VIF", "Qabf", "SSIM_dr2")
ACTIVE = 0.2  # saturation (HSV) of a functional source from which on it is active
NEAR = 4  # levels from black and white
MORE_CLIPPED = "pairs with more"
WIDTH, CAPTION = 420, 16  # of a picture on a sheet, and the height of its caption, in pixels

Look = Callable[[Sequence[Tensor], Tensor], Row]
"""Further values of one result: sources and result as (1, C, H, W), 8-bit values."""


def methods_for(name: str, prior: Prior, peers: Sequence[str]) -> list[Method]:
    dataset = get_dataset(name)
    ours = [
        Method(OURS, lambda a, b: fuse(a, b, prior=prior, task=dataset.task).image),
        Method(LIKELIHOOD, lambda a, b: fuse(a, b, prior=prior, task=dataset.task, steps=0).image),
    ]
    found = {method.name: method for method in find_methods(peers, dataset, [])}
    return [*ours, *(found[peer] for peer in peers)]


def measure(
    name: str, pairs: Sequence[Group], methods: Sequence[Method], metrics: Sequence[str], look: Look, job: Job
) -> tuple[Measured, dict[str, dict[str, Row]]]:
    """Every method on every pair: metrics, and what else is looked at by method and stem."""
    values: dict[str, dict[str, dict[str, float]]] = {method.name: {} for method in methods}
    seen: dict[str, dict[str, Row]] = {method.name: {} for method in methods}
    seconds: dict[str, list[float]] = {method.name: [] for method in methods}
    start = time.perf_counter()
    for pair in pairs:
        sources = [read_image(path) for path in pair.files]
        inputs = [eight_bits(source) for source in sources]
        pictures = dict(zip(("a", "b"), sources, strict=True))
        for method in methods:
            assert method.fuse is not None
            before = time.perf_counter()
            image = method.fuse(*sources)
            seconds[method.name].append(time.perf_counter() - before)
            fused = eight_bits(image)
            measured = evaluate(inputs[0], inputs[1], fused, metrics=metrics)
            values[method.name][pair.stem] = {key: value.item() for key, value in measured.items()}
            seen[method.name][pair.stem] = look(inputs, fused)
            pictures[method.name] = image
        if job.sheets is not None:
            sheet(pair.stem, pictures).save(job.sheets / f"{name}-{pair.stem}.png")
    print(f"  {name}: {time.perf_counter() - start:.0f} s", flush=True)
    results = {key: MethodResult(mean_values(list(rows.values())), rows) for key, rows in values.items()}
    return Measured(results, {key: float(np.median(taken)) for key, taken in seconds.items()}), seen


def eight_bits(image: Image) -> Tensor:
    return torch.from_numpy(as_bytes(image)).movedim(-1, 0)[None]


def sheet(stem: str, pictures: Mapping[str, Image]) -> PILImage.Image:
    """The pictures side by side, each with its caption."""
    height, width = next(iter(pictures.values())).size
    height = round(height * WIDTH / width)
    page = PILImage.new("RGB", (len(pictures) * (WIDTH + 4), height + CAPTION), "white")
    draw = ImageDraw.Draw(page)
    for place, (name, image) in enumerate(pictures.items()):
        picture = PILImage.fromarray(as_bytes(image).repeat(3 // image.pixels.shape[2], 2))
        page.paste(
            picture.resize((WIDTH, height), PILImage.Resampling.LANCZOS), (place * (WIDTH + 4), CAPTION)
        )
        draw.text((place * (WIDTH + 4) + 2, 2), f"{stem}: {name}", fill="black")
    return page


def standings(title: str, found: Measured, metrics: Sequence[str], peers: Sequence[str]) -> list[Table]:
    """Ours among the peers, the likelihood alone among the peers, and pair by pair."""
    rows: dict[str, Row] = {}
    for ours in (OURS, LIKELIHOOD):
        for peer in peers:
            wins: Row = {}
            for metric in metrics:
                pairs = found.results[ours].images
                better = sum(pairs[stem][metric] > found.results[peer].images[stem][metric] for stem in pairs)
                wins[f"in {metric}"] = f"{better} of {len(pairs)}"
            rows[f"{ours}, above {peer}"] = wins
    return [
        found.table(title, metrics, [OURS, *peers]),
        found.table(f"{title}, likelihood alone", metrics, [LIKELIHOOD, *peers]),
        Table("Pairs on which ours has the higher value", rows),
    ]


def averaged(rows: Mapping[str, Mapping[str, Row]]) -> dict[str, Row]:
    """Means over the pairs that have a value, by method."""
    means: dict[str, Row] = {}
    for name, images in rows.items():
        keys = list(next(iter(images.values())))
        means[name] = {key: float(np.nanmean([float(row[key]) for row in images.values()])) for key in keys}
    return means


# --- Exposure ------------------------------------------------------------------------------------


def best_exposed(sources: Sequence[Tensor]) -> Tensor:
    """At each pixel the source whose channels are best exposed: the largest product (Mertens et al. 2007)."""
    stack = torch.stack([source.expand(-1, 3, -1, -1) for source in sources])
    exposed = well_exposed(stack / 255).prod(2, keepdim=True)
    return stack.gather(0, exposed.argmax(0, keepdim=True).expand(1, *stack.shape[1:]))[0]


def clipping(sources: Sequence[Tensor], fused: Tensor) -> Row:
    """Contrast, and per cent of the pixels with a channel at 0, at 255, or near; also of the best exposed."""
    best = best_exposed(sources)
    grey = luminance(fused.float()).round()

    def share(which: Tensor) -> float:
        return 100 * which.any(1).float().mean().item()

    row: Row = {"SD": grey.std(correction=0).item()}
    for whose, image in (("", fused), (", best exposed", best)):
        row[f"at 0{whose}, %"] = share(image == 0)
        row[f"at 255{whose}, %"] = share(image == 255)
        row[f"to {NEAR}{whose}, %"] = share(image <= NEAR)
        row[f"from {255 - NEAR}{whose}, %"] = share(image >= 255 - NEAR)
    worse = any(float(row[f"{end}, %"]) > float(row[f"{end}, best exposed, %"]) for end in ("at 0", "at 255"))
    row[MORE_CLIPPED] = 100.0 * worse
    return row


def exposure(job: Job) -> list[Table]:
    """MEFB beside OpenCV's exposure fusion and the trivial ones."""
    peers = ("mergemertens", "laplacian", "mean", "max")
    pairs = job.pairs("mefb", "mef/mefb")
    methods = methods_for("mefb", job.prior, peers)
    found, seen = measure("mefb", pairs, methods, EXPOSURE, clipping, job)
    rows = averaged(seen)
    for row in rows.values():
        row[MORE_CLIPPED] = f"{round(float(row[MORE_CLIPPED]) * len(pairs) / 100)} of {len(pairs)}"
    note = (
        "SD of the grey values; pixels with any channel at 0, at 255, or that near to them. The best exposed "
        "is, at each pixel, the source with the largest product of well-exposedness over the channels. The "
        "last column counts the pairs with more pixels at 0 or more at 255 than that. Ours bends the range "
        "instead of clipping it (algorithm.md, eq. 19): what would be clipped lies near the ends."
    )
    return [
        *standings(f"{len(pairs)} pairs", found, EXPOSURE, peers),
        Table("Contrast and clipping", rows, note),
    ]


# --- Focus ---------------------------------------------------------------------------------------


def focus(job: Job) -> list[Table]:
    """MFIFB beside the selection by a Laplacian pyramid and the trivial ones."""
    peers = ("laplacian", "mean", "max")
    pairs = job.pairs("mfifb", "mff/mfifb")
    methods = methods_for("mfifb", job.prior, peers)
    found, _ = measure("mfifb", pairs, methods, FOCUS, lambda sources, fused: {}, job)
    return standings(f"{len(pairs)} pairs", found, FOCUS, peers)


# --- Medical -------------------------------------------------------------------------------------


def colours(sources: Sequence[Tensor], fused: Tensor) -> Row:
    """Hue and chroma of the result beside the functional source, the one in colour; NaN without one."""
    functional = next((source.float() for source in sources if source.shape[1] == 3), None)
    names = ("hue, degrees", "with those without, degrees", "without colour, %", "chroma on black, of 255")
    if functional is None or fused.shape[1] != 3:
        return dict.fromkeys(names, float("nan"))
    largest, smallest = functional.amax(1), functional.amin(1)
    active = (largest - smallest) / largest.clamp_min(1) > ACTIVE
    apart = ((hue(fused.float()) - hue(functional) + 180) % 360 - 180).abs()
    extent = fused.amax(1).float() - fused.amin(1).float()
    coloured = active & (extent > 0)
    return {
        names[0]: apart[coloured].mean().item(),
        names[1]: apart[active].mean().item(),
        names[2]: 100 * (1 - coloured.sum() / active.sum()).item(),
        names[3]: extent[largest == 0].mean().item(),
    }


def hue(image: Tensor) -> Tensor:
    """Angle of the chroma in the plane across the grey axis, in degrees, (1, H, W); 0 for grey."""
    r, g, b = chroma(image).unbind(1)
    return torch.rad2deg(torch.atan2(3**0.5 * (g - b), 2 * r - g - b))


def medical(job: Job) -> list[Table]:
    """MRI with CT, PET and SPECT, fused in colour."""
    sets = ("mri-ct", "mri-pet", "mri-spect")
    tables: list[Table] = []
    rows: dict[str, Row] = {}
    pooled: dict[str, dict[str, dict[str, float]]] = {}
    for name in sets:
        pairs = job.pairs(name, f"mif/{name.replace('-', '_')}")
        methods = methods_for(name, job.prior, ("laplacian", "mean", "max"))
        found, seen = measure(name, pairs, methods, MEDICAL, colours, job)
        tables.append(found.table(name, MEDICAL))
        if name != "mri-ct":
            rows |= {f"{name}, {method}": row for method, row in averaged(seen).items()}
        for method, result in found.results.items():
            pooled.setdefault(method, {}).update({f"{name} {k}": v for k, v in result.images.items()})
    results = {
        key: MethodResult(mean_values(list(images.values())), images) for key, images in pooled.items()
    }
    note = (
        f"Of the pixels where the functional source has a saturation (HSV) above {ACTIVE}: the mean distance "
        "to its hue where the result has a hue at all; the mean with a hue of 0 for the pixels that came out "
        "without colour, black as a rule, and the share of those. Last, the mean of the largest less the "
        "smallest channel where the functional source is black."
    )
    return [
        Measured(results).table("All pairs of the three sets", MEDICAL),
        *tables,
        Table("Colour of the functional source", rows, note),
    ]


# --- Out -----------------------------------------------------------------------------------------

PARTS: dict[str, Part] = {
    "medical": medical,
    "exposure": exposure,
    "focus": focus,
    "stacks": stacks,
    "cost": cost,
}


def main() -> None:
    parser = script_parser(__doc__, "tasks.json", data=True, parts=tuple(PARTS), every="pair")
    parser.add_argument("--sheets", type=Path, help="folder for the contact sheets")
    arguments = parser.parse_args()
    if arguments.sheets is not None:
        arguments.sheets.mkdir(parents=True, exist_ok=True)
    job = Job(arguments.data, load_prior(), every=arguments.every, sheets=arguments.sheets)
    measure_tables("Tasks", PARTS, job, arguments.output, arguments.only)


if __name__ == "__main__":
    main()
