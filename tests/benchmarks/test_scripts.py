"""Every measurement says how it is used, and README.md names it."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
from common import (
    RESULTS,
    TIMES,
    Times,
    measure_parts,
    read_json,
    script_parser,
    with_minutes,
    write_json,
    write_result,
)

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


def test_parts_are_kept_as_soon_as_they_are_measured(tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    reports = []

    def fails() -> None:
        raise ValueError("broken")

    parts = {"first": lambda: [1], "nothing": lambda: None, "second": fails}
    with pytest.raises(ValueError, match="broken"):
        measure_parts(
            parts, path, facts=lambda: {"cores": 2}, report=lambda table: reports.append(dict(table))
        )
    measure_parts({"first": lambda: [2], "third": lambda: [3]}, path, ["third"])
    assert reports == [{"cores": 2, "first": [1]}]
    assert read_json(path, {}) == {"cores": 2, "first": [1], "third": [3]}
    times: dict[str, Times] = read_json(tmp_path / TIMES, {})
    assert list(times[path.name]) == ["first", "third"]
    assert all(set(part) == {"wall", "processor"} for part in times[path.name].values())


def test_parts_are_named_as_arguments() -> None:
    parser = script_parser("About.", parts=("one", "another, longer"))
    assert parser.parse_args(["--only", "another, longer"]).only == ["another, longer"]
    with pytest.raises(SystemExit):
        parser.parse_args(["--only", "other"])


def test_a_result_without_parts_has_its_time(tmp_path: Path) -> None:
    write_result(tmp_path / "some.txt", "text\n")
    assert (tmp_path / "some.txt").read_text() == "text\n"
    assert list(read_json(tmp_path / TIMES, {})["some.txt"]) == ["whole"]


def test_minutes_stand_in_the_row_of_their_result() -> None:
    readme = "| script | measures | data | minutes | result | quoted in |\n" + "".join(
        f"| `{name}` | a thing | DATA | {minutes} | {result} | docs |\n"
        for name, minutes, result in (
            ("one", "7", "one.json, .md"),
            ("two", "8", "two.json"),
            ("three", "", "three.md"),
        )
    )
    times: dict[str, Times] = {
        "one.json": {"a": {"wall": 60, "processor": 30}, "b": {"wall": 120, "processor": 30}},
        "three.md": {"whole": {"wall": 30, "processor": None}},
    }
    rows = with_minutes(readme, times).splitlines()
    assert rows[0] == readme.splitlines()[0]
    assert [row.split(" | ")[3] for row in rows[1:]] == [
        "3.0 (1.0), 2 parts",
        "not recorded",
        "0.5 (not recorded)",
    ]


def test_the_readme_has_the_recorded_minutes() -> None:
    readme = (FOLDER / "README.md").read_text()
    assert with_minutes(readme, read_json(RESULTS / TIMES, {})) == readme


def test_results_are_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    assert read_json(path, {}) == {}
    write_json(path, {"a": 1})
    assert read_json(path, {}) == {"a": 1}
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
