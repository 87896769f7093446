"""What a worker does with some groups of a folder run: read, check, fuse, write, tell what became of them."""

from __future__ import annotations

import errno
import hashlib
import math
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from ddfm.devices import ITEM_FAILURES, is_items_fault, memory_at_hand
from ddfm.errors import InputError, reason_of
from ddfm.formats.files import open_regular
from ddfm.formats.pictures import suffix_for
from ddfm.formats.volumes import VolumeRange
from ddfm.fusion.options import Options
from ddfm.fusion.pipeline import Fusion
from ddfm.fusion.restore import template
from ddfm.fusion.result import FusionResult
from ddfm.fusion.task import Choice
from ddfm.jobs.files import (
    NO_THERMAL,
    Given,
    Outputs,
    check_outputs,
    read_8_bits,
    read_sources,
    write_result,
)
from ddfm.jobs.manifest import Outcome
from ddfm.jobs.matching import Group
from ddfm.jobs.memory import MEMORY_FRACTION, Budget, peak_bytes
from ddfm.likelihoods.tiled import is_large
from ddfm.metrics.registry import evaluate
from ddfm.pictures.image import Image
from ddfm.pictures.tiles import Padding
from ddfm.places.base import Place, PlaceError
from ddfm.priors.base import BYTES_A_PIXEL
from ddfm.thermal.options import ThermalOptions
from ddfm.threads import use_threads

if TYPE_CHECKING:
    from ddfm.priors.lazy import PriorSource


NOT_MEASURED = "--metrics compares files of pictures, and a thermal camera's holds temperatures; leave it out"


class Progress(NamedTuple):
    """Tell how far the fusion of some pictures is.

    Attributes:
        name: the picture or pictures being fused; empty where the numbers are of the whole run.
        done: steps, or pictures.
        total: how many there will be; of pictures, how many were listed so far.
    """

    name: str
    done: int
    total: int


class Item(NamedTuple):
    """Hold a group that is to be worked on.

    Attributes:
        group: the files.
        known: SHA-256 of the contents that its output was made of; empty if there is no such output.
        alone: whether it was in work when a worker ended without a word.
    """

    group: Group
    known: str = ""
    alone: bool = False


@dataclass(frozen=True)
class Targets:
    """Hold the places of the results; None for those that nobody asked for."""

    fused: Place
    std: Place | None = None
    report: Place | None = None
    source_map: Place | None = None
    temperatures: Place | None = None

    @property
    def named(self) -> list[Place]:
        """List those that are asked for."""
        asked = (self.fused, self.std, self.report, self.source_map, self.temperatures)
        return [place for place in asked if place is not None]


@dataclass(frozen=True)
class Job:
    """Hold what every worker of a folder run has to know, in whichever process it is.

    Attributes:
        sources: where the pictures lie; one place if thermal cameras' files lie there, which are both.
        targets: where the results go.
        ranges: values that stand for black and white in each source; None for what files say.
        options: as for `ddfm.fuse`.
        prior: as for `ddfm.fuse`.
        choice: the task of all pictures.
        metrics: names of those that are measured of every result.
        thermal: what only radiometric sources have.
    """

    sources: tuple[Place, ...]
    targets: Targets
    ranges: tuple[VolumeRange, ...]
    options: Options
    prior: PriorSource
    choice: Choice
    metrics: tuple[str, ...] = ()
    thermal: ThermalOptions = NO_THERMAL


def of_group(outputs: Outputs, group: Group, suffix: str) -> Outputs:
    """Return where a group's results go, from the folders of all."""
    return Outputs(
        outputs.fused / f"{group.stem}{suffix}",
        outputs.std and outputs.std / f"{group.stem}.tif",
        outputs.report and outputs.report / f"{group.stem}.png",
        outputs.source_map and outputs.source_map / f"{group.stem}.png",
        outputs.temperatures and outputs.temperatures / f"{group.stem}.tif",
    )


