"""Colours that stand for values, and their union with the lightness of another picture.

Colours are mixed in Oklab (Ottosson 2020), where even steps look even: L is lightness, a and b are hue and
saturation. A palette gives a and b for a value; the lightness is mostly the picture's.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from ddfm.pictures.colour import WEIGHTS
from ddfm.pictures.ranges import row_chunks

Floats = NDArray[np.float64]

STEPS = 256  # of values and of lightnesses in the table of colours
DARKEST, LIGHTEST = 0.22, 0.97  # lightness in which colours can still be told apart
OWN_LIGHTNESS = 0.45  # share of the palette's own lightness: keeps the order of values to be seen
GREY = 1e-3  # of a and b, below which a colour is none
GAMUT_STEPS = 12  # halvings by which the strongest saturation that a screen has is found

# Each from cold to hot, at even steps. All but the rainbow grow lighter all the way.
PALETTES: dict[str, str] = {
    "grey": "000000 ffffff",
    # The vendors' iron: blue, violet, red, orange, yellow.
    "iron": "0d0a52 3c0e8c 7a1199 b32382 dc4252 f2702b fba318 fdd23c fef3a0",
    # Matplotlib's inferno, cividis, viridis and turbo (van der Walt, Smith, Nunez, Mikhailov).
    "lava": "000004 0a0722 1e0c45 380962 510e6c 69166e 801f6c 982766 b0315b "
    "c63d4d d94d3d e9612b f47918 fa9407 fcb014 f8cd37 f2ea69 fcffa4",
    "arctic": "00224e 002d68 163770 2e416d 3f4c6c 4e566c 5c616e 696b71 767676 "
    "838179 928c78 a09875 afa471 bfb06b cfbd62 dfca57 f0d846 fee838",
    "viridis": "440154 481769 472a7a 433d84 3d4e8a 355e8d 2e6d8e 297b8e 23898e "
    "1f978b 21a585 2eb37c 46c06f 65cb5e 89d548 b0dd2f d8e219 fde725",
    "rainbow": "30123b 3f3e9c 4666dd 458cfd 2fb2f4 1ad4d0 22ebaa 52fa7a 8bff4b "
    "b7f735 dbe236 f5c53a fea130 f9751d e84b0c ce2d04 a91601 7a0403",
}
ISOTHERM = "00e5c8"  # of what lies between two temperatures; in no palette's hot half

TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def oklab(colours: Floats) -> Floats:
    """Convert sRGB in [0, 1] to Oklab, (..., 3)."""
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    return np.cbrt(linear @ TO_CONES.T) @ TO_LAB.T


def linear_rgb(lab: Floats) -> Floats:
    """Convert Oklab to linear RGB, (..., 3); outside [0, 1] for colours that a screen does not have."""
    return (lab @ np.linalg.inv(TO_LAB).T) ** 3 @ np.linalg.inv(TO_CONES).T


def encoded(linear: Floats) -> Floats:
    """Convert linear RGB to sRGB, cut off at [0, 1]."""
    linear = linear.clip(0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear.clip(1e-9) ** (1 / 2.4) - 0.055)


def colour_of(text: str) -> Floats:
    """Return a colour that is written as six hexadecimal digits, in [0, 1]."""
    return np.array([int(text[k : k + 2], 16) for k in (0, 2, 4)]) / 255


def palette_colours(name: str) -> Floats:
    """Return a palette as it is by itself: Oklab, (256, 3), from cold to hot."""
    stops = oklab(np.array([colour_of(text) for text in PALETTES[name].split()]))
    places = np.linspace(0, 1, len(stops))
    return np.stack([np.interp(np.linspace(0, 1, STEPS), places, stops[:, k]) for k in range(3)], -1)


@cache
def table(name: str) -> NDArray[np.uint8]:
    """Return the colours of each value at each lightness: sRGB (256, 256, 3), by value, then by lightness."""
    return _at_lightnesses(palette_colours(name), 0.0 if name == "grey" else OWN_LIGHTNESS)


@cache
def isotherm_colours() -> NDArray[np.uint8]:
    """Return the colour of what lies between two temperatures, at each lightness: sRGB (256, 3)."""
    return _at_lightnesses(oklab(colour_of(ISOTHERM))[None], 0.0)[0]


def _at_lightnesses(lab: Floats, own: float) -> NDArray[np.uint8]:
    """Return colours (N, 3) at each lightness, sRGB (N, 256, 3), as saturated as a screen allows."""
    coloured = np.abs(lab[:, 1:]).max() > GREY
    picture = np.linspace(DARKEST, LIGHTEST, STEPS) if coloured else np.linspace(0, 1, STEPS)
    grid = np.empty((len(lab), STEPS, 3))
    grid[..., 0] = own * lab[:, None, 0] + (1 - own) * picture
    chroma = lab[:, None, 1:]
    low, high = np.zeros((len(lab), STEPS, 1)), np.ones((len(lab), STEPS, 1))
    for _ in range(GAMUT_STEPS):
        middle = (low + high) / 2
        grid[..., 1:] = middle * chroma
        linear = linear_rgb(grid)
        fits = ((linear >= -1e-6) & (linear <= 1 + 1e-6)).all(-1, keepdims=True)
        low, high = np.where(fits, middle, low), np.where(fits, high, middle)
    grid[..., 1:] = low * chroma
    return np.rint(255 * encoded(linear_rgb(grid))).astype(np.uint8)


def lightness(pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the lightness of a picture (H, W, 1 or 3) in [0, 1], as an index of the tables, (H, W)."""
    steps = np.empty(pixels.shape[:2], np.uint8)
    for rows in row_chunks(len(pixels)):
        part = pixels[rows].clip(0, 1)
        grey = part[..., 0] if part.shape[2] == 1 else part @ np.array(WEIGHTS, np.float32)
        linear = np.where(grey <= 0.04045, grey / 12.92, ((grey + 0.055) / 1.055) ** 2.4)
        steps[rows] = np.rint(np.cbrt(linear) * (STEPS - 1))
    return steps
