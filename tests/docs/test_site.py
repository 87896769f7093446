"""The site builds without a warning and, in a browser, stands alone on wide and narrow screens."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

pytestmark = pytest.mark.slow
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE = 240_000  # milliseconds: for a machine with much other work
SCREENS = {"wide": (1280, 900), "phone": (390, 844)}
# What a browser fetches by itself when it opens a page.
LOADED = re.compile(
    r"<(?:script|img|iframe|source|video)\b[^>]*?\bsrc=[\"']?((?:https?:)?//[^\"'\s>]+)"
    r"|<link\b(?=[^>]*\brel=[\"']?(?:stylesheet|preconnect|preload|icon))[^>]*?\bhref=[\"']?((?:https?:)?//[^\"'\s>]+)"
)


class Quiet(SimpleHTTPRequestHandler):
    """Serves files without a word."""

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site. A warning, as of a dead link, is an error, unless mkdocs is told to be quiet."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """The site on loopback."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"], timeout=PATIENCE
        )
        yield launched
        launched.close()


def pages_of(site: Path) -> list[str]:
    """Return all pages but the copies of files, by their path."""
    found = (path.relative_to(site).as_posix() for path in site.rglob("*.html"))
    return sorted(name for name in found if not name.startswith("repository/"))


def test_nothing_is_named_that_lies_elsewhere(site: Path) -> None:
    named = [
        f"{page.relative_to(site)}: {address[0] or address[1]}"
        for page in site.rglob("*.html")
        for address in LOADED.findall(page.read_text(encoding="utf-8"))
    ]
    assert not named, "\n".join(named)
    assert LOADED.search('<link rel="stylesheet" href="https://fonts.example/a.css">')
    assert LOADED.search('<script async src="//example.org/x.js">')


def test_commands_and_functions_are_in_the_reference(site: Path) -> None:
    commands = (site / "reference" / "commands.html").read_text(encoding="utf-8")
    assert all(f"ddfm {name}" in commands for name in ("fuse", "video", "benchmark", "downstream detection"))
    assert "--register-report" in commands
    functions = (site / "reference" / "api.html").read_text(encoding="utf-8")
    assert all(f'id="ddfm.{name}"' in functions for name in ("fusion.pipeline.fuse", "metrics.gradient.qabf"))


@pytest.mark.parametrize("screen", SCREENS)
def test_pages_stand_alone_and_fit(site: Path, address: str, browser: Any, screen: str) -> None:
    """No request off the host, no complaint, and nothing wider than the screen."""
    width, height = SCREENS[screen]
    page = browser.new_page(viewport={"width": width, "height": height})
    page.set_default_timeout(PATIENCE)
    faults: list[str] = []
    name = ""

    def on_request(request: Any) -> None:
        if not request.url.startswith((address, "data:", "blob:")):
            faults.append(f"{name}: asked for {request.url}")

    def on_response(answer: Any) -> None:
        if answer.status >= 400:
            faults.append(f"{name}: {answer.status} {answer.url}")

    page.on("request", on_request)
    page.on("response", on_response)
    page.on("console", lambda message: faults.append(f"{name}: {message.text}"))
    page.on("pageerror", lambda error: faults.append(f"{name}: {error}"))
    names = pages_of(site)
    assert len(names) > 30
    for name in names:
        page.goto(address + name)
        if (across := page.evaluate("document.documentElement.scrollWidth")) > width:
            faults.append(f"{name}: {across} pixels across")
    page.close()
    assert not faults, "\n".join(faults)


def test_search_finds_a_page(address: str, browser: Any) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(PATIENCE)
    page.goto(address + "index.html")
    page.get_by_placeholder("Search").fill("deghost")
    page.locator(".md-search-result__link", has_text="Brackets").first.wait_for()
    page.close()
