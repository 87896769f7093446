"""Measuring folders of fused images against folders of their sources, files matched by stem."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum, isfinite
from pathlib import Path

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from ddfm.errors import InputError, visible
from ddfm.formats.atomic import write_whole
from ddfm.formats.pictures import SUFFIXES as FUSION_SUFFIXES
from ddfm.formats.pictures import images_by_stem, read_8bit
from ddfm.metrics import METRICS, Convention, check_convention, evaluate

SUFFIXES = {*FUSION_SUFFIXES, ".ppm", ".pgm"}
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a cell begins with that spreadsheets compute


@dataclass(frozen=True)
class MethodResult:
    """One method's values: the mean over its images, and each image by stem."""

    mean: dict[str, float]
    images: dict[str, dict[str, float]]


@dataclass(frozen=True)
class Evaluation:
    """The values of one or more methods on the same images.

    Attributes:
        convention: whose definitions they are.
        methods: by the name of the method's folder, in the order given.
        mean_rank: for more than one method, its rank by mean value (1 the best, ties share their mean
            rank), averaged over the metrics.
    """

    convention: Convention
    methods: dict[str, MethodResult]
    mean_rank: dict[str, float] | None

    def as_dict(self) -> dict[str, object]:
        """Ready for JSON.

        One method: ``{"convention", "mean", "images"}``. Several:
        ``{"convention", "methods": {name: {"mean", "images"}}, "mean_rank"}``.
        """
        methods = {
            name: {"mean": result.mean, "images": result.images} for name, result in self.methods.items()
        }
        if self.mean_rank is None:
            (result,) = methods.values()
            return {"convention": self.convention, **result}
        return {"convention": self.convention, "methods": methods, "mean_rank": self.mean_rank}


def evaluate_folders(a: Path, b: Path, fused: Sequence[Path], convention: Convention = "paper") -> Evaluation:
    """Measure every image of every folder in ``fused`` against its sources in ``a`` and ``b``.

    All fused folders must hold the same stems, each with one file in ``a`` and one in ``b``; the
    sources may have more. Files other than images are ignored.

    Raises:
        InputError: a folder or file that is missing, double, unreadable, or of another size; an
            unknown convention.
    """
    check_convention(convention)
    if not fused:
        raise InputError("no folder of fused images given")
    sources_a, sources_b = image_files(a), image_files(b)
    outputs: dict[str, dict[str, Path]] = {}
    for folder in fused:
        name = folder.resolve().name
        if name in outputs:
            raise InputError(
                f"two folders of fused images are called {name}: rename one, methods go by that name"
            )
        outputs[name] = image_files(folder)
    stems = sorted(set().union(*outputs.values()))
    for folder, files in ((a, sources_a), (b, sources_b), *zip(fused, outputs.values(), strict=True)):
        if missing := [stem for stem in stems if stem not in files]:
            raise InputError(f"{folder} has no image called {_some(missing)}")

    images: dict[str, dict[str, dict[str, float]]] = {name: {} for name in outputs}
    for stem in stems:
        pair = read_image(sources_a[stem]), read_image(sources_b[stem])
        for name, files in outputs.items():
            try:
                values = evaluate(*pair, read_image(files[stem]), convention)
            except InputError as error:
                raise InputError(f"{files[stem]}: {error}") from error
            images[name][stem] = {metric: value.item() for metric, value in values.items()}
    methods = {
        name: MethodResult(mean_values(list(values.values())), values) for name, values in images.items()
    }
    return Evaluation(convention, methods, mean_ranks(methods) if len(methods) > 1 else None)


def read_image(path: Path) -> Tensor:
    """Read an 8-bit image as (1, C, H, W) uint8: grey stays grey, anything coloured becomes RGB."""
    pixels = torch.from_numpy(read_8bit(path))
    return (pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1))[None]


