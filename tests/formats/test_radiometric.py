"""Files of thermal cameras: real ones beside ExifTool and the formula, made-up ones, damaged ones."""

from __future__ import annotations

import io
import json
import math
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PILImage

from ddfm.demo.thermogram import CALIBRATION, CONDITIONS, flir_file
from ddfm.errors import InputError
from ddfm.formats import jpeg
from ddfm.formats.limits import max_pixels
from ddfm.formats.pictures import read_image
from ddfm.formats.radiometric import Overrides, is_radiometric, read_thermogram, thermogram_of
from ddfm.jobs.info import describe
from ddfm.pictures.radiometry import Calibration, Conditions, celsius, counts_of
from tests.conftest import picture

FLIR = ("Flir_E40.jpg", "IR_2412.jpg", "T640.jpg", "ax8.jpg", "flir_example.jpg")
DJI = {
    "H20T.jpg": "ZH20T",
    "M2EA_DJI_0002_R.JPG": "MAVIC2-ENTERPRISE-ADVANCED",
    "M30T_DJI_0001_R.JPG": "M30T",
    "M4T_DJI_0001_R.JPG": "M4T",
}


FORMULA = (
    *("PlanckR1", "PlanckB", "PlanckF", "PlanckO", "PlanckR2", "Emissivity", "ObjectDistance"),
    *("ReflectedApparentTemperature", "AtmosphericTemperature", "RelativeHumidity"),
    *("IRWindowTemperature", "IRWindowTransmission", "AtmosphericTransX"),
    *("AtmosphericTransAlpha1", "AtmosphericTransAlpha2", "AtmosphericTransBeta1", "AtmosphericTransBeta2"),
)


def photograph(width: int = 64, height: int = 48, kind: str = "JPEG") -> bytes:
    """A small photograph."""
    data = io.BytesIO()
    PILImage.fromarray(picture(height, width, 3, np.uint8, 7)).save(data, kind)
    return data.getvalue()


def warmth(height: int = 24, width: int = 32) -> NDArray[np.float64]:
    """A small scene, in degrees Celsius."""
    return -20 + 100 * np.add.outer(np.arange(height), np.arange(width)) / (height + width - 2)


def by_the_published_formula(raw: NDArray[np.float64], tags: dict[str, float]) -> NDArray[np.float64]:
    """Temperatures of counts by ExifTool's tags, term by term as Thermimage's raw2temp is documented."""

    def radiance(degrees: float) -> float:
        planck = math.exp(tags["PlanckB"] / (degrees + 273.15)) - tags["PlanckF"]
        return tags["PlanckR1"] / (tags["PlanckR2"] * planck) - tags["PlanckO"]

    air, emissivity = tags["AtmosphericTemperature"], tags["Emissivity"]
    window = tags["IRWindowTransmission"]
    vapour = tags["RelativeHumidity"] * math.exp(
        1.5587 + 6.939e-2 * air - 2.7816e-4 * air**2 + 6.8455e-7 * air**3
    )
    terms = []
    for n in "12":
        exponent = tags[f"AtmosphericTransAlpha{n}"] + tags[f"AtmosphericTransBeta{n}"] * math.sqrt(vapour)
        terms.append(math.exp(-math.sqrt(tags["ObjectDistance"] / 2) * exponent))
    x = tags["AtmosphericTransX"]
    tau = x * terms[0] + (1 - x) * terms[1]
    of_object = raw / emissivity / tau / window / tau
    of_object -= (1 - tau) / emissivity / tau * radiance(air)
    of_object -= (1 - tau) / emissivity / tau / window / tau * radiance(air)
    of_object -= (1 - window) / emissivity / tau / window * radiance(tags["IRWindowTemperature"])
    of_object -= (1 - emissivity) / emissivity * radiance(tags["ReflectedApparentTemperature"])
    inner = tags["PlanckR1"] / (tags["PlanckR2"] * (of_object + tags["PlanckO"])) + tags["PlanckF"]
    return tags["PlanckB"] / np.log(inner) - 273.15


def exiftool(path: Path, *options: str) -> bytes:
    """What ExifTool prints."""
    return subprocess.run(["exiftool", *options, str(path)], capture_output=True, check=True).stdout


