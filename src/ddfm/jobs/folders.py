"""Fuse folders: files matched by stem, finished ones kept, several done at once, bad ones named."""

from __future__ import annotations

import math
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from ddfm.devices import memory_at_hand, use_threads
from ddfm.errors import InputError
from ddfm.formats.atomic import prepare_folder
from ddfm.formats.files import exists, is_folder
from ddfm.formats.paths import check_paths, identity
from ddfm.formats.pictures import read_image, suffix_for
from ddfm.formats.radiometric import Thermogram, radiometric_source, read_thermogram
from ddfm.formats.volumes import VolumeRange
from ddfm.fusion.options import Options
from ddfm.fusion.pipeline import Fusion
from ddfm.fusion.restore import template
from ddfm.fusion.result import FusionResult
from ddfm.fusion.sources import match_sizes
from ddfm.fusion.task import Choice
from ddfm.jobs.files import (
    NO_THERMAL,
    Given,
    Outputs,
    check_outputs,
    read_sources,
    write_result,
)
from ddfm.jobs.matching import OUTPUT_SUFFIXES, Group, finished, match_folders, match_thermograms
from ddfm.jobs.memory import MEMORY_FRACTION, Budget, peak_bytes
from ddfm.jobs.pool import FAILURES, Outcome, reason, run
from ddfm.likelihoods.tiled import is_large
from ddfm.pictures.image import Image
from ddfm.pictures.ranges import spanning
from ddfm.pictures.tiles import Padding
from ddfm.priors.base import BYTES_A_PIXEL
from ddfm.thermal.files import check_table, write_table
from ddfm.thermal.options import ThermalOptions

if TYPE_CHECKING:
    from ddfm.priors.lazy import PriorSource

GPU_WORKERS, GPU_BATCH = 3, 8  # one reads, one computes, one writes
VOTES = 9  # groups that a folder's task is chosen by


class Progress(NamedTuple):
    """Tell how far a folder run is.

    Attributes:
        name: the picture or pictures being fused; empty where the numbers are of the whole run.
        done: steps, or pictures.
        total: how many there will be.
    """

    name: str
    done: int
    total: int


@dataclass(frozen=True)
class FolderResult:
    """Tell what became of a folder run.

    Attributes:
        outcomes: of each group of files that was worked on, in the order of their stems.
        kept: how many groups were finished before.
        unmatched: files without a partner.
    """

    outcomes: list[Outcome]
    kept: int
    unmatched: list[Path]

    @property
    def failed(self) -> list[Outcome]:
        """Return those that could not be fused."""
        return [outcome for outcome in self.outcomes if outcome.failure is not None]


