"""Training an unconditional luminance prior on photographs.

Everything random in step ``n`` is drawn from a generator seeded with (seed, n). So a run that is killed and
resumed sees the same batches as one that is not.
"""

from __future__ import annotations

import io
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from ddfm.devices import is_fast_at_bfloat16
from ddfm.errors import InputError
from ddfm.formats.atomic import prepare_folder, write_whole
from ddfm.formats.files import decoding, exists
from ddfm.formats.paths import check_paths
from ddfm.formats.tensors import all_finite, load_tensors
from ddfm.noise.level import GREY_LEVEL
from ddfm.priors.diffusion import DiffusionPrior, predict
from ddfm.priors.network import UNet, use_channels_last
from ddfm.priors.network_config import UNetConfig
from ddfm.priors.plain import PlainUNet, PlainUNetConfig
from ddfm.priors.saving import save_whole
from ddfm.priors.schedule import NoiseSchedule
from ddfm.training.crops import Crops, central_crops
from ddfm.training.pictures import QUARTERS, draw_losses, draw_samples
from ddfm.training.recipe import PriorRecipe

CHECKPOINT = {
    "recipe": dict,
    "step": int,
    "history": list,
    "network": dict,
    "average": dict,
    "optimizer": dict,
}
LIVE_EVERY = 10  # steps between two reports of progress


def build_prior(recipe: PriorRecipe) -> DiffusionPrior:
    """Make a fresh network with the recipe's layout: convolutions only, no attention, any image size."""
    schedule = NoiseSchedule(
        beta_schedule=recipe.beta_schedule, prediction_type=recipe.prediction_type, source="recipe"
    )
    network = build_network(recipe)
    use_channels_last(network)
    return DiffusionPrior(network, schedule, recipe.pixel_unshuffle)


def build_network(recipe: PriorRecipe) -> UNet | PlainUNet:
    """Make the network of `build_prior`."""
    depth, folded = len(recipe.channels), recipe.pixel_unshuffle**2
    if not recipe.norm_groups:
        return PlainUNet(PlainUNetConfig(folded, folded, recipe.channels, recipe.layers_per_block))
    return UNet(
        UNetConfig(
            in_channels=folded,
            out_channels=folded,
            block_out_channels=recipe.channels,
            layers_per_block=recipe.layers_per_block,
            down_block_types=("DownBlock2D",) * depth,
            up_block_types=("UpBlock2D",) * depth,
            norm_num_groups=recipe.norm_groups,
            add_attention=False,
        )
    )


def alpha_cumprod_at(timesteps: Tensor, sigmas: Tensor) -> Tensor:
    """Return abar at fractional timesteps, log-linear in sigma: the inverse of `timestep_of`, shape (B,)."""
    low = timesteps.long().clamp(0, len(sigmas) - 2)
    log_sigma = sigmas.log()
    weight = timesteps.double() - low
    level = (log_sigma[low] * (1 - weight) + log_sigma[low + 1] * weight).exp()
    return 1 / (1 + level**2)


class DiffusionLoss(nn.Module):
    """Mean squared error of a prior's prediction; a module so that it can be distributed."""

    def __init__(self, prior: DiffusionPrior, even_below: float = 0.0) -> None:
        super().__init__()
        self.network, self.prior, self.even_below = prior.network, prior, even_below

    def forward(self, clean: Tensor, timesteps: Tensor, noise: Tensor) -> Tensor:
        """Return the loss per image, shape (B,) (DDPM, eq. 14; for v, Salimans & Ho 2022, appendix D)."""
        abar = alpha_cumprod_at(timesteps.cpu(), self.prior.sigmas).reshape(-1, 1, 1, 1)
        signal, sigma = (a.sqrt().to(clean) for a in (abar, 1 - abar))
        target = noise if self.prior.prediction_type == "epsilon" else signal * noise - sigma * clean
        told = self.prior.told(timesteps, abar)
        out = predict(self.network, signal * clean + sigma * noise, told, self.prior.pixel_unshuffle)
        squared_error = F.mse_loss(out.float(), target, reduction="none").mean((1, 2, 3))
        return squared_error * self.weights((sigma / signal).reshape(-1))

    def weights(self, sigmas: Tensor) -> Tensor:
        """Return what the levels (B,) count; see `PriorRecipe.even_below`."""
        end = self.even_below * GREY_LEVEL
        return sigmas.clamp(max=end) / end if end else torch.ones_like(sigmas)


@torch.no_grad()
def held_out_loss(prior: DiffusionPrior, clean: Tensor, batch: int) -> list[float]:
    """Measure the mean loss in each quarter of the timesteps, noise fixed: four numbers, low noise first."""
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


