"""What every metric asks of its images, and the one rule for ratios of nothing to nothing."""

from __future__ import annotations

import torch
from torch import Tensor

from ddfm.errors import InputError


def prepare(metric: str, *images: Tensor, at_least: int = 1) -> tuple[Tensor, ...]:
    """Check the images of one call and return them as float64, shape (B, C, H, W).

    Height and width must agree. Batch and channels broadcast: one pair of sources may stand against
    a batch of fused images, one grey infrared image against three channels. All metrics lean on that,
    so whatever depends on the sources alone is computed once.
    """
    for image in images:
        if image.ndim != 4 or image.numel() == 0:
            raise InputError(
                f"{metric}: images must be (batch, channels, height, width), not {list(image.shape)}"
            )
    try:
        torch.broadcast_shapes(*(image.shape[:2] for image in images))
    except RuntimeError as error:
        shapes = ", ".join(str(list(image.shape)) for image in images)
        raise InputError(f"{metric}: batches or channels do not match: {shapes}") from error
    if len({image.shape[2:] for image in images}) > 1:
        sizes = ", ".join(f"{image.shape[3]}x{image.shape[2]}" for image in images)
        raise InputError(f"{metric}: images differ in size (width x height): {sizes}")
    height, width = images[0].shape[2:]
    if min(height, width) < at_least:
        least, actual = f"{at_least}x{at_least}", f"{width}x{height}"
        raise InputError(f"{metric} needs images of at least {least} pixels; these have {actual}")
    return tuple(_as_float64(metric, image) for image in images)


def _as_float64(metric: str, image: Tensor) -> Tensor:
    if image.dtype == torch.uint8:
        return image.double()
    if image.is_complex():
        raise InputError(f"{metric}: images must be real")
    image = image.double()
    low, high = (bound.item() for bound in torch.aminmax(image))
    if not (low >= 0 and high <= 255):  # written so that NaN, which aminmax passes on, is refused too
        raise InputError(
            f"{metric}: grey values must be finite and within 0..255; these span {low:g}..{high:g}"
        )
    return image


def ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Return numerator / denominator, and 0 where the denominator is 0: no signal, no credit."""
    return torch.where(denominator == 0, 0.0, numerator / denominator)


def over_channels(per_channel: Tensor) -> Tensor:
    """Average (B, C) to (B,): colour images are measured per channel."""
    return per_channel.mean(1)
