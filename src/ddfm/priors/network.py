"""The U-Net of the diffusion priors, in the form that computes fastest.

Ho et al. 2020 (appendix B) and Dhariwal & Nichol 2021 (section 3)::

    x, t -> conv_in -> down_blocks -> mid_block -> up_blocks -> conv_out
                           |______ skip connections ______^

A block holds residual blocks (`Residual`), each followed by `Attention` where its type says so. It ends with
a change of resolution by two: a convolution, or a residual block of its own.

The weights have the names, the order and the initial values of diffusers' ``UNet2DModel``, so either reads
what the other wrote. The tests hold this module to it, weight by weight, below 1e-10 in float64.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from ddfm.errors import InputError
from ddfm.priors.network_config import UNetConfig

WEIGHTS = "diffusion_pytorch_model.safetensors"


class UNet(nn.Module):
    """Predict noise, velocity or the clean image from a noisy image and its timestep.

    It computes the same, whether prepared for inference or not: see `prepare_for_inference`.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        channels, types = config.block_out_channels, config.down_block_types
        self.conv_in = SplitInput(config.in_channels, channels[0], 3, padding=1)
        self.time_embedding = TimeEmbedding(config)
        wider = zip((channels[0], *channels), channels, types, strict=False)
        self.down_blocks = nn.ModuleList(
            DownBlock(config, before, width, kind, last=level == len(channels) - 1)
            for level, (before, width, kind) in enumerate(wider)
        )
        # diffusers makes the middle before the way up and lists it after. The first decides the initial
        # values that a seed gives, the second the order of an optimiser's state.
        mid_block = MidBlock(config)
        self.up_blocks = nn.ModuleList(
            UpBlock(config, level, kind) for level, kind in enumerate(config.up_block_types)
        )
        self.mid_block = mid_block
        self.conv_norm_out = nn.GroupNorm(config.norm_num_groups, channels[0], config.norm_eps)
        self.conv_out = nn.Conv2d(channels[0], config.out_channels, 3, padding=1)

    def forward(self, x: Tensor, timestep: Tensor | float) -> Tensor:
        """Return the prediction, (B, out_channels, H, W).

        Args:
            x: noisy image, (B, in_channels, H, W); H and W are multiples of 2^(levels - 1).
            timestep: on the schedule's scale 0 .. T-1, scalar or (B,); may be fractional.
        """
        t = torch.as_tensor(timestep, device=x.device).reshape(-1).expand(x.shape[0])
        embedding = self.time_embedding(t)
        h = self.conv_in(x)
        skips = [h]
        for down in self.down_blocks:
            h = down(h, embedding, skips)
        h = self.mid_block(h, embedding)
        for up in self.up_blocks:
            h = up(h, embedding, skips)
        return self.conv_out(silu(self.conv_norm_out(h)))

    def as_json(self) -> dict[str, Any]:
        """Return the layout as diffusers' config.json has it."""
        return self.config.as_json()

    @property
    def dtype(self) -> torch.dtype:
        """Return the weights' number format."""
        return self.conv_in.weight.dtype

    @property
    def device(self) -> torch.device:
        """Return the weights' device."""
        return self.conv_in.weight.device

    def prepare_for_inference(self) -> UNet:
        """Freeze the weights, lay them out for speed, and derive those of `Upsampling`; return itself."""
        use_channels_last(self.eval().requires_grad_(False))
        for layer in self.modules():
            if isinstance(layer, Upsampling):
                layer.fuse()
        return self

    def save(self, folder: Path) -> None:
        """Write config.json and the weights, as diffusers' ``UNet2DModel.from_pretrained`` reads them."""
        save_network(self, folder)


