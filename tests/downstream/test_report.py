"""The page escapes what it is told, draws its curves, and shows hits and misses."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddfm.downstream.boxes import make_boxes
from ddfm.downstream.drawings import FALSE, HIT, MISS, boxes_drawn, crops_drawn, mask_drawn
from ddfm.downstream.report import Chart, Drawing, Page, Point, Table, markdown, number, render, write

TABLE = Table("A <b>title", ["input", "AP"], [["ddfm", "0.5"], ["<i>theirs", "0.4"]], "A note.")


def decoded(uri: str) -> NDArray[np.int64]:
    with Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def near(picture: NDArray[np.int64], colour: tuple[int, int, int]) -> int:
    return int((np.abs(picture - colour).max(-1) < 60).sum())


def test_the_page_escapes_and_closes_its_tags(tmp_path: Path) -> None:
    chart = Chart("loss", "step", "loss", {"<a>": [Point(1, 4.0), Point(2, 2.0), Point(3, 0.0)]})
    page = Page(
        "T & Co",
        {"Set": "<x>"},
        [TABLE],
        [chart],
        {"<u>": [Drawing('a "b"', "data:,")]},
        ["limit <1>"],
        "cmd '<'",
    )
    html = render(page)
    for raw in ("<b>title", "<i>theirs", "<x>", "<u>", "limit <1>", "T & Co"):
        assert raw not in html
    assert 'points="0.0,0.0 180.0,110.0 360.0,220.0"' in html
    assert html.count('class="here"') == 1
    open_tags: list[str] = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag not in ("meta", "link", "img", "path"):
                open_tags.append(tag)

        def handle_startendtag(self, tag: str, attrs: object) -> None:
            pass

        def handle_endtag(self, tag: str) -> None:
            assert open_tags.pop() == tag

    Tags().feed(html)
    assert open_tags == []
    write(Page("t", {}, [], values={"a": [float("nan"), 1.0]}), tmp_path)
    assert re.sub(r"\s", "", (tmp_path / "results.json").read_text()) == '{"a":[null,1.0]}'


def test_tables_as_markdown() -> None:
    lines = markdown(TABLE).splitlines()
    assert lines[2:4] == ["| input | AP |", "| --- | --- |"]
    assert "| ddfm | 0.5 |" in lines
    assert (number(0.12345), number(float("nan"))) == ("0.123", "-")


def test_hits_misses_and_false_alarms_have_their_colours() -> None:
    picture = np.zeros((60, 80, 3), np.uint8)
    truth = make_boxes([[5, 5, 25, 40], [40, 5, 60, 40]], [0, 0])
    hit = make_boxes([[6, 5, 25, 40]], [0], [0.9])
    wrong = make_boxes([[60, 45, 75, 58], [40, 5, 60, 40]], [0, 0], [0.9, 0.1])  # the second is too unsure
    drawn = decoded(boxes_drawn(picture, truth, hit))
    assert near(drawn, HIT) > 100
    assert near(drawn, MISS) > 100
    assert near(drawn, FALSE) == 0
    drawn = decoded(boxes_drawn(picture, truth, wrong))
    assert near(drawn, HIT) == 0
    assert near(drawn, FALSE) > 50


def test_wrong_pixels_and_wrong_crops_are_marked() -> None:
    grey = np.full((40, 60, 3), 128, np.uint8)
    truth, predicted = np.zeros((2, 40, 60), np.uint8)
    truth[:, :20], predicted[:, 40:] = 1, 2
    drawn = decoded(mask_drawn(grey, truth, predicted))
    third = drawn.shape[1] // 3
    assert drawn[:, : third - 5, 0].mean() > drawn[:, : third - 5, 1].mean() + 30  # red: missed
    assert drawn[:, 2 * third + 5 :, 2].mean() < 100  # yellow: a false alarm
    assert abs(drawn[:, third + 5 : 2 * third - 5] - 128).mean() < 4
    sheet = decoded(crops_drawn(np.zeros((2, 64, 64, 3), np.uint8), [True, False]))
    assert near(sheet[:, :70], HIT) > 100
    assert near(sheet[:, 70:140], MISS) > 100
