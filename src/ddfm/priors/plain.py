"""A U-Net of residual blocks without normalisation, as denoisers have it.

Zhang et al. 2022 (DRUNet), narrower::

    x -> conv_in -> down_blocks -> mid_block -> up_blocks -> conv_out -> / noise
                        |______ skip connections ______^

A residual block is x + conv(relu(conv(x))). Convolutions of 2x2 pixels with stride 2 lead to the next level.
Their transposes lead back, and what the way down left is added. Each level is told the noise on entry.

Without normalisation an evaluation is shorter, and a tile of a picture looks as it does in the whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ddfm.errors import InputError
from ddfm.priors.network import SplitInput, save_network, use_channels_last
from ddfm.priors.network_config import CHECKS

CLASS_NAME = "PlainUNet"
EMBEDDING = 64  # channels of what the levels are told


@dataclass(frozen=True)
class PlainUNetConfig:
    """The fields of a config.json whose ``_class_name`` is `CLASS_NAME`.

    Attributes:
        in_channels, out_channels: of what the network takes and gives.
        block_out_channels: width at each resolution, the finest first; the next one has half the side.
        layers_per_block: residual blocks per resolution on the way down, and as many on the way up.
    """

    in_channels: int
    out_channels: int
    block_out_channels: tuple[int, ...]
    layers_per_block: int = 1


def read_plain_config(values: Mapping[str, Any], source: str) -> PlainUNetConfig:
    """Check a config.json's contents and return the layout.

    Args:
        values: what the file holds.
        source: its name, for messages.

    Raises:
        InputError: naming the file and the field.
    """
    given: dict[str, Any] = {"layers_per_block": 1} | dict(values)
    for name in (field.name for field in fields(PlainUNetConfig)):
        valid, wanted = CHECKS[name]
        if not valid(given.get(name)):
            raise InputError(f"{source}: {name}: {given.get(name)!r:.80}; {wanted} is needed")
    widths = tuple(given["block_out_channels"])
    return PlainUNetConfig(given["in_channels"], given["out_channels"], widths, given["layers_per_block"])


class PlainUNet(nn.Module):
    """Predict noise or velocity from a noisy image and its noise-to-signal ratio.

    Unlike a `UNet` it is told sigma and not the timestep, so its weights belong to no noise schedule.
    """

    def __init__(self, config: PlainUNetConfig) -> None:
        super().__init__()
        self.config = config
        widths, layers = config.block_out_channels, config.layers_per_block
        steps = list(pairwise(widths))
        self.embedding = nn.Linear(2, EMBEDDING)
        self.conv_in = SplitInput(config.in_channels, widths[0], 3, padding=1)
        self.told_in = nn.Linear(EMBEDDING, widths[0])
        self.down_blocks = nn.ModuleList(residuals(width, layers) for width in widths[:-1])
        self.downsamplers = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in steps)
        self.told_down = nn.ModuleList(nn.Linear(EMBEDDING, coarse) for _, coarse in steps)
        self.mid_block = residuals(widths[-1], 2 * layers)
        steps.reverse()
        self.upsamplers = nn.ModuleList(
            nn.ConvTranspose2d(coarse, fine, 2, stride=2) for fine, coarse in steps
        )
        self.told_up = nn.ModuleList(nn.Linear(EMBEDDING, fine) for fine, _ in steps)
        self.up_blocks = nn.ModuleList(residuals(width, layers) for width in widths[-2::-1])
        self.conv_out = nn.Conv2d(widths[0], config.out_channels, 3, padding=1)

    def forward(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Return the prediction, (B, out_channels, H, W), float32 or wider.

        Args:
            x: noisy image, (B, in_channels, H, W); H and W are multiples of 2^(levels - 1).
            sigma: standard deviation of its noise relative to that of its signal, positive, scalar or (B,).
        """
        level = torch.as_tensor(sigma, device=x.device).reshape(-1).expand(x.shape[0])
        noise = level / (1 + level.square()).sqrt()  # in x, whose signal is scaled down to make room for it
        features = torch.stack([noise, level.log() / 4], 1)  # the second as in Karras et al. 2022, table 1
        embedding = self.embedding(features.to(self.dtype)).relu()
        h = told(self.conv_in(x), self.told_in(embedding))
        skips = []
        for block, down, tell in zip(self.down_blocks, self.downsamplers, self.told_down, strict=True):
            h = block(h)
            skips.append(h)
            h = told(down(h), tell(embedding))
        h = self.mid_block(h)
        for up, tell, block in zip(self.upsamplers, self.told_up, self.up_blocks, strict=True):
            h = block(told(up(h).add_(skips.pop()), tell(embedding)))
        # What is predicted is as large as the image; what is seen of it, as large as the noise.
        return self.conv_out(h).to(noise) / noise[:, None, None, None]

    def as_json(self) -> dict[str, Any]:
        """Return the layout as config.json has it."""
        return {"_class_name": CLASS_NAME, **asdict(self.config)}

    @property
    def dtype(self) -> torch.dtype:
        """Return the weights' number format."""
        return self.conv_in.weight.dtype

    @property
    def device(self) -> torch.device:
        """Return the weights' device."""
        return self.conv_in.weight.device

    def prepare_for_inference(self) -> PlainUNet:
        """Freeze the weights and lay them out for speed; return itself."""
        use_channels_last(self.eval().requires_grad_(False))
        return self

    def save(self, folder: Path) -> None:
        """Write config.json and the weights."""
        save_network(self, folder)


class PlainResidual(nn.Module):
    """x + conv(relu(conv(x))); x itself before training."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        # Without normalisation the sum of many random blocks would be large.
        for parameter in self.conv2.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, width, H, W) for the same; x is left as it is."""
        return self.conv2(self.conv1(x).relu_()).add_(x)


def residuals(width: int, count: int) -> nn.Sequential:
    """Chain so many residual blocks."""
    return nn.Sequential(*(PlainResidual(width) for _ in range(count)))


def told(h: Tensor, channels: Tensor) -> Tensor:
    """Add to each channel of h, (B, C, H, W), its number, (B, C); in h itself."""
    return h.add_(channels[:, :, None, None])
