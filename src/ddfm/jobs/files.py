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
from ddfm.formats.heatmap import check_std, picture_path, write_std
from ddfm.formats.labels import check_labels, write_labels
from ddfm.formats.paths import check_paths, numbered
from ddfm.formats.pictures import check_writable, read_8bit, read_image, write_image
from ddfm.formats.volumes import VolumeRange
from ddfm.fusion.pipeline import Callback, Fusion, check_colour, no_callback
from ddfm.fusion.restore import template
from ddfm.fusion.result import FusionResult
from ddfm.fusion.task import Choice
from ddfm.pictures.image import Image, from_array


@dataclass(frozen=True)
class Outputs:
    """Name the files of one fusion's results, or the folders of many.

    Attributes:
        fused: the picture.
        std: how far its luminance can be relied on; None if nobody asked.
        report: a picture to judge the registration by; None if nobody asked.
        source_map: which source counts most at each pixel; None if nobody asked.
    """

    fused: Path
    std: Path | None = None
    report: Path | None = None
    source_map: Path | None = None

    @property
    def named(self) -> list[Path]:
        """List all that are asked for."""
        asked = (self.fused, self.std, self.report, self.source_map)
        return [path for path in asked if path is not None]

    def files(self, sources: int) -> list[Path]:
        """Return every file that a fusion of so many sources may write, pictures beside others included."""
        files = [self.fused]
        if self.std is not None:
            files += [self.std, picture_path(self.std)]
        if self.report is not None:
            files += dict.fromkeys(report_paths(self.report, sources))
        if self.source_map is not None:
            files.append(self.source_map)
        return files


def fuse_files(
    paths: Sequence[Path],
    outputs: Outputs,
    fusion: Fusion,
    ranges: Sequence[VolumeRange],
    callback: Callback = no_callback,
) -> tuple[FusionResult, list[Image]]:
    """Fuse one set of files and write the result; return it with the sources.

    Args:
        paths: of the sources, in the order of ``ranges``.
        outputs: files to write.
        fusion: options and prior; the prior is checked before anything is read.
        ranges: values that stand for black and white in each source; None for what the file says.
        callback: called after every sampling step.

    Raises:
        InputError: a source cannot be read or fused, or an output cannot be written.
    """
    check_paths(paths, outputs.files(len(paths)))
    fusion.check_prior()
    images = read_sources(paths, ranges, fusion, outputs.report)
    check_outputs(outputs, images, fusion.options.colour_from)
    (result,) = fusion.of([images], callback=callback)
    write_result(outputs, result)
    return result, images


def read_sources(
    paths: Sequence[Path],
    ranges: Sequence[VolumeRange],
    fusion: Fusion,
    report: Path | None,
    choice: Choice | None = None,
) -> list[Image]:
    """Read the sources and bring them to one size and view; draw the registration if that is asked."""
    images = []
    for path, wanted in zip(paths, ranges, strict=True):
        if wanted == "window":
            raise InputError(f"{path}: has no display window; give the range in numbers, or data")
        images.append(read_image(path, wanted))

    def write_report(k: int, picture: NDArray[np.uint8]) -> None:
        if report is not None:
            path = report_paths(report, len(paths))[k]
            write_image(path, from_array(picture, str(path)))

    for path in report_paths(report, len(paths)) if report is not None else ():
        check_writable(path, np.dtype(np.uint8), False)
    return fusion.aligned(images, choice, write_report)


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


def write_result(outputs: Outputs, result: FusionResult) -> None:
    """Write the fused picture and, if they were asked for, its uncertainty and the map of its sources."""
    if outputs.std and result.std is not None:
        write_std(outputs.std, result.std)
    if outputs.source_map and result.source_map is not None:
        write_labels(outputs.source_map, result.source_map)
    write_image(outputs.fused, result.image)  # the last: where it is, all is


def read_8_bits(path: Path) -> Tensor:
    """Read an 8-bit image as (1, C, H, W) uint8: grey stays grey, anything coloured becomes RGB."""
    pixels = torch.from_numpy(read_8bit(path))
    return (pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1))[None]
