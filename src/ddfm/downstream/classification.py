"""Classification: one small network, one recipe and the same seeds for every input, by day and by night."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ddfm.downstream.bootstrap import Interval, Score, difference, interval
from ddfm.downstream.classifier import CropClassifier, predicted
from ddfm.downstream.confusion import Matrix, accuracies, confusion_matrix
from ddfm.downstream.inputs import Input, fused_pictures
from ddfm.downstream.layouts import flir_crops
from ddfm.downstream.layouts.flir_crops import CLASSES, Crops
from ddfm.downstream.training import DownstreamRecipe, checkpoint_in, seeded, train
from ddfm.errors import InputError
from ddfm.pictures.image import from_array

RECIPE = DownstreamRecipe(steps=540, batch=64, learning_rate=4e-3)  # six epochs of 5,729 crops
SHIFT = 4  # pixels that a training crop is moved by, at most
SCORES = ("accuracy", "balanced", "worst")


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        seed: of the training.
        losses: of each step.
        predictions: class of each test crop, by the input that it was shown as; int64 (N,).
        seconds: of computing that training took, all cores together.
    """

    seed: int
    losses: list[float]
    predictions: dict[str, NDArray[np.int64]]
    seconds: float


@dataclass(frozen=True)
class Classified:
    """All trainings of all inputs on one set."""

    test: Crops
    shown: dict[str, NDArray[np.uint8]]  # test crops (N, 64, 64, 3) by input
    runs: dict[str, list[Run]]
    recipe: DownstreamRecipe

    def matrix(self, trained: str, run: int, chosen: NDArray[np.bool_], shown: str | None = None) -> Matrix:
        """Return a training's confusion matrix on some test crops, shown as its own or another input."""
        predictions = self.runs[trained][run].predictions[shown or trained]
        return confusion_matrix(self.test.classes[chosen], predictions[chosen], len(CLASSES))

    def scores(self, name: str, night: bool) -> dict[str, list[float]]:
        """Return accuracy, balanced and worst class's accuracy of each seed, by day or by night."""
        chosen = self.test.night == night
        found = [accuracies(self.matrix(name, run, chosen)) for run in range(len(self.runs[name]))]
        return {score: [values[score] for values in found] for score in SCORES}

    def balanced_interval(self, name: str, night: bool) -> Interval:
        """Return the balanced accuracy, mean over seeds, with its bootstrap interval over test crops."""
        return interval(*self._balanced(name, night))

    def balanced_difference(self, name: str, other: str, night: bool) -> Interval:
        """Return how much better an input's balanced accuracy is than another's, paired by crop."""
        score, count = self._balanced(name, night)
        return difference(score, self._balanced(other, night)[0], count)

    def _balanced(self, name: str, night: bool) -> tuple[Score, int]:
        """Return the balanced accuracy as a function of the crops' numbers, and how many crops there are."""
        numbers = np.flatnonzero(self.test.night == night)
        truth = self.test.classes[numbers]
        right = np.mean([run.predictions[name][numbers] == truth for run in self.runs[name]], 0)

        def score(chosen: NDArray[np.intp]) -> float:
            totals = np.bincount(truth[chosen], minlength=len(CLASSES))
            found = np.bincount(truth[chosen], right[chosen], len(CLASSES))
            return float((found[totals > 0] / totals[totals > 0]).mean())

        return score, len(numbers)


