"""The layout of a `UNet`: read from diffusers' config.json, checked, and written back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from ddfm.errors import InputError

DOWN_BLOCKS = ("DownBlock2D", "AttnDownBlock2D", "ResnetDownsampleBlock2D")
UP_BLOCKS = ("UpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D")

# What diffusers' UNet2DModel could also be, and `UNet` is not: each field with its values here, the one
# that is written first.
FIXED: dict[str, tuple[Any, ...]] = {
    "act_fn": ("silu", "swish"),
    "center_input_sample": (False,),
    "class_embed_type": (None,),
    "dropout": (0.0,),
    "mid_block_scale_factor": (1,),
    "mid_block_type": ("UNetMidBlock2D",),
    "num_class_embeds": (None,),
    "time_embedding_type": ("positional",),
}
MOST_CHANNELS, MOST_LEVELS, MOST_LAYERS = 16384, 12, 32  # more than any network that was ever published


@dataclass(frozen=True)
class UNetConfig:
    """The fields of diffusers' config.json that matter here, under diffusers' names and with its defaults.

    Attributes:
        in_channels, out_channels: of what the network takes and gives.
        block_out_channels: width at each resolution, the finest first; the next one has half the side.
        layers_per_block: residual blocks per resolution on the way down; one more on the way up.
        down_block_types, up_block_types: of `DOWN_BLOCKS` and `UP_BLOCKS`, in the order of evaluation.
        downsample_type, upsample_type: "conv" or "resnet", in blocks with attention.
        downsample_padding: 1 or 0, of the convolutions that halve the resolution.
        attention_head_dim: channels of an attention head; None for one head.
        add_attention: whether the coarsest resolution has attention.
        norm_num_groups: groups of each group normalisation.
        attn_norm_num_groups: the same in the coarsest resolution's attention; None for the above, or for
            no normalisation in "scale_shift" networks.
        norm_eps: added to variances.
        resnet_time_scale_shift: "default" adds the timestep's embedding, "scale_shift" scales as well.
        time_embedding_dim: channels of that embedding; None for four times the finest width.
        freq_shift, flip_sin_to_cos: details of its sines and cosines; see `TimeEmbedding`.
        sample_size: height and width that diffusers' pipelines draw; not used here.
    """

    in_channels: int = 3
    out_channels: int = 3
    block_out_channels: tuple[int, ...] = (224, 448, 672, 896)
    layers_per_block: int = 2
    down_block_types: tuple[str, ...] = ("DownBlock2D", *["AttnDownBlock2D"] * 3)
    up_block_types: tuple[str, ...] = (*["AttnUpBlock2D"] * 3, "UpBlock2D")
    downsample_type: str = "conv"
    upsample_type: str = "conv"
    downsample_padding: int = 1
    attention_head_dim: int | None = 8
    add_attention: bool = True
    norm_num_groups: int = 32
    attn_norm_num_groups: int | None = None
    norm_eps: float = 1e-5
    resnet_time_scale_shift: str = "default"
    time_embedding_dim: int | None = None
    freq_shift: int = 0
    flip_sin_to_cos: bool = True
    sample_size: int | tuple[int, int] | None = None

    @property
    def embedding_channels(self) -> int:
        """Return the number of channels of the timestep's embedding."""
        return self.time_embedding_dim or 4 * self.block_out_channels[0]

    @property
    def attended(self) -> set[int]:
        """Return the widths at which there is attention."""
        down = zip(self.down_block_types, self.block_out_channels, strict=True)
        up = zip(self.up_block_types, self.block_out_channels[::-1], strict=True)
        widths = {width for kind, width in (*down, *up) if kind.startswith("Attn")}
        return widths | ({self.block_out_channels[-1]} if self.add_attention else set())

    def as_json(self) -> dict[str, Any]:
        """Return what ``UNet2DModel.from_config`` needs, all fields named."""
        fixed = {name: values[0] for name, values in FIXED.items()}
        return {"_class_name": "UNet2DModel", **fixed, **asdict(self)}


@dataclass(frozen=True)
class Foreign:
    """A layout that `UNet` is not made for, but diffusers' ``UNet2DModel`` may be.

    Attributes:
        reason: the field that tells, and its value.
    """

    reason: str


