"""The report of detections in a real browser; skipped where playwright or Chromium is absent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddfm.downstream.boxes import make_boxes
from ddfm.downstream.detection import Detected, Detections
from ddfm.downstream.pages import detection_page
from ddfm.downstream.report import render
from ddfm.downstream.scenes import LabelledScene
from tests.browser import OpenPage

pytest.importorskip("faster_coco_eval")
INPUTS = ("visible", "infrared", "mean", "max", "ddfm", "NamedByItsUser")


def detected() -> Detected:
    """Two scenes with one person each, found by every second input."""
    file = Path("unused.png")
    scenes = [LabelledScene(f"0000{n}D", file, file, file, "day") for n in range(2)]
    truth = [make_boxes([[20, 10, 50, 80]], [0]), make_boxes([[60, 10, 90, 80]], [0])]
    beside = [make_boxes([[90, 10, 120, 80]], [0], [0.9])] * 2
    found = [make_boxes(boxes.xyxy.tolist(), [0], [0.8]) for boxes in truth]
    pictures = [np.full((96, 128, 3), 60 * n, np.uint8) for n in (1, 2)]
    losses = [[2.0 / step for step in range(1, 40)]]
    runs = {
        name: Detections([beside if number % 2 else found], losses, pictures)
        for number, name in enumerate(INPUTS)
    }
    return Detected("A set with a long name, to be wrapped", ("person",), scenes, truth, runs, "A note.")


@pytest.fixture
def page(opened: OpenPage, tmp_path: Path) -> Iterator[Any]:
    """The report, open."""
    path = tmp_path / "report.html"
    path.write_text(render(detection_page("T", {"whole": detected()}, "ddfm ... " * 30, [])), "utf-8")
    report = opened(path.as_uri())
    yield report
    report.wait_for_load_state("networkidle")


def test_what_is_compared_lies_together_at_any_width(page: Any) -> None:
    groups = page.locator(".drawings")
    assert groups.count() == 2
    titles = page.locator("h3").all_inner_texts()
    assert titles == ["00000D, whole", "00001D, whole"]
    assert groups.nth(1).locator("figcaption").all_inner_texts() == list(INPUTS)
    for width, columns in ((1300, 4), (400, 2)):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        figures = groups.first.locator("figure")
        tops = [figures.nth(n).bounding_box()["y"] for n in range(figures.count())]
        assert tops.count(tops[0]) == columns
    sizes = page.locator("img").evaluate_all("images => images.map(image => image.naturalWidth)")
    assert len(sizes) == 2 * len(INPUTS)
    assert 0 not in sizes


def test_every_curve_can_be_seen_in_both_colour_schemes(page: Any) -> None:
    for scheme, dark in (("light", False), ("dark", True)):
        page.emulate_media(color_scheme=scheme)
        ground = brightness(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert (ground < 50) == dark
        curves = page.locator("polyline.curve").evaluate_all(
            "lines => lines.map(line => getComputedStyle(line).stroke)"
        )
        assert len(set(curves)) == len(INPUTS)
        assert all(abs(brightness(colour) - ground) > 80 for colour in curves)
    widths = page.locator("polyline.curve").evaluate_all(
        "lines => lines.map(line => parseFloat(getComputedStyle(line).strokeWidth))"
    )
    assert widths.index(max(widths)) == INPUTS.index("ddfm")


def brightness(colour: str) -> float:
    """Return the mean of the channels of "rgb(r, g, b)"."""
    return sum(map(int, colour[4:-1].split(","))) / 3