def exiftool_counts(path: Path) -> NDArray[np.float64]:
    """The counts as ExifTool extracts them; of PNG they have their bytes in the wrong order."""
    with PILImage.open(io.BytesIO(exiftool(path, "-b", "-RawThermalImage"))) as extracted:
        counts = np.asarray(extracted).astype(np.uint16)
        return (counts.byteswap() if extracted.format == "PNG" else counts).astype(np.float64)


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="ExifTool is not installed")
@pytest.mark.parametrize("name", FLIR)
def test_temperatures_are_those_of_exiftool_and_the_published_formula(data: Path, name: str) -> None:
    path = data / "thermal" / name
    (tags,) = json.loads(exiftool(path, "-j", "-n", "-FLIR:all"))
    texts = tags["CameraModel"], tags["LensModel"]
    tags = {name: float(value) for name, value in tags.items() if name in FORMULA}
    assert len(tags) == len(FORMULA)
    expected = by_the_published_formula(exiftool_counts(path), tags)
    found = read_thermogram(path)
    assert found.readings.shape == expected.shape
    assert np.abs(found.readings - expected).max() < 0.005
    assert (found.camera, found.lens) == texts


def test_temperatures_are_those_that_thermimage_documents(data: Path) -> None:
    # Its documentation prints the first ones of IR_2412.jpg, column by column: 23.7 23.6 23.6 23.6 23.7.
    readings = read_thermogram(data / "thermal" / "IR_2412.jpg").readings
    assert readings[:5, 0].round(1).tolist() == pytest.approx([23.7, 23.6, 23.6, 23.6, 23.7])


def test_the_digital_zoom_is_taken_out_of_the_photographs_ratio(data: Path) -> None:
    # Found by hand on the fuses of T640.jpg, saved at a zoom of 1.6: 1.84 pixels of the photograph for one of
    # the sensor, the sensor's middle at (1138, 958).
    box = read_thermogram(data / "thermal" / "T640.jpg").box
    assert box is not None
    assert (box[2] - box[0]) / 640 == pytest.approx(1.84, abs=0.03)
    assert ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2) == pytest.approx((1138, 958), abs=16)


@pytest.mark.parametrize("name", DJI)
def test_djis_counts_are_read_and_its_temperatures_refused_by_model(data: Path, name: str) -> None:
    found = read_thermogram(data / "thermal" / name)
    assert found.size == (512, 640)
    assert found.camera == DJI[name]
    if found.conditions is None:  # without the library that knows DJI's way
        with pytest.raises(InputError, match=rf"{name}: has no temperatures.*{DJI[name]}.*ddfm\[dji\]"):
            found.check_calibrated()
        # A picture; with the bytes in the wrong order neighbours differ by hundreds.
        assert np.median(np.abs(np.diff(found.readings))) < 40


def test_every_real_file_is_described(data: Path) -> None:
    paths = sorted((data / "thermal").iterdir())
    assert len(paths) == 9
    for path in paths:
        text = "\n".join(describe(path).lines())
        assert "camera:" in text, path.name
        assert ("emissivity 0.95" in text) == ("no temperatures:" not in text), path.name


@pytest.mark.parametrize("packed", [True, False])
def test_what_is_written_is_read(packed: bool) -> None:
    found = thermogram_of(flir_file(warmth(), photograph(), packed=packed), "a.jpg")
    assert np.abs(found.readings - warmth()).max() < 0.05  # a count is up to a twentieth of a degree
    assert (found.camera, found.lens, found.maker) == ("made-up camera", "made-up lens", "FLIR")
    assert found.conditions is not None
    assert found.conditions.emissivity == pytest.approx(CONDITIONS.emissivity)
    assert found.conditions.reflected == pytest.approx(CONDITIONS.reflected, abs=1e-4)
    assert found.rated == pytest.approx((-20, 120), abs=1e-3)
    assert found.photograph is not None
    assert found.photograph.size == (48, 64)
    # 64 / 1.25 pixels wide, as high by the sensor's aspect, 12 to the right of the middle and 8 above it.
    assert found.box == pytest.approx((32 + 12 - 25.6, 24 - 8 - 19.2, 32 + 12 + 25.6, 24 - 8 + 19.2))


def test_a_zoomed_file_has_the_same_place_for_its_photograph() -> None:
    plain, zoomed = (thermogram_of(flir_file(warmth(), photograph(), zoom=z), "a.jpg") for z in (1, 2))
    assert plain.box == pytest.approx(zoomed.box)


