"""Colours by temperature, marks and scale."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PILImage

from ddfm.demo.thermogram import flir_file
from ddfm.errors import InputError
from ddfm.formats.radiometric import Overrides, thermogram_of
from ddfm.fusion.options import Options
from ddfm.pictures.image import Image
from ddfm.pictures.palettes import PALETTES, colour_of, encoded, linear_rgb, oklab, palette_colours, table
from ddfm.thermal.draw import drawn
from ddfm.thermal.measure import statistics
from ddfm.thermal.options import ThermalOptions
from ddfm.thermal.place import Placed, place

ORDERED = [name for name in PALETTES if name != "rainbow"]


def placed(limits: tuple[float, float] | None = None) -> Placed:
    """A ramp from 0 to 47 degrees to the right, and an even photograph."""
    ramp = np.broadcast_to(np.arange(48.0), (36, 48)).copy()
    ramp[5, 40], ramp[30, 3] = 80, -15
    stored = io.BytesIO()
    PILImage.new("RGB", (96, 72), (90, 90, 90)).save(stored, "JPEG", quality=95)
    found = thermogram_of(flir_file(ramp, stored.getvalue(), real_to_ir=1.0, offset=(0, 0)), "a.jpg")
    return place(found, None, Options(), limits)


def fused(light: NDArray[np.float32] | None = None) -> Image:
    """A fused picture: stripes."""
    stripes = np.broadcast_to(np.where(np.arange(72) // 6 % 2, 0.7, 0.4)[:, None, None], (72, 96, 3))
    return Image((stripes if light is None else light).astype(np.float32), np.dtype(np.uint8))


def lab(image: Image) -> NDArray[np.float64]:
    """The picture in Oklab."""
    return oklab(image.pixels.astype(np.float64))


def test_oklab_has_the_published_values() -> None:
    # Ottosson's own, of white, red and blue.
    expected = {"ffffff": (1, 0, 0), "ff0000": (0.628, 0.2249, 0.1258), "0000ff": (0.452, -0.0325, -0.3115)}
    for text, values in expected.items():
        assert oklab(colour_of(text)) == pytest.approx(values, abs=5e-4)
        assert encoded(linear_rgb(oklab(colour_of(text)))) == pytest.approx(colour_of(text), abs=1e-3)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("lava", "inferno"), ("arctic", "cividis"), ("viridis", "viridis"), ("rainbow", "turbo")],
)
def test_palettes_are_matplotlibs(ours: str, theirs: str) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    expected = matplotlib.colormaps[theirs](np.arange(256))[:, :3]
    difference = np.abs(encoded(linear_rgb(palette_colours(ours))) - expected)
    assert difference.mean() < 2 / 255
    assert difference.max() < 12 / 255


@pytest.mark.parametrize("name", ORDERED)
def test_warmer_is_lighter_in_every_palette_but_the_rainbow(name: str) -> None:
    assert (np.diff(palette_colours(name)[:, 0]) > 0).all()
    if name == "grey":
        return
    # In the picture, too, where it is equally light.
    across = oklab(table(name)[:, 128].astype(np.float64) / 255)[:, 0]
    assert (np.diff(across) > -0.005).all()
    assert across[-1] - across[0] > 0.2


@pytest.mark.parametrize("name", PALETTES)
def test_detail_is_the_fusions_and_colour_the_temperatures(name: str) -> None:
    view = placed((0, 47))
    striped = lab(drawn(fused(), view, ThermalOptions(palette=name)))
    # A light stripe is lighter than a dark one at any temperature ...
    column = striped[:, :, 0]
    assert (column[21] > column[15] + 0.05).all()
    # ... and of the same hue.
    if name != "grey":
        hue = np.arctan2(striped[..., 2], striped[..., 1])
        strong = np.hypot(striped[21, :, 1], striped[21, :, 2]) > 0.04
        turned = np.angle(np.exp(1j * (hue[21] - hue[15])))[strong]
        assert np.abs(turned).max() < 0.25


def test_a_range_makes_colours_mean_the_same() -> None:
    even = fused(np.full((72, 96, 3), 0.5, np.float32))
    narrow, wide = (drawn(even, placed(r), ThermalOptions(palette="iron")).pixels for r in ((0, 47), (0, 94)))
    assert not np.allclose(narrow, wide)
    # 20 of 0 to 47 degrees has the colour of 40 of 0 to 94: the pixels at twice the temperature.
    assert np.abs(narrow[40, 2 * 20] - wide[40, 2 * 40]).max() < 0.04


def test_pixels_that_the_sensor_did_not_see_keep_their_colour() -> None:
    view = placed()
    view.shown[:20] = False
    picture = fused(np.random.default_rng(0).random((72, 96, 3), np.float32))
    result = drawn(picture, view, ThermalOptions(palette="lava"))
    assert np.abs(result.pixels - picture.pixels)[:20].max() < 1 / 255
    assert np.abs(result.pixels - picture.pixels)[20:].mean() > 0.1


def test_an_isotherm_marks_what_lies_between() -> None:
    view, picture = placed(), fused()
    result = drawn(picture, view, ThermalOptions(isotherm=(20, 30)))
    changed = np.abs(result.pixels - np.rint(picture.pixels * 255) / 255).max(2) > 0.02
    assert np.array_equal(changed, (view.readings >= 20) & (view.readings <= 30))
    assert 0.1 < changed.mean() < 0.4


def test_marks_lie_where_the_temperatures_are() -> None:
    view = placed()
    found = statistics(view.thermogram)
    assert (found.coldest, found.hottest) == ((3, 30), (40, 5))
    assert (found.minimum, found.maximum) == pytest.approx((-15, 80), abs=0.1)
    plain = drawn(fused(), view, ThermalOptions(palette="iron"))
    result = drawn(fused(), view, ThermalOptions(palette="iron", annotate=True))
    assert result.size[0] == plain.size[0]
    assert result.size[1] > plain.size[1]  # the scale is to the right: pixels stay where they are
    changed = np.abs(result.pixels[:, :96] - plain.pixels).max(2) > 0.02
    for x, y in ((2 * 40, 2 * 5), (2 * 3, 2 * 30), (48, 36)):
        assert changed[y - 2 : y + 3, x - 2 : x + 3].any()
    assert changed.mean() < 0.5


def test_nothing_asked_changes_nothing() -> None:
    picture = fused()
    assert drawn(picture, placed(), ThermalOptions()) is picture


def test_options_are_checked() -> None:
    with pytest.raises(InputError, match="palette 'jet': not one of grey, iron"):
        ThermalOptions(palette="jet")
    for isotherm in ((30.0, 20.0), (float("nan"), 20.0)):
        with pytest.raises(InputError, match="the lower one first"):
            ThermalOptions(isotherm=isotherm)
    named = ThermalOptions(palette="iron", annotate=True, overrides=Overrides(emissivity=0.9)).named
    assert named == ["--palette", "--annotate", "--emissivity"]


def test_counts_have_no_marks() -> None:
    view = placed()
    counts = replace(view, thermogram=replace(view.thermogram, uncalibrated="because"))
    with pytest.raises(InputError, match=r"a\.jpg: has no temperatures: because"):
        drawn(fused(), counts, ThermalOptions(annotate=True))