def learning_rate(recipe: PriorRecipe, step: int) -> float:
    """Return the learning rate: linear warm-up, then a cosine down to 1 %, or constant with a cooldown."""
    if step < recipe.warmup_steps:
        return recipe.learning_rate * (step + 1) / recipe.warmup_steps
    if recipe.cooldown_steps:
        return recipe.learning_rate * min(1.0, (recipe.steps - step) / recipe.cooldown_steps)
    done = (step - recipe.warmup_steps) / max(1, recipe.steps - recipe.warmup_steps)
    return recipe.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


def train(
    images: list[Path],
    folder: Path,
    recipe: PriorRecipe,
    *,
    held_out: list[Path] | None = None,
    device: str = "cpu",
    resume: bool = False,
    begin_with: DiffusionPrior | None = None,
    checkpoint_every: int = 500,
    progress: Callable[[dict[str, Any]], None] = lambda record: None,
) -> DiffusionPrior:
    """Train a prior and leave it in ``folder/prior``; returns it (the average of the weights).

    ``folder`` also holds ``checkpoint.pt`` (network, average, optimiser, step, history) and
    ``log.jsonl``, the history: a record per checkpoint with step, loss, images per second and
    held-out loss per quarter of the timesteps; ``loss.png`` draws it, ``samples.png`` shows what the
    prior takes for natural. Within `process_group` the batch is shared out between the processes,
    their gradients are averaged, and the first one writes. ``progress`` is told every tenth step, and
    every checkpoint with what it measured. A new run starts from the weights of ``begin_with``, if that is
    given (`take_over`). Raises InputError for unusable images, an existing run without ``resume``, a
    checkpoint of another recipe, or a prior that no such run can begin with.
    """
    rank, processes = (
        (distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else (0, 1)
    )
    if recipe.batch % processes:
        raise InputError(f"batch = {recipe.batch} cannot be shared out evenly between {processes} processes")
    checkpoint = folder / "checkpoint.pt"
    begun = [begin_with.folder] if begin_with is not None and begin_with.folder else []
    check_paths([*images, *(held_out or []), *begun], files_written(folder))
    if exists(checkpoint) and not resume:
        raise InputError(f"{folder}: holds a training run already; --resume continues it")
    run = Run(recipe, device)
    if checkpoint.exists():
        run.restore(load_checkpoint(checkpoint, recipe, device), checkpoint)
    elif begin_with is not None:
        for prior in (run.prior, run.average):
            take_over(prior, begin_with)
    crops = Crops(images, recipe, run.prior.sigmas)
    measured = central_crops(held_out, recipe.crop) if held_out else None
    prepare_folder(folder)
    loss_of = DistributedDataParallel(run.loss_of) if processes > 1 else run.loss_of
    losses: list[Tensor] = []
    clock = time.perf_counter()
    for step in range(run.steps, recipe.steps):
        losses.append(run.step(loss_of, *(a[rank::processes].to(device) for a in crops.batch(step))))
        due = run.steps % checkpoint_every == 0 or run.steps == recipe.steps
        if rank > 0 or not (due or run.steps % LIVE_EVERY == 0):
            continue
        mean_loss = float(torch.stack(losses).mean())
        if not math.isfinite(mean_loss):
            raise InputError(
                f"step {run.steps}: the loss is not finite; lower learning_rate ({checkpoint} is of before)"
            )
        record: dict[str, Any] = {
            "step": run.steps,
            "loss": mean_loss,
            "images_per_second": len(losses) * recipe.batch / (time.perf_counter() - clock),
        }
        if due:
            if measured is not None:
                with run.autocast:
                    record["held_out"] = held_out_loss(run.average, measured, recipe.batch)
            run.history.append(record)
            leave(folder, run.state(), run.average)
            losses.clear()
            clock = time.perf_counter()
        progress(record)
    if rank == 0:
        save_whole(run.average, folder / "prior")
    return run.average


class Run:
    """Hold what a training run is made of.

    Attributes:
        prior: what is trained.
        average: the running average of its weights, which is what a run is for.
        steps: how many are done.
        history: a record per checkpoint.
    """

    def __init__(self, recipe: PriorRecipe, device: str) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe = recipe
        self.prior, self.average = build_prior(recipe).to(device), build_prior(recipe).to(device)
        self.average.network.load_state_dict(self.prior.network.state_dict())
        self.network = self.prior.network.train()
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), betas=(0.9, 0.99), weight_decay=recipe.weight_decay, fused=True
        )
        self.loss_of: nn.Module = DiffusionLoss(self.prior, recipe.even_below)
        compute = torch.device(device)
        self.autocast = torch.autocast(
            compute.type, torch.bfloat16, enabled=recipe.bf16 and is_fast_at_bfloat16(compute)
        )
        self.steps = 0
        self.history: list[dict[str, Any]] = []

    def step(self, loss_of: nn.Module, clean: Tensor, timesteps: Tensor, noise: Tensor) -> Tensor:
        """Take one step on a batch (or this process's share of it); return its loss."""
        # 1. The loss and its gradient.
        with self.autocast:
            loss: Tensor = loss_of(clean, timesteps, noise).mean()
        loss.backward()
        # 2. A step of AdamW along the clipped gradient.
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip_norm)
        self.optimizer.param_groups[0]["lr"] = learning_rate(self.recipe, self.steps)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.steps += 1
        # 3. The running average of the weights, shorter at the start.
        decay = min(self.recipe.ema_decay, self.steps / (self.steps + 9))
        with torch.no_grad():
            averages: list[Tensor] = list(self.average.network.parameters())
            torch._foreach_lerp_(averages, [*self.network.parameters()], 1 - decay)
        return loss.detach()

    def state(self) -> dict[str, Any]:
        """Return all that a run needs to go on."""
        return {
            "recipe": asdict(self.recipe),
            "step": self.steps,
            "history": self.history,
            "network": self.network.state_dict(),
            "average": self.average.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def restore(self, state: dict[str, Any], path: Path) -> None:
        """Put a checkpoint's state where it was taken from; raises InputError, naming the path."""
        with decoding(str(path), "not a checkpoint that can be resumed"):
            self.network.load_state_dict(state["network"])
            self.average.network.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
        self.steps, self.history = state["step"], state["history"]


def take_over(prior: DiffusionPrior, source: DiffusionPrior) -> None:
    """Give a new prior the weights of one that has as many blocks a resolution, or fewer.

    Blocks that the source lacks return their input before training (`PlainResidual`). So both give the same.

    Raises:
        InputError: they differ in anything else, or have normalisation, where such a block would not do that.
    """
    old, new = source.network, prior.network
    if not (isinstance(old, PlainUNet) and isinstance(new, PlainUNet)):
        raise InputError(f"{source.name}: nothing can begin with it; a network without normalisation can")
    made = replace(old.config, layers_per_block=new.config.layers_per_block)
    alike = (source.pixel_unshuffle, source.prediction_type) == (prior.pixel_unshuffle, prior.prediction_type)
    if made != new.config or not alike or old.config.layers_per_block > new.config.layers_per_block:
        raise InputError(
            f"{source.name}: this recipe cannot begin with it; channels, pixel_unshuffle and prediction_type "
            "have to be the same, and layers_per_block no less"
        )
    new.load_state_dict(old.state_dict(), strict=False)


def files_written(folder: Path) -> list[Path]:
    """Return the files and the folder that a run makes or replaces."""
    return [folder / name for name in ("checkpoint.pt", "log.jsonl", "loss.png", "samples.png", "prior")]


def leave(folder: Path, state: dict[str, Any], average: DiffusionPrior) -> None:
    """Write the checkpoint, the log and the pictures of a run so far."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_whole(folder / "checkpoint.pt", buffer.getvalue())
    log = "".join(json.dumps(record) + "\n" for record in state["history"])
    write_whole(folder / "log.jsonl", log.encode())
    draw_losses(state["history"], folder / "loss.png")
    draw_samples(average, folder / "samples.png")


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


def load_checkpoint(path: Path, recipe: PriorRecipe, device: str) -> dict[str, Any]:
    """Return the state of a run; raises InputError if it is damaged, not finite or of another recipe."""
    try:
        state = load_tensors(path, device)
    except InputError as error:
        raise InputError(f"{path}: not a checkpoint that can be resumed ({error})") from error
    whole = isinstance(state, dict) and all(
        isinstance(state.get(key), kind) for key, kind in CHECKPOINT.items()
    )
    if not whole or not all(is_record(record) for record in state["history"]):
        raise InputError(f"{path}: not a checkpoint that can be resumed (it lacks parts of one)")
    if not is_continued_by(state, recipe):
        raise InputError(f"{path}: was made with another recipe; resume it with its own")
    if not 0 <= state["step"] <= recipe.steps:
        raise InputError(f"{path}: not a checkpoint that can be resumed (step {state['step']})")
    if not all_finite(state):
        raise InputError(f"{path}: not a checkpoint that can be resumed (its weights are not finite)")
    return state


def is_continued_by(state: dict[str, Any], recipe: PriorRecipe) -> bool:
    """Tell whether a checkpoint is of this recipe, or of one with another end and before its cooldown."""
    before, now = state["recipe"], asdict(recipe)
    if before == now:
        return True
    end = {name: before.get(name) for name in ("steps", "cooldown_steps")}
    if now | end != before or not all(type(count) is int and count > 0 for count in end.values()):
        return False
    return recipe.cooldown_steps > 0 and bool(state["step"] <= end["steps"] - end["cooldown_steps"])


def is_record(record: Any) -> bool:
    """Tell whether it is an entry of a run's log."""
    if not isinstance(record, dict):
        return False
    held_out = record.get("held_out", [0.0] * len(QUARTERS))
    numbers = [record.get("step"), record.get("loss"), *(held_out if isinstance(held_out, list) else [])]
    return len(numbers) == 2 + len(QUARTERS) and all(isinstance(n, int | float) for n in numbers)