def classify(
    root: Path,
    inputs: Sequence[Input],
    seeds: Sequence[int],
    recipe: DownstreamRecipe = RECIPE,
    cached: Path | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Classified:
    """Train on each input with each seed; test each training on every input.

    Args:
        root: where the crops lie (`flir_crops`).
        inputs: what to compare.
        seeds: one training each.
        recipe: of all trainings, but for its seed.
        cached: folder for fused crops and for trainings, which are resumed from there.
        progress: called with a line about what is done.

    Raises InputError: as `flir_crops.read`.
    """
    splits = {split: flir_crops.read(root, split) for split in ("train", "test")}
    shown: dict[str, dict[str, NDArray[np.uint8]]] = {}
    for made in inputs:
        shown[made.name] = {split: _shown(made, split, crops, cached) for split, crops in splits.items()}
        progress(f"{made.name}: pictures are ready")
    statistics = {name: normalisation(parts["train"]) for name, parts in shown.items()}
    tests = {name: normalised(parts["test"], statistics[name]) for name, parts in shown.items()}
    runs: dict[str, list[Run]] = {made.name: [] for made in inputs}
    for seed in seeds:
        for name, parts in shown.items():
            examples = normalised(parts["train"], statistics[name])
            began = time.process_time()
            model, losses = _trained(examples, splits["train"], replace(recipe, seed=seed), name, cached)
            seconds = time.process_time() - began
            answers = {other: predicted(model, crops).numpy() for other, crops in tests.items()}
            runs[name].append(Run(seed, losses, answers, seconds))
            progress(
                f"{name}, seed {seed}: trained in {seconds:.0f} s of computing, last loss {losses[-1]:.3f}"
            )
    return Classified(splits["test"], {name: parts["test"] for name, parts in shown.items()}, runs, recipe)


def given(root: Path, predictions: Mapping[str, Path]) -> Classified:
    """Judge classes that another program found: for each input a CSV with the columns name and class.

    Raises InputError: a file without these columns, an unknown class, a crop that it leaves out.
    """
    test = flir_crops.read(root, "test")
    runs = {name: [Run(0, [], {name: _read_classes(path, test)}, 0.0)] for name, path in predictions.items()}
    return Classified(test, dict.fromkeys(predictions, test.visible), runs, RECIPE)


def normalisation(pictures: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each channel, (1, 3, 1, 1), of pictures (N, H, W, 3)."""
    values = torch.from_numpy(pictures).float().reshape(-1, 3)
    shape = (1, 3, 1, 1)
    return values.mean(0).reshape(shape), values.std(0).clamp_min(1e-3).reshape(shape)


def normalised(pictures: NDArray[np.uint8], statistics: tuple[Tensor, Tensor]) -> Tensor:
    """Return pictures (N, H, W, 3) as (N, 3, H, W) with mean 0 and standard deviation 1."""
    values = torch.from_numpy(pictures).movedim(-1, 1).float()
    return ((values - statistics[0]) / statistics[1]).contiguous(memory_format=torch.channels_last)


def _trained(
    examples: Tensor, crops: Crops, recipe: DownstreamRecipe, name: str, cached: Path | None
) -> tuple[nn.Module, list[float]]:
    classes = torch.from_numpy(crops.classes)
    model = seeded(lambda: CropClassifier(len(CLASSES)), recipe.seed)

    def loss_of(chosen: NDArray[np.intp], generator: np.random.Generator) -> Tensor:
        return F.cross_entropy(model(augmented(examples[chosen], generator)), classes[chosen])

    about = f"flir_crops, {float(examples.double().abs().sum()):.6e}"  # the pictures, in short
    checkpoint = checkpoint_in(cached, f"flir-crops-{name}-{recipe.seed}", recipe, about)
    return model, train(model, loss_of, len(examples), recipe, checkpoint, about=about)


def augmented(pictures: Tensor, generator: np.random.Generator) -> Tensor:
    """Return each picture moved by up to 4 pixels, its border repeated, and half of them mirrored."""
    side = pictures.shape[-1]
    padded = F.pad(pictures, (SHIFT,) * 4, mode="replicate")
    corners = generator.integers(0, 2 * SHIFT + 1, (len(pictures), 2))
    mirrored = generator.random(len(pictures)) < 0.5
    parts = []
    for picture, (top, left), mirror in zip(padded, corners, mirrored, strict=True):
        part = picture[:, top : top + side, left : left + side]
        parts.append(part.flip(-1) if mirror else part)
    return torch.stack(parts).contiguous(memory_format=torch.channels_last)


def _read_classes(path: Path, crops: Crops) -> NDArray[np.int64]:
    """Read the class of each crop from a CSV; raises InputError."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            found = {row["name"]: row["class"] for row in csv.DictReader(file)}
    except (OSError, UnicodeDecodeError, KeyError, csv.Error) as error:
        raise InputError(f"{path}: needs a CSV file with the columns name and class ({error})") from error
    for name in crops.names:
        if found.get(name) not in CLASSES:
            raise InputError(f"{path}: {name} should have one of {', '.join(CLASSES)}, not {found.get(name)}")
    return np.array([CLASSES.index(found[name]) for name in crops.names], np.int64)


def _shown(made: Input, split: str, crops: Crops, cached: Path | None) -> NDArray[np.uint8]:
    """Return the crops as a machine sees them, (N, 64, 64, 3) uint8."""
    if made.fuse is None:
        if made.folder is None:
            raise InputError(f"{made.name}: needs a folder of fused crops")
        return flir_crops.read_outputs(made.folder, split, crops.names)
    infrared, visible = (
        [from_array(crop, name) for crop, name in zip(images, crops.names, strict=True)]
        for images in (crops.infrared, crops.visible)
    )
    return np.stack(list(fused_pictures(made, infrared, visible, cached)))
