"""Where two pictures of different sensors agree: the orientation of their edges.

Most sensors see the edge between two things. But infrared and visible light differ in which side is the
brighter one, and by how much. So the direction of the gradient g is compared. Its angle is doubled, which
makes a gradient and its negative the same. These are normalised gradient fields (Haber and Modersitzki,
Methods of Information in Medicine 2007), or orientation correlation (Fitch et al., BMVC 2002):

    z = (g_x + i g_y)^2 / (|g|^2 + e^2),  with e^2 the mean of |g|^2 around the pixel

Two fields agree by Re sum z_a conj(z_b). Where their orientations have nothing to do with each other, this
sum has mean 0 and variance 1/2 sum |z_a|^2 |z_b|^2. So agreements are given in units of chance.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ddfm.registration.opencv import cv2

Plane = NDArray[np.float32]
Field = NDArray[np.float32]

SMOOTHING = 1.0  # pixels, before the gradient
NEIGHBOURHOOD = 10.0  # pixels that a gradient is measured by
FLOOR = 0.003  # a gradient a pixel below which there is only noise, for pixels in [0, 1]
MARGIN = 3  # pixels inside the border of what is shown whose gradient is not trusted


def orientation(grey: Plane, shown: Plane) -> Field:
    """Return the orientation field z without its mean, (H, W, 2): real, imaginary; 0 outside the view.

    Args:
        grey: (H, W) in [0, 1].
        shown: (H, W), 1 where ``grey`` holds the picture and 0 where it does not.
    """
    smooth = cv2.GaussianBlur(grey, (0, 0), SMOOTHING)
    dx = cv2.Scharr(smooth, cv2.CV_32F, 1, 0, scale=1 / 32)
    dy = cv2.Scharr(smooth, cv2.CV_32F, 0, 1, scale=1 / 32)
    square = np.ones((2 * MARGIN + 1, 2 * MARGIN + 1), np.uint8)
    trusted = cv2.erode(shown, square, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    energy = trusted * (dx * dx + dy * dy)
    share = np.maximum(cv2.GaussianBlur(trusted, (0, 0), NEIGHBOURHOOD), 1e-3)
    weight = trusted / (energy + cv2.GaussianBlur(energy, (0, 0), NEIGHBOURHOOD) / share + FLOOR**2)
    z = np.dstack([weight * (dx * dx - dy * dy), weight * (2 * dx * dy)])
    # Without the mean, pictures do not agree merely because both have more upright edges than others.
    mean = z.sum((0, 1)) / max(float(trusted.sum()), 1.0)
    return ((z - mean) * trusted[..., None]).astype(np.float32)


def displaced_agreement(fixed: Field, moving: Field, reach: int, cell: int) -> NDArray[np.float32]:
    """Measure each cell's agreement at each displacement: (2 R + 1, 2 R + 1, rows, columns).

    Entry (R + v, R + u) is the sum over the cell of Re z_fixed(x, y) conj(z_moving(x + u, y + v)), in
    units of chance for the whole picture. What lies outside of ``moving`` counts as nothing.

    Args:
        fixed: (H, W, 2), see `orientation`.
        moving: (H, W, 2).
        reach: R, the largest displacement, in pixels.
        cell: side of the square cells in pixels; those at the right and lower border may be smaller.
    """
    height, width = fixed.shape[:2]
    rows, columns = -(-height // cell), -(-width // cell)
    below, right = rows * cell - height, columns * cell - width
    fixed = np.pad(fixed, ((0, below), (0, right), (0, 0)))
    moving = np.pad(moving, ((reach, reach + below), (reach, reach + right), (0, 0)))
    a_real, a_imaginary = (np.ascontiguousarray(fixed[..., k]) for k in (0, 1))
    b_real, b_imaginary = (np.ascontiguousarray(moving[..., k]) for k in (0, 1))
    size = 2 * reach + 1
    agreement = np.empty((size, size, rows, columns), np.float32)
    for v in range(size):
        for u in range(size):
            window = np.s_[v : v + rows * cell, u : u + columns * cell]
            product = a_real * b_real[window] + a_imaginary * b_imaginary[window]
            agreement[v, u] = cv2.resize(product, (columns, rows), interpolation=cv2.INTER_AREA)
    middle = np.s_[reach : reach + rows * cell, reach : reach + columns * cell]
    power = (a_real**2 + a_imaginary**2) * (b_real[middle] ** 2 + b_imaginary[middle] ** 2)
    chance = float(np.sqrt(0.5 * power.sum(dtype=np.float64)))
    return agreement * np.float32(cell**2 / max(chance, 1e-6))
