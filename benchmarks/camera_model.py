"""A camera: what it makes of a clean picture at a gain, from photons to JPEG.

A picture is taken back to what the sensor saw, gets the noise of photons and readout there, and is developed
again (Brooks et al. 2019, "Unprocessing images for learned raw denoising"). Demosaicing spreads the noise
over neighbours and channels, the tone curve makes it depend on intensity, and JPEG takes the finest of it.
"""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Bytes = NDArray[np.uint8]
Values = NDArray[np.float64]

# Shot noise: variance a unit of light, where white is 1. Brooks et al. draw it from .0001 to .012.
GAINS = {"gain 1": 0.001, "gain 2": 0.004, "gain 3": 0.012}
RED_GAIN, BLUE_GAIN = 2.2, 1.7  # white balance: the middle of what Brooks et al. draw from
QUALITY = 90  # of the JPEG file
WHITE = 65535  # of what is demosaiced
# From CIE XYZ to a camera's own colours: the first of the four matrices that Brooks et al. use.
XYZ_TO_CAMERA = np.array([[1.0234, -0.2969, -0.2266], [-0.5625, 1.6328, -0.0469], [-0.0703, 0.2188, 0.6406]])
RGB_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


def read_variance(shot: float) -> float:
    """Return the variance of the readout that goes with a sensor's shot noise: the line of Brooks et al."""
    return float(np.exp(2.18 * np.log(shot) + 1.2))


def noisy(light: Values, shot: float, random: np.random.Generator) -> Values:
    """Return what a sensor reads of light in [0, 1]: Poisson noise and Gaussian noise, not cut off."""
    return random.poisson(light / shot) * shot + random.normal(0, read_variance(shot) ** 0.5, light.shape)


def colour_camera(clean: Bytes, shot: float, random: np.random.Generator) -> Bytes:
    """Return the photograph, (H, W, 3), that a camera with a Bayer mosaic takes of a clean picture."""
    gains = np.array([RED_GAIN, 1, BLUE_GAIN])
    to_camera = XYZ_TO_CAMERA @ RGB_TO_XYZ
    to_camera /= to_camera.sum(1, keepdims=True)
    # 1. Unprocess: tone curve, gamma, colours and white balance.
    tone = 0.5 - np.sin(np.arcsin(1 - 2 * (clean / 255)) / 3)
    light = (tone**2.2 @ to_camera.T).clip(0, 1) / gains
    # 2. The sensor, one colour a pixel: R G / G B.
    mosaic = light[..., 1].copy()
    mosaic[::2, ::2], mosaic[1::2, 1::2] = light[::2, ::2, 0], light[1::2, 1::2, 2]
    balance = np.ones_like(mosaic)
    balance[::2, ::2], balance[1::2, 1::2] = RED_GAIN, BLUE_GAIN
    read = noisy(mosaic, shot, random)
    # 3. Develop. A pedestal keeps what is below black through the demosaicing.
    pedestal = WHITE // 8
    counts = np.rint(pedestal + (read * balance).clip(-0.14, 1) * (WHITE - pedestal)).astype(np.uint16)
    rgb = cv2.cvtColor(counts, cv2.COLOR_BayerRGGB2RGB_EA).astype(np.float64)
    developed = ((rgb - pedestal) / (WHITE - pedestal)) @ np.linalg.inv(to_camera).T
    gamma = developed.clip(1e-8, 1) ** (1 / 2.2)
    return as_jpeg(255 * (3 * gamma**2 - 2 * gamma**3))


def grey_camera(clean: Bytes, shot: float, random: np.random.Generator) -> Bytes:
    """Return the picture, (H, W), of a camera without mosaic and tone curve, as infrared ones are."""
    return as_jpeg(255 * noisy(clean / 255, shot, random))


def as_jpeg(values: Values) -> Bytes:
    """Return grey levels as a JPEG file holds them, by Pillow."""
    buffer = io.BytesIO()
    Image.fromarray(np.rint(values).clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=QUALITY)
    with Image.open(buffer) as file:
        return np.array(file)


def photograph(clean: Bytes, shot: float, seed: Any, colour: bool) -> Bytes:
    """Return what a camera makes of a picture of shape (H, W) or (H, W, 3); same shape."""
    random = np.random.default_rng(seed)
    if not colour:
        return grey_camera(clean, shot, random)
    if clean.ndim == 3:
        return colour_camera(clean, shot, random)
    shown = colour_camera(np.repeat(clean[..., None], 3, 2), shot, random)
    return np.array(Image.fromarray(shown).convert("L"))
