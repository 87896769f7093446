"""`ddfm fuse` on folders: many sets of sources, several at once."""

from __future__ import annotations

import math
import sys
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from ddfm.commands.importing import importing
from ddfm.commands.options import checked_prior
from ddfm.commands.pictures import Places, check_outputs, read_sources, write_result
from ddfm.commands.terminal import progress_bars, tell_task
from ddfm.errors import InputError

if TYPE_CHECKING:
    from rich.progress import Progress

    from ddfm.formats.volumes import VolumeRange
    from ddfm.fusion.result import FusionResult
    from ddfm.fusion.task import Choice
    from ddfm.jobs.matching import Group
    from ddfm.jobs.pool import Outcome
    from ddfm.pictures.image import Image
    from ddfm.priors.diffusion import Prior

GPU_WORKERS, GPU_BATCH = 3, 8  # one reads, one computes, one writes


def fuse_folders(
    folders: Sequence[Path],
    places: Places,
    prior: str,
    ranges: Sequence[VolumeRange],
    overwrite: bool,
    together: int | None,
    options: dict[str, Any],
) -> None:
    """All that have one name in all folders; raises Exit(1) after naming those that failed."""
    with importing():
        import torch

        from ddfm.devices import pick_device, use_threads
        from ddfm.formats.atomic import prepare_folder
        from ddfm.jobs import matching, pool

    output = places.fused
    named = [folder for folder in places if folder is not None]
    for folder in named:
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder}: is a file; folders are fused into a folder")
    if len({folder.absolute() for folder in named}) < len(named):
        raise InputError(f"{output}: two kinds of results would go into one folder; name another one")
    if together is not None and together < 1:
        raise InputError(f"--batch {together}: not a number of pictures, 1 or more")
    groups, lonely = matching.match_folders(*folders)
    model = checked_prior(prior, options, len(folders))
    prepare_folder(output)
    for path in lonely:
        print(f"no partner: {path}", file=sys.stderr)
    todo = [group for group in groups if overwrite or not matching.finished(group, output)]
    if kept := len(groups) - len(todo):
        print(
            f"{kept} of {len(groups)} finished before, kept (--overwrite makes them again)", file=sys.stderr
        )
    threads = torch.get_num_threads()
    with progress_bars() as bars:
        overall = bars.add_task("pictures", total=len(todo))
        run = FolderRun(places, ranges, model, options, bars, lambda: bars.advance(overall))
        on_cpu = pick_device(options["device"], options["backend"]).type == "cpu"
        try:
            outcomes = pool.run(
                todo,
                run.work,
                workers=threads if on_cpu else GPU_WORKERS,
                together=together or (1 if on_cpu else GPU_BATCH),
                # More threads for one picture gain less than more pictures, and round otherwise.
                prepare=(lambda: use_threads(1)) if on_cpu else (lambda: None),
            )
        finally:
            use_threads(threads)  # the workers' number would be that of all threads to come
    report(output, outcomes, kept)


def report(output: Path, outcomes: Sequence[Outcome], kept: int) -> None:
    """What was done, and what was not; raises Exit(1) if anything failed."""
    tasks: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        if outcome.settings and outcome.settings["why"]:
            tasks[outcome.settings["task"]].append(outcome)
    for task, made in tasks.items():
        others = f" and {len(made) - 1} more" if made[1:] else ""
        assert made[0].settings
        why = made[0].settings["why"]
        print(tell_task(f"{made[0].group.stem}{others}", task, why), file=sys.stderr)
    failed = [outcome for outcome in outcomes if outcome.failure is not None]
    print(f"{output}: {len(outcomes) - len(failed)} fused, {kept} kept, {len(failed)} failed")
    for outcome in failed:
        print(f"failed: {outcome.group.stem}: {outcome.failure}", file=sys.stderr)
    if failed:
        raise typer.Exit(1)


class Scene(NamedTuple):
    """A group that was read, and where its results go."""

    group: Group
    places: Places
    images: list[Image]
    choice: Choice

    @property
    def size(self) -> tuple[int, int]:
        return self.images[0].size


