"""Fill the page's template with a run's numbers and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from ddfm.benchmark.evaluation import Evaluation, as_json, metric_names, write_csv, write_text
from ddfm.benchmark.methods import is_ours
from ddfm.benchmark.published import Published, published_for
from ddfm.benchmark.report.plots import DASH, Plot, box_plot, short
from ddfm.benchmark.report.sheet import crop, most_different, thumbnail
from ddfm.benchmark.run import Benchmark, Example
from ddfm.metrics import METRICS

# A browser must not fetch anything for the page: pictures, style and script are in the file.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
KINDS = {
    "infrared": "infrared and visible",
    "medical": "medical",
    "exposure": "exposures",
    "focus": "focus distances",
    "any": "pairs",
}


def files_written(folder: Path) -> list[Path]:
    """Return the files that `write` makes or replaces."""
    return [folder / name for name in ("results.json", "results.csv", "report.html")]


def write(benchmark: Benchmark, folder: Path) -> None:
    """Write report.html, results.json and results.csv into an existing folder; raises InputError."""
    results, table, page = files_written(folder)
    write_text(results, as_json(benchmark.as_dict()))
    write_csv(benchmark.evaluation, table)
    write_text(page, render(benchmark))


def render(benchmark: Benchmark) -> str:
    """Return the page as HTML."""
    evaluation = benchmark.evaluation
    count = len(next(iter(evaluation.methods.values())).images)
    environment = Environment(
        loader=PackageLoader("ddfm.benchmark", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("page.html.jinja").render(
        title=benchmark.dataset.title,
        policy=POLICY,
        dash=DASH,
        convention=evaluation.convention,
        facts=_facts(benchmark, count),
        failures=benchmark.failures,
        columns=_columns(benchmark),
        rows=_rows(benchmark),
        published=_published(benchmark, published_for(benchmark.dataset.name), count),
        plots=_plots(evaluation) if count > 1 else [],
        examples=[_pictures(example) for example in benchmark.examples],
        again=_again(benchmark),
    )


def marks(values: Mapping[str, float], higher_is_better: bool) -> dict[str, str]:
    """Mark values as ``best`` and ``second`` by name; equals share a mark, and only finite values get one."""
    ranking = sorted({v for v in values.values() if isfinite(v)}, reverse=higher_is_better)
    places = dict(zip(ranking, ("best", "second"), strict=False))
    return {name: places[value] for name, value in values.items() if value in places}


def by_rank(evaluation: Evaluation) -> list[str]:
    """Sort the methods' names, the best mean rank first."""
    ranks = evaluation.mean_rank or {}
    return sorted(evaluation.methods, key=lambda name: ranks.get(name, 0))


def _facts(benchmark: Benchmark, count: int) -> dict[str, str]:
    dataset = benchmark.dataset
    share = f" of {dataset.test_pairs} test pairs" if dataset.test_pairs else ""
    return {
        "Pairs": f"{count}{share}",
        "Kind": KINDS[dataset.task],
        "Test split": dataset.split,
        "Metric convention": benchmark.evaluation.convention,
        "Made": str(benchmark.about["date"]).replace("T", " ").replace("+00:00", " UTC"),
    }


class Column(NamedTuple):
    """One column of the summary: a value for each method, or None where there is none."""

    title: str
    higher_is_better: bool
    values: dict[str, float | None]
    marked: bool = True
    decimals: int | None = None


class Cell(NamedTuple):
    """One value of the summary: as text, and as ``best``, ``second`` or neither; None if there is none."""

    value: float | None
    text: str
    mark: str


class Row(NamedTuple):
    """One method's line in the summary; ``kind`` is ``ours``, ``baseline`` or empty."""

    name: str
    kind: str
    cells: list[Cell]


def _columns(benchmark: Benchmark) -> list[Column]:
    evaluation, costs = benchmark.evaluation, benchmark.costs
    methods = evaluation.methods
    return [
        Column("mean rank", False, dict(evaluation.mean_rank or {}), decimals=2),
        *(
            Column(name, METRICS[name].higher_is_better, {m: methods[m].mean[name] for m in methods})
            for name in metric_names(evaluation)
        ),
        Column("s / image", False, {m: costs[m].seconds for m in methods}, marked=False),
        Column("MiB", False, {m: costs[m].peak_mib for m in methods}, marked=False, decimals=0),
    ]


