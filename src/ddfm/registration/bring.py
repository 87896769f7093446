"""Bring all sources onto one of them: the first one in colour or, of one camera, the middle one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ddfm.pictures.holes import WHOLLY_KNOWN
from ddfm.pictures.image import Image, by_exposure, first_colour
from ddfm.registration.models import Registering
from ddfm.timing import stage

if TYPE_CHECKING:
    from ddfm.registration.estimate import Registration


@stage("register")
def registered(
    sources: Sequence[Image],
    model: Registering,
    report: Callable[[int, NDArray[np.uint8]], None] = lambda k, picture: None,
    onto: Image | None = None,
) -> list[Image]:
    """Bring sources of any size and view onto one of them.

    Args:
        sources: two or more.
        model: ``"affine"``, ``"homography"`` or ``"dense"``; see `ddfm.registration.register`.
        report: called for each source that was moved with its number, from 0, and a picture (H, W, 3) by
            which a person can judge; also for those that are then refused.
        onto: the one of the sources that stays, if all of them come from one camera (see `middle`); None for
            the first one in colour, or the first, of any sensors.

    Raises:
        InputError: the confidence is too low, the model is unknown, OpenCV is missing.
    """
    target = first_colour(sources) if onto is None else onto
    return [
        source
        if source is target
        else brought(source, target, model, partial(report, k), one_camera=onto is not None)[0]
        for k, source in enumerate(sources)
    ]


def brought(
    source: Image,
    target: Image,
    model: Registering,
    report: Callable[[NDArray[np.uint8]], None],
    *,
    one_camera: bool = False,
) -> tuple[Image, Registration]:
    """Bring one source onto another one; return it, and how. As `registered` else."""
    from ddfm.registration.estimate import register
    from ddfm.registration.report import overlay

    registration = register(source.pixels, target.pixels, model, one_camera=one_camera)
    report(overlay(source.pixels, target.pixels, registration))
    registration.check(source.name, target.name)
    pixels = registration.warp(source.pixels, target.pixels)
    known = registration.shown
    if source.known is not None:
        own = registration.warp(source.known[..., None].astype(np.float32), target.pixels)
        known = known & (own[..., 0] > WHOLLY_KNOWN)
    whole = bool(known.all())
    return (
        replace(source, pixels=pixels, alpha=None, resolution=None, known=None if whole else known),
        registration,
    )


def middle(sources: Sequence[Image], by_brightness: bool) -> Image:
    """Return the source that differs least from all others, where they come from one camera.

    Args:
        sources: two or more; if any is in colour, one of those is taken.
        by_brightness: for exposures, whose order in light counts; a stack's given order is that of its
            focus. Of an even number the first of the middle ones is taken.
    """
    usable = [source for source in sources if source.is_colour] or list(sources)
    if by_brightness:
        usable = [usable[k] for k in by_exposure(usable)]
    return usable[(len(usable) - 1) // 2]