class TimeEmbedding(nn.Module):
    """Sines and cosines of the timestep, and two layers that learn from them (Ho et al. 2020, appendix B)."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.features, self.flipped = config.block_out_channels[0], config.flip_sin_to_cos
        self.freq_shift = config.freq_shift
        self.linear_1 = nn.Linear(self.features, config.embedding_channels)
        self.linear_2 = nn.Linear(config.embedding_channels, config.embedding_channels)

    def forward(self, t: Tensor) -> Tensor:
        """Return what every residual block is told of the timesteps (B,), (B, embedding_channels)."""
        features = self.waves(t).to(self.linear_1.weight.dtype)
        # Each residual block begins with this SiLU: taken here, once for all of them.
        return F.silu(self.linear_2(F.silu(self.linear_1(features))))

    def waves(self, t: Tensor) -> Tensor:
        """Return sin and cos of t / 10000^(k / n) for k < n = features / 2, (B, features), float32."""
        half = self.features // 2
        exponent = -math.log(10000) * torch.arange(half, dtype=torch.float32, device=t.device)
        phase = t[:, None].float() * torch.exp(exponent / (half - self.freq_shift))
        waves = [phase.cos(), phase.sin()] if self.flipped else [phase.sin(), phase.cos()]
        return F.pad(torch.cat(waves, 1), (0, self.features % 2))


class Residual(nn.Module):
    """x + conv(conv(x)), told of the timestep in between; "up" and "down" change the resolution as well.

    The embedding is added, or in `scale_shift` networks scales and shifts (Dhariwal & Nichol 2021, eq. 8).
    """

    def __init__(self, config: UNetConfig, before: int, width: int, change: str | None = None) -> None:
        super().__init__()
        self.change, self.scale_shift = change, config.resnet_time_scale_shift == "scale_shift"
        groups, eps = config.norm_num_groups, config.norm_eps
        self.norm1 = nn.GroupNorm(groups, before, eps)
        self.conv1 = nn.Conv2d(before, width, 3, padding=1)
        self.time_emb_proj = nn.Linear(config.embedding_channels, width * (1 + self.scale_shift))
        self.norm2 = nn.GroupNorm(groups, width, eps)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(before, width, 1) if before != width else None

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Return (B, width, H', W') for x, (B, before, H, W); x is left as it is."""
        h = silu(self.norm1(x))
        if self.change is not None:
            resize = doubled if self.change == "up" else halved
            h, x = resize(h), resize(x)
        h = self.conv1(h)
        projected = self.time_emb_proj(embedding)[:, :, None, None]
        # In place where the tensor is this block's own: memory is what these layers wait for.
        if self.scale_shift:
            scale, shift = projected.chunk(2, 1)
            h = torch.addcmul(shift, self.norm2(h), 1 + scale)
        else:
            h = self.norm2(h.add_(projected))
        h = self.conv2(silu(h))
        return h.add_(x if self.conv_shortcut is None else self.conv_shortcut(x))


class Attention(nn.Module):
    """Each pixel looks at all others; heads are ``head_channels`` wide (Vaswani et al. 2017, section 3.2)."""

    def __init__(self, width: int, head_channels: int, groups: int | None, eps: float) -> None:
        super().__init__()
        self.heads = width // head_channels
        self.group_norm = nn.GroupNorm(groups, width, eps) if groups else None
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(width, width)])  # a list, for diffusers' name of it

    def forward(self, x: Tensor) -> Tensor:
        """Return x and what its pixels saw, (B, C, H, W)."""
        normed = x if self.group_norm is None else self.group_norm(x)
        pixels = normed.flatten(2).transpose(1, 2)  # (B, H W, C)
        q, k, v = (
            to(pixels).unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B, heads, H W, C / heads)
            for to in (self.to_q, self.to_k, self.to_v)
        )
        seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return x + self.to_out[0](seen).transpose(1, 2).unflatten(2, x.shape[2:])


class DownBlock(nn.Module):
    """One resolution on the way down."""

    def __init__(self, config: UNetConfig, before: int, width: int, kind: str, last: bool) -> None:
        super().__init__()
        resnets, attentions = [], []
        for layer in range(config.layers_per_block):
            resnets.append(Residual(config, width if layer else before, width))
            if kind == "AttnDownBlock2D":
                attentions.append(attention(config, width))
        self.attentions, self.resnets = nn.ModuleList(attentions), nn.ModuleList(resnets)
        residual = kind == "ResnetDownsampleBlock2D" or (attentions and config.downsample_type == "resnet")
        samplers: list[nn.Module] = []
        if not last:
            down = Residual(config, width, width, "down") if residual else Downsampling(config, width)
            samplers.append(down)
        self.downsamplers = nn.ModuleList(samplers)

    def forward(self, h: Tensor, embedding: Tensor, skips: list[Tensor]) -> Tensor:
        """Return h at the next resolution, and append to ``skips`` what the way up needs."""
        for layer, resnet in enumerate(self.resnets):
            h = resnet(h, embedding)
            if self.attentions:
                h = self.attentions[layer](h)
            skips.append(h)
        for sampler in self.downsamplers:
            h = sampler(h, embedding)
            skips.append(h)
        return h


