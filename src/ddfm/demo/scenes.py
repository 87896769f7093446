"""The example pairs of ``ddfm demo``: a street at night, two focus distances, two exposures.

All are drawn (see `street` and `table`). Nothing is downloaded, and each call gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ddfm.demo import street, table
from ddfm.demo.rendering import Array, blur, developed

LAYERS = 10  # of equal defocus between the nearest and the farthest pixel
APERTURE = 15.0  # pixels of blur for a difference of 1 per metre
SHARP = 0.03  # per metre: differences up to this are in focus


@dataclass(frozen=True)
class DrawnScene:
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


def scenes() -> Iterator[DrawnScene]:
    """Draw all example pairs one by one, in the order of the overview."""
    yield from (draw() for draw in (night, focus, exposure))


def night() -> DrawnScene:
    """Draw a wet street at night, 480 x 640: thermal (L) and visible (RGB), from one geometry."""
    title = "A street at night: infrared and visible"
    return DrawnScene("night", title, *street.draw(), ("thermal", "visible"), "infrared")


def focus() -> DrawnScene:
    """Draw balls on a table, 480 x 720 RGB: focused on the nearest ball, and on the books behind."""
    light, distance = table.by_lamp(480, 720)
    pair = _refocus(light, distance, 2.6), _refocus(light, distance, table.WALL)
    return DrawnScene("focus", "Two focus distances", *pair, ("near focus", "far focus"), "focus")


def exposure() -> DrawnScene:
    """Draw a room with a window, 400 x 600 RGB: exposed for what lies outside, and for the room."""
    light, _ = table.by_window(400, 600)
    pair = developed(light * 2**-3.6), developed(light * 2**3.8)
    return DrawnScene("exposure", "Two exposures", *pair, ("under-exposed", "over-exposed"), "exposure")


def overview(rows: Sequence[tuple[DrawnScene, Image.Image]]) -> Image.Image:
    """Lay out a contact sheet, RGB: per scene its title, then ``a``, ``b`` and the fused picture in a row."""
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


def _refocus(light: Array, distance: Array, sharp: float) -> Image.Image:
    """Defocus a picture by layers, far to near, so that an edge never takes in what lies behind it.

    Args:
        light: linear RGB, (H, W, 3).
        distance: of every pixel, in metres, (H, W).
        sharp: the distance in focus. Blur grows with the difference of the inverse distances.
    """
    nearness = 1 / distance
    ends = np.linspace(nearness.min(), nearness.max(), LAYERS + 1)
    layer = np.digitize(nearness, ends[1:-1])
    picture, cover = np.zeros_like(light), np.zeros_like(distance)[..., None]
    for k in range(LAYERS):
        part = (layer == k).astype(np.float32)[..., None]
        sigma = APERTURE * max(abs((ends[k] + ends[k + 1]) / 2 - 1 / sharp) - SHARP, 0)
        colour, alpha = (blur(image, sigma, sigma) for image in (light * part, part))
        picture, cover = picture * (1 - alpha) + colour, cover * (1 - alpha) + alpha
    return developed(picture / cover.clip(1e-3))
