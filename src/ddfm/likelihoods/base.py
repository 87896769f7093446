"""What sampling needs of a likelihood.

All images are in [-1, 1], shape (B, 1, H, W); what is one number an image has shape (B, 1, 1, 1).
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class DataTerm(Protocol):
    """What sampling needs of a likelihood."""

    @property
    def start(self) -> Tensor | None:
        """The luminance that the sources alone give, (B, 1, H, W); None if they leave it open."""
        ...

    def rectify(self, f0: Tensor) -> Tensor:
        """One EM iteration on the luminance of f0 (B, C, H, W), C = 1 or 3; same shape out."""
        ...


class Likelihood(DataTerm, Protocol):
    """The data term for one set of sources; keeps its scales from one sampling step to the next."""

    def finish(self, luma: Tensor, stretch: bool = True) -> Tensor:
        """Luminance of the last sample, (B, 1, H, W), as a picture in [0, 1], stretched if the form does."""
        ...


class Unconditional:
    """A likelihood without sources, for drawing from the prior alone."""

    start = None

    def rectify(self, f0: Tensor) -> Tensor:
        return f0

    def finish(self, luma: Tensor, stretch: bool = True) -> Tensor:
        return ((luma + 1) / 2).clamp(0, 1)
