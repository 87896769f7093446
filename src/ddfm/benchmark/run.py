"""Running methods over pairs: outputs measured, time and memory taken, failures kept apart."""

from __future__ import annotations

import hashlib
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddfm.benchmark.datasets import Dataset
from ddfm.benchmark.evaluation import Evaluation, MethodResult, mean_ranks, mean_values, read_image
from ddfm.benchmark.methods import Method, as_bytes
from ddfm.benchmark.published import published_for
from ddfm.devices import ITEM_FAILURES, is_items_fault
from ddfm.errors import InputError, reason_of
from ddfm.formats.pictures import read_image as read_source
from ddfm.fusion.sources import match_sizes
from ddfm.jobs.matching import Group
from ddfm.metrics import Convention, metric_names
from ddfm.metrics import evaluate as measure

Picture = NDArray[np.uint8]  # (H, W, 1) or (H, W, 3)
EXAMPLES = 4  # pairs kept for the report's contact sheet


@dataclass(frozen=True)
class Cost:
    """Median seconds an image, reading and writing left out, and the most memory one image took, in MiB.

    Memory is what the process grew by while the method ran: on the GPU what torch allocated there,
    else resident memory. None where it is not known: for others' outputs, and off Linux and CUDA.
    """

    seconds: float | None
    peak_mib: float | None


@dataclass(frozen=True)
class Failure:
    """A method that failed on a pair; ``method`` is empty if the sources could not be read."""

    stem: str
    method: str
    reason: str


@dataclass(frozen=True)
class Example:
    """One pair's pictures for the contact sheet."""

    stem: str
    a: Picture
    b: Picture
    outputs: dict[str, Picture]


@dataclass(frozen=True)
class Benchmark:
    """All that a run has to tell.

    Attributes:
        evaluation: values over the pairs that every method managed, and mean ranks.
        about: what is needed to run it again: versions, options, command line, checksums.
    """

    dataset: Dataset
    methods: list[Method]
    evaluation: Evaluation
    costs: dict[str, Cost]
    failures: list[Failure]
    examples: list[Example]
    about: dict[str, Any]

    def as_dict(self) -> dict[str, object]:
        """Everything but the pictures, ready for JSON."""
        settings = {method.name: method.settings for method in self.methods}
        return {
            "dataset": {
                key: getattr(self.dataset, key) for key in ("name", "title", "source", "split", "test_pairs")
            },
            "convention": self.evaluation.convention,
            "methods": {
                name: {
                    "mean": result.mean,
                    "images": result.images,
                    "seconds": self.costs[name].seconds,
                    "peak_mib": self.costs[name].peak_mib,
                    "settings": settings[name],
                }
                for name, result in self.evaluation.methods.items()
            },
            "mean_rank": self.evaluation.mean_rank,
            "published": [vars(result) for result in published_for(self.dataset.name)],
            "failed": [vars(failure) for failure in self.failures],
            "about": self.about,
        }


