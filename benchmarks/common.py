"""What all scripts share: their arguments, where results go, files written whole."""

from __future__ import annotations

import json
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

from ddfm.formats.atomic import write_whole

RESULTS = Path(__file__).parent / "results"


def script_parser(about: str | None, result: str | None = None, *, data: bool = False) -> ArgumentParser:
    """Return a parser with the arguments that scripts have in common.

    Args:
        about: the script's docstring.
        result: name of the file in `RESULTS` that ``--output`` stands for; None for a script without one.
        data: whether it needs DATA, the folder of development data.
    """
    parser = ArgumentParser(description=about, formatter_class=RawDescriptionHelpFormatter)
    if data:
        parser.add_argument("data", type=Path, metavar="DATA", help="folder of development data")
    if result is not None:
        default = RESULTS / result
        parser.add_argument("--output", type=Path, default=default, help=f"instead of results/{result}")
    return parser


def read_json(path: Path, default: Any) -> Any:
    """Return what an earlier run left, the default if there was none."""
    return json.loads(path.read_text()) if path.exists() else default


def write_json(path: Path, value: object) -> None:
    """Write a result, whole or not at all."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text, whole or not at all."""
    write_whole(path, text.encode())
