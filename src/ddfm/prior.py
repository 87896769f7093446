"""The diffusion prior: an unconditional network, its noise schedule, and what it says of an image.

A prior lives in a folder in diffusers' own format::

    config.json                             the UNet2DModel
    diffusion_pytorch_model.safetensors     its weights
    scheduler_config.json                   the noise schedule and what the network predicts
    prior.json                              only if pixels are unshuffled: {"pixel_unshuffle": 2}

``UNet2DModel.from_pretrained`` and ``DDPMScheduler.from_pretrained`` open it as it is; folders that
keep the parts in ``unet/`` and ``scheduler/``, as diffusers' pipelines do, are read as well.
"""

from __future__ import annotations

import copy
import json
import os
import re
from dataclasses import dataclass, replace
from functools import cached_property, partial
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from diffusers import DDPMScheduler, UNet2DModel
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from ddfm.devices import memory_at_hand
from ddfm.errors import InputError
from ddfm.layers import SplitInput, quicken
from ddfm.normalisation import held, joint_statistics
from ddfm.options import Tile
from ddfm.pictures.tiles import Padding, blended, corners
from ddfm.timing import stage

if TYPE_CHECKING:
    from ddfm.openvino import OpenVinoNetwork

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
CHECKPOINT_SUFFIXES = (".pt", ".pth")
KNOWN_PRIORS = [
    {"name": "google/ddpm-church-256", "where": "hub", "what": "RGB, 256x256 churches, 113 M parameters"},
    {"name": "google/ddpm-bedroom-256", "where": "hub", "what": "RGB, 256x256 bedrooms, 113 M parameters"},
    {
        "name": "256x256_diffusion_uncond.pt",
        "where": "OpenAI",
        "what": "RGB, ImageNet, 552.8 M parameters, the paper's; download it and name the file",
    },
]

# Tiles share this many pixels with their neighbours, or a quarter of their side if that is less.
OVERLAP = 64
LEAST_SAMPLE, MOST_SAMPLE = 256, 512  # side of the four samples of an image that its tiles are normalised by
WHOLE = 2048  # pixels a side that are not worth tiles: those show the network much of an image twice
TILES = (1024, 512, 256)  # to choose from beyond
PLANES = 20  # of the finest layer's size that an evaluation holds at once: 18 for the bundled prior
WHOLE_SHARE, SHARE = (
    3,
    8,
)  # of the memory at hand, of which an evaluation in one piece, or of a tile, may take one

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")