def as_json(values: object) -> str:
    """Return indented JSON; what is not finite (a perfect PSNR) becomes null, which JSON can hold."""
    return json.dumps(_finite(values), indent=2, allow_nan=False) + "\n"


def write_json(evaluation: Evaluation, path: Path) -> None:
    """:meth:`Evaluation.as_dict` as JSON."""
    write_text(path, as_json(evaluation.as_dict()))


def write_csv(evaluation: Evaluation, path: Path) -> None:
    """A row for each method and image, then one with the method's mean, its image called ``(mean)``."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = metric_names(evaluation)
    writer.writerow(["method", "image", *names])
    for method, result in evaluation.methods.items():
        for image, values in [*result.images.items(), ("(mean)", result.mean)]:
            writer.writerow([cell(method), cell(image), *(repr(values[name]) for name in names)])
    write_text(path, text.getvalue())


def cell(text: str) -> str:
    """Return a name as a cell that no spreadsheet takes for a formula, and without hidden characters."""
    text = visible(text)
    return f"'{text}" if text.startswith(FORMULA) else text


def as_table(evaluation: Evaluation) -> Table:
    """Mean values for the terminal: a row for each metric, a column for each method, the best in bold."""
    count = len(next(iter(evaluation.methods.values())).images)
    title = f"convention {evaluation.convention}, mean over {count} image{'s' * (count != 1)}"
    table = Table(title=title, min_width=len(title))  # a title is wrapped to its table's width
    table.add_column("metric")
    for method in evaluation.methods:
        table.add_column(escape(visible(method)), justify="right")
    for name in metric_names(evaluation):
        values = [result.mean[name] for result in evaluation.methods.values()]
        higher = METRICS[name].higher_is_better
        best = (max if higher else min)(values)
        cells = [f"[bold]{v:.4f}[/bold]" if v == best and len(values) > 1 else f"{v:.4f}" for v in values]
        table.add_row(f"{name} {'↑' if higher else '↓'}", *cells)
    if evaluation.mean_rank:
        table.add_section()
        table.add_row("mean rank ↓", *(f"{rank:.2f}" for rank in evaluation.mean_rank.values()))
    return table


def as_text(evaluation: Evaluation) -> str:
    """Return `as_table` as lines, for the terminal, in bold where that is one; without colours elsewhere."""
    console = Console()
    with console.capture() as captured:
        console.print(as_table(evaluation))
    return captured.get()


def image_files(folder: Path) -> dict[str, Path]:
    """The images that can be measured, by stem; raises InputError if there are none, or two of one stem."""
    found = images_by_stem(folder, SUFFIXES)
    if not found:
        raise InputError(f"{folder} holds no images")
    return found


def _some(stems: list[str]) -> str:
    more = f" and {len(stems) - 3} more" if len(stems) > 3 else ""
    return ", ".join(stems[:3]) + more


def mean_values(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of each metric over images."""
    return {name: fsum(row[name] for row in rows) / len(rows) for name in rows[0]}


def mean_ranks(methods: dict[str, MethodResult]) -> dict[str, float]:
    """Each method's rank by mean value (1 the best, ties share theirs), averaged over the metrics."""
    ranks: dict[str, list[float]] = {name: [] for name in methods}
    for metric in next(iter(methods.values())).mean:
        sign = -1 if METRICS[metric].higher_is_better else 1
        costs = {name: sign * result.mean[metric] for name, result in methods.items()}
        for name, cost in costs.items():
            better, equal = sum(c < cost for c in costs.values()), sum(c == cost for c in costs.values())
            ranks[name].append(better + (equal + 1) / 2)
    return {name: fsum(values) / len(values) for name, values in ranks.items()}


def metric_names(evaluation: Evaluation) -> list[str]:
    """The metrics measured, in the order of the registry."""
    return list(next(iter(evaluation.methods.values())).mean)


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all; raises InputError if it cannot be."""
    # Names that are not UTF-8 have halves of characters in them.
    write_whole(path, text.encode("utf-8", "backslashreplace"))
