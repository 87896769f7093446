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
    return _reduce_height(_reduce_height(image).mT).mT.mul_(1 / 256)


def _reduce_height(image: Tensor) -> Tensor:
    """Reduce the height, without the division by 16."""
    last = image.shape[-2] - 4
    a, b, c, d, e = (image[..., k : k + last : 2, :] for k in range(5))
    return torch.add(a + e, b + d, alpha=4).add_(c, alpha=6)


def expand(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Interpolate to ``size``, the height and width that `reduce` had before it."""
    height, width = image.shape[-2:]
    image = F.pad(image, (1, 1, 1, 1), mode="replicate")
    # Along rows: (1, 6, 1)/8 at a pixel, (1, 1)/2 between two. Then along columns, where rows that lie
    # beside each other are interpolated at once, which is why the other axis comes first.
    left, centre, right = image[..., :-2], image[..., 1:-1], image[..., 2:]
    wide = image.new_empty(*image.shape[:-1], 2 * width)
    wide[..., ::2] = torch.add(left + right, centre, alpha=6)
    wide[..., 1::2] = (centre + right).mul_(4)
    wide.mul_(1 / 64)  # of both axes
    above, centre, below = wide[..., :-2, :], wide[..., 1:-1, :], wide[..., 2:, :]
    result = image.new_empty(*image.shape[:-2], height, 2, 2 * width)
    torch.add(above + below, centre, alpha=6, out=result[..., 0, :])
    torch.add(centre, below, out=result[..., 1, :]).mul_(4)
    return result.flatten(-3, -2)[..., : size[0], : size[1]]


def decompose(image: Tensor, levels: int) -> tuple[list[Tensor], Tensor]:
    """Split an image into detail bands, finest first, and the rest, 2^levels times smaller."""
    bands = []
    for _ in range(levels):
        smaller = reduce(image)
        bands.append(image - expand(smaller, size(image)))
        image = smaller
    return bands, image


def compose(bands: list[Tensor], image: Tensor) -> Tensor:
    """Invert `decompose`, exact up to rounding."""
    for band in reversed(bands):
        image = band + expand(image, size(band))
    return image


def smooth(image: Tensor, levels: int) -> Tensor:
    """Average over a neighbourhood: `reduce` that many times, then `expand` to the size it had."""
    sizes = []
    for _ in range(levels):
        sizes.append(size(image))
        image = reduce(image)
    for before in reversed(sizes):
        image = expand(image, before)
    return image


def size(image: Tensor) -> tuple[int, int]:
    """Return height and width."""
    return image.shape[-2], image.shape[-1]