class FolderRun:
    """What the workers of one run share; `work` is what each of them does."""

    def __init__(
        self,
        places: Places,
        ranges: Sequence[VolumeRange],
        model: Callable[[], Prior],
        options: dict[str, Any],
        bars: Progress,
        advance: Callable[[], None],
    ) -> None:
        import torch

        from ddfm.devices import memory_at_hand, pick_device
        from ddfm.fusion.options import DEFAULT_STEPS
        from ddfm.jobs.memory import SHARE, Budget

        self.places, self.ranges, self.model, self.options = places, ranges, model, options
        self.bars, self.advance = bars, advance
        self.steps = DEFAULT_STEPS[options["form"]] if options["steps"] is None else options["steps"]
        device = pick_device(options["device"], options["backend"])
        self.on_cpu, self.threads = device.type == "cpu", torch.get_num_threads()
        self.budget = Budget(memory_at_hand(device) // SHARE)

    def work(self, groups: Sequence[Group], stop: Event) -> list[Outcome]:
        """A `ddfm.jobs.pool.Work`."""
        from ddfm.jobs.pool import Outcome, reason

        outcomes: dict[Group, Outcome] = {}

        def put_down(group: Group, **what: Any) -> None:
            outcomes[group] = Outcome(group, **what)
            self.advance()

        kinds: dict[Hashable, list[Scene]] = defaultdict(list)
        for group in groups:
            check(stop)
            try:
                scene = self.read(group)
                kinds[self.kind(scene)].append(scene)
            except Exception as error:
                put_down(group, failure=reason(error))
        waiting = [part for scenes in kinds.values() for part in self.fitting(scenes)]
        while waiting:
            scenes = waiting.pop(0)
            try:
                results = self.fuse(scenes, stop)
            except Exception as error:
                if len(scenes) == 1:
                    put_down(scenes[0].group, failure=reason(error))
                else:  # one of them is to blame, or they are too many
                    waiting[:0] = [[scene] for scene in scenes]
                continue
            for scene, result in zip(scenes, results, strict=True):
                check(stop)
                try:
                    write_result(scene.places, result)
                    put_down(scene.group, settings={**result.settings, "why": scene.choice.why})
                except Exception as error:
                    put_down(scene.group, failure=reason(error))
        return [outcomes[group] for group in groups]

    def read(self, group: Group) -> Scene:
        from ddfm.fusion.restore import template
        from ddfm.fusion.task import Choice, choose_for_all
        from ddfm.jobs.matching import output_name

        report = self.places.report and self.places.report / f"{group.stem}.png"
        images = read_sources(group.files, self.ranges, self.options, report)
        target = Places(
            self.places.fused / output_name(group, template(images, self.options["colour_from"]).depth),
            self.places.spread and self.places.spread / f"{group.stem}.tif",
            report,
        )
        check_outputs(target, images, self.options["colour_from"])
        task = self.options["task"]
        is_open = task == "auto" and self.options["form"] == "ddfm"
        return Scene(group, target, images, choose_for_all([images]) if is_open else Choice(task, ""))

    def kind(self, scene: Scene) -> Hashable:
        """Scenes of one kind may be fused at once and are, to rounding, what they would be alone."""
        from ddfm.pictures.tiles import Padding

        if self.options["uncertainty"]:
            return scene.group
        padded = self.steps and self.options["scheduler"] != "ddpm"
        padding = Padding.to_multiple(*scene.size, self.model().multiple if padded else 1)
        return scene.choice.task, padding.padded_height, padding.padded_width

    def fitting(self, scenes: Sequence[Scene]) -> list[list[Scene]]:
        """Scenes of one kind, as many at once as there is memory for."""
        most = max(1, self.budget.total // max(map(self.need, scenes)))
        return [list(scenes[first : first + most]) for first in range(0, len(scenes), most)]

    def need(self, scene: Scene) -> int:
        """Bytes; see `ddfm.jobs.memory`."""
        from ddfm.jobs.memory import BUNDLED_NETWORK, peak_bytes

        evaluation = 0
        if self.steps:
            prior = self.model().for_tiles(self.options["tile"], *scene.size)
            evaluation = prior.evaluation_bytes(*scene.size)
        elif self.options["noise"] != "off":  # for a noisy source; of which prior, nobody has asked yet
            evaluation = BUNDLED_NETWORK * math.prod(scene.size)
        in_colour = sum(image.is_colour for image in scene.images)
        return peak_bytes(*scene.size, len(scene.images), in_colour, evaluation, scene.choice.task)

    def fuse(self, scenes: Sequence[Scene], stop: Event) -> list[FusionResult]:
        """In memory that others leave free; large pictures, and everything on a GPU, one after the other."""
        from ddfm.devices import use_threads
        from ddfm.fusion.pipeline import fuse_scenes
        from ddfm.likelihoods.tiled import is_large

        large = any(is_large(*scene.size) for scene in scenes)
        alone = large or not self.on_cpu
        done = {k: v for k, v in self.options.items() if k not in ("task", "register", "resize")}
        with self.budget.taking(self.budget.total if alone else sum(map(self.need, scenes))):
            check(stop)
            others = f" and {len(scenes) - 1} more" if scenes[1:] else ""
            bar = self.bars.add_task(f"{scenes[0].places.fused.name}{others}", total=self.steps)

            def step_done(step: object) -> None:
                check(stop)
                self.bars.advance(bar)

            if large and self.on_cpu:
                use_threads(self.threads)
            try:
                return fuse_scenes(
                    [scene.images for scene in scenes],
                    scenes[0].choice,
                    prior=self.model,
                    callback=step_done,
                    **done,
                )
            finally:
                self.bars.remove_task(bar)
                if large and self.on_cpu:
                    use_threads(1)


def check(stop: Event) -> None:
    """Raises KeyboardInterrupt once the run is to stop."""
    if stop.is_set():
        raise KeyboardInterrupt
