"""A prior that is loaded when it is first asked for: clean sources and zero steps need none."""

from __future__ import annotations

import os
from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING, Any, cast

from ddfm.errors import InputError
from ddfm.pictures.tiles import Tile
from ddfm.timing import stage

if TYPE_CHECKING:
    import torch

    from ddfm.priors.base import Prior

    # A name, folder, file or hub id; a prior; or a function that loads one.
    PriorSource = str | os.PathLike[str] | Prior | Callable[[], Prior]


class LazyPrior:
    """Load a prior when it is first asked for, once, whichever thread asks."""

    def __init__(self, load: Callable[[], Prior]) -> None:
        self._load = load
        self._prior: Prior | None = None
        self._loading = Lock()

    @classmethod
    def of(cls, prior: PriorSource, device: torch.device, dtype: torch.dtype, backend: str) -> LazyPrior:
        """Return a lazy prior that will compute there, in that number format, by that back end."""
        return cls(lambda: loaded(prior).to(device, dtype, backend))

    def for_tiles(self, tile: Tile, height: int, width: int) -> LazyPrior:
        """Return this prior with tiles for pictures of that size; not asked for yet."""
        return LazyPrior(lambda: self().for_tiles(tile, height, width))

    def __call__(self) -> Prior:
        """Return the prior. Raises InputError if it cannot be loaded."""
        with self._loading:
            if self._prior is None:
                from ddfm.devices import own_settings

                with own_settings():
                    self._prior = self._load()
            return self._prior

    @property
    def asked(self) -> Prior | None:
        """Return the prior if it was asked for, else None."""
        return self._prior


def loaded(prior: PriorSource) -> Prior:
    """Return the prior that the argument stands for. Raises InputError for what stands for none."""
    if isinstance(prior, str | os.PathLike):
        with stage("import"):
            from ddfm.priors.loading import load_prior

        return load_prior(prior)
    made: Any = prior
    if callable(prior) and not hasattr(prior, "denoise") and not hasattr(prior, "forward"):
        made = prior()
    if not hasattr(made, "denoise"):
        raise InputError(
            f"prior: a {type(prior).__name__} is no prior; give a name, a folder, a Prior, or "
            "ddfm.priors.from_function(network) for a function of (x, sigma)"
        )
    return cast("Prior", made)
