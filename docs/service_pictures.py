"""Make the pictures of docs/use/service.md: the page of `ddfm serve`, with the project's own scenes.

python docs/service_pictures.py [FOLDER]

Needs playwright and Chromium.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from ddfm.demo.scenes import exposure, focus, night
from ddfm.demo.thermogram import street_file

IMAGES = Path(__file__).parent / "images"
WIDE, PHONE = {"width": 1280, "height": 940}, {"width": 390, "height": 844}
SLICES = 6


@contextmanager
def service(data: Path) -> Iterator[str]:
    """Run the service within the block; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "ddfm.cli", "serve", "--port", str(port), "--data", str(data)]
    server = subprocess.Popen(command)
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz")
                break
            except urllib.error.URLError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.terminate()
        server.wait()


def draw_sources(folder: Path) -> None:
    """Write the sources: a pair, two more for a batch, a thermal camera's file, and two volumes."""
    for scene, names in ((night(), ("thermal", "visible")), (focus(), ("near", "far")),
                         (exposure(), ("under", "over"))):  # fmt: skip
        for picture, name in zip((scene.a, scene.b), names, strict=True):
            picture.save(folder / f"{scene.name}_{name}.png")
    (folder / "FLIR0001.jpg").write_bytes(street_file())
    thermal, visible = (np.asarray(picture.convert("L")) for picture in (night().a, night().b))
    for name, picture in (("stack_thermal", thermal), ("stack_visible", visible)):
        pages = [np.roll(picture, 24 * k, 1)[:240, :320] for k in range(SLICES)]
        tifffile.imwrite(folder / f"{name}.tif", np.stack(pages), photometric="minisblack")


def finished(page: Any) -> None:
    """Wait until the job that is looked at is done."""
    page.locator("#facts").wait_for(state="visible", timeout=300_000)


def choose(page: Any, *paths: Path) -> None:
    """Choose sources anew."""
    if page.locator("#clear").is_visible():
        page.locator("#clear").click()
    page.locator("#files").set_input_files(paths)


def take(page: Any, sources: Path, images: Path) -> None:
    """Walk through the page and take a picture of each state."""

    def shot(name: str, whole: bool = False) -> None:
        page.screenshot(path=images / f"service-{name}.jpg", type="jpeg", quality=88, full_page=whole)

    pair = [sources / "night_thermal.png", sources / "night_visible.png"]
    page.emulate_media(color_scheme="light")
    choose(page, *pair)
    page.locator("#settings summary").click()
    page.get_by_label("Find out how far").check()
    page.locator("#chosen canvas").nth(1).wait_for()
    page.wait_for_timeout(300)
    shot("chosen", whole=True)
    page.get_by_label("Steps").fill("60")
    page.locator("#fuse").click()
    page.locator("#badge", has_text="step 3").wait_for(timeout=300_000)
    shot("sampling")
    page.locator("#cancel").click()
    page.get_by_label("Steps").fill("")
    page.locator("#settings summary").click()
    page.locator("#fuse").click()
    finished(page)
    page.evaluate("scrollTo(0, 0)")
    shot("compare", whole=True)
    page.emulate_media(color_scheme="dark")
    page.get_by_text("Checkerboard").click()
    shot("checkerboard-dark")
    page.get_by_text("Uncertainty", exact=True).first.click()
    shot("uncertainty-dark")
    page.emulate_media(color_scheme="light")
    page.get_by_text("Fused", exact=True).click()
    page.get_by_label("Balance").fill("1")
    page.locator("#badge", has_text="balance 1.00").wait_for(timeout=60_000)
    shot("balance")
    page.get_by_role("button", name="Measure it").click()
    page.locator("#metrics table").wait_for(timeout=300_000)
    page.locator("#metrics").scroll_into_view_if_needed()
    shot("metrics")
    choose(page, *(path for path in sorted(sources.glob("*.png")) if "stack" not in path.name))
    page.locator("#fuse").click()
    finished(page)
    page.locator("#jobs progress:visible").first.wait_for(timeout=120_000)
    page.locator("#history").scroll_into_view_if_needed()
    shot("batch")
    page.locator("#settings summary").click()
    page.get_by_label("Find out how far").uncheck()
    page.locator("#settings summary").click()
    choose(page, sources / "stack_thermal.tif", sources / "stack_visible.tif")
    page.locator("#fuse").click()
    page.locator("#slices").wait_for(state="visible", timeout=300_000)
    page.evaluate("scrollTo(0, 0)")
    shot("volume")
    page.locator("#settings summary").click()
    page.get_by_label("Find out which source").check()
    choose(page, sources / "focus_near.png", sources / "focus_far.png")
    page.locator("#fuse").click()
    page.locator("#download-source-map").wait_for(state="visible", timeout=300_000)
    page.locator("#modes").get_by_text("Source map").click()
    page.evaluate("scrollTo(0, 0)")
    shot("source-map")
    page.get_by_label("Find out which source").uncheck()
    choose(page, sources / "FLIR0001.jpg")
    page.locator("[name=palette]").select_option("iron")
    page.get_by_label("Draw scale").check()
    page.locator("#settings summary").click()
    page.locator("#fuse").click()
    page.locator("#command", has_text="--annotate").wait_for(timeout=300_000)
    page.get_by_text("Compare", exact=True).click()
    page.evaluate("scrollTo(0, 0)")
    shot("camera")
    page.set_viewport_size(PHONE)
    page.locator("#jobs .open", has_text="night_thermal").first.click()
    finished(page)
    page.get_by_text("Compare", exact=True).click()
    page.locator("#stage").scroll_into_view_if_needed()
    shot("phone")


def main() -> None:
    from playwright.sync_api import sync_playwright

    images = Path(sys.argv[1]) if sys.argv[1:] else IMAGES
    images.mkdir(exist_ok=True, parents=True)
    with tempfile.TemporaryDirectory() as name, service(Path(name) / "data") as address:
        draw_sources(Path(name))
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            page = browser.new_page(viewport=WIDE, device_scale_factor=1)
            page.on("console", lambda message: print("console:", message.text))
            page.on("pageerror", lambda error: print("error:", error))
            page.goto(address)
            try:
                take(page, Path(name), images)
            except BaseException:
                page.screenshot(path=images / "service-failed.png")
                raise
            browser.close()


if __name__ == "__main__":
    main()
