"""Pictures of several sizes in one batch: the network sees them at once, all else each by itself.

The sides of what a network takes are multiples of some number. So pictures are padded for it, and those of
different sizes may come out alike; such pictures are sampled in frames of that common size. Before every
evaluation what lies around a picture is made its mirror image, which is what the network is shown of the
picture alone; its likelihood never sees anything but the picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ddfm.likelihoods.base import Likelihood
from ddfm.pictures.tiles import Padding


class Together:
    """Likelihoods of pictures of several sizes as one, of frames."""

    def __init__(self, likelihoods: Sequence[Likelihood], sources: Sequence[Tensor], multiple: int) -> None:
        """
        Args:
            likelihoods: one for each size.
            sources: a source of each, (B, 1, H, W), for its size.
            multiple: of which the frames' height and width are multiples; see `Prior`. All sizes
                have to come to the same frame.
        """
        self.likelihoods = likelihoods
        self.paddings = [
            Padding.to_multiple(source.shape[-2], source.shape[-1], multiple) for source in sources
        ]
        self.counts = [len(source) for source in sources]

    @property
    def start(self) -> Tensor | None:
        starts = [likelihood.start for likelihood in self.likelihoods]
        known = [start for start in starts if start is not None]
        return self.framed(known) if len(known) == len(starts) else None

    def rectify(self, f0: Tensor) -> Tensor:
        """See `ddfm.likelihoods.base.DataTerm`."""
        pictures = zip(self.likelihoods, self.pictures(f0), strict=True)
        return self.framed([likelihood.rectify(picture) for likelihood, picture in pictures])

    def framed(self, pictures: Sequence[Tensor]) -> Tensor:
        """Pictures of each size, (B, C, H, W), in one batch of frames, mirrored at their borders."""
        return torch.cat(
            [padding.pad(picture) for padding, picture in zip(self.paddings, pictures, strict=True)]
        )

    def pictures(self, frames: Tensor) -> list[Tensor]:
        """Those in a batch of frames, (B, C, H, W) for each size."""
        batches = frames.split(self.counts)
        return [padding.crop(batch) for padding, batch in zip(self.paddings, batches, strict=True)]

    def mirrored(self, frames: Tensor) -> Tensor:
        """The same pictures, with nothing around them but their mirror images."""
        return self.framed(self.pictures(frames))
