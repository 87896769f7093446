"""A real browser for the tests of pages; they skip where playwright or Chromium is absent."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 240_000  # milliseconds: for a machine with much other work

OpenPage = Callable[..., Any]


@contextmanager
def chromium() -> Iterator[Any]:
    """Start the browser without a window."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("no Chromium is installed")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"], timeout=PATIENCE)
        yield started
        started.close()


@contextmanager
def watched_pages(browser: Any) -> Iterator[OpenPage]:
    """Give a function that opens a page; any request elsewhere, and any complaint, fails the test.

    The function takes the address, and the words of a complaint that is expected.
    """
    requests, complaints, pages = [], [], []

    def open_page(address: str, expected: str = "") -> Any:
        page = browser.new_page(viewport={"width": 1280, "height": 900}, accept_downloads=True)
        page.set_default_timeout(PATIENCE)
        page.on("request", lambda request: requests.append((address, request.url)))
        page.on(
            "console",
            lambda message: (
                None if expected and expected in message.text else complaints.append(message.text)
            ),
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(address)
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.close()
    elsewhere = [url for home, url in requests if not url.startswith((home, "blob:", "data:"))]
    assert elsewhere == []
    assert complaints == []