def read_unet_config(values: object, source: str) -> UNetConfig | Foreign:
    """Check a config.json's contents and return the layout, or why it is not one of ours.

    Args:
        values: what the file holds.
        source: its name, for messages.

    Raises:
        InputError: naming the file and the field that no network can have.
    """
    if not isinstance(values, Mapping):
        raise InputError(f"{source}: not a configuration; names and values in braces are needed")
    if values.get("_class_name", "UNet2DModel") != "UNet2DModel":
        raise InputError(f"{source}: _class_name: {values['_class_name']!r}; a prior is a UNet2DModel")
    for name, ours in FIXED.items():
        if name in values and values[name] not in ours:
            return Foreign(f"{name}: {values[name]!r}")
    if reason := _foreign(values):
        return Foreign(reason)
    given: dict[str, Any] = {}
    for name in (field.name for field in fields(UNetConfig)):
        if name in values:
            valid, wanted = CHECKS[name]
            if not valid(values[name]):
                raise InputError(f"{source}: {name}: {values[name]!r:.80}; {wanted} is needed")
            given[name] = tuple(values[name]) if isinstance(values[name], list) else values[name]
    config = UNetConfig(**given)
    _check_together(config, source)
    uneven = [width for width in config.attended if width % (config.attention_head_dim or width)]
    if uneven:
        return Foreign(f"attention_head_dim: {config.attention_head_dim} does not divide {min(uneven)}")
    return config


def _foreign(values: Mapping[str, Any]) -> str | None:
    """Return the first field by which the layout is another, of those that can be known but not ours."""
    known: dict[str, tuple[object, ...]] = {
        "down_block_types": DOWN_BLOCKS,
        "up_block_types": UP_BLOCKS,
        "downsample_type": ("conv", "resnet"),
        "upsample_type": ("conv", "resnet"),
        "resnet_time_scale_shift": ("default", "scale_shift"),
    }
    for name, ours in known.items():
        value = values.get(name, ours[0])
        for one in value if isinstance(value, list | tuple) else [value]:
            if isinstance(one, str) and one not in ours:
                return f"{name}: {one!r:.80}"
    return None


def _check_together(config: UNetConfig, source: str) -> None:
    """Raise InputError for fields that contradict each other."""
    levels = len(config.block_out_channels)
    for name in ("down_block_types", "up_block_types"):
        if len(getattr(config, name)) != levels:
            raise InputError(
                f"{source}: {name}: {len(getattr(config, name))} of them for {levels} block_out_channels"
            )
    for width in config.block_out_channels:
        if width % config.norm_num_groups:
            raise InputError(
                f"{source}: norm_num_groups: {config.norm_num_groups} does not divide "
                f"block_out_channels {width}"
            )
    if config.add_attention and config.block_out_channels[-1] % (config.attn_norm_num_groups or 1):
        raise InputError(
            f"{source}: attn_norm_num_groups: {config.attn_norm_num_groups} does not divide "
            f"block_out_channels {config.block_out_channels[-1]}"
        )


Check = tuple[Callable[[Any], bool], str]


def _whole(low: int, high: int) -> Check:
    def valid(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high

    return valid, f"a whole number from {low} to {high}"


def _or_none(check: Check) -> Check:
    return lambda value: value is None or check[0](value), f"null or {check[1]}"


def _several(check: Check, most: int) -> Check:
    def valid(value: Any) -> bool:
        return isinstance(value, list | tuple) and 0 < len(value) <= most and all(map(check[0], value))

    return valid, f"a list of at most {most}, each {check[1]},"


def _one_of(*values: object) -> Check:
    return lambda value: value in values, f"one of {', '.join(map(str, values))}"


_truth: Check = (lambda value: isinstance(value, bool)), "true or false"
_size = _whole(1, 2**20)
CHECKS: dict[str, Check] = {
    "in_channels": _whole(1, MOST_CHANNELS),
    "out_channels": _whole(1, MOST_CHANNELS),
    "block_out_channels": _several(_whole(1, MOST_CHANNELS), MOST_LEVELS),
    "layers_per_block": _whole(1, MOST_LAYERS),
    "down_block_types": _several(_one_of(*DOWN_BLOCKS), MOST_LEVELS),
    "up_block_types": _several(_one_of(*UP_BLOCKS), MOST_LEVELS),
    "downsample_type": _one_of("conv", "resnet"),
    "upsample_type": _one_of("conv", "resnet"),
    "downsample_padding": _whole(0, 1),
    "attention_head_dim": _or_none(_whole(1, MOST_CHANNELS)),
    "add_attention": _truth,
    "norm_num_groups": _whole(1, MOST_CHANNELS),
    "attn_norm_num_groups": _or_none(_whole(1, MOST_CHANNELS)),
    "norm_eps": (lambda value: isinstance(value, float) and 0 < value < 1, "a number between 0 and 1"),
    "resnet_time_scale_shift": _one_of("default", "scale_shift"),
    "time_embedding_dim": _or_none(_whole(1, MOST_CHANNELS)),
    "freq_shift": _whole(0, 1),
    "flip_sin_to_cos": _truth,
    "sample_size": _or_none(
        (lambda value: _size[0](value) or _several(_size, 2)[0](value), "a size in pixels")
    ),
}
