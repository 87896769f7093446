"""Group normalisation of a picture's tiles with one set of statistics for all of them.

Group normalisation takes mean and variance over the whole image. Shown tile by tile, it would use different
statistics in each tile and leave seams. So the statistics are taken from a sample of the image, and held for
all tiles. The parts of the sample are evaluated together, as if they were one image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock, get_ident
from typing import Any

import torch
from torch import Tensor
from torch.nn import GroupNorm, Module

Statistics = dict[GroupNorm, tuple[Tensor, Tensor]]  # mean and variance of each group, (G,)
Hook = Callable[[Any, tuple[Tensor, ...], Tensor], Tensor]

_hooking = Lock()  # torch counts its hooks without one


def joint_statistics(network: Module, evaluate: Callable[[], object]) -> Statistics:
    """Measure what `normalisations` see when ``evaluate`` shows a batch, taken for one image."""
    statistics: Statistics = {}

    def hook(layer: GroupNorm, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        groups = inputs[0].float().reshape(len(output), layer.num_groups, -1)
        mean = groups.mean((0, 2))
        statistics[layer] = mean, (groups - mean[:, None]).square_().mean((0, 2))
        return normalised(inputs[0], layer, *statistics[layer])

    with _hooked(network, hook):
        evaluate()
    return {layer: statistics[layer] for layer in normalisations(network)}


@contextmanager
def fixed_statistics(network: Module, statistics: Statistics) -> Iterator[None]:
    """Normalise by these statistics within the block, whatever the network is shown."""

    def hook(layer: GroupNorm, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return normalised(inputs[0], layer, *statistics[layer])

    with _hooked(network, hook):
        yield


def normalised(x: Tensor, layer: GroupNorm, mean: Tensor, variance: Tensor) -> Tensor:
    """Normalise x, (B, C, ...), as ``layer`` does, with the mean and the variance of each group given."""
    each = layer.num_channels // layer.num_groups
    shape = (1, -1) + (1,) * (x.ndim - 2)
    gain = (variance + layer.eps).rsqrt().repeat_interleave(each) * layer.weight
    offset = layer.bias - mean.repeat_interleave(each) * gain
    return torch.addcmul(offset.reshape(shape), x.float(), gain.reshape(shape)).to(x.dtype)


def normalisations(network: Module) -> list[GroupNorm]:
    """List the network's normalisations, in the order of `Statistics`."""
    return [layer for layer in network.modules() if isinstance(layer, GroupNorm)]


@contextmanager
def _hooked(network: Module, hook: Hook) -> Iterator[None]:
    """Hook all normalisations for this thread alone: others may be using the network."""
    owner = get_ident()

    def own(layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        return hook(layer, inputs, output) if get_ident() == owner else None

    with _hooking:
        handles = [layer.register_forward_hook(own) for layer in normalisations(network)]
    try:
        yield
    finally:
        with _hooking:
            for handle in handles:
                handle.remove()
