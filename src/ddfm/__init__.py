"""Image fusion with a diffusion prior.

    import ddfm
    ddfm.fuse("thermal.png", "visible.png").save("fused.png")

The heavy parts (torch, the network) are imported at first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ddfm.errors import InputError

if TYPE_CHECKING:
    from ddfm.formats.pictures import read_image
    from ddfm.fusion.pipeline import fuse
    from ddfm.fusion.result import FusionResult
    from ddfm.priors.diffusion import Prior
    from ddfm.priors.loading import load_prior
    from ddfm.timing import profile

    __version__: str

__all__ = [
    "FusionResult",
    "InputError",
    "Prior",
    "__version__",
    "fuse",
    "load_prior",
    "profile",
    "read_image",
]

_HOME = {
    "fuse": "ddfm.fusion.pipeline",
    "FusionResult": "ddfm.fusion.result",
    "Prior": "ddfm.priors.diffusion",
    "load_prior": "ddfm.priors.loading",
    "profile": "ddfm.timing",
    "read_image": "ddfm.formats.pictures",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("ddfm")
    elif name in _HOME:
        from ddfm.timing import stage

        with stage("import"):
            value = getattr(import_module(_HOME[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value
