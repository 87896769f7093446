"""The settings of a training run."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ddfm.errors import InputError
from ddfm.formats.files import decoding, read_text

MOST_RECIPE_BYTES = 2**16


@dataclass(frozen=True)
class PriorRecipe:
    """Hold the settings of a training run; read from TOML, kept beside the weights.

    Attributes:
        channels: width of the network per resolution, the first after ``pixel_unshuffle``.
        layers_per_block: residual blocks per resolution on the way down (one more on the way up).
        norm_groups: groups of each GroupNorm; 0 for a `PlainUNet`, which has none.
        pixel_unshuffle: side of the pixel blocks folded into channels before the network.
        beta_schedule: diffusers' name, ``"linear"`` or ``"squaredcos_cap_v2"`` (cosine).
        prediction_type: ``"epsilon"`` or ``"v_prediction"``.
        crop: side of the training crops in pixels.
        native_scale: share of crops at the image's own scale; the rest are at half of it, where
            JPEG's blocks and grain have averaged out.
        inverted: share of crops with black and white exchanged (thermal cameras come both ways).
        low_noise: share of each batch with sigma log-uniform in ``low_noise_range``; the rest has
            uniform timesteps.
        low_noise_range: sigma in grey levels of 255.
        even_below: sigma in grey levels. Below it the squared error of v is weighted in proportion to sigma:
            it falls as 1 / sigma, so all levels count alike. 0 for no weighting.
        cooldown_steps: at the end, in which the learning rate falls from its peak to zero; 0 for half a
            cosine over the whole run. Until they begin, this and ``steps`` may be changed.
        batch, steps, learning_rate, warmup_steps, weight_decay, clip_norm, ema_decay, seed: as usual.
        bf16: compute in bfloat16 (autocast) where the machine is fast at it; weights and optimiser stay
            float32.
    """

    channels: tuple[int, ...] = (32, 48, 64, 128)
    layers_per_block: int = 1
    norm_groups: int = 8
    pixel_unshuffle: int = 2
    beta_schedule: str = "linear"
    prediction_type: str = "v_prediction"
    crop: int = 128
    native_scale: float = 0.5
    inverted: float = 0.25
    low_noise: float = 0.75
    low_noise_range: tuple[float, float] = (3.0, 60.0)
    even_below: float = 0.0
    cooldown_steps: int = 0
    batch: int = 16
    steps: int = 12000
    learning_rate: float = 1e-3
    warmup_steps: int = 200
    weight_decay: float = 1e-4
    clip_norm: float = 1.0
    ema_decay: float = 0.999
    bf16: bool = True
    seed: int = 3407

    def __post_init__(self) -> None:
        """Raise InputError, naming the setting, for values with which nothing can be trained."""
        for name, (low, high) in WHOLE.items():
            check_whole(name, getattr(self, name), low, high)
        for name, (least, most) in NUMBERS.items():
            check_number(name, getattr(self, name), least, most)
        for name, allowed in CHOICES.items():
            value = getattr(self, name)
            if not any(type(value) is type(choice) and value == choice for choice in allowed):
                raise InputError(f"{name} = {shown(value)}: not one of {', '.join(map(str, allowed))}")
        self._check_channels()
        self._check_noise_range()
        multiple = self.pixel_unshuffle * 2 ** (len(self.channels) - 1)
        if self.crop % multiple:
            raise InputError(f"crop = {self.crop}: not a multiple of {multiple}, as this network needs")
        if self.batch * self.crop**2 > MOST_PIXELS:
            raise InputError(f"batch = {self.batch}: too many crops of {self.crop} pixels at once")

    def _check_channels(self) -> None:
        if not isinstance(self.channels, tuple) or not 1 <= len(self.channels) <= MOST_LEVELS:
            raise InputError(f"channels = {self.channels!r}: a list of 1 to {MOST_LEVELS} numbers is needed")
        for count in self.channels:
            check_whole("channels", count, 1, MOST_CHANNELS)
            if self.norm_groups and count % self.norm_groups:
                raise InputError(
                    f"norm_groups = {self.norm_groups}: does not divide {count}, one of channels"
                )

    def _check_noise_range(self) -> None:
        if not isinstance(self.low_noise_range, tuple) or len(self.low_noise_range) != 2:
            raise InputError(f"low_noise_range = {self.low_noise_range!r}: two numbers are needed")
        for level in self.low_noise_range:
            check_number("low_noise_range", level, LEAST_NOISE, MOST_NOISE)
        if self.low_noise_range[0] > self.low_noise_range[1]:
            raise InputError(f"low_noise_range = {self.low_noise_range!r}: the lower number comes first")


MOST_LEVELS, MOST_CHANNELS, MOST_PIXELS = 8, 4096, 2**28
LEAST_NOISE, MOST_NOISE = 0.01, 10_000.0  # grey levels of 255
WHOLE = {
    "layers_per_block": (1, 16),
    "norm_groups": (0, MOST_CHANNELS),
    "pixel_unshuffle": (1, 16),
    "crop": (8, 8192),
    "batch": (1, 65_536),
    "steps": (1, 10**9),
    "warmup_steps": (0, 10**9),
    "cooldown_steps": (0, 10**9),
    "seed": (0, 2**63 - 1),
}
NUMBERS = {
    "native_scale": (0, 1),
    "inverted": (0, 1),
    "low_noise": (0, 1),
    "even_below": (0, 10_000),
    "learning_rate": (1e-12, 100),
    "weight_decay": (0, 100),
    "clip_norm": (1e-12, 1e12),
    "ema_decay": (0, 1),
}
CHOICES: dict[str, tuple[str | bool, ...]] = {
    "beta_schedule": ("linear", "squaredcos_cap_v2"),
    "prediction_type": ("epsilon", "v_prediction"),
    "bf16": (False, True),
}


def check_whole(name: str, value: Any, low: int, high: int) -> None:
    """Raise InputError unless it is a whole number within the limits."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InputError(f"{name} = {shown(value)}: must be a whole number from {low} to {high}")


def check_number(name: str, value: Any, low: float, high: float) -> None:
    """Raise InputError unless it is a number within the limits."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InputError(f"{name} = {shown(value)}: must be a number from {low:g} to {high:g}")


def shown(value: Any) -> str:
    """Return a value as a message can hold it: Python has no text of numbers of very many digits."""
    if isinstance(value, int) and not -(10**20) < value < 10**20:
        return "a number of more than 20 digits"
    return repr(value)[:80]


def read_recipe(path: Path) -> PriorRecipe:
    """Read a TOML recipe.

    Raises InputError if it is missing, malformed, or names settings that there are not or cannot be.
    """
    text = read_text(path, "a recipe (TOML)", MOST_RECIPE_BYTES)
    with decoding(str(path), "not a readable recipe"):
        values = tomllib.loads(text)
    known = {field.name for field in fields(PriorRecipe)}
    if unknown := sorted(set(values) - known):
        raise InputError(
            f"{path}: unknown setting {unknown[0]!r}; a recipe may set {', '.join(sorted(known))}"
        )
    settings: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    try:
        return PriorRecipe(**settings)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
