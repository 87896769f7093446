"""What a training run looks like: its loss curves, and samples of the prior so far."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ddfm.errors import InputError
from ddfm.formats.atomic import write_whole
from ddfm.likelihoods.base import Unconditional
from ddfm.priors.diffusion import DiffusionPrior
from ddfm.sampling.loop import sample, spaced_timesteps
from ddfm.sampling.schedulers import DDPM

QUARTERS = ("t < 250 (low noise)", "250 to 499", "500 to 749", "t > 749 (high noise)")


def draw_losses(history: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw the training loss and the held-out loss in each quarter of the timesteps, as a PNG."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("training draws with matplotlib: pip install 'ddfm[train]'") from error
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    steps = [record["step"] for record in history]
    axes.plot(steps, [record["loss"] for record in history], color="0.6", label="training, as sampled")
    measured = [record for record in history if "held_out" in record]
    for quarter, label in enumerate(QUARTERS if measured else ()):
        losses = [record["held_out"][quarter] for record in measured]
        axes.plot([record["step"] for record in measured], losses, label=f"held out, {label}")
    axes.set(xlabel="step", ylabel="mean squared error", yscale="log")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    write_whole(path, buffer.getvalue())


def draw_samples(prior: DiffusionPrior, path: Path, rows: int = 1, steps: int = 25) -> None:
    """Draw samples from pure noise as a PNG, six in a row, 128 pixels a side (DDPM, seed 0)."""
    side, columns = -(-128 // prior.multiple) * prior.multiple, 6
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(rows * columns, prior.channels, side, side, generator=generator).to(prior.device)
    timesteps = spaced_timesteps(len(prior.alphas_cumprod) - 1, 0, steps)
    f = sample(prior, Unconditional(), noise, timesteps, scheduler=DDPM, generator=generator)
    grey = np.rint(Unconditional().finish(f.mean(1)).cpu().numpy() * 255).astype(np.uint8)
    tiled = grey.reshape(rows, columns, side, side).transpose(0, 2, 1, 3)
    buffer = io.BytesIO()
    Image.fromarray(tiled.reshape(rows * side, columns * side)).save(buffer, "PNG")
    write_whole(path, buffer.getvalue())
