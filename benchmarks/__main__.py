"""Run a measurement by its name: ``python benchmarks NAME ...``; without a name, list them."""

from __future__ import annotations

import ast
import runpy
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
SHARED = {"__main__", "camera_model", "common", "pairs"}  # modules that measure nothing by themselves


def scripts() -> dict[str, Path]:
    """Return the measurements by name: a module, or a folder with a ``__main__``."""
    modules = {path.stem: path for path in FOLDER.glob("*.py")}
    folders = {path.parent.name: path for path in FOLDER.glob("*/__main__.py")}
    return {name: path for name, path in sorted((modules | folders).items()) if name not in SHARED}


def first_line(path: Path) -> str:
    """Return the first line of a script's docstring, without importing it."""
    return (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n")[0]


def main() -> None:
    """List the measurements, or run the one that is named."""
    known = scripts()
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__, *(f"  {name:16} {first_line(path)}" for name, path in known.items()), sep="\n")
        return
    name = sys.argv[1]
    if name not in known:
        sys.exit(f"{name}: no such measurement; known: {', '.join(known)}")
    sys.argv = [f"benchmarks {name}", *sys.argv[2:]]
    runpy.run_module(name, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
