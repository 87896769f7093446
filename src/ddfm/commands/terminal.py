"""What the commands print: progress, and lines that several of them have."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING

import typer
from rich.markup import escape

from ddfm import timing

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from ddfm.jobs.folders import Progress as FolderProgress


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


class FolderBars:
    """Show the progress of a folder run: a bar over all pictures, and one for each that is being fused."""

    def __init__(self, bars: Progress) -> None:
        self.bars = bars
        self.known: dict[str, TaskID] = {}
        self.lock = Lock()

    def __call__(self, progress: FolderProgress) -> None:
        """Show this much progress."""
        with self.lock:
            if progress.name not in self.known:
                title = escape(progress.name) or "pictures"
                self.known[progress.name] = self.bars.add_task(title, total=progress.total)
            self.bars.update(self.known[progress.name], completed=progress.done, total=progress.total)
            if progress.name and progress.done >= progress.total:
                self.bars.remove_task(self.known.pop(progress.name))


def tell_task(what: str, task: str, why: str) -> None:
    """Say which task was chosen, and why; nothing if it was given."""
    if why:
        print(f"{what}: task {task} ({why}); --task says otherwise", file=sys.stderr)


@contextmanager
def tell_times(wanted: bool) -> Iterator[None]:
    """Print, after what is done within, a table of where the time went, if that is wanted."""
    if not wanted:
        yield
        return
    failed: typer.Exit | None = None
    with timing.profile() as times:
        try:
            yield
        except typer.Exit as some:  # items that failed, and are named; the others took their time
            failed = some
    print(times, file=sys.stderr)
    if failed:
        raise failed
