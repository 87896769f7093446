"""`ddfm demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ddfm.commands.options import DeviceOption
from ddfm.commands.terminal import say


def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write.")] = Path("ddfm-demo"),
    device: DeviceOption = "auto",
) -> None:
    """Fuse scenes that the project draws itself: night street, focus, exposures, a thermal camera's file."""
    from ddfm import demo as demonstration

    sheet = demonstration.run(output, device, progress=say)
    say(f"Pictures are in {output.resolve()}; look at {sheet.resolve()}")
