"""Measuring folders of fused images against folders of their sources, files matched by stem."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from math import fsum, isfinite
from pathlib import Path
from typing import TypeVar

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ddfm.errors import InputError, visible
from ddfm.formats.atomic import write_whole
from ddfm.formats.pictures import SUFFIXES as FUSION_SUFFIXES
from ddfm.formats.pictures import images_by_stem
from ddfm.formats.tables import cell
from ddfm.jobs.files import read_8_bits
from ddfm.metrics import METRICS, Convention, check_convention, check_metrics, evaluate
from ddfm.threads import use_threads

SUFFIXES = {*FUSION_SUFFIXES, ".ppm", ".pgm"}
Item = TypeVar("Item")
Result = TypeVar("Result")


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
        missing: pairs without a result, by method; those were left out of all means.
    """

    convention: Convention
    methods: dict[str, MethodResult]
    mean_rank: dict[str, float] | None
    missing: dict[str, list[str]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, object]:
        """Return everything, ready for JSON.

        One method: ``{"convention", "mean", "images"}``. Several:
        ``{"convention", "methods": {name: {"mean", "images"}}, "mean_rank"}``. With pairs left out, also
        ``"missing"``: their names by method.
        """
        methods = {
            name: {"mean": result.mean, "images": result.images} for name, result in self.methods.items()
        }
        left_out = {"missing": self.missing} if self.missing else {}
        if self.mean_rank is None:
            (result,) = methods.values()
            return {"convention": self.convention, **result, **left_out}
        return {
            "convention": self.convention,
            "methods": methods,
            "mean_rank": self.mean_rank,
            **left_out,
        }


