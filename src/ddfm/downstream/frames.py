"""All pictures of a split in one size, on disk where there is a folder for them, ready for training."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ddfm.downstream.boxes import Boxes
from ddfm.downstream.scenes import RgbPixels
from ddfm.formats.atomic import prepare_folder

MULTIPLE = 8  # pixels that height and width are rounded down to
MOST_MEASURED = 200  # pictures that mean and standard deviation are measured on, at most


@dataclass(frozen=True)
class Frames:
    """Pictures of one input, uint8 (N, H, W, 3), and the normalisation that its training split has.

    Attributes:
        pixels: in memory, or mapped from a file.
        mean: of each channel, float32 (3,).
        std: of each channel, at least one grey level.
    """

    pixels: NDArray[np.uint8]
    mean: Tensor
    std: Tensor

    @property
    def size(self) -> tuple[int, int]:
        """Return height and width."""
        return self.pixels.shape[1], self.pixels.shape[2]

    def __len__(self) -> int:
        return len(self.pixels)

    def batch(
        self, chosen: NDArray[np.intp], device: str, mirrored: NDArray[np.bool_] | None = None
    ) -> Tensor:
        """Return pictures, normalised, (B, 3, H, W) on a device; some of them mirrored."""
        pixels = self.pixels[chosen]
        if mirrored is not None:
            pixels[mirrored] = pixels[mirrored][:, :, ::-1]
        values = torch.from_numpy(pixels).to(device).movedim(-1, 1).float()
        mean, std = (part.to(device).reshape(1, 3, 1, 1) for part in (self.mean, self.std))
        return (values - mean) / std


def working_size(picture: RgbPixels) -> tuple[int, int]:
    """Return height and width of a picture, rounded down to what the networks take."""
    height, width = picture.shape[:2]
    return height // MULTIPLE * MULTIPLE, width // MULTIPLE * MULTIPLE


def collect(
    pictures: Iterable[RgbPixels],
    count: int,
    size: tuple[int, int],
    file: Path | None,
    like: Frames | None = None,
) -> Frames:
    """Bring pictures to one size and keep them.

    Args:
        pictures: ``count`` of them.
        count: how many there are.
        size: height and width to bring them to.
        file: where to keep them; in memory if None.
        like: frames to take the normalisation from: those of the training split, for a test split.
    """
    shape = (count, *size, 3)
    if file is None:
        pixels = np.empty(shape, np.uint8)
    else:
        prepare_folder(file.parent)
        pixels = np.lib.format.open_memmap(file, "w+", np.uint8, shape)
    for number, picture in enumerate(pictures):
        pixels[number] = resized(picture, size)
    if like is not None:
        return Frames(pixels, like.mean, like.std)
    sample = pixels[:: max(1, count // MOST_MEASURED)].reshape(-1, 3).astype(np.float64)
    mean, std = sample.mean(0), sample.std(0).clip(1)
    return Frames(pixels, torch.from_numpy(mean).float(), torch.from_numpy(std).float())


def resized(picture: RgbPixels, size: tuple[int, int]) -> RgbPixels:
    """Return a picture of that height and width (bicubic)."""
    if picture.shape[:2] == size:
        return picture
    return np.asarray(Image.fromarray(picture).resize(size[::-1], Image.Resampling.BICUBIC))


def scaled(boxes: Boxes, size: tuple[int, int], to: tuple[int, int]) -> Boxes:
    """Return boxes of a picture of one size in a picture of another."""
    factors = to[1] / size[1], to[0] / size[0]
    return Boxes(boxes.xyxy * (*factors, *factors), boxes.classes, boxes.scores)


def mirrored_boxes(boxes: Boxes, width: int) -> Boxes:
    """Return the boxes of the mirrored picture."""
    left, top, right, bottom = boxes.xyxy.T
    return Boxes(np.stack([width - right, top, width - left, bottom], 1), boxes.classes, boxes.scores)