@dataclass(frozen=True)
class Prior:
    """An unconditional diffusion model of images in [-1, 1], shape (B, C, H, W), C = 1 or 3.

    Attributes:
        network: predicts noise, velocity or image (``prediction_type``) from a noisy image.
        scheduler: the noise schedule it was trained with and what it predicts
            (``prediction_type``: ``"epsilon"``, ``"v_prediction"`` or ``"sample"``).
        pixel_unshuffle: side of the pixel blocks folded into channels before the network.
        name: what a result says it was made with.
        tile: side of the tiles that larger images are shown to the network in, at least
            `ddfm.options.LEAST_TILE`; None for images in one piece, whatever their size. See `for_tiles`.
        folder: where it lies, if it does; its exports are kept there.
        exported: the network of another backend, which is evaluated in its stead. See `to`.
    """

    network: UNet2DModel
    scheduler: DDPMScheduler
    pixel_unshuffle: int = 1
    name: str = "prior"
    tile: int | None = None
    folder: Path | None = None
    exported: OpenVinoNetwork | None = None

    @property
    def channels(self) -> int:
        """Image channels: 1 (luminance) or 3 (RGB)."""
        return int(self.network.config.in_channels) // self.pixel_unshuffle**2

    @property
    def multiple(self) -> int:
        """Height and width that the network takes are multiples of this; other images are padded."""
        return int(self.pixel_unshuffle * 2 ** (len(self.network.config.block_out_channels) - 1))

    @cached_property
    def alphas_cumprod(self) -> Tensor:
        """abar_t = prod(1 - beta_s, s <= t), decreasing, float64, shape (T,)."""
        return torch.cumprod(1 - self.scheduler.betas.double(), 0)

    @property
    def prediction_type(self) -> str:
        return str(self.scheduler.config.prediction_type)

    @property
    def sigmas(self) -> Tensor:
        """Noise-to-signal ratio sqrt((1 - abar_t) / abar_t) per timestep, increasing, shape (T,)."""
        return ((1 - self.alphas_cumprod) / self.alphas_cumprod).sqrt()

    def evaluation_bytes(self, height: int, width: int) -> int:
        """Memory that an evaluation takes for a picture of that size, in one piece or in tiles."""
        channels = self.network.config.block_out_channels[0] / self.pixel_unshuffle**2
        in_tiles = self.tile is not None and max(height, width) > self.tile
        # Tiles are normalised in float32, whatever the network computes in.
        itemsize = 4 if in_tiles else self.network.dtype.itemsize
        side = (self.tile if in_tiles else None) or max(height, width)
        return round(PLANES * channels * itemsize * min(height, side) * min(width, side))

    @property
    def device(self) -> torch.device:
        return self.network.device

    @property
    def backend(self) -> str:
        return "torch" if self.exported is None else "openvino"

    def to(
        self, device: torch.device | str, dtype: torch.dtype = torch.float32, backend: str = "torch"
    ) -> Prior:
        """This prior computing in ``dtype`` on ``device``: itself, or a copy if that is a change.

        A copy, because weights rounded to bfloat16 cannot be rounded back. Inputs and outputs of the
        methods keep their own type whatever the network computes in. For backend ``"openvino"`` see
        `ddfm.openvino.check_openvino`.
        """
        there = self.network.device == torch.device(device) and self.network.dtype == dtype
        if there and self.backend == backend:
            return self
        network, exported = self.network, None
        with stage("load prior"):
            if backend == "openvino":
                from ddfm.openvino import OpenVinoNetwork

                exported = OpenVinoNetwork.of(network, dtype, self.folder)
            if not there:
                # Module.to, because diffusers' own warns of layers to keep in float32 where there are none.
                network = copy.deepcopy(network)
                if dtype.itemsize < 4:
                    network.conv_in = SplitInput.of(network.conv_in)
                torch.nn.Module.to(network, device=device, dtype=dtype)
        return replace(self, network=network, exported=exported)

    def for_tiles(self, tile: Tile, height: int, width: int) -> Prior:
        """This prior with tiles of that side; "off" for none.

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
            out = predict(self.exported or self.network, padding.pad(x), timestep, self.pixel_unshuffle)
        else:
            out = self._evaluate_in_tiles(padding.pad(x), timestep)
        out = padding.crop(out)
        if self.prediction_type == "epsilon":
            return (x - noise * out) / signal
        if self.prediction_type == "v_prediction":
            return signal * x - noise * out
        return out

    def _evaluate_in_tiles(self, x: Tensor, timestep: Tensor | float) -> Tensor:
        """The same, one image after the other, tile by tile but normalised as one."""
        side = max(self.tile or 0, 4 * self.multiple)
        overlap = max(min(OVERLAP, side // 4) // self.multiple, 1) * self.multiple
        timesteps = torch.as_tensor(timestep, device=x.device).reshape(-1).expand(len(x))
        images = []
        for image, t in zip(x.split(1), timesteps, strict=True):
            seen_by = partial(predict, timestep=t, pixel_unshuffle=self.pixel_unshuffle)
            sample = corners(image, min(max(side // 2, LEAST_SAMPLE), MOST_SAMPLE), self.multiple)
            statistics = joint_statistics(self.network, partial(seen_by, self.network, sample))
            with held(self.network, statistics):
                network = self.exported.held(statistics) if self.exported else self.network
                images.append(blended(partial(seen_by, network), image, side, overlap, self.multiple))
        return torch.cat(images)

    @torch.inference_mode()
    def denoise(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Posterior mean of the clean image under white Gaussian noise: one evaluation.

        Args:
            x: noisy image in [-1, 1] units, shape (B, C, H, W).
            sigma: standard deviation of the noise in the same units, scalar or shape (B,).

        Returns:
            x_0 estimate, shape of ``x``. The image is scaled by sqrt(abar), abar = 1 / (1 + sigma^2),
            and read at the timestep whose noise matches, found by interpolating log sigma.
        """
        level = torch.as_tensor(sigma, dtype=torch.float64).reshape(-1)
        alpha_cumprod = 1 / (1 + level**2)
        scaled = x * alpha_cumprod.sqrt().to(x).reshape(-1, 1, 1, 1)
        return self.predict_x0(scaled, timestep_of(level, self.sigmas), alpha_cumprod)

    def save(self, folder: Path | str) -> None:
        """Write the folder that `load_prior` and diffusers read."""
        folder = Path(folder)
        self.network.save_pretrained(folder)
        self.scheduler.save_pretrained(folder)
        # diffusers notes down where the network was loaded from, which is nobody else's business.
        config = json.loads((folder / "config.json").read_text())
        config.pop("_name_or_path", None)
        (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        if self.pixel_unshuffle > 1:
            (folder / "prior.json").write_text(json.dumps({"pixel_unshuffle": self.pixel_unshuffle}) + "\n")


def predict(
    network: UNet2DModel | OpenVinoNetwork, x: Tensor, timestep: Tensor | float, pixel_unshuffle: int
) -> Tensor:
    """What the network says of x, shape of ``x`` (a learned variance, if any, is dropped)."""
    if isinstance(timestep, Tensor):
        t = timestep.to(x.device, torch.float32).reshape(-1).expand(len(x))
    else:
        t = torch.full((len(x),), timestep, dtype=torch.float32, device=x.device)
    folded = F.pixel_unshuffle(x, pixel_unshuffle).contiguous(memory_format=torch.channels_last)
    # In 16 bits the first layer takes images as they are: see `SplitInput`.
    shown = folded if network.dtype.itemsize < 4 else folded.to(network.dtype)
    out = network(shown, t).sample.to(x.dtype)
    return F.pixel_shuffle(out[:, : folded.shape[1]], pixel_unshuffle)


def timestep_of(sigma: Tensor, sigmas: Tensor) -> Tensor:
    """Fractional timestep whose noise-to-signal ratio is ``sigma``; log-linear between timesteps."""
    table, level = sigmas.log(), sigma.to(sigmas).log()
    above = torch.searchsorted(table, level).clamp(1, len(table) - 1)
    low, high = table[above - 1], table[above]
    return (above - 1 + ((level - low) / (high - low)).clamp(0, 1)).float()


@stage("load prior")
def load_prior(name_or_path: str | os.PathLike[str] = "natural") -> Prior:
    """A prior by whatever names it.

    Args:
        name_or_path: a bundled prior's name, a folder in diffusers' format, a .safetensors file in such
            a folder, an OpenAI guided-diffusion checkpoint (.pt, with its configuration beside it as
            .json, .yaml or .yml, or else taken for the 256x256 unconditional one), or the id of a
            model on the Hugging Face hub ("google/ddpm-church-256"), fetched once and then cached.

    Raises:
        InputError: naming what is missing, damaged or of a kind that cannot serve as a prior. Weights
            are never made up.
    """
    prior = _read_prior(str(name_or_path), Path(name_or_path))
    prior.network.to(memory_format=torch.channels_last)  # what convolutions are fastest in
    quicken(prior.network)
    return prior


def _read_prior(name: str, path: Path) -> Prior:
    if name in bundled_priors():
        with as_file(files("ddfm") / "assets" / name) as folder:
            return _load_folder(folder, name)
    if path.is_dir():
        return _load_folder(path, name)
    if path.suffix in CHECKPOINT_SUFFIXES:
        from ddfm.convert import read_guided_diffusion

        return read_guided_diffusion(path)
    if path.suffix == ".safetensors":
        if not path.is_file():
            raise InputError(f"{path}: no such file")
        return _load_folder(path.parent, name, path.name)
    if HUB_ID.fullmatch(name):
        return _load_folder(_fetch(name), name)
    raise InputError(
        f"{name}: no such prior; name a bundled one ({', '.join(bundled_priors())}), a folder in "
        "diffusers' format, a .safetensors or .pt file, or a hub id (owner/model)"
    )


def _fetch(hub_id: str) -> Path:
    """The folder of a hub model, from the cache or the network. Raises InputError if neither has it."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(hub_id, allow_patterns=["*.json", "*.safetensors", "*.bin"]))
    except Exception as error:  # a dozen kinds: no network, no such model, no permission, no space
        raise InputError(
            f"{hub_id}: no such folder here, not in the cache, and the Hugging Face hub did not give it "
            f"({type(error).__name__}); offline, name a folder or a bundled prior "
            f"({', '.join(bundled_priors())})"
        ) from error


def bundled_priors() -> list[str]:
    """Names of the priors that come with the package."""
    return sorted(entry.name for entry in (files("ddfm") / "assets").iterdir() if entry.is_dir())


def list_priors() -> list[dict[str, str]]:
    """Bundled priors, U-Nets in the hub's cache, and some to be had elsewhere: name, where, what."""
    rows = [{"name": name, "where": "bundled", "what": "luminance, any size"} for name in bundled_priors()]
    rows += [{"name": hub_id, "where": "cached", "what": "from the Hugging Face hub"} for hub_id in _cached()]
    listed = {row["name"] for row in rows}
    return rows + [row for row in KNOWN_PRIORS if row["name"] not in listed]


def _cached() -> list[str]:
    """Hub models in the cache whose configuration is a `UNet2DModel`'s."""
    from huggingface_hub import CacheNotFound, scan_cache_dir

    try:
        repositories = scan_cache_dir().repos
    except CacheNotFound:
        return []
    found = []
    for repository in repositories:
        for path in repository.repo_path.glob("snapshots/*/**/config.json"):
            if '"UNet2DModel"' in path.read_text(errors="replace"):
                found.append(repository.repo_id)
                break
    return sorted(found)


def _load_folder(folder: Path, name: str, weights: str | None = None) -> Prior:
    unet = folder / "unet" if (folder / "unet").is_dir() else folder
    schedule = folder / "scheduler" if (folder / "scheduler").is_dir() else folder
    for needed in (unet / "config.json", schedule / "scheduler_config.json"):
        if not needed.is_file():
            raise InputError(f"{needed}: missing; a prior is a folder in diffusers' format")
    try:
        if weights:
            network = UNet2DModel.from_config(UNet2DModel.load_config(unet))
            network.load_state_dict(load_file(unet / weights))
            wrong = []
        else:
            # Safetensors or, in older folders, a pickle that diffusers loads with weights_only.
            network, report = UNet2DModel.from_pretrained(
                unet, low_cpu_mem_usage=False, output_loading_info=True
            )
            wrong = report["missing_keys"] + report["unexpected_keys"] + report["mismatched_keys"]
        scheduler = DDPMScheduler.from_pretrained(schedule)
        settings = json.loads(text.read_text()) if (text := folder / "prior.json").is_file() else {}
        unshuffle = int(settings.get("pixel_unshuffle", 1))
        prior = Prior(network.eval().requires_grad_(False), scheduler, unshuffle, name, folder=folder)
    except Exception as error:  # diffusers, safetensors and json raise whatever they stumble on
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{folder}: not a prior that can be loaded ({reason[:200]})") from error
    if wrong:
        raise InputError(
            f"{folder}: the weights do not fit config.json ({len(wrong)} tensors, {wrong[0]} first)"
        )
    _check(prior, folder)
    torch.nn.Module.to(network, torch.float32)  # see Prior.to
    # Tensors mapped from a file lie at any address, by which some kernels choose the order of their sums.
    for parameter in network.parameters():
        parameter.data = parameter.data.clone()
    return prior


def _check(prior: Prior, folder: Path) -> None:
    config = prior.network.config
    if prior.prediction_type not in PREDICTION_TYPES:
        raise InputError(
            f"{folder}: predicts {prior.prediction_type!r}; a prior predicts {', '.join(PREDICTION_TYPES)}"
        )
    if config.class_embed_type is not None or config.num_class_embeds is not None:
        raise InputError(f"{folder}: is conditional on a class; a prior must be unconditional")
    if config.in_channels not in (prior.pixel_unshuffle**2, 3 * prior.pixel_unshuffle**2):
        raise InputError(
            f"{folder}: takes {config.in_channels} channels; a prior takes 1 (luminance) or 3 (RGB)"
        )
    if config.out_channels not in (config.in_channels, 2 * config.in_channels):
        raise InputError(
            f"{folder}: turns {config.in_channels} channels into {config.out_channels}; no prior does"
        )
