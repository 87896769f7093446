"""The notebooks run from a clean kernel, show what they say, and are kept without outputs."""

from __future__ import annotations

import json
import re

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import ROOT
from tests.test_sentences import long_sentences

FOLDER = ROOT / "docs" / "notebooks"
NAMES = sorted(path.name for path in FOLDER.glob("*.ipynb"))


def run(name: str) -> list[nbformat.NotebookNode]:
    """Return the code cells of a notebook after they ran, in order, in a kernel of their own."""
    notebook = nbformat.read(FOLDER / name, as_version=4)
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": FOLDER}}
    ).execute()
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def printed(cells: list[nbformat.NotebookNode]) -> str:
    """Return what the cells printed."""
    return "".join(output.text for cell in cells for output in cell.outputs if output.get("name") == "stdout")


def test_there_are_notebooks_without_outputs() -> None:
    assert NAMES == ["comparing_methods.ipynb", "first_fusion.ipynb"]
    for name in NAMES:
        cells = json.loads((FOLDER / name).read_text())["cells"]
        assert all(not cell.get("outputs") and not cell.get("execution_count") for cell in cells)
        text = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
        assert not list(long_sentences(text))


@pytest.mark.slow
def test_the_first_fusion_shows_pictures_and_removes_noise() -> None:
    cells = run("first_fusion.ipynb")
    pictures = [o for cell in cells for o in cell.outputs if "image/png" in o.get("data", {})]
    assert len(pictures) == 4
    left, removed = (
        float(value) for value in re.findall(r"noise (?:left in|removed): ([\d.]+)", printed(cells))
    )
    assert removed < left / 2


@pytest.mark.slow
def test_comparing_methods_shows_that_noise_wins_by_what_it_says() -> None:
    text = printed(run("comparing_methods.ipynb"))
    header, *rows = (line.split() for line in text.splitlines()[:6])
    values = {row[0]: dict(zip(header, map(float, row[-len(header) :]), strict=True)) for row in rows}
    assert set(values) == {"ddfm", "mean", "maximum", "thermal", "noise"}
    for name in ("EN", "SD", "SF", "AG"):
        assert max(values, key=lambda method: values[method][name]) == "noise"
    assert values["ddfm"]["VIF"] > values["mean"]["VIF"]
