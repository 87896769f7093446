"""OpenAI's guided-diffusion checkpoints as diffusers folders.

The guided-diffusion U-Net (Dhariwal & Nichol 2021) is exactly a diffusers `UNet2DModel` under other
names; this module writes down which name is which.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from ddfm.errors import InputError
from ddfm.formats.atomic import prepare_folder
from ddfm.formats.files import decoding, entries, exists, read_text
from ddfm.formats.paths import check_name
from ddfm.formats.tensors import load_tensors
from ddfm.priors.diffusion import DiffusionPrior
from ddfm.priors.network import UNet, check_finite, misfits
from ddfm.priors.network_config import Foreign, read_unet_config
from ddfm.priors.saving import save_whole
from ddfm.priors.schedule import NoiseSchedule

# OpenAI's 256x256_diffusion_uncond.pt, the prior of the paper.
OPENAI_256_UNCONDITIONAL: dict[str, Any] = {
    "image_size": 256,
    "num_channels": 256,
    "num_res_blocks": 2,
    "channel_mult": "",
    "learn_sigma": True,
    "class_cond": False,
    "attention_resolutions": "32,16,8",
    "num_heads": 4,
    "num_head_channels": 64,
    "use_scale_shift_norm": True,
    "resblock_updown": True,
    "use_new_attention_order": False,
}
DEFAULT_CHANNEL_MULT = {512: "0.5,1,1,2,2,4,4", 256: "1,1,2,2,4,4", 128: "1,1,2,3,4", 64: "1,2,3,4"}

MOST_CONFIG_BYTES = 2**16
GROUPS = 32  # of every normalisation
# Four times the largest networks that there are.
MOST_IMAGE_SIZE, MOST_CHANNELS, MOST_LAYERS, MOST_LEVELS = 4096, 8192, 16, 12

RESNET_NAMES = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}


def read_config(path: Path) -> dict[str, Any]:
    """Read a guided-diffusion configuration (JSON or YAML) over the defaults above.

    Raises InputError if the file cannot be read or asks for what a `UNet2DModel` prior cannot be.
    """
    text = read_text(path, "a configuration, JSON or YAML,", MOST_CONFIG_BYTES)
    with decoding(str(path), "not a readable JSON or YAML file", yaml.YAMLError):
        given = yaml.load(text, FlatLoader)
    if not isinstance(given, dict):
        raise InputError(f"{path}: not a configuration; a mapping of setting names to values is needed")
    for name, value in given.items():
        if not isinstance(value, str | int | float | None):
            raise InputError(f"{path}: {name} is a {type(value).__name__}; a setting is a number or a text")
    return OPENAI_256_UNCONDITIONAL | given


class FlatLoader(yaml.SafeLoader):
    """YAML without aliases, by which a few lines stand for more than any memory holds."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose what comes next, unless it refers to something before."""
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("aliases are not read here")
        return super().compose_node(parent, index)


