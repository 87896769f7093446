"""A run that was interrupted ends like one that was not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ddfm.downstream.classifier import CropClassifier, weights
from ddfm.downstream.training import DownstreamRecipe, batch_of, rate, seeded, train
from ddfm.errors import InputError

RECIPE = DownstreamRecipe(steps=230, batch=8, learning_rate=0.05)
DATA = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)


class PowerError(Exception):
    """The power went out."""


def fitted(
    checkpoint: Path | None, *, stop_at: int | None = None, recipe: DownstreamRecipe = RECIPE
) -> tuple[Any, list[float]]:
    """Fit a linear model to noisy sums; stop at a step, as a crash would."""
    model = seeded(lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1)), recipe.seed)

    def loss_of(chosen: np.ndarray[Any, Any], generator: np.random.Generator) -> Tensor:
        x = torch.from_numpy(DATA[chosen] + generator.normal(0, 0.1, (len(chosen), 4)).astype(np.float32))
        return ((model(x)[:, 0] - x.sum(1)) ** 2).mean()

    def progress(step: int, loss: float) -> None:
        if step == stop_at:
            raise PowerError

    return model, train(model, loss_of, len(DATA), recipe, checkpoint, progress=progress)


def test_an_interrupted_training_resumes(tmp_path: Path) -> None:
    whole, losses = fitted(None)
    file = tmp_path / "run" / "a.pt"
    with pytest.raises(PowerError):
        fitted(file, stop_at=157)
    assert file.exists()  # left at step 100
    resumed, again = fitted(file)
    assert again == losses
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
    finished, same = fitted(file, stop_at=1)  # nothing is left to do
    assert same == losses
    assert torch.equal(next(finished.parameters()), next(whole.parameters()))
    assert losses[-1] < 0.1 * losses[0]


def test_checkpoints_of_something_else_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.pt"
    fitted(file)
    with pytest.raises(InputError, match=r"a.pt: was made with another recipe or other data"):
        fitted(file, recipe=DownstreamRecipe(steps=230, batch=8, learning_rate=0.05, seed=1))
    file.write_bytes(b"PK")
    with pytest.raises(InputError, match=r"a.pt: not a checkpoint that can be resumed"):
        fitted(file)


def test_every_epoch_shows_every_example_once() -> None:
    recipe = DownstreamRecipe(steps=1, batch=7, learning_rate=1)
    seen = np.concatenate([batch_of(recipe, 21, step)[0] for step in range(6)])
    assert sorted(seen[:21]) == sorted(seen[21:]) == list(range(21))
    assert not np.array_equal(seen[:21], seen[21:])


def test_the_learning_rate_rises_and_falls() -> None:
    recipe = DownstreamRecipe(steps=100, batch=1, learning_rate=1, warm_up=0.1)
    rates = [rate(recipe, step) for step in range(100)]
    assert np.argmax(rates) in (9, 10)
    assert max(rates) == 1
    assert rates[-1] < 0.02


def test_an_empty_split_cannot_be_trained_on() -> None:
    model = nn.Linear(1, 1)
    with pytest.raises(InputError, match="the training split is empty"):
        train(model, lambda chosen, generator: model.weight.sum(), 0, RECIPE)


def test_the_classifier_is_small_and_depends_on_its_seed_alone() -> None:
    before = torch.random.get_rng_state()
    first, second = (seeded(lambda: CropClassifier(3), 5) for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    assert 70_000 < weights(first) < 130_000
    assert first(torch.zeros(2, 3, 64, 64)).shape == (2, 3)
