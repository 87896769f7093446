"""Bring all sources onto the first one in colour."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ddfm.pictures.image import Image, first_colour
from ddfm.registration.models import Registering
from ddfm.timing import stage

if TYPE_CHECKING:
    from ddfm.registration.estimate import Registration


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
    target = first_colour(sources)
    return [
        source
        if source is target
        else brought(source, target, model, lambda picture, k=k: report(k, picture))[0]  # type: ignore[misc]
        for k, source in enumerate(sources)
    ]


def brought(
    source: Image, target: Image, model: Registering, report: Callable[[NDArray[np.uint8]], None]
) -> tuple[Image, Registration]:
    """Bring one source onto another one; return it, and how. As `registered` else."""
    from ddfm.registration.estimate import register
    from ddfm.registration.report import overlay

    registration = register(source.pixels, target.pixels, model)
    report(overlay(source.pixels, target.pixels, registration))
    registration.check(source.name, target.name)
    pixels = registration.warp(source.pixels, target.pixels)
    return replace(source, pixels=pixels, alpha=None, resolution=None), registration
