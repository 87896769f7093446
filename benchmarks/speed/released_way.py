"""The released code's way of taking a step, for timing: what it computes, and where and how it does so.

float32, one picture at a time, tensors in their default layout (NCHW), and at every step a conversion to
YCbCr and back by scikit-image, on the CPU, in float64.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DModel
from skimage.color import rgb2ycbcr, ycbcr2rgb
from torch import Tensor

from ddfm.likelihoods.released import ReleasedLikelihood
from ddfm.priors.diffusion import DiffusionPrior
from ddfm.priors.foreign import DiffusersUNet, Network
from ddfm.priors.network import UNet
from ddfm.sampling.loop import Step, sample, spaced_timesteps

STEPS = 100


class DefaultLayout:
    """A network that computes in the layout that tensors have by default."""

    def __init__(self, network: Network) -> None:
        self.network, self.dtype = network, network.dtype

    def __call__(self, x: Tensor, told: Tensor) -> Any:
        return self.network(x.contiguous(), told)


def by_diffusers(network: Network) -> Network:
    """Copy the network, into diffusers' layers if it is one that diffusers has."""
    if not isinstance(network, UNet):
        return copy.deepcopy(network)
    model = UNet2DModel.from_config(network.as_json())
    model.load_state_dict(network.state_dict())
    return DiffusersUNet(model.to(network.device, network.dtype)).prepare_for_inference()


def released_prior(prior: DiffusionPrior) -> DiffusionPrior:
    """The prior as the released code has it: diffusers' layers, the default layout, pictures in one piece."""
    network = by_diffusers(prior.network)
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # torch's types lack it
    return replace(prior, network=network, tile=None, exported=DefaultLayout(network))  # type: ignore[arg-type]


class HostLikelihood(ReleasedLikelihood):
    """The released likelihood, with colours converted by scikit-image on the CPU."""

    def rectify(self, f0: Tensor) -> Tensor:
        # A prior of luminance is converted as grey: the released code knows none.
        ycbcr = rgb2ycbcr(f0[0].expand(3, -1, -1).movedim(0, -1).cpu().numpy())
        luma = torch.from_numpy(ycbcr[..., 0] / 255).to(f0)[None, None]
        ycbcr[..., 0] = 255 * self.rectify_luminance(luma)[0, 0].double().cpu().numpy()
        rgb = torch.from_numpy(np.ascontiguousarray(ycbcr2rgb(ycbcr))).to(f0).movedim(-1, 0)[None]
        return rgb if f0.shape[1] == 3 else rgb.mean(1, keepdim=True)


def run(
    prior: DiffusionPrior, infrared: Tensor, visible: Tensor, steps: int, callback: Callable[[Step], None]
) -> Tensor:
    """The first ``steps`` of `STEPS` steps on a pair, (1, 1, H, W) each, in [-1, 1]; the last sample."""
    timesteps = spaced_timesteps(len(prior.alphas_cumprod) - 1, 0, STEPS)[:steps]
    noise = torch.randn(1, prior.channels, *visible.shape[-2:], generator=torch.Generator().manual_seed(0))
    likelihood = HostLikelihood(infrared, visible)
    return sample(prior, likelihood, noise.to(visible), timesteps, callback=callback)