class MidBlock(nn.Module):
    """The coarsest resolution: two residual blocks, and attention between them if the network has it."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        width = config.block_out_channels[-1]
        groups = config.attn_norm_num_groups
        if groups is None and config.resnet_time_scale_shift == "default":
            groups = config.norm_num_groups
        first = Residual(config, width, width)
        attentions = [attention(config, width, groups)] if config.add_attention else []
        self.attentions = nn.ModuleList(attentions)
        self.resnets = nn.ModuleList([first, Residual(config, width, width)])

    def forward(self, h: Tensor, embedding: Tensor) -> Tensor:
        """Return h, (B, C, H, W), of the same shape."""
        h = self.resnets[0](h, embedding)
        for layer in self.attentions:
            h = layer(h)
        return self.resnets[1](h, embedding)


class UpBlock(nn.Module):
    """One resolution on the way up; ``level`` counts from the coarsest."""

    def __init__(self, config: UNetConfig, level: int, kind: str) -> None:
        super().__init__()
        widths = config.block_out_channels[::-1]
        before, width = widths[max(level - 1, 0)], widths[level]
        after = widths[min(level + 1, len(widths) - 1)]
        resnets, attentions = [], []
        for layer in range(config.layers_per_block + 1):
            skipped = after if layer == config.layers_per_block else width
            resnets.append(Residual(config, (width if layer else before) + skipped, width))
            if kind == "AttnUpBlock2D":
                attentions.append(attention(config, width))
        self.attentions, self.resnets = nn.ModuleList(attentions), nn.ModuleList(resnets)
        residual = kind == "ResnetUpsampleBlock2D" or (attentions and config.upsample_type == "resnet")
        samplers: list[nn.Module] = []
        if level < len(widths) - 1:
            samplers.append(Residual(config, width, width, "up") if residual else Upsampling(width))
        self.upsamplers = nn.ModuleList(samplers)

    def forward(self, h: Tensor, embedding: Tensor, skips: list[Tensor]) -> Tensor:
        """Return h at the next resolution; takes its skip connections from the end of ``skips``."""
        for layer, resnet in enumerate(self.resnets):
            h = resnet(torch.cat([h, skips.pop()], 1), embedding)
            if self.attentions:
                h = self.attentions[layer](h)
        for sampler in self.upsamplers:
            h = sampler(h, embedding)
        return h


class Downsampling(nn.Module):
    """A 3x3 convolution of stride 2; without padding, zeros are added at the right and below."""

    def __init__(self, config: UNetConfig, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2, padding=config.downsample_padding)

    def forward(self, h: Tensor, embedding: Tensor) -> Tensor:
        """Return (B, C, H / 2, W / 2); the embedding is for the other kind, a residual block."""
        return self.conv(h if self.conv.padding != (0, 0) else F.pad(h, (0, 1, 0, 1)))


class Upsampling(nn.Module):
    """Every pixel repeated to 2x2, then a 3x3 convolution: in one, with 4/9 of the multiplications.

    Of the nine pixels that the convolution sees at most four differ. `fuse` adds the weights of equal
    pixels beforehand, which leaves a transposed convolution of 4x4 with stride 2.
    """

    kernel: Tensor | None

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)  # its weights are those that are saved
        self.register_buffer("kernel", None, persistent=False)

    def fuse(self) -> None:
        """Derive the transposed convolution's kernel from the weights, which stay frozen from here on."""
        self.kernel = transposed(self.conv.weight.detach())

    def train(self, mode: bool = True) -> Upsampling:
        """Set the mode; in training the kernel would not follow the weights, so it is dropped."""
        if mode:
            self.kernel = None
        super().train(mode)
        return self

    def _load_from_state_dict(self, *arguments: Any) -> None:
        self.kernel = None  # it was derived from other weights
        super()._load_from_state_dict(*arguments)

    def forward(self, h: Tensor, embedding: Tensor) -> Tensor:
        """Return (B, C, 2 H, 2 W); the embedding is for the other kind, a residual block."""
        if self.kernel is None:
            return self.conv(doubled(h))
        return F.conv_transpose2d(h, self.kernel, self.conv.bias, stride=2, padding=1)


