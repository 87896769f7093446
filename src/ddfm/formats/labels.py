"""Maps of numbered sources as files: each sample is a source's number, counted from 1."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image as PILImage

from ddfm.errors import InputError
from ddfm.formats.atomic import check_target, prepare_folder, write_whole
from ddfm.timing import stage

# Of sources from the first on: eight that the colour-blind tell apart (Okabe and Ito 2008), then anew.
COLOURS = (
    (0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167),
    (86, 180, 233), (213, 94, 0), (240, 228, 66), (128, 128, 128),
)  # fmt: skip


def check_labels(path: Path) -> None:
    """Find out before the work whether the map can be written. Raises InputError."""
    if path.suffix.lower() not in (".png", ".tif", ".tiff"):
        raise InputError(f"{path}: the source map is written as a PNG or TIFF; name a .png or .tif file")
    check_target(path)
    prepare_folder(path.parent)


@stage("write")
def write_labels(path: Path, labels: NDArray[np.uint8]) -> None:
    """Write a map of numbers, (H, W), whole or not at all: PNG with a palette, or TIFF of 8 bits."""
    buffer = io.BytesIO()
    if path.suffix.lower() == ".png":
        picture = PILImage.fromarray(labels)
        picture.putpalette([0, 0, 0, *(part for k in range(255) for part in COLOURS[k % len(COLOURS)])])
        picture.save(buffer, "PNG")
    else:
        about = "number of the source that counts most, from 1"
        tifffile.imwrite(buffer, labels, compression="zlib", description=about, software=False, metadata=None)
    write_whole(path, buffer.getvalue())