def fuse_folders(
    folders: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    options: Options | None = None,
    *,
    prior: PriorSource = "natural",
    uncertainty: str | os.PathLike[str] | None = None,
    register_report: str | os.PathLike[str] | None = None,
    source_map: str | os.PathLike[str] | None = None,
    ranges: Sequence[VolumeRange] | None = None,
    thermal: ThermalOptions = NO_THERMAL,
    temperatures: str | os.PathLike[str] | None = None,
    table: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    batch: int | None = None,
    progress: Callable[[Progress], None] = lambda progress: None,
    begin: Callable[[FolderResult, int], None] = lambda result, total: None,
) -> FolderResult:
    """Fuse all pictures that have one name (before the suffix) in all folders.

    Outputs are PNG, or TIFF for float and signed samples, each whole or not at all. A bad picture does not
    stop the rest. Task "auto" is chosen once for the whole folder.

    Args:
        folders: two or more; or one of radiometric files, each of which holds both sources.
        output: folder to write; made if there is none.
        options: as for `ddfm.fuse`; its number of sources is that of the folders.
        prior: as for `ddfm.fuse`; loaded once for all.
        uncertainty: folder for how far each luminance can be relied on.
        register_report: folder for pictures to judge the registration by.
        source_map: folder for maps of the source that counts most at each pixel, as PNG.
        ranges: values that stand for black and white in each folder's pictures; None for what files say.
        thermal: what only radiometric sources have. With a palette, and no range, one range holds for all
            files of one folder, so that colours mean the same.
        temperatures: folder for the temperatures of each fused pixel.
        table: CSV file for a line of numbers for each radiometric file, finished ones included.
        overwrite: make finished outputs again instead of keeping them.
        batch: pictures shown to the network at once; None for 1, on GPUs 8.
        progress: called after every step and every picture, from several threads.
        begin: called once before the work, with what is kept, what has no partner, and how many groups
            there are.

    Raises:
        InputError: before any work, if folders, options or prior will not do.
        KeyboardInterrupt: when the workers have stopped; finished outputs stay.
    """
    sources = [Path(folder) for folder in folders]
    options = (options or Options()).but(
        sources=max(2, len(sources)),
        uncertainty=uncertainty is not None,
        source_map=source_map is not None,
    )
    extra = (uncertainty, register_report, source_map, temperatures, table)
    outputs = Outputs(Path(output), *(None if path is None else Path(path) for path in extra))
    check_folders(sources, outputs)
    if batch is not None and batch < 1:
        raise InputError(f"--batch {batch}: not a number of pictures, 1 or more")
    groups, unmatched = match_thermograms(*sources) if len(sources) == 1 else match_folders(*sources)
    check_paths([*sources, *(file for group in groups for file in group.files)], written(outputs, groups))
    fusion = Fusion(options, prior)
    fusion.check_prior()
    ranges = ranges or [None] * len(sources)
    if len(sources) == 1:
        choice = Choice("infrared", "") if options.finds_task else fusion.chosen([])
        ranges = [*shared_range(groups, ranges, thermal), None]
    else:
        choice = choose_for_folder(groups, ranges, fusion)
    for folder in outputs.named:
        prepare_folder(folder)
    todo = [group for group in groups if overwrite or not finished(group, outputs.fused)]
    begin(FolderResult([], len(groups) - len(todo), unmatched), len(groups))
    work = FolderRun(outputs, ranges, fusion, choice, len(todo), progress, thermal)
    outcomes = run(
        todo,
        work,
        workers=work.threads if work.on_cpu else GPU_WORKERS,
        batch=batch or (1 if work.on_cpu else GPU_BATCH),
        # More threads for one picture gain less than more pictures, and round otherwise.
        prepare=(lambda: use_threads(1)) if work.on_cpu else (lambda: None),
    )
    if outputs.table:
        write_table(outputs.table, list(thermograms(groups, thermal)))
    return FolderResult(outcomes, len(groups) - len(todo), unmatched)


def check_folders(sources: Sequence[Path], outputs: Outputs) -> None:
    """Raise InputError if an output is a file, or if two kinds of results would meet in one folder."""
    for folder in sources:
        if not is_folder(folder):
            raise InputError(f"{folder}: is not a folder")
    for folder in outputs.named:
        if exists(folder) and not folder.is_dir():
            raise InputError(f"{folder}: is a file; folders are fused into a folder")
    if outputs.table:
        check_table(outputs.table)
    if len({identity(folder) for folder in outputs.named}) < len(outputs.named):
        raise InputError(f"{outputs.fused}: two kinds of results would go into one folder; name another one")


def shared_range(
    groups: Sequence[Group], ranges: Sequence[VolumeRange], thermal: ThermalOptions
) -> list[VolumeRange]:
    """Return one range for all thermograms if they are to be coloured and none was asked for."""
    if ranges[0] is not None or thermal.palette is None:
        return [ranges[0]]
    limits = [
        (float(np.nanmin(found.readings)), float(np.nanmax(found.readings)))
        for found in thermograms(groups, thermal)
    ]
    return [spanning(min(low for low, _ in limits), max(high for _, high in limits)) if limits else None]


