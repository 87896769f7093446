"""Running methods over pairs: outputs measured, time and memory taken, failures kept apart."""

from __future__ import annotations

import hashlib
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddfm.benchmark.datasets import Dataset
from ddfm.benchmark.evaluation import Evaluation, MethodResult, mean_ranks, mean_values, side_by_side
from ddfm.benchmark.methods import GreyOrRgb, Method, as_bytes
from ddfm.benchmark.published import published_for
from ddfm.devices import ITEM_FAILURES, is_items_fault
from ddfm.errors import InputError, reason_of
from ddfm.formats.pictures import read_image
from ddfm.fusion.sources import match_sizes
from ddfm.jobs.files import read_8_bits
from ddfm.jobs.matching import Group
from ddfm.metrics import Convention, metric_names
from ddfm.metrics import evaluate as measure
from ddfm.pictures.image import Image
from ddfm.version import own_version

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
    a: GreyOrRgb
    b: GreyOrRgb
    outputs: dict[str, GreyOrRgb]


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
        """Return everything but the pictures, ready for JSON."""
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
    workers: int | None = None,
    progress: Callable[[str], None] = lambda method: None,
) -> Benchmark:
    """Run every method on every pair, measure what comes out, and rank by mean values.

    Measured are the convention's metrics and, of exposures and focus stacks, `ddfm.metrics.TASK_METRICS`.

    If one method fails on a pair, the pair counts for none. So all means are over the same pairs. A method
    that fails on every pair is left out.

    Args:
        root: the folder that names in the checksums are relative to.
        options: what to note down for running it again, beside versions and checksums.
        workers: pairs that are worked on at once, each by one thread. All numbers of them give the same
            values and pictures. Time and memory are not measured then. None for one after the other, each
            with all threads.
        progress: called with the method's name after each of its pairs, from several threads.

    Raises:
        InputError: no pair could be measured.
    """
    metrics = metric_names(convention, dataset.task)
    comparison = Comparison(methods, convention, metrics, progress, metered=workers is None)
    shown = {
        pairs[i].stem for i in np.linspace(0, len(pairs) - 1, min(EXAMPLES, len(pairs))).round().astype(int)
    }
    examples = []
    measured: Iterator[Measured] = (
        map(comparison.measured, pairs)
        if workers is None
        else side_by_side(comparison.measured, pairs, workers)
    )
    for pair, found in zip(pairs, measured, strict=True):
        comparison.keep(pair, found)
        if found.example and pair.stem in shown:
            examples.append(found.example)
    evaluation = summarise(comparison.values, convention, comparison.failures)
    threads = {} if workers is None else {"threads": 1}
    about = {**describe(), **threads, **(options or {}), "sha256": checksums(root, pairs)}
    return Benchmark(
        dataset, list(methods), evaluation, comparison.costs, comparison.failures, examples, about
    )


@dataclass
class Measured:
    """Hold what came of one pair, by method.

    Attributes:
        example: its pictures; None if it cannot be read.
        values: by method and metric.
        meters: what each method cost that was run and metered.
        failures: what could not be fused or measured.
    """

    example: Example | None = None
    values: dict[str, dict[str, float]] = field(default_factory=dict)
    meters: dict[str, Meter] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)


class Comparison:
    """Measure methods pair by pair.

    Attributes:
        values: by method, pair and metric.
        failures: what could not be fused or measured.
    """

    def __init__(
        self,
        methods: Sequence[Method],
        convention: Convention,
        metrics: Sequence[str],
        progress: Callable[[str], None],
        metered: bool = True,
    ) -> None:
        self.methods, self.convention, self.metrics, self.progress = methods, convention, metrics, progress
        self.metered = metered
        self.values: dict[str, dict[str, dict[str, float]]] = {method.name: {} for method in methods}
        self.meters: dict[str, list[Meter]] = {method.name: [] for method in methods}
        self.failures: list[Failure] = []

    @property
    def costs(self) -> dict[str, Cost]:
        """Return the median time and peak memory of each method that was run."""
        return {
            name: Cost(
                statistics.median(meter.seconds for meter in meters) if meters else None,
                max((meter.peak_mib for meter in meters if meter.peak_mib is not None), default=None),
            )
            for name, meters in self.meters.items()
        }

    def keep(self, pair: Group, found: Measured) -> None:
        """Add what came of a pair."""
        self.failures += found.failures
        for name, values in found.values.items():
            self.values[name][pair.stem] = values
        for name, meter in found.meters.items():
            self.meters[name].append(meter)

    def measured(self, pair: Group) -> Measured:
        """Fuse and measure a pair by every method; from several threads at once."""
        found = Measured()
        try:
            sources = match_sizes([read_image(path) for path in pair.files], resize=False)
            references = read_8_bits(pair.files[0]), read_8_bits(pair.files[1])
        except InputError as error:
            found.failures.append(Failure(pair.stem, "", str(error)))
            for method in self.methods:
                self.progress(method.name)
            return found
        outputs: dict[str, GreyOrRgb] = {}
        for method in self.methods:
            try:
                picture, fused = self.fused(method, pair, sources, found)
                measured = measure(*references, fused, self.convention, self.metrics)
            except ITEM_FAILURES as error:
                if not is_items_fault(error):
                    raise
                where = f"{method.outputs[pair.stem]}: " if method.outputs else ""
                kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
                found.failures.append(Failure(pair.stem, method.name, f"{where}{kind}{reason_of(error)}"))
            else:
                found.values[method.name] = {name: value.item() for name, value in measured.items()}
                outputs[method.name] = picture
            self.progress(method.name)
        found.example = Example(pair.stem, as_bytes(sources[0]), as_bytes(sources[1]), outputs)
        return found

    def fused(
        self, method: Method, pair: Group, sources: Sequence[Image], found: Measured
    ) -> tuple[GreyOrRgb, Tensor]:
        """Return a method's output for a pair, as a picture and as a tensor; note down what it cost."""
        if method.fuse is None:
            stored = read_8_bits(method.outputs[pair.stem])
            return stored[0].movedim(0, -1).numpy(), stored
        if self.metered:
            with Meter() as meter:
                image = method.fuse(*sources)
            found.meters[method.name] = meter
        else:
            image = method.fuse(*sources)
        picture = as_bytes(image)
        return picture, to_tensor(picture)


def summarise(
    values: dict[str, dict[str, dict[str, float]]], convention: Convention, failures: Sequence[Failure]
) -> Evaluation:
    """Summarise the images that every method has values of; raises InputError if there are none."""
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


def to_tensor(picture: GreyOrRgb) -> Tensor:
    """Convert (H, W, C) to (1, C, H, W), uint8."""
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
    """Return a line of the process's status in bytes; None if there is none."""
    try:
        lines = (_PROCESS / "status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), None)


def checksums(root: Path, pairs: Sequence[Group]) -> dict[str, str]:
    """Return the SHA-256 of every source, by its path below ``root``."""
    files = sorted(path for pair in pairs for path in pair.files)
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }


def describe() -> dict[str, Any]:
    """Describe when and with which versions the run was made."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {
            "ddfm": own_version(),
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "numpy", "pillow")},
        },
        "system": f"{platform.system()} {platform.machine()}, {device}",
        "threads": torch.get_num_threads(),
    }
