"""Layers that take the place of a network's own: they compute the same, faster or more exactly.

The names of the weights stay what they were, so that what is saved is the plain network.
"""

from __future__ import annotations

import torch
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


def quicken(network: torch.nn.Module) -> None:
    """Put `Upsampling` in the place of every layer that does it in two steps."""
    for module in network.modules():
        for name, layer in module.named_children():
            if isinstance(layer, Upsample2D) and is_plain(layer):
                replacement = Upsampling(layer.conv)
                if isinstance(module, torch.nn.ModuleList):
                    module[int(name)] = replacement
                else:
                    setattr(module, name, replacement)


def is_plain(layer: Upsample2D) -> bool:
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
