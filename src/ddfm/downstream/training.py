"""A training run that can be killed and resumed: step ``n`` depends on seed and ``n`` alone."""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ddfm.errors import InputError
from ddfm.formats.atomic import write_whole
from ddfm.formats.tensors import load_tensors

Loss = Callable[[NDArray[np.intp], np.random.Generator], Tensor]
"""Numbers of the examples of a batch, and a generator for its augmentation, to the mean loss."""

CHECKPOINT_EVERY = 100  # steps


@dataclass(frozen=True)
class DownstreamRecipe:
    """Hold the settings of a training: AdamW, a short warm-up, then half a cosine down to 1 %.

    Attributes:
        steps: of the optimiser.
        batch: examples a step.
        learning_rate: the highest.
        weight_decay: of AdamW.
        warm_up: share of the steps with a rising learning rate.
        clip_norm: longest gradient; longer ones are shortened to it.
        seed: of weights, order and augmentation.
    """

    steps: int
    batch: int
    learning_rate: float
    weight_decay: float = 0.02
    warm_up: float = 0.05
    clip_norm: float = 1.0
    seed: int = 0


def train(
    model: nn.Module,
    loss_of: Loss,
    examples: int,
    recipe: DownstreamRecipe,
    checkpoint: Path | None = None,
    *,
    about: str = "",
    progress: Callable[[int, float], None] = lambda step, loss: None,
) -> list[float]:
    """Train a model in place; return the loss of each step.

    Args:
        model: with its first weights, in training mode when this returns.
        loss_of: mean loss of a batch.
        examples: how many there are to choose from; each epoch goes through all of them.
        recipe: steps, batch, learning rate.
        checkpoint: a file to resume from if it exists, and to leave the state in every 100 steps.
        about: the data and the model in words; a checkpoint with other words is refused.
        progress: called after each step with its number, from 1, and its loss.

    Raises InputError: no examples, a damaged checkpoint, or one of another recipe or of other data.
    """
    if not examples:
        raise InputError("the training split is empty")
    optimizer = torch.optim.AdamW(model.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)
    key = {**asdict(recipe), "examples": examples, "about": about}
    losses: list[float] = []
    if checkpoint is not None and checkpoint.exists():
        state = _load(checkpoint, key)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        losses = state["losses"]
    model.train()
    for step in range(len(losses), recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * rate(recipe, step)
        loss = loss_of(*batch_of(recipe, examples, step))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
        optimizer.step()
        losses.append(float(loss.detach()))
        progress(step + 1, losses[-1])
        if checkpoint is not None and ((step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == recipe.steps):
            _save(checkpoint, key, model, optimizer, losses)
    return losses


def checkpoint_in(folder: Path | None, name: str, recipe: DownstreamRecipe, about: str) -> Path | None:
    """Return where a training is kept, if anywhere: other data or another recipe have another file."""
    if folder is None:
        return None
    key = hashlib.sha256(repr((recipe, about)).encode()).hexdigest()[:10]
    return folder / "trainings" / f"{name}-{key}.pt"


def batch_of(
    recipe: DownstreamRecipe, examples: int, step: int
) -> tuple[NDArray[np.intp], np.random.Generator]:
    """Return the examples of a step, and a generator for it: epochs are shuffled and follow each other."""
    first = step * recipe.batch
    chosen = [
        _shuffled(recipe.seed, position // examples, examples)[position % examples]
        for position in range(first, first + recipe.batch)
    ]
    return np.array(chosen, np.intp), np.random.default_rng((recipe.seed, 1, step))


def rate(recipe: DownstreamRecipe, step: int) -> float:
    """Return the share of the highest learning rate that a step has."""
    rising = max(1, round(recipe.warm_up * recipe.steps))
    if step < rising:
        return (step + 1) / rising
    done = (step - rising) / max(1, recipe.steps - rising)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done))


def seeded(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Build a model whose first weights depend on the seed alone; torch's own generator is left as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build()


@lru_cache(maxsize=2)  # a batch may lie in two epochs
def _shuffled(seed: int, epoch: int, examples: int) -> NDArray[np.intp]:
    """Return the order of an epoch."""
    return np.random.default_rng((seed, 0, epoch)).permutation(examples)


def _save(path: Path, key: dict[str, Any], model: nn.Module, optimizer: Any, losses: list[float]) -> None:
    buffer = io.BytesIO()
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "losses": losses, "key": key}
    torch.save(state, buffer)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, buffer.getvalue())


def _load(path: Path, key: dict[str, Any]) -> dict[str, Any]:
    try:
        state = load_tensors(path)
    except InputError as error:
        raise InputError(f"{path}: not a checkpoint that can be resumed; delete it to start anew") from error
    parts = ("model", "optimizer", "losses", "key")
    if not isinstance(state, dict) or not all(part in state for part in parts):
        raise InputError(f"{path}: not a checkpoint that can be resumed; delete it to start anew")
    if state["key"] != key:
        raise InputError(f"{path}: was made with another recipe or other data; delete it to start anew")
    return state
