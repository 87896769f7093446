"""`ddfm info`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ddfm.commands.options import RangeOption, parse_ranges
from ddfm.commands.terminal import say, tell
from ddfm.errors import InputError, visible


def info(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="Pictures, volumes, DICOM folders.")],
    ranges: RangeOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Say what the tool makes of files: size, depth, range, colour, orientation, and what fusion would do.

    A file that cannot be used does not stop the others; it is named, and the exit status is 2.
    """
    import json

    from ddfm.jobs.info import describe

    chosen = parse_ranges(ranges or [], len(files))
    described, refused = [], []
    for path, value_range in zip(files, chosen, strict=True):
        try:
            described.append(describe(path, value_range))
        except InputError as error:
            refused.append(str(error))
    if as_json:
        say(json.dumps([found.as_dict() for found in described], indent=2))
    else:
        say("\n".join(visible(line) for found in described for line in found.lines()))
    for reason in refused:
        tell(f"ddfm: {reason}")
    if refused:
        raise typer.Exit(2)