def thermograms(groups: Sequence[Group], thermal: ThermalOptions) -> Iterator[Thermogram]:
    """Yield the calibrated thermograms among the groups; what cannot be read is named elsewhere."""
    for group in groups:
        try:
            number = radiometric_source(group.files)
            if number is not None:
                found = read_thermogram(group.files[number], thermal.overrides)
                found.check_calibrated()
                yield found
        except InputError:
            continue


def of_group(outputs: Outputs, group: Group, suffix: str) -> Outputs:
    """Return where a group's results go, from the folders of all."""
    return Outputs(
        outputs.fused / f"{group.stem}{suffix}",
        outputs.std and outputs.std / f"{group.stem}.tif",
        outputs.report and outputs.report / f"{group.stem}.png",
        outputs.source_map and outputs.source_map / f"{group.stem}.png",
        outputs.temperatures and outputs.temperatures / f"{group.stem}.tif",
    )


def written(outputs: Outputs, groups: Sequence[Group]) -> list[Path]:
    """Return every folder and file that a run may write; a picture's format is known once it was read."""
    paths = [*outputs.named, *([outputs.table] if outputs.table else [])]
    for group in groups:
        first, *others = (of_group(outputs, group, suffix) for suffix in OUTPUT_SUFFIXES)
        paths += [*first.files(len(group.files)), *(other.fused for other in others)]
    return paths


def choose_for_folder(groups: Sequence[Group], ranges: Sequence[VolumeRange], fusion: Fusion) -> Choice:
    """Return one task for the whole folder: what most of some groups, spread over it, look like.

    A group that cannot be read, or whose task is unclear, has no vote. Raises InputError if all those that
    can be read are unclear.
    """
    if not fusion.options.finds_task:
        return fusion.chosen([])
    indices = np.linspace(0, len(groups) - 1, min(VOTES, len(groups))).round().astype(int).tolist()
    rest = (index for index in range(len(groups)) if index not in indices)
    votes: list[Choice] = []
    unclear: InputError | None = None
    for tried, index in enumerate([*dict.fromkeys(indices), *rest]):
        if tried >= VOTES and votes:
            break
        try:
            images = [
                read_image(path, None if wanted == "window" else wanted)
                for path, wanted in zip(groups[index].files, ranges, strict=True)
            ]
        except InputError:  # it fails by itself, and is named, when its turn comes
            continue
        try:
            votes.append(fusion.chosen([match_sizes(images, resize=True)]))
        except InputError as error:
            unclear = error
    if not votes and unclear is not None:
        raise unclear
    if not votes:
        return Choice("infrared", "")  # nothing can be read, whatever it is
    task, count = Counter(vote.task for vote in votes).most_common(1)[0]
    first = next(vote for vote in votes if vote.task == task)
    return Choice(task, f"{count} of {len(votes)} looked at; {first.why}")


class Scene(NamedTuple):
    """Hold a group that was read, and where its results go."""

    group: Group
    outputs: Outputs
    given: Given

    @property
    def images(self) -> list[Image]:
        """Return the sources."""
        return self.given.images

    @property
    def size(self) -> tuple[int, int]:
        """Return height and width."""
        return self.images[0].size


