"""Measuring: `ddfm evaluate` and `ddfm benchmark`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from ddfm.commands.terminal import progress_bars, say, tell
from ddfm.errors import InputError, one_line

ConventionOption = Annotated[str, typer.Option(help="Whose metric definitions: paper or vifb.")]


def evaluate(
    a: Annotated[Path, typer.Option("--a", help="Folder of the first sources.")],
    b: Annotated[Path, typer.Option("--b", help="Folder of the second sources.")],
    fused: Annotated[list[Path], typer.Option(help="Folder of fused images; repeat it to compare methods.")],
    convention: ConventionOption = "paper",
    json_file: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Write values as JSON; - prints them.")
    ] = None,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Write values as CSV.")
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...",
            help="Metrics by name, in the convention's way (FMI is slow and only measured if named).",
            show_default="the convention's own",
        ),
    ] = None,
    allow_missing: Annotated[
        bool,
        typer.Option("--allow-missing", help="Measure the pairs that all methods have results of."),
    ] = False,
) -> None:
    """Measure folders of fused images against their sources, files matched by name.

    With several --fused folders the methods are ranked as well; each goes by its folder's name.
    """
    from ddfm.benchmark import evaluation
    from ddfm.formats.atomic import check_target, prepare_folder
    from ddfm.formats.files import is_folder
    from ddfm.formats.paths import check_paths, files_below
    from ddfm.metrics import check_convention

    written = [Path(path) for path in (json_file if json_file != "-" else None, csv_file) if path is not None]
    check_paths(files_below([a, b, *fused]), written)
    for path in written:
        if not is_folder(path.absolute().parent):
            raise InputError(f"{path}: cannot be written ({path.parent} is not a folder)")
        check_target(path)
        prepare_folder(path.absolute().parent)
    with progress_bars() as bars:
        bar = bars.add_task("pairs", total=None)
        result = evaluation.evaluate_folders(
            a,
            b,
            fused,
            check_convention(convention),
            metrics=None if metrics is None else metrics.split(","),
            allow_missing=allow_missing,
            progress=lambda done, total: bars.update(bar, completed=done, total=total),
        )
    for method, stems in result.missing.items():
        tell(f"{method}: {len(stems)} results missing: {', '.join(stems)}")
    if csv_file:
        evaluation.write_csv(result, csv_file)
    if json_file == "-":
        say(evaluation.as_json(result.as_dict()), end="")
        return
    if json_file:
        evaluation.write_json(result, Path(json_file))
    say(evaluation.as_text(result), end="")


def benchmark(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="tno, roadscene, msrs, ...; or folder.")],
    root: Annotated[Path, typer.Option(help="Folder that the set lies in.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="REPORT_DIR", help="Folder to write.")],
    methods: Annotated[
        str, typer.Option(help="Names, and folders of others' outputs, with commas between.")
    ] = "ddfm",
    convention: ConventionOption = "paper",
    steps: Annotated[int | None, typer.Option(help="Network evaluations of ddfm.")] = None,
    limit: Annotated[int | None, typer.Option(help="Take only the first pairs.")] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Work on N pairs at once, a core each; time and memory are then not measured.",
            show_default="one after the other on all cores",
        ),
    ] = None,
    print_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Compare methods on a data set: report.html, results.json and results.csv in REPORT_DIR.

    Methods are ddfm, ddfm:released, ddfm:paper, mergemertens (exposures), trivial baselines (mean, max,
    stretched-mean, clipped-sum, mean-noise, a-only, b-only), and folders with one output a pair. The
    baselines are always in the table. An unknown DATASET gets a list of the known ones.
    """
    from ddfm.benchmark import datasets, evaluation, report
    from ddfm.benchmark import methods as comparable
    from ddfm.benchmark.run import run
    from ddfm.formats.atomic import check_target, prepare_folder
    from ddfm.formats.paths import check_paths
    from ddfm.jobs.matching import match_folders
    from ddfm.metrics import check_convention

    chosen, rules = datasets.get_dataset(dataset), check_convention(convention)
    if limit is not None and limit < 1:
        raise InputError(f"limit {limit}: must be at least 1")
    if workers is not None and workers < 1:
        raise InputError(f"workers {workers}: must be at least 1")
    pairs, unmatched = match_folders(*datasets.find_folders(chosen, root))
    pairs = pairs[:limit]
    names = [name.strip() for name in methods.split(",") if name.strip()]
    found = comparable.find_methods(names, chosen, [pair.stem for pair in pairs], steps=steps)
    reads = [root, *(file for pair in pairs for file in pair.files)]
    reads += [path for method in found for path in method.outputs.values()]
    check_paths(reads, [output, *report.files_written(output)])
    for path in report.files_written(output):
        check_target(path)
    prepare_folder(output)
    for path in unmatched:
        tell(f"no partner: {path}")
    options = {"command": shlex.join(["ddfm", *sys.argv[1:]]), "seed": comparable.SEED, "limit": limit}
    with progress_bars() as bars:
        task = bars.add_task("images", total=len(pairs) * len(found))
        result = run(
            chosen,
            root,
            pairs,
            found,
            rules,
            options=options,
            workers=workers,
            progress=lambda method: bars.advance(task),
        )
    report.write(result, output)
    if print_json:
        say(evaluation.as_json(result.as_dict()), end="")
    else:
        ranks = result.evaluation.mean_rank or {}
        say("mean rank, best first")
        for name in sorted(ranks, key=lambda name: ranks[name]):
            say(f"{ranks[name]:9.2f}  {name}")
        say(f"{output / 'report.html'}: {len(pairs)} pairs, {len(found)} methods")
    for failure in result.failures:
        tell(f"failed: {failure.stem}: {failure.method or 'sources'}: {one_line(failure.reason)}")
    if result.failures:
        raise typer.Exit(1)
