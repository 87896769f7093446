"""Detection in three protocols: a given detector, the same detector retrained for each input, given boxes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddfm.downstream.average_precision import Matches, Precision
from ddfm.downstream.bootstrap import Interval, interval_of, samples
from ddfm.downstream.boxes import Boxes, read_yolo
from ddfm.downstream.frames import Frames, collect, mirrored_boxes, scaled, working_size
from ddfm.downstream.inputs import Input, pictures
from ddfm.downstream.point_detector import PointDetector
from ddfm.downstream.scenes import DetectionSet, LabelledScene, RgbPixels, check_split, read_sources
from ddfm.downstream.ssdlite import PERSON, PersonDetector
from ddfm.downstream.training import DownstreamRecipe, checkpoint_in, seeded, train
from ddfm.downstream.transformer_models import TransformerDetector
from ddfm.errors import InputError

Progress = Callable[[str], None]
PEOPLE = ("person", "people", "pedestrian")
RECIPE = DownstreamRecipe(steps=250, batch=8, learning_rate=2e-3)
EXAMPLES = 4  # pictures kept for the report


@dataclass(frozen=True)
class Detections:
    """Hold the boxes found in one input's pictures.

    Attributes:
        runs: boxes of each scene, for each seed; one run for a detector that was not retrained.
        losses: of each step of each training.
        examples: the input's pictures of the first few scenes.
    """

    runs: list[list[Boxes]]
    losses: list[list[float]] = field(default_factory=list)
    examples: list[RgbPixels] = field(default_factory=list)


@dataclass(frozen=True)
class Detected:
    """Labels and detections of all inputs on the same scenes."""

    title: str
    classes: tuple[str, ...]
    scenes: list[LabelledScene]
    truth: list[Boxes]
    inputs: dict[str, Detections]
    note: str = ""

    @cached_property
    def matches(self) -> dict[str, list[Matches]]:
        """Match each run of each input with the labels."""
        return {
            name: [Matches(self.truth, run, len(self.classes)) for run in found.runs]
            for name, found in self.inputs.items()
        }

    def precisions(self, name: str) -> list[Precision]:
        """Return the average precision of each run."""
        return [matches.precision() for matches in self.matches[name]]

    @cached_property
    def resampled(self) -> dict[str, NDArray[np.float64]]:
        """Return AP at .5 of each input, mean over runs, on the same resamples of the scenes."""
        return {name: samples(partial(self._score, name), len(self.scenes)) for name in self.inputs}

    def interval_50(self, name: str) -> Interval:
        """Return mean AP at .5, mean over runs, with its bootstrap interval over scenes."""
        return interval_of(self._score(name), self.resampled[name])

    def difference_50(self, name: str, other: str) -> Interval:
        """Return how much better an input's AP at .5 is than another's, paired by scene."""
        value = self._score(name) - self._score(other)
        return interval_of(value, self.resampled[name] - self.resampled[other])

    def _score(self, name: str, chosen: NDArray[np.intp] | None = None) -> float:
        return float(np.mean([matches.precision(chosen).mean_50 for matches in self.matches[name]]))


def pretrained(
    labelled: DetectionSet,
    inputs: Sequence[Input],
    cached: Path | None = None,
    limit: int | None = None,
    progress: Progress = lambda line: None,
) -> dict[str, Detected]:
    """Show the person detector every input, the whole picture and tiles of it: a result for each.

    Args:
        labelled: its class person is judged; all pairs where no split is published, else the test split.
        inputs: what to compare.
        cached: folder for fused pictures.
        limit: take only the first scenes.
        progress: called with a line about what is done.

    Raises InputError: no class person, an empty split, labels that cannot be read, no detector installed.
    """
    scenes = judged_scenes(labelled, limit)
    truth = read_people(labelled, scenes)
    detector = PersonDetector()
    looks = detector.looks
    found: dict[str, dict[str, Detections]] = {look: {} for look in looks}
    for made in inputs:
        boxes: dict[str, list[Boxes]] = {look: [] for look in looks}
        examples: list[RgbPixels] = []
        for picture in pictures(made, scenes, cached):
            if len(examples) < EXAMPLES:
                examples.append(picture)
            for look, detect in looks.items():
                boxes[look].append(detect(picture))
        for look in looks:
            found[look][made.name] = Detections([boxes[look]], examples=examples)
        progress(f"{made.name}: {len(scenes)} pictures searched")
    people = ("person",)
    return {
        look: Detected(labelled.title, people, scenes, truth, found[look], labelled.note) for look in looks
    }


def given(labelled: DetectionSet, predictions: Mapping[str, Path], limit: int | None = None) -> Detected:
    """Judge boxes that another program left: for each input a folder of STEM.txt, YOLO text with scores.

    A picture in which nothing was found has an empty file. Class numbers are the set's own.

    Raises InputError: a file that is missing, a class or a box that cannot be.
    """
    scenes = judged_scenes(labelled, limit)
    sizes = [read_sources(scene)[1].size for scene in scenes]
    numbers = {number: number for number in range(len(labelled.classes))}
    found = {
        name: Detections(
            [
                [
                    read_yolo(folder / f"{s.stem}.txt", size, numbers)
                    for s, size in zip(scenes, sizes, strict=True)
                ]
            ]
        )
        for name, folder in predictions.items()
    }
    truth = read_truth(labelled, scenes)
    return Detected(labelled.title, labelled.classes, scenes, truth, found, labelled.note)


def retrained(
    labelled: DetectionSet,
    inputs: Sequence[Input],
    seeds: Sequence[int],
    recipe: DownstreamRecipe = RECIPE,
    *,
    model: str = "points",
    weights: str | None = None,
    cached: Path | None = None,
    limit: int | None = None,
    device: str = "cpu",
    progress: Progress = lambda line: None,
) -> Detected:
    """Train the same detector for each input with each seed on the train split; judge it on the test split.

    Args:
        labelled: the set.
        inputs: what to compare.
        seeds: one training each.
        recipe: of all trainings, but for its seed.
        model: "points", or one of `transformer_models.DETECTORS`.
        weights: of the latter, a folder or a name on the hub; from scratch if None.
        cached: folder for pictures and trainings, which are resumed from there.
        limit: take only the first scenes of each split.
        device: where to train.
        progress: called with a line about what is done.

    Raises InputError: an empty split, labels that cannot be read, an unknown model or weights.
    """
    splits = {}
    for name in ("train", "test"):
        check_split(labelled.splits, name, labelled.title)
        splits[name] = list(labelled.splits[name])[:limit]
    build(model, len(labelled.classes), weights)  # what is wrong with it should come out before any work
    truth = {name: read_truth(labelled, scenes) for name, scenes in splits.items()}
    found = {}
    for made in inputs:
        frames = both_frames(made, splits, cached, labelled.title)
        size = frames["train"].size
        labels = [
            _fitted(boxes, scene, size) for boxes, scene in zip(truth["train"], splits["train"], strict=True)
        ]
        runs, losses = [], []
        for seed in seeds:
            detector = seeded(lambda: build(model, len(labelled.classes), weights), seed).to(device)
            own = replace(recipe, seed=seed)
            file_of = partial(
                checkpoint_in, cached, f"{word(labelled.title)}-{model}-{made.name}-{seed}", own
            )
            words = f"weights {weights}"
            losses.append(_trained(detector, frames["train"], labels, own, file_of, words, device))
            boxes = detect_all(detector, frames["test"], device)
            runs.append([_unfitted(b, s, size) for b, s in zip(boxes, splits["test"], strict=True)])
            progress(f"{made.name}, seed {seed}: trained, last loss {losses[-1][-1]:.3f}")
        examples = list(pictures(made, splits["test"][:EXAMPLES], cached))
        found[made.name] = Detections(runs, losses, examples)
    return Detected(labelled.title, labelled.classes, splits["test"], truth["test"], found, labelled.note)


def build(model: str, classes: int, weights: str | None) -> Any:
    """Build a detector by name; raises InputError."""
    if model != "points":
        return TransformerDetector(model, classes, weights)
    if weights is not None:
        raise InputError("the detector points has no weights to load; name another model")
    return PointDetector(classes)


def detect_all(detector: Any, frames: Frames, device: str, batch: int = 8) -> list[Boxes]:
    """Return the boxes in each of the frames."""
    detector.eval()
    parts = [np.arange(start, min(start + batch, len(frames))) for start in range(0, len(frames), batch)]
    return [boxes for part in parts for boxes in detector.detect(frames.batch(part, device))]


def judged_scenes(labelled: DetectionSet, limit: int | None) -> list[LabelledScene]:
    """Return the scenes that no training sees: all where no split is published, else the test split."""
    name = "all" if "all" in labelled.splits else "test"
    check_split(labelled.splits, name, labelled.title)
    return list(labelled.splits[name])[:limit]


def read_truth(labelled: DetectionSet, scenes: Sequence[LabelledScene]) -> list[Boxes]:
    """Read the labels of scenes; raises InputError, naming the file, for any that cannot be."""
    return [labelled.read(scene.labels, read_sources(scene)[1].size) for scene in scenes]


def read_people(labelled: DetectionSet, scenes: Sequence[LabelledScene]) -> list[Boxes]:
    """Read the boxes of persons, with the given detector's number for them.

    Raises InputError: no class person, labels that cannot be read.
    """
    person = next((n for n, name in enumerate(labelled.classes) if name in PEOPLE), None)
    if person is None:
        raise InputError(f"{labelled.title}: has no class person, all that the given detector knows")
    return [_renamed(boxes.of_class(person)) for boxes in read_truth(labelled, scenes)]


def both_frames(
    made: Input, splits: Mapping[str, Sequence[LabelledScene]], cached: Path | None, title: str
) -> dict[str, Frames]:
    """Return an input's pictures of the train and test splits, in the size of the first of them."""
    first = next(pictures(made, splits["train"][:1], cached))
    size = working_size(first)
    frames: dict[str, Frames] = {}
    for split in ("train", "test"):
        file = cached / "frames" / f"{word(title)}-{made.name}-{split}.npy" if cached else None
        shown = pictures(made, splits[split], cached)
        frames[split] = collect(shown, len(splits[split]), size, file, frames.get("train"))
    return frames


