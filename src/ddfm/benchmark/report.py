"""One HTML file with everything a run has to tell; nothing is loaded from anywhere, data lies inside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from importlib.resources import files
from math import isfinite
from pathlib import Path
from typing import NamedTuple

from ddfm.benchmark.evaluation import Evaluation, as_json, metric_names, write_csv, write_text
from ddfm.benchmark.methods import Method, is_ours
from ddfm.benchmark.plots import DASH, box_plot, short
from ddfm.benchmark.published import Published, published_for
from ddfm.benchmark.run import Benchmark, Example
from ddfm.benchmark.sheet import crop, most_different, thumbnail
from ddfm.metrics import METRICS

# The page may load nothing: what is not in the file, a browser must not fetch.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
TASKS = {
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
    """The page."""
    evaluation = benchmark.evaluation
    count = len(next(iter(evaluation.methods.values())).images)
    title = f"{benchmark.dataset.title}: image fusion compared"
    body = [
        _header(benchmark, count),
        _failures(benchmark),
        _summary(benchmark),
        _published(benchmark, published_for(benchmark.dataset.name)),
        _plots(benchmark, count),
        _sheet(benchmark.examples),
        _again(benchmark),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f'<title>{escape(title)}</title>\n<link rel="icon" href="data:,">\n'
        f"<style>\n{_asset('report.css')}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(filter(None, body))
        + f"\n</main>\n<script>\n{_asset('report.js')}</script>\n</body>\n</html>\n"
    )


def marks(values: Mapping[str, float], higher_is_better: bool) -> dict[str, str]:
    """``best`` and ``second`` by name; equals share a mark, and what is not finite gets none."""
    ranking = sorted({v for v in values.values() if isfinite(v)}, reverse=higher_is_better)
    places = dict(zip(ranking, ("best", "second"), strict=False))
    return {name: places[value] for name, value in values.items() if value in places}


def by_rank(evaluation: Evaluation) -> list[str]:
    """The methods' names, the best mean rank first."""
    ranks = evaluation.mean_rank or {}
    return sorted(evaluation.methods, key=lambda name: ranks.get(name, 0))


def _header(benchmark: Benchmark, count: int) -> str:
    dataset, evaluation = benchmark.dataset, benchmark.evaluation
    share = f" of {dataset.test_pairs} test pairs" if dataset.test_pairs else ""
    facts = (
        ("Pairs", f"{count}{share}"),
        ("Kind", TASKS[dataset.task]),
        ("Test split", dataset.split),
        ("Metric convention", evaluation.convention),
        ("Made", str(benchmark.about["date"]).replace("T", " ").replace("+00:00", " UTC")),
    )
    items = "".join(f"<div><dt>{escape(key)}</dt><dd>{escape(value)}</dd></div>" for key, value in facts)
    return (
        f'<header><p class="eyebrow">ddfm benchmark</p><h1>{escape(dataset.title)}</h1>'
        f'<dl class="facts">{items}</dl></header>'
    )


def _failures(benchmark: Benchmark) -> str:
    if not benchmark.failures:
        return ""
    rows = "".join(
        f"<li><b>{escape(failure.stem)}</b>, {escape(failure.method or 'sources')}: "
        f"{escape(failure.reason)}</li>"
        for failure in benchmark.failures
    )
    return (
        '<section class="failures"><h2>What failed</h2><p>A pair that one method fails on counts for none; '
        f"a method that fails on all pairs is left out.</p><ul>{rows}</ul></section>"
    )


class Column(NamedTuple):
    """One column of the summary: a value for each method, or None where there is none."""

    title: str
    higher_is_better: bool
    values: dict[str, float | None]
    marked: bool = True
    decimals: int | None = None


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


