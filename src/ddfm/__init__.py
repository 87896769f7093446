"""Image fusion with a diffusion prior.

    import ddfm
    ddfm.fuse("thermal.png", "visible.png").save("fused.png")

The heavy parts (torch and what needs it) are imported at first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ddfm.errors import InputError

if TYPE_CHECKING:
    from ddfm.formats.pictures import read_image
    from ddfm.fusion.options import Options
    from ddfm.fusion.pipeline import fuse
    from ddfm.fusion.result import FusionResult
    from ddfm.jobs.folders import fuse_folders
    from ddfm.jobs.volumes import fuse_volumes
    from ddfm.likelihoods.forms import Form
    from ddfm.likelihoods.tasks import Task
    from ddfm.priors.base import Prior
    from ddfm.priors.loading import load_prior
    from ddfm.timing import profile
    from ddfm.video.run import fuse_videos

    __version__: str

__all__ = [
    "Form",
    "FusionResult",
    "InputError",
    "Options",
    "Prior",
    "Task",
    "__version__",
    "fuse",
    "fuse_folders",
    "fuse_videos",
    "fuse_volumes",
    "load_prior",
    "profile",
    "read_image",
]

_HOME = {
    "Form": "ddfm.likelihoods.forms",
    "FusionResult": "ddfm.fusion.result",
    "Options": "ddfm.fusion.options",
    "Prior": "ddfm.priors.base",
    "Task": "ddfm.likelihoods.tasks",
    "fuse": "ddfm.fusion.pipeline",
    "fuse_folders": "ddfm.jobs.folders",
    "fuse_videos": "ddfm.video.run",
    "fuse_volumes": "ddfm.jobs.volumes",
    "load_prior": "ddfm.priors.loading",
    "profile": "ddfm.timing",
    "read_image": "ddfm.formats.pictures",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from ddfm.version import own_version

        value: Any = own_version()
    elif name in _HOME:
        from ddfm.timing import stage

        with stage("import"):
            value = getattr(import_module(_HOME[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value
