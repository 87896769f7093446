"""Segmentation in two protocols: the same model retrained for each input, and given masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ddfm.downstream.bootstrap import Interval, interval
from ddfm.downstream.confusion import Matrix, confusion_matrix, mean_iou
from ddfm.downstream.detection import EXAMPLES, about, both_frames, word
from ddfm.downstream.frames import Frames
from ddfm.downstream.inputs import Input, pictures
from ddfm.downstream.scenes import (
    LabelledScene,
    Mask,
    RgbPixels,
    SegmentationSet,
    check_split,
    read_mask,
    read_sources,
)
from ddfm.downstream.training import DownstreamRecipe, checkpoint_in, seeded, train
from ddfm.downstream.transformer_models import Segmenter
from ddfm.errors import InputError

Progress = Callable[[str], None]
RECIPE = DownstreamRecipe(steps=250, batch=4, learning_rate=3e-3)
RARE = 1.02  # keeps the weight of a class that hardly occurs finite (ENet, Paszke et al. 2016, section 5.2)


@dataclass(frozen=True)
class Masks:
    """Hold the masks that a model made of one input.

    Attributes:
        matrices: confusion matrix of each test scene, for each seed: int64 (scenes, classes, classes).
        losses: of each step of each training.
        examples: pictures and predicted masks of the first few test scenes.
    """

    matrices: list[NDArray[np.int64]]
    losses: list[list[float]] = field(default_factory=list)
    examples: list[tuple[RgbPixels, Mask]] = field(default_factory=list)


@dataclass(frozen=True)
class Segmented:
    """Labels and masks of all inputs on the same scenes."""

    title: str
    classes: tuple[str, ...]
    scenes: list[LabelledScene]
    inputs: dict[str, Masks]
    note: str = ""

    def matrices(self, name: str, condition: str | None = None) -> list[Matrix]:
        """Return one confusion matrix for each run, over all scenes or those of a time of day."""
        chosen = [condition is None or scene.condition == condition for scene in self.scenes]
        return [matrices[chosen].sum(0) for matrices in self.inputs[name].matrices]

    def mean_ious(self, name: str, condition: str | None = None) -> list[dict[str, float]]:
        """Return the mean IoU of each run, by both conventions."""
        return [mean_iou(matrix) for matrix in self.matrices(name, condition)]

    def interval(self, name: str, convention: str) -> Interval:
        """Return the mean IoU, mean over runs, with its bootstrap interval over scenes."""
        runs = self.inputs[name].matrices

        def score(chosen: NDArray[np.intp]) -> float:
            return float(np.mean([mean_iou(matrices[chosen].sum(0))[convention] for matrices in runs]))

        return interval(score, len(self.scenes))

    @property
    def conditions(self) -> list[str]:
        """Return the times of day that the scenes name."""
        return sorted({scene.condition for scene in self.scenes} - {""})


def given(labelled: SegmentationSet, predictions: Mapping[str, Path], limit: int | None = None) -> Segmented:
    """Judge masks that another program left: for each input a folder of STEM.png with class numbers.

    Raises InputError: a file that is missing, of another size, or with a class that cannot be.
    """
    check_split(labelled.splits, "test", labelled.title)
    scenes = list(labelled.splits["test"])[:limit]
    truth = [read_mask(scene.labels, len(labelled.classes)) for scene in scenes]
    found = {}
    for name, folder in predictions.items():
        files = [folder / f"{scene.stem}.png" for scene in scenes]
        masks = [read_mask(file, len(labelled.classes)) for file in files]
        found[name] = Masks([_matrices(truth, masks, files, len(labelled.classes))])
    return Segmented(labelled.title, labelled.classes, scenes, found, labelled.note)


def retrained(
    labelled: SegmentationSet,
    inputs: Sequence[Input],
    seeds: Sequence[int],
    recipe: DownstreamRecipe = RECIPE,
    *,
    weights: str | None = None,
    cached: Path | None = None,
    limit: int | None = None,
    device: str = "cpu",
    progress: Progress = lambda line: None,
) -> Segmented:
    """Train SegFormer for each input with each seed on the train split; judge it on the test split.

    Args:
        labelled: the set.
        inputs: what to compare.
        seeds: one training each.
        recipe: of all trainings, but for its seed.
        weights: a folder or a name on the hub; from scratch, and small, if None.
        cached: folder for pictures and trainings, which are resumed from there.
        limit: take only the first scenes of each split.
        device: where to train.
        progress: called with a line about what is done.

    Raises InputError: an empty split, labels that cannot be read, unknown weights.
    """
    splits = {}
    for name in ("train", "test"):
        check_split(labelled.splits, name, labelled.title)
        splits[name] = list(labelled.splits[name])[:limit]
    classes = len(labelled.classes)
    Segmenter(classes, weights)  # what is wrong with it should come out before any work
    truth = {name: [read_mask(s.labels, classes) for s in scenes] for name, scenes in splits.items()}
    for mask, scene in zip(truth["train"] + truth["test"], splits["train"] + splits["test"], strict=True):
        _check_size(mask, scene)
    files = [scene.labels for scene in splits["test"]]
    found = {}
    for made in inputs:
        frames = both_frames(made, splits, cached, labelled.title)
        matrices, losses, shown = [], [], []
        for seed in seeds:
            model = seeded(lambda: Segmenter(classes, weights), seed).to(device)
            own = replace(recipe, seed=seed)
            file_of = partial(
                checkpoint_in, cached, f"{word(labelled.title)}-segformer-{made.name}-{seed}", own
            )
            words = f"weights {weights}"
            losses.append(
                _trained(model, frames["train"], truth["train"], classes, own, file_of, words, device)
            )
            masks = [
                segment(model, frames["test"], n, truth["test"][n].shape, device) for n in range(len(files))
            ]
            matrices.append(_matrices(truth["test"], masks, files, classes))
            shown = masks[:EXAMPLES]
            progress(f"{made.name}, seed {seed}: trained, last loss {losses[-1][-1]:.3f}")
        seen = pictures(made, splits["test"][:EXAMPLES], cached)
        found[made.name] = Masks(matrices, losses, list(zip(seen, shown, strict=True)))
    return Segmented(labelled.title, labelled.classes, splits["test"], found, labelled.note)


def segment(model: nn.Module, frames: Frames, number: int, size: tuple[int, ...], device: str) -> Mask:
    """Return the class of each pixel of a frame, in the size of its labels."""
    model.eval()
    with torch.inference_mode():
        logits = model(frames.batch(np.array([number]), device))
        logits = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
    mask: Mask = logits.argmax(1)[0].to("cpu", torch.uint8).numpy()
    return mask


def class_weights(masks: Sequence[Mask], classes: int) -> Tensor:
    """Return a weight for each class, 1 / ln(1.02 + share of pixels) (ENet), so that rare ones count."""
    counts = np.sum([np.bincount(mask.ravel(), minlength=classes) for mask in masks], 0)
    return torch.from_numpy(1 / np.log(RARE + counts / counts.sum())).float()


def _trained(
    model: nn.Module,
    frames: Frames,
    masks: Sequence[Mask],
    classes: int,
    recipe: DownstreamRecipe,
    file_of: Callable[[str], Path | None],
    words: str,
    device: str,
) -> list[float]:
    weights = class_weights(masks, classes).to(device)
    labels = [torch.from_numpy(mask)[None, None] for mask in masks]
    labels = [F.interpolate(mask, size=frames.size, mode="nearest")[0, 0] for mask in labels]

    def loss_of(chosen: NDArray[np.intp], generator: np.random.Generator) -> Tensor:
        mirrored = generator.random(len(chosen)) < 0.5
        logits = model(frames.batch(chosen, device, mirrored))
        parts = [
            labels[n].flip(-1) if mirror else labels[n] for n, mirror in zip(chosen, mirrored, strict=True)
        ]
        return F.cross_entropy(logits, torch.stack(parts).long().to(device), weights)

    words = f"{words}, classes {weights.tolist()}, {about(frames)}"
    return train(model, loss_of, len(frames), recipe, file_of(words), about=words)


def _matrices(
    truth: Sequence[Mask], masks: Sequence[Mask], files: Sequence[Path], classes: int
) -> NDArray[np.int64]:
    matrices = []
    for label, mask, file in zip(truth, masks, files, strict=True):
        if label.shape != mask.shape:
            shown = f"{mask.shape[1]}x{mask.shape[0]}"
            raise InputError(f"{file}: is {shown} pixels, its label {label.shape[1]}x{label.shape[0]}")
        matrices.append(confusion_matrix(label, mask, classes))
    return np.stack(matrices)


def _check_size(mask: Mask, scene: LabelledScene) -> None:
    size = read_sources(scene)[1].size
    if mask.shape != size:
        raise InputError(
            f"{scene.labels}: is {mask.shape[1]}x{mask.shape[0]} pixels, its picture {size[1]}x{size[0]}"
        )
