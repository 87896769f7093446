"""Read the package's own version from its installed metadata."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version


@cache
def own_version() -> str:
    """Return the version of ddfm that is installed."""
    return version("ddfm")