def _summary(benchmark: Benchmark) -> str:
    columns = _columns(benchmark)
    placed = [
        marks({m: v for m, v in column.values.items() if v is not None}, column.higher_is_better)
        if column.marked
        else {}
        for column in columns
    ]
    head = "".join(_sortable(column.title, column.higher_is_better) for column in columns)
    by_name = {method.name: method for method in benchmark.methods}
    rows = "".join(
        f"<tr>{_method_cell(by_name[method])}"
        + "".join(
            _cell(column.values.get(method), places.get(method, ""), column.decimals)
            for column, places in zip(columns, placed, strict=True)
        )
        + "</tr>"
        for method in by_rank(benchmark.evaluation)
    )
    return (
        "<section><h2>Summary</h2>"
        '<p>Means over all pairs. <span class="best">Best</span> and <span class="second">second best</span> '
        "of each column are marked; arrows point to the better end. Choose a heading to sort. The trivial "
        "baselines are there because each of them wins something: no single metric says which picture is "
        "better.</p>"
        '<div class="scroll" role="region" aria-label="Summary table" tabindex="0">'
        '<table id="summary"><caption class="unseen">Mean of every metric for every method</caption>'
        '<thead><tr><th scope="col"><button type="button" data-first="ascending">method</button></th>'
        f"{head}</tr></thead><tbody>{rows}</tbody></table></div>"
        '<p class="small">s / image is the median time of one fusion, files not counted; MiB is the most '
        "that the process grew by during one. A dash: not known, or not finite.</p></section>"
    )


def _sortable(title: str, higher_is_better: bool) -> str:
    first = "descending" if higher_is_better else "ascending"
    arrow = "↑" if higher_is_better else "↓"
    better = "higher" if higher_is_better else "lower"
    return (
        f'<th scope="col"><button type="button" data-first="{first}">{escape(title).replace("_", "_<wbr>")}'
        f'<span aria-hidden="true">&nbsp;{arrow}</span><span class="unseen"> ({better} is better)</span>'
        "</button></th>"
    )


def _method_cell(method: Method) -> str:
    kind = "ours" if is_ours(method.name) else "baseline" if method.baseline else ""
    tag = f' <span class="tag {kind}">{kind}</span>' if kind else ""
    return f'<th scope="row" data-value="{escape(method.name)}">{escape(method.name)}{tag}</th>'


def _cell(value: float | None, mark: str, decimals: int | None) -> str:
    if value is None or not isfinite(value):
        return f'<td data-value="">{DASH}</td>'
    text = short(value) if decimals is None else f"{value:.{decimals}f}"
    if mark:
        words = "best" if mark == "best" else "second best"
        text = f'<span class="{mark}">{text}<span class="unseen"> ({words})</span></span>'
    return f'<td data-value="{value!r}">{text}</td>'


