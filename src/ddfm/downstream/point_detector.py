"""A small detector that learns within minutes: objects as points (Zhou et al., 2019, arXiv:1904.07850).

For each class a map, at a quarter of the resolution, of where objects have their centre; beside it their
size and what the coarse map leaves of the centre.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddfm.downstream.boxes import Boxes, make_boxes

STRIDE = 4  # pixels between two positions of the maps
WIDTHS = (16, 32, 48, 64)  # channels at strides 2, 4, 8 and 16
MOST = 50  # boxes a picture
FAINT = 0.02  # lower peaks are no detections
SIZE_WEIGHT = 0.1  # of the loss of sizes, in positions (section 3 of the paper)


class PointDetector(nn.Module):
    """Pictures (B, 3, H, W), normalised, sides multiples of 4, to boxes."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        inputs = (3, *WIDTHS[:-1])
        self.down = nn.ModuleList([_stage(*sizes) for sizes in zip(inputs, WIDTHS, strict=True)])
        self.across = nn.ModuleList([nn.Conv2d(width, WIDTHS[1], 1) for width in WIDTHS[1:]])
        self.mix = _layer(WIDTHS[1], WIDTHS[1], 1)
        wide, last = _layer(WIDTHS[1], 2 * WIDTHS[1], 1), nn.Conv2d(2 * WIDTHS[1], classes + 4, 1)
        assert last.bias is not None
        nn.init.constant_(last.bias[:classes], -4.0)  # at first, nothing is anywhere
        self.head = nn.Sequential(wide, last)

    def forward(self, pictures: Tensor) -> Tensor:
        """Return maps (B, classes + 4, H / 4, W / 4): logits of centres, then size and offset."""
        features = []
        for stage in self.down:
            pictures = stage(pictures)
            features.append(pictures)
        wide = self.across[-1](features[-1])
        for across, feature in zip(reversed(self.across[:-1]), reversed(features[1:-1]), strict=True):
            wide = across(feature) + F.interpolate(wide, size=feature.shape[-2:], mode="nearest")
        maps: Tensor = self.head(self.mix(wide))
        return maps

    def loss(self, pictures: Tensor, boxes: Sequence[Boxes]) -> Tensor:
        """Return the focal loss of the centres and L1 losses of sizes and offsets, summed, an object."""
        maps = self(pictures)
        targets = _targets(boxes, self.classes, maps.shape[-2:])
        heat, sizes, offsets, where = (target.to(maps.device) for target in targets)
        logits = maps[:, : self.classes]
        objects = max(1, int(where.shape[0]))
        total = _focal(logits, heat) / objects
        if where.shape[0]:
            found = maps[where[:, 0], self.classes :, where[:, 1], where[:, 2]]
            total = total + SIZE_WEIGHT * F.l1_loss(found[:, :2], sizes, reduction="sum") / objects
            total = total + F.l1_loss(found[:, 2:], offsets, reduction="sum") / objects
        return total

    @torch.no_grad()
    def detect(self, pictures: Tensor) -> list[Boxes]:
        """Return the boxes in each picture, in its pixels: the peaks of the maps."""
        maps = self(pictures)
        heat = maps[:, : self.classes].sigmoid()
        heat = heat * (heat == F.max_pool2d(heat, 3, 1, 1))
        shapes = maps[:, self.classes :].cpu()
        return [_decoded(*pair, pictures.shape[-2:]) for pair in zip(heat.cpu(), shapes, strict=True)]


def _stage(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(_layer(inputs, outputs, 2), _layer(outputs, outputs, 1))


def _layer(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


def _focal(logits: Tensor, heat: Tensor) -> Tensor:
    """Return the penalty-reduced focal loss (equation 1 of the paper, alpha 2, beta 4), summed."""
    chance = logits.sigmoid()
    right = -((1 - chance) ** 2) * F.logsigmoid(logits)
    wrong = -((1 - heat) ** 4) * chance**2 * F.logsigmoid(-logits)
    return torch.where(heat == 1, right, wrong).sum()


def _targets(
    boxes: Sequence[Boxes], classes: int, shape: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the map of centres, and size, offset and (picture, row, column) of each object."""
    height, width = shape
    heat = torch.zeros(len(boxes), classes, height, width)
    rows, columns = torch.arange(height)[:, None], torch.arange(width)[None]
    sizes, offsets, where = [], [], []
    for picture, labels in enumerate(boxes):
        for (left, top, right, bottom), kind in zip(labels.xyxy / STRIDE, labels.classes, strict=True):
            x, y = (left + right) / 2, (top + bottom) / 2
            column, row = min(int(x), width - 1), min(int(y), height - 1)
            std = max(0.6, math.sqrt((right - left) * (bottom - top)) / 6)  # in positions
            blob = torch.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2 * std**2))
            heat[picture, kind] = torch.maximum(heat[picture, kind], blob)
            sizes.append((right - left, bottom - top))
            offsets.append((x - column, y - row))
            where.append((picture, row, column))
    index = torch.tensor(where, dtype=torch.long).reshape(-1, 3)
    return heat, torch.tensor(sizes).float(), torch.tensor(offsets).float(), index


def _decoded(heat: Tensor, shape_maps: Tensor, size: Sequence[int]) -> Boxes:
    """Return the best peaks of one picture as boxes, cut to it."""
    scores, places = heat.flatten().topk(min(MOST, heat.numel()))
    scores, places = scores[scores > FAINT], places[scores > FAINT]
    positions = heat.shape[1] * heat.shape[2]
    kinds, cells = places // positions, places % positions
    rows, columns = cells // heat.shape[2], cells % heat.shape[2]
    width, height, right, down = shape_maps[:, rows, columns]
    x, y = columns + right, rows + down
    corners = torch.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], 1) * STRIDE
    limits = torch.tensor([size[1], size[0], size[1], size[0]])
    corners = torch.minimum(corners.clamp_min(0), limits)
    keep = (corners[:, 2] > corners[:, 0]) & (corners[:, 3] > corners[:, 1])
    return make_boxes(corners[keep].tolist(), kinds[keep].tolist(), scores[keep].tolist())
