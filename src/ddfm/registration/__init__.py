"""Bring a source of another size, view or camera onto another one.

    from ddfm.registration import register
    registration = register(thermal, visible, "affine")
    aligned = registration.warp(thermal, visible)

OpenCV is imported at first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ddfm.registration.estimate import Registration, register
    from ddfm.registration.report import overlay

__all__ = ["Registration", "overlay", "register"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "report" if name == "overlay" else "estimate"
    return getattr(import_module(f"ddfm.registration.{module}"), name)
