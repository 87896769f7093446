"""One HTML file with tables, curves and pictures; nothing is loaded from anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from math import isnan
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, StrictUndefined

from ddfm.benchmark.evaluation import as_json, write_text

PLOT = (360, 220)  # width and height of a curve's frame, in pixels
DASH = "-"
MOST_POINTS = 120  # of a curve


class Point(NamedTuple):
    """A point of a curve."""

    x: float
    y: float


@dataclass(frozen=True)
class Table:
    """Rows of text; a row's first cell is its name. Marked rows are ours."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(frozen=True)
class Chart:
    """Curves by their names, all in one frame."""

    title: str
    x_label: str
    y_label: str
    curves: dict[str, list[Point]]

    @property
    def limits(self) -> tuple[float, float, float, float]:
        """Return least x, least y, greatest x, greatest y."""
        points = [point for curve in self.curves.values() for point in curve]
        x, y = [p.x for p in points], [p.y for p in points]
        return min(x), min(0.0, *y), max(x), max(y)

    def line(self, name: str) -> str:
        """Return a curve as the points of an SVG polyline."""
        left, bottom, right, top = self.limits
        across, up = PLOT[0] / ((right - left) or 1), PLOT[1] / ((top - bottom) or 1)
        curve = self.curves[name]
        chosen = curve[:: max(1, len(curve) // MOST_POINTS)]
        return " ".join(f"{(p.x - left) * across:.1f},{PLOT[1] - (p.y - bottom) * up:.1f}" for p in chosen)


@dataclass(frozen=True)
class Drawing:
    """A picture as a data URI, and what it shows."""

    caption: str
    uri: str


@dataclass(frozen=True)
class Page:
    """Everything that a report has to tell.

    Attributes:
        title: of the page.
        facts: short facts by their names.
        tables: in their order.
        charts: curves.
        drawings: pictures to be compared, by what they have in common.
        limits: sentences about what the numbers do not say.
        command: that made the report.
        values: the numbers, ready for JSON.
    """

    title: str
    facts: dict[str, str]
    tables: list[Table]
    charts: list[Chart] = field(default_factory=list)
    drawings: dict[str, list[Drawing]] = field(default_factory=dict)
    limits: list[str] = field(default_factory=list)
    command: str = ""
    values: dict[str, Any] = field(default_factory=dict)


def write(page: Page, folder: Path) -> None:
    """Write report.html and results.json into an existing folder; raises InputError."""
    write_text(folder / "results.json", as_json(page.values))
    write_text(folder / "report.html", render(page))


def render(page: Page) -> str:
    """Return the page as HTML; every text in it is escaped."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(files(__package__).joinpath("report.html.jinja").read_text("utf-8"))
    style = files("ddfm.benchmark.report").joinpath("page.css").read_text("utf-8")
    return template.render(page=page, style=style, plot=PLOT)


def markdown(table: Table) -> str:
    """Return a table as Markdown, its title above and its note below."""
    lines = [f"### {table.title}", "", _row(table.columns), _row(["---"] * len(table.columns))]
    lines += [_row(row) for row in table.rows]
    return "\n".join([*lines, *(["", table.note] if table.note else [])]) + "\n"


def number(value: float) -> str:
    """Return a share in three decimals; a dash if there is none."""
    return DASH if isnan(value) else f"{value:.3f}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
