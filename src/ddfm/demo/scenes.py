"""The example pairs of ``ddfm demo``: a street at night, two focus distances, two exposures.

The street is drawn (see `street`); the other two start from photographs that scikit-image carries in
its wheel. Nothing is downloaded, and each call gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ddfm.demo import street
from ddfm.demo.rendering import Array, blur, developed, to_linear
from ddfm.errors import InputError


@dataclass(frozen=True)
class Scene:
    """A pair of aligned pictures to fuse.

    Attributes:
        name: ``"night"``, ``"focus"`` or ``"exposure"``.
        title: one line for the overview.
        a: first picture, mode L (night: thermal) or RGB (near focus, under-exposed).
        b: second picture, RGB, of the same size.
        labels: captions of ``a`` and ``b``.
        task: what `ddfm.fuse` is to take the pair for.
    """

    name: str
    title: str
    a: Image.Image
    b: Image.Image
    labels: tuple[str, str]
    task: str


def scenes() -> Iterator[Scene]:
    """All example pairs, in the order of the overview, drawn one by one."""
    yield from (draw() for draw in (night, focus, exposure))


def night() -> Scene:
    """A wet street at night, 480 x 640: thermal (L) and visible (RGB), from one geometry."""
    title = "A street at night: infrared and visible"
    return Scene("night", title, *street.draw(), ("thermal", "visible"), "infrared")


def focus() -> Scene:
    """A motorcycle in a garage, 500 x 741 RGB: focused on the motorcycle, and on the wall behind it.

    The depth is the measured one that comes with the photograph.
    """
    left, _, disparity = _photographs().stereo_motorcycle()
    light, near = to_linear(left), _filled(disparity)
    pair = _refocus(light, near, 48), _refocus(light, near, 12)
    return Scene("focus", "Two focus distances", *pair, ("near focus", "far focus"), "focus")


def exposure() -> Scene:
    """A cup of coffee, 400 x 600 RGB: 2.5 stops under and 2 stops over."""
    light = to_linear(_photographs().coffee())
    pair = developed(light * 2**-2.5), developed(light * 2**2.0)
    return Scene("exposure", "Two exposures", *pair, ("under-exposed", "over-exposed"), "exposure")


def overview(rows: Sequence[tuple[Scene, Image.Image]]) -> Image.Image:
    """A contact sheet, RGB: per scene a line of text and ``a``, ``b`` and the fused picture, equally high."""
    width, gap, margin, line = 440, 8, 16, 30
    heights = [round(scene.a.height * width / scene.a.width) for scene, _ in rows]
    size = (2 * margin + 3 * width + 2 * gap, 2 * margin + sum(heights) + len(rows) * (2 * line + gap) - gap)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    y = margin
    for (scene, fused), height in zip(rows, heights, strict=True):
        draw.text((margin, y), scene.title, (20, 20, 20), ImageFont.load_default(20))
        captions = (*scene.labels, "fused")
        for k, (picture, caption) in enumerate(zip((scene.a, scene.b, fused), captions, strict=True)):
            x = margin + k * (width + gap)
            resized = picture.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
            sheet.paste(resized, (x, y + line))
            below = (x + width / 2, y + line + height + 4)
            draw.text(below, caption, (90, 90, 90), ImageFont.load_default(16), anchor="ma")
        y += height + 2 * line + gap
    return sheet


# --- the photographs -----------------------------------------------------------------------------------


def _photographs() -> Any:
    try:
        from skimage import data
    except ImportError as error:
        message = "the demo's photographs come with scikit-image: pip install 'ddfm[demo]'"
        raise InputError(message) from error
    return data


def _filled(disparity: Array) -> Array:
    """Disparity with its gaps (H, W) closed by the farther neighbour in the row: gaps are occlusions."""
    known = np.isfinite(disparity)
    column = np.arange(disparity.shape[1])
    before = np.maximum.accumulate(np.where(known, column, 0), axis=1)
    after = np.minimum.accumulate(np.where(known, column, column[-1])[:, ::-1], axis=1)[:, ::-1]
    left, right = (np.take_along_axis(disparity, at, axis=1) for at in (before, after))
    farther: Array = np.fmin(np.nan_to_num(left, posinf=np.nan), np.nan_to_num(right, posinf=np.nan))
    return farther


def _refocus(light: Array, disparity: Array, sharp: float) -> Image.Image:
    """Defocus by layers, far to near, so that a blurred edge never takes in what lies behind it."""
    picture, cover = np.zeros_like(light), np.zeros_like(disparity)[..., None]
    for low in range(6, 62, 4):
        layer = ((disparity >= low) & (disparity < low + 4)).astype(np.float32)[..., None]
        # inverse depth is what defocus is proportional to; within two layers the lens is sharp
        sigma = 0.1 * max(abs(low + 2 - sharp) - 8, 0)
        colour, alpha = (blur(part, sigma, sigma) for part in (light * layer, layer))
        picture, cover = picture * (1 - alpha) + colour, cover * (1 - alpha) + alpha
    return developed(picture / cover.clip(1e-3))
