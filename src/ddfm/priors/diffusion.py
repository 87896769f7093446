"""The diffusion prior: an unconditional network, its noise schedule, and what it says of an image."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from ddfm.devices import memory_at_hand
from ddfm.errors import InputError
from ddfm.pictures.tiles import Padding, Tile, blended, corners
from ddfm.priors.normalisation import fixed_statistics, joint_statistics, normalisations
from ddfm.priors.plain import PlainUNet
from ddfm.priors.schedule import NoiseSchedule
from ddfm.timing import stage

if TYPE_CHECKING:
    from ddfm.priors.foreign import Network
    from ddfm.priors.openvino import OpenVinoNetwork

# Tiles share this many pixels with their neighbours, or a third of their side if that is less.
OVERLAP = 80
LEAST_SAMPLE, MOST_SAMPLE = 256, 512  # side of the four samples of an image that its tiles are normalised by
WHOLE = 2048  # pixels a side that are not worth tiles: those show the network much of an image twice
TILES = (1024, 512, 256)  # to choose from beyond
# Of the finest layer's size that an evaluation holds at once, in float32 and in two bytes a number.
PLANES, PLANES_OF_TWO_BYTES = 13, 15
PLANES_WITHOUT_NORMALISATION = 7  # with two blocks a resolution, whatever the format
WHOLE_SHARE, SHARE = 3, 8  # one part of so many of the memory at hand: for one piece, or for a tile


@dataclass(frozen=True)
class DiffusionPrior:
    """An unconditional diffusion model of images in [-1, 1], shape (B, C, H, W), C = 1 or 3.

    Attributes:
        network: predicts noise, velocity or image (``prediction_type``) from a noisy image.
        schedule: the noise schedule it was trained with and what it predicts
            (``prediction_type``: ``"epsilon"``, ``"v_prediction"`` or ``"sample"``).
        pixel_unshuffle: side of the pixel blocks folded into channels before the network.
        name: what a result says it was made with.
        tile: side of the tiles that larger images are shown to the network in, at least
            `LEAST_TILE`; None for images in one piece, whatever their size. See `for_tiles`.
        folder: where it lies, if it does; its exports are kept there.
        exported: the network of another backend, which is evaluated in its stead. See `to`.
    """

    network: Network
    schedule: NoiseSchedule
    pixel_unshuffle: int = 1
    name: str = "prior"
    tile: int | None = None
    folder: Path | None = None
    exported: OpenVinoNetwork | None = None

    @property
    def channels(self) -> int:
        """Return image channels: 1 (luminance) or 3 (RGB)."""
        return int(self.network.config.in_channels) // self.pixel_unshuffle**2

    @property
    def multiple(self) -> int:
        """Return the number of pixels that height and width are multiples of; other images are padded."""
        return int(self.pixel_unshuffle * 2 ** (len(self.network.config.block_out_channels) - 1))

    @property
    def alphas_cumprod(self) -> Tensor:
        """Return abar_t = prod(1 - beta_s, s <= t), decreasing, float64, shape (T,)."""
        return self.schedule.alphas_cumprod

    @property
    def prediction_type(self) -> str:
        """Return what the network predicts: the noise, the image or v."""
        return self.schedule.prediction_type

    @property
    def sigmas(self) -> Tensor:
        """Return the noise-to-signal ratio sqrt((1 - abar_t) / abar_t) of each timestep, increasing, (T,)."""
        return self.schedule.sigmas

    def evaluation_bytes(self, height: int, width: int) -> int:
        """Return the memory that an evaluation takes for a picture of that size, in one piece or in tiles."""
        channels = self.network.config.block_out_channels[0] / self.pixel_unshuffle**2
        in_tiles = self.tile is not None and max(height, width) > self.tile
        side = (self.tile if in_tiles else None) or max(height, width)
        itemsize, planes = self.network.dtype.itemsize, PLANES_WITHOUT_NORMALISATION
        if normalisations(self.network):
            # Tiles are normalised in float32, whatever the network computes in.
            itemsize = 4 if in_tiles else itemsize
            planes = PLANES_OF_TWO_BYTES if itemsize == 2 else PLANES
        return round(planes * channels * itemsize * min(height, side) * min(width, side))

    @property
    def device(self) -> torch.device:
        """Return the device that the network computes on."""
        return self.network.device

    @property
    def backend(self) -> str:
        """Return the library that evaluates the network."""
        return "torch" if self.exported is None else "openvino"

    def to(
        self, device: torch.device | str, dtype: torch.dtype = torch.float32, backend: str = "torch"
    ) -> DiffusionPrior:
        """Return this prior computing in ``dtype`` on ``device``: itself, or a copy if that is a change.

        A copy, because weights rounded to bfloat16 cannot be rounded back. Inputs and outputs of the
        methods keep their own type whatever the network computes in. For backend ``"openvino"`` see
        `ddfm.priors.openvino.check_openvino`.
        """
        there = self.network.device == torch.device(device) and self.network.dtype == dtype
        if there and self.backend == backend:
            return self
        network, exported = self.network, None
        with stage("load prior"):
            if backend == "openvino":
                from ddfm.priors.openvino import OpenVinoNetwork

                exported = OpenVinoNetwork.of(network, dtype, self.folder)
            if not there:
                network = copy.deepcopy(network).to(device=device, dtype=dtype)
        return replace(self, network=network, exported=exported)

    def for_tiles(self, tile: Tile, height: int, width: int) -> DiffusionPrior:
        """Return this prior with tiles of that side; "off" for none.

        "auto" is for pictures of that size: none up to `WHOLE` pixels a side, the largest of `TILES` beyond,
        or what the memory at hand allows. The choice is coarse, so that a result hardly ever depends on
        what other programs do.
        """
        whole = replace(self, tile=None)
        if tile != "auto":
            return replace(self, tile=None if tile == "off" else tile)
        at_hand = memory_at_hand(self.device)
        if max(height, width) <= WHOLE and whole.evaluation_bytes(height, width) <= at_hand / WHOLE_SHARE:
            return whole
        fitting = (side for side in TILES if whole.evaluation_bytes(side, side) <= at_hand / SHARE)
        return replace(self, tile=next(fitting, TILES[-1]))

    @stage("network")
    def predict_x0(self, x: Tensor, timestep: Tensor | float, alpha_cumprod: Tensor | float) -> Tensor:
        """Estimate the clean image E[x_0 | x_t]: one network evaluation, no clipping.

        Args:
            x: sqrt(abar) x_0 + sqrt(1 - abar) eps, shape (B, C, H, W), mirrored at its borders where
                H or W is not a multiple of ``multiple``.
            timestep: on the network's own scale 0 .. T-1, scalar or shape (B,); may be fractional.
            alpha_cumprod: abar at that timestep, scalar or shape (B,).

        Source: DDPM (Ho et al. 2020), eq. 15; for v, Salimans & Ho 2022, eq. 9 and appendix D.
        """
        # One number for all images stays where it is: nothing to wait for on a GPU.
        abar = torch.as_tensor(alpha_cumprod, dtype=torch.float64)
        abar = abar.reshape(-1, 1, 1, 1).to(x.device) if abar.ndim else abar
        signal, noise = (a.sqrt().to(x.dtype) for a in (abar, 1 - abar))
        padding = Padding.to_multiple(x.shape[-2], x.shape[-1], self.multiple)
        in_one_piece = self.tile is None or max(x.shape[-2:]) <= self.tile
        if in_one_piece:
            network = self.exported or self.network
            out = predict(network, padding.pad(x), self.told(timestep, abar), self.pixel_unshuffle)
        else:
            out = self._evaluate_in_tiles(padding.pad(x), self.told(timestep, abar))
        out = padding.crop(out)
        if out.device.type == "cpu":  # to ask another device is to wait for it, at every step
            check_finite(out, self.name, torch.as_tensor(timestep))
        if self.prediction_type == "epsilon":
            return (x - noise * out) / signal
        if self.prediction_type == "v_prediction":
            return signal * x - noise * out
        return out

    def told(self, timestep: Tensor | float, alpha_cumprod: Tensor) -> Tensor | float:
        """Return what the network is told of the noise: a `PlainUNet` sigma, any other the timestep."""
        if isinstance(self.network, PlainUNet):
            sigma = ((1 - alpha_cumprod) / alpha_cumprod).sqrt()
            return sigma.reshape(-1) if sigma.ndim else float(sigma)  # a number: nothing to bring to a GPU
        return timestep

    def _evaluate_in_tiles(self, x: Tensor, told: Tensor | float) -> Tensor:
        """Evaluate one image after the other, tile by tile but normalised as one."""
        side = max(self.tile or 0, 4 * self.multiple)
        overlap = max(min(OVERLAP, side // 3) // self.multiple, 1) * self.multiple
        each = torch.as_tensor(told, device=x.device).reshape(-1).expand(len(x))
        images = []
        for image, told_it in zip(x.split(1), each, strict=True):
            seen_by = partial(predict, told=told_it, pixel_unshuffle=self.pixel_unshuffle)
            if not normalisations(self.network):
                network = self.exported or self.network
                images.append(blended(partial(seen_by, network), image, side, overlap, self.multiple))
                continue
            sample = corners(image, min(max(side // 2, LEAST_SAMPLE), MOST_SAMPLE), self.multiple)
            statistics = joint_statistics(self.network, partial(seen_by, self.network, sample))
            with fixed_statistics(self.network, statistics):
                network = self.exported.with_statistics(statistics) if self.exported else self.network
                images.append(blended(partial(seen_by, network), image, side, overlap, self.multiple))
        return torch.cat(images)

    @torch.inference_mode()
    def denoise(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Return the posterior mean of the clean image under white Gaussian noise: one evaluation.

        Args:
            x: noisy image in [-1, 1] units, shape (B, C, H, W).
            sigma: standard deviation of the noise in the same units, scalar or shape (B,).

        Returns:
            x_0 estimate, shape of ``x``. The image is scaled by sqrt(abar), abar = 1 / (1 + sigma^2),
            and read at the timestep whose noise matches, found by interpolating log sigma.
        """
        level = torch.as_tensor(sigma, dtype=torch.float64)
        alpha_cumprod, timestep = 1 / (1 + level**2), timestep_of(level.reshape(-1), self.sigmas)
        if not isinstance(sigma, Tensor):  # one number for all images stays on the host
            return self.predict_x0(x * alpha_cumprod.sqrt(), float(timestep), alpha_cumprod)
        alpha_cumprod = alpha_cumprod.reshape(-1)
        scaled = x * alpha_cumprod.sqrt().to(x).reshape(-1, 1, 1, 1)
        return self.predict_x0(scaled, timestep, alpha_cumprod)

    def save(self, folder: Path | str) -> None:
        """Write the folder that `load_prior` and diffusers read."""
        folder = Path(folder)
        self.network.save(folder)
        self.schedule.save(folder)
        if self.pixel_unshuffle > 1:
            (folder / "prior.json").write_text(json.dumps({"pixel_unshuffle": self.pixel_unshuffle}) + "\n")


