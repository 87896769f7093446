"""Public labelled sets: where their files lie, which classes and splits they have, what is missing.

Each module has ``check(root)``, lines that say what is missing, and ``detection(root)`` or
``segmentation(root)``, which raise InputError with the first of them. Nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from ddfm.downstream.layouts import flir_crops, fmb, llvip, m3fd, mfnet, msrs, night_drive
from ddfm.downstream.scenes import DetectionSet, SegmentationSet
from ddfm.errors import InputError

Check = Callable[[Path], list[str]]
Set = TypeVar("Set")

DETECTION: dict[str, Callable[[Path], DetectionSet]] = {
    "llvip": llvip.detection,
    "m3fd": m3fd.detection,
    "m3fd-scenes": partial(m3fd.detection, by_scenes=True),
    "m3fd-dcevo": partial(m3fd.detection, order=m3fd.DCEVO),
    "m3fd-dcevo-scenes": partial(m3fd.detection, order=m3fd.DCEVO, by_scenes=True),
    "msrs": msrs.detection,
    "night-drive": night_drive.detection,
}
SEGMENTATION: dict[str, Callable[[Path], SegmentationSet]] = {
    "fmb": fmb.segmentation,
    "mfnet": mfnet.segmentation,
    "msrs": msrs.segmentation,
    "night-drive": night_drive.segmentation,
}
CHECKS: dict[str, Check] = {
    "flir-crops": flir_crops.check,
    "fmb": fmb.check,
    "llvip": llvip.check,
    "m3fd": m3fd.check,
    "mfnet": mfnet.check,
    "msrs": msrs.check,
    "night-drive": night_drive.check,
}


def open_set(sets: dict[str, Callable[[Path], Set]], name: str, root: Path) -> Set:
    """Open a set by its name in `DETECTION` or `SEGMENTATION`; raises InputError."""
    if name not in sets:
        raise InputError(f"unknown dataset {name!r}; known here: {', '.join(sets)}")
    if not root.is_dir():
        raise InputError(f"{root} is not a folder; it should be where {name} lies")
    return sets[name](root)
