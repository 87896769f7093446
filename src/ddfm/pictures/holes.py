"""Missing pixels: filled from around at once, and told apart by width.

Pictures have shape (B, C, H, W). What is known of them has shape (B, 1, H, W), 1 for a pixel that is known
and 0 for one that is missing.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ddfm.pictures.pyramid import expand, reduce, size

WIDE = 5  # pixels both ways, from which on what is missing cannot be told from around
TRUSTED = 0.25  # share of a neighbourhood that is known, from which on its mean counts in full
FADING = 3  # halvings of the neighbourhoods by which what is present fades out
AT_BORDER = 0.5  # their share that is present at a border
LEAST_PRESENT = 0.1  # and where nothing is left of it
LEAST_SHARE = 1e-6  # keeps a neighbourhood without any known pixel from dividing by 0
WHOLLY_KNOWN = 0.98  # share of a resampled pixel that is known, from which on it counts as known


def filled_from_around(image: Tensor, known: Tensor) -> Tensor:
    """Fill what is missing with the mean of the nearest known pixels; what is known stays as it is.

    Means over ever larger neighbourhoods are taken, until all is filled (push and pull, Gortler et al. 1996).
    A picture of which nothing is known becomes 0.
    """
    if bool((known == 1).all()):
        return image
    if max(size(image)) == 1:
        return image * (known > 0)
    share = reduce(known)
    mean = reduce(image * known) / share.clamp_min(LEAST_SHARE)
    coarse = filled_from_around(mean, (share / TRUSTED).clamp_max(1))
    return torch.lerp(expand(coarse, size(image)), image, known)


def with_stand_in(image: Tensor, known: Tensor, other: Tensor) -> Tensor:
    """Fill what is missing with another picture of the scene, at the brightness that ``image`` has nearby."""
    return other + filled_from_around(image - other, known)


def faded(present: Tensor) -> Tensor:
    """Return what is present, (B, 1, H, W), 1 up to its border and 0 some ten pixels beyond."""
    coarse, sizes = present, []
    for _ in range(FADING):
        sizes.append(size(coarse))
        coarse = reduce(coarse)
    for before in reversed(sizes):
        coarse = expand(coarse, before)
    share = ((coarse - LEAST_PRESENT) / (AT_BORDER - LEAST_PRESENT)).clamp(0, 1)
    return torch.maximum(present, share)


def wide(missing: Tensor) -> Tensor:
    """Return which of the missing pixels lie in squares of `WIDE` pixels that are missing, (B, 1, H, W) bool.

    What lies outside the picture counts as missing, so that a source that ends within it ends as a whole.
    """
    margin = WIDE - 1
    padded = F.pad(missing.float(), (margin,) * 4, value=1.0)
    squares = -F.max_pool2d(-padded, WIDE, 1)
    return F.max_pool2d(squares, WIDE, 1) > 0
