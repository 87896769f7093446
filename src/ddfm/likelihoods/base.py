"""Say what sampling needs of a likelihood.

All images are in [-1, 1], shape (B, 1, H, W); what is one number an image has shape (B, 1, 1, 1).
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor


class DataTerm(Protocol):
    """Require of a likelihood what sampling needs."""

    @property
    def start(self) -> Tensor | None:
        """Return the luminance that the sources alone give, (B, 1, H, W); None if they leave it open."""
        ...

    def rectify(self, f0: Tensor) -> Tensor:
        """Do one EM iteration on the luminance of f0 (B, C, H, W), C = 1 or 3; same shape out."""
        ...


class Likelihood(DataTerm, Protocol):
    """The data term for one set of sources; keeps its scales from one sampling step to the next."""

    def finish(self, luma: Tensor, stretch: bool = True) -> Tensor:
        """Return the last luminance, (B, 1, H, W), as a picture in [0, 1], stretched if the form does."""
        ...


@runtime_checkable
class Choosing(Protocol):
    """Require of a likelihood what chroma by choice and a map of the sources need."""

    def choice(self) -> Tensor:
        """Return how far each of K sources explains the intensities, (B, K, H, W)."""
        ...


class Unconditional:
    """A likelihood without sources, for drawing from the prior alone."""

    start = None

    def rectify(self, f0: Tensor) -> Tensor:
        """Return f0 itself."""
        return f0

    def finish(self, luma: Tensor, stretch: bool = True) -> Tensor:
        """See `Likelihood.finish`; nothing is stretched."""
        return ((luma + 1) / 2).clamp(0, 1)
