"""The demo's pairs show what fusion is for: each picture holds something that the other lacks."""

from __future__ import annotations

import socket
import sys
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ddfm.demo.scenes import DrawnScene, exposure, focus, night, overview, scenes

Box = tuple[int, int, int, int]

# left, upper, right, lower in the night scene
HIDDEN: Box = (70, 265, 80, 295)
BESIDE_HIDDEN: list[Box] = [(57, 265, 62, 295), (86, 265, 90, 295)]
AT_SHOP: Box = (582, 275, 594, 305)
BESIDE_AT_SHOP: Box = (604, 275, 613, 305)
SIGN: Box = (492, 194, 572, 207)
CROSSING: Box = (255, 306, 312, 316)


@pytest.fixture(scope="module")
def pairs() -> dict[str, DrawnScene]:
    return {scene.name: scene for scene in scenes()}


def grey(image: Image.Image, box: Box | None = None) -> NDArray[np.float64]:
    return np.asarray(image.crop(box).convert("L") if box else image.convert("L"), np.float64)


def edges(image: Image.Image, box: Box | None = None) -> NDArray[np.float64]:
    down, across = np.gradient(grey(image, box))
    steepness: NDArray[np.float64] = np.hypot(down, across)
    return steepness


def test_sizes_and_modes(pairs: dict[str, DrawnScene]) -> None:
    shown = {name: (p.a.mode, p.b.mode, p.a.size, p.b.size) for name, p in pairs.items()}
    assert shown == {
        "night": ("L", "RGB", (640, 480), (640, 480)),
        "focus": ("RGB", "RGB", (720, 480), (720, 480)),
        "exposure": ("RGB", "RGB", (600, 400), (600, 400)),
    }


@pytest.mark.slow
def test_same_bytes_each_time_and_no_network(
    pairs: dict[str, DrawnScene], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("the demo used the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    for again in (night(), focus(), exposure()):
        first = pairs[again.name]
        assert again.a.tobytes() == first.a.tobytes()
        assert again.b.tobytes() == first.b.tobytes()


def test_only_thermal_shows_the_person_under_the_tree(pairs: dict[str, DrawnScene]) -> None:
    thermal, visible = pairs["night"].a, pairs["night"].b
    for beside in BESIDE_HIDDEN:
        assert grey(thermal, HIDDEN).mean() > grey(thermal, beside).mean() + 90
        assert abs(grey(visible, HIDDEN).mean() - grey(visible, beside).mean()) < 6


def test_both_show_the_person_at_the_shop(pairs: dict[str, DrawnScene]) -> None:
    thermal, visible = pairs["night"].a, pairs["night"].b
    assert grey(thermal, AT_SHOP).mean() > grey(thermal, BESIDE_AT_SHOP).mean() + 70
    assert grey(visible, AT_SHOP).mean() < grey(visible, BESIDE_AT_SHOP).mean() - 40


@pytest.mark.parametrize("box", [SIGN, CROSSING], ids=["sign", "crossing"])
def test_only_visible_shows_paint_and_letters(pairs: dict[str, DrawnScene], box: Box) -> None:
    assert grey(pairs["night"].b, box).std() > 30
    assert grey(pairs["night"].a, box).std() < 10


def test_night_pictures_are_aligned(pairs: dict[str, DrawnScene]) -> None:
    # the houses' upper storeys, which both cameras see: their edges match best unshifted
    upper = (430, 0, 640, 165)
    thermal, visible = edges(pairs["night"].a, upper), edges(pairs["night"].b, upper)
    core = visible[6:-6, 6:-6] - visible.mean()
    shifts = [(dy, dx) for dy in range(-6, 7) for dx in range(-6, 7)]
    match = {
        (dy, dx): float((core * thermal[6 + dy : 159 + dy, 6 + dx : 204 + dx]).sum()) for dy, dx in shifts
    }
    assert max(match, key=lambda shift: match[shift]) == (0, 0)


def test_each_focus_is_sharper_in_its_own_depth(pairs: dict[str, DrawnScene]) -> None:
    ball, shelf = (120, 220, 270, 390), (480, 30, 700, 130)
    near, far = pairs["focus"].a, pairs["focus"].b
    assert (edges(near, ball) ** 2).mean() > 4 * (edges(far, ball) ** 2).mean()
    assert (edges(far, shelf) ** 2).mean() > 4 * (edges(near, shelf) ** 2).mean()


def test_refocusing_leaves_no_holes(pairs: dict[str, DrawnScene]) -> None:
    # a pixel whose depth is unknown would stay black
    for picture in (pairs["focus"].a, pairs["focus"].b):
        assert (np.asarray(picture).max(-1) == 0).mean() < 0.001


def test_exposures_crush_shadows_and_clip_highlights(pairs: dict[str, DrawnScene]) -> None:
    under, over = np.asarray(pairs["exposure"].a), np.asarray(pairs["exposure"].b)
    assert (under.max(-1) < 16).mean() > 0.08
    assert (over.max(-1) < 16).mean() < 0.01
    assert (over == 255).mean() > 0.2
    assert (under == 255).mean() == 0


def test_the_scenes_need_no_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("skimage", "scipy", "cv2", "matplotlib"):
        monkeypatch.setitem(sys.modules, name, None)
    assert exposure().a.size == (600, 400)


def test_overview_holds_every_picture() -> None:
    def scene(name: str, size: tuple[int, int]) -> DrawnScene:
        a, b = Image.new("L", size, 10), Image.new("RGB", size, "blue")
        return DrawnScene(name, name, a, b, ("p", "q"), "infrared")

    wide, square = scene("wide", (400, 200)), scene("square", (90, 90))
    red = Image.new("RGB", (400, 200), "red")
    sheet = overview([(wide, red), (square, red.resize((90, 90)))])
    pixels = np.asarray(sheet)
    assert sheet.mode == "RGB"
    assert sheet.size == (2 * 16 + 3 * 440 + 2 * 8, 2 * 16 + 220 + 440 + 4 * 30 + 8)
    for colour in ((10, 10, 10), (0, 0, 255), (255, 0, 0)):
        assert (pixels == colour).all(-1).sum() == pytest.approx(440 * (220 + 440), rel=0.001)
