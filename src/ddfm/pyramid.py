"""The Laplacian pyramid (Burt and Adelson, IEEE Trans. Communications 1983) with its 5-tap binomial kernel.

Images have shape (B, K, H, W), of any size from 1x1; borders repeat the outermost pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def reduce(image: Tensor) -> Tensor:
    """Blur with (1, 4, 6, 4, 1)/16 along both axes and keep every second pixel: H to ceil(H / 2)."""
    image = F.pad(image, (2, 2, 2, 2), mode="replicate")
    return _reduce_rows(_reduce_rows(image).mT).mT


def _reduce_rows(image: Tensor) -> Tensor:
    even, odd = image[..., ::2], image[..., 1::2]
    n = (image.shape[-1] - 3) // 2
    outer = even[..., :n] + even[..., 2 : n + 2]
    return (outer + 6 * even[..., 1 : n + 1] + 4 * (odd[..., :n] + odd[..., 1 : n + 1])) / 16


def expand(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Interpolate to ``size``, the height and width that `reduce` had before it."""
    image = F.pad(image, (1, 1, 1, 1), mode="replicate")
    rows = _expand_rows(image)[..., : size[1]]
    return _expand_rows(rows.mT)[..., : size[0]].mT


def _expand_rows(image: Tensor) -> Tensor:
    left, centre, right = image[..., :-2], image[..., 1:-1], image[..., 2:]
    return torch.stack([(left + 6 * centre + right) / 8, (centre + right) / 2], -1).flatten(-2)


def decompose(image: Tensor, levels: int) -> tuple[list[Tensor], Tensor]:
    """Detail bands, finest first, and what is left, 2^levels times smaller."""
    bands = []
    for _ in range(levels):
        smaller = reduce(image)
        bands.append(image - expand(smaller, size(image)))
        image = smaller
    return bands, image


def compose(bands: list[Tensor], image: Tensor) -> Tensor:
    """The inverse of `decompose`, exact up to rounding."""
    for band in reversed(bands):
        image = band + expand(image, size(band))
    return image


def size(image: Tensor) -> tuple[int, int]:
    """Height and width."""
    return image.shape[-2], image.shape[-1]
