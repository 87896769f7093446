"""Numbers that others have published, each with where it stands (published.toml)."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True)
class Published:
    """One row of somebody's table.

    Attributes:
        method: what was measured.
        source: who published it, and where.
        datasets: names in `datasets.DATASETS` that it stands for; several if they were one set there.
        values: by metric: names of `ddfm.metrics.METRICS`, or ``mIoU`` and ``mAP50`` in percent.
        note: what to know before comparing.
    """

    method: str
    source: str
    datasets: tuple[str, ...]
    values: dict[str, float]
    note: str = ""


def load_published() -> list[Published]:
    """Load all rows, in the order of the file."""
    table = tomllib.loads(files(__package__).joinpath("published.toml").read_text(encoding="utf-8"))
    return [
        Published(
            row["method"],
            table["sources"][row["source"]],
            tuple(row["datasets"]),
            row["values"],
            row.get("note", ""),
        )
        for row in table["result"]
    ]


def published_for(dataset: str) -> list[Published]:
    """Return the rows of that data set."""
    return [row for row in load_published() if dataset in row.datasets]
