"""What `ddfm fuse` does with pictures, be it one set of them or a folder of sets: read, check, write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ddfm.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ddfm.formats.volumes import VolumeRange
    from ddfm.fusion.result import FusionResult
    from ddfm.pictures.image import Image


class Places(NamedTuple):
    """Where results go: files, or folders of them."""

    fused: Path
    spread: Path | None
    report: Path | None


def read_sources(
    paths: Sequence[Path], ranges: Sequence[VolumeRange], options: dict[str, Any], report: Path | None
) -> list[Image]:
    """The sources in one size and view, with a picture of how they were registered if that is wanted."""
    import numpy as np

    from ddfm.formats.pictures import check_writable, read_image, write_image
    from ddfm.fusion.sources import match_sizes
    from ddfm.pictures.image import from_array
    from ddfm.registration.bring import registered

    images = []
    for path, wanted in zip(paths, ranges, strict=True):
        if wanted == "window":
            raise InputError(f"{path}: has no display window; give the range in numbers, or data")
        images.append(read_image(path, wanted))
    if options["register"] is None:
        return match_sizes(images, options["resize"])

    def write_report(k: int, picture: NDArray[np.uint8]) -> None:
        if report is not None:
            path = report if len(paths) == 2 else report.with_stem(f"{report.stem}-{k + 1}")
            write_image(path, from_array(picture, str(path)))

    if report is not None:
        check_writable(report, np.dtype(np.uint8), False)
    return registered(images, options["register"], write_report)


def check_outputs(places: Places, images: Sequence[Image], colour_from: int | None) -> None:
    from ddfm.formats.heatmap import check_spread
    from ddfm.formats.pictures import check_writable
    from ddfm.fusion.pipeline import check_colour
    from ddfm.fusion.restore import template

    check_colour([images], colour_from)
    depth = template(images, colour_from).depth
    check_writable(places.fused, depth, any(image.alpha is not None for image in images))
    if places.spread:
        check_spread(places.spread, places.fused)


def write_result(places: Places, result: FusionResult) -> None:
    from ddfm.formats.heatmap import write_spread
    from ddfm.formats.pictures import write_image

    write_image(places.fused, result.image)
    if places.spread and result.std is not None:
        write_spread(places.spread, result.std)