def _trained(
    detector: Any,
    frames: Frames,
    labels: Sequence[Boxes],
    recipe: DownstreamRecipe,
    file_of: Callable[[str], Path | None],
    words: str,
    device: str,
) -> list[float]:
    def loss_of(chosen: NDArray[np.intp], generator: np.random.Generator) -> Any:
        mirrored = generator.random(len(chosen)) < 0.5
        boxes = [
            mirrored_boxes(labels[n], frames.size[1]) if mirror else labels[n]
            for n, mirror in zip(chosen, mirrored, strict=True)
        ]
        return detector.loss(frames.batch(chosen, device, mirrored), boxes)

    words = f"{words}, labels {sum(float(boxes.xyxy.sum()) for boxes in labels):.3f}, {about(frames)}"
    return train(detector, loss_of, len(frames), recipe, file_of(words), about=words)


def about(frames: Frames) -> str:
    """Return what tells one set of frames from another, in short."""
    return f"{frames.pixels.shape}, mean {frames.mean.tolist()}, std {frames.std.tolist()}"


def _fitted(boxes: Boxes, scene: LabelledScene, size: tuple[int, int]) -> Boxes:
    return scaled(boxes, read_sources(scene)[1].size, size)


def _unfitted(boxes: Boxes, scene: LabelledScene, size: tuple[int, int]) -> Boxes:
    return scaled(boxes, size, read_sources(scene)[1].size)


def _renamed(boxes: Boxes) -> Boxes:
    return Boxes(boxes.xyxy, np.full(len(boxes), PERSON), boxes.scores)


def word(title: str) -> str:
    """Return the first word of a title, for names of files."""
    return title.split()[0].lower()
