"""Draw what a thermographer looks for: colours by temperature, a scale, the spot, the coldest and hottest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage
from PIL import ImageDraw, ImageFont

from ddfm.pictures.image import Image
from ddfm.pictures.palettes import STEPS, isotherm_colours, lightness, table
from ddfm.pictures.ranges import row_chunks
from ddfm.thermal.measure import Statistics, statistics
from ddfm.thermal.options import ThermalOptions
from ddfm.thermal.place import Placed
from ddfm.timing import stage

Pixels = NDArray[np.uint8]
LEAST_TEXT, ROWS_A_TEXT = 11, 26  # pixels of a line of text; lines of text that fit into a picture
BAR = (0.45, 0.85)  # lightness from left to right, of the scale: the picture has all of them
TICKS = 5
WHITE, BLACK = (255, 255, 255), (0, 0, 0)
HOT, COLD = (255, 84, 60), (92, 190, 255)


@stage("draw")
def drawn(fused: Image, placed: Placed, options: ThermalOptions) -> Image:
    """Return the fused picture as the options ask for it; itself if they ask for nothing.

    Colours come from the temperatures, detail from the fusion. The upper left corner stays where it is: a
    scale is put to the right.
    """
    if not (options.palette or options.isotherm or options.annotate):
        return fused
    pixels = np.rint(255 * fused.pixels.clip(0, 1)).astype(np.uint8)
    pixels = np.array(np.broadcast_to(pixels, (*fused.size, 3)))
    light = lightness(fused.pixels)
    if options.palette:
        _colour(pixels, light, placed, table(options.palette))
    if options.isotherm:
        low, high = options.isotherm
        within = (placed.readings >= low) & (placed.readings <= high)
        pixels[within] = isotherm_colours()[light[within]]
    if options.annotate:
        pixels = _annotated(pixels, placed, options)
    return replace(
        fused,
        pixels=(pixels / np.float32(255)).astype(np.float32),
        depth=np.dtype(np.uint8),
        value_range=None,
        alpha=None,
        icc_profile=None,
        resolution=None,
    )


def _colour(pixels: Pixels, light: Pixels, placed: Placed, colours: Pixels) -> None:
    """Colour, in place, the pixels that have a reading."""
    low, high = placed.limits
    for rows in row_chunks(len(pixels)):
        readings = placed.readings[rows]
        known = np.isfinite(readings)
        value = np.rint((readings[known] - low) / (high - low) * (STEPS - 1)).clip(0, STEPS - 1)
        pixels[rows][known] = colours[value.astype(int), light[rows][known]]


def _annotated(pixels: Pixels, placed: Placed, options: ThermalOptions) -> Pixels:
    """Return the picture with marks on it, and the scale to its right if it has colours by temperature."""
    height, width = pixels.shape[:2]
    size = max(LEAST_TEXT, height // ROWS_A_TEXT)
    font = ImageFont.load_default(size)
    found = statistics(placed.thermogram)
    sheet = PILImage.fromarray(pixels)
    _mark_places(ImageDraw.Draw(sheet), placed, found, font, size)
    panel = _panel(height, placed, options, font, size)
    whole = PILImage.new("RGB", (width + panel.width, height))
    whole.paste(sheet, (0, 0))
    whole.paste(panel, (width, 0))
    return np.asarray(whole)


def _mark_places(
    draw: ImageDraw.ImageDraw,
    placed: Placed,
    found: Statistics,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    size: int,
) -> None:
    """Mark the middle, the coldest and the hottest place, each with its temperature."""
    height, width = placed.shown.shape
    marks: list[tuple[tuple[int, int] | None, float, tuple[int, int, int]]] = [
        (placed.pixel(*found.coldest), found.minimum, COLD),
        (placed.pixel(*found.hottest), found.maximum, HOT),
        ((width // 2, height // 2), float(placed.readings[height // 2, width // 2]), WHITE),
    ]
    taken: list[tuple[float, float, float, float]] = []
    for place, temperature, colour in marks:
        if place is None or not np.isfinite(temperature):
            continue
        (x, y), arm = place, max(4, size // 2)
        for line, thickness in ((BLACK, 3), (colour, 1)):
            draw.line((x - arm, y, x + arm, y), line, thickness)
            draw.line((x, y - arm, x, y + arm), line, thickness)
        text = f"{temperature:.1f}"
        box = _free_place(draw, text, (x, y), (width, height), arm, font, taken)
        taken.append(box)
        outline = max(1, size // 10)
        draw.text(box[:2], text, colour, font, stroke_width=outline, stroke_fill=BLACK, anchor="lt")


def _free_place(
    draw: ImageDraw.ImageDraw,
    text: str,
    at: tuple[int, int],
    size: tuple[int, int],
    arm: int,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    taken: list[tuple[float, float, float, float]],
) -> tuple[float, float, float, float]:
    """Return where a text goes beside a mark: within the picture, and over no other text if it can be."""
    left, top, right, bottom = draw.textbbox((0, 0), text, font, anchor="lt")
    wide, high = right - left + 2, bottom - top + 2
    corners = [(arm, -arm - high), (arm, arm), (-arm - wide, -arm - high), (-arm - wide, arm)]
    boxes = []
    for dx, dy in corners:
        x = min(max(at[0] + dx, 2), max(2, size[0] - wide - 2))
        y = min(max(at[1] + dy, 2), max(2, size[1] - high - 2))
        boxes.append((x, y, x + wide, y + high))
    return next((box for box in boxes if not any(_overlap(box, other) for other in taken)), boxes[0])


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _panel(
    height: int,
    placed: Placed,
    options: ThermalOptions,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    size: int,
) -> PILImage.Image:
    """Draw what the colours stand for; without palette and isotherm, the unit alone."""
    low, high = placed.limits
    labels = [f"{value:.1f}" for value in np.linspace(high, low, TICKS)]
    isotherm = [f"{value:.1f}" for value in reversed(options.isotherm)] if options.isotherm else []
    ruler = ImageDraw.Draw(PILImage.new("L", (1, 1)))
    bar, gap = 2 * size, max(4, size // 2)
    shown = [*(labels if options.palette else []), *isotherm, "°C"]
    text = max(ruler.textlength(label, font) for label in shown)
    panel = PILImage.new("RGB", (round(bar + text) + 3 * gap, height), BLACK)
    draw = ImageDraw.Draw(panel)
    draw.text((gap, gap), "°C", WHITE, font, anchor="lt")
    top, bottom = gap + 2 * size, height - gap
    if isotherm:
        bottom -= 3 * size
        columns = np.linspace(BAR[0] * STEPS, BAR[1] * STEPS, bar).astype(int)
        swatch = np.broadcast_to(isotherm_colours()[columns], (2 * size, bar, 3))
        panel.paste(PILImage.fromarray(np.ascontiguousarray(swatch)), (gap, height - gap - 2 * size))
        for k, label in enumerate(isotherm):
            draw.text((2 * gap + bar, height - gap - (2 - k) * size), label, WHITE, font, anchor="lt")
    if options.palette and bottom - top > 2 * size:
        panel.paste(_scale(options.palette, bar, bottom - top), (gap, top))
        for k, label in enumerate(labels):
            y = top + k * (bottom - top) / (TICKS - 1)
            y = min(max(y, top + size / 2), bottom - size / 2)
            draw.text((2 * gap + bar, y), label, WHITE, font, anchor="lm")
    return panel


def _scale(palette: str, width: int, height: int) -> PILImage.Image:
    """Draw a palette from hot, above, to cold; from dark to light across."""
    rows = np.linspace(STEPS - 1, 0, height).round().astype(int)
    columns = np.linspace(BAR[0] * STEPS, BAR[1] * STEPS, width).astype(int)
    return PILImage.fromarray(np.ascontiguousarray(table(palette)[rows][:, columns]))
