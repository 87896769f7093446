"""Checkpoints in the layout of OpenAI's guided-diffusion, with random weights."""

from __future__ import annotations

import math
from typing import Any

import torch
from diffusers import UNet2DModel
from torch import Tensor

from ddfm.priors.guided_diffusion import OPENAI_256_UNCONDITIONAL, network_config, network_names

# A network with all that the layout has: attention, learned variance, resnets that change the size.
TINY = OPENAI_256_UNCONDITIONAL | {
    "image_size": 64,
    "num_channels": 32,
    "num_res_blocks": 1,
    "channel_mult": "1,2,2",
    "attention_resolutions": "32,16",
    "num_head_channels": 16,
}


def checkpoint_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor in a checkpoint of that configuration."""
    with torch.device("meta"):
        state = UNet2DModel(**network_config(config)).state_dict()
    shapes: dict[str, tuple[int, ...]] = {}
    for old, new in network_names(config):
        for part in ("weight", "bias"):
            flat = (1,) * (part == "weight")  # their attention is a convolution of width 1
            if old.endswith(".qkv"):
                rows, *rest = state[f"{new}.to_q.{part}"].shape
                shapes[f"{old}.{part}"] = (3 * rows, *rest, *flat)
            elif (name := f"{new}.{part}") in state:  # skip connections exist only where widths differ
                shapes[f"{old}.{part}"] = (*state[name].shape, *(flat if old.endswith(".proj_out") else ()))
    return shapes


def random_checkpoint(config: dict[str, Any], seed: int = 0) -> dict[str, Tensor]:
    """Return a state dict of that configuration, scaled so that activations neither grow nor vanish."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in checkpoint_shapes(config).items():
        if len(shape) == 1:  # biases, and the weights of normalisations around 1
            offset = 1.0 if name.endswith(".weight") else 0.0
            weights[name] = offset + 0.02 * torch.randn(shape, generator=generator)
        else:
            weights[name] = torch.randn(shape, generator=generator) / math.sqrt(math.prod(shape[1:]))
    return weights
