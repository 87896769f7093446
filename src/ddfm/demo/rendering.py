"""Light and lenses for the drawn scenes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float32]


def developed(light: Array, noise: Array | float = 0.0) -> Image.Image:
    """Return sRGB of 8 bits from linear light, clipped to [0, 1]; ``noise`` in grey levels."""
    light = light.clip(0, 1)
    value = np.where(light < 0.0031308, 12.92 * light, 1.055 * light.clip(1e-9) ** (1 / 2.4) - 0.055)
    return Image.fromarray((255 * value + noise).round().clip(0, 255).astype(np.uint8))


def blur(image: Array, sigma_y: float, sigma_x: float) -> Array:
    """Blur (H, W) or (H, W, C) by a Gaussian, edges continued."""
    if max(sigma_y, sigma_x) == 0:
        return image
    pad = int(3 * max(sigma_y, sigma_x)) + 1
    extent = [(pad, pad + -(n + 2 * pad) % 64) for n in image.shape[:2]]  # sizes that the FFT likes
    flat = (1,) * (image.ndim - 2)
    wide = np.pad(image, (*extent, *((0, 0) for _ in flat)), mode="edge")
    fy, fx = np.fft.fftfreq(wide.shape[0])[:, None], np.fft.rfftfreq(wide.shape[1])[None]
    gain = np.exp(-2 * np.pi**2 * ((sigma_y * fy) ** 2 + (sigma_x * fx) ** 2)).astype(np.float32)
    spectrum = np.fft.rfft2(wide, axes=(0, 1)) * gain.reshape(*gain.shape, *flat)
    blurred = np.fft.irfft2(spectrum, wide.shape[:2], axes=(0, 1)).astype(np.float32)
    return blurred[pad : pad + image.shape[0], pad : pad + image.shape[1]]


def pink_noise(rng: np.random.Generator) -> Array:
    """Make a (512, 512) tile of noise with a 1/f spectrum, zero mean, unit deviation; its edges match."""
    f = np.hypot(np.fft.fftfreq(512)[:, None], np.fft.rfftfreq(512)[None])
    f[0, 0] = np.inf
    tile = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((512, 512))) / f)
    scaled: Array = (tile / tile.std()).astype(np.float32)
    return scaled


def texture(noise: Array, x: Array, y: Array, scale: float) -> Array:
    """Lay the noise tile over world coordinates, ``scale`` pixels a metre."""
    row, column = (y * scale).astype(np.int64) % 512, (x * scale).astype(np.int64) % 512
    laid: Array = noise[row, column]
    return laid