def evaluate_folders(
    a: Path,
    b: Path,
    fused: Sequence[Path],
    convention: Convention = "paper",
    *,
    metrics: Sequence[str] | None = None,
    allow_missing: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Measure every image of every folder in ``fused`` against its sources in ``a`` and ``b``.

    Pairs are those with a file of one stem in ``a`` and in ``b``; each fused folder has to hold a result
    of every pair. Files other than images are ignored. All cores measure at once.

    Args:
        metrics: names of `ddfm.metrics.METRICS` instead of the convention's own.
        allow_missing: measure the pairs that all folders have results of, and note down the rest.
        progress: called with how many pairs are measured, and how many there are.

    Raises:
        InputError: a folder or file that is missing, double, unreadable, or of another size; an
            unknown convention or metric; missing results, unless they are allowed.
    """
    check_metrics(check_convention(convention), metrics)
    outputs = folders_by_name(fused)
    sources_a, sources_b = image_files(a), image_files(b)
    stems = sorted(set(sources_a) & set(sources_b))
    for name, files in outputs.items():
        if strangers := sorted(set(files) - set(stems)):
            raise InputError(f"{name}: {a} and {b} have no pair called {some(strangers)}")
    missing = {name: lacking for name, files in outputs.items() if (lacking := absent(stems, files))}
    if missing and not allow_missing:
        name, lacking = next(iter(missing.items()))
        raise InputError(
            f"{name}: {len(lacking)} of {len(stems)} results missing ({some(lacking)}); "
            "--allow-missing measures the pairs that all methods have"
        )
    stems = [stem for stem in stems if not any(stem in lacking for lacking in missing.values())]
    if not stems:
        raise InputError("no pair has a result of every method")

    def measured(stem: str) -> dict[str, dict[str, float]]:
        pair = read_8_bits(sources_a[stem]), read_8_bits(sources_b[stem])
        rows = {}
        for name, files in outputs.items():
            try:
                values = evaluate(*pair, read_8_bits(files[stem]), convention, metrics)
            except InputError as error:
                raise InputError(f"{files[stem]}: {error}") from error
            rows[name] = {metric: value.item() for metric, value in values.items()}
        return rows

    images: dict[str, dict[str, dict[str, float]]] = {name: {} for name in outputs}
    for stem, rows in zip(stems, side_by_side(measured, stems), strict=True):
        for name, values in rows.items():
            images[name][stem] = values
        progress(len(images[name]), len(stems))
    methods = {
        name: MethodResult(mean_values(list(values.values())), values) for name, values in images.items()
    }
    return Evaluation(convention, methods, mean_ranks(methods) if len(methods) > 1 else None, missing)


def folders_by_name(fused: Sequence[Path]) -> dict[str, dict[str, Path]]:
    """Return each folder's images by the folder's name. Raises InputError for two of one name."""
    if not fused:
        raise InputError("no folder of fused images given")
    outputs: dict[str, dict[str, Path]] = {}
    for folder in fused:
        name = folder.resolve().name
        if name in outputs:
            raise InputError(
                f"two folders of fused images are called {name}: rename one, methods go by that name"
            )
        outputs[name] = image_files(folder)
    return outputs


def absent(stems: Sequence[str], files: Collection[str]) -> list[str]:
    """Return the stems without a file."""
    return [stem for stem in stems if stem not in files]


def side_by_side(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int | None = None
) -> Iterator[Result]:
    """Yield the function's results in the items' order, computed on all cores, a thread each.

    Metrics are many small operations: pairs beside each other are quicker than one on all cores.

    Args:
        workers: threads; None for as many as torch has.
    """
    pool = ThreadPoolExecutor(workers or torch.get_num_threads(), initializer=lambda: use_threads(1))
    try:
        yield from pool.map(function, items)
    finally:
        pool.shutdown(cancel_futures=True)


def as_json(values: object) -> str:
    """Return indented JSON; what is not finite (a perfect PSNR) becomes null, which JSON can hold."""
    return json.dumps(_finite(values), indent=2, allow_nan=False) + "\n"


def write_json(evaluation: Evaluation, path: Path) -> None:
    """Write :meth:`Evaluation.as_dict` as JSON."""
    write_text(path, as_json(evaluation.as_dict()))


def write_csv(evaluation: Evaluation, path: Path) -> None:
    """Write a row for each method and image, then one with the method's mean, its image called ``(mean)``."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = metric_names(evaluation)
    writer.writerow(["method", "image", *names])
    for method, result in evaluation.methods.items():
        for image, values in [*result.images.items(), ("(mean)", result.mean)]:
            writer.writerow([cell(method), cell(image), *(repr(values[name]) for name in names)])
    write_text(path, text.getvalue())


def as_table(evaluation: Evaluation) -> Table:
    """Return mean values for the terminal: a row a metric, a column a method, the best in bold."""
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
    """List the images that can be measured, by stem; raises InputError for none, or two of one stem."""
    found = images_by_stem(folder, SUFFIXES)
    if not found:
        raise InputError(f"{folder} holds no images")
    return found


def some(stems: Sequence[str]) -> str:
    """Return the first three names, and how many more there are."""
    more = f" and {len(stems) - 3} more" if len(stems) > 3 else ""
    return ", ".join(stems[:3]) + more


def mean_values(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each metric over images."""
    return {name: fsum(row[name] for row in rows) / len(rows) for name in rows[0]}


def mean_ranks(methods: dict[str, MethodResult]) -> dict[str, float]:
    """Return each method's rank by mean value, averaged over the metrics; ties share theirs, 1 is best."""
    ranks: dict[str, list[float]] = {name: [] for name in methods}
    for metric in next(iter(methods.values())).mean:
        sign = -1 if METRICS[metric].higher_is_better else 1
        costs = {name: sign * result.mean[metric] for name, result in methods.items()}
        for name, cost in costs.items():
            better, equal = sum(c < cost for c in costs.values()), sum(c == cost for c in costs.values())
            ranks[name].append(better + (equal + 1) / 2)
    return {name: fsum(values) / len(values) for name, values in ranks.items()}


def metric_names(evaluation: Evaluation) -> list[str]:
    """List the metrics measured, in the order of the registry."""
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