def _rows(benchmark: Benchmark) -> list[Row]:
    cells: dict[str, list[Cell]] = {name: [] for name in by_rank(benchmark.evaluation)}
    for column in _columns(benchmark):
        known = {name: value for name, value in column.values.items() if value is not None}
        places = marks(known, column.higher_is_better) if column.marked else {}
        for name, row in cells.items():
            row.append(_cell(column.values.get(name), places.get(name, ""), column.decimals))
    baselines = {method.name for method in benchmark.methods if method.baseline}
    kinds = {name: "ours" if is_ours(name) else "baseline" if name in baselines else "" for name in cells}
    return [Row(name, kinds[name], row) for name, row in cells.items()]


def _cell(value: float | None, mark: str, decimals: int | None) -> Cell:
    if value is None or not isfinite(value):
        return Cell(None, DASH, "")
    return Cell(value, short(value) if decimals is None else f"{value:.{decimals}f}", mark)


class PublishedTable(NamedTuple):
    """Published numbers beside this run's.

    Attributes:
        comparable: whether they were measured by this run's convention; else the rest is empty.
        columns: metrics that both have.
        rows: method, values as text, source, and whether it is of this run.
        others: published values that are not measured here.
    """

    comparable: bool
    columns: list[str]
    rows: list[tuple[str, list[str], str, bool]]
    others: list[str]


def _published(benchmark: Benchmark, known: list[Published], count: int) -> PublishedTable | None:
    evaluation = benchmark.evaluation
    if not known:
        return None
    if evaluation.convention != "paper":
        return PublishedTable(False, [], [], [])
    published = {name for row in known for name in row.values}
    columns = [name for name in metric_names(evaluation) if name in published]
    theirs = [
        (
            row.method,
            [f"{row.values[name]:g}" if name in row.values else DASH for name in columns],
            f"{row.source}; {row.note}" if row.note else row.source,
            False,
        )
        for row in known
        if any(name in columns for name in row.values)
    ]
    names = [name for name in evaluation.methods if is_ours(name)] or list(evaluation.methods)[:1]
    ours = [
        (
            name,
            [short(evaluation.methods[name].mean[metric]) for metric in columns],
            f"this run, {count} pairs",
            True,
        )
        for name in names
    ]
    others = [
        f"{row.method}: {name} {value:g}"
        for row in known
        for name, value in row.values.items()
        if name not in METRICS
    ]
    return PublishedTable(True, columns, theirs + ours, others)


def _plots(evaluation: Evaluation) -> list[tuple[str, bool, Plot]]:
    """Return name, direction (higher is better) and box plot of every metric."""
    images = {method: evaluation.methods[method].images.values() for method in by_rank(evaluation)}
    return [
        (
            name,
            METRICS[name].higher_is_better,
            box_plot({method: [values[name] for values in rows] for method, rows in images.items()}),
        )
        for name in metric_names(evaluation)
    ]


class Shown(NamedTuple):
    """One picture of the contact sheet, small and enlarged, as data URIs."""

    name: str
    whole: str
    enlarged: str


def _pictures(example: Example) -> tuple[str, list[Shown]]:
    """Return a pair's name, and its pictures: sources first, then every output that is not a source again."""
    window = most_different(example.a, example.b)
    outputs = {name: output for name, output in example.outputs.items() if name not in ("a-only", "b-only")}
    pictures = {"source a": example.a, "source b": example.b, **outputs}
    return example.stem, [
        Shown(name, thumbnail(picture, window), crop(picture, window)) for name, picture in pictures.items()
    ]


class Again(NamedTuple):
    """Hold what is needed to run it again: the command, versions and options, SHA-256 by file."""

    command: str
    facts: dict[str, str]
    checksums: dict[str, str]


def _again(benchmark: Benchmark) -> Again:
    about = dict(benchmark.about)
    checksums, versions, command = about.pop("sha256"), about.pop("versions"), about.pop("command", "")
    settings = {method.name: method.settings for method in benchmark.methods if method.settings}
    facts = {
        **{key: str(value) for key, value in about.items() if value is not None},
        "versions": _listed(versions),
        "data": f"{benchmark.dataset.title}, {benchmark.dataset.source}",
        **{name: _listed(values) for name, values in settings.items()},
    }
    return Again(command, facts, checksums)


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())
