"""Fuse volumes slice by slice, with one task, range and noise level for all slices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ddfm.formats.volumes import Volume, check_same_grid
from ddfm.pictures.image import Image
from ddfm.timing import stage


def fuse_volumes(
    volumes: Sequence[Volume],
    fuse_slices: Callable[[list[Image]], Image],
    progress: Callable[[int], None] = lambda index: None,
) -> Volume:
    """Fuse volumes of one grid slice by slice; the result has the first one's header, units and depth.

    Args:
        fuse_slices: from one slice of each volume to the fused one, in the first one's range. What it
            does has to be the same for all slices: noise levels, say, are `noise_levels`'.
        progress: called with the number of every slice that is done.

    Raises:
        InputError: the grids differ, or what ``fuse_slices`` raises.
    """
    check_same_grid(volumes)
    fused = []
    for k, slices in enumerate(zip(*(volume.slices for volume in volumes), strict=True)):
        fused.append(fuse_slices(list(slices)))
        progress(k)
    if any(image.is_colour for image in fused):
        fused = [replace(i, pixels=np.broadcast_to(i.pixels, (*i.size, 3))) for i in fused]
    return replace(volumes[0], slices=tuple(fused), name="fused")


@stage("prepare")
def noise_levels(volumes: Sequence[Volume]) -> list[float]:
    """For each volume the noise to tell the fusion of all its slices, in 8-bit grey levels.

    The median of the slices' estimates (`noise.estimate_noise`) that are not 0, as those of empty
    slices are; 0 if it is below the gate under which pictures count as clean.
    """
    import torch

    from ddfm.noise.clean import NOISE_GATE
    from ddfm.noise.level import GREY_LEVEL, estimate_noise
    from ddfm.pictures.colour import luminance

    levels = []
    for volume in volumes:
        found = []
        for image in volume.slices:
            pixels = torch.from_numpy(np.ascontiguousarray(image.pixels)).movedim(-1, 0)[None]
            found.append(float(estimate_noise(2 * luminance(pixels) - 1)))
        noisy = [level for level in found if level > 0]
        middle = float(np.median(noisy)) if noisy else 0.0
        levels.append(middle / GREY_LEVEL if middle > NOISE_GATE else 0.0)
    return levels


@stage("prepare")
def shared_scales(volumes: Sequence[Volume]) -> dict[str, float]:
    """What the likelihood measures intensities by, for all slices: their mean, and their energy about it.

    For `ddfm.fuse`: with scales of its own each slice would be fused by other weights than its neighbour.
    In units of luminance in [-1, 1].
    """
    import torch

    from ddfm.pictures.colour import luminance
    from ddfm.pictures.pyramid import reduce

    count, total, square = 0, 0.0, 0.0
    for image in (image for volume in volumes for image in volume.slices):
        pixels = torch.from_numpy(np.ascontiguousarray(image.pixels)).movedim(-1, 0)[None]
        luma = 2 * luminance(pixels).double() - 1
        count, total = count + 1, total + float(luma.mean())
        square += float(reduce(luma).square().mean())
    centre = total / count
    return {"centre": centre, "energy": max(0.0, square / count - centre**2)}
