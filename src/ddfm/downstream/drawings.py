"""Pictures for the report: boxes found and missed, wrong pixels, crops that were taken for something else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ddfm.benchmark.report.sheet import data_uri
from ddfm.downstream.boxes import Boxes, intersection_over_union
from ddfm.downstream.scenes import Mask, RgbPixels

WIDTH = 420  # pixels of a drawing
SHOWN = 0.3  # score from which on a detection is drawn
SAME = 0.5  # overlap from which on a detection is a hit
HIT, MISS, FALSE = (64, 220, 120), (255, 64, 96), (255, 200, 40)
CELL = 10  # pixels of frame and gap around a crop, both sides together
TINT = 0.55  # share of the colour that marks wrong pixels


def boxes_drawn(picture: RgbPixels, truth: Boxes, found: Boxes) -> str:
    """Return a data URI: labels that were found in green, missed ones in red, false alarms in yellow."""
    found = found.chosen(found.scores >= SHOWN)
    same = intersection_over_union(truth.xyxy, found.xyxy) >= SAME
    same &= truth.classes[:, None] == found.classes[None]
    hits = np.asarray(same.any(axis=1))
    image = _scaled(picture)
    draw, scale = ImageDraw.Draw(image), image.width / picture.shape[1]
    for box in found.xyxy[~same.any(0)]:
        draw.rectangle(tuple(box * scale), outline=FALSE, width=2)
    for box, hit in zip(truth.xyxy, hits, strict=True):
        draw.rectangle(tuple(box * scale), outline=HIT if hit else MISS, width=2)
    return data_uri(image)


def mask_drawn(picture: RgbPixels, truth: Mask, predicted: Mask) -> str:
    """Return a data URI: objects labelled rightly in green, missed in red, pixels taken for one in yellow."""
    marked = picture.astype(np.float64)
    for region, colour in (
        ((truth > 0) & (predicted == truth), HIT),
        ((truth > 0) & (predicted != truth), MISS),
        ((truth == 0) & (predicted > 0), FALSE),
    ):
        marked[region] = (1 - TINT) * marked[region] + TINT * np.array(colour)
    return data_uri(_scaled(marked.round().astype(np.uint8)))


def crops_drawn(crops: NDArray[np.uint8], right: Sequence[bool], columns: int = 8) -> str:
    """Return a data URI: crops (N, H, W, 3) beside each other, framed in green if right, else in red."""
    side = crops.shape[1]
    rows = -(-len(crops) // columns)
    sheet = Image.new("RGB", (columns * (side + CELL), max(1, rows) * (side + CELL)))
    for number, (crop, hit) in enumerate(zip(crops, right, strict=True)):
        x, y = (number % columns) * (side + CELL), (number // columns) * (side + CELL)
        sheet.paste(HIT if hit else MISS, (x + 1, y + 1, x + side + CELL - 1, y + side + CELL - 1))
        sheet.paste(Image.fromarray(crop), (x + CELL // 2, y + CELL // 2))
    return data_uri(sheet)


def _scaled(picture: RgbPixels) -> Image.Image:
    height = max(1, round(picture.shape[0] * WIDTH / picture.shape[1]))
    return Image.fromarray(picture).resize((WIDTH, height), Image.Resampling.BICUBIC)
