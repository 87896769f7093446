"""Load a prior by its name, folder, checkpoint or hub id.

A prior lives in a folder in diffusers' own format::

    config.json                             the UNet2DModel, or a `PlainUNet`
    diffusion_pytorch_model.safetensors     its weights
    scheduler_config.json                   the noise schedule and what the network predicts
    prior.json                              only if pixels are unshuffled: {"pixel_unshuffle": 2}

``UNet2DModel.from_pretrained`` and ``DDPMScheduler.from_pretrained`` open it as it is (diffusers has no
`PlainUNet`). Folders that keep the parts in ``unet/`` and ``scheduler/``, as diffusers' pipelines do, are
read as well.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ddfm.errors import InputError
from ddfm.formats.files import read_json
from ddfm.priors.diffusion import DiffusionPrior
from ddfm.priors.network import WEIGHTS, UNet, check_finite, current_names, misfits
from ddfm.priors.network_config import Foreign, read_unet_config
from ddfm.priors.plain import CLASS_NAME, PlainUNet, read_plain_config
from ddfm.priors.schedule import NoiseSchedule
from ddfm.timing import stage

if TYPE_CHECKING:
    from ddfm.priors.foreign import DiffusersUNet

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
INSTALL = "pip install 'ddfm[diffusers]'"  # for the hub, and for layouts that `network` does not know
MOST_UNSHUFFLED = 16  # side of the pixel blocks folded into channels

logger = logging.getLogger("ddfm")


@stage("load prior")
def load_prior(name_or_path: str | os.PathLike[str] = "natural") -> DiffusionPrior:
    """Load a prior by whatever names it.

    Args:
        name_or_path: a bundled prior's name, a folder in diffusers' format, or a .safetensors file in such
            a folder. It may also be an OpenAI guided-diffusion checkpoint, .pt, with its configuration
            beside it as .json, .yaml or .yml. Without one it is taken for the 256x256 unconditional model.
            Last, it may be the id of a model on the Hugging Face hub ("google/ddpm-church-256"), which is
            fetched once and then cached.

    Raises:
        InputError: naming what is missing, damaged or of a kind that cannot serve as a prior. Weights
            are never made up.
    """
    prior = _read_prior(str(name_or_path), Path(name_or_path))
    prior.network.prepare_for_inference()
    return prior


def _read_prior(name: str, path: Path) -> DiffusionPrior:
    if name in bundled_priors():
        with as_file(files("ddfm") / "assets" / name) as folder:
            return _load_folder(folder, name)
    if path.is_dir():
        return _load_folder(path, name)
    if path.suffix in CHECKPOINT_SUFFIXES:
        from ddfm.priors.guided_diffusion import read_guided_diffusion

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


def path_of(name_or_path: str | os.PathLike[str]) -> Path | None:
    """Return where a prior's files lie, without reading them; None for one of the hub, or none at all."""
    if str(name_or_path) in bundled_priors():
        return Path(str(files("ddfm") / "assets" / str(name_or_path)))
    path = Path(name_or_path)
    return path if path.exists() else None


def _fetch(hub_id: str) -> Path:
    """Fetch a hub model's folder, from the cache or the network. Raises InputError if neither has it."""
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError as missing:
        raise InputError(
            f"{hub_id}: no such folder here, and the Hugging Face hub needs: {INSTALL}"
        ) from missing

    # No network, no such model, no permission, no space: a dozen kinds. The hub's own is derived from that of
    # the HTTP library, whichever that is.
    kinds: tuple[type[BaseException], ...] = (OSError, ValueError, RuntimeError, *HfHubHTTPError.__bases__)
    kinds = tuple(kind for kind in kinds if kind is not Exception)
    try:
        return Path(snapshot_download(hub_id, allow_patterns=["*.json", "*.safetensors", "*.bin"]))
    except kinds as error:
        raise InputError(
            f"{hub_id}: no such folder here, not in the cache, and the Hugging Face hub did not give it "
            f"({type(error).__name__}); offline, name a folder or a bundled prior "
            f"({', '.join(bundled_priors())})"
        ) from error


def bundled_priors() -> list[str]:
    """List the names of the priors that come with the package."""
    return sorted(entry.name for entry in (files("ddfm") / "assets").iterdir() if entry.is_dir())


def list_priors() -> list[dict[str, str]]:
    """List bundled priors, U-Nets in the hub's cache, and some to be had elsewhere: name, where, what."""
    rows = [{"name": name, "where": "bundled", "what": "luminance, any size"} for name in bundled_priors()]
    rows += [{"name": hub_id, "where": "cached", "what": "from the Hugging Face hub"} for hub_id in _cached()]
    listed = {row["name"] for row in rows}
    return rows + [row for row in KNOWN_PRIORS if row["name"] not in listed]