def transposed(weight: Tensor) -> Tensor:
    """Return the kernel of `Upsampling`, (in, out, 4, 4), for its convolution's weights, (out, in, 3, 3)."""
    kernel = F.pad(weight, (0, 1, 0, 1)) + F.pad(weight, (1, 0, 0, 1))
    kernel = kernel + F.pad(weight, (0, 1, 1, 0)) + F.pad(weight, (1, 0, 1, 0))
    return kernel.flip(2, 3).transpose(0, 1).contiguous(memory_format=torch.channels_last)


class SplitInput(nn.Conv2d):
    """The first convolution, of images that are float32 even where the network computes in 16 bits.

    Rounded to the 8 bits of bfloat16, an image is off by up to half a grey level from the start. So it comes
    in two parts, rounded and what that left, side by side and with the same weights: convolution is linear.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution of x, (B, C, H, W), in the format of the weights."""
        if self.weight.dtype.itemsize >= 4:
            return super().forward(x)
        rounded = x.to(self.weight.dtype)
        parts = torch.cat([rounded, (x - rounded).to(rounded)], 1)
        return self._conv_forward(parts, torch.cat([self.weight, self.weight], 1), self.bias)


def attention(config: UNetConfig, width: int, groups: int | None = 0) -> Attention:
    """Build the attention of a block that wide; its normalisation has the network's groups by default."""
    groups = config.norm_num_groups if groups == 0 else groups
    return Attention(width, config.attention_head_dim or width, groups, config.norm_eps)


def silu(x: Tensor) -> Tensor:
    """Return x sigmoid(x), in x itself where no gradient is asked for."""
    return F.silu(x, inplace=not torch.is_grad_enabled())


def doubled(x: Tensor) -> Tensor:
    """Repeat every pixel to 2x2."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def halved(x: Tensor) -> Tensor:
    """Average pixels 2x2."""
    return F.avg_pool2d(x, 2)


class Saved(Protocol):
    """What `save_network` needs of a network."""

    def as_json(self) -> dict[str, Any]:
        """Return what config.json is to hold."""
        ...

    def state_dict(self) -> Mapping[str, Any]:
        """Return the weights by name."""
        ...


def save_network(network: Saved, folder: Path) -> None:
    """Write config.json and the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(network.as_json(), indent=2, sort_keys=True)
    (folder / "config.json").write_text(text + "\n")
    weights = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})


def use_channels_last(network: nn.Module) -> None:
    """Lay the weights out as convolutions on CPUs compute fastest, with a pixel's channels side by side."""
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's types lack it


def misfits(network: nn.Module, weights: Mapping[str, Tensor]) -> list[str]:
    """Return the names that only one of them has, or has in another shape; sorted, empty if they fit."""
    own = {name: tensor.shape for name, tensor in network.state_dict().items()}
    given = {name: tensor.shape for name, tensor in weights.items()}
    return sorted(name for name in own.keys() | given.keys() if own.get(name) != given.get(name))


def check_finite(weights: Mapping[str, Tensor], path: Path) -> None:
    """Raise InputError, naming the file, if a weight is infinite or not a number."""
    for name, tensor in weights.items():
        # One pass and no copy; a sum of finite weights is finite, whatever a network is made of.
        if not math.isfinite(tensor.sum()):
            raise InputError(f"{path}: {name} holds values that are not finite; the file is damaged")


# Names of an attention's layers in folders from before diffusers 0.15.
FORMER_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
FORMER = re.compile(rf"(?P<layer>attentions\.\d+)\.(?P<name>{'|'.join(FORMER_NAMES)})(?=\.(?:weight|bias)$)")


def current_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a folder, however old, under the names of today."""

    def current(old: re.Match[str]) -> str:
        return f"{old['layer']}.{FORMER_NAMES[old['name']]}"

    return {FORMER.sub(current, name): tensor for name, tensor in weights.items()}
