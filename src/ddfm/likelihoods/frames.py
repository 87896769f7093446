"""Pictures of several sizes in one batch of the network.

A network takes sides that are multiples of some number, so pictures are padded for it. Those of different
sizes may come out alike; they are sampled in frames of that common size. Before every evaluation the
border of a frame is made the picture's mirror image. So the network sees what it sees of the picture alone.
A likelihood sees its own picture only.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ddfm.likelihoods.base import Likelihood
from ddfm.pictures.tiles import Padding


class PaddedBatch:
    """Treat the likelihoods of pictures of several sizes as one, of frames of a common size."""

    def __init__(self, likelihoods: Sequence[Likelihood], sources: Sequence[Tensor], multiple: int) -> None:
        """Take the likelihoods and the sizes of their pictures.

        Args:
            likelihoods: one for each size.
            sources: a source of each, (B, 1, H, W), for its size.
            multiple: number of pixels that the frames' height and width are multiples of; see `Prior`. All
                sizes have to come to the same frame.
        """
        self.likelihoods = likelihoods
        self.paddings = [
            Padding.to_multiple(source.shape[-2], source.shape[-1], multiple) for source in sources
        ]
        self.counts = [len(source) for source in sources]

    @property
    def start(self) -> Tensor | None:
        """Return the starts as frames; None if a likelihood has none."""
        starts = [likelihood.start for likelihood in self.likelihoods]
        known = [start for start in starts if start is not None]
        return self.framed(known) if len(known) == len(starts) else None

    def rectify(self, f0: Tensor) -> Tensor:
        """See `ddfm.likelihoods.base.DataTerm`."""
        pictures = zip(self.likelihoods, self.pictures(f0), strict=True)
        return self.framed([likelihood.rectify(picture) for likelihood, picture in pictures])

    def framed(self, pictures: Sequence[Tensor]) -> Tensor:
        """Return pictures of each size, (B, C, H, W), as one batch of frames, mirrored at their borders."""
        return torch.cat(
            [padding.pad(picture) for padding, picture in zip(self.paddings, pictures, strict=True)]
        )

    def pictures(self, frames: Tensor) -> list[Tensor]:
        """Return the pictures in a batch of frames, (B, C, H, W) for each size."""
        batches = frames.split(self.counts)
        return [padding.crop(batch) for padding, batch in zip(self.paddings, batches, strict=True)]

    def mirrored(self, frames: Tensor) -> Tensor:
        """Return the frames with each border made the picture's mirror image."""
        return self.framed(self.pictures(frames))
