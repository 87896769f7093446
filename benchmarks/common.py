"""What all scripts share: their arguments, the loop over their parts, results, and the time they took."""

from __future__ import annotations

import os
import re
import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterable, Mapping, Sequence
from json import loads
from pathlib import Path
from typing import Any

from ddfm.benchmark import run as runner
from ddfm.benchmark.evaluation import as_json
from ddfm.formats.atomic import write_whole

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results"
TIMES = "times.json"  # beside the results
NOT_RECORDED = "not recorded"
STARTED = time.perf_counter()

Times = dict[str, dict[str, float | None]]
"""Seconds of each part of a result: ``wall`` on the clock, ``processor`` with those of its children."""


def script_parser(
    about: str | None,
    result: str | None = None,
    *,
    data: bool = False,
    parts: Sequence[str] | None = None,
    every: str | None = None,
) -> ArgumentParser:
    """Return a parser with the arguments that scripts have in common.

    Args:
        about: the script's docstring.
        result: name of the file in `RESULTS` that ``--output`` stands for; None for a script without one.
        data: whether it needs DATA, the folder of development data.
        parts: names that ``--only`` takes; None for a script that is measured as a whole.
        every: what ``--every K`` takes each K-th of, such as "pair"; None for a script without it.
    """
    parser = ArgumentParser(description=about, formatter_class=RawDescriptionHelpFormatter)
    if data:
        parser.add_argument("data", type=Path, metavar="DATA", help="folder of development data")
    if result is not None:
        default = RESULTS / result
        parser.add_argument("--output", type=Path, default=default, help=f"instead of results/{result}")
    if parts is not None:
        known = f"parts to measure anew: {', '.join(parts)}"
        parser.add_argument("--only", nargs="+", choices=parts, metavar="PART", help=known)
    if every is not None:
        thinned = f"take every K-th {every} only, for a trial"
        parser.add_argument("--every", type=int, default=1, metavar="K", help=thinned)
    return parser


def measure_parts(
    parts: Mapping[str, Callable[[], object]],
    output: Path,
    only: Sequence[str] | None = None,
    *,
    facts: Callable[[], Mapping[str, object]] = dict,
    report: Callable[[dict[str, Any]], None] | None = None,
) -> None:
    """Measure parts in turn, and keep each one in the result file, under its name, as soon as it is there.

    Args:
        parts: the measurements by name. One that returns None is not kept.
        output: the JSON file. Parts that are not measured now stay as they are.
        only: names of the parts to measure; None for all.
        facts: further entries of the file, such as the machine, asked for after each part.
        report: called with all of the file after each part, to write it in another form.
    """
    for name in only or parts:
        print(name, flush=True)
        wall, processor = time.perf_counter(), processor_seconds()
        result = parts[name]()
        seconds = {"wall": time.perf_counter() - wall, "processor": processor_seconds() - processor}
        print(f"{name}: {seconds['wall']:.0f} s", flush=True)
        if result is None:
            continue
        results = {**read_json(output, {}), **facts(), name: result}
        write_json(output, results)
        record(output, name, seconds)
        if report is not None:
            report(results)


def write_result(output: Path, result: object) -> None:
    """Write the result of a script without parts, a text or what JSON can hold, and record its time."""
    if isinstance(result, str):
        write_text(output, result)
    else:
        write_json(output, result)
    record(output, "whole", {"wall": time.perf_counter() - STARTED, "processor": processor_seconds()})


def circumstances() -> dict[str, Any]:
    """Return where, when and with which versions a part is measured."""
    about = runner.describe()
    shown = f"{about['system']}, {about['threads']} thread, {about['date'][:10]}"
    return {"about": shown, "versions": about["versions"]}


# --- Tables in the documentation --------------------------------------------------------------------


Tables = Mapping[str, Iterable[Sequence[object]]]
"""The cells of tables, row by row, by the line that each table begins with."""


def write_tables(page: Path, tables: Tables, output: Path) -> None:
    """Write tables anew where they stand in a page; nothing for results other than the project's own."""
    if output.parent == RESULTS:
        write_text(page, with_tables(page.read_text(), tables))


def with_tables(text: str, tables: Tables) -> str:
    """Return a page with these tables' rows. Raises ValueError if one is not there, or there twice."""
    for head, cells in tables.items():
        table = re.compile(rf"^({re.escape(head)}\n\|[ |-]+\n)(?:\|.*\n)*", re.MULTILINE)
        found = list(table.finditer(text))
        if len(found) != 1:
            raise ValueError(f"{len(found)} tables begin with: {head}")
        rows = "".join(f"| {' | '.join(map(str, row))} |\n" for row in cells)
        text = text[: found[0].start()] + found[0][1] + rows + text[found[0].end() :]
    return text


# --- Time ------------------------------------------------------------------------------------------


def processor_seconds() -> float:
    """Return the processor time of this process so far, and of its children that have ended."""
    return sum(os.times()[:4])


def record(output: Path, part: str, seconds: Mapping[str, float]) -> None:
    """Record the seconds of a part; for the project's own results, in their README's table, too."""
    times: dict[str, Times] = read_json(output.with_name(TIMES), {})
    taken = times.setdefault(output.name, {})
    taken[part] = {kind: round(value, 1) for kind, value in seconds.items()}
    write_json(output.with_name(TIMES), dict(sorted(times.items())))
    if output.parent == RESULTS:
        readme = FOLDER / "README.md"
        write_text(readme, with_minutes(readme.read_text(), times))


def with_minutes(readme: str, times: Mapping[str, Times]) -> str:
    """Return the README with the minutes that are recorded for the result that each row names first."""

    def row(match: re.Match[str]) -> str:
        before, _, result = match.groups()
        name = result.split(",")[0].split()[0]
        return f"{before}| {minutes(times.get(name, {}))} | {result}"

    # Script, what it measures, data; minutes; result, where it is quoted.
    return re.sub(r"^(\| `(?:[^|]*\|){2}[^|]*)\|([^|]*)\| ([^|]*\|.*)$", row, readme, flags=re.MULTILINE)


def minutes(taken: Times) -> str:
    """Return the minutes of all recorded parts on the clock, and in brackets those of the processor."""
    if not taken:
        return NOT_RECORDED

    def total(kind: str) -> str:
        values = [part[kind] for part in taken.values()]
        known = [value for value in values if value is not None]
        return f"{sum(known) / 60:.1f}" if len(known) == len(values) else NOT_RECORDED

    if total("wall") == NOT_RECORDED:
        return NOT_RECORDED
    parts = f", {len(taken)} part{'s' * (len(taken) > 1)}" if "whole" not in taken else ""
    return f"{total('wall')} ({total('processor')}){parts}"


# --- Files -----------------------------------------------------------------------------------------


def read_json(path: Path, default: Any) -> Any:
    """Return what an earlier run left, the default if there was none."""
    return loads(path.read_text()) if path.exists() else default


def write_json(path: Path, value: object) -> None:
    """Write a value as JSON, whole or not at all; what is not finite becomes null."""
    write_text(path, as_json(value))


def write_text(path: Path, text: str) -> None:
    """Write a text, whole or not at all; what took hours is not lost for want of a folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text.encode())
