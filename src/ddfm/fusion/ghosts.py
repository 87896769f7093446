"""Take what moves between exposures from one of them, so that nothing appears twice or half.

Exposures are put in the order of their light. Neighbours have most levels in common, so each is
compared with the next one (`ddfm.fusion.moving`). One is kept. Where something moved between it and another
source, that source gets what the kept one shows, at its own brightness. The likelihood then sees exposures of
a scene that stood still.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ddfm.fusion.moving import curve, moved
from ddfm.pictures.colour import well_exposed
from ddfm.pictures.image import Image, by_exposure
from ddfm.pictures.pyramid import expand, reduce, size
from ddfm.timing import stage

SIDE = 1024  # pixels of the longer side that movement is looked for in, at most
BLACK, WHITE = 3 / 255, 252 / 255  # beyond, an exposure shows nothing
USABLE = 0.8  # of what the best one shows of the moving area that the kept one has to show
ALONE = 0.5  # of the largest area of things that a single source shows
NEAR = 2  # places in the order of brightness within which sources are compared
FEATHER = 3  # pixels of the small pictures over which a source gives way


class Still(NamedTuple):
    """Hold exposures of a scene that stands still.

    Attributes:
        sources: in their given order; those that nothing was changed in are the given ones.
        kept: the number of the source that shows what moves, from 0; None if nothing does.
        shares: of each source's pixels that were replaced.
    """

    sources: list[Image]
    kept: int | None
    shares: list[float]

    @property
    def settings(self) -> dict[str, Any]:
        """Return what was done, for a result's settings: the kept source counted from 1, and the shares."""
        kept = None if self.kept is None else self.kept + 1
        return {"kept": kept, "replaced": [round(share, 4) for share in self.shares]}


@stage("deghost")
def without_ghosts(sources: Sequence[Image]) -> Still:
    """Return two or more exposures of one size, with what moves taken from one of them."""
    small = [_small(source) for source in sources]
    if len({len(picture) for picture in small}) > 1:  # a grey one among coloured ones
        small = [picture.mean(0, keepdim=True) for picture in small]
    order = by_exposure(sources)
    changes = {
        (i, j): moved(small[order[i]], small[order[j]])
        for i, j in combinations(range(len(order)), 2)
        if j - i <= NEAR
    }
    steps = [changes[i, i + 1] for i in range(len(order) - 1)]
    moving = torch.stack(steps).any(0)
    if not moving.any():
        return Still(list(sources), None, [0.0] * len(sources))
    kept = _best([small[k] for k in order], changes, moving)
    still, shares = list(sources), [0.0] * len(sources)
    for place, k in enumerate(order):
        between = steps[min(place, kept) : max(place, kept)]
        if not between or not (area := torch.stack(between).any(0)).any():
            continue
        still[k] = _replaced(sources[k], sources[order[kept]], area)
        shares[k] = float(area.float().mean())
    return Still(still, order[kept], shares)


def _small(source: Image) -> Tensor:
    """Return a source for finding movement, (C, H, W), the sides divided by a whole number."""
    factor = -(-max(source.size) // SIDE)
    pixels = torch.from_numpy(source.pixels).movedim(-1, 0)
    if factor == 1:
        return pixels.contiguous()
    return F.avg_pool2d(pixels[None], factor, ceil_mode=True, count_include_pad=False)[0]


def _best(ordered: Sequence[Tensor], changes: dict[tuple[int, int], Tensor], moving: Tensor) -> int:
    """Return the place of the source to keep: one that shows the moving area, and things in it.

    An empty place is what most sources show; a thing that passes is in one at a time. So of the sources
    that are not clipped there, those that show what no other does are preferred, of them the best exposed.
    """
    grey = [picture.mean(0)[moving] for picture in ordered]
    shown = [float(((plane > BLACK) & (plane < WHITE)).float().mean()) for plane in grey]
    alone = []
    for i in range(len(ordered)):
        differs = [change for pair, change in changes.items() if i in pair]
        alone.append(float(torch.stack(differs).all(0).float().mean()))
    usable = [i for i in range(len(ordered)) if shown[i] >= USABLE * max(shown)]
    most = max(alone[i] for i in usable)
    candidates = [i for i in usable if alone[i] >= ALONE * most]
    return max(candidates, key=lambda i: float(well_exposed(grey[i]).mean()))


def _replaced(source: Image, kept: Image, area: Tensor) -> Image:
    """Return a source with what the kept one shows in an area (h, w), at the source's brightness.

    What is left of a difference at the area's border is spread smoothly over it, so that no border shows.
    """
    pixels = torch.from_numpy(source.pixels).movedim(-1, 0)
    other = torch.from_numpy(kept.pixels).movedim(-1, 0)
    if len(other) != len(pixels):
        other = other.mean(0, keepdim=True).expand_as(pixels)
    small, small_other = (_small(replace(source, pixels=p.movedim(0, -1).numpy())) for p in (pixels, other))
    known = curve(small_other, small, ~area)
    rest = filled_in((small - known.of(small_other))[None], (~area).float()[None, None])
    weight = F.avg_pool2d(area.float()[None, None], 2 * FEATHER + 1, 1, FEATHER, count_include_pad=False)
    weight = (2 * weight - 1).clamp_min(0)  # 0 at the border of the area and outside: no pixel there changes
    whole = tuple(pixels.shape[1:])
    rest, weight = (
        F.interpolate(plane, whole, mode="bilinear", align_corners=False)[0] for plane in (rest, weight)
    )
    changed = torch.lerp(pixels, (known.of(other) + rest).clamp(0, 1), weight)
    made = torch.where(weight > 0, changed, pixels)
    return replace(source, pixels=np.ascontiguousarray(made.movedim(0, -1).numpy()))


def filled_in(values: Tensor, known: Tensor) -> Tensor:
    """Fill in smoothly what is not known, from what is around it.

    Args:
        values: (B, C, H, W).
        known: (B, 1, H, W), 1 where the values count and 0 where they do not.
    """
    if min(size(known)) <= 2 or bool((known > 0).all()):
        return values
    coarse_known = reduce(known)
    coarse = reduce(values * known) / coarse_known.clamp_min(1e-6)
    below = filled_in(coarse, (coarse_known > 1e-3).float())
    return torch.where(known > 0, values, expand(below, size(values)))
