"""What `ddfm.fuse` can be told, and what it refuses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from ddfm.devices import BACKENDS, pick_device, pick_dtype
from ddfm.errors import InputError
from ddfm.likelihoods.forms import FORMS
from ddfm.likelihoods.tasks import TASKS
from ddfm.pictures.tiles import LEAST_TILE, Tile
from ddfm.registration.models import REGISTRATIONS, Registering
from ddfm.sampling.schedulers import SCHEDULERS

# The older forms get one EM iteration a step and no other, so that fewer steps than the released code's
# leave them short of their fixed point (benchmarks/results/released_steps.csv).
DEFAULT_STEPS = {"ddfm": 5, "paper": 100, "released": 100}
MAX_STEPS = 1000
STRETCHES = ("auto", "none")
Noise = Literal["auto", "off"] | Sequence[float]


def check_options(
    *,
    form: str,
    scheduler: str,
    steps: int | None,
    seed: int,
    task: str,
    noise: Noise | None,
    stretch: str,
    device: str,
    dtype: str,
    backend: str = "torch",
    colour_from: int | None = None,
    register: Registering | None = None,
    tile: Tile = "auto",
    sources: int = 2,
    **unchecked: Any,
) -> None:
    """Refuse what `fuse` would refuse of its options, before any picture is read. Raises InputError."""
    for name, value, known in (
        ("form", form, FORMS),
        ("scheduler", scheduler, SCHEDULERS),
        ("task", task, ("auto", *TASKS)),
        ("stretch", stretch, STRETCHES),
        ("backend", backend, BACKENDS),
    ):
        if value not in known:
            raise InputError(f"{name} {value!r}: not one of {', '.join(known)}")
    if register is not None and register not in REGISTRATIONS:
        raise InputError(f"register {register!r}: not one of {', '.join(REGISTRATIONS)}")
    if form != "ddfm" and sources != 2:
        raise InputError(f"form {form}: is for two sources, {sources} are given; form ddfm takes any number")
    fewest = 0 if form == "ddfm" else 1
    if steps is not None and not fewest <= steps <= MAX_STEPS:
        raise InputError(f"steps {steps}: not within {fewest} to {MAX_STEPS} for form {form}")
    if not 0 <= seed < 2**63:
        raise InputError(f"seed {seed}: not within 0 to 2^63 - 1")
    if colour_from is not None and not 1 <= colour_from <= sources:
        raise InputError(f"colour from {colour_from}: not within 1 to {sources}, the number of a source")
    if tile not in ("auto", "off") and not (isinstance(tile, int) and tile >= LEAST_TILE):
        raise InputError(f"tile {tile}: not auto, off or a side of at least {LEAST_TILE} pixels")
    if isinstance(noise, str) and noise not in ("auto", "off"):
        raise InputError(f"noise {noise!r}: not auto, off or a level for each source")
    levels = [0.0] * sources if noise is None or isinstance(noise, str) else noise
    if (
        not isinstance(levels, Sequence)
        or len(levels) != sources
        or not all(0 <= level < 255 for level in levels)
    ):
        raise InputError(f"noise {noise}: not {sources} levels, one for each source, of 0 to 255 grey levels")
    place = pick_device(device, backend)
    number = pick_dtype(dtype, place, form)
    if backend == "openvino":
        from ddfm.priors.openvino import check_openvino

        check_openvino(place, number)
