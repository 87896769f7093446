"""Photographs as crops to train on."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ddfm.errors import InputError
from ddfm.formats.files import exists
from ddfm.formats.pictures import SUFFIXES, read_8bit
from ddfm.priors.diffusion import timestep_of
from ddfm.training.recipe import PriorRecipe


def find_images(paths: Iterable[Path]) -> list[Path]:
    """List all image files named or below the folders named, sorted."""
    found: set[Path] = set()
    for path in paths:
        if not exists(path):
            raise InputError(f"{path}: no such file or folder")
        candidates = path.rglob("*") if path.is_dir() else [path]
        found.update(p for p in candidates if p.suffix.lower() in SUFFIXES and (p == path or p.is_file()))
    if not found:
        raise InputError(f"{', '.join(map(str, paths))}: no images ({', '.join(sorted(SUFFIXES))}) found")
    return sorted(found)


def load_pyramid(paths: Iterable[Path], crop: int) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.uint8]]]:
    """Load the luminance of every image at its own scale and at half of it, where a crop fits."""
    native, half = [], []
    for path in paths:
        grey = Image.fromarray(read_8bit(path)).convert("L")
        if min(grey.size) >= crop:
            native.append(np.asarray(grey))
        if min(grey.size) >= 2 * crop:
            half.append(np.asarray(grey.reduce(2)))
    return native, half


class Crops:
    """Random crops and their noise levels; batch ``step`` is a function of (seed, step) alone."""

    def __init__(self, images: Iterable[Path], recipe: PriorRecipe, sigmas: Tensor) -> None:
        self.recipe, self.sigmas = recipe, sigmas
        self.native, self.half = load_pyramid(images, recipe.crop)
        if not self.native:
            raise InputError(
                f"no image is at least {recipe.crop} pixels high and wide (crop = {recipe.crop})"
            )

    def batch(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return clean crops (B, 1, crop, crop) in [-1, 1]; fractional timesteps (B,); noise."""
        r = self.recipe
        rng = np.random.default_rng((r.seed, step))
        clean = torch.from_numpy(np.stack([self._crop(rng) for _ in range(r.batch)]))[:, None]
        clean = clean.float() / 127.5 - 1
        clean[rng.random(r.batch) < r.inverted] *= -1
        timesteps = torch.from_numpy(rng.uniform(0, len(self.sigmas) - 1, r.batch)).float()
        low = rng.random(r.batch) < r.low_noise
        low_end, high_end = np.log(r.low_noise_range)
        levels = np.exp(rng.uniform(low_end, high_end, r.batch)) / 127.5
        timesteps[low] = timestep_of(torch.from_numpy(levels), self.sigmas)[low]
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(int(rng.integers(2**62))))
        return clean, timesteps, noise

    def _crop(self, rng: np.random.Generator) -> NDArray[np.uint8]:
        pool = self.native if not self.half or rng.random() < self.recipe.native_scale else self.half
        image, side = pool[rng.integers(len(pool))], self.recipe.crop
        top, left = rng.integers(image.shape[0] - side + 1), rng.integers(image.shape[1] - side + 1)
        crop = image[top : top + side, left : left + side]
        crop = crop[:, ::-1] if rng.random() < 0.5 else crop
        crop = crop[::-1] if rng.random() < 0.5 else crop
        return crop.T if rng.random() < 0.5 else crop


def central_crops(images: Iterable[Path], crop: int) -> Tensor:
    """Return the middle of every image in which a crop fits, (N, 1, crop, crop) in [-1, 1]."""
    crops = []
    for grey in load_pyramid(images, crop)[0]:
        top, left = (grey.shape[0] - crop) // 2, (grey.shape[1] - crop) // 2
        crops.append(grey[top : top + crop, left : left + crop])
    if not crops:
        raise InputError(f"no held-out image is at least {crop} pixels high and wide")
    return torch.from_numpy(np.stack(crops))[:, None].float() / 127.5 - 1
