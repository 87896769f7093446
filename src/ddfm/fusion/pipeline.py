"""The way of the sources: read, prepare, sample, restore."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ddfm.devices import own_settings
from ddfm.errors import InputError
from ddfm.fusion.ghosts import Still, without_ghosts
from ddfm.fusion.masks import with_masks, with_stand_ins, without_defects
from ddfm.fusion.options import Blurs, NoiseLevels, Options
from ddfm.fusion.prepare import OrderedScene, PreparedScenes, by_size, prepare_scenes
from ddfm.fusion.restore import restored, source_map, with_chroma, without_noise
from ddfm.fusion.result import FusionResult, merged_settings
from ddfm.fusion.sources import Source, as_sources, match_sizes
from ddfm.fusion.task import Choice, choose_for_all, likely_task
from ddfm.likelihoods.base import Likelihood
from ddfm.likelihoods.forms import Form
from ddfm.likelihoods.tasks import EVEN, TASKS, Task
from ddfm.noise.level import GREY_LEVEL
from ddfm.pictures.colour import luminance
from ddfm.pictures.image import Image, with_shared_range
from ddfm.pictures.tiles import Tile
from ddfm.priors.lazy import LazyPrior
from ddfm.registration.bring import middle, registered
from ddfm.registration.models import Registering
from ddfm.sampling.draw import check_steps, draw
from ddfm.sampling.loop import Sampler, Step, check_finite, sample
from ddfm.sampling.schedulers import SchedulerFactory
from ddfm.sampling.uncertainty import posterior_std
from ddfm.threads import fair_threads
from ddfm.timing import RESTORE, stage
from ddfm.version import own_version

if TYPE_CHECKING:
    from ddfm.fusion.masks import MaskSource
    from ddfm.priors.lazy import PriorSource

Callback = Callable[[Step], None]


def no_callback(step: Step) -> None:
    """Do nothing."""


def fuse(
    a: Source,
    b: Source,
    *more: Source,
    prior: PriorSource = "natural",
    form: str | Form = "ddfm",
    task: str | Task = "auto",
    steps: int | None = None,
    seed: int = 3407,
    scheduler: str | SchedulerFactory = "ddim",
    sampler: Sampler = sample,
    colour_from: int | None = None,
    noise: NoiseLevels | None = None,
    deblur: Blurs = "off",
    masks: Sequence[MaskSource | None] | None = None,
    stretch: str = "auto",
    balance: float = 0.5,
    deghost: str = "auto",
    source_map: bool = False,
    uncertainty: bool = False,
    device: str = "auto",
    dtype: str = "auto",
    backend: str = "torch",
    tile: Tile = "auto",
    register: Registering | None = None,
    resize: bool = False,
    callback: Callback = no_callback,
) -> FusionResult:
    """Fuse two or more aligned pictures of one scene (DDFM, Zhao et al., ICCV 2023, algorithm 1).

    In form ``"ddfm"`` no source is privileged: the fused pixels do not depend on their order, to the byte.

    Args:
        a: the first source, the infrared image i of the paper: a path, an `Image`, a PIL image, an
            array or tensor (H, W), (H, W, C) or (C, H, W), or a batch (B, C, H, W) of them; 8 or 16
            bits, or floats, in any units (docs/reference/formats.md). What comes back has the same layout.
        b: the second source, the visible image v of the paper.
        more: further sources, for forms that take them.
        prior: name, folder, a loaded prior, or a function without arguments that loads one. It is only
            loaded for steps other than 0, for noisy sources and for their uncertainty.
        form: of the likelihood: ``"ddfm"`` (ours: it knows what each source has to say),
            ``"released"`` (what the authors' code computes), ``"paper"`` (the published equations,
            which have no opinion between two sources: see docs/research/algorithm.md), or a `Form` of
            your own.
        task: what the sources are, for form ``"ddfm"``: ``"infrared"`` (with visible), ``"medical"`` (MRI
            with CT, PET or SPECT: nothing is sharpened or stretched), ``"exposure"`` (of one scene),
            ``"focus"`` (on its parts), or a `Task` with constants of your own. ``"auto"`` finds out:
            `ddfm.fusion.task.choose_task`.
        steps: network evaluations; 0 for the likelihood alone (form ``"ddfm"`` only). None for the
            form's own: 5 for ``"ddfm"``, 100 for the others.
        seed: of the starting noise, and of the scheduler's if it has any; 0 or more.
        scheduler: ``"ddim"``, ``"ddpm"``, ``"dpm++"``, or a function that makes a scheduler for the abar
            of the steps (`ddfm.sampling.schedulers`).
        sampler: the sampling loop; a function with the signature of `ddfm.sampling.loop.sample`.
        colour_from: number of the source, counted from 1, whose chroma is taken; None for the task's
            own rule (`ddfm.fusion.restore.with_chroma`).
        noise: ``"auto"`` to measure how noisy each source is and to denoise, with the prior, what is;
            ``"off"``; or the standard deviation in each source, in 8-bit grey levels. None for
            ``"auto"``, but ``"off"`` for medical pictures, which nothing is taken from unasked, and for the
            other forms, which know of no noise. With ``"auto"`` single defective pixels are found and filled,
            too (`ddfm.noise.defects`).
        deblur: ``"off"``; ``"auto"`` to find out by its sharpest edges how far each source is blurred, and to
            leave alone what is sharp or cannot be known; or how far each source's lens blurs it, standard
            deviations of a Gaussian, in pixels, 0 for a sharp one (docs/use/noisy.md).
        masks: which pixels of each source are missing, a path, a PIL image, or an array or tensor (H, W) of
            the source's size: 0 where it shows something, another value where it does not. None for a
            source that is whole, or for all. The other sources take the place; what none of them shows,
            and holes of few pixels, the prior fills (docs/use/noisy.md).
        stretch: ``"auto"`` for what the form does (``"ddfm"``: contrast raised as far as the range allows,
            by 15 % at most for task infrared, not at all for the others;
            ``"released"``: to the full range; ``"paper"``: nothing) or ``"none"``.
        balance: between the thermal and the visible source, for task infrared: 0 for what the visible camera
            saw, and what is hot; 0.5 for what each has to say; 1 for what the thermal camera saw. Thermal are
            the grey sources beside one in colour, else the first one.
        deghost: ``"auto"`` to take what moves between exposures (task exposure) from one of them
            (`ddfm.fusion.ghosts`), or ``"off"``.
        source_map: whether to tell which source has the largest weight at each pixel: for focus stacks the
            one that the pixel came from. Form ``"ddfm"`` only.
        uncertainty: whether to find out how far posterior samples spread (`ddfm.sampling.uncertainty`).
        device: ``"auto"`` (a GPU where there is one), ``"cpu"``, ``"cuda"``, ``"mps"``, ...
        dtype: of the network: ``"float32"``, ``"bfloat16"``, ``"float16"``, or ``"auto"`` for bfloat16 where
            the device is fast at it, in form ``"ddfm"``, and float32 elsewhere (docs/reference/speed.md).
        backend: what evaluates the network: ``"torch"``, or ``"openvino"`` on the CPU.
        tile: side of the tiles, at least 64 pixels, in which larger pictures are shown to the network;
            ``"auto"`` for none up to 2048 pixels a side and 1024 beyond, or less where there is little
            memory; ``"off"`` for pictures in one piece. Unless it is ``"off"``, the likelihood of large
            pictures is computed part by part, too.
        register: bring the other sources, of whatever size and view, onto the first colour source, or for
            tasks exposure and focus onto the middle one: ``"affine"``, ``"homography"`` or ``"dense"``
            (docs/use/registration.md, docs/use/brackets.md). None for sources that are aligned.
        resize: bring the other sources to the size of the first colour source (bicubic) instead of
            refusing sources whose sizes differ.
        callback: called with a `Step` after every sampling step.

    Raises:
        InputError: a source cannot be read, sizes differ, an option is not one of those above.
    """
    options = Options.among(locals(), sources=2 + len(more))
    return Fusion(options, prior).of_sources([a, b, *more], callback)


class Fusion:
    """Fuse scenes with one set of options and one prior.

    Attributes:
        options: checked already.
        prior: loaded when it is first asked for.
    """

    def __init__(self, options: Options, prior: PriorSource | LazyPrior = "natural") -> None:
        self.options = options
        self.prior = (
            prior
            if isinstance(prior, LazyPrior)
            else LazyPrior.of(prior, options.torch_device, options.torch_dtype, options.backend)
        )

    def check_prior(self) -> None:
        """Raise InputError if the prior is surely needed and will not do; before any work is done."""
        if self.options.evaluations:
            check_steps(self.prior(), self.options.likelihood_form.warm, self.options.evaluations)

    def of_sources(self, given: Sequence[Source], callback: Callback = no_callback) -> FusionResult:
        """Read whatever stands for the sources and fuse them; batches give several pictures."""
        # 1. Read.
        sources = as_sources(given)
        scenes = [list(pictures) for pictures in zip(*sources.pictures, strict=True)]
        scenes = [self.aligned(scene) for scene in scenes]
        check_colour(scenes, self.options.colour_from)
        results = self.of(scenes, callback=callback)
        stds = [result.std for result in results if result.std is not None]
        maps = [result.source_map for result in results if result.source_map is not None]
        return FusionResult(
            tuple(result.image for result in results),
            merged_settings(results),
            (np.stack(stds) if sources.is_batch else stds[0]) if stds else None,
            sources.layout,
            (np.stack(maps) if sources.is_batch else maps[0]) if maps else None,
        )

    def aligned(
        self,
        scene: Sequence[Image],
        choice: Choice | None = None,
        report: Callable[[int, NDArray[np.uint8]], None] = lambda k, picture: None,
    ) -> list[Image]:
        """Return sources of one size and, if the options say so, of one view.

        Args:
            scene: the sources as they were read.
            choice: their task; None to look at them, since it decides which of them stays where it is.
            report: as for `ddfm.registration.bring.registered`.

        Raises:
            InputError: they cannot be registered, or their sizes differ.
        """
        if (masks := self.options.read_masks) is not None:
            scene = with_masks(scene, masks)
        scene = self._without_defects(scene, choice)
        if self.options.register is None:
            return match_sizes(scene, self.options.resize)
        task = self._likely_task(scene, choice)
        onto = middle(scene, by_brightness=not task.sharpness) if task.one_camera else None
        return registered(scene, self.options.register, report, onto)

    def _without_defects(self, scene: Sequence[Image], choice: Choice | None) -> Sequence[Image]:
        """Return the sources, whose defective pixels are known to be missing if noise is measured.

        Before anything is resampled: that would spread them.
        """
        if self.options.noise not in (None, "auto"):
            return scene
        mended = [without_defects(source) for source in scene]
        if not any(source.defects for source in mended):
            return scene
        return mended if self.options.noise_for(self._likely_task(mended, choice)) == "auto" else scene

    def _likely_task(self, scene: Sequence[Image], choice: Choice | None) -> Task:
        """Return the task of sources of any size: as chosen, as the options say, or found out by a look."""
        if choice is None and not self.options.finds_task:
            choice = self.chosen([])
        return self.task_of(choice or likely_task(match_sizes(scene, resize=True)))

    @fair_threads()
    def of(
        self,
        scenes: Sequence[Sequence[Image]],
        choice: Choice | None = None,
        callback: Callback = no_callback,
    ) -> list[FusionResult]:
        """Fuse several scenes of one kind at once: each as if it were alone, to rounding.

        Results differ from those of a scene alone in two cases. DDPM's noise depends on the size, and
        uncertainty's draws follow each other.

        Args:
            scenes: as many sources each, all of one scene of one size. Scenes may differ in size if all
                come to the same one when they are padded to multiples of the prior's.
            choice: the task of all of them, and why; None to choose it here.

        Returns:
            one result for each scene, with the settings of its own.

        Raises:
            InputError: the prior cannot be loaded or has too few timesteps; the scenes' tasks differ.
        """
        with own_settings(self.options.torch_device):
            choice = self.chosen(scenes) if choice is None else choice
            self.check_prior()
            return _Run(self, scenes, choice).results(callback)

    def chosen(self, scenes: Sequence[Sequence[Image]]) -> Choice:
        """Return the task of these scenes: found out, or as the options say."""
        task = self.options.task
        if self.options.finds_task:
            return choose_for_all(scenes)
        return Choice(task if isinstance(task, str) else task.name, "")

    def task_of(self, choice: Choice) -> Task:
        """Return the constants of that task; forms that know of no tasks get those of infrared."""
        task = self.options.task
        if not isinstance(task, Task):
            task = TASKS.get(choice.task, TASKS["infrared"])
        return task if self.options.balance == task.balance else replace(task, balance=self.options.balance)


class _Run:
    """Fuse scenes of one kind: what `Fusion.of` does, step by step."""

    def __init__(self, fusion: Fusion, scenes: Sequence[Sequence[Image]], choice: Choice) -> None:
        self.options, self.choice, self.task = fusion.options, choice, fusion.task_of(choice)
        self.form = self.options.likelihood_form
        self.given = scenes
        height, width = (max(sides) for sides in zip(*(scene[0].size for scene in scenes), strict=True))
        self.prior = fusion.prior.for_tiles(self.options.tile, height, width)

    def results(self, callback: Callback) -> list[FusionResult]:
        """Return the fused scenes, in the order of the scenes."""
        scenes, still = self.comparable()
        # 2. Prepare: luminance in [-1, 1], without noise.
        with stage("prepare"):
            stacks = self.prepared(scenes)
        # 3. Sample; and, if asked, how far samples spread.
        sampled = self.sampled(
            [stack.lumas for stack in stacks],
            [stack.residual_noise for stack in stacks],
            [stack.shown for stack in stacks],
            self.options.seed,
            callback,
        )
        stds = [self.std(stack) if self.options.uncertainty else None for stack in stacks]
        # 4. Restore: chroma, depth and alpha.
        results: dict[int, FusionResult] = {}
        for stack, (luma, likelihood), std in zip(stacks, sampled, stds, strict=True):
            for n, scene in enumerate(stack.scenes):
                with stage(RESTORE):
                    image = self.restored(stack, n, luma[n : n + 1], likelihood)
                own = None if std is None else std[n, 0].cpu().numpy()
                came_from = source_map(likelihood, scene, n) if self.options.source_map else None
                settings = self.settings(stack, n, still[scene.number].settings if still else None)
                results[scene.number] = FusionResult((image,), settings, own, source_map=came_from)
        return [results[number] for number in range(len(scenes))]

    def comparable(self) -> tuple[list[list[Image]], list[Still] | None]:
        """Return the scenes in one range, without holes and ghosts, and where they are still, if asked."""
        ranged = [with_shared_range(scene) for scene in self.given] if self.task.one_camera else self.given
        scenes = [with_stand_ins(scene) for scene in ranged]
        if not (self.task.moving and self.form.tasks and self.options.deghost == "auto"):
            return scenes, None
        still = [without_ghosts(scene) for scene in scenes]
        return [each.sources for each in still], still

    def prepared(self, scenes: Sequence[Sequence[Image]]) -> list[PreparedScenes]:
        """Return the scenes, stacked by size, their luminances without noise."""
        ordered = [
            OrderedScene.of(
                number, given, self.form.symmetric, self.task.balance != EVEN, self.options.torch_device
            )
            for number, given in enumerate(scenes)
        ]
        noise = self.options.noise_for(self.task)
        return [prepare_scenes(alike, noise, self.options.deblur, self.prior) for alike in by_size(ordered)]

    def sampled(
        self,
        sources: Sequence[Sequence[Tensor]],
        residual_noise: Sequence[Sequence[Tensor]],
        shown: Sequence[Sequence[Tensor] | None],
        seed: int,
        callback: Callback = no_callback,
    ) -> list[tuple[Tensor, Likelihood]]:
        """Return, for the luminances of each size, the fused one in [0, 1] and its likelihood."""
        with stage("likelihood"):
            likelihoods = [
                self.form.likelihood(lumas, noise, self.task, self.options.tile == "off", parts)
                for lumas, noise, parts in zip(sources, residual_noise, shown, strict=True)
            ]
            drawn = [start for likelihood in likelihoods if (start := likelihood.start) is not None]
        if self.options.evaluations or not drawn:
            drawn = draw(
                self.prior(),
                likelihoods,
                self.options.evaluations,
                [lumas[0] for lumas in sources],
                seed,
                scheduler=self.options.scheduler_factory,
                sampler=self.options.sampler,
                callback=callback,
            )
        with stage("finish"):
            lumas = [
                likelihood.finish(luminance(f), self.options.stretch == "auto")
                for likelihood, f in zip(likelihoods, drawn, strict=True)
            ]
            for luma in lumas:
                check_finite(luma, f"form {self.form.name}")
        return list(zip(lumas, likelihoods, strict=True))

    def std(self, stack: PreparedScenes) -> Tensor:
        """Return how far posterior samples spread, (B, 1, H, W)."""

        def fused(sources: Sequence[Tensor], seed: int) -> Tensor:
            return self.sampled([sources], [stack.residual_noise], [stack.shown], seed)[0][0]

        return posterior_std(stack.noisy, stack.cleaned, self.prior, fused, self.options.seed)

    def restored(self, stack: PreparedScenes, n: int, luma: Tensor, likelihood: Likelihood) -> Image:
        """Return the stack's n-th fused luminance, (1, 1, H, W), as a picture like its sources."""
        scene = stack.scenes[n]
        coloured = {
            k: without_noise(scene.pixels[k], self.prior, stack.levels[k], n)
            if stack.cleaned[k].assumed_noise[n]
            else scene.pixels[k]
            for k in scene.coloured(self.options.colour_from)
        }
        if coloured:
            luma = with_chroma(coloured, luma, likelihood, n, self.task)
        return restored(luma, scene.given, self.options.colour_from)

    def settings(self, stack: PreparedScenes, n: int, moving: dict[str, Any] | None) -> dict[str, Any]:
        """Return what the stack's n-th scene was fused with; ``moving`` is what its ghosts came to."""
        scene, prior = stack.scenes[n], self.prior.asked
        measured = [float(source.measured_noise[n]) / GREY_LEVEL for source in stack.cleaned]
        assumed = [float(source.assumed_noise[n]) / GREY_LEVEL for source in stack.cleaned]
        blurs = [0.0 if source.blur is None else float(source.blur[n]) for source in stack.cleaned]
        return {
            "version": own_version(),
            "prior": prior.name if prior else None,
            "form": self.form.name,
            "scheduler": self.options.scheduler_name,
            "steps": self.options.evaluations,
            "seed": self.options.seed,
            "task": self.choice.task,
            "why": self.choice.why,
            "colour_from": self.options.colour_from,
            "noise": scene.in_given_order(measured),
            "denoised": scene.in_given_order(assumed),
            "deblur": scene.in_given_order(blurs) if self.options.deblur == "auto" else self.options.deblur,
            "missing": [
                0.0 if source.known is None else round(1 - float(source.known.mean()), 4)
                for source in scene.given
            ],
            "defects": [source.defects for source in scene.given],
            "stretch": self.options.stretch,
            "balance": self.task.balance,
            "moving": moving,
            "device": str(self.options.torch_device),
            "dtype": str(self.options.torch_dtype).removeprefix("torch."),
            "backend": self.options.backend,
            "tile": prior.tile if prior else None,
        }


def check_colour(scenes: Sequence[Sequence[Image]], colour_from: int | None) -> None:
    """Raise InputError if the source that chroma is to come from has none."""
    if colour_from is None:
        return
    for scene in scenes:
        source = scene[colour_from - 1]
        if not source.is_colour:
            raise InputError(f"colour from {colour_from}: {source.name} is grey; name a source in colour")
