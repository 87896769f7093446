from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

from ddfm.benchmark.datasets import DATASETS
from ddfm.benchmark.methods import BASELINES, Method, as_bytes, find_methods
from ddfm.errors import InputError
from ddfm.pictures.image import Image, from_array
from tests.conftest import picture

TNO, MEFB = DATASETS["tno"], DATASETS["mefb"]
A = picture(24, 32, 1, np.uint8, 1)
B = np.rint(picture(24, 32, 1, np.uint8, 2) * 0.6).astype(np.uint8)


def method(name: str) -> Method:
    return next(found for found in find_methods([], TNO, []) if found.name == name)


def fused(name: str, a: Image, b: Image) -> Image:
    fuse = method(name).fuse
    assert fuse is not None
    return fuse(a, b)


def test_grey_baselines_are_their_formulas() -> None:
    x, y = A.astype(np.float64), B.astype(np.float64)
    mean = (x + y) / 2
    expected = {
        "mean": mean,
        "max": np.maximum(x, y),
        "stretched-mean": (mean - mean.min()) / (mean.max() - mean.min()) * 255,
        "clipped-sum": np.clip(x + y - (x + y).mean() + 128, 0, 255),
        "a-only": x,
        "b-only": y,
    }
    for name, values in expected.items():
        result = as_bytes(fused(name, from_array(A), from_array(B)))[..., 0]
        assert np.abs(result - values).max() < 0.51, name
    assert (x + y - (x + y).mean() + 128).max() > 255  # so that there is something to clip


def test_noise_has_its_strength_and_repeats() -> None:
    grey = from_array(np.full((256, 256), 128, np.uint8))
    one, two = (as_bytes(fused("mean-noise", grey, grey)) for _ in range(2))
    assert np.array_equal(one, two)
    assert one.std() == pytest.approx(10, abs=0.2)
    assert one.mean() == pytest.approx(128, abs=0.2)


def test_colour_is_kept_and_only_luminance_fused() -> None:
    colour = np.full((24, 32, 3), (120, 100, 80), np.uint8)
    result = as_bytes(fused("mean", from_array(np.full((24, 32), 60, np.uint8)), from_array(colour))).astype(
        float
    )
    luma = 0.299 * 120 + 0.587 * 100 + 0.114 * 80
    moved = (60 + luma) / 2 - luma
    assert np.abs(result - (np.array([120, 100, 80]) + moved)).max() < 0.51
    assert np.array_equal(as_bytes(fused("b-only", from_array(A), from_array(colour))), colour)


def test_order_and_the_baselines_that_are_always_there(tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    for stem in ("one", "two", "more"):
        PILImage.fromarray(A).save(folder / f"{stem}.png")
    found = find_methods(["max", str(folder)], TNO, ["one", "two"])
    assert [m.name for m in found] == ["max", "theirs", *(name for name in BASELINES if name != "max")]
    assert found[1].outputs == {stem: folder / f"{stem}.png" for stem in ("one", "two")}
    assert not found[1].baseline
    assert all(m.baseline for m in found if m.name != "theirs")


def test_mistakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mean").mkdir()
    PILImage.fromarray(A).save(tmp_path / "mean" / "one.png")
    mistakes: dict[tuple[str, tuple[str, ...]], str] = {
        ("median", ()): r"median: neither a method \(ddfm, ddfm:",
        (str(tmp_path / "mean"), ("one", "two", "three")): "has no image called two and 1 more",
        (str(tmp_path / "mean"), ("one",)): "two methods are called mean",
        ("ddfm:best", ()): "form 'best'",
        ("mergemertens", ()): "mergemertens fuses exposures; TNO Image Fusion Dataset is not",
    }
    for (name, stems), message in mistakes.items():
        with pytest.raises(InputError, match=message):
            find_methods([name], TNO, stems)
    with pytest.raises(InputError, match="steps 0"):
        find_methods(["ddfm:paper"], TNO, [], steps=0)
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(InputError, match=r"pip install 'ddfm\[bench\]'"):
        find_methods(["mergemertens"], MEFB, [])


def test_mertens_takes_each_source_where_it_is_well_exposed() -> None:
    pytest.importorskip("cv2", reason="OpenCV is not installed: pip install 'ddfm[bench]'")
    texture = np.rint(128 + 60 * np.sin(np.arange(64) * 1.3)).astype(np.uint8)
    under, over = np.full((64, 64), 3, np.uint8), np.full((64, 64), 252, np.uint8)
    under[:, 32:], over[:, :32] = texture[:32], texture[:32]  # each source shows one half
    fuse = find_methods(["mergemertens"], MEFB, [])[0].fuse
    assert fuse is not None
    result = as_bytes(fuse(from_array(under), from_array(over)))[..., 0].astype(float)
    for half, source in ((slice(40, 60), under), (slice(4, 24), over)):
        assert np.corrcoef(result[32, half], source[32, half])[0, 1] > 0.95


def test_ours_are_the_forms_asked_for() -> None:
    assert find_methods(["ddfm"], TNO, [], steps=0)[0].fuse is not None  # the likelihood alone
    default, paper = find_methods(["ddfm", "ddfm:paper"], TNO, [], steps=1)[:2]
    assert default.fuse is not None
    assert paper.fuse is not None
    one, two = (m(from_array(A), from_array(B)) for m in (default.fuse, paper.fuse))
    assert not np.array_equal(one.pixels, two.pixels)
    assert (default.settings["steps"], default.settings["seed"]) == (1, 3407)
    assert (default.settings["form"], paper.settings["form"]) == ("ddfm", "paper")


def test_msx_is_the_thermal_picture_with_the_visible_ones_edges() -> None:
    (found,) = (m for m in find_methods(["msx"], TNO, []) if m.name == "msx")
    assert found.fuse is not None
    thermal = np.full((32, 40), 100, np.uint8)
    flat, step = np.full((32, 40), 30, np.uint8), np.zeros((32, 40), np.uint8)
    step[:, 20:] = 80
    # What has no edges adds nothing.
    assert np.array_equal(found.fuse(from_array(thermal), from_array(flat)).to_array(), thermal)
    fused = found.fuse(from_array(thermal), from_array(step)).to_array().astype(int)
    assert fused[16, 19] == pytest.approx(100 - 80 * 0.4, abs=6)  # beside an edge a blur takes nearly half
    assert fused[16, 20] == pytest.approx(100 + 80 * 0.4, abs=6)
    assert (abs(fused[:, [5, 35]] - 100) <= 1).all()
    scipy = pytest.importorskip("scipy.ndimage")
    noise = picture(32, 40, 1, np.uint8, 3) // 8 + 100
    blurred = scipy.gaussian_filter(noise.astype(float), 2.0, mode="nearest", truncate=3.0)
    expected = np.clip(thermal + noise - blurred, 0, 255)
    assert np.abs(found.fuse(from_array(thermal), from_array(noise)).to_array() - expected).max() <= 1
    with pytest.raises(InputError, match="lays edges over thermal pictures"):
        find_methods(["msx"], MEFB, [])
