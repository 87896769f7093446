"""The page in a real browser, with a real server; skipped where playwright or Chromium is absent."""

from __future__ import annotations

import base64
import io
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from ddfm.demo.thermogram import street_file
from tests.browser import PATIENCE
from tests.conftest import ROOT, Command, picture
from tests.serve.served import Served, served, until, write_pair

pytestmark = pytest.mark.slow
AXE = Path(os.environ.get("DDFM_AXE", ROOT / ".axe-core" / "package" / "axe.min.js"))
TOKEN = "a-token-for-the-tests"

DROP = """files => {
  const transfer = new DataTransfer();
  for (const {name, data} of files) {
    const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
    transfer.items.add(new File([bytes], name));
  }
  const drop = (name) => document.getElementById("drop")
    .dispatchEvent(new DragEvent(name, {dataTransfer: transfer, bubbles: true, cancelable: true}));
  drop("dragover"); drop("drop");
}"""


@pytest.fixture(scope="module")
def server(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A running service; without a browser there is no use for one."""
    with served(tmp_path_factory.mktemp("page"), "--threads", "1") as running:
        yield running


@pytest.fixture
def pair(tmp_path: Path) -> list[Path]:
    """Two real pictures where there are any, else drawn ones."""
    folder = Path(os.environ.get("DDFM_SHARED", ROOT.parent / "shared")) / "data" / "ivf" / "tno"
    found = [sorted((folder / side).iterdir())[0] for side in ("ir", "vi") if (folder / side).is_dir()]
    if len(found) < 2:
        return list(write_pair(tmp_path, 120, 160))
    copies = [
        tmp_path / f"{name}{path.suffix}" for name, path in zip(("thermal", "visible"), found, strict=True)
    ]
    for path, copy in zip(found, copies, strict=True):
        copy.write_bytes(path.read_bytes())
    return copies


def drop(page: Any, *paths: Path) -> None:
    files = [{"name": path.name, "data": base64.b64encode(path.read_bytes()).decode()} for path in paths]
    page.evaluate(DROP, files)
    page.locator("#chosen:not([aria-busy])").wait_for(state="attached")


def fused(page: Any) -> None:
    page.locator("#fuse").click()
    page.locator("#facts").wait_for(state="visible")


def pixels(page: Any) -> Any:
    data = page.evaluate("document.getElementById('canvas').toDataURL()")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data.split(",")[1]))).convert("RGB"), int)


def saved(page: Any, press: Callable[[], None]) -> bytes:
    with page.expect_download() as waited:
        press()
    return Path(waited.value.path()).read_bytes()


# Keep what a progress bar shows, however short.
WATCH = """bar => {
    window.values = [];
    new MutationObserver(() => window.values.push(bar.value)).observe(bar, {attributes: true});
}"""


def test_drop_fuse_look_and_download(
    server: Served, opened: Any, pair: list[Path], ddfm: Command, tmp_path: Path
) -> None:
    from ddfm.threads import threads

    page = opened(f"{server.address}/")
    drop(page, *pair)
    assert page.locator("#chosen li").count() == 2
    page.locator("#settings summary").click()
    page.get_by_label("Seed").fill("12")
    page.locator("select[name=task]").select_option("infrared")
    page.get_by_label("Steps").fill("30")
    page.locator("#progress").evaluate(WATCH)
    page.locator("#fuse").click()
    page.locator("#badge", has_text="preview, step").wait_for()  # progress, live
    page.locator("#facts").wait_for(state="visible")
    values = page.evaluate("window.values")
    assert values == sorted(values)
    assert any(0 < value < 1 for value in values)
    data = saved(page, page.get_by_role("button", name="Download", exact=True).click)
    with threads(1):
        done = ddfm(
            "fuse", *pair, "-o", tmp_path / "own.png", "--seed", 12, "--task", "infrared", "--steps", 30
        )
    assert done.returncode == 0, done.stderr
    assert data == (tmp_path / "own.png").read_bytes()
    deep = saved(page, page.get_by_role("button", name="TIFF, 16 bits").click)
    assert tifffile.imread(io.BytesIO(deep)).dtype == np.uint16
    command = page.locator("#command").inner_text()
    assert command.startswith("OMP_NUM_THREADS=1 ddfm fuse thermal")
    assert "--seed 12" in command

    # Compare: the first source on the left, the fused one between, the second on the right.
    own = np.asarray(Image.open(tmp_path / "own.png").convert("RGB"), int)
    first, second = (np.asarray(Image.open(path).convert("RGB"), int) for path in pair)
    shown, width = pixels(page), own.shape[1]
    for start, end, expected in ((0, 0.3, first), (0.37, 0.63, own), (0.7, 1, second)):
        part = slice(round(start * width), round(end * width))
        assert np.array_equal(shown[:, part], expected[:, part])
    page.get_by_label("First source up to").fill("100")
    assert np.array_equal(pixels(page)[:, : width - 20], first[:, : width - 20])
    page.get_by_text("Fused", exact=True).click()
    assert np.array_equal(pixels(page), own)
    page.get_by_text("Difference", exact=True).click()
    assert np.abs(pixels(page) - np.abs(first - second)).max() <= 1
    page.locator("#canvas").press("ArrowRight")
    assert "by 1, 0 pixels" in page.locator("#nudged").inner_text()
    assert np.abs(pixels(page)[:, 1:] - np.abs(first[:, 1:] - second[:, :-1])).max() <= 1

    # The balance slider changes what is shown, and comes back.
    page.get_by_text("Fused", exact=True).click()
    page.locator("#balance").fill("1")
    page.locator("#badge", has_text="balance 1.00").wait_for()
    assert not np.array_equal(pixels(page), own)
    page.locator("#balance").fill("0.5")
    page.locator("#badge").wait_for(state="hidden")
    assert np.array_equal(pixels(page), own)

    page.get_by_role("button", name="Measure it").click()
    page.locator("#metrics table").wait_for()
    assert page.locator("#metrics tbody tr").count() == 8

    # What cannot be is told where it was written, even if the settings are closed.
    page.get_by_label("Steps").fill("-3")
    page.locator("#settings summary").click()
    page.locator("#fuse").click()
    assert page.locator("#settings").get_attribute("open") is not None
    assert page.locator("#jobs li").count() == 1

    # This browser's jobs are there again after a reload.
    page.reload()
    page.locator("#jobs .open").first.click()
    page.locator("#facts").wait_for(state="visible")
    page.get_by_text("Fused", exact=True).click()
    assert np.array_equal(pixels(page), own)


def test_batch_zip_and_cancel(server: Served, opened: Any, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    files = []
    for k in range(3):
        for source, made in zip(("ir", "vis"), write_pair(tmp_path, 48, 64, seed=k), strict=True):
            files.append(made.rename(tmp_path / f"scene{k}_{source}.png"))
    page = opened(f"{server.address}/")
    drop(page, *files)
    assert page.locator("#chosen .name").all_inner_texts()[0].startswith("scene0")
    page.locator("#settings summary").click()
    page.locator("select[name=task]").select_option("infrared")
    assert page.locator("#fuse").inner_text() == "Fuse 3 sets"
    fused(page)
    states = page.locator("#jobs .state")
    expect(states).to_have_text(["done"] * 3, timeout=PATIENCE)
    data = saved(page, page.locator("#zip").click)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert sorted(archive.namelist()) == ["scene0_ir.png", "scene1_ir.png", "scene2_ir.png"]
    page.locator("#clear").click()
    drop(page, *files[:2])
    page.locator("select[name=form]").select_option("released")
    page.get_by_label("Steps").fill("1000")
    page.locator("#fuse").click()
    page.locator("#badge", has_text="preview, step").wait_for()
    page.locator("#cancel").click()
    page.locator("#status", has_text="Cancelled").wait_for()
    # A job without a picture shows none, and not another one's; one that is forgotten is not looked at.
    page.reload()
    page.locator("#jobs .open").nth(1).click()
    page.locator("#facts").wait_for(state="visible")
    page.locator("#jobs .open").first.click()
    page.locator("#status", has_text="Cancelled").wait_for()
    assert pixels(page).max() == 0
    page.locator("#forget").click()
    page.locator("#stage").wait_for(state="hidden")
    expect(page.locator("#jobs li")).to_have_count(0, timeout=PATIENCE)


def test_volumes_by_slices(server: Served, opened: Any, tmp_path: Path) -> None:
    paths = [tmp_path / "mri.tif", tmp_path / "pet.tif"]
    for path, seed in zip(paths, (0, 5), strict=True):
        pages = np.stack([picture(40, 48, 1, np.uint8, seed + k) for k in range(3)])
        tifffile.imwrite(path, pages, photometric="minisblack")
    page = opened(f"{server.address}/")
    page.locator("#files").set_input_files(paths)
    page.locator("#settings summary").click()
    page.locator("select[name=task]").select_option("medical")
    fused(page)
    page.get_by_text("Fused", exact=True).click()
    before = page.evaluate("document.getElementById('canvas').toDataURL()")
    page.locator("#slice").fill("3")
    page.locator("#slice-number", has_text="3 of 3").wait_for()
    until(lambda: page.evaluate("document.getElementById('canvas').toDataURL()") != before)
    assert page.locator("#balancing").is_hidden()


def test_a_cameras_file_and_its_settings(server: Served, opened: Any, tmp_path: Path) -> None:
    camera = tmp_path / "FLIR0001.jpg"
    camera.write_bytes(street_file())
    page = opened(f"{server.address}/")
    pair = write_pair(tmp_path, 48, 64)
    drop(page, *pair)
    page.locator("#settings summary").click()
    assert page.locator("#cameras").is_hidden()
    page.locator("#clear").click()
    drop(page, camera)
    page.locator("[name=palette]").select_option("iron")
    page.get_by_label("Draw scale").check()
    page.get_by_label("Make a file of all").check()
    page.get_by_label("Find out which source").check()
    page.get_by_label("Range").fill("1:0,x")
    page.locator("#fuse").click()
    page.locator("#message", has_text="not numbers").wait_for()
    page.get_by_label("Range").fill("0,36.5")
    page.get_by_label("Steps").fill("0")
    fused(page)
    command = page.locator("#command").inner_text()
    for words in ("--palette iron", "--annotate", "--temperatures", "--source-map", "--range 1:0,36.5"):
        assert words in command
    degrees = tifffile.imread(io.BytesIO(saved(page, page.get_by_role("button", name="Temperatures").click)))
    assert page.locator("#canvas").evaluate("canvas => canvas.width") > degrees.shape[1]  # and the scale
    page.get_by_text("Blend", exact=True).click()
    page.get_by_label("Opacity").fill("100")
    second = pixels(page)[:, : degrees.shape[1]]
    page.get_by_label("Opacity").fill("0")
    assert np.ptp(pixels(page), axis=2).max() == 0  # the readings, grey
    assert np.ptp(second, axis=2).max() > 20  # the photograph
    page.locator("#modes").get_by_text("Source map").click()
    assert page.locator("#legend li").all_inner_texts() == ["FLIR0001.jpg", "FLIR0001.jpg, its photograph"]
    numbers = Image.open(io.BytesIO(saved(page, page.get_by_role("button", name="Source map").click)))
    assert set(np.unique(np.asarray(numbers))) <= {1, 2}
    # What only cameras' files have is not asked of others.
    page.locator("#clear").click()
    page.get_by_label("Range").fill("2:data")
    page.get_by_label("Lens blur").fill("1.5, 0")
    page.locator("[name=deghost]").select_option("off")
    drop(page, *pair)
    page.locator("#fuse").click()
    page.locator("#command", has_text="--deblur 1.5,0 --deghost off --range 2:data").wait_for()
    assert "--palette" not in page.locator("#command").inner_text()


def test_series_by_their_folders(server: Served, opened: Any, tmp_path: Path) -> None:
    pytest.importorskip("nibabel")
    pytest.importorskip("pydicom")
    from tests.formats.medical import hounsfield, write_series

    page = opened(f"{server.address}/")
    for name, seed in (("mri", 0), ("pet", 4)):
        folder = write_series(tmp_path / name, hounsfield(3, 40, 48, seed=seed))
        page.locator("#folder").set_input_files(folder)
        page.locator("#chosen .name", has_text=name).wait_for()
    assert page.locator("#chosen li").count() == 2
    fused(page)
    assert page.locator("#slice").get_attribute("max") == "3"
    assert page.locator("#command").inner_text().endswith("ddfm fuse mri pet -o fused")
    data = saved(page, page.get_by_role("button", name="Download", exact=True).click)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert len(archive.namelist()) == 3


def test_a_token_is_asked_for(browser: Any, opened: Any, tmp_path: Path) -> None:
    with served(tmp_path / "data", "--token", TOKEN) as server:
        page = opened(f"{server.address}/", expected="401")
        page.locator("#token-value").fill(TOKEN)
        page.get_by_role("button", name="Use it").click()
        page.locator("[name=prior] option").first.wait_for(state="attached")


def test_keyboard_alone(server: Served, opened: Any, tmp_path: Path) -> None:
    page = opened(f"{server.address}/")
    page.locator("#files").set_input_files(list(write_pair(tmp_path, 48, 64)))
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
        if page.evaluate("document.activeElement.id") == "fuse":
            break
    assert {"choose", "choose-folder", "fuse"} <= reached
    page.keyboard.press("Enter")
    page.locator("#facts").wait_for(state="visible")
    page.locator("#modes input").first.focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#modes input:checked").get_attribute("value") == "fused"


def test_nothing_is_wider_than_a_phone_and_both_schemes(server: Served, opened: Any, tmp_path: Path) -> None:
    page = opened(f"{server.address}/")
    drop(page, *write_pair(tmp_path, 48, 64))
    fused(page)
    for width in (1280, 768, 360):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator("#command").bounding_box()["height"] > 20
    brightness = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        brightness.append(sum(map(int, colour[4:-1].split(","))))
    assert brightness[0] > 600 > 150 > brightness[1]


def test_axe_finds_nothing_serious(server: Served, opened: Any, tmp_path: Path) -> None:
    if not AXE.is_file():
        pytest.skip(f"{AXE} is absent: npm pack axe-core")
    page = opened(f"{server.address}/")
    found = []
    page.emulate_media(color_scheme="light")
    found += serious(page)
    drop(page, *write_pair(tmp_path, 48, 64))
    page.locator("#settings summary").click()
    page.get_by_label("Find out how far").check()
    page.get_by_label("Find out which source").check()
    fused(page)
    page.get_by_role("button", name="Measure it").click()
    page.locator("#metrics table").wait_for()
    page.locator("#cameras").evaluate("part => { part.hidden = part.disabled = false; }")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for mode in ("split", "blend", "checker", "uncertainty", "source-map"):
            page.locator(f"#modes input[value={mode}]").check(force=True)
            found += serious(page)
    assert found == []


def serious(page: Any) -> list[str]:
    # As the browser's own: the page's policy lets no script of others in.
    session = page.context.new_cdp_session(page)
    session.send("Runtime.evaluate", {"expression": AXE.read_text()})
    result = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{violation['id']}: {violation['help']}: {node['html'][:120]} {node.get('failureSummary', '')[:300]}"
        for violation in result["violations"]
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]
