"""The options of a fusion, checked once, before anything is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from importlib import import_module
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from ddfm.devices import BACKENDS, pick_device, pick_dtype
from ddfm.errors import InputError
from ddfm.likelihoods.forms import Form, named_form
from ddfm.likelihoods.tasks import TASKS, Task
from ddfm.noise.blur import MOST_BLUR
from ddfm.pictures.tiles import LEAST_TILE, Tile
from ddfm.registration.models import REGISTRATIONS, Registering
from ddfm.sampling.loop import Sampler, sample
from ddfm.sampling.schedulers import SCHEDULERS, SchedulerFactory

if TYPE_CHECKING:
    from ddfm.fusion.masks import Mask, MaskSource

MAX_STEPS = 1000
MOST_MAPPED = 255  # sources that a map of 8 bits tells apart
MAX_GREY = 255  # grey levels: noise is less than that
STRETCHES = ("auto", "none")
DEGHOSTS = ("auto", "off")
NoiseLevels = Literal["auto", "off"] | Sequence[float]
Blurs = Literal["auto", "off"] | Sequence[float]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Hold the options of a fusion. `ddfm.fuse` says what each of them means.

    Attributes:
        sources: how many sources there are; the others are as for `ddfm.fuse`.

    Raises:
        InputError: at once, for any value that is none of those documented.
    """

    form: str | Form = "ddfm"
    task: str | Task = "auto"
    steps: int | None = None
    seed: int = 3407
    scheduler: str | SchedulerFactory = "ddim"
    sampler: Sampler = sample
    colour_from: int | None = None
    noise: NoiseLevels | None = None
    deblur: Blurs = "off"
    masks: Sequence[MaskSource | None] | None = None
    stretch: str = "auto"
    balance: float = 0.5
    deghost: str = "auto"
    source_map: bool = False
    uncertainty: bool = False
    device: str = "auto"
    dtype: str = "auto"
    backend: str = "torch"
    tile: Tile = "auto"
    register: Registering | None = None
    resize: bool = False
    sources: int = 2

    def __post_init__(self) -> None:
        self._check_types()
        form = self.likelihood_form
        for name, value, known in (
            ("task", self.task, ("auto", *TASKS)),
            ("scheduler", self.scheduler, tuple(SCHEDULERS)),
            ("stretch", self.stretch, STRETCHES),
            ("deghost", self.deghost, DEGHOSTS),
            ("backend", self.backend, BACKENDS),
        ):
            if isinstance(value, str) and value not in known:
                raise InputError(f"{name} {value!r}: not one of {', '.join(known)}")
        if self.register is not None and self.register not in REGISTRATIONS:
            raise InputError(f"register {self.register!r}: not one of {', '.join(REGISTRATIONS)}")
        if self.register is not None:
            import_module("ddfm.registration.opencv")  # refused now, before sources are read
        if form.most_sources is not None and self.sources > form.most_sources:
            most = "two" if form.most_sources == 2 else form.most_sources
            raise InputError(
                f"form {form.name}: is for {most} sources, {self.sources} are given; ddfm takes any number"
            )
        if self.steps is not None and not form.least_steps <= self.steps <= MAX_STEPS:
            raise InputError(
                f"steps {self.steps}: not within {form.least_steps} to {MAX_STEPS} for form {form.name}"
            )
        if not 0 <= self.seed < 2**63:
            raise InputError(f"seed {self.seed}: not within 0 to 2^63 - 1")
        if self.colour_from is not None and not 1 <= self.colour_from <= self.sources:
            raise InputError(
                f"colour from {self.colour_from}: not within 1 to {self.sources}, the number of a source"
            )
        if self.source_map and not (form.tasks and self.sources <= MOST_MAPPED):
            raise InputError(
                f"source map: is for form ddfm and up to {MOST_MAPPED} sources, not for form {form.name} and "
                f"{self.sources}"
            )
        side = None if isinstance(self.tile, str) else self.tile
        if self.tile not in ("auto", "off") and not (is_whole(side) and side and side >= LEAST_TILE):
            raise InputError(f"tile {self.tile}: not auto, off or a side of at least {LEAST_TILE} pixels")
        if not 0 <= self.balance <= 1:
            raise InputError(f"balance {self.balance}: not within 0 (visible) to 1 (thermal)")
        self._check_noise()
        self._check_deblur()
        if self.masks is not None:
            object.__setattr__(self, "masks", self.read_masks)
        if self.backend == "openvino":
            from ddfm.priors.openvino import check_openvino

            check_openvino(self.torch_device, self.torch_dtype)
        else:
            _ = self.torch_device, self.torch_dtype  # refused here if there is none such

    def _check_types(self) -> None:
        kinds: tuple[tuple[str, Any, bool, str], ...] = (
            ("form", self.form, isinstance(self.form, str | Form), "a name or a Form"),
            ("task", self.task, isinstance(self.task, str | Task), "a name or a Task"),
            ("deghost", self.deghost, isinstance(self.deghost, str), "a name"),
            ("source map", self.source_map, isinstance(self.source_map, bool), "True or False"),
            ("uncertainty", self.uncertainty, isinstance(self.uncertainty, bool), "True or False"),
            ("resize", self.resize, isinstance(self.resize, bool), "True or False"),
            ("register", self.register, self.register is None or isinstance(self.register, str), "a name"),
            ("tile", self.tile, isinstance(self.tile, str) or is_whole(self.tile), "auto, off or a side"),
            ("steps", self.steps, self.steps is None or is_whole(self.steps), "a whole number"),
            ("seed", self.seed, is_whole(self.seed), "a whole number"),
            ("scheduler", self.scheduler, isinstance(self.scheduler, str) or callable(self.scheduler),
             "a name or a function"),
            ("sampler", self.sampler, callable(self.sampler), "a function"),
            ("colour from", self.colour_from, self.colour_from is None or is_whole(self.colour_from),
             "the number of a source"),
            ("balance", self.balance, isinstance(self.balance, Real), "a number"),
            ("stretch", self.stretch, isinstance(self.stretch, str), "a name"),
            ("backend", self.backend, isinstance(self.backend, str), "a name"),
            ("device", self.device, isinstance(self.device, str | torch.device), "a name"),
            ("dtype", self.dtype, isinstance(self.dtype, str), "a name"),
        )  # fmt: skip
        for name, value, fits, wanted in kinds:
            if not fits:
                raise InputError(f"{name} {value!r}: must be {wanted}")

    def _check_noise(self) -> None:
        if isinstance(self.noise, str) and self.noise not in ("auto", "off"):
            raise InputError(f"noise {self.noise!r}: not auto, off or a level for each source")
        if self.noise is None or isinstance(self.noise, str):
            return
        if (
            not isinstance(self.noise, Sequence)
            or len(self.noise) != self.sources
            or not all(isinstance(level, Real) and 0 <= level < MAX_GREY for level in self.noise)
        ):
            raise InputError(
                f"noise {self.noise}: not {self.sources} levels, one for each source, "
                f"of 0 to {MAX_GREY} grey levels"
            )

    def _check_deblur(self) -> None:
        if self.deblur in ("auto", "off"):
            return
        if (
            isinstance(self.deblur, str)
            or not isinstance(self.deblur, Sequence)
            or len(self.deblur) != self.sources
            or not all(isinstance(blur, Real) and 0 <= blur <= MOST_BLUR for blur in self.deblur)
        ):
            raise InputError(
                f"deblur {self.deblur}: not auto, off or {self.sources} standard deviations, one for each "
                f"source, of 0 to {MOST_BLUR:g} pixels"
            )

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs: its device may be another."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @cached_property
    def read_masks(self) -> tuple[Mask | None, ...] | None:
        """Return the mask of each source, read; None if there are none."""
        if self.masks is None:
            return None
        from ddfm.fusion.masks import as_masks

        return as_masks(self.masks, self.sources)

    @property
    def mask_paths(self) -> list[Path]:
        """List the files that masks were read from."""
        return [mask.path for mask in self.read_masks or () if mask is not None and mask.path is not None]

    @property
    def likelihood_form(self) -> Form:
        """Return the form itself, where ``form`` may be its name."""
        return named_form(self.form)

    @property
    def evaluations(self) -> int:
        """Return the number of network evaluations: ``steps``, or the form's own number."""
        return self.likelihood_form.steps if self.steps is None else self.steps

    @property
    def scheduler_factory(self) -> SchedulerFactory:
        """Return the scheduler itself, where ``scheduler`` may be its name."""
        return SCHEDULERS[self.scheduler] if isinstance(self.scheduler, str) else self.scheduler

    @property
    def scheduler_name(self) -> str:
        """Return the scheduler's name for the result's settings."""
        return self.scheduler if isinstance(self.scheduler, str) else name_of(self.scheduler)

    @property
    def finds_task(self) -> bool:
        """Tell whether the task has to be found out from the pictures."""
        return self.task == "auto" and self.likelihood_form.tasks

    @cached_property
    def torch_device(self) -> torch.device:
        """Return the network's device. Raises InputError if there is no such device."""
        return pick_device(str(self.device), self.backend)

    @cached_property
    def torch_dtype(self) -> torch.dtype:
        """Return the network's number format. Raises InputError for an unknown name."""
        return pick_dtype(self.dtype, self.torch_device, self.likelihood_form.warm)

    def noise_for(self, task: Task) -> NoiseLevels:
        """Return what is done about noise: as asked, or what form and task do by default."""
        if self.noise is not None:
            return self.noise
        return "auto" if self.likelihood_form.denoises and task.denoises else "off"

    @classmethod
    def among(cls, values: Mapping[str, Any], **changes: Any) -> Options:
        """Return the options among a function's ``locals()``, with changes; other values are left out.

        Only for functions whose parameters have the names of the options.
        """
        named = {field.name: values[field.name] for field in fields(cls) if field.name in values}
        return cls(**named | changes)

    def but(self, **changes: Any) -> Options:
        """Return these options with some changed, checked anew."""
        return replace(self, **changes)


def is_whole(value: object) -> bool:
    """Tell whether a value is a whole number; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def name_of(function: Callable[..., Any]) -> str:
    """Return what a function or class calls itself."""
    return getattr(function, "__name__", type(function).__name__)
