"""Image fusion with a diffusion prior.

    import ddfm
    ddfm.fuse("thermal.png", "visible.png").save("fused.png")

The heavy parts (torch, diffusers) are imported at first use.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from ddfm.errors import InputError

if TYPE_CHECKING:
    from ddfm.fusion import FusionResult, fuse
    from ddfm.images import read_image
    from ddfm.prior import Prior, load_prior

__version__ = version("ddfm")
__all__ = ["FusionResult", "InputError", "Prior", "__version__", "fuse", "load_prior", "read_image"]

_HOME = {
    "fuse": "ddfm.fusion",
    "FusionResult": "ddfm.fusion",
    "Prior": "ddfm.prior",
    "load_prior": "ddfm.prior",
    "read_image": "ddfm.images",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = globals()[name] = getattr(import_module(_HOME[name]), name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
