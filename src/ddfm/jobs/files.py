"""Fuse one set of files: read, check, fuse, write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddfm.errors import InputError
from ddfm.formats.files import read_whole
from ddfm.formats.heatmap import check_std, picture_path, write_std
from ddfm.formats.labels import check_labels, write_labels
from ddfm.formats.paths import check_paths, numbered
from ddfm.formats.pictures import check_writable, read_8bit, read_image, write_image
from ddfm.formats.radiometric import radiometric_source, thermogram_of
from ddfm.formats.volumes import VolumeRange
from ddfm.fusion.options import Options
from ddfm.fusion.pipeline import Callback, Fusion, check_colour, no_callback
from ddfm.fusion.restore import template
from ddfm.fusion.result import FusionResult
from ddfm.fusion.task import Choice
from ddfm.pictures.image import Image, from_array
from ddfm.pictures.ranges import RangeChoice
from ddfm.thermal.draw import drawn
from ddfm.thermal.files import check_table, check_temperatures, write_table, write_temperatures
from ddfm.thermal.options import ThermalOptions
from ddfm.thermal.place import Placed, place

NO_THERMAL = ThermalOptions()


@dataclass(frozen=True)
class Outputs:
    """Name the files of one fusion's results, or the folders of many.

    Attributes:
        fused: the picture.
        std: how far its luminance can be relied on; None if nobody asked.
        report: a picture to judge the registration by; None if nobody asked.
        source_map: which source counts most at each pixel; None if nobody asked.
        temperatures: those of each fused pixel; None if nobody asked.
        table: a file with a line of numbers for each thermogram, for folders, too; None if nobody asked.
    """

    fused: Path
    std: Path | None = None
    report: Path | None = None
    source_map: Path | None = None
    temperatures: Path | None = None
    table: Path | None = None

    @property
    def named(self) -> list[Path]:
        """List all that are asked for, and of which each fusion has one of its own."""
        asked = (self.fused, self.std, self.report, self.source_map, self.temperatures)
        return [path for path in asked if path is not None]

    def files(self, sources: int) -> list[Path]:
        """Return every file that a fusion of so many sources may write, pictures beside others included."""
        files = [self.fused]
        if self.std is not None:
            files += [self.std, picture_path(self.std)]
        if self.report is not None:
            files += dict.fromkeys(report_paths(self.report, sources))
        others = (self.source_map, self.temperatures, self.table)
        return files + [path for path in others if path is not None]


@dataclass(frozen=True)
class Given:
    """Hold the sources of one fusion, as they were read and brought into one view.

    Attributes:
        images: of one size, in the order in which they were given.
        placed: the thermogram among them; None if there is none.
    """

    images: list[Image]
    placed: Placed | None = None

    def choice(self, options: Options) -> Choice | None:
        """Return the task, if it need not be found out: that of a thermogram and its photograph."""
        known = self.placed is not None and options.finds_task
        return Choice("infrared", "") if known else None


def fuse_files(
    paths: Sequence[Path],
    outputs: Outputs,
    fusion: Fusion,
    ranges: Sequence[VolumeRange],
    callback: Callback = no_callback,
    thermal: ThermalOptions = NO_THERMAL,
) -> tuple[FusionResult, Given]:
    """Fuse one set of files and write the result; return it with the sources.

    Args:
        paths: of the sources, in the order of ``ranges``; one, if it is a radiometric file with a photograph.
        outputs: files to write.
        fusion: options and prior; the prior is checked before anything is read.
        ranges: values that stand for black and white in each source; None for what the file says.
        callback: called after every sampling step.
        thermal: what only radiometric sources have.

    Raises:
        InputError: a source cannot be read or fused, or an output cannot be written.
    """
    check_paths([*paths, *fusion.options.mask_paths], outputs.files(len(paths)))
    fusion.check_prior()
    given = read_sources(paths, ranges, fusion, outputs, thermal)
    check_outputs(outputs, given.images, fusion.options.colour_from)
    (result,) = fusion.of([given.images], given.choice(fusion.options), callback)
    write_result(outputs, result, given.placed, thermal)
    if outputs.table and given.placed:
        write_table(outputs.table, [given.placed.thermogram])
    return result, given


def read_sources(
    paths: Sequence[Path],
    ranges: Sequence[VolumeRange],
    fusion: Fusion,
    outputs: Outputs,
    thermal: ThermalOptions = NO_THERMAL,
    choice: Choice | None = None,
) -> Given:
    """Read the sources and bring them to one size and view; draw the registration if that is asked."""
    choices = [plain_range(path, wanted) for path, wanted in zip(paths, ranges, strict=False)]
    number = radiometric_source(paths)
    if number is not None:
        if fusion.options.masks is not None:
            raise InputError(f"{paths[number]}: masks are not for radiometric files; leave --mask out")
        return read_thermal(paths, number, choices, fusion.options, outputs, thermal)
    if len(paths) < 2:
        raise InputError(f"{paths[0]}: is not a radiometric JPEG of FLIR's or DJI's; name a second source")
    if asked := [*thermal.named, *temperature_outputs(outputs)]:
        named = " and ".join(map(str, paths))
        raise InputError(f"{named}: not a radiometric JPEG and a photograph; {asked[0]} is for those alone")
    images = [read_image(path, wanted) for path, wanted in zip(paths, choices, strict=True)]
    report = outputs.report

    def write_report(k: int, picture: NDArray[np.uint8]) -> None:
        if report is not None:
            path = report_paths(report, len(paths))[k]
            write_image(path, from_array(picture, str(path)))

    for path in report_paths(report, len(paths)) if report is not None else ():
        check_writable(path, np.dtype(np.uint8), False)
    return Given(fusion.aligned(images, choice, write_report))


def plain_range(path: Path, wanted: VolumeRange) -> RangeChoice:
    """Return a picture's range. Raises InputError for a volume's window."""
    if wanted == "window":
        raise InputError(f"{path}: has no display window; give the range in numbers, or data")
    return wanted


def read_thermal(
    paths: Sequence[Path],
    number: int,
    ranges: Sequence[RangeChoice],
    options: Options,
    outputs: Outputs,
    thermal: ThermalOptions,
) -> Given:
    """Read a thermogram, the source of that number, and bring it and its photograph into one view."""
    path, report = paths[number], outputs.report
    thermogram = thermogram_of(read_whole(path), str(path), thermal.overrides)
    if thermal.needs_temperatures or temperature_outputs(outputs):
        thermogram.check_calibrated()
    photograph = None
    if len(paths) == 2:
        # A range without a source's number is one of temperatures.
        alike = ranges[0] == ranges[1]
        photograph = read_image(paths[1 - number], None if alike else ranges[1 - number])
    if report is not None:
        check_writable(report, np.dtype(np.uint8), False)

    def write_report(picture: NDArray[np.uint8]) -> None:
        if report is not None:
            write_image(report, from_array(picture, str(report)))

    refine = thermal.place == "auto"
    placed = place(thermogram, photograph, options, ranges[number], write_report, refine=refine)
    return Given(placed.images if number == 0 else placed.images[::-1], placed)


def temperature_outputs(outputs: Outputs) -> list[str]:
    """List the outputs asked for that only radiometric sources have, as the command line calls them."""
    named = {"--temperatures": outputs.temperatures, "--table": outputs.table}
    return [name for name, path in named.items() if path is not None]


def report_paths(report: Path, sources: int) -> list[Path]:
    """Return, for each source that may be moved, where its registration report goes."""
    return numbered(report, sources) if sources > 2 else [report] * sources


def check_outputs(outputs: Outputs, images: Sequence[Image], colour_from: int | None) -> None:
    """Raise InputError if a result cannot be written as what the outputs' names say."""
    check_colour([images], colour_from)
    depth = template(images, colour_from).depth
    check_writable(outputs.fused, depth, any(image.alpha is not None for image in images))
    if outputs.std:
        check_std(outputs.std, outputs.fused)
    if outputs.source_map:
        check_labels(outputs.source_map)
    if outputs.temperatures:
        check_temperatures(outputs.temperatures)
    if outputs.table:
        check_table(outputs.table)


def write_result(
    outputs: Outputs,
    result: FusionResult,
    placed: Placed | None = None,
    thermal: ThermalOptions = NO_THERMAL,
) -> Image:
    """Write the fused picture, drawn as asked, and whatever else was asked for; return that picture."""
    if outputs.temperatures and placed:
        write_temperatures(outputs.temperatures, placed)
    if outputs.std and result.std is not None:
        write_std(outputs.std, result.std)
    if outputs.source_map and result.source_map is not None:
        write_labels(outputs.source_map, result.source_map)
    image = result.image if placed is None else drawn(result.image, placed, thermal)
    write_image(outputs.fused, image)  # the last: where it is, all is
    return image


def read_8_bits(path: Path) -> Tensor:
    """Read an 8-bit image as (1, C, H, W) uint8: grey stays grey, anything coloured becomes RGB."""
    pixels = torch.from_numpy(read_8bit(path))
    return (pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1))[None]
