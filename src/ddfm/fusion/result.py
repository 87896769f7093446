"""The result of a fusion."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddfm.errors import InputError
from ddfm.formats.pictures import check_writable, write_image
from ddfm.pictures.image import Image
from ddfm.pictures.layouts import Layout


@dataclass(frozen=True)
class FusionResult:
    """Hold the fused pictures, and what they were made with.

    Attributes:
        images: one fused picture, or as many as the sources' batches held. Size and colour are those of the
            first colour source, or of the first one if none is in colour. Depth is the first source's, alpha
            that of the first one that has it.
        settings: version, prior (None if no network evaluation was needed), form, scheduler, steps,
            seed, task and why it was chosen, stretch, device, dtype, backend; noise: what was found in each
            source, and denoised: what the prior was told of it (0 where it was not asked), both in 8-bit
            grey levels (the largest of a batch); defects: how many single defective pixels were found in each
            source and filled (likewise); moving: which exposure was kept where things move, counted
            from 1, and the shares of all that were replaced (None for other tasks).
        std: how far posterior samples of the luminance spread, float32 (H, W), (B, H, W) for a batch, in
            shares of the range from black to white; None if not asked for.
        layout: of the arrays that went in; None for pictures and files.
        source_map: which source has the largest weight at each pixel, counted from 1, (H, W), (B, H, W) for
            a batch; None if not asked for.
    """

    images: tuple[Image, ...]
    settings: dict[str, Any]
    std: NDArray[np.float32] | None = None
    layout: Layout | None = None
    source_map: NDArray[np.uint8] | None = None

    @property
    def image(self) -> Image:
        """Return the fused picture. Raises InputError if there are several."""
        if len(self.images) > 1:
            raise InputError(f"the result holds {len(self.images)} pictures: use images, or to_array()")
        return self.images[0]

    def to_array(self) -> NDArray[Any]:
        """Return the result in the layout that went in; else (H, W) or (H, W, C).

        Samples are uint8, uint16, int16 or float32, as the first source's.
        """
        if self.layout is None:
            return self.image.to_array()
        return self.layout.join([image.to_array() for image in self.images])

    def to_tensor(self) -> Tensor:
        """Return the same as a tensor, on the CPU."""
        return torch.from_numpy(self.to_array())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a PNG, JPEG, TIFF, BMP or WebP file, whole or not at all. Raises InputError."""
        path = Path(path)
        check_writable(path, self.image.depth, self.image.alpha is not None)
        write_image(path, self.image)


def merged_settings(results: Sequence[FusionResult]) -> dict[str, Any]:
    """Return the settings of several results as one: for each source, the highest noise level of all."""
    levels = {
        key: [max(levels) for levels in zip(*(result.settings[key] for result in results), strict=True)]
        for key in ("noise", "denoised", "defects")
    }
    return results[0].settings | levels
