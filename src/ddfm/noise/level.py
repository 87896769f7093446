"""Estimate the standard deviation of white noise in a picture.

Luminance has shape (B, 1, H, W) and range [-1, 1]; standard deviations are in the same units.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

GREY_LEVEL = 1 / 127.5  # one of 256, in the units of luminance
# Chosen so that no clean picture of the development data opens it, but for one set of MRI that is noisy
# (benchmarks/noise.py).
NOISE_GATE = 3 * GREY_LEVEL
# Noise is measured in blocks: large enough for a stable rms, small enough to lie within one surface.
BLOCK, STEP = 8, 4
STRIP = 64  # rows that are filtered at once
FLATTEST = 0.1  # share of the blocks that noise is measured in
QUANTILE = 0.3  # of their rms: below the median, because what detail is left only adds
FEWEST_BLOCKS = 100  # that noise is measured in: fewer make the quantile uncertain
ROUNDS = 3  # of choosing blocks by their clearance, which needs the sigma of the round before
LEAST_ROOM = GREY_LEVEL / 100  # to black and white; a block with less is one of the two throughout
MARGIN = 4  # pixels of height and width that `_filtered` takes away
RMS_OF_UNIT_NOISE = 0.8982  # the `QUANTILE` of the rms of blocks of white noise of standard deviation one
CLEARANCE = 2.5  # standard deviations between a block's mean and black or white


class Blocks(NamedTuple):
    """Describe the blocks of one image, (n,) each.

    Attributes:
        rms: of the second differences.
        gradient: squared, at a coarser scale.
        mean: of the pixels.
    """

    rms: Tensor
    gradient: Tensor
    mean: Tensor

    @property
    def room(self) -> Tensor:
        """Return the distance to black or white."""
        return 1 - self.mean.abs()


def estimate_noise(luma: Tensor) -> Tensor:
    """Estimate the standard deviation of white Gaussian noise in each image.

    The image is filtered with second differences in both directions (Immerkaer 1996, "Fast noise variance
    estimation"). That removes offsets of rows and columns. Then the rms is taken over small blocks. To keep
    detail out, only the flattest blocks count, as judged by gradients at a coarser scale (as Liu et al. 2013,
    "Single-image noise level estimation"). In pure noise these gradients are nearly independent of the second
    differences. So choosing by them does not bias the rms. Blocks too near to black or white, where noise is
    cut off, do not count either.

    Some images have fine detail all over (foliage, film grain), or wherever they are neither black nor white.
    It is taken for noise: there the estimate is high. Noise that is not white (compressed, enlarged or
    smoothed since) is understated. If it was smoothed at all, less than half of it is found.

    Args:
        luma: shape (B, 1, H, W).

    Returns:
        shape (B,), 0 where an image has no room for noise: it is black and white or too small.
    """
    if min(luma.shape[-2:]) < BLOCK + MARGIN:
        return luma.new_zeros(len(luma))
    return torch.stack([noise_of_blocks(blocks) for blocks in measure_blocks(luma)])


def measure_blocks(luma: Tensor) -> list[Blocks]:
    """Return the blocks of each image; it is at least as large as one of them with its margin."""
    # In strips, so that what is computed for each pixel stays in a processor's cache.
    strips = [
        F.avg_pool2d(_filtered(luma[..., top : top + STRIP + MARGIN, :]), STEP)
        for top in range(0, luma.shape[-2] - STEP - MARGIN + 1, STRIP)
    ]
    blocks = F.avg_pool2d(torch.cat(strips, 2), BLOCK // STEP, 1)
    detail, gradient, mean = blocks.flatten(2).unbind(1)
    return [Blocks(*image) for image in zip(detail.sqrt(), gradient, mean, strict=True)]


def noise_of_blocks(blocks: Blocks) -> Tensor:
    """Estimate the standard deviation of the noise of one image from its blocks; a scalar."""
    rms, room = blocks.rms, blocks.room
    farthest = room.topk(min(FEWEST_BLOCKS, len(room))).values[-1]
    sigma = rms.new_zeros(())
    for _ in range(ROUNDS):
        used = (room >= torch.minimum(CLEARANCE * sigma, farthest)) & (room > LEAST_ROOM)
        if not used.any():
            return rms.new_zeros(())
        sigma = level_of_flattest(rms[used], blocks.gradient[used], FEWEST_BLOCKS)
    return sigma


def level_of_flattest(rms: Tensor, gradient: Tensor, fewest: int) -> Tensor:
    """Return the standard deviation of noise with that rms in the flattest blocks, ``fewest`` or more."""
    count = max(round(FLATTEST * len(gradient)), min(fewest, len(gradient)))
    flat = gradient <= gradient.kthvalue(count).values
    return rms[flat].quantile(QUANTILE) / RMS_OF_UNIT_NOISE


def _filtered(luma: Tensor) -> Tensor:
    """Return squared second differences of unit noise gain, the squared gradient, and the smoothed image.

    Shapes (B, 1, H, W) and (B, 3, H - 4, W - 4). The gradient is that of differences at distance 2 after
    means with (1, 2, 1)/4 along both axes.
    """
    inner = luma[..., 1:-1, 1:-1]
    detail = _three(_three(inner, -2).mT, -2).mT / 6
    smooth = _three(_three(luma, 2).mT, 2).mT / 16
    across = smooth[..., 1:-1, 2:] - smooth[..., 1:-1, :-2]
    along = smooth[..., 2:, 1:-1] - smooth[..., :-2, 1:-1]
    return torch.cat([detail.square_(), across.square_() + along.square_(), luma[..., 2:-2, 2:-2]], 1)


def _three(image: Tensor, middle: float) -> Tensor:
    """Filter with (1, middle, 1) along columns."""
    return torch.add(image[..., :-2, :] + image[..., 2:, :], image[..., 1:-1, :], alpha=middle)