def test_conditions_can_be_given() -> None:
    data = flir_file(warmth())
    assert np.allclose(thermogram_of(data, "a").readings, thermogram_of(data, "a", Overrides()).readings)
    # A body that reflects a cold sky is warmer than it looks; one that reflects its own warmth is not.
    shiny = thermogram_of(data, "a", Overrides(emissivity=0.5)).readings
    assert shiny[-1, -1] > warmth()[-1, -1] + 10
    assert shiny[0, 0] < warmth()[0, 0]
    for changed in (Overrides(emissivity=0), Overrides(emissivity=1.5), Overrides(distance=-1),
                    Overrides(reflected=float("nan"))):  # fmt: skip
        with pytest.raises(InputError, match=r"a\.jpg: .* is not within"):
            thermogram_of(data, "a.jpg", changed)


def test_counts_and_temperatures_are_inverse() -> None:
    temperatures = np.linspace(-20, 250, 200)
    window = Conditions(0.8, 30.0, 12.0, air=25.0, window=18.0, transmission=0.7, humidity=0.9)
    calibration = Calibration(17837.5, 1450.4, 1.0, -1143.0, 0.0123)
    counts = counts_of(temperatures, calibration, window)
    assert np.abs(celsius(np.rint(counts).astype(np.uint16), calibration, window) - temperatures).max() < 0.05
    assert np.isnan(celsius(np.array([0], np.uint16), CALIBRATION, CONDITIONS)).all()  # colder than all


def test_a_black_body_next_to_the_lens_needs_no_correction() -> None:
    near = Conditions(1.0, 0.0, 99.0, air=-30.0, humidity=1.0)
    c = CALIBRATION
    for degrees in (-20.0, 20.0, 80.0):
        closed = c.r1 / (c.r2 * (math.exp(c.b / (degrees + 273.15)) - c.f)) - c.o
        assert counts_of(np.array([degrees]), c, near)[0] == pytest.approx(closed)


def test_any_reader_of_pictures_gets_the_temperatures(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(flir_file(warmth()))
    image = read_image(tmp_path / "a.jpg")
    assert image.depth == np.float32
    assert not image.is_colour
    assert np.abs(image.values()[..., 0] - warmth()).max() < 0.05


def test_a_damaged_photograph_leaves_the_temperatures() -> None:
    found = thermogram_of(flir_file(warmth(), photograph())[:-1], "a.jpg")
    assert found.photograph is not None
    whole = photograph()
    middle = flir_file(warmth(), whole).replace(whole[:300], whole[:2] + bytes(298))
    found = thermogram_of(middle, "a.jpg")
    assert found.photograph is None
    assert "photograph" in found.missing


def test_damage_is_named() -> None:
    whole = flir_file(warmth(240, 320), photograph(), packed=False)  # of several segments
    assert sum(c.startswith(b"FLIR") for _, c in jpeg.segments(whole)) > 1
    with pytest.raises(InputError, match=r"a\.jpg: is cut short: part 3 of 3"):
        thermogram_of(whole[:66_000], "a.jpg")
    with pytest.raises(InputError, match=r"a\.jpg: .*cut short"):
        thermogram_of(whole[:3000], "a.jpg")
    with pytest.raises(InputError, match="no header of a known version"):
        thermogram_of(whole.replace(b"FFF\0", b"XXX\0"), "a.jpg")
    with pytest.raises(InputError, match="has temperatures for 0%"):
        thermogram_of(flir_file(warmth()), "a.jpg", Overrides(emissivity=0.05, reflected=400))
    with max_pixels(500), pytest.raises(InputError, match="768 pixels, more than the 500"):
        thermogram_of(flir_file(warmth()), "a.jpg")


def test_damaged_files_are_read_or_refused_in_one_line() -> None:
    whole = flir_file(warmth(), photograph())
    start, end = whole.index(b"FLIR\0"), whole.index(b"\xff\xdb")
    rng, refused, read, other = np.random.default_rng(3), 0, 0, 0
    for _ in range(400):
        data = bytearray(whole)
        for place in rng.integers(start, min(end, start + 2000) if rng.random() < 0.7 else end, 4):
            data[place] = int(rng.choice([0, 1, 127, 128, 255])) if rng.random() < 0.8 else data[place] ^ 4
        cut = bytes(data[: rng.integers(200, len(data))] if rng.random() < 0.3 else data)
        if not is_radiometric(cut):
            other += 1
            continue
        try:
            found = thermogram_of(cut, "a.jpg")
        except InputError as error:
            refused += str(error).startswith("a.jpg")
            continue
        read += 1
        assert np.isfinite(found.readings).mean() >= 0.5
    assert refused + read + other == 400  # every refusal names the file
    assert min(refused, read) > 50
