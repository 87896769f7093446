from __future__ import annotations

import base64
import io
import json
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image as PILImage

from ddfm.benchmark.report import marks, render, write
from ddfm.errors import InputError
from tests.benchmark.made_up import RANKS, benchmark

VOID = {"meta", "link", "img", "wbr"}
Cell = tuple[str, str]  # text, classes of what is in it


class Page(HTMLParser):
    """A strict reading: every element is closed in order; tables, sources of pictures and links are kept."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.rows: dict[str, list[list[Cell]]] = {}
        self.text = ""
        self.table = ""
        self.section = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag not in VOID:
            self.open.append(tag)
        self.loads += [given[name] for name in ("src", "href", "srcset", "data", "action") if name in given]
        if tag == "section":
            self.section = given.get("id", "")
        if tag == "table":
            self.table = given.get("id", "")
            self.rows[self.table] = []
        elif tag == "tr":
            self.rows[self.table].append([])
        elif tag in ("td", "th"):
            self.rows[self.table][-1].append(("", ""))
        elif self.rows and self.inside("td", "th") and given.get("class"):
            text, classes = self.rows[self.table][-1][-1]
            self.rows[self.table][-1][-1] = (text, f"{classes} {given['class']}".strip())

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in ("line", "rect", "circle")  # only SVG closes elements at once

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.inside("style", "script"):
            return
        self.text += data
        if "http" in data:
            assert self.section == "again"
        if self.inside("td", "th"):
            text, classes = self.rows[self.table][-1][-1]
            self.rows[self.table][-1][-1] = (text + data, classes)

    def inside(self, *tags: str) -> bool:
        return any(tag in self.open for tag in tags)


def test_everything_lies_in_the_file() -> None:
    text = render(benchmark())
    page = Page(text)
    pictures = [load for load in page.loads if load.startswith("data:image/jpeg;base64,")]
    assert len(pictures) == 2 * 2 * (2 + 3)  # pairs, whole and enlarged, sources and methods
    assert [load for load in page.loads if load not in pictures] == ["data:,"]
    for load in pictures:
        with PILImage.open(io.BytesIO(base64.b64decode(load.partition(",")[2]))) as image:
            assert image.width == 320
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert style is not None
    assert not re.search(r"url\(|@import", style[1])
    assert "default-src 'none'" in unescape(text)


def test_marks_and_order_of_the_summary() -> None:
    head, *rows = Page(render(benchmark())).rows["summary"]
    columns = [re.split(r"\s[↑↓]", text)[0] for text, _ in head]
    assert columns == ["method", "mean rank", "EN", "MSE", "s / image", "MiB"]
    assert [row[0][0].split(" ")[0] for row in rows] == sorted(RANKS, key=lambda name: RANKS[name])
    cells = {row[0][0].split(" ")[0]: dict(zip(columns, row, strict=True)) for row in rows}
    dash = "\N{EN DASH}"
    expected = {
        "ddfm": ("1.75 (best)", "7.100 (best)", "25.00 (second best)", "1.500", dash),
        "mean": ("2.00 (second best)", "6.100 (second best)", "15.00 (best)", "0.010", dash),
        "<b>theirs</b>": ("2.25", "7.100 (best)", "75.00", dash, dash),
    }
    for name, texts in expected.items():
        assert tuple(cells[name][column][0] for column in columns[1:]) == texts
    assert cells["ddfm"]["MSE"][1].split()[0] == "second"
    assert cells["<b>theirs</b>"]["EN"][1].split()[0] == "best"
    assert cells["<b>theirs</b>"]["MSE"][1] == ""


def test_equal_values_share_a_mark_and_infinity_gets_none() -> None:
    values = {"a": 3.0, "b": 3.0, "c": 2.0, "d": 1.0, "e": float("inf"), "f": float("nan")}
    assert marks(values, higher_is_better=True) == {"a": "best", "b": "best", "c": "second"}
    assert marks(values, higher_is_better=False) == {"d": "best", "c": "second"}


def test_published_rows_stand_beside_ours() -> None:
    rows = Page(render(benchmark())).rows["published"]
    assert [[text for text, _ in row] for row in rows] == [
        ["method", "EN", "source"],
        ["DDFM (paper)", "7.06", "Zhao et al., DDFM, ICCV 2023 (arXiv 2303.06840), tables of results"],
        ["ddfm", "7.100", "this run, 2 pairs"],
    ]
    assert "not comparable with the vifb values" in Page(render(benchmark(convention="vifb"))).text
    fmb = Page(render(benchmark("fmb")))
    assert "published" not in fmb.rows
    assert "DDFM (leaderboard): mIoU 56.57" in fmb.text
    assert "Published" not in Page(render(benchmark("folder"))).text


def test_failures_names_and_what_is_needed_to_run_it_again_are_told() -> None:
    page = Page(render(benchmark()))
    assert "3, mean: too <small>" in page.text
    assert "<b>theirs</b>" in page.text
    for needed in (
        "ddfm benchmark tno --root 'my data' -o report",
        "3407",
        "ddfm 1.2.3",
        "ab" * 32,
        "ir/1.png",
    ):
        assert needed in page.text
    assert "What failed" not in Page(render(benchmark(failures=[]))).text


def test_files(tmp_path: Path) -> None:
    write(benchmark(), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "results.csv", "results.json"]
    values = json.loads((tmp_path / "results.json").read_text())
    assert values["mean_rank"] == RANKS
    assert values["methods"]["mean"]["images"]["2"] == {"EN": 6.2, "MSE": 10.0}
    assert values["about"]["sha256"] == {"ir/1.png": "ab" * 32}
    with pytest.raises(InputError, match=r"absent/results\.json: cannot be written"):
        write(benchmark(), tmp_path / "absent")
