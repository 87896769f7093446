"""Padding to the sizes that a network takes, and back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Padding:
    """Rows and columns added around an image of ``height`` x ``width``."""

    height: int
    width: int
    top: int
    left: int
    padded_height: int
    padded_width: int

    @classmethod
    def to_multiple(cls, height: int, width: int, multiple: int) -> Padding:
        """The least padding, split between opposite sides, to multiples of ``multiple``."""
        padded_height, padded_width = (-(-side // multiple) * multiple for side in (height, width))
        top, left = (padded_height - height) // 2, (padded_width - width) // 2
        return cls(height, width, top, left, padded_height, padded_width)

    def pad(self, image: Tensor) -> Tensor:
        """Mirror ``image`` (..., H, W) at its borders, as often as it takes."""
        rows = _mirror(torch.arange(self.padded_height, device=image.device) - self.top, self.height)
        columns = _mirror(torch.arange(self.padded_width, device=image.device) - self.left, self.width)
        return image[..., rows, :][..., columns]

    def crop(self, image: Tensor) -> Tensor:
        """Undo `pad`."""
        return image[..., self.top : self.top + self.height, self.left : self.left + self.width]


def _mirror(index: Tensor, size: int) -> Tensor:
    """Fold indices into 0 .. size - 1, the border sample repeated: -1 is 0, size is size - 1."""
    folded = index % (2 * size)
    return torch.minimum(folded, 2 * size - 1 - folded)
