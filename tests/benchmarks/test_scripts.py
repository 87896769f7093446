"""Every measurement says how it is used, and README.md names it."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
from common import read_json, script_parser, write_json

from tests.conftest import ROOT

FOLDER = ROOT / "benchmarks"
# Parts of a measurement that lie beside it, and what all share.
SHARED = ("common", "pairs", "__main__")
SCRIPTS = sorted(
    [path.stem for path in FOLDER.glob("*.py") if "def main(" in path.read_text() and path.stem not in SHARED]
    + [path.parent.name for path in FOLDER.glob("*/__main__.py")]
)


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_tells_its_use(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    monkeypatch.setattr(sys, "path", list(sys.path))  # some look for the tests' helpers
    with pytest.raises(SystemExit) as exit_:
        runpy.run_module(name, run_name="__main__")
    assert exit_.value.code == 0
    assert "usage: " in capsys.readouterr().out


def test_the_readme_names_every_script() -> None:
    rows = [line for line in (FOLDER / "README.md").read_text().splitlines() if line.startswith("| `")]
    assert sorted(row.split("`")[1] for row in rows) == SCRIPTS
    assert len({row.count("|") for row in rows}) == 1


def test_scripts_share_their_arguments(tmp_path: Path) -> None:
    parser = script_parser("About.", "some.json", data=True)
    arguments = parser.parse_args([str(tmp_path)])
    assert (arguments.data, arguments.output) == (tmp_path, FOLDER / "results" / "some.json")


def test_results_are_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    assert read_json(path, {}) == {}
    write_json(path, {"a": 1})
    assert read_json(path, {}) == {"a": 1}
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
