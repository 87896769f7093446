"""A small residual network for crops of 64x64 pixels (He et al., CVPR 2016), 80,000 weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTHS = (16, 32, 64)  # channels at 16x16, 8x8 and 4x4 positions
STRIDES = (1, 2, 2)


class Block(nn.Module):
    """Two convolutions and a way around them."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)])
        self.around = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        inner = F.relu(self.norms[0](self.first(x)))
        return F.relu(self.norms[1](self.second(inner)) + self.around(x))


class CropClassifier(nn.Module):
    """Pictures (B, 3, 64, 64), normalised, to logits (B, classes)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTHS[0], 7, 4, 3, bias=False)
        self.norm = nn.BatchNorm2d(WIDTHS[0])
        inputs = (WIDTHS[0], *WIDTHS[:-1])
        self.blocks = nn.Sequential(*(Block(*sizes) for sizes in zip(inputs, WIDTHS, STRIDES, strict=True)))
        self.head = nn.Linear(WIDTHS[-1], classes)
        for weight in self.parameters():
            if weight.ndim == 4:
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)  # faster on CPUs

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        features = self.blocks(F.relu(self.norm(self.stem(x))))
        logits: Tensor = self.head(features.mean((2, 3)))
        return logits


def weights(model: nn.Module) -> int:
    """Return how many numbers a model learns."""
    return sum(parameter.numel() for parameter in model.parameters())


def predicted(model: nn.Module, pictures: Tensor, batch: int = 256) -> Tensor:
    """Return the class of each picture, (N,), of normalised pictures (N, 3, H, W)."""
    model.eval()
    with torch.inference_mode():
        return torch.cat([model(part).argmax(1) for part in pictures.split(batch)])
