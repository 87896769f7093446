"""What stands for a source picture, and how several are brought to one size."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as PILImage
from torch import Tensor

from ddfm.errors import InputError, reason_of
from ddfm.formats.pictures import from_pil, read_image
from ddfm.pictures.holes import WHOLLY_KNOWN
from ddfm.pictures.image import Image, first_colour, from_stack
from ddfm.pictures.layouts import Layout, split
from ddfm.timing import stage

Source = str | os.PathLike[str] | Image | PILImage.Image | NDArray[Any] | Tensor


class Sources(NamedTuple):
    """Hold the given sources as pictures.

    Attributes:
        pictures: of each source its pictures, of which there is one unless it came as a batch.
        layouts: the layout of each source that came as an array or tensor, None for the others.
    """

    pictures: list[list[Image]]
    layouts: list[Layout | None]

    @property
    def layout(self) -> Layout | None:
        """Return the result's layout: that of the first source with colour channels, or the first's."""
        colour = (layout for layout in self.layouts if layout is not None and layout.channels >= 3)
        return next(colour, self.layouts[0])

    @property
    def is_batch(self) -> bool:
        """Tell whether the sources came as a batch."""
        return self.layout is not None and self.layout.axes.startswith("B")


def as_sources(given: Sequence[Source]) -> Sources:
    """Read whatever stands for pictures; raises InputError for what does not, and for batches that differ."""
    read = [as_images(source, f"{ordinal(k)} source") for k, source in enumerate(given)]
    sources = Sources([pictures for pictures, _ in read], [layout for _, layout in read])
    counts = [len(pictures) for pictures in sources.pictures]
    if len(set(counts)) > 1:
        raise InputError(
            f"the sources hold {', '.join(map(str, counts))} pictures; all need as many as the first"
        )
    return sources


def as_images(source: Source, name: str) -> tuple[list[Image], Layout | None]:
    """Convert one source to pictures, more than one if it is a batch, and the layout if it is an array."""
    if isinstance(source, str | os.PathLike):
        return [read_image(as_path(source, name))], None
    if isinstance(source, Image):
        return [source], None
    if isinstance(source, PILImage.Image):
        return [from_pil(source, name)], None
    if isinstance(source, Tensor):
        source = as_array(source, name)
    if isinstance(source, np.ndarray):
        if isinstance(source, np.matrix | np.ma.MaskedArray):
            raise InputError(f"{name}: a {type(source).__name__} is no plain array; numpy.asarray makes one")
        arrays, layout = split(source, name)
        pictures = from_stack(np.stack(arrays), name)
        if len(pictures) > 1:
            pictures = [replace(each, name=f"{name}, picture {n + 1}") for n, each in enumerate(pictures)]
        return pictures, layout
    raise InputError(f"{name}: a {type(source).__name__} is not a path, PIL image, array or tensor")


def as_path(source: str | os.PathLike[str], name: str) -> Path:
    """Return a path; InputError for one of bytes."""
    text = os.fspath(source)
    if not isinstance(text, str):
        raise InputError(f"{name}: a path of {type(text).__name__} is not one of text")
    return Path(text)


def as_array(source: Tensor, name: str) -> NDArray[Any]:
    """Return a tensor's numbers; InputError for tensors that do not hold them plainly."""
    if source.is_nested or source.layout != torch.strided:
        raise InputError(f"{name}: is a nested or sparse tensor; pass a dense one (to_dense)")
    if source.is_quantized:
        raise InputError(f"{name}: is a quantised tensor; pass its numbers (dequantize)")
    if source.is_meta:
        raise InputError(f"{name}: is on device meta, where tensors hold no numbers")
    if source.dtype in (torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2):
        source = source.float()  # which numpy does not have, and which float32 holds exactly
    try:
        return source.detach().resolve_conj().resolve_neg().cpu().numpy()
    except (RuntimeError, TypeError) as error:
        raise InputError(f"{name}: a tensor of {source.dtype} cannot be read ({reason_of(error)})") from error


def as_tensor(image: Image) -> Tensor:
    """Return the pixels, (1, C, H, W) in [0, 1]."""
    return torch.from_numpy(image.pixels).movedim(-1, 0)[None]


def ordinal(k: int) -> str:
    """Return "first" for 0."""
    words = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")
    return words[k] if k < len(words) else f"{k + 1}th"


def match_sizes(sources: Sequence[Image], resize: bool) -> list[Image]:
    """Return sources of one size: refuse others, or resample them to the first colour source's."""
    target = first_colour(sources)
    if all(source.size == target.size for source in sources):
        return list(sources)
    if not resize:
        sizes = " and ".join(f"{s.name} is {s.size[1]}x{s.size[0]}" for s in sources)
        raise InputError(
            f"{sizes} pixels; sources must be aligned and of one size "
            "(--register aligns them, --resize resamples)"
        )
    return [source if source.size == target.size else resampled(source, target.size) for source in sources]


@stage("resize")
def resampled(image: Image, size: tuple[int, int]) -> Image:
    """Resample the image to another height and width, bicubic with antialiasing."""

    def plane(values: NDArray[np.float32]) -> NDArray[np.float32]:
        resized = PILImage.fromarray(values).resize((size[1], size[0]), PILImage.Resampling.BICUBIC)
        return np.asarray(resized).clip(0, 1)

    pixels = np.dstack([plane(channel) for channel in np.moveaxis(image.pixels, -1, 0)])
    alpha = None if image.alpha is None else plane(image.alpha)
    known = None if image.known is None else plane(image.known.astype(np.float32)) > WHOLLY_KNOWN
    return replace(image, pixels=pixels, alpha=alpha, resolution=None, known=known)
