"""The settings of a training run."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ddfm.errors import InputError


@dataclass(frozen=True)
class Recipe:
    """What a training run is made of; read from TOML, kept beside the weights.

    Attributes:
        channels: width of the network per resolution, the first after ``pixel_unshuffle``.
        layers_per_block: residual blocks per resolution on the way down (one more on the way up).
        norm_groups: groups of each GroupNorm.
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
    batch: int = 16
    steps: int = 12000
    learning_rate: float = 1e-3
    warmup_steps: int = 200
    weight_decay: float = 1e-4
    clip_norm: float = 1.0
    ema_decay: float = 0.999
    bf16: bool = True
    seed: int = 3407


def read_recipe(path: Path) -> Recipe:
    """Read a TOML recipe; raises InputError if it is missing, malformed or names unknown settings."""
    try:
        values = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path}: not a readable recipe ({error})") from error
    known = {field.name for field in fields(Recipe)}
    if unknown := sorted(set(values) - known):
        raise InputError(
            f"{path}: unknown setting {unknown[0]!r}; a recipe may set {', '.join(sorted(known))}"
        )
    settings: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return Recipe(**settings)