def _cached() -> list[str]:
    """List hub models in the cache whose configuration is a `UNet2DModel`'s; none without the extra."""
    try:
        from huggingface_hub import CacheNotFound, scan_cache_dir
    except ImportError:
        return []
    try:
        repositories = scan_cache_dir().repos
    except CacheNotFound:
        return []
    hub_ids = []
    for repository in repositories:
        for path in repository.repo_path.glob("snapshots/*/**/config.json"):
            if '"UNet2DModel"' in path.read_text(errors="replace"):
                hub_ids.append(repository.repo_id)
                break
    return sorted(hub_ids)


def _load_folder(folder: Path, name: str, weights: str | None = None) -> DiffusionPrior:
    unet = folder / "unet" if (folder / "unet").is_dir() else folder
    schedule = folder / "scheduler" if (folder / "scheduler").is_dir() else folder
    for needed in (unet / "config.json", schedule / "scheduler_config.json"):
        if not needed.is_file():
            raise InputError(f"{needed}: missing; a prior is a folder in diffusers' format")
    network = _load_network(unet, weights)
    unshuffle = _pixel_unshuffle(folder / "prior.json")
    noise = NoiseSchedule.read(schedule / "scheduler_config.json")
    prior = DiffusionPrior(network, noise, unshuffle, name, folder=folder)
    _check(prior, folder)
    return prior


def _load_network(folder: Path, weights: str | None) -> UNet | PlainUNet | DiffusersUNet:
    """Read config.json and the weights, from the file of that name if one is given. Raises InputError."""
    values = read_json(folder / "config.json")
    if values.get("_class_name") == CLASS_NAME:
        layout = read_plain_config(values, str(folder / "config.json"))
        with torch.device("meta"):
            plain = PlainUNet(layout)
        path = _weights_file(folder, weights)
        _load_weights(plain, read_weights(path), path)
        return plain
    config = read_unet_config(values, str(folder / "config.json"))
    if isinstance(config, Foreign):
        if any(values.get(field) is not None for field in ("class_embed_type", "num_class_embeds")):
            raise InputError(f"{folder}: is conditional on a class; a prior must be unconditional")
        logger.info("%s: read by diffusers (%s)", folder, config.reason)
        try:
            from ddfm.priors.foreign import DiffusersUNet
        except ImportError as missing:
            raise InputError(f"{folder}: {config.reason}, which needs diffusers: {INSTALL}") from missing
        return DiffusersUNet.load(folder, weights)
    path = _weights_file(folder, weights)
    with torch.device("meta"):
        network = UNet(config)
    _load_weights(network, current_names(read_weights(path)), path)
    return network


def _load_weights(network: UNet | PlainUNet, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Give a network the weights of a file. Raises InputError if they do not fit or are not finite."""
    if wrong := misfits(network, tensors):
        raise InputError(
            f"{path.parent}: the weights do not fit config.json ({len(wrong)} tensors, {wrong[0]} first)"
        )
    # Tensors mapped from a file lie at any address, by which some kernels choose the order of their sums.
    copied = {name: tensor.to(torch.float32, copy=True) for name, tensor in tensors.items()}
    check_finite(copied, path)
    network.load_state_dict(copied, assign=True)


def _weights_file(folder: Path, weights: str | None) -> Path:
    """Return where the weights lie: the file named, safetensors, or in older folders a pickle."""
    names = [weights] if weights else [WEIGHTS, "diffusion_pytorch_model.bin"]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise InputError(f"{folder / names[0]}: missing; a prior is a folder in diffusers' format")


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file or, without running code in it, of a pickle."""
    if path.suffix != ".safetensors":
        from ddfm.priors.guided_diffusion import load_checkpoint

        return load_checkpoint(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a whole safetensors file ({' '.join(str(error).split())})") from error


def _pixel_unshuffle(path: Path) -> int:
    """Read prior.json, which is there only where pixels are unshuffled; 1 without it."""
    value = read_json(path).get("pixel_unshuffle", 1) if path.is_file() else 1
    if not isinstance(value, int) or not 1 <= value <= MOST_UNSHUFFLED:
        raise InputError(
            f"{path}: pixel_unshuffle: {value!r:.80}; a whole number from 1 to {MOST_UNSHUFFLED} is needed"
        )
    return value


def _check(prior: DiffusionPrior, folder: Path) -> None:
    config = prior.network.config
    if config.in_channels not in (prior.pixel_unshuffle**2, 3 * prior.pixel_unshuffle**2):
        raise InputError(
            f"{folder}: takes {config.in_channels} channels; a prior takes 1 (luminance) or 3 (RGB)"
        )
    if config.out_channels not in (config.in_channels, 2 * config.in_channels):
        raise InputError(
            f"{folder}: turns {config.in_channels} channels into {config.out_channels}; no prior does"
        )
