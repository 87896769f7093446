"""What the commands have in common: options, progress, where messages go."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

stderr = Console(stderr=True)

DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps, ...")]
PriorOption = Annotated[str, typer.Option(help="Name, folder, .safetensors, .pt or hub id; see ddfm priors.")]


def progress_bars() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=stderr,
        disable=not stderr.is_interactive,  # into a file it would write nothing but an empty line
    )