class FolderRun:
    """Hold what the workers of one run share; calling it is what each of them does."""

    def __init__(
        self,
        outputs: Outputs,
        ranges: Sequence[VolumeRange],
        fusion: Fusion,
        choice: Choice,
        total: int,
        progress: Callable[[Progress], None],
        thermal: ThermalOptions = NO_THERMAL,
    ) -> None:
        self.thermal = thermal
        self.outputs, self.ranges, self.fusion, self.choice = outputs, ranges, fusion, choice
        self.options, self.progress = fusion.options, progress
        self.total, self.done, self.counting = total, 0, Lock()
        self.on_cpu, self.threads = self.options.torch_device.type == "cpu", torch.get_num_threads()
        self.budget = Budget(int(memory_at_hand(self.options.torch_device) * MEMORY_FRACTION))

    def __call__(self, groups: Sequence[Group], stop: Event) -> list[Outcome]:
        """Read, fuse and write some groups, as `ddfm.jobs.pool.Work`."""
        outcomes: dict[Group, Outcome] = {}

        def put_down(group: Group, **what: Any) -> None:
            outcomes[group] = Outcome(group, **what)
            with self.counting:
                self.done += 1
                self.progress(Progress("", self.done, self.total))

        kinds: dict[Hashable, list[Scene]] = defaultdict(list)
        for group in groups:
            check(stop)
            try:
                scene = self.read(group)
                kinds[self.kind(scene)].append(scene)
            except FAILURES as error:
                put_down(group, failure=reason(error))
        waiting = [part for scenes in kinds.values() for part in self.fitting(scenes)]
        while waiting:
            scenes = waiting.pop(0)
            try:
                results = self.fuse(scenes, stop)
            except FAILURES as error:
                if len(scenes) == 1:
                    put_down(scenes[0].group, failure=reason(error))
                else:  # one of them is to blame, or they are too many
                    waiting[:0] = [[scene] for scene in scenes]
                continue
            for scene, result in zip(scenes, results, strict=True):
                check(stop)
                try:
                    write_result(scene.outputs, result, scene.given.placed, self.thermal)
                    put_down(scene.group, settings=result.settings)
                except FAILURES as error:
                    put_down(scene.group, failure=reason(error))
        return [outcomes[group] for group in groups]

    def read(self, group: Group) -> Scene:
        """Read a group's files, and find out where its results go and what its task is."""
        outputs = of_group(self.outputs, group, ".png")
        given = read_sources(group.files, self.ranges, self.fusion, outputs, self.thermal, self.choice)
        depth = template(given.images, self.options.colour_from).depth
        target = of_group(self.outputs, group, suffix_for(depth))
        check_outputs(target, given.images, self.options.colour_from)
        return Scene(group, target, given)

    def kind(self, scene: Scene) -> Hashable:
        """Return what scenes have in common that may be fused at once and are what they would be alone."""
        if self.options.uncertainty:
            return scene.group
        padded = self.options.evaluations and self.options.scheduler_name != "ddpm"
        padding = Padding.to_multiple(*scene.size, self.fusion.prior().multiple if padded else 1)
        return padding.padded_height, padding.padded_width

    def fitting(self, scenes: Sequence[Scene]) -> list[list[Scene]]:
        """Return scenes of one kind in groups, as many at once as there is memory for."""
        most = max(1, self.budget.total // max(map(self.need, scenes)))
        return [list(scenes[first : first + most]) for first in range(0, len(scenes), most)]

    def need(self, scene: Scene) -> int:
        """Return the bytes that a scene takes; see `ddfm.jobs.memory`."""
        evaluation = 0
        if self.options.evaluations:
            prior = self.fusion.prior().for_tiles(self.options.tile, *scene.size)
            evaluation = prior.evaluation_bytes(*scene.size)
        elif (
            self.options.noise != "off" or self.options.deblur != "off"
        ):  # for a noisy source; of which prior, nobody has asked yet
            evaluation = BYTES_A_PIXEL * math.prod(scene.size)
        in_colour = sum(image.is_colour for image in scene.images)
        return peak_bytes(*scene.size, len(scene.images), in_colour, evaluation, self.choice.task)

    def fuse(self, scenes: Sequence[Scene], stop: Event) -> list[FusionResult]:
        """Fuse scenes in memory that others leave free; large ones, and all on a GPU, one after another."""
        large = any(is_large(*scene.size) for scene in scenes)
        alone = large or not self.on_cpu
        with self.budget.taking(self.budget.total if alone else sum(map(self.need, scenes))):
            check(stop)
            others = f" and {len(scenes) - 1} more" if scenes[1:] else ""
            name, steps = f"{scenes[0].outputs.fused.name}{others}", self.options.evaluations

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


def check(stop: Event) -> None:
    """Raise KeyboardInterrupt once the run is to stop."""
    if stop.is_set():
        raise KeyboardInterrupt
