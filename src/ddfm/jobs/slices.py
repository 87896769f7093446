"""Measure what all slices of a volume are fused with: noise levels, and the scales of the likelihood.

torch is imported at first use: `ddfm info` shows the header of a volume without it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ddfm.formats.volumes import Volume
from ddfm.timing import stage


@stage("prepare")
def noise_levels(volumes: Sequence[Volume]) -> list[float]:
    """Return, for each volume, the noise level that all its slices are fused with, in 8-bit grey levels.

    The median of the slices' estimates (`noise.estimate_noise`) that are not 0, as those of empty
    slices are; 0 if it is below the gate under which pictures count as clean.
    """
    import torch

    from ddfm.noise.level import GREY_LEVEL, NOISE_GATE, estimate_noise
    from ddfm.pictures.colour import luminance

    levels = []
    for volume in volumes:
        of_slices = []
        for image in volume.slices:
            pixels = torch.from_numpy(np.ascontiguousarray(image.pixels)).movedim(-1, 0)[None]
            of_slices.append(float(estimate_noise(2 * luminance(pixels) - 1)))
        noisy = [level for level in of_slices if level > 0]
        middle = float(np.median(noisy)) if noisy else 0.0
        levels.append(middle / GREY_LEVEL if middle > NOISE_GATE else 0.0)
    return levels


@stage("prepare")
def shared_scales(volumes: Sequence[Volume]) -> tuple[float, float]:
    """Return the mean of all slices' intensities, and their energy about it, in units of [-1, 1].

    With numbers of its own each slice would be fused by other weights than its neighbour.
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
    return centre, max(0.0, square / count - centre**2)
