"""The tables and the plot of `speed`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

SCALE = 1.25  # of the plot's axes, so that the lowest and the highest point are not on the frame


def write_report(table: dict[str, Any], results: Path) -> None:
    """results.md and, where growth was measured, results.svg, beside the numbers."""
    lines = ["# Speed", "", "Written by `python benchmarks speed`, which says what is measured and how.", ""]
    lines += [f"- {name}: {value}" for name, value in table["machine"].items()]
    lines += [f"- peak, {name}: {value}" for name, value in table["peaks"].items()]
    for part in table:
        if part.startswith("compared"):
            lines += ["", f"## {part[0].upper()}{part[1:]}", "", *ratios(table[part])]
    if whole := table.get("released, all steps at 480x640"):
        lines += ["", f"All hundred steps of the released way at 480x640, run once: {whole['seconds']} s."]
    if "memory, MiB" in table:
        lines += [
            "",
            "## Memory of two steps beyond the loaded network, MiB",
            "",
            *rows(table["memory, MiB"]),
        ]
    if "throughput" in table:
        lines += ["", "## Images a second at 480x640", "", *rows(table["throughput"])]
    if "scaling" in table:
        lines += ["", "## Growth", ""]
        for name, found in table["scaling"].items():
            lines.append(f"- {name}: exponent of the pixels {found['exponent of the pixels']}")
        lines += ["", f"![seconds against pixels and batch]({results.with_suffix('.svg').name})"]
        plot(table["scaling"], results.with_suffix(".svg"))
    results.with_suffix(".md").write_text("\n".join(lines) + "\n")


def ratios(compared: Sequence[dict[str, Any]]) -> list[str]:
    """Each way beside the released one of the same network and size."""
    released = {(row["network"], row["size"]): row for row in compared if row["way"] == "released"}
    shown = []
    for row in compared:
        base = released[row["network"], row["size"]]
        shown.append(row | {"times as fast an image": base["seconds an image"] / row["seconds an image"]})
        if "seconds a step" in row:
            shown[-1]["times as fast a step"] = base["seconds a step"] / row["seconds a step"]
    return rows(shown)


def rows(table: Sequence[dict[str, Any]]) -> list[str]:
    """A table in Markdown, with a column for each key that any row has."""
    columns = list(dict.fromkeys(key for row in table for key in row))

    def line(cells: Iterable[object]) -> str:
        return f"| {' | '.join(map(str, cells))} |"

    def cell(value: object) -> object:
        return f"{value:.3g}" if isinstance(value, float) else value

    body = [line(cell(row.get(column, "")) for column in columns) for row in table]
    return [line(columns), line("---" for _ in columns), *body]


def plot(scaling: dict[str, Any], path: Path) -> None:
    """Seconds an image against its pixels, and against the batch, both with straight lines to compare."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for name, found in scaling.items():
        times = {int(side) ** 2 / 1e6: s for side, s in found["seconds by side of a square"].items()}
        left.loglog(times.keys(), times.values(), "o-", label=name)
        pixels, seconds = next(reversed(times.items()))
        left.loglog(times.keys(), [seconds * p / pixels for p in times], "k:", linewidth=0.8)
        batches = {int(n): s for n, s in found["seconds an image of 480x640 by batch"].items()}
        right.plot(batches.keys(), batches.values(), "o-", label=name)
    left.set(xlabel="megapixels", ylabel="seconds an image", title="dotted: proportional to the pixels")
    right.set(xlabel="images in a batch, 480x640", ylabel="seconds an image", yscale="log")
    right.set_ylim(right.get_ylim()[0] / SCALE, right.get_ylim()[1] * SCALE)
    left.legend()
    right.legend()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
