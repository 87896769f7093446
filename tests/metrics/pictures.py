"""Small made-up pictures for the metric tests."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]
Triple = tuple[Tensor, Tensor, Tensor]


def picture(seed: int, height: int, width: int, levels: int = 256) -> Tensor:
    """Blobs, a bright box and noise in whole grey levels, shape (1, 1, height, width), float64."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    image = np.zeros((height, width))
    for _ in range(4):
        cy, cx, radius = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(3, 12)
        image += rng.uniform(20, 90) * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * radius**2))
    top, left = rng.integers(0, height // 2 + 1), rng.integers(0, width // 2 + 1)
    image[top : top + height // 3, left : left + width // 3] += 60
    image += rng.normal(0, 8, image.shape)
    step = 256 // levels
    return tensor(np.clip(np.round(image), 0, 255) // step * step)


def triple(height: int = 44, width: int = 47, seed: int = 0) -> Triple:
    """Two sources and a plausible fused image."""
    a, b = picture(seed, height, width), picture(seed + 1, height, width)
    noise = picture(seed + 2, height, width)
    return a, b, (0.45 * a + 0.45 * b + 0.1 * noise).round()


def constant(value: float, height: int = 41, width: int = 41) -> Tensor:
    return torch.full((1, 1, height, width), value, dtype=torch.float64)


def tensor(image: Array) -> Tensor:
    return torch.from_numpy(np.asarray(image, dtype=np.float64))[None, None]


def array(image: Tensor) -> Array:
    result: Array = image[0, 0].numpy()
    return result
