"""Where thermogram and photograph lie to each other, and the temperatures that lie on the fused picture."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

from ddfm.demo.thermogram import flir_file
from ddfm.errors import InputError
from ddfm.formats.radiometric import Thermogram, read_thermogram, thermogram_of
from ddfm.fusion.options import Options
from ddfm.pictures.image import from_array
from ddfm.registration import register
from ddfm.thermal.place import place
from tests.formats.test_radiometric import warmth

OPTIONS = Options()
DOT = (9, 20)  # row and column of a hot pixel


def scene(offset: tuple[int, int] = (12, -8), frame: int = 0) -> Thermogram:
    """A hot dot on a sensor of 24 x 32, and a photograph of 192 x 256 with a white dot at the same place."""
    temperatures = np.full((24, 32), 10.0)
    temperatures[DOT] = 50
    light = np.full((192, 256, 3), 60, np.uint8)
    pixel = 256 / 1.25 / 32  # of the sensor, in the photograph's pixels
    left, top = 128 + offset[0] - 16 * pixel, 96 + offset[1] - 12 * pixel
    row, column = (round(edge + place * pixel) for edge, place in ((top, DOT[0]), (left, DOT[1])))
    light[row : row + 6, column : column + 6] = 255
    if frame:
        light[:frame] = light[-frame:] = light[:, :frame] = light[:, -frame:] = 0
    stored = io.BytesIO()
    PILImage.fromarray(light).save(stored, "JPEG", quality=98)
    return thermogram_of(flir_file(temperatures, stored.getvalue(), offset=offset), "a.jpg")


@pytest.mark.parametrize("offset", [(0, 0), (12, -8), (-20, 15)])
def test_photograph_and_readings_meet(offset: tuple[int, int]) -> None:
    placed = place(scene(offset), None, OPTIONS)
    thermal, light = placed.images
    assert thermal.size == light.size == placed.readings.shape
    hot, white = (
        np.argwhere(plane > plane.min() + 0.8 * np.ptp(plane)).mean(0)
        for plane in (placed.readings, light.pixels[..., 0])
    )
    assert np.abs(hot - white).max() < 1
    warm = np.argwhere(thermal.pixels[..., 0] > 0.8).mean(0)
    assert np.abs(hot - warm).max() < 1
    at = placed.pixel(DOT[1], DOT[0])
    assert at is not None
    assert np.abs(np.array(at[::-1]) - hot).max() < 4


def test_temperatures_are_between_those_of_the_sensor() -> None:
    placed = place(scene(), None, OPTIONS)
    own = placed.thermogram.readings
    assert (placed.readings.min(), placed.readings.max()) == pytest.approx((own.min(), own.max()), abs=6)
    assert placed.readings.max() <= own.max()
    # Of an even slope they lie on the slope.
    slope = replace(placed, thermogram=thermogram_of(flir_file(warmth()), "a.jpg"))
    x, y = placed.at[..., 0].clip(0, 31), placed.at[..., 1].clip(0, 23)
    assert np.abs(slope.readings - (-20 + 100 * (x + y) / 54)).max() < 0.05


def test_a_frame_around_the_photograph_is_left_out() -> None:
    placed = place(scene((0, 0), frame=30), None, OPTIONS)
    assert placed.images[1].pixels.min() > 0.1
    assert placed.readings.shape[0] <= 192 - 60
    at = placed.pixel(DOT[1], DOT[0])
    assert at is not None
    assert placed.images[1].pixels[at[1], at[0]].mean() > 0.8


def test_what_a_file_lacks_is_named() -> None:
    with pytest.raises(InputError, match=r"a\.jpg: the file holds no photograph; name one"):
        place(thermogram_of(flir_file(np.eye(24) * 30), "a.jpg"), None, OPTIONS)
    with pytest.raises(InputError, match="does not show what the sensor saw"):
        place(scene((5000, 0)), None, OPTIONS)
    photograph = from_array(np.full((48, 60, 3), (1, 2, 3), np.uint8), "b.png")
    with pytest.raises(InputError, match="--register aligns them"):
        place(scene(), photograph, OPTIONS)
    assert place(scene(), photograph, Options(resize=True)).readings.shape == (48, 60)


def test_registration_goes_on_from_the_files_offsets(street: bytes) -> None:
    """The street with a wrong offset: what is found is that it is wrong by that much."""
    right = thermogram_of(street, "right.jpg")
    assert right.box is not None
    shift = 12.0
    left, top, *others = right.box
    moved = (left + shift, top, others[0] + shift, others[1])
    wrong = Thermogram(**{**vars(right), "box": moved})
    placed = place(wrong, None, Options(register="affine"))
    aligned = place(right, None, OPTIONS)
    # The same pixel of the photograph lies at the same place of the sensor, whatever the file said.
    start = round(moved[0]) - round(left)
    both = placed.at[:, : aligned.at.shape[1] - start] - aligned.at[: len(placed.at), start:]
    assert np.median(np.abs(both[placed.shown[:, : both.shape[1]]])) < 0.5
    assert np.isnan(placed.readings[~placed.shown]).all()
    assert np.isfinite(placed.readings[placed.shown]).all()


def test_the_made_up_street_is_aligned_by_its_offsets(street: bytes) -> None:
    placed = place(thermogram_of(street, "street.jpg"), None, OPTIONS)
    thermal, light = placed.images
    registration = register(thermal.pixels, light.pixels, "affine")
    assert registration.confidence > 0.3
    residual = np.linalg.norm(registration.flow, axis=2).mean() / (640 / 1.12 / 256)
    assert residual < 0.75


def test_by_default_wrong_offsets_are_corrected(street: bytes) -> None:
    right = thermogram_of(street, "right.jpg")
    assert right.box is not None
    left, top, last, bottom = right.box
    wrong = replace(right, box=(left + 18, top - 11, last + 18, bottom - 11))
    found = place(wrong, None, OPTIONS, refine=True)
    assert found.thermogram.box == pytest.approx(right.box, abs=2.0)
    assert "beside the file's offsets" in found.how
    assert found.shown.all()
    assert place(wrong, None, OPTIONS).thermogram.box == wrong.box
    # What is far from what the file says is not believed.
    beyond = replace(right, box=(left + 90, top, last + 90, bottom))
    assert place(beyond, None, OPTIONS, refine=True).thermogram.box == beyond.box


def test_pictures_that_say_nothing_leave_the_files_offsets() -> None:
    found = place(scene(), None, OPTIONS, refine=True)
    assert found.thermogram.box == scene().box
    assert found.how.startswith("photograph placed by the file's offsets (")


@pytest.mark.slow
def test_by_default_a_real_files_parallax_is_corrected(data: Path) -> None:
    for name in ("flir_example.jpg", "T640.jpg"):
        placed = place(read_thermogram(data / "thermal" / name), None, OPTIONS, refine=True)
        thermal, light = placed.images
        registration = register(thermal.pixels, light.pixels, "affine")
        registration.check("thermal", "visible")
        box = placed.thermogram.box
        assert box is not None
        pixel = (box[2] - box[0]) / placed.thermogram.size[1]
        assert np.linalg.norm(registration.flow, axis=2).mean() / pixel < 3, name
