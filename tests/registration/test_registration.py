"""Registration against known warps, of pictures whose contrasts differ as those of two sensors do."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as PILImage
from scipy.interpolate import BSpline
from scipy.ndimage import map_coordinates

from ddfm import fuse
from ddfm.demo.scenes import exposure, night
from ddfm.errors import InputError
from ddfm.formats.pictures import read_image
from ddfm.registration.alignment import (
    Floats,
    _splines,
    _stiffness,
    looked_up,
    positions,
    remapped,
    shrunk,
    transformed,
)
from ddfm.registration.estimate import LEAST_CONFIDENCE, register
from ddfm.registration.models import Registering
from ddfm.registration.orientation import displaced_agreement, orientation
from ddfm.registration.report import overlay
from tests.conftest import Command, examples

Array = NDArray[np.float32]
HEIGHT, WIDTH = 240, 320


def scene(seed: int, height: int = HEIGHT, width: int = WIDTH) -> tuple[Array, Array]:
    """One scene as two sensors see it, (H, W, 1) and (H, W, 3): the same shapes in unrelated tones."""
    rng = np.random.default_rng(seed)
    thermal: Array = np.full((height, width), 0.5, np.float32)
    visible: Array = np.full((height, width, 3), 0.5, np.float32)
    for _ in range(150):
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        axes = (int(rng.integers(3, width // 10)), int(rng.integers(3, height // 10)))
        angle = float(rng.uniform(0, 180))
        for picture in (thermal, visible):
            tone = tuple(float(value) for value in rng.uniform(0.05, 1, 3))
            cv2.ellipse(picture, centre, axes, angle, 0, 360, tone, -1, cv2.LINE_AA)
    thermal, visible = (
        (cv2.GaussianBlur(picture, (0, 0), 1) + rng.normal(0, 0.01, picture.shape))
        .clip(0.02, 1)
        .astype(np.float32)
        for picture in (thermal, visible)
    )
    return thermal[..., None], visible


def about_centre(matrix: list[list[float]], height: int = HEIGHT, width: int = WIDTH) -> Floats:
    centre = np.array([[1, 0, (width - 1) / 2], [0, 1, (height - 1) / 2], [0, 0, 1]])
    return centre @ np.array(matrix) @ np.linalg.inv(centre)


def moved(picture: Array, matrix: Floats, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Array:
    """The picture where the matrix takes the pixels of ``picture``; black around it."""
    warped = cv2.warpPerspective(picture, matrix.astype(np.float64), size, flags=cv2.INTER_CUBIC)
    return np.asarray(warped, np.float32).clip(0, 1).reshape(size[1], size[0], -1)


def error(flow: Array, matrix: Floats, margin: int = 40) -> float:
    """Mean end-point error away from the borders."""
    here = positions((flow.shape[1], flow.shape[0])).astype(np.float64)
    inner = np.s_[margin:-margin, margin:-margin]
    return float(np.linalg.norm(here + flow - transformed(matrix, here), axis=2)[inner].mean())


TURN = about_centre([[1.05, -0.16, 9.0], [0.13, 1.02, -12.0], [0, 0, 1]])


def test_orientation_does_not_know_which_side_is_brighter() -> None:
    grey, shown = scene(0)[0][..., 0], np.ones((HEIGHT, WIDTH), np.float32)
    field = orientation(grey, shown)
    assert np.abs(field).max() > 0.5
    assert np.allclose(field, orientation(1 - grey, shown), atol=1e-3)
    assert np.allclose(field.sum((0, 1)), 0, atol=1e-1)


def test_orientation_is_the_doubled_angle_of_the_gradient() -> None:
    """Of a cone: at the angle t around its tip the gradient points outwards, so that z has the angle 2 t."""
    at = positions((201, 201)) - 100
    field = orientation(0.5 - np.linalg.norm(at, axis=2) / 400, np.ones((201, 201), np.float32))
    ring = (np.linalg.norm(at, axis=2) > 20) & (np.linalg.norm(at, axis=2) < 80)
    wanted = 2 * np.arctan2(at[..., 1], at[..., 0])
    difference = np.arctan2(field[..., 1], field[..., 0]) - wanted
    assert np.abs(np.exp(1j * difference[ring]) - 1).max() < 0.05


def test_what_is_not_shown_has_no_orientation() -> None:
    shown = np.zeros((HEIGHT, WIDTH), np.float32)
    shown[50:150, 60:200] = 1
    field = orientation(scene(1)[0][..., 0], shown)
    assert not field[shown == 0].any()
    assert field[60:140, 70:190].any()


@examples(25)
@given(st.integers(0, 2**31), st.integers(1, 20), st.integers(1, 20), st.integers(1, 3), st.integers(2, 6))
def test_displaced_agreement_is_its_definition(
    seed: int, height: int, width: int, reach: int, cell: int
) -> None:
    rng = np.random.default_rng(seed)
    fixed, moving = (rng.normal(size=(height, width, 2)).astype(np.float32) for _ in range(2))
    table = displaced_agreement(fixed, moving, reach, cell)
    chance = np.sqrt(0.5 * ((fixed**2).sum(2) * (moving**2).sum(2)).sum())
    wanted = np.zeros_like(table)
    for v in range(-reach, reach + 1):
        for u in range(-reach, reach + 1):
            for y in range(height):
                for x in range(width):
                    if 0 <= y + v < height and 0 <= x + u < width:
                        product = fixed[y, x] @ moving[y + v, x + u] / chance
                        wanted[reach + v, reach + u, y // cell, x // cell] += product
    assert np.allclose(table, wanted, atol=1e-4)


def test_agreement_by_chance_has_a_standard_deviation_of_one() -> None:
    rng = np.random.default_rng(0)
    angles = rng.uniform(0, 2 * np.pi, (2, 128, 128))
    fixed, moving = (np.dstack([np.cos(a), np.sin(a)]).astype(np.float32) for a in angles)
    totals = displaced_agreement(fixed, moving, 8, 16).sum((2, 3))
    assert totals.std() == pytest.approx(1, abs=0.15)  # of 289 values: three standard errors


def test_tables_are_looked_up_as_scipy_does() -> None:
    rng = np.random.default_rng(0)
    table, at = rng.normal(size=(7, 7, 50)).astype(np.float32), rng.uniform(-3, 3, (50, 2))
    wanted = [map_coordinates(table[..., n], [[y + 3], [x + 3]], order=1)[0] for n, (x, y) in enumerate(at)]
    assert np.allclose(looked_up(table, at), wanted, atol=1e-5)


def test_splines_are_scipys() -> None:
    at = np.linspace(0, 5, 41)
    wanted = BSpline.design_matrix(at, np.arange(-3, 9), 3).toarray()
    assert np.allclose(_splines(at, 5), wanted, atol=1e-12)


def test_nothing_but_bending_is_stiff() -> None:
    x, y = np.meshgrid(np.arange(6.0), np.arange(5.0))
    rest = _stiffness(6, 5)
    for flat, energy in (((2 * x - y + 1), 0.0), (x * y, 2 * 5 * 4)):
        c = flat.ravel()
        assert c @ rest @ c - 0.001 * c @ c == pytest.approx(0.03 * energy, abs=1e-9)


@pytest.mark.parametrize("model", ["affine", "homography", "dense"])
def test_an_affine_map_is_found(model: Registering) -> None:
    thermal, visible = scene(2)
    registration = register(moved(thermal, TURN), visible, model)
    assert error(registration.flow, TURN) < 1
    assert registration.confidence > 2 * LEAST_CONFIDENCE
    assert registration.flow.shape == (HEIGHT, WIDTH, 2)
    registration.check("a", "b")
    if model != "dense":
        assert error(registration.flow, registration.matrix, margin=1) < 1e-3


def test_a_homography_is_found() -> None:
    matrix = about_centre([[1.02, -0.08, 5], [0.06, 0.98, -4], [5e-4, -3e-4, 1]])
    thermal, visible = scene(3)
    there = moved(thermal, matrix)
    exact, coarse = (
        error(register(there, visible, model).flow, matrix) for model in ("homography", "affine")
    )
    assert exact < 0.5
    assert exact < coarse / 3


def test_a_bent_picture_is_straightened() -> None:
    thermal, visible = scene(4)
    here = positions((WIDTH, HEIGHT))
    bend = np.dstack([3 * np.sin(here[..., 1] / 30), 3 * np.cos(here[..., 0] / 40)])
    flow = register(remapped(thermal, here - bend, cv2.INTER_CUBIC)[..., None], visible, "dense").flow
    inner = np.s_[30:-30, 30:-30]
    # moving(x + flow) = fixed(x) and moving(y) = fixed(y - bend(y)), so that flow(x) = bend(x + flow(x)).
    at = here + flow
    wanted = np.dstack([3 * np.sin(at[..., 1] / 30), 3 * np.cos(at[..., 0] / 40)])
    off = np.linalg.norm(flow - wanted, axis=2)[inner].mean()
    assert off < 0.25 * np.linalg.norm(wanted, axis=2)[inner].mean()


def test_other_sizes_and_aspects() -> None:
    thermal, visible = scene(5)
    half = np.array([[0.5, 0, -0.25], [0, 0.5, -0.25], [0, 0, 1]])
    there = shrunk(moved(thermal, TURN), (WIDTH // 2, HEIGHT // 2))[..., None]
    assert error(register(there, visible).flow, half @ TURN) < 0.75
    cut = np.array([[1, 0, -50], [0, 1, 0], [0, 0, 1]])
    narrow = moved(thermal, cut, (WIDTH - 100, HEIGHT))
    registration = register(narrow, visible)
    assert error(registration.flow, cut) < 1
    assert registration.inside == pytest.approx((WIDTH - 100) / WIDTH, abs=0.03)
    stretched = np.asarray(cv2.resize(thermal, (WIDTH, HEIGHT * 3 // 2)), np.float32)[..., None]
    assert error(register(stretched, visible).flow, np.array([[1, 0, 0], [0, 1.5, 0.25], [0, 0, 1]])) < 1


@pytest.mark.slow
def test_unrelated_scenes_are_refused() -> None:
    for seed in range(6):
        registration = register(scene(seed)[0], scene(seed + 100)[1])
        assert registration.confidence < LEAST_CONFIDENCE
        with pytest.raises(
            InputError, match=r"^ir\.png does not register with vi\.png: confidence 0\.\d\d"
        ) as told:
            registration.check("ir.png", "vi.png")
        assert "\n" not in str(told.value)


@pytest.mark.parametrize("shape", [(16, 16), (17, 400), (200, 30)])
def test_pictures_of_nothing_are_refused(shape: tuple[int, int]) -> None:
    flat, noise = (
        np.full((*shape, 1), 0.5, np.float32),
        np.random.default_rng(0).random((*shape, 3), np.float32),
    )
    for moving, fixed in ((flat, noise), (noise[..., :1], noise[::-1]), (np.zeros_like(flat), noise)):
        registration = register(moving, fixed, "dense")
        assert registration.confidence < LEAST_CONFIDENCE
        assert np.isfinite(registration.flow).all()
        assert np.isfinite(registration.warp(moving, fixed)).all()
        assert overlay(moving, fixed, registration).dtype == np.uint8


def test_no_frame_comes_into_the_picture() -> None:
    thermal, visible = scene(6)
    there = moved(thermal, TURN)
    registration = register(there, visible)
    result = registration.warp(there, visible)
    assert result.shape == thermal.shape
    assert 0.5 < registration.inside < 0.97
    inside = cv2.erode(registration.shown.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    assert result[inside].min() > 0.01  # the scene has nothing darker than 0.02, its frame is 0
    inner = cv2.erode(registration.shown.astype(np.uint8), np.ones((17, 17), np.uint8)) > 0
    assert np.abs(result - thermal)[inner].mean() < 0.03
    # Outside there is the fixed picture, at the brightness of the moving one.
    assert abs(result[~registration.shown].mean() - thermal.mean()) < 0.1
    outside = cv2.erode((~registration.shown).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    grey = visible @ np.array([0.299, 0.587, 0.114], np.float32)
    details = [a - cv2.GaussianBlur(a, (0, 0), 3) for a in (result[..., 0], grey)]
    assert np.corrcoef(details[0][outside], details[1][outside])[0, 1] > 0.9


def test_same_input_same_bytes() -> None:
    thermal, visible = scene(7)
    first, second = (register(moved(thermal, TURN), visible, "dense") for _ in range(2))
    assert first.flow.tobytes() == second.flow.tobytes()
    assert first.confidence == second.confidence


def test_the_report_shows_edges_that_meet() -> None:
    thermal, visible = scene(8)
    there = moved(thermal, TURN)
    picture = overlay(there, visible, register(there, visible))
    assert picture.dtype == np.uint8
    assert picture.shape[1] == 2 * WIDTH + 4
    assert picture.shape[0] > HEIGHT
    white = picture[:HEIGHT].min(2) > 200
    assert white[:, WIDTH + 4 :].sum() > 2 * white[:, :WIDTH].sum()


def test_wrong_use_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    thermal, visible = scene(9)
    with pytest.raises(InputError, match="'rigid': not one of affine, homography, dense"):
        register(thermal, visible, "rigid")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="32767"):
        register(np.zeros((16, 40000, 1), np.float32), visible)


def test_without_opencv_the_command_says_how_to_get_it(tmp_path: Path) -> None:
    """In a process of its own, before the sources are read: here one is cut short."""
    whole = io.BytesIO()
    PILImage.new("L", (32, 32)).save(whole, "PNG")
    (tmp_path / "a.png").write_bytes(whole.getvalue()[:60])
    code = (
        "import sys; sys.modules['cv2'] = None; from ddfm.cli import main;"
        "sys.argv = ['ddfm', 'fuse', 'a.png', 'a.png', '-o', 'o.png', '--register', 'affine']; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == "ddfm: registration needs OpenCV: pip install 'ddfm[register]'\n"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "stem", "other"), [("msrs", "00095D", "00028N"), ("roadscene", "41", "4")])
def test_real_pairs(data: Path, name: str, stem: str, other: str) -> None:
    folder = data / "misaligned" / name
    vi, moving = (read_image(folder / kind / f"{stem}.png").pixels for kind in ("vi", "ir_warp"))
    height, width = vi.shape[:2]
    given = np.load(folder / "flow" / f"{stem}.npz")["flow"].astype(np.float32)  # torch's sampling grid
    came_from = ((given + 1) * np.array([width, height], np.float32) - 1) / 2
    here = positions((width, height))
    registration = register(moving, vi)
    registration.check("ir_warp", "vi")
    found = remapped(came_from, here + registration.flow, cv2.INTER_LINEAR)
    inner = cv2.erode(registration.shown.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    unaligned = np.linalg.norm(came_from - here, axis=2)[inner].mean()
    assert np.linalg.norm(found - here, axis=2)[inner].mean() < unaligned / 2
    unrelated = read_image(folder / "ir_warp" / f"{other}.png").pixels
    assert register(unrelated, vi).confidence < LEAST_CONFIDENCE


@pytest.mark.slow
def test_the_command_registers_and_reports(ddfm: Command, tmp_path: Path) -> None:
    """A thermal picture of another size and view; and one of another scene, which is refused."""
    street, other = night(), exposure()
    paths = {name: tmp_path / f"{name}.png" for name in ("thermal", "visible", "other", "out", "report")}
    street.a.crop((14, 9, street.a.width - 4, street.a.height - 7)).save(paths["thermal"])
    street.b.save(paths["visible"])
    other.b.convert("L").save(paths["other"])
    options = ("-o", paths["out"], "--steps", 0, "--register-report", paths["report"])
    refused = ddfm("fuse", paths["other"], paths["visible"], *options, "--register", "affine")
    assert refused.returncode == 2
    assert "other.png does not register with" in refused.stderr
    assert paths["report"].exists()  # it shows why
    assert not paths["out"].exists()
    unasked = ddfm("fuse", paths["thermal"], paths["visible"], *options)
    assert "--register-report needs --register" in unasked.stderr
    done = ddfm("fuse", paths["thermal"], paths["visible"], *options, "--register", "affine")
    assert done.returncode == 0, done.stderr
    with PILImage.open(paths["out"]) as fused, PILImage.open(paths["visible"]) as visible:
        assert fused.size == visible.size
        moved = np.asarray(fused).astype(float)
    aligned = fuse(street.a, street.b, steps=0).to_array().astype(float)
    inside = slice(30, -30)
    error = np.abs(moved - aligned)[inside, inside].mean()
    unaligned = np.abs(np.roll(aligned, (9, 14), (0, 1)) - aligned)[inside, inside].mean()
    assert error < unaligned / 4
    unknown = ddfm("fuse", paths["thermal"], paths["visible"], *options, "--register", "magic")
    assert "register 'magic': not one of affine, homography, dense" in unknown.stderr
