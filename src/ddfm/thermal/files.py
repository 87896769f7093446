"""Temperatures as files: a float TIFF that lies on the fused picture, and a table of many files."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

import tifffile

from ddfm.errors import InputError
from ddfm.formats.atomic import check_target, prepare_folder, write_whole
from ddfm.formats.radiometric import Thermogram
from ddfm.formats.tables import cell
from ddfm.thermal.measure import statistics
from ddfm.thermal.place import Placed
from ddfm.timing import stage

COLUMNS = (
    "file", "camera", "minimum", "mean", "maximum", "coldest_x", "coldest_y", "hottest_x", "hottest_y",
    "emissivity", "distance", "reflected",
)  # fmt: skip


def check_temperatures(path: Path) -> None:
    """Find out before the work whether temperatures can be written there. Raises InputError."""
    if path.suffix.lower() not in (".tif", ".tiff"):
        raise InputError(f"{path}: temperatures are written as a float TIFF; name a .tif file")
    check_target(path)
    prepare_folder(path.parent)


@stage("write")
def write_temperatures(path: Path, placed: Placed) -> None:
    """Write the temperature of each pixel of the fused picture, NaN where the sensor saw nothing."""
    placed.thermogram.check_calibrated()
    buffer = io.BytesIO()
    about = "degrees Celsius of each pixel of the fused picture; NaN: not seen by the sensor"
    tifffile.imwrite(
        buffer, placed.readings, compression="zlib", description=about, software=False, metadata=None
    )
    write_whole(path, buffer.getvalue())


def check_table(path: Path) -> None:
    """Find out before the work whether a table can be written there. Raises InputError."""
    if path.suffix.lower() != ".csv":
        raise InputError(f"{path}: the table is written as CSV; name a .csv file")
    check_target(path)
    prepare_folder(path.parent)


@stage("write")
def write_table(path: Path, thermograms: Iterable[Thermogram]) -> None:
    """Write a line of numbers for each thermogram, in degrees Celsius and metres; places in pixels from 0."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for thermogram in thermograms:
        found, at = statistics(thermogram), thermogram.conditions
        assert at is not None  # `statistics` refuses others
        degrees = [f"{value:.2f}" for value in (found.minimum, found.mean, found.maximum)]
        conditions = [f"{value:.4g}" for value in (at.emissivity, at.distance, at.reflected)]
        names = [cell(Path(thermogram.name).name), cell(thermogram.camera)]
        writer.writerow([*names, *degrees, *found.coldest, *found.hottest, *conditions])
    write_whole(path, text.getvalue().encode())
