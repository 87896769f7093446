"""Missing pixels of the sources: told by masks, found defective, or left outside the view by registration."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as PILImage
from torch import Tensor

from ddfm.errors import InputError
from ddfm.formats.pictures import from_pil, read_image
from ddfm.fusion.sources import as_array, as_path, as_tensor, ordinal
from ddfm.noise.defects import find_defects
from ddfm.noise.missing import Holes
from ddfm.pictures.colour import luminance
from ddfm.pictures.holes import filled_from_around, wide, with_stand_in
from ddfm.pictures.image import Image
from ddfm.timing import stage


@dataclass(frozen=True)
class Mask:
    """Say which pixels of a source are missing.

    Attributes:
        name: where it came from, for messages.
        digest: SHA-256 of what it says, hexadecimal.
        path: its file; None for one that came otherwise.
        missing: (H, W) bool.
    """

    name: str
    digest: str
    path: Path | None
    missing: NDArray[np.bool_] = field(compare=False, repr=False)

    @classmethod
    def of(cls, given: MaskSource, name: str) -> Mask:
        """Read whatever stands for a mask: 0 is a pixel that is shown, one other value a missing one.

        Raises:
            InputError: it cannot be read, is not (H, W), or holds more than these two values.
        """
        if isinstance(given, Mask):
            return given
        path = as_path(given, name) if isinstance(given, str | os.PathLike) else None
        name = name if path is None else str(path)
        values = samples_of(given if path is None else path, name)
        shades = np.unique(values)
        if len(shades[shades != 0]) > 1:
            raise InputError(
                f"{name}: holds {len(shades)} values; a mask has two, 0 where the source shows something "
                "and another one where it is missing (save it without compression, as PNG)"
            )
        missing = values != 0
        digest = hashlib.sha256(repr(missing.shape).encode() + np.packbits(missing).tobytes()).hexdigest()
        return cls(name, digest, path, missing)


MaskSource = str | os.PathLike[str] | PILImage.Image | NDArray[Any] | Tensor | Mask


def samples_of(given: Any, name: str) -> NDArray[Any]:
    """Return the values of a mask, (H, W). Raises InputError."""
    if isinstance(given, Path):
        image = read_image(given)
    elif isinstance(given, PILImage.Image):
        image = from_pil(given.convert("L") if given.mode == "1" else given, name)
    else:
        array = as_array(given, name) if isinstance(given, Tensor) else given
        if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind not in "buif":
            raise InputError(f"{name}: is not a path, a PIL image or an array (H, W) of numbers")
        return array
    if image.is_colour:
        raise InputError(f"{name}: is in colour; a mask is black, and white where the source is missing")
    return image.pixels[..., 0]


def as_masks(given: Any, sources: int) -> tuple[Mask | None, ...] | None:
    """Read a mask for each source, None for one that is whole; None if all are.

    Raises:
        InputError: they are not as many as the sources, or one of them is no mask.
    """
    if given is None:
        return None
    if not isinstance(given, Sequence) or isinstance(given, str | bytes) or len(given) != sources:
        raise InputError(f"masks: {sources} are needed, one for each source, None for one that is whole")
    masks = tuple(
        None if each is None else Mask.of(each, f"mask of the {ordinal(k)} source")
        for k, each in enumerate(given)
    )
    return masks if any(masks) else None


def check_masks(masks: Sequence[Mask | None], names: Sequence[str], sizes: Sequence[tuple[int, int]]) -> None:
    """Raise InputError if a mask has another size than its source, or all of all sources is hidden."""
    for mask, name, size in zip(masks, names, sizes, strict=True):
        if mask is not None and mask.missing.shape != size:
            height, width = mask.missing.shape
            raise InputError(
                f"{mask.name}: is {width}x{height} pixels and {name}, which it is for, {size[1]}x{size[0]}; "
                "make them alike"
            )
    if all(mask is not None and mask.missing.all() for mask in masks):
        raise InputError("the masks hide all of every source; white is what is missing")


def holes_of_masks(masks: Sequence[Mask | None]) -> list[Holes]:
    """Return what is missing of each source of one scene by its mask; some source has one."""
    size = next(mask.missing.shape for mask in masks if mask is not None)
    known = [np.ones(size, bool) if mask is None else ~mask.missing for mask in masks]
    return [Holes(as_plane(shown), gone.float()) for shown, gone in zip(known, gone_from(known), strict=True)]


@stage("mask")
def with_masks(scene: Sequence[Image], masks: Sequence[Mask | None]) -> list[Image]:
    """Return the sources with what their masks hide filled from around, and known to be missing.

    Raises:
        InputError: a mask has another size than its source, or all of all sources is hidden.
    """
    check_masks(masks, [source.name for source in scene], [source.size for source in scene])
    return [
        source if mask is None or not mask.missing.any() else hidden(source, mask.missing)
        for source, mask in zip(scene, masks, strict=True)
    ]


def without_defects(source: Image) -> Image:
    """Return a source with its defective pixels filled from around and counted; itself if it has none."""
    found = find_defects(2 * luminance(as_tensor(source)) - 1)[0, 0].numpy()
    return replace(hidden(source, found), defects=int(found.sum())) if found.any() else source


def hidden(source: Image, missing: NDArray[np.bool_]) -> Image:
    """Return a source with what is missing of it, (H, W), filled from around."""
    known = ~missing if source.known is None else source.known & ~missing
    return with_pixels(replace(source, known=known), filled_from_around(as_tensor(source), as_plane(known)))


def with_stand_ins(scene: Sequence[Image]) -> list[Image]:
    """Return sources of one size; where one shows nothing and another one does, that one stands in.

    It does so at the brightness that the source has nearby, so that nothing takes the border for content.
    """
    if all(source.known is None for source in scene):
        return list(scene)
    gone = gone_from([known_of(source) for source in scene])
    return [
        source if not absent.any() else standing_in(source, absent, scene, gone)
        for source, absent in zip(scene, gone, strict=True)
    ]


def standing_in(source: Image, absent: Tensor, scene: Sequence[Image], gone: Sequence[Tensor]) -> Image:
    """Return a source, what is absent of it filled in from the mean of those that show it."""
    total = count = torch.zeros(())
    for other, missing in zip(scene, gone, strict=True):
        shown = as_tensor(other) if source.is_colour else luminance(as_tensor(other))
        total, count = total + shown * ~missing, count + (~missing).float()
    own = as_tensor(source)
    filled = with_stand_in(own, as_plane(known_of(source)), (total / count).expand_as(own))
    return with_pixels(source, torch.where(absent, filled.clamp(0, 1), own))


def gone_from(known: Sequence[NDArray[np.bool_]]) -> list[Tensor]:
    """Return, for what is known of each source, where others take its place, (1, 1, H, W) bool each.

    These are the wide holes. Narrow ones are filled from around, and so is what no source shows.
    """
    holes = [wide(as_plane(~shown)) for shown in known]
    nowhere = reduce(torch.logical_and, holes)
    return [hole & ~nowhere for hole in holes]


def known_of(source: Image) -> NDArray[np.bool_]:
    """Return which pixels of a source are known, (H, W)."""
    return np.ones(source.size, bool) if source.known is None else source.known


def with_pixels(source: Image, pixels: Tensor) -> Image:
    """Return the source with other pixels, (1, C, H, W) in [0, 1]."""
    return replace(source, pixels=pixels[0].movedim(0, -1).contiguous().numpy())


def as_plane(shown: NDArray[np.bool_]) -> Tensor:
    """Return a mask, (1, 1, H, W), of 0 and 1."""
    return torch.from_numpy(shown.astype(np.float32))[None, None]
