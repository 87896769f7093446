"""Fuse folders: files matched by stem while they are listed, finished ones kept, bad ones named.

The way of a group: `listing` finds its files; `plan` looks into the record (`manifest`) and at what lies in
the output folder, and keeps it, sets it aside or gives it out; an engine (`engine`, or `cluster`) hands it to
a worker (`work`); what became of it is written down. One thread does all of it but the work.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, cycle
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ddfm.errors import InputError
from ddfm.formats.files import exists, is_folder
from ddfm.formats.paths import check_paths, identity
from ddfm.formats.pictures import read_image
from ddfm.formats.radiometric import Thermogram, radiometric_source, read_thermogram
from ddfm.formats.volumes import VolumeRange
from ddfm.fusion.options import Options
from ddfm.fusion.pipeline import Fusion
from ddfm.fusion.sources import match_sizes
from ddfm.fusion.task import Choice
from ddfm.jobs.engine import Engine, Threads
from ddfm.jobs.files import NO_THERMAL, Outputs
from ddfm.jobs.listing import Found, Groups, Listing, Thermograms
from ddfm.jobs.manifest import DONE, FAILED, NAME, QUARANTINED, Manifest, Outcome, Record
from ddfm.jobs.matching import OUTPUT_SUFFIXES, Group
from ddfm.jobs.numbers import Numbers
from ddfm.jobs.plan import Plan
from ddfm.jobs.signature import signature
from ddfm.jobs.work import NOT_MEASURED, Job, Progress, Targets, of_group, reading
from ddfm.metrics.registry import check_metrics
from ddfm.pictures.image import Image
from ddfm.pictures.ranges import spanning
from ddfm.places import is_url, place_of
from ddfm.places.base import Place, PlaceError
from ddfm.places.local import LocalFolder
from ddfm.thermal.files import check_table, write_table
from ddfm.thermal.options import ThermalOptions

if TYPE_CHECKING:
    from ddfm.priors.lazy import PriorSource

Name = str | os.PathLike[str]
VOTES = 9  # groups that a folder's task is chosen by
TICK = 0.5  # seconds between looks at what is due
GLANCE = 0.05  # the same while nothing is in work


@dataclass(frozen=True)
class FolderResult:
    """Tell what became of a folder run.

    Attributes:
        record: what became of each group; on the disk, for there may be a million.
        fused: how many groups were fused in this run.
        kept: how many were finished before.
        numbers: the counts by worker, and more.
    """

    record: Record
    fused: int
    kept: int
    numbers: Numbers

    @property
    def outcomes(self) -> list[Outcome]:
        """Return what became of the groups that were worked on, in the order of their stems."""
        return list(self.record.outcomes((DONE, FAILED, QUARANTINED)))

    @property
    def failed(self) -> list[Outcome]:
        """Return those that could not be fused, in this run or, with these sources and options, before."""
        return list(self.record.outcomes((FAILED, QUARANTINED)))

    @property
    def unmatched(self) -> list[Path]:
        """Return the files without a partner, in the order of their paths."""
        return list(self.record.unmatched())


@dataclass(frozen=True)
class Watch:
    """Hold what is called while a folder run goes on; all may be left out.

    Attributes:
        begin: once before the work, with the counts that change during the run.
        listed: once when all folders are listed, with the files that have no partner.
        progress: after every step and every picture, from several threads.
    """

    begin: Callable[[Numbers], None] = lambda numbers: None
    listed: Callable[[Iterator[Path]], None] = lambda unmatched: None
    progress: Callable[[Progress], None] = lambda progress: None


def fuse_folders(
    folders: Sequence[Name],
    output: Name,
    options: Options | None = None,
    *,
    prior: PriorSource = "natural",
    uncertainty: Name | None = None,
    register_report: Name | None = None,
    source_map: Name | None = None,
    ranges: Sequence[VolumeRange] | None = None,
    thermal: ThermalOptions = NO_THERMAL,
    temperatures: Name | None = None,
    table: Name | None = None,
    metrics: Sequence[str] = (),
    overwrite: bool = False,
    batch: int | None = None,
    engine: Engine | None = None,
    watch: Watch | None = None,
) -> FolderResult:
    """Fuse all pictures that have one name (before the suffix) in all folders.

    Outputs are PNG, or TIFF for float and signed samples, each whole or not at all. A bad picture does not
    stop the rest. Task "auto" is chosen once for the whole folder. A record beside the outputs says what
    became of each picture; the next run goes on from there (docs/use/folders.md).

    Args:
        folders: two or more, or one of radiometric files, each of which holds both sources; paths, or URLs
            (s3://bucket/folder).
        output: folder to write; made if there is none.
        options: as for `ddfm.fuse`; its number of sources is that of the folders.
        prior: as for `ddfm.fuse`; loaded once for all, in every process.
        uncertainty: folder for how far each luminance can be relied on.
        register_report: folder for pictures to judge the registration by.
        source_map: folder for maps of the source that counts most at each pixel, as PNG.
        ranges: values that stand for black and white in each folder's pictures; None for what files say.
        thermal: what only radiometric sources have. With a palette, and no range, one range holds for all
            files of one folder, so that colours mean the same.
        temperatures: folder for the temperatures of each fused pixel.
        table: CSV file for a line of numbers for each radiometric file, finished ones included; it is written
            when all are done, from the files themselves.
        metrics: names of `ddfm.metrics.METRICS` to be measured of every output, for the record.
        overwrite: make finished outputs again instead of keeping them.
        batch: pictures shown to the network at once; None for 1, on GPUs 8.
        engine: what does the work; None for threads of this process.
        watch: what is called meanwhile.

    Raises:
        InputError: before any work, if folders, options or prior will not do, or another run writes to the
            output folder; later, if a disk is full or a folder cannot be listed to its end.
        KeyboardInterrupt: when the workers have stopped; finished outputs stay.
    """
    options = (options or Options()).but(
        sources=max(2, len(folders)),
        uncertainty=uncertainty is not None,
        source_map=source_map is not None,
    )
    others = (uncertainty, register_report, source_map, temperatures)
    check_folders(folders, [name for name in (output, *others) if name is not None])
    rows = None if table is None else table_of(table)
    if batch is not None and batch < 1:
        raise InputError(f"--batch {batch}: not a number of pictures, 1 or more")
    if metrics:
        check_metrics("paper", metrics)
        if len(folders) == 1:
            raise InputError(NOT_MEASURED)
    sources = tuple(place_of(folder) for folder in folders)
    targets = Targets(place_of(output), *(None if name is None else place_of(name) for name in others))
    fusion = Fusion(options, prior)
    fusion.check_prior()
    wanted = tuple(ranges or [None] * len(sources))
    one = len(sources) == 1
    with closing[Groups](Thermograms(*sources) if one else Listing(sources)) as listing:
        rounds = checked(listing.rounds(), sources, targets, rows, options.mask_paths)
        first = next(rounds)
        if one:
            choice = Choice("infrared", "") if options.finds_task else fusion.chosen([])
            wanted = (shared_range(listing.every(), sources, wanted[0], thermal), None)
        else:
            choice = choose_for_folder([found.group for found in first], sources, wanted, fusion)
        job = Job(sources, targets, wanted, options, prior, choice, tuple(metrics), thermal)
        run = Run(listing, chain([first], rounds), job, fusion, overwrite, watch or Watch())
        result = run.by(engine or Threads(), batch)
        if rows is not None:
            write_table(rows, thermograms(listing.every(), sources, thermal))
        return result


def check_folders(sources: Sequence[Name], results: Sequence[Name]) -> None:
    """Raise InputError if a result would go to a file or a source, or two kinds of them to one folder."""
    for name in sources:
        if not is_url(name) and not is_folder(Path(name)):
            raise InputError(f"{name}: is not a folder")
    for name in results:
        if not is_url(name) and exists(Path(name)) and not Path(name).is_dir():
            raise InputError(f"{name}: is a file; folders are fused into a folder")
    keys = [key_of(name) for name in results]
    if len(set(keys)) < len(keys):
        raise InputError(f"{results[0]}: two kinds of results would go into one folder; name another one")
    for name in results:
        if key_of(name) in map(key_of, sources):
            raise InputError(f"{name}: is one of the sources; name another output")


def table_of(name: Name) -> Path:
    """Return where the table goes. Raises InputError if it cannot be written there."""
    if is_url(name):
        raise InputError(f"{name}: the table is written to a file of this machine, not to a URL")
    check_table(Path(name))
    return Path(name)


def key_of(name: Name) -> object:
    """Return what is the same for all names of one folder."""
    place = place_of(name)
    return identity(Path(place.name)) if isinstance(place, LocalFolder) else place.name


def checked(
    rounds: Iterator[list[Found]],
    sources: Sequence[Place],
    targets: Targets,
    table: Path | None,
    masks: Sequence[Path],
) -> Iterator[list[Found]]:
    """Yield rounds as they are; raises InputError if one would write over what it reads."""
    for found in rounds:
        reads = [*masks, *(Path(place.name) for place in sources if isinstance(place, LocalFolder))]
        for group, _ in found:
            pairs = zip(cycle(sources), group.files, strict=False)
            reads += [path for place, path in pairs if isinstance(place, LocalFolder)]
        writes = written(targets, [group for group, _ in found], len(sources))
        check_paths(reads, [*writes, *([] if table is None else [table])])
        yield found


def written(targets: Targets, groups: Sequence[Group], sources: int) -> Iterator[Path]:
    """Yield every local folder and file that a run may write; which format is known once a file was read."""
    fused, *others = (
        Path(place.name) if isinstance(place, LocalFolder) else None
        for place in (targets.fused, targets.std, targets.report, targets.source_map, targets.temperatures)
    )
    folders = Outputs(fused or Path(), *others)
    yield from (folder for folder in (fused, *others) if folder is not None)
    for group in groups:
        outputs = [of_group(folders, group, end) for end in OUTPUT_SUFFIXES]
        beside = outputs[0].files(sources)[1:]
        yield from [output.fused for output in outputs if fused is not None] + beside


def choose_for_folder(
    groups: Sequence[Group], sources: Sequence[Place], ranges: Sequence[VolumeRange], fusion: Fusion
) -> Choice:
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
            images = images_of(groups[index], sources, ranges)
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


def images_of(group: Group, sources: Sequence[Place], ranges: Sequence[VolumeRange]) -> list[Image]:
    """Read a group's pictures."""
    with reading(sources, group) as paths:
        return [
            read_image(path, None if wanted == "window" else wanted)
            for path, wanted in zip(paths, ranges, strict=True)
        ]


def shared_range(
    groups: Iterable[Group], sources: Sequence[Place], wanted: VolumeRange, thermal: ThermalOptions
) -> VolumeRange:
    """Return one range for all thermograms if they are to be coloured and none was asked for."""
    if wanted is not None or thermal.palette is None:
        return wanted
    limits = [
        (float(np.nanmin(found.readings)), float(np.nanmax(found.readings)))
        for found in thermograms(groups, sources, thermal)
    ]
    return spanning(min(low for low, _ in limits), max(high for _, high in limits)) if limits else None


def thermograms(
    groups: Iterable[Group], sources: Sequence[Place], thermal: ThermalOptions
) -> Iterator[Thermogram]:
    """Yield the calibrated thermograms among the groups; what cannot be read is named elsewhere.

    Raises InputError if a place does not answer.
    """
    for group in groups:
        try:
            with reading(sources, group) as paths:
                number = radiometric_source(paths)
                if number is None:
                    continue
                found = read_thermogram(paths[number], thermal.overrides)
            found.check_calibrated()
        except PlaceError:
            raise
        except InputError:
            continue
        yield found


class Run:
    """Bring listing, record and engine together."""

    def __init__(
        self,
        listing: Groups,
        rounds: Iterator[list[Found]],
        job: Job,
        fusion: Fusion,
        overwrite: bool,
        watch: Watch,
    ) -> None:
        self.listing, self.rounds, self.job, self.fusion = listing, rounds, job, fusion
        self.overwrite, self.watch, self.numbers = overwrite, watch, Numbers()

    def by(self, engine: Engine, batch: int | None) -> FolderResult:
        """Have an engine do the work, and return what became of it."""
        job, targets = self.job, self.job.targets
        kinds = ("std", "report", "source_map", "temperatures")
        made = [name for name in kinds if getattr(targets, name) is not None]
        options, readable = signature(
            job.options, job.ranges, job.prior, job.choice.task, job.thermal, [*made, *job.metrics]
        )
        for place in targets.named:
            place.prepare()
        with targets.fused.holding(NAME) as held:
            with closing(Manifest(held.path, options, readable)) as manifest:
                plan = Plan(self.found(manifest), manifest, job, options, self.numbers, self.overwrite)
                self.watch.begin(self.numbers)
                engine.start(job, self.fusion, batch, self.watch.progress)
                try:
                    self.drive(plan, engine, lambda: held.publish(manifest.copy_to))
                finally:
                    engine.stop()
            record = Record(held.path, manifest.run)
        return FolderResult(record, self.numbers.fused, self.numbers.kept, self.numbers)

    def found(self, manifest: Manifest) -> Iterator[Found]:
        """Yield what is listed, and tell when it is all."""
        for found in self.rounds:
            self.numbers.listed += len(found)
            yield from found
        self.numbers.all_listed = True
        manifest.put_unmatched(self.listing.unmatched())
        self.watch.listed(self.listing.unmatched())

    def drive(self, plan: Plan, engine: Engine, publish: Callable[[], None]) -> None:
        """Hand out work as long as there is room for it, and put down what comes back."""
        more = True
        while True:
            while engine.room():
                items = plan.next(engine.batch)
                more = bool(items)
                if not more:
                    break
                engine.submit(items)
            if not engine.busy() and plan.over():
                return
            outcomes = engine.wait(self.patience(engine), more)
            plan.put_down(outcomes)
            self.numbers.workers = engine.ready()
            self.watch.progress(Progress("", self.numbers.done, self.numbers.listed))
            publish()
            for outcome in outcomes:
                if outcome.stops:
                    done = f"{self.numbers.fused} fused and {self.numbers.kept} kept so far"
                    raise InputError(f"{outcome.failure}; {done}: mend that and run the command again")

    def patience(self, engine: Engine) -> float:
        """Return the seconds to wait for workers: none while there are files to be looked at for others."""
        if engine.room() and not self.numbers.all_listed:
            return 0.0
        return TICK if engine.busy() else GLANCE
