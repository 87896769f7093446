"""Fill missing pixels by what the prior expects there: looks at falling levels, from coarse to fine.

Between two looks the known pixels are put back (plug and play, as RePaint does with samples: Lugmayr et al.
2022). A hole that is wide is filled at a coarser scale first, where it is narrow: one look reaches across it.

Luminance has shape (B, 1, H, W) and range [-1, 1].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ddfm.noise.level import GREY_LEVEL
from ddfm.noise.posterior import Denoiser, look
from ddfm.pictures.holes import LEAST_SHARE, faded, filled_from_around, wide
from ddfm.pictures.pyramid import expand, reduce, size
from ddfm.timing import stage

WHITE = 1.0  # that wide holes are painted with: noise is not measured in what is white
FINE = (15, 10, 7, 5, 3, 2)  # grey levels, of the looks at full resolution
COARSE = (20, 10, 5)  # at every coarser one
SCALES = 3  # coarser ones, at most
KNOWN = 0.5  # share of a coarser pixel that is known, from which on it counts as known
LEAST_SIDE = 16  # pixels, of the coarsest scale
# Draws start at levels that leave more of the hole open. In so few looks they still vary too little: what
# they differ by from the mean is multiplied.
DRAWN_FINE, DRAWN_COARSE = (60, 30, 15, 8, 4, 2), (80, 40, 20, 10)
VARIED = 1.8


class Holes(NamedTuple):
    """Say what is missing of a source; both have shape (B, 1, H, W), of 0 and 1.

    Attributes:
        known: 1 for a pixel that the source shows.
        gone: 1 for a missing one where another source takes its place.
    """

    known: Tensor
    gone: Tensor

    @property
    def shown(self) -> Tensor:
        """Return how far the source has a value of its own, known or filled in, (B, 1, H, W), 0 to 1.

        It fades out over some ten pixels of what is gone, so that no border comes into the picture.
        """
        return faded(1 - self.gone)

    def to(self, like: Tensor) -> Holes:
        """Return the same on the device of a picture."""
        return Holes(self.known.to(like), self.gone.to(like))

    @property
    def to_fill(self) -> bool:
        """Tell whether there is anything for the prior to fill."""
        return bool((self.known + self.gone == 0).any())

    def painted(self, luma: Tensor) -> Tensor:
        """Return the source with its wide holes in white, which noise is not measured in."""
        return torch.where(wide(self.known == 0), WHITE, luma)

    def fill(
        self, prior: Callable[[], Denoiser], luma: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return the source with what no other one shows filled by the prior: see `filled`."""
        if not self.to_fill:
            return luma
        return torch.where(self.gone > 0, luma, filled(prior(), luma, self.known, generator))


@stage("fill")
def filled(prior: Denoiser, luma: Tensor, known: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Return E[luma | its known pixels] under the prior: six network evaluations, and some at coarser scales.

    Args:
        prior: of luminance or RGB.
        luma: (B, 1, H, W); its missing pixels may have any finite value.
        known: 1 for a pixel that is known and 0 for one that is missing, (B, 1, H, W).
        generator: where it is given, the result is not the mean but a draw: noise of the level of each look
            is added to the missing pixels before.

    Returns:
        shape of ``luma``; its known pixels are those of ``luma`` to the bit.
    """
    start = filled_from_around(luma, known)
    schedule = (FINE, COARSE) if generator is None else (DRAWN_FINE, DRAWN_COARSE)
    estimate = _refined(prior, start, known, schedule, SCALES, generator).clamp(-1, 1)
    return torch.where(known == 0, estimate, luma)


def _refined(
    prior: Denoiser,
    x: Tensor,
    known: Tensor,
    schedule: tuple[tuple[int, ...], tuple[int, ...]],
    coarser: int,
    generator: torch.Generator | None,
) -> Tensor:
    """Return x, (B, 1, H, W), with better values where it is not known, after as many coarser scales.

    ``schedule`` are the levels here and at all coarser scales.
    """
    levels, coarse_levels = schedule
    if coarser and min(size(x)) >= 2 * LEAST_SIDE:
        smaller = reduce(x)
        share = reduce(known)
        seen = torch.lerp(smaller, reduce(x * known) / share.clamp_min(LEAST_SHARE), known_at(share))
        if not bool(known_at(share).all()):
            better = _refined(prior, seen, known_at(share), (coarse_levels,) * 2, coarser - 1, generator)
            x = x + (1 - known) * expand(better - smaller, size(x))
    for index, level in enumerate(levels):
        sigma = torch.tensor(level * GREY_LEVEL, dtype=torch.float64)
        shown = x if generator is None else x + (1 - known) * sigma.to(x) * _noise(x, generator)
        # Every second look is at the mirror image, so that what the network leaves does not add up.
        estimate = look(prior, shown.flip(-1), sigma).flip(-1) if index % 2 else look(prior, shown, sigma)
        x = torch.lerp(estimate, x, known)
    return x


def known_at(share: Tensor) -> Tensor:
    """Return which pixels of a coarser scale count as known, by the share of each that is known."""
    return (share > KNOWN).to(share)


def _noise(like: Tensor, generator: torch.Generator) -> Tensor:
    """Draw standard normal noise on the CPU, so that every device gets the same."""
    return torch.randn(like.shape, generator=generator).to(like)
