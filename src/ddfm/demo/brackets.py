"""Draw brackets as a hand shoots them: somebody walks by, and the camera is not held quite still.

The scene is the room by day of `table`. A walker is drawn into its light before it is exposed, so that
exposures differ as a camera's do.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from ddfm.demo import table
from ddfm.demo.rendering import Array, developed

STOPS = (-3.0, 0.0, 3.0)  # of three exposures
COAT, TROUSERS, SKIN = (0.16, 0.03, 0.025), (0.02, 0.025, 0.05), (0.30, 0.17, 0.11)  # albedos
DAYLIGHT = 1.6  # light on the walker, where the room's is some hundredths
TALL = 0.62  # of the picture's height
SUPER = 4  # points a pixel, down and across


def walked(
    places: Sequence[float | None], stops: Sequence[float] = STOPS, size: tuple[int, int] = (400, 600)
) -> list[Image.Image]:
    """Draw exposures, RGB, of a room that somebody walks through.

    Args:
        places: where the walker is in each exposure, as a share of the width; None where nobody is.
        stops: exposures, as powers of two.
        size: height and width.
    """
    light = _room(size)
    return [
        developed(light_with_walker(light, place) * 2**stop)
        for place, stop in zip(places, stops, strict=True)
    ]


@lru_cache(maxsize=1)
def _room(size: tuple[int, int]) -> Array:
    """Return the light of the room with nobody in it, (H, W, 3); drawing it takes a second."""
    light, _ = table.by_window(*size)
    light.flags.writeable = False
    return light


def light_with_walker(light: Array, place: float | None) -> Array:
    """Return the light (H, W, 3) of the room with a walker at a share of its width; None for nobody."""
    if place is None:
        return light
    made = light
    for part, colour in parts(place, light.shape[:2]):
        made = made * (1 - part[..., None]) + DAYLIGHT * np.array(colour, np.float32) * part[..., None]
    return np.asarray(made, np.float32)


def silhouette(place: float, size: tuple[int, ...]) -> Array:
    """Return what of the picture the walker covers, (H, W) in [0, 1]."""
    return np.asarray(np.max([part for part, _ in parts(place, size)], 0), np.float32)


def parts(place: float, size: tuple[int, ...]) -> list[tuple[Array, tuple[float, float, float]]]:
    """Return the walker's legs, coat and head: how far each pixel belongs to them, (H, W), and its albedo."""
    height, width = size[:2]
    tall = TALL * height * SUPER
    foot, middle = 0.97 * height * SUPER, place * width * SUPER
    drawn = []
    for colour in (TROUSERS, COAT, SKIN):
        canvas = Image.new("L", (width * SUPER, height * SUPER))
        draw = ImageDraw.Draw(canvas)
        if colour is TROUSERS:
            hip = (middle, foot - 0.5 * tall)
            for step in (-0.14, 0.12):
                draw.line([hip, (middle + step * tall, foot)], 255, round(0.08 * tall))
        elif colour is COAT:
            box = (middle - 0.13 * tall, foot - 0.86 * tall, middle + 0.13 * tall, foot - 0.38 * tall)
            draw.rounded_rectangle(box, 0.1 * tall, 255)
        else:
            box = (middle - 0.07 * tall, foot - tall, middle + 0.07 * tall, foot - 0.84 * tall)
            draw.ellipse(box, 255)
        small = canvas.resize((width, height), Image.Resampling.BOX)
        part: Array = (np.asarray(small) / 255).astype(np.float32)
        drawn.append((part, colour))
    return drawn
