"""What the commands print: progress, and lines that several of them have."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

stderr = Console(stderr=True)


def progress_bars() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=stderr,
        disable=not stderr.is_interactive,  # into a file it would write nothing but an empty line
    )


def tell_task(what: str, task: str, why: str) -> str:
    return f"{what}: task {task} ({why}); --task says otherwise"
