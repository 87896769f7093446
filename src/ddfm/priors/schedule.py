"""The noise schedule a prior was trained with, read from diffusers' scheduler_config.json."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddfm.errors import InputError
from ddfm.formats.files import read_json

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")
MOST_TIMESTEPS = 100_000
FILE = "scheduler_config.json"


@dataclass(frozen=True)
class NoiseSchedule:
    """Define the noise at each timestep t: x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps.

    The names and defaults are diffusers', as are the numbers: betas are computed in float32, like there.

    Attributes:
        num_train_timesteps: T, 1 to `MOST_TIMESTEPS`.
        beta_schedule: a name in `BETAS`.
        beta_start, beta_end: first and last beta, for the schedules that go from one to the other.
        trained_betas: the betas themselves, instead of a schedule.
        prediction_type: what the network predicts, of `PREDICTION_TYPES`.
        source: the file it comes from, for messages.
        others: further fields of that file, which are for diffusers' samplers; kept for `save`.

    Raises:
        InputError: naming the source and the field; among others for betas not strictly within (0, 1).
    """

    num_train_timesteps: int = 1000
    beta_schedule: str = "linear"
    beta_start: float = 0.0001
    beta_end: float = 0.02
    trained_betas: tuple[float, ...] | None = None
    prediction_type: str = "epsilon"
    source: str = field(default="noise schedule", compare=False)
    others: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        count = self.num_train_timesteps if self.trained_betas is None else len(self.trained_betas)
        for name, valid, wanted in (
            ("num_train_timesteps", _is_count(self.num_train_timesteps), f"1 to {MOST_TIMESTEPS}"),
            ("beta_schedule", self.beta_schedule in tuple(BETAS), f"one of {', '.join(BETAS)}"),
            ("beta_start", _is_share(self.beta_start), "a number from 0 to 1"),
            ("beta_end", _is_share(self.beta_end), "a number from 0 to 1"),
            ("trained_betas", _is_count(count), f"null or a list of 1 to {MOST_TIMESTEPS} numbers"),
            ("prediction_type", self.prediction_type in PREDICTION_TYPES, " or ".join(PREDICTION_TYPES)),
        ):
            if not valid:
                raise InputError(f"{self.source}: {name}: {getattr(self, name)!r:.80}; {wanted} is needed")
        if not bool(((self.betas > 0) & (self.betas < 1)).all()):  # not a number is neither
            name = "beta_schedule" if self.trained_betas is None else "trained_betas"
            raise InputError(f"{self.source}: {name}: gives betas that are not strictly between 0 and 1")

    @classmethod
    def read(cls, path: Path) -> NoiseSchedule:
        """Read a scheduler_config.json. Raises InputError."""
        values = read_json(path)
        if values.get("rescale_betas_zero_snr"):
            raise InputError(
                f"{path}: rescale_betas_zero_snr: true; a schedule must leave some signal at its end"
            )
        names = {field.name for field in fields(cls)} - {"source", "others"}
        given = {name: values.pop(name) for name in names & values.keys()}
        betas = given.get("trained_betas")
        if betas is not None:
            if not isinstance(betas, list) or not all(map(_is_share, betas)):
                raise InputError(
                    f"{path}: trained_betas: {betas!r:.80}; null or a list of numbers from 0 to 1 is needed"
                )
            given["trained_betas"] = tuple(betas)
        others = {name: value for name, value in values.items() if not name.startswith("_")}
        return cls(**given, source=str(path), others=others)

    def save(self, folder: Path) -> None:
        """Write scheduler_config.json, as diffusers' ``DDPMScheduler.from_pretrained`` reads it."""
        names = {field.name for field in fields(self)} - {"source", "others"}
        values = {"_class_name": "DDPMScheduler", "clip_sample": False, **self.others}
        values |= {name: getattr(self, name) for name in names}
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FILE).write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")

    @cached_property
    def betas(self) -> Tensor:
        """Return the share of the variance that noise replaces at each timestep, float32, shape (T,)."""
        if self.trained_betas is not None:
            return torch.tensor(self.trained_betas, dtype=torch.float32)
        return BETAS[self.beta_schedule](self)

    @cached_property
    def alphas_cumprod(self) -> Tensor:
        """Return abar_t = prod(1 - beta_s, s <= t), float64, shape (T,) (Ho et al. 2020, eq. 4)."""
        return torch.cumprod(1 - self.betas.double(), 0)

    @property
    def sigmas(self) -> Tensor:
        """Return the noise-to-signal ratio sqrt((1 - abar_t) / abar_t) of each timestep, increasing, (T,)."""
        return ((1 - self.alphas_cumprod) / self.alphas_cumprod).sqrt()


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_TIMESTEPS


def _linear(schedule: NoiseSchedule) -> Tensor:
    """Return linear betas (Ho et al. 2020, section 4)."""
    return torch.linspace(schedule.beta_start, schedule.beta_end, schedule.num_train_timesteps)


def _scaled_linear(schedule: NoiseSchedule) -> Tensor:
    """Return betas with evenly spaced square roots (Rombach et al. 2022, the released code)."""
    ends = schedule.beta_start**0.5, schedule.beta_end**0.5
    return torch.linspace(*ends, schedule.num_train_timesteps) ** 2


def _sigmoid(schedule: NoiseSchedule) -> Tensor:
    """Return sigmoid betas (Xu et al. 2022, GeoDiff, the released code)."""
    rise = torch.sigmoid(torch.linspace(-6, 6, schedule.num_train_timesteps))
    return rise * (schedule.beta_end - schedule.beta_start) + schedule.beta_start


def _cosine(schedule: NoiseSchedule) -> Tensor:
    """Return the cosine schedule's betas (Nichol & Dhariwal 2021, eq. 17)."""
    return _from_abar(lambda t: math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2, schedule)


def _laplace(schedule: NoiseSchedule) -> Tensor:
    """Return the Laplace schedule's betas (Hang et al. 2024, section 3.2, as diffusers has it)."""

    def abar(t: float) -> float:
        log_snr = -0.5 * math.copysign(1, 0.5 - t) * math.log(1 - 2 * abs(0.5 - t) + 1e-6)
        snr = math.exp(log_snr)
        return math.sqrt(snr / (1 + snr))

    return _from_abar(abar, schedule)


def _from_abar(abar: Callable[[float], float], schedule: NoiseSchedule) -> Tensor:
    """Return betas for abar as a function of t / T, at most 0.999 (Nichol & Dhariwal 2021, section 3.2)."""
    count = schedule.num_train_timesteps
    return torch.tensor([min(1 - abar((n + 1) / count) / abar(n / count), 0.999) for n in range(count)])


BETAS: dict[str, Callable[[NoiseSchedule], Tensor]] = {
    "linear": _linear,
    "scaled_linear": _scaled_linear,
    "squaredcos_cap_v2": _cosine,
    "laplace": _laplace,
    "sigmoid": _sigmoid,
}
