"""Pictures for the report: thumbnails, and crops of the place where the sources differ most."""

from __future__ import annotations

import base64
import io
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ddfm.benchmark.methods import GreyOrRgb

THUMBNAIL, CROP = 320, 320  # widths in pixels; shown at half of that and twice as sharp


class Window(NamedTuple):
    """A square of a picture: its upper left corner and its side, in pixels."""

    top: int
    left: int
    side: int


def most_different(a: GreyOrRgb, b: GreyOrRgb) -> Window:
    """Find the square whose luminances differ most in sum; its side is a quarter of the shorter one."""
    difference = np.abs(_grey(a) - _grey(b))
    side = max(min(difference.shape) // 4, 8)
    sums = np.pad(difference, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    totals = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    top, left = np.unravel_index(totals.argmax(), totals.shape)
    return Window(int(top), int(left), side)


def _grey(picture: GreyOrRgb) -> NDArray[np.float64]:
    return picture.astype(np.float64) @ ((0.299, 0.587, 0.114) if picture.shape[2] == 3 else (1.0,))


def thumbnail(picture: GreyOrRgb, window: Window) -> str:
    """Return the whole picture, small, with the window outlined, as a data URI."""
    image = _pil(picture).convert("RGB")
    scale = THUMBNAIL / image.width
    small = image.resize((THUMBNAIL, max(1, round(image.height * scale))), Image.Resampling.LANCZOS)
    corners = [round(scale * value) for value in (window.left, window.top)]
    far = [corner + max(2, round(scale * window.side)) - 1 for corner in corners]
    draw = ImageDraw.Draw(small)
    draw.rectangle((corners[0] - 2, corners[1] - 2, far[0] + 2, far[1] + 2), outline="black")
    draw.rectangle((corners[0] - 1, corners[1] - 1, far[0] + 1, far[1] + 1), outline=(255, 64, 96), width=2)
    return data_uri(small)


def crop(picture: GreyOrRgb, window: Window) -> str:
    """Return the window, enlarged, as a data URI."""
    top, left, side = window
    return data_uri(_pil(picture[top : top + side, left : left + side]).resize((CROP, CROP)))


def data_uri(image: Image.Image) -> str:
    """Return the image as a JPEG within a data URI."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=86, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _pil(picture: GreyOrRgb) -> Image.Image:
    return Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture)
