"""`ddfm demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ddfm.commands.options import DeviceOption


def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write.")] = Path("ddfm-demo"),
    device: DeviceOption = "auto",
) -> None:
    """Fuse three scenes that the project draws itself: a night street, two focus distances, two exposures."""
    from ddfm import demo as demonstration

    sheet = demonstration.run(output, device, progress=lambda line: print(line, flush=True))
    print(f"Pictures are in {output.resolve()}; look at {sheet.resolve()}")
