"""Layouts of arrays: what goes in as (B, C, H, W), say, comes back so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddfm.errors import InputError

MOST_CHANNELS = 4  # pictures are at least 16 pixels wide, so an axis of up to four is the channels'
AXES = "H x W, H x W x C, C x H x W, B x C x H x W or B x H x W x C, with 1 to 4 channels"


@dataclass(frozen=True)
class Layout:
    """Describe how an array holds pictures.

    Attributes:
        axes: "HW", "HWC", "CHW", "BCHW" or "BHWC".
        channels: length of the channel axis, 1 if there is none.
    """

    axes: str = "HWC"
    channels: int = 1

    def join(self, pictures: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Join pictures (H, W) or (H, W, C) in this layout; grey ones fill a layout of three channels."""
        stack = np.stack([picture[..., None] if picture.ndim == 2 else picture for picture in pictures])
        if self.channels >= 3 and stack.shape[-1] < 3:
            grey, alpha = stack[..., :1], stack[..., 1:]
            stack = np.concatenate([np.repeat(grey, 3, -1), alpha], -1)
        if self.axes.endswith("CHW"):
            stack = np.moveaxis(stack, -1, 1)
        if self.axes == "HW" and stack.shape[-1] == 1:
            stack = stack[..., 0]
        return np.ascontiguousarray(stack if self.axes.startswith("B") else stack[0])


def split(array: NDArray[Any], name: str) -> tuple[list[NDArray[Any]], Layout]:
    """Split an array of any layout into pictures (H, W, C); raises InputError for an unknown layout."""
    shape = array.shape
    if array.ndim == 2:
        return [array[..., None]], Layout("HW")
    if array.ndim == 3 and shape[-1] <= MOST_CHANNELS:
        return [array], Layout("HWC", shape[-1])
    if array.ndim == 3 and shape[0] <= MOST_CHANNELS:
        return [np.moveaxis(array, 0, -1)], Layout("CHW", shape[0])
    if array.ndim == 4 and shape[0] and shape[1] <= MOST_CHANNELS:
        return list(np.moveaxis(array, 1, -1)), Layout("BCHW", shape[1])
    if array.ndim == 4 and shape[0] and shape[-1] <= MOST_CHANNELS:
        return list(array), Layout("BHWC", shape[-1])
    raise InputError(f"{name}: shape {shape} is none of {AXES}")
