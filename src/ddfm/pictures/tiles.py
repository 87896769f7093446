"""Sizes: padding to those that a network takes, and back; tiles of images too large for one piece."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

LEAST_TILE = 64  # pixels a side
AT_BORDER = 0.2  # share of an overlap next to a border that the tile of that border has no say in
Tile = Literal["auto", "off"] | int


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
        """Return the least padding to multiples of ``multiple``, split between opposite sides."""
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


@dataclass(frozen=True)
class Span:
    """The rows or the columns of a tile, ``start`` up to ``stop``.

    Attributes:
        before: how many of the first are the previous tile's, too.
        after: how many of the last are the next tile's, too.
    """

    start: int
    stop: int
    before: int
    after: int

    @property
    def all(self) -> slice:
        """Return the whole span as a slice."""
        return slice(self.start, self.stop)

    @property
    def own(self) -> slice:
        """Return the span without the halves of the overlaps that are nearer to its neighbours."""
        return slice(self.start + self.before // 2, self.stop - (self.after - self.after // 2))

    @property
    def own_within(self) -> slice:
        """Return `own`, counted from ``start``."""
        return slice(self.own.start - self.start, self.own.stop - self.start)

    def weights(self) -> Tensor:
        """Return raised cosines within the overlaps, one in between, (n,); over all tiles they sum to one."""
        weight = torch.ones(self.stop - self.start)
        weight[: self.before] = _rising(self.before)
        weight[len(weight) - self.after :] = _rising(self.after).flip(0)
        return weight


def _rising(n: int) -> Tensor:
    place = ((torch.arange(n) + 0.5) / n - AT_BORDER) / (1 - 2 * AT_BORDER)
    return (torch.pi / 2 * place.clamp(0, 1)).sin() ** 2


def spans(length: int, side: int, overlap: int, multiple: int = 1) -> list[Span]:
    """Cover ``length`` pixels by the fewest spans of ``side`` at most, or by one if they fit.

    They are about equally long, start at multiples of ``multiple``, and neighbours share ``overlap``
    pixels, both multiples of it; ``side`` is three times ``overlap`` at least.
    """
    if length <= side:
        return [Span(0, length, 0, 0)]
    count = -(-(length - overlap) // (side - overlap))
    stride = -(-(length - overlap) // (count * multiple)) * multiple
    starts = range(0, length - overlap, stride)
    return [
        Span(
            start,
            min(start + stride + overlap, length),
            overlap if start else 0,
            overlap if start != starts[-1] else 0,
        )
        for start in starts
    ]


def tiles(height: int, width: int, side: int, overlap: int, multiple: int = 1) -> Iterator[tuple[Span, Span]]:
    """Return rows and columns of each tile; see `spans`."""
    columns = spans(width, side, overlap, multiple)
    return ((down, across) for down in spans(height, side, overlap, multiple) for across in columns)


def blended(
    function: Callable[[Tensor], Tensor], image: Tensor, side: int, overlap: int, multiple: int
) -> Tensor:
    """Apply ``function`` to overlapping tiles and average the results; it must keep its argument's shape."""
    result = torch.zeros_like(image)
    for down, across in tiles(image.shape[-2], image.shape[-1], side, overlap, multiple):
        weight = torch.outer(down.weights(), across.weights()).to(image)
        result[..., down.all, across.all] += weight * function(image[..., down.all, across.all])
    return result


def corners(image: Tensor, side: int, multiple: int) -> Tensor:
    """Return the four corners of an image (1, C, H, W), (4, C, h, w).

    All sides are multiples of ``multiple``. A corner's sides have ``side`` pixels at most, and no more
    than half of the image's, but at least one multiple.
    """
    height, width = (max(min(side, length // 2) // multiple, 1) * multiple for length in image.shape[-2:])
    upper, lower = image[..., :height, :], image[..., -height:, :]
    return torch.cat([part for half in (upper, lower) for part in (half[..., :width], half[..., -width:])])
