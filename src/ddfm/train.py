"""Training an unconditional luminance prior on photographs.

Everything random in step ``n`` is drawn from a generator seeded with (seed, n), so a run that is
killed and resumed sees the same batches as one that is not.
"""

from __future__ import annotations

import io
import json
import math
import os
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DModel
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from ddfm.errors import InputError
from ddfm.formats.pictures import SUFFIXES
from ddfm.prior import Prior, predict, timestep_of
from ddfm.train_pictures import draw_losses, draw_samples

LIVE_EVERY = 10  # steps between two reports of progress


@dataclass(frozen=True)
class Recipe:
    """What a training run is made of; read from TOML, kept beside the weights.

    Attributes:
        channels: width of the network per resolution, the first after ``pixel_unshuffle``.
        layers_per_block: residual blocks per resolution on the way down (one more on the way up).
        norm_groups: groups of each GroupNorm.
        pixel_unshuffle: side of the pixel blocks folded into channels before the network.
        beta_schedule: diffusers' name, ``"linear"`` or ``"squaredcos_cap_v2"`` (cosine).
        prediction_type: ``"epsilon"`` or ``"v_prediction"``.
        crop: side of the training crops in pixels.
        native_scale: share of crops at the image's own scale; the rest are at half of it, where
            JPEG's blocks and grain have averaged out.
        inverted: share of crops with black and white exchanged (thermal cameras come both ways).
        low_noise: share of each batch with sigma log-uniform in ``low_noise_range``; the rest has
            uniform timesteps.
        low_noise_range: sigma in grey levels of 255.
        batch, steps, learning_rate, warmup_steps, weight_decay, clip_norm, ema_decay, seed: as usual.
        bf16: compute in bfloat16 (autocast) where the machine is fast at it; weights and optimiser stay
            float32.
    """

    channels: tuple[int, ...] = (32, 48, 64, 128)
    layers_per_block: int = 1
    norm_groups: int = 8
    pixel_unshuffle: int = 2
    beta_schedule: str = "linear"
    prediction_type: str = "v_prediction"
    crop: int = 128
    native_scale: float = 0.5
    inverted: float = 0.25
    low_noise: float = 0.75
    low_noise_range: tuple[float, float] = (3.0, 60.0)
    batch: int = 16
    steps: int = 12000
    learning_rate: float = 1e-3
    warmup_steps: int = 200
    weight_decay: float = 1e-4
    clip_norm: float = 1.0
    ema_decay: float = 0.999
    bf16: bool = True
    seed: int = 3407


def read_recipe(path: Path) -> Recipe:
    """Read a TOML recipe; raises InputError if it is missing, malformed or names unknown settings."""
    try:
        values = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path}: not a readable recipe ({error})") from error
    known = {field.name for field in fields(Recipe)}
    if unknown := sorted(set(values) - known):
        raise InputError(
            f"{path}: unknown setting {unknown[0]!r}; a recipe may set {', '.join(sorted(known))}"
        )
    settings: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return Recipe(**settings)


def build_prior(recipe: Recipe) -> Prior:
    """A fresh network with the recipe's layout: convolutions only, no attention, any image size."""
    depth, folded = len(recipe.channels), recipe.pixel_unshuffle**2
    network = UNet2DModel(
        in_channels=folded,
        out_channels=folded,
        block_out_channels=recipe.channels,
        layers_per_block=recipe.layers_per_block,
        down_block_types=("DownBlock2D",) * depth,
        up_block_types=("UpBlock2D",) * depth,
        norm_num_groups=recipe.norm_groups,
        add_attention=False,
    )
    scheduler = DDPMScheduler(
        beta_schedule=recipe.beta_schedule, prediction_type=recipe.prediction_type, clip_sample=False
    )
    network.to(memory_format=torch.channels_last)
    return Prior(network, scheduler, recipe.pixel_unshuffle)


