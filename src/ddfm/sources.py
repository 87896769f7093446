"""What stands for a source picture, and how several are brought to one size."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage
from torch import Tensor

from ddfm.errors import InputError
from ddfm.images import Image, from_array, from_pil, read_image

Source = str | os.PathLike[str] | Image | PILImage.Image | NDArray[Any] | Tensor


def as_image(source: Source, name: str) -> Image:
    """Whatever stands for a picture as an `Image`; raises InputError for what does not."""
    if isinstance(source, str | os.PathLike):
        return read_image(Path(source))
    if isinstance(source, Image):
        return source
    if isinstance(source, PILImage.Image):
        return from_pil(source, name)
    if isinstance(source, Tensor):
        array = source.detach().cpu().numpy()
        return from_array(np.moveaxis(array, 0, -1) if array.ndim == 3 else array, name)
    if isinstance(source, np.ndarray):
        return from_array(source, name)
    raise InputError(f"{name}: a {type(source).__name__} is not a path, PIL image, array or tensor")


def first_colour(sources: list[Image]) -> Image:
    """The source whose size and colour profile the result takes."""
    return next((source for source in sources if source.is_colour), sources[0])


def match_sizes(sources: list[Image], resize: bool) -> list[Image]:
    """Sources of one size: refuse others, or resample them to the first colour source's."""
    target = first_colour(sources)
    if all(source.size == target.size for source in sources):
        return sources
    if not resize:
        sizes = " and ".join(f"{s.name} is {s.size[1]}x{s.size[0]}" for s in sources)
        raise InputError(f"{sizes} pixels; sources must be aligned and of one size (--resize resamples)")
    return [source if source.size == target.size else resampled(source, target.size) for source in sources]


def resampled(image: Image, size: tuple[int, int]) -> Image:
    """The image at another height and width, bicubic with antialiasing."""

    def plane(values: NDArray[np.float32]) -> NDArray[np.float32]:
        resized = PILImage.fromarray(values).resize((size[1], size[0]), PILImage.Resampling.BICUBIC)
        return np.asarray(resized).clip(0, 1)

    pixels = np.dstack([plane(channel) for channel in np.moveaxis(image.pixels, -1, 0)])
    return replace(image, pixels=pixels, alpha=None if image.alpha is None else plane(image.alpha))