@contextmanager
def reading(sources: Sequence[Place], group: Group) -> Iterator[list[Path]]:
    """Give a group's files as local ones; a single source holds all of them."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(place.reading(path))
            for place, path in zip(cycle(sources), group.files, strict=False)
        ]


class ReadGroup(NamedTuple):
    """Hold a group that was read, and what its contents are."""

    group: Group
    given: Given
    suffix: str
    inputs: str

    @property
    def images(self) -> list[Image]:
        """Return the sources."""
        return self.given.images

    @property
    def size(self) -> tuple[int, int]:
        """Return height and width."""
        return self.images[0].size


class Worker:
    """Work on groups of one job; several threads may call it at once.

    Attributes:
        fusion: options and prior.
        on_cpu: whether the network computes on processors.
        threads: that a large picture is computed with.
    """

    def __init__(
        self,
        job: Job,
        name: str,
        fusion: Fusion | None = None,
        progress: Callable[[Progress], None] = lambda progress: None,
    ) -> None:
        self.job, self.name, self.progress = job, name, progress
        self.fusion = fusion or Fusion(job.options, job.prior)
        self.options, self.choice = job.options, job.choice
        self.on_cpu, self.threads = self.options.torch_device.type == "cpu", torch.get_num_threads()
        self.budget = Budget(int(memory_at_hand(self.options.torch_device) * MEMORY_FRACTION))

    def __call__(self, items: Sequence[Item], stop: Event) -> list[Outcome]:
        """Read, fuse and write some groups; what goes wrong is put down.

        Args:
            stop: set, it says to raise KeyboardInterrupt at the next step.
        """
        start, outcomes = time.perf_counter(), dict[Group, Outcome]()
        kinds: dict[Hashable, list[ReadGroup]] = defaultdict(list)
        for item in items:
            check(stop)
            inputs = ""
            try:
                with reading(self.job.sources, item.group) as paths:
                    inputs = digest(paths)
                    if inputs == item.known:
                        outcomes[item.group] = Outcome(item.group, inputs=inputs)
                        continue
                    scene = self.read(item.group, paths, inputs)
                kinds[self.kind(scene)].append(scene)
            except ITEM_FAILURES as error:
                outcomes[item.group] = failed(item.group, error, inputs)
        waiting = [part for scenes in kinds.values() for part in self.fitting(scenes)]
        while waiting:
            scenes = waiting.pop(0)
            try:
                results = self.fuse(scenes, stop)
            except ITEM_FAILURES as error:
                if len(scenes) == 1:
                    outcomes[scenes[0].group] = failed(scenes[0].group, error, scenes[0].inputs)
                else:  # one of them is to blame, or they are too many
                    raise_unless_items_fault(error)
                    waiting[:0] = [[scene] for scene in scenes]
                continue
            for scene, result in zip(scenes, results, strict=True):
                check(stop)
                try:
                    outcomes[scene.group] = self.write(scene, result)
                except ITEM_FAILURES as error:
                    outcomes[scene.group] = failed(scene.group, error, scene.inputs)
        seconds = (time.perf_counter() - start) / len(items)
        return [replace(outcomes[item.group], seconds=seconds, worker=self.name) for item in items]

    @contextmanager
    def writing(self) -> Iterator[Outputs]:
        """Give local folders for the results. The fused picture is the last to appear: it stands for all."""
        targets = self.job.targets
        with ExitStack() as stack:
            fused = stack.enter_context(targets.fused.writing())
            others = (
                None if place is None else stack.enter_context(place.writing())
                for place in (targets.std, targets.report, targets.source_map, targets.temperatures)
            )
            yield Outputs(fused, *others)

    def read(self, group: Group, paths: Sequence[Path], inputs: str) -> ReadGroup:
        """Read a group's files, and find out whether its results can be written."""
        with self.writing() as folders:
            outputs = of_group(folders, group, ".png")
            given = read_sources(paths, self.job.ranges, self.fusion, outputs, self.job.thermal, self.choice)
            if given.placed is not None and self.job.metrics:
                raise InputError(f"{given.placed.thermogram.name}: {NOT_MEASURED}")
            suffix = suffix_for(template(given.images, self.options.colour_from).depth)
            check_outputs(of_group(folders, group, suffix), given.images, self.options.colour_from)
        return ReadGroup(group, given, suffix, inputs)

    def write(self, scene: ReadGroup, result: FusionResult) -> Outcome:
        """Write a group's results, and measure them if that is asked."""
        with self.writing() as folders:
            outputs = of_group(folders, scene.group, scene.suffix)
            write_result(outputs, result, scene.given.placed, self.job.thermal)
            metrics = self.measured(scene.group, outputs.fused) if self.job.metrics else None
        return Outcome(scene.group, result.settings, inputs=scene.inputs, metrics=metrics)

    def measured(self, group: Group, fused: Path) -> dict[str, float]:
        """Return the metrics of a fused file, as `ddfm evaluate` measures them of the first two sources."""
        with reading(self.job.sources, group) as paths:
            a, b, f = (read_8_bits(path) for path in (*paths[:2], fused))
        values = evaluate(a, b, f, metrics=self.job.metrics)
        return {name: value.item() for name, value in values.items()}

    def kind(self, scene: ReadGroup) -> Hashable:
        """Return what scenes have in common that may be fused at once and are what they would be alone."""
        if self.options.uncertainty:
            return scene.group
        padded = self.options.evaluations and self.options.scheduler_name != "ddpm"
        padding = Padding.to_multiple(*scene.size, self.fusion.prior().multiple if padded else 1)
        return padding.padded_height, padding.padded_width

    def fitting(self, scenes: Sequence[ReadGroup]) -> list[list[ReadGroup]]:
        """Return scenes of one kind in groups, as many at once as there is memory for."""
        most = max(1, self.budget.total // max(map(self.need, scenes)))
        return [list(scenes[first : first + most]) for first in range(0, len(scenes), most)]

    def need(self, scene: ReadGroup) -> int:
        """Return the bytes that a scene takes; see `ddfm.jobs.memory`."""
        evaluation = 0
        if self.options.evaluations:
            prior = self.fusion.prior().for_tiles(self.options.tile, *scene.size)
            evaluation = prior.evaluation_bytes(*scene.size)
        elif any(o != "off" for o in (self.options.noise, self.options.deblur, self.options.masks or "off")):
            # For a noisy source; of which prior, nobody has asked yet.
            evaluation = BYTES_A_PIXEL * math.prod(scene.size)
        in_colour = sum(image.is_colour for image in scene.images)
        return peak_bytes(*scene.size, len(scene.images), in_colour, evaluation, self.choice.task)

    def fuse(self, scenes: Sequence[ReadGroup], stop: Event) -> list[FusionResult]:
        """Fuse scenes in memory that others leave free; large ones, and all on a GPU, one after another."""
        large = any(is_large(*scene.size) for scene in scenes)
        alone = large or not self.on_cpu
        with self.budget.taking(self.budget.total if alone else sum(map(self.need, scenes))):
            check(stop)
            others = f" and {len(scenes) - 1} more" if scenes[1:] else ""
            name = f"{scenes[0].group.stem}{scenes[0].suffix}{others}"
            steps = self.options.evaluations

            def step_done(step: Any) -> None:
                check(stop)
                self.progress(Progress(name, step.index + 1, steps))

            if large and self.on_cpu:
                use_threads(self.threads)
            try:
                return self.fusion.of([scene.images for scene in scenes], self.choice, step_done)
            finally:
                self.progress(Progress(name, steps, steps))
                if large and self.on_cpu:
                    use_threads(1)


def digest(paths: Sequence[Path]) -> str:
    """Return the SHA-256 of what files hold, one after another. Raises InputError."""
    whole = hashlib.sha256()
    for path in paths:
        with open_regular(path) as file:
            try:
                while part := file.read(2**20):
                    whole.update(part)
            except OSError as error:
                raise InputError(f"{path}: cannot be read ({reason_of(error)})") from error
    return whole.hexdigest()


def failed(group: Group, error: Exception, inputs: str) -> Outcome:
    """Return the outcome of a group that failed; raises the error if the group is not to blame."""
    return Outcome(
        group, failure=reason(error), passing=may_pass(error), stops=disk_refuses(error), inputs=inputs
    )


def reason(error: Exception) -> str:
    """Return in one line why a group failed.

    Raises:
        Exception: the error itself if not the group is to blame, but this program (see `is_items_fault`):
            that ends the run with its traceback.
    """
    raise_unless_items_fault(error)
    return str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {reason_of(error)}"


def raise_unless_items_fault(error: Exception) -> None:
    """Raise the error unless one item of many is to blame for it."""
    if not is_items_fault(error):
        raise error


def may_pass(error: BaseException | None) -> bool:
    """Tell whether trying again may help: the system refused something, or memory ran out.

    What decoders raise about a damaged file is an OSError at times, but without the system's number.
    """
    while error is not None:
        if isinstance(error, PlaceError | MemoryError):
            return True
        if isinstance(error, OSError) and error.errno is not None:
            return True
        if isinstance(error, RuntimeError) and is_items_fault(error):  # memory that torch did not get
            return True
        error = error.__cause__
    return False


def disk_refuses(error: BaseException | None) -> bool:
    """Tell whether nothing can be written any more."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            return True
        error = error.__cause__
    return False


def check(stop: Event) -> None:
    """Raise KeyboardInterrupt once the run is to stop."""
    if stop.is_set():
        raise KeyboardInterrupt