def _published(benchmark: Benchmark, rows: list[Published]) -> str:
    if not rows:
        return ""
    evaluation = benchmark.evaluation
    intro = "<section><h2>Published numbers</h2>"
    if evaluation.convention != "paper":
        return (
            f"{intro}<p>Those known for this set were measured by the convention <i>paper</i> and are not "
            f"comparable with the {escape(evaluation.convention)} values above.</p></section>"
        )
    published = {name for row in rows for name in row.values}
    columns = [name for name in metric_names(evaluation) if name in published]
    others = [
        f"{row.method}: {name} {value:g}"
        for row in rows
        for name, value in row.values.items()
        if name not in METRICS
    ]
    lines = [
        f'<tr><th scope="row">{escape(row.method)}</th>'
        + "".join(
            f"<td>{row.values[name]:g}</td>" if name in row.values else f"<td>{DASH}</td>" for name in columns
        )
        + f'<td class="text">{escape(row.source)}{"; " if row.note else ""}{escape(row.note)}</td></tr>'
        for row in rows
        if any(name in columns for name in row.values)
    ]
    count = len(next(iter(evaluation.methods.values())).images)
    ours = [name for name in evaluation.methods if is_ours(name)] or list(evaluation.methods)[:1]
    lines += [
        f'<tr class="here"><th scope="row">{escape(name)}</th>'
        + "".join(f"<td>{short(evaluation.methods[name].mean[metric])}</td>" for metric in columns)
        + f'<td class="text">this run, {count} pairs</td></tr>'
        for name in ours
    ]
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    table = (
        "<p>Beside this run. Papers choose their own pairs and prepare them in their own way: "
        "compare with care.</p>"
        '<div class="scroll" role="region" aria-label="Published numbers" tabindex="0"><table id="published">'
        '<caption class="unseen">Published numbers beside this run</caption>'
        f'<thead><tr><th scope="col">method</th>{head}<th scope="col" class="text">source</th></tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )
    more = f'<p class="small">Not measured here: {escape("; ".join(others))}.</p>' if others else ""
    return f"{intro}{table if columns else ''}{more}</section>"


def _plots(benchmark: Benchmark, count: int) -> str:
    evaluation = benchmark.evaluation
    if count < 2:
        return ""
    figures = []
    for name in metric_names(evaluation):
        better = "higher" if METRICS[name].higher_is_better else "lower"
        results = {method: evaluation.methods[method] for method in by_rank(evaluation)}
        samples = {m: [values[name] for values in r.images.values()] for m, r in results.items()}
        figures.append(
            f"<figure><figcaption>{escape(name)} <small>{better} is better</small></figcaption>"
            f"{box_plot(name, samples)}</figure>"
        )
    return (
        "<section><h2>Spread over the pairs</h2><p>The box holds the middle half of the pairs, the line "
        "in it is the median, whiskers reach to the last value within one and a half boxes, dots lie "
        "beyond.</p>"
        f'<div class="plots">{"".join(figures)}</div></section>'
    )


def _sheet(examples: Iterable[Example]) -> str:
    parts = []
    for example in examples:
        window = most_different(example.a, example.b)
        # What shows a source again would show nothing new.
        shown = {
            name: picture for name, picture in example.outputs.items() if name not in ("a-only", "b-only")
        }
        pictures = {"source a": example.a, "source b": example.b, **shown}
        named = [(f"{escape(example.stem)}, {escape(name)}", name, pictures[name]) for name in pictures]
        figures = "".join(
            f'<figure><img src="{thumbnail(picture, window)}" alt="{alt}">'
            f'<img class="crop" src="{crop(picture, window)}" alt="{alt}, enlarged">'
            f"<figcaption>{escape(name)}</figcaption></figure>"
            for alt, name, picture in named
        )
        parts.append(f'<h3>{escape(example.stem)}</h3><div class="sheet">{figures}</div>')
    return (
        "<section><h2>Pictures</h2>"
        "<p>Below each picture, enlarged, the place where the sources differ most.</p>"
        f"{''.join(parts)}</section>"
        if parts
        else ""
    )


def _again(benchmark: Benchmark) -> str:
    about = dict(benchmark.about)
    sums, versions = about.pop("sha256"), about.pop("versions")
    command = about.pop("command", "")
    settings = {method.name: method.settings for method in benchmark.methods if method.settings}
    facts = {
        **{key: str(value) for key, value in about.items() if value is not None},
        "versions": ", ".join(f"{name} {number}" for name, number in versions.items()),
        "data": f"{benchmark.dataset.title}, {benchmark.dataset.source}",
        **{name: ", ".join(f"{k} {v}" for k, v in values.items()) for name, values in settings.items()},
    }
    rows = "".join(f'<tr><th scope="row">{escape(k)}</th><td>{escape(v)}</td></tr>' for k, v in facts.items())
    listing = "\n".join(f"{digest}  {path}" for path, digest in sums.items())
    return (
        '<section id="again"><h2>To run it again</h2>'
        + (f"<pre><code>{escape(command)}</code></pre>" if command else "")
        + '<div class="scroll" role="region" aria-label="Versions and options" tabindex="0">'
        '<table class="about">'
        f'<caption class="unseen">Versions and options</caption><tbody>{rows}</tbody></table></div>'
        f"<details><summary>SHA-256 of the {len(sums)} source files</summary>"
        f"<pre>{escape(listing)}</pre></details>"
        "</section>"
    )


def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
