"""What the commands print: progress, and lines that several of them have."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import typer
from rich.markup import escape

from ddfm import timing
from ddfm.errors import InputError, reason_of, visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, Task, TaskID

    from ddfm.jobs.numbers import Numbers
    from ddfm.jobs.work import Progress as FolderProgress

MOST_WORKERS = 10  # lines about single workers


def prepare_streams() -> None:
    """Print characters that a terminal lacks (one of ASCII, say) as escapes, instead of raising errors."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(text: object = "", *, end: str = "\n") -> None:
    """Print lines to standard output at once, hidden characters as escapes.

    Raises InputError if it cannot be written: a full disk, a pipe that nobody reads any more.
    """
    try:
        print("\n".join(visible(line) for line in str(text).split("\n")), end=end, flush=True)
    except OSError as error:
        close_output()
        raise InputError(f"standard output: cannot be written ({reason_of(error)})") from error


def tell(text: object) -> None:
    """Print a line to standard error, hidden characters as escapes; nothing if it cannot be written."""
    with suppress(OSError):
        print(visible(text), file=sys.stderr, flush=True)


def close_output() -> None:
    """Let what is left for standard output go nowhere: Python would try again as it ends."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def label(text: object) -> str:
    """Return a name as rich shows it: its brackets are no markup, its hidden characters are escapes."""
    shown = visible(text)
    bare = shown.rstrip("\\")
    return escape(bare) + shown[len(bare) :]  # backslashes at the end escape nothing there


def stderr() -> Console:
    """Return the console that messages go to."""
    from rich.console import Console

    return Console(stderr=True)


def progress_bars(console: Console | None = None) -> Progress:
    """Return progress bars on a console, by default the terminal's standard error."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Left(TimeRemainingColumn):
        """Show the time left as rich estimates it, or the task's own words for it."""

        def render(self, task: Task) -> Text:
            return Text(task.fields["left"]) if "left" in task.fields else super().render(task)

    console = console or stderr()
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Left(),
        console=console,
        disable=not console.is_interactive,  # into a file it would write nothing but an empty line
    )


class FolderBars:
    """Show the progress of a folder run: a bar over all pictures, and one for each that is being fused."""

    def __init__(self, bars: Progress) -> None:
        self.bars = bars
        # At once: until the first picture is done, priors are loaded and the task is chosen.
        self.known: dict[str, TaskID] = {"": bars.add_task("pictures", total=None)}
        self.workers: set[str] = set()
        self.numbers: Numbers | None = None
        self.lock = Lock()

    def __call__(self, progress: FolderProgress) -> None:
        """Show this much progress."""
        with self.lock:
            if progress.name not in self.known:
                title = label(progress.name) or "pictures"
                self.known[progress.name] = self.bars.add_task(title, total=progress.total)
            self.bars.update(self.known[progress.name], completed=progress.done, total=progress.total)
            if not progress.name and self.numbers is not None:
                self._show(self.known[""], self.numbers)
            if progress.name and progress.done >= progress.total:
                self.bars.remove_task(self.known.pop(progress.name))

    def _show(self, overall: TaskID, numbers: Numbers) -> None:
        """Show the rate, failures and time left of all workers, and a line for each if they are several."""
        failed = f", {numbers.failed} failed" if numbers.failed else ""
        rates = numbers.rates
        rate = f"{sum(rates.values()):.2f}/s" if numbers.workers else "waiting for workers"
        seconds = numbers.seconds_left
        left = "" if seconds is None else f"{timedelta(seconds=round(seconds))}"
        self.bars.update(overall, description=f"pictures  {rate}{failed}", left=left)
        slowest = sorted(rates, key=rates.__getitem__)[:MOST_WORKERS] if len(rates) > 1 else []
        for worker in self.workers - set(slowest):  # lost, let go, or no longer among them
            self.bars.remove_task(self.known.pop(worker))
        self.workers = set(slowest)
        for worker in slowest:
            if worker not in self.known:
                self.known[worker] = self.bars.add_task(label(worker), total=None, left="")
            description = f"{label(worker)}  {rates[worker]:.2f}/s"
            self.bars.update(self.known[worker], description=description, completed=numbers.by_worker[worker])


def tell_task(what: str, task: str, why: str) -> None:
    """Say which task was chosen, and why; nothing if it was given."""
    if why:
        tell(f"{what}: task {task} ({why}); --task says otherwise")


def tell_moving(sources: Sequence[Path], moving: dict[str, Any] | None) -> None:
    """Say from which exposure what moves was taken; nothing if nothing moved."""
    if moving is None or moving["kept"] is None:
        return
    kept, shares = sources[moving["kept"] - 1], moving["replaced"]
    parts = ", ".join(f"{share:.1%} of {path}" for path, share in zip(sources, shares, strict=True) if share)
    tell(f"what moves is taken from {kept}: it replaces {parts}; --deghost off leaves it")


@contextmanager
def tell_times(wanted: bool) -> Iterator[None]:
    """Print, if it is wanted, a table of the time that the work within took."""
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
