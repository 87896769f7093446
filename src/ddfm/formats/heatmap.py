"""Uncertainty as files: a 16-bit TIFF for programs and, beside it, a picture with its scale for eyes."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image as PILImage
from PIL import ImageDraw, ImageFont

from ddfm.errors import InputError
from ddfm.formats.atomic import check_target, prepare_folder, write_whole
from ddfm.timing import stage

TOP = 65535  # stands for the range from black to white
# Viridis (Smith and van der Walt 2015) at nine places: even steps in it look even, in grey, too.
COLOURS = np.array(
    [
        (68, 1, 84),
        (71, 44, 122),
        (59, 81, 139),
        (44, 113, 142),
        (33, 144, 141),
        (39, 173, 129),
        (92, 200, 99),
        (170, 220, 50),
        (253, 231, 37),
    ]
)
SCALE_ENDS = (1, 2, 5, 10, 20, 50, 128)  # grey levels
COVERED = 0.995  # share of the pixels that the scale has to hold
BAR, MARGIN, TEXT = 14, 8, 14  # pixels


def check_std(path: Path, output: Path) -> None:
    """Find out before the work whether the two files can be written. Raises InputError."""
    if path.suffix.lower() not in (".tif", ".tiff"):
        raise InputError(f"{path}: the uncertainty is written as a 16-bit TIFF; name a .tif file")
    if output.absolute() in (path.absolute(), picture_path(path).absolute()):
        raise InputError(f"{path}: it or its picture would take the place of {output}; name another file")
    check_target(path)
    check_target(picture_path(path))
    prepare_folder(path.parent)


@stage("write")
def write_std(path: Path, std: NDArray[np.float32]) -> None:
    """Write a standard deviation, (H, W) in shares of the range, as a TIFF (65535 is 1) and as a picture."""
    buffer = io.BytesIO()
    samples = np.rint(std.astype(np.float64) * TOP).clip(0, TOP).astype(np.uint16)
    about = f"standard deviation of the fused luminance; {TOP} is the range from black to white"
    tifffile.imwrite(buffer, samples, compression="zlib", description=about, software=False, metadata=None)
    picture = io.BytesIO()
    draw_std(std).save(picture, "PNG")
    write_whole(path, buffer.getvalue())
    write_whole(picture_path(path), picture.getvalue())


def picture_path(path: Path) -> Path:
    """Return where the colour picture of a standard deviation goes."""
    return path.with_suffix(".png")


def draw_std(std: NDArray[np.float32]) -> PILImage.Image:
    """Draw the standard deviation in colours, its scale in 8-bit grey levels below."""
    grey_levels = 255 * std.astype(np.float64)
    needed = np.quantile(grey_levels, COVERED)
    end = next((end for end in SCALE_ENDS if end >= needed), SCALE_ENDS[-1])
    height, width = std.shape
    picture = PILImage.new("RGB", (width, height + BAR + TEXT + 3 * MARGIN), "white")
    picture.paste(PILImage.fromarray(coloured(grey_levels / end)), (0, 0))
    ramp = np.broadcast_to(np.linspace(0, 1, max(1, width - 2 * MARGIN)), (BAR, max(1, width - 2 * MARGIN)))
    picture.paste(PILImage.fromarray(coloured(ramp)), (MARGIN, height + MARGIN))
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(TEXT)
    line = height + 2 * MARGIN + BAR
    draw.text((MARGIN, line), "0", "black", font, anchor="lt")
    draw.text((width - MARGIN, line), f"{end} of 255", "black", font, anchor="rt")
    return picture


def coloured(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Colour values in [0, 1], larger ones as 1: (H, W) to (H, W, 3)."""
    places = np.linspace(0, 1, len(COLOURS))
    channels = [np.interp(values, places, COLOURS[:, channel]) for channel in range(3)]
    return np.rint(np.stack(channels, -1)).astype(np.uint8)