def network_config(config: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of the `UNetConfig` with the given guided-diffusion configuration.

    Raises InputError for class-conditional networks and for malformed values. Attention given by a number of
    heads instead of channels a head is refused, too: diffusers' format has no field for it.
    """
    if config["class_cond"]:
        raise InputError("class_cond: true; a class-conditional network cannot serve as a prior")
    try:
        image_size = int(config["image_size"])
        multipliers = config["channel_mult"] or DEFAULT_CHANNEL_MULT[image_size]
        channels = [int(config["num_channels"] * float(m)) for m in str(multipliers).split(",")]
        attended = {image_size // int(r) for r in str(config["attention_resolutions"]).split(",") if r}
        layers, head_channels = int(config["num_res_blocks"]), int(config["num_head_channels"])
    except (ArithmeticError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"malformed guided-diffusion configuration ({error!r})") from error
    _check_size(image_size, channels, layers)
    if head_channels < 1:
        raise InputError(
            "num_head_channels: -1; only attention with a fixed number of channels a head converts"
        )
    resampling = "resnet" if config["resblock_updown"] else "conv"
    plain = (
        ("ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D")
        if resampling == "resnet"
        else ("DownBlock2D", "UpBlock2D")
    )
    attends = [2**level in attended for level in range(len(channels))]
    return {
        "sample_size": image_size,
        "in_channels": 3,
        "out_channels": 6 if config["learn_sigma"] else 3,
        "block_out_channels": tuple(channels),
        "layers_per_block": layers,
        "down_block_types": tuple("AttnDownBlock2D" if a else plain[0] for a in attends),
        "up_block_types": tuple("AttnUpBlock2D" if a else plain[1] for a in reversed(attends)),
        "downsample_type": resampling,
        "upsample_type": resampling,
        "attention_head_dim": head_channels,
        "attn_norm_num_groups": 32,
        "resnet_time_scale_shift": "scale_shift" if config["use_scale_shift_norm"] else "default",
    }


def _check_size(image_size: int, channels: list[int], layers: int) -> None:
    """Raise InputError for a network that nobody has trained, before room is made for it."""
    if not 1 <= image_size <= MOST_IMAGE_SIZE:
        raise InputError(f"image_size: {image_size}; 1 to {MOST_IMAGE_SIZE} are possible")
    if not 1 <= layers <= MOST_LAYERS:
        raise InputError(f"num_res_blocks: {layers}; 1 to {MOST_LAYERS} are possible")
    if not 1 <= len(channels) <= MOST_LEVELS:
        raise InputError(f"channel_mult: {len(channels)} levels; 1 to {MOST_LEVELS} are possible")
    for width in channels:
        if not 0 < width <= MOST_CHANNELS or width % GROUPS:
            raise InputError(
                f"num_channels by channel_mult: {width} channels; multiples of {GROUPS} "
                f"up to {MOST_CHANNELS} are possible"
            )


def network_names(config: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Pair the checkpoint's modules with those of the `UNet2DModel`, in the order of evaluation.

    Stages named ``attentions`` hold one qkv tensor on the left and to_q, to_k, to_v on the right.
    """
    unet = network_config(config)
    levels, layers = len(unet["block_out_channels"]), unet["layers_per_block"]
    residual = unet["downsample_type"] == "resnet"

    def resnet(old: str, new: str) -> Iterator[tuple[str, str]]:
        yield from ((f"{old}.{a}", f"{new}.{b}") for a, b in RESNET_NAMES.items())

    def attention(old: str, new: str) -> Iterator[tuple[str, str]]:
        yield f"{old}.norm", f"{new}.group_norm"
        yield f"{old}.qkv", new
        yield f"{old}.proj_out", f"{new}.to_out.0"

    yield "time_embed.0", "time_embedding.linear_1"
    yield "time_embed.2", "time_embedding.linear_2"
    yield "input_blocks.0.0", "conv_in"
    index = 1
    for level, kind in enumerate(unet["down_block_types"]):
        for layer in range(layers):
            yield from resnet(f"input_blocks.{index}.0", f"down_blocks.{level}.resnets.{layer}")
            if kind.startswith("Attn"):
                yield from attention(f"input_blocks.{index}.1", f"down_blocks.{level}.attentions.{layer}")
            index += 1
        if level < levels - 1:
            sampler = f"down_blocks.{level}.downsamplers.0"
            if residual:
                yield from resnet(f"input_blocks.{index}.0", sampler)
            else:
                yield f"input_blocks.{index}.0.op", f"{sampler}.conv"
            index += 1
    yield from resnet("middle_block.0", "mid_block.resnets.0")
    yield from attention("middle_block.1", "mid_block.attentions.0")
    yield from resnet("middle_block.2", "mid_block.resnets.1")
    index = 0
    for level, kind in enumerate(unet["up_block_types"]):
        for layer in range(layers + 1):
            yield from resnet(f"output_blocks.{index}.0", f"up_blocks.{level}.resnets.{layer}")
            last = 1
            if kind.startswith("Attn"):
                yield from attention(f"output_blocks.{index}.1", f"up_blocks.{level}.attentions.{layer}")
                last = 2
            if layer == layers and level < levels - 1:
                sampler = f"up_blocks.{level}.upsamplers.0"
                if residual:
                    yield from resnet(f"output_blocks.{index}.{last}", sampler)
                else:
                    yield f"output_blocks.{index}.{last}.conv", f"{sampler}.conv"
            index += 1
    yield "out.0", "conv_norm_out"
    yield "out.2", "conv_out"


def convert_weights(weights: dict[str, Tensor], config: dict[str, Any]) -> dict[str, Tensor]:
    """Rename a guided-diffusion state dict to `UNet2DModel`'s; views where the data need not move.

    Raises InputError naming the first key that the configuration does not explain.
    """
    remaining = dict(weights)
    converted: dict[str, Tensor] = {}
    heads_first = config["use_new_attention_order"]
    for old, new in network_names(config):
        for part in ("weight", "bias"):
            tensor = remaining.pop(f"{old}.{part}", None)
            if tensor is None:
                continue
            if old.endswith(".qkv"):
                matrices = split_qkv(tensor, 0 if heads_first else int(config["num_head_channels"]))
                converted |= {
                    f"{new}.{name}.{part}": m
                    for name, m in zip(("to_q", "to_k", "to_v"), matrices, strict=True)
                }
            else:
                converted[f"{new}.{part}"] = tensor.squeeze(-1) if old.endswith(".proj_out") else tensor
    if remaining:
        raise InputError(
            f"the checkpoint holds {next(iter(remaining))}, which this configuration has no place for"
        )
    return converted


def split_qkv(qkv: Tensor, head_channels: int) -> tuple[Tensor, ...]:
    """Split a fused projection (3 C, C, 1) or (3 C,) into the rows of query, key and value.

    OpenAI's legacy order interleaves them per head: rows are (heads, 3, head_channels). With
    ``head_channels`` 0, the new attention order: (3, C).
    """
    flat = qkv.squeeze(-1) if qkv.ndim == 3 else qkv
    if not head_channels:
        return flat.chunk(3)
    per_head = flat.reshape(-1, 3, head_channels, *flat.shape[1:])
    return tuple(per_head[:, part].reshape(-1, *flat.shape[1:]) for part in range(3))


def load_checkpoint(path: Path) -> dict[str, Tensor]:
    """Load the tensors of a `torch.save`d state dict, mapped from disk where the format allows it.

    Loaded with weights_only, so that a pickle that would run code is refused. Raises InputError.
    """
    weights = load_tensors(path, mapped=True)
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise InputError(f"{path}: not a state dict of tensors")
    return weights


def read_guided_diffusion(checkpoint: Path, config: dict[str, Any] | None = None) -> DiffusionPrior:
    """Read a guided-diffusion checkpoint as a prior; its tensors are mapped from disk, not copied.

    Without ``config`` it is read from a .json, .yaml or .yml file of the checkpoint's name beside it, or
    taken for OpenAI's 256x256 unconditional one. Raises InputError if the checkpoint is missing,
    damaged, unsafe or of another architecture.
    """
    if config is None:
        beside = (checkpoint.with_suffix(suffix) for suffix in (".json", ".yaml", ".yml"))
        config = next((read_config(path) for path in beside if path.is_file()), OPENAI_256_UNCONDITIONAL)
    unet = read_unet_config(network_config(config), str(checkpoint))
    if isinstance(unet, Foreign):
        raise InputError(f"{checkpoint}: not of an architecture that converts ({unet.reason})")
    weights = load_checkpoint(checkpoint)
    with torch.device("meta"):
        network = UNet(unet)
    try:
        converted = {name: tensor.float() for name, tensor in convert_weights(weights, config).items()}
    except InputError as error:
        raise InputError(f"{checkpoint}: not of the configured architecture ({error})") from error
    if wrong := misfits(network, converted):
        raise InputError(
            f"{checkpoint}: not of the configured architecture ({len(wrong)} tensors, {wrong[0]} first)"
        )
    check_finite(converted, checkpoint)
    network.load_state_dict(converted, assign=True)
    network.eval().requires_grad_(False)
    return DiffusionPrior(network, NoiseSchedule(), name=str(checkpoint), folder=checkpoint.parent)


def convert_guided_diffusion(
    checkpoint: Path, folder: Path, config: dict[str, Any] | None = None
) -> DiffusionPrior:
    """Write a guided-diffusion checkpoint as a prior folder, whole or not at all; returns the prior.

    Raises InputError as `read_guided_diffusion` does, or if the folder exists and holds something.
    """
    check_name(folder)
    if exists(folder) and (not folder.is_dir() or entries(folder)):
        raise InputError(f"{folder}: exists already; name a new folder")
    prior = read_guided_diffusion(checkpoint, config)
    prepare_folder(folder.parent)
    save_whole(prior, folder)
    return prior
