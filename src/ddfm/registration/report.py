"""Draw a picture to judge a registration by: the edges of both sources, before and after."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage
from PIL import ImageDraw, ImageFont

from ddfm.registration.alignment import shrunk, transformed
from ddfm.registration.estimate import (
    LEAST_CONFIDENCE,
    Pixels,
    Registration,
    all_positions,
    grey_of,
    resizing,
    sampled,
)
from ddfm.registration.opencv import cv2
from ddfm.registration.orientation import Plane

PANEL = 960  # pixels of the longer side of each half of the report picture, at most
FIXED_COLOUR, MOVING_COLOUR = (
    (0.0, 0.6, 1.0),
    (1.0, 0.4, 0.0),
)  # told apart by the colour-blind; white together


def overlay(moving: Pixels, fixed: Pixels, registration: Registration) -> NDArray[np.uint8]:
    """Draw a picture to judge a registration by, RGB (H, W, 3): both sources' edges, before and after.

    Edges of the fixed picture are blue, those of the moving one orange, and where they meet they are white.
    """
    before = sampled(moving, transformed(resizing(moving, fixed), all_positions(fixed)))
    after = registration.warp(moving, fixed)
    still = _edges(grey_of(fixed))
    halves = []
    for moved, shown in ((before, np.ones_like(still)), (after, registration.shown.astype(np.float32))):
        other = _edges(grey_of(moved)) * shown
        half = still[..., None] * np.array(FIXED_COLOUR) + other[..., None] * np.array(MOVING_COLOUR)
        halves.append(_panel(half.clip(0, 1)))
    line = np.full((halves[0].shape[0], 4, 3), 255, np.uint8)
    verdict = "registered" if registration.confidence >= LEAST_CONFIDENCE else "DOUBTFUL"
    caption = (
        f"left: before   right: after ({registration.model})\n"
        f"{verdict}: confidence {registration.confidence:.2f}, needed {LEAST_CONFIDENCE:.2f}; "
        f"{registration.inside:.0%} covered\n"
        "blue: fixed   orange: moving   white: both"
    )
    return _captioned(np.hstack([halves[0], line, halves[1]]), caption)


def _edges(grey: Plane) -> Plane:
    """Return edges within [0, 1], faint ones in dark parts lifted."""
    smooth = cv2.GaussianBlur(grey, (0, 0), 1.2)
    steps = (cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1))
    strength = np.hypot(*steps)
    around = np.sqrt(cv2.GaussianBlur(strength**2, (0, 0), 24))
    return np.clip(strength / (1.5 * (around + around.mean()) + 1e-3) - 0.1, 0, 1).astype(np.float32)


def _panel(half: NDArray[np.float64]) -> NDArray[np.uint8]:
    factor = min(1.0, PANEL / max(half.shape[:2]))
    height, width = (max(1, round(side * factor)) for side in half.shape[:2])
    return np.rint(shrunk(half.astype(np.float32), (width, height)) * 255).astype(np.uint8)


def _captioned(picture: NDArray[np.uint8], text: str) -> NDArray[np.uint8]:
    """Put lines of text below a picture, wide enough for both."""
    font = ImageFont.load_default(14)
    ruler = ImageDraw.Draw(PILImage.new("L", (1, 1)))
    right, bottom = ruler.multiline_textbbox((8, 6), text, font)[2:]
    height, width = picture.shape[:2]
    sheet = PILImage.new("RGB", (max(width, round(right) + 8), height + round(bottom) + 8))
    sheet.paste(PILImage.fromarray(picture))
    ImageDraw.Draw(sheet).multiline_text((8, height + 6), text, "white", font)
    return np.asarray(sheet)
