"""Bring all sources onto the first one in colour."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ddfm.pictures.image import Image, first_colour
from ddfm.registration.models import Registering
from ddfm.timing import stage


@stage("register")
def registered(
    sources: Sequence[Image],
    model: Registering,
    report: Callable[[int, NDArray[np.uint8]], None] = lambda k, picture: None,
) -> list[Image]:
    """Bring sources of any size and view onto the first one in colour, or onto the first.

    Args:
        sources: two or more.
        model: ``"affine"``, ``"homography"`` or ``"dense"``; see `ddfm.registration.register`.
        report: called for each source that was moved with its number, from 0, and a picture (H, W, 3) by
            which a person can judge; also for those that are then refused.

    Raises:
        InputError: the confidence is too low, the model is unknown, OpenCV is missing.
    """
    from ddfm.registration.estimate import register
    from ddfm.registration.report import overlay

    target, brought = first_colour(sources), []
    for k, source in enumerate(sources):
        if source is target:
            brought.append(source)
            continue
        registration = register(source.pixels, target.pixels, model)
        report(k, overlay(source.pixels, target.pixels, registration))
        registration.check(source.name, target.name)
        brought.append(
            replace(
                source, pixels=registration.warp(source.pixels, target.pixels), alpha=None, resolution=None
            )
        )
    return brought