def find_images(paths: Iterable[Path]) -> list[Path]:
    """All image files named or below the folders named, sorted."""
    found: set[Path] = set()
    for path in paths:
        if not path.exists():
            raise InputError(f"{path}: no such file or folder")
        candidates = path.rglob("*") if path.is_dir() else [path]
        found.update(p for p in candidates if p.suffix.lower() in SUFFIXES)
    if not found:
        raise InputError(f"{', '.join(map(str, paths))}: no images ({', '.join(sorted(SUFFIXES))}) found")
    return sorted(found)


def load_pyramid(paths: Iterable[Path], crop: int) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.uint8]]]:
    """Luminance of every image at its own scale and at half of it, where a crop fits."""
    native, half = [], []
    for path in paths:
        try:
            with Image.open(path) as image:
                grey = image.convert("L")
        except (OSError, SyntaxError) as error:
            raise InputError(f"{path}: cannot be read as an image; remove it or mend it ({error})") from error
        if min(grey.size) >= crop:
            native.append(np.asarray(grey))
        if min(grey.size) >= 2 * crop:
            half.append(np.asarray(grey.reduce(2)))
    return native, half


class Crops:
    """Random crops and their noise levels; batch ``step`` is a function of (seed, step) alone."""

    def __init__(self, images: Iterable[Path], recipe: Recipe, sigmas: Tensor) -> None:
        self.recipe, self.sigmas = recipe, sigmas
        self.native, self.half = load_pyramid(images, recipe.crop)
        if not self.native:
            raise InputError(
                f"no image is at least {recipe.crop} pixels high and wide (crop = {recipe.crop})"
            )

    def batch(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Clean crops (B, 1, crop, crop) in [-1, 1]; fractional timesteps (B,); noise like the crops."""
        r = self.recipe
        rng = np.random.default_rng((r.seed, step))
        clean = torch.from_numpy(np.stack([self._crop(rng) for _ in range(r.batch)]))[:, None]
        clean = clean.float() / 127.5 - 1
        clean[rng.random(r.batch) < r.inverted] *= -1
        timesteps = torch.from_numpy(rng.uniform(0, len(self.sigmas) - 1, r.batch)).float()
        low = rng.random(r.batch) < r.low_noise
        low_end, high_end = np.log(r.low_noise_range)
        levels = np.exp(rng.uniform(low_end, high_end, r.batch)) / 127.5
        timesteps[low] = timestep_of(torch.from_numpy(levels), self.sigmas)[low]
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(int(rng.integers(2**62))))
        return clean, timesteps, noise

    def _crop(self, rng: np.random.Generator) -> NDArray[np.uint8]:
        pool = self.native if not self.half or rng.random() < self.recipe.native_scale else self.half
        image, side = pool[rng.integers(len(pool))], self.recipe.crop
        top, left = rng.integers(image.shape[0] - side + 1), rng.integers(image.shape[1] - side + 1)
        crop = image[top : top + side, left : left + side]
        crop = crop[:, ::-1] if rng.random() < 0.5 else crop
        crop = crop[::-1] if rng.random() < 0.5 else crop
        return crop.T if rng.random() < 0.5 else crop


def alpha_cumprod_at(timesteps: Tensor, sigmas: Tensor) -> Tensor:
    """abar at fractional timesteps, log-linear in sigma: the inverse of `timestep_of`, shape (B,)."""
    low = timesteps.long().clamp(0, len(sigmas) - 2)
    log_sigma = sigmas.log()
    weight = timesteps.double() - low
    level = (log_sigma[low] * (1 - weight) + log_sigma[low + 1] * weight).exp()
    return 1 / (1 + level**2)


class DiffusionLoss(nn.Module):
    """Mean squared error of a prior's prediction; a module so that it can be distributed."""

    def __init__(self, prior: Prior) -> None:
        super().__init__()
        self.network, self.prior = prior.network, prior

    def forward(self, clean: Tensor, timesteps: Tensor, noise: Tensor) -> Tensor:
        """Loss per image, shape (B,) (DDPM, eq. 14; for v, Salimans & Ho 2022, appendix D)."""
        abar = alpha_cumprod_at(timesteps.cpu(), self.prior.sigmas).reshape(-1, 1, 1, 1)
        signal, sigma = (a.sqrt().to(clean) for a in (abar, 1 - abar))
        target = noise if self.prior.prediction_type == "epsilon" else signal * noise - sigma * clean
        out = predict(self.network, signal * clean + sigma * noise, timesteps, self.prior.pixel_unshuffle)
        return F.mse_loss(out.float(), target, reduction="none").mean((1, 2, 3))


def central_crops(images: Iterable[Path], crop: int) -> Tensor:
    """The middle of every image in which a crop fits, (N, 1, crop, crop) in [-1, 1]."""
    crops = []
    for grey in load_pyramid(images, crop)[0]:
        top, left = (grey.shape[0] - crop) // 2, (grey.shape[1] - crop) // 2
        crops.append(grey[top : top + crop, left : left + crop])
    if not crops:
        raise InputError(f"no held-out image is at least {crop} pixels high and wide")
    return torch.from_numpy(np.stack(crops))[:, None].float() / 127.5 - 1


@torch.no_grad()
def held_out_loss(prior: Prior, clean: Tensor, batch: int) -> list[float]:
    """Mean loss in each quarter of the timesteps, noise fixed: four numbers, low noise first."""
    generator = torch.Generator().manual_seed(0)
    loss_of = DiffusionLoss(prior)
    quarter, losses = len(prior.sigmas) / 4, []
    for k in range(4):
        timesteps = (k + torch.rand(len(clean), generator=generator)) * quarter
        noise = torch.randn(clean.shape, generator=generator)
        parts = zip(clean.split(batch), timesteps.split(batch), noise.split(batch), strict=True)
        batches = [[a.to(prior.device) for a in part] for part in parts]
        losses.append(float(torch.cat([loss_of(*b) for b in batches]).mean()))
    return losses


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, then half a cosine down to 1 % of the peak."""
    if step < recipe.warmup_steps:
        return recipe.learning_rate * (step + 1) / recipe.warmup_steps
    done = (step - recipe.warmup_steps) / max(1, recipe.steps - recipe.warmup_steps)
    return recipe.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


def train(
    images: list[Path],
    folder: Path,
    recipe: Recipe,
    *,
    held_out: list[Path] | None = None,
    device: str = "cpu",
    resume: bool = False,
    checkpoint_every: int = 500,
    progress: Callable[[dict[str, Any]], None] = lambda record: None,
) -> Prior:
    """Train a prior and leave it in ``folder/prior``; returns it (the average of the weights).

    ``folder`` also holds ``checkpoint.pt`` (network, average, optimiser, step, history) and
    ``log.jsonl``, the history: a record per checkpoint with step, loss, images per second and
    held-out loss per quarter of the timesteps; ``loss.png`` draws it, ``samples.png`` shows what the
    prior takes for natural. Within `process_group` the batch is shared out between the processes,
    their gradients are averaged, and the first one writes. ``progress`` is told every tenth step, and
    every checkpoint with what it measured. Raises InputError for unusable images, an existing run
    without ``resume``, or a checkpoint of another recipe.
    """
    rank, processes = (
        (distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else (0, 1)
    )
    if recipe.batch % processes:
        raise InputError(f"batch = {recipe.batch} cannot be shared out evenly between {processes} processes")
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.exists() and not resume:
        raise InputError(f"{folder}: holds a training run already; --resume continues it")
    torch.manual_seed(recipe.seed)
    prior, average = build_prior(recipe).to(device), build_prior(recipe).to(device)
    average.network.load_state_dict(prior.network.state_dict())
    network = prior.network.train()
    optimizer = torch.optim.AdamW(
        network.parameters(), betas=(0.9, 0.99), weight_decay=recipe.weight_decay, fused=True
    )
    start, history = 0, []
    if checkpoint.exists():
        state = load_checkpoint(checkpoint, recipe, device)
        network.load_state_dict(state["network"])
        average.network.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        start, history = state["step"], state["history"]
    crops = Crops(images, recipe, prior.sigmas)
    measured = central_crops(held_out, recipe.crop) if held_out else None
    folder.mkdir(parents=True, exist_ok=True)
    loss_of: nn.Module = DiffusionLoss(prior)
    if processes > 1:
        loss_of = DistributedDataParallel(loss_of)
    autocast = torch.autocast(
        torch.device(device).type, torch.bfloat16, enabled=recipe.bf16 and fast_bfloat16(device)
    )

    losses: list[Tensor] = []
    clock = time.perf_counter()
    for step in range(start, recipe.steps):
        # 1. A batch (this process's share of it), and the loss on it.
        clean, timesteps, noise = (a[rank::processes].to(device) for a in crops.batch(step))
        with autocast:
            loss = loss_of(clean, timesteps, noise).mean()
        loss.backward()
        # 2. A step of AdamW along the clipped gradient.
        torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.clip_norm)
        optimizer.param_groups[0]["lr"] = learning_rate(recipe, step)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        # 3. The running average of the weights, shorter at the start.
        decay = min(recipe.ema_decay, (step + 1) / (step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.network.parameters()), list(network.parameters()), 1 - decay)
        # 4. Now and then: what it is worth, and a place to go on from.
        losses.append(loss.detach())
        due = (step + 1) % checkpoint_every == 0 or step + 1 == recipe.steps
        if rank > 0 or not (due or (step + 1) % LIVE_EVERY == 0):
            continue
        record: dict[str, Any] = {
            "step": step + 1,
            "loss": float(torch.stack(losses).mean()),
            "images_per_second": len(losses) * recipe.batch / (time.perf_counter() - clock),
        }
        if due:
            if measured is not None:
                with autocast:
                    record["held_out"] = held_out_loss(average, measured, recipe.batch)
            history.append(record)
            state = {
                "recipe": asdict(recipe),
                "step": step + 1,
                "history": history,
                "network": network.state_dict(),
                "average": average.network.state_dict(),
                "optimizer": optimizer.state_dict(),
            }
            leave(folder, state, average)
            losses.clear()
            clock = time.perf_counter()
        progress(record)
    if rank == 0:
        average.save(folder / "prior")
    return average


def leave(folder: Path, state: dict[str, Any], average: Prior) -> None:
    """Write the checkpoint, the log and the pictures of a run so far."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(folder / "checkpoint.pt", buffer.getvalue())
    log = "".join(json.dumps(record) + "\n" for record in state["history"])
    write_atomically(folder / "log.jsonl", log.encode())
    draw_losses(state["history"], folder / "loss.png")
    draw_samples(average, folder / "samples.png")


def fast_bfloat16(device: str) -> bool:
    """Whether the machine computes in bfloat16 itself; elsewhere it is emulated, slower than float32."""
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.device(device).type == "cpu" and torch.cpu._is_avx512_bf16_supported()


@contextmanager
def process_group(device: str) -> Iterator[str]:
    """Join the other processes if torchrun started this one; yields the device to train on.

    On GPUs each process of a machine takes its own; on CPUs they talk through gloo.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield device
        return
    gpu = torch.device(device).type == "cuda"
    distributed.init_process_group("nccl" if gpu else "gloo")
    try:
        yield f"cuda:{os.environ['LOCAL_RANK']}" if gpu else device
    finally:
        distributed.destroy_process_group()


def load_checkpoint(path: Path, recipe: Recipe, device: str) -> dict[str, Any]:
    """The state of a run; raises InputError if it is damaged or of another recipe."""
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch raises RuntimeError, EOFError, UnpicklingError, ...
        raise InputError(
            f"{path}: not a checkpoint that can be resumed ({str(error).splitlines()[0]})"
        ) from error
    if state["recipe"] != asdict(recipe):
        raise InputError(f"{path}: was made with another recipe; resume it with its own")
    return state


def write_atomically(path: Path, data: bytes) -> None:
    """Leave either the old file or the new one, whatever happens meanwhile."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