class Evaluated(Protocol):
    """A network to be evaluated, whatever computes it."""

    @property
    def dtype(self) -> torch.dtype:
        """Return the network's number format."""
        ...

    def __call__(self, x: Tensor, told: Tensor, /) -> Tensor: ...


def predict(network: Evaluated, x: Tensor, told: Tensor | float, pixel_unshuffle: int) -> Tensor:
    """Return the network's prediction for x, shape of ``x`` (a learned variance, if any, is dropped).

    For ``told`` see `DiffusionPrior.told`: scalar or shape (B,).
    """
    if isinstance(told, Tensor):
        t = told.to(x.device, torch.float32).reshape(-1).expand(len(x))
    else:
        t = torch.full((len(x),), told, dtype=torch.float32, device=x.device)
    folded = F.pixel_unshuffle(x, pixel_unshuffle).contiguous(memory_format=torch.channels_last)
    # In 16 bits the first layer takes images as they are: see `SplitInput`.
    shown = folded if network.dtype.itemsize < 4 else folded.to(network.dtype)
    out = network(shown, t).to(x.dtype)
    return F.pixel_shuffle(out[:, : folded.shape[1]], pixel_unshuffle)


def check_finite(values: Tensor, name: str, timesteps: Tensor) -> None:
    """Raise InputError, naming the prior, if what its network returned is infinite or not a number."""
    if not math.isfinite(values.sum()):  # one pass and no copy
        at = ", ".join(f"{t:g}" for t in timesteps.unique().tolist())
        raise InputError(f"prior {name}: its network returned values that are not finite at timestep {at}")


def timestep_of(sigma: Tensor, sigmas: Tensor) -> Tensor:
    """Return the fractional timestep of noise-to-signal ratio ``sigma``; log-linear between timesteps."""
    table, level = sigmas.log(), sigma.to(sigmas).log()
    above = torch.searchsorted(table, level).clamp(1, len(table) - 1)
    low, high = table[above - 1], table[above]
    return (above - 1 + ((level - low) / (high - low)).clamp(0, 1)).float()
