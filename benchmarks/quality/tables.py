"""What the parts of `quality` and `tasks` share: pairs, rows, measuring, tables, and their writing."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from common import circumstances, measure_parts, write_text

from ddfm.benchmark import run as runner
from ddfm.benchmark.datasets import find_pairs, get_dataset
from ddfm.benchmark.evaluation import MethodResult, mean_ranks, mean_values
from ddfm.benchmark.methods import Method, find_methods
from ddfm.fusion.pipeline import fuse
from ddfm.jobs.matching import Group
from ddfm.metrics import METRICS, Convention
from ddfm.priors.base import Prior

Row = dict[str, float | str]
Results = dict[str, MethodResult]

OURS, LIKELIHOOD = "ours", "ours, steps 0"
CEILING = "clean sources (ceiling)"
FEW = 10  # steps of the older forms where a hundred would take too long


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

    def pairs(self, dataset: str, folder: str) -> list[Group]:
        """Every pair of a set, or every so many-th."""
        return find_pairs(get_dataset(dataset), self.data / folder)[:: self.every]


Part = Callable[[Job], list[Table]]
"""A measurement; the first line of its docstring stands above its tables."""


@dataclass
class Measured:
    """Values of methods on one set of pairs."""

    results: Results
    seconds: dict[str, float | None] = field(default_factory=dict)

    def among(self, metrics: Sequence[str], names: Iterable[str] | None = None) -> Results:
        """Those metrics of those methods, all by default."""
        return {name: only(self.results[name], metrics) for name in names or self.results}

    def on(self, stems: Sequence[str]) -> Measured:
        """Keep those pairs alone."""
        found = Measured({}, self.seconds)
        for name, result in self.results.items():
            images = {stem: result.images[stem] for stem in stems}
            found.results[name] = MethodResult(mean_values(list(images.values())), images)
        return found

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
    what: str, pairs: Sequence[Group], methods: Sequence[Method], convention: Convention = "paper"
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

    root = pairs[0].files[0].parent.parent
    found = runner.run(get_dataset("folder"), root, pairs, methods, convention, progress=progress)
    if found.failures:
        first = found.failures[0]
        sys.exit(f"{what}: {first.method} failed on {first.stem}: {first.reason}")
    return Measured(
        dict(found.evaluation.methods), {name: cost.seconds for name, cost in found.costs.items()}
    )


# --- Methods ---------------------------------------------------------------------------------------


def ours(name: str, prior: Prior, **options: Any) -> Method:
    """Our fusion with those options of `ddfm.fuse`."""
    return Method(name, lambda a, b: fuse(a, b, prior=prior, **options).image)


def both_of_ours(prior: Prior, **options: Any) -> list[Method]:
    return [ours(OURS, prior, **options), ours(LIKELIHOOD, prior, steps=0, **options)]


def baselines() -> list[Method]:
    return find_methods([], get_dataset("folder"), [])


# --- Comparisons -----------------------------------------------------------------------------------


def targets(title: str, mean: Mapping[str, float], needed: Mapping[str, float]) -> Table:
    """Whether means are above published ones."""
    rows: dict[str, Row] = {
        metric: {"above": bound, "mean": mean[metric], "met": "yes" if mean[metric] > bound else "no"}
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


# --- Writing ---------------------------------------------------------------------------------------


def measure_tables(
    title: str, parts: Mapping[str, Part], job: Job, output: Path, only: Sequence[str] | None
) -> None:
    """Measure parts that are made of tables; write them as JSON, and beside it as Markdown."""
    measure_parts(
        {name: partial(measured, part, job) for name, part in parts.items()},
        output,
        only,
        report=lambda results: write_text(output.with_suffix(".md"), markdown(title, parts, results)),
    )


def measured(part: Part, job: Job) -> dict[str, Any] | None:
    """The tables of a part and the circumstances they were measured in; None if it makes none."""
    tables = part(job)
    if not tables:
        return None
    where = circumstances()
    return {
        "every": job.every,
        **where,
        "about": f"{where['about']}, {job.prior.name}",
        "tables": [{"title": t.title, "note": t.note, "rows": rounded(t.rows)} for t in tables],
    }


def markdown(title: str, parts: Mapping[str, Part], results: Mapping[str, Any]) -> str:
    """All tables, the best of each metric in bold; best of what the table ranks."""
    command = f"python benchmarks {title.lower()}"
    lines = [f"# {title}", "", f"Written by `{command}`. An arrow says which way a metric improves."]
    for name, part in parts.items():
        if name not in results:
            continue
        made = results[name]
        fewer = f" A trial: 1 of {made['every']} pairs only." if made.get("every", 1) > 1 else ""
        lines += ["", f"## {name}", "", f"{part.__doc__}{fewer} On {made['about']}."]
        for table in made["tables"]:
            lines += ["", f"### {table['title']}", "", *markdown_table(table["rows"])]
            lines += ["", table["note"]] if table["note"] else []
    return "\n".join(lines) + "\n"


def markdown_table(rows: Mapping[str, Mapping[str, float | str]]) -> list[str]:
    columns = list(next(iter(rows.values())))
    standings = "best other" in columns
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
        if standings and column != "mean rank":
            return f"{value:g}"
        text = f"{value:.2f}" if column in ("seconds", "mean rank") or abs(value) >= 10 else f"{value:.3f}"
        return f"**{text}**" if best.get(column) == value else text

    lines = [f"| | {' | '.join(map(heading, columns))} |", f"|---|{'---:|' * len(columns)}"]
    for name, row in rows.items():
        lines.append(f"| {name} | {' | '.join(cell(c, row[c]) for c in columns)} |")
    return lines


def rounded(rows: Mapping[str, Row]) -> dict[str, Row]:
    """Six significant digits, which is more than any comparison here bears."""
    return {
        name: {key: value if isinstance(value, str) else float(f"{value:.6g}") for key, value in row.items()}
        for name, row in rows.items()
    }
