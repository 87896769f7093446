"""Tables in the documentation hold what their scripts measured."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
from common import RESULTS, read_json, with_tables, write_tables

HEAD = "| what | value |"
TEXT = f"Before.\n\n{HEAD}\n| --- | --- |\n| old | 1 |\n| older | 2 |\n\nAfter: | a |\n"


@pytest.mark.parametrize("name", ["engine", "folders", "scale_simulation"])
def test_a_page_holds_the_results(name: str) -> None:
    script = import_module(name)
    page = script.PAGE.read_text()
    assert with_tables(page, script.tables(read_json(RESULTS / f"{name}.json", {}))) == page


def test_a_table_is_written_anew(tmp_path: Path) -> None:
    assert with_tables(TEXT, {HEAD: [["new", 3.5]]}) == TEXT.replace(
        "| old | 1 |\n| older | 2 |", "| new | 3.5 |"
    )
    with pytest.raises(ValueError, match="0 tables begin with"):
        with_tables(TEXT, {"| other |": []})
    with pytest.raises(ValueError, match="2 tables begin with"):
        with_tables(TEXT * 2, {HEAD: []})
    page = tmp_path / "page.md"
    page.write_text(TEXT)
    write_tables(page, {HEAD: []}, tmp_path / "trial.json")  # not the project's own results
    assert page.read_text() == TEXT
