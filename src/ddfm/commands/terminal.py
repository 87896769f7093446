"""What the commands print: progress, and lines that several of them have."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from ddfm import timing as stages

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress


def stderr() -> Console:
    from rich.console import Console

    return Console(stderr=True)


def progress_bars() -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = stderr()
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_interactive,  # into a file it would write nothing but an empty line
    )


def tell_task(what: str, task: str, why: str) -> str:
    return f"{what}: task {task} ({why}); --task says otherwise"


@contextmanager
def tell_times(wanted: bool) -> Iterator[None]:
    """After what is done within, a table of where the time went, if wanted; not of what was refused."""
    if not wanted:
        yield
        return
    failed: typer.Exit | None = None
    with stages.profile() as times:
        try:
            yield
        except typer.Exit as some:  # items that failed, and are named; the others took their time
            failed = some
    print(times, file=sys.stderr)
    if failed:
        raise failed
