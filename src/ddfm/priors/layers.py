"""Layers that take the place of a network's own: they compute the same, faster or more exactly.

The names of the weights stay what they were, so that what is saved is the plain network.
"""

from __future__ import annotations

import torch
from diffusers import UNet2DModel
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import Tensor
from torch.nn import functional as F


class SplitInput(torch.nn.Conv2d):
    """The first convolution of a network in 16 bits, of images that are not.

    Rounded to the 8 bits of bfloat16 an image is off by up to half a grey level before the network has
    begun. So it comes in two parts, rounded and what that left, side by side and with the same weights:
    convolution is linear.
    """

    @classmethod
    def of(cls, conv: torch.nn.Conv2d) -> SplitInput:
        """With the weights of that convolution."""
        sides = {"kernel_size": conv.kernel_size, "stride": conv.stride, "padding": conv.padding}
        split = cls(conv.in_channels, conv.out_channels, **sides, device="meta")  # type: ignore[arg-type]
        split.weight, split.bias = conv.weight, conv.bias
        return split

    def forward(self, x: Tensor) -> Tensor:
        rounded = x.to(self.weight.dtype)
        parts = torch.cat([rounded, (x - rounded).to(rounded)], 1)
        return self._conv_forward(parts, torch.cat([self.weight, self.weight], 1), self.bias)


class Upsampling(torch.nn.Module):
    """Every pixel repeated to 2x2, then a 3x3 convolution: in one, with 4/9 of the multiplications.

    Of the nine pixels that the convolution sees at most four differ; the weights of those that are the same
    are added beforehand. What comes of it is a transposed convolution of 4x4 with stride 2.
    """

    kernel: Tensor

    def __init__(self, conv: torch.nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv  # its weights are those that are saved
        self.register_buffer("kernel", transposed(conv.weight), persistent=False)

    def forward(self, x: Tensor, output_size: int | None = None) -> Tensor:
        if output_size is not None:
            raise ValueError("only the double size is provided for")
        return F.conv_transpose2d(x, self.kernel, self.conv.bias, stride=2, padding=1)


def transposed(weight: Tensor) -> Tensor:
    """The kernel of `Upsampling`, (in, out, 4, 4), for the weights of its convolution, (out, in, 3, 3)."""
    kernel = F.pad(weight, (0, 1, 0, 1)) + F.pad(weight, (1, 0, 0, 1))
    kernel = kernel + F.pad(weight, (0, 1, 1, 0)) + F.pad(weight, (1, 0, 1, 0))
    return kernel.flip(2, 3).transpose(0, 1).contiguous(memory_format=torch.channels_last)


class Residual(torch.nn.Module):
    """A plain residual block, without a division by one and with as few new tensors as it takes."""

    def __init__(self, block: ResnetBlock2D) -> None:
        super().__init__()
        self.norm1, self.conv1 = block.norm1, block.conv1
        self.time_emb_proj = block.time_emb_proj
        self.norm2, self.conv2 = block.norm2, block.conv2
        self.conv_shortcut = block.conv_shortcut

    def forward(self, x: Tensor, temb: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x), inplace=True))
        h += self.time_emb_proj(F.silu(temb))[:, :, None, None]
        h = self.conv2(F.silu(self.norm2(h), inplace=True))
        return h.add_(x if self.conv_shortcut is None else self.conv_shortcut(x))


def quicken(network: torch.nn.Module) -> None:
    """Put `Upsampling` and `Residual` in the place of the layers that they can stand for."""
    for module in network.modules():
        for name, layer in module.named_children():
            replacement: torch.nn.Module
            if isinstance(layer, Upsample2D) and repeats_and_convolves(layer):
                replacement = Upsampling(layer.conv)
            elif isinstance(layer, ResnetBlock2D) and is_plain(layer):
                replacement = Residual(layer)
            else:
                continue
            if isinstance(module, torch.nn.ModuleList):
                module[int(name)] = replacement
            else:
                setattr(module, name, replacement)


def plain(network: UNet2DModel) -> UNet2DModel:
    """The network with its own layers again; the weights are shared."""
    with torch.device("meta"):
        own = UNet2DModel.from_config(network.config)
    own.load_state_dict(network.state_dict(), assign=True)
    return own.eval().requires_grad_(False)


def repeats_and_convolves(layer: Upsample2D) -> bool:
    """Whether it repeats pixels and convolves with 3x3, and nothing else."""
    conv = layer.conv
    return (
        layer.use_conv
        and not layer.use_conv_transpose
        and layer.interpolate
        and layer.norm is None
        and isinstance(conv, torch.nn.Conv2d)
        and (conv.kernel_size, conv.stride, conv.padding) == ((3, 3), (1, 1), (1, 1))
    )


def is_plain(block: ResnetBlock2D) -> bool:
    """Whether the block does what `Residual` does, in evaluation, and nothing else."""
    return (
        isinstance(block.nonlinearity, torch.nn.SiLU)
        and isinstance(block.time_emb_proj, torch.nn.Linear)
        and block.time_embedding_norm == "default"
        and block.output_scale_factor == 1
        and not (block.up or block.down or block.skip_time_act)
    )