def run(
    dataset: Dataset,
    root: Path,
    pairs: Sequence[Group],
    methods: Sequence[Method],
    convention: Convention = "paper",
    *,
    options: dict[str, Any] | None = None,
    progress: Callable[[str], None] = lambda method: None,
) -> Benchmark:
    """Run every method on every pair, measure what comes out, and rank by mean values.

    Measured are the convention's metrics and, of exposures and focus stacks, `ddfm.metrics.TASK_METRICS`.

    A pair that one method fails on counts for none, so that all means are over the same pairs; a
    method that fails on all of them is left out.

    Args:
        root: the folder that names in the checksums are relative to.
        options: what to note down for running it again, beside versions and checksums.
        progress: called with the method's name after each of its pairs.

    Raises:
        InputError: no pair could be measured.
    """
    metrics = metric_names(convention, dataset.task)
    values: dict[str, dict[str, dict[str, float]]] = {method.name: {} for method in methods}
    seconds: dict[str, list[float]] = {method.name: [] for method in methods}
    peaks: dict[str, list[float]] = {method.name: [] for method in methods}
    shown = {
        pairs[i].stem for i in np.linspace(0, len(pairs) - 1, min(EXAMPLES, len(pairs))).round().astype(int)
    }
    failures, examples = [], []
    for pair in pairs:
        try:
            sources = match_sizes([read_source(path) for path in pair.files], resize=False)
            references = read_image(pair.files[0]), read_image(pair.files[1])
        except InputError as error:
            failures.append(Failure(pair.stem, "", str(error)))
            for method in methods:
                progress(method.name)
            continue
        outputs: dict[str, Picture] = {}
        for method in methods:
            try:
                if method.fuse is None:
                    fused = read_image(method.outputs[pair.stem])
                    picture = fused[0].movedim(0, -1).numpy()
                else:
                    with Meter() as meter:
                        image = method.fuse(*sources)
                    picture = as_bytes(image)
                    fused = to_tensor(picture)
                measured = measure(*references, fused, convention, metrics)
            except ITEM_FAILURES as error:
                if not is_items_fault(error):
                    raise
                where = f"{method.outputs[pair.stem]}: " if method.outputs else ""
                kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
                failures.append(Failure(pair.stem, method.name, f"{where}{kind}{reason_of(error)}"))
            else:
                values[method.name][pair.stem] = {name: value.item() for name, value in measured.items()}
                outputs[method.name] = picture
                if method.fuse is not None:
                    seconds[method.name].append(meter.seconds)
                    if meter.peak_mib is not None:
                        peaks[method.name].append(meter.peak_mib)
            progress(method.name)
        if pair.stem in shown:
            examples.append(Example(pair.stem, as_bytes(sources[0]), as_bytes(sources[1]), outputs))
    costs = {
        name: Cost(
            statistics.median(seconds[name]) if seconds[name] else None, max(peaks[name], default=None)
        )
        for name in values
    }
    evaluation = summarise(values, convention, failures)
    about = {**describe(), **(options or {}), "sha256": checksums(root, pairs)}
    return Benchmark(dataset, list(methods), evaluation, costs, failures, examples, about)


def summarise(
    values: dict[str, dict[str, dict[str, float]]], convention: Convention, failures: Sequence[Failure]
) -> Evaluation:
    """Means and ranks over the images that every method has values of; raises InputError if none has."""
    alive = {name: images for name, images in values.items() if images}
    common = set.intersection(*(set(images) for images in alive.values())) if alive else set()
    if not common:
        first = failures[0]
        raise InputError(f"no pair could be measured: {first.method} {first.stem}: {first.reason}")
    results = {}
    for name, images in alive.items():
        kept = {stem: images[stem] for stem in sorted(common)}
        results[name] = MethodResult(mean_values(list(kept.values())), kept)
    return Evaluation(convention, results, mean_ranks(results))


def to_tensor(picture: Picture) -> Tensor:
    """(H, W, C) to (1, C, H, W), uint8."""
    return torch.from_numpy(picture).movedim(-1, 0)[None]


class Meter:
    """Seconds and peak memory of a ``with`` block; see `Cost`."""

    seconds: float
    peak_mib: float | None

    def __enter__(self) -> Meter:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()
        else:
            _reset_resident_peak()
            self._before = _resident("VmRSS") or 0
        self._start = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds = time.perf_counter() - self._start
        peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else _resident("VmHWM")
        self.peak_mib = None if peak is None else max(0, peak - self._before) / 2**20


_PROCESS = Path("/proc/self")  # Linux; elsewhere the peak of one call cannot be told from that of others


def _reset_resident_peak() -> None:
    try:
        (_PROCESS / "clear_refs").write_text("5")
    except OSError:
        return


def _resident(field: str) -> int | None:
    """A line of the process's status in bytes."""
    try:
        lines = (_PROCESS / "status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), None)


def checksums(root: Path, pairs: Sequence[Group]) -> dict[str, str]:
    """SHA-256 of every source, by its path below ``root``."""
    files = sorted(path for pair in pairs for path in pair.files)
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }


def describe() -> dict[str, Any]:
    """When and with what the run was made."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {
            "ddfm": version("ddfm"),
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "diffusers", "numpy", "pillow")},
        },
        "system": f"{platform.system()} {platform.machine()}, {device}",
        "threads": torch.get_num_threads(),
    }
