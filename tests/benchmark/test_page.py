"""The report in a real browser; skipped where playwright or Chromium is absent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ddfm.benchmark.report import render
from tests.benchmark.made_up import benchmark
from tests.browser import OpenPage


@pytest.fixture
def page(opened: OpenPage, tmp_path: Path) -> Iterator[Any]:
    """The report, open."""
    path = tmp_path / "report.html"
    path.write_text(render(benchmark()), encoding="utf-8")
    report = opened(path.as_uri())
    yield report
    report.wait_for_load_state("networkidle")


def order(page: Any) -> list[str]:
    return page.locator("#summary tbody th").evaluate_all("cells => cells.map(cell => cell.dataset.value)")


def test_headings_sort(page: Any) -> None:
    ddfm, mean, theirs = "ddfm", "mean", "<b>theirs</b>"
    assert order(page) == [ddfm, mean, theirs]  # by mean rank
    headings = {
        "MSE": [mean, ddfm, theirs],  # the better end first: lower
        "EN": [mean, ddfm, theirs],
        "s / image": [mean, ddfm, theirs],  # what has no value comes last ...
    }
    page.get_by_role("button", name="MSE").click()
    assert order(page) == headings["MSE"]
    page.get_by_role("button", name="MSE").click()
    assert order(page) == [theirs, ddfm, mean]
    page.get_by_role("button", name="EN").click()
    assert order(page)[2] == mean
    assert page.locator("th[aria-sort]").all_inner_texts()[0].startswith("EN")
    page.get_by_role("button", name="s / image").click()
    assert order(page) == headings["s / image"]
    page.get_by_role("button", name="s / image").click()
    assert order(page) == [ddfm, mean, theirs]  # ... either way
    page.get_by_role("button", name="method").press("Enter")
    assert order(page) == sorted([ddfm, mean, theirs])


def test_nothing_is_wider_than_the_window_and_pictures_show(page: Any) -> None:
    for width in (1300, 400):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    sizes = page.locator("img").evaluate_all("images => images.map(image => image.naturalWidth)")
    assert sizes
    assert set(sizes) == {320}


def test_both_colour_schemes(page: Any) -> None:
    backgrounds = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        backgrounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    light, dark = (sum(map(int, colour[4:-1].split(","))) for colour in backgrounds)
    assert light > 600 > 150 > dark
