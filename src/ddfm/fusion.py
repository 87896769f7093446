"""The way of the sources: read, prepare, sample, restore.

Not called fuse.py, because `ddfm.fuse` is the function.
"""

from __future__ import annotations

import logging
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddfm import __version__
from ddfm.auto_task import Choice, choose_task
from ddfm.devices import pick_device, pick_dtype
from ddfm.errors import InputError
from ddfm.formats.pictures import check_writable, write_image
from ddfm.likelihoods.base import DataTerm, Likelihood
from ddfm.likelihoods.forms import FORMS
from ddfm.likelihoods.frames import Together
from ddfm.likelihoods.hierarchical import HierarchicalLikelihood
from ddfm.likelihoods.numbers import held
from ddfm.likelihoods.tasks import TASKS, Task
from ddfm.likelihoods.tiled import TiledLikelihood, is_large
from ddfm.noise.clean import Cleaned, clean_source
from ddfm.noise.level import GREY_LEVEL
from ddfm.options import DEFAULT_STEPS, Noise, Tile, check_options
from ddfm.pictures.colour import luminance
from ddfm.pictures.image import Image, with_shared_range
from ddfm.pictures.layouts import Layout
from ddfm.restore import restored, with_chroma, without_noise
from ddfm.sampler import Step, sample, spaced_timesteps
from ddfm.sources import Registering, Source, as_sources, match_sizes, registered
from ddfm.timing import FUSED, stage
from ddfm.uncertainty import posterior_std

if TYPE_CHECKING:
    from ddfm.prior import Prior

# A warm start goes from a noise level that still leaves the scene open at the scale of details down to
# one below the grey levels' own: in units of [-1, 1], timesteps 200 and 10 of a linear schedule.
WARM_START, WARM_END = 0.73, 0.047

logger = logging.getLogger("ddfm")


@dataclass(frozen=True)
class FusionResult:
    """What came of a fusion, and what it was made with.

    Attributes:
        images: one fused picture, or as many as the sources' batches held. Size and colour of the first
            colour source (or of the first one, if none is in colour), depth of the first source, alpha
            of the first that has it.
        settings: version, prior (None if no network evaluation was needed), form, scheduler, steps,
            seed, task and why it was chosen, stretch, device, dtype, backend; noise: what was found in each
            source, and denoised: what the prior was told of it (0 where it was not asked), both in 8-bit
            grey levels (the largest of a batch).
        std: how far posterior samples of the luminance spread, float32 (H, W), (B, H, W) for a batch, in
            shares of the range from black to white; None if not asked for.
        layout: of the arrays that went in; None for pictures and files.
    """

    images: tuple[Image, ...]
    settings: dict[str, Any]
    std: NDArray[np.float32] | None = None
    layout: Layout | None = None

    @property
    def image(self) -> Image:
        """The fused picture. Raises InputError if there are several."""
        if len(self.images) > 1:
            raise InputError(f"the result holds {len(self.images)} pictures: use images, or to_array()")
        return self.images[0]

    def to_array(self) -> NDArray[Any]:
        """In the layout that went in; else (H, W) or (H, W, C). uint8, uint16 or float32, as the first."""
        if self.layout is None:
            return self.image.to_array()
        return self.layout.join([image.to_array() for image in self.images])

    def to_tensor(self) -> Tensor:
        """The same as a tensor, on the CPU."""
        return torch.from_numpy(self.to_array())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a PNG, JPEG, TIFF, BMP or WebP file, whole or not at all. Raises InputError."""
        path = Path(path)
        check_writable(path, self.image.depth, self.image.alpha is not None)
        write_image(path, self.image)


def fuse(
    a: Source,
    b: Source,
    *more: Source,
    prior: str | os.PathLike[str] | Prior | Callable[[], Prior] = "natural",
    form: str = "ddfm",
    scheduler: str = "ddim",
    steps: int | None = None,
    seed: int = 3407,
    task: str = "auto",
    colour_from: int | None = None,
    noise: Noise | None = None,
    stretch: str = "auto",
    uncertainty: bool = False,
    device: str = "auto",
    dtype: str = "auto",
    backend: str = "torch",
    tile: Tile = "auto",
    register: Registering | None = None,
    resize: bool = False,
    scales: Mapping[str, float] | None = None,
    callback: Callable[[Step], None] = lambda step: None,
) -> FusionResult:
    """Fuse two or more aligned pictures of one scene (DDFM, Zhao et al., ICCV 2023, algorithm 1).

    In form ``"ddfm"`` no source is privileged: the fused pixels do not depend on their order, to the byte.

    Args:
        a: the first source, the infrared image i of the paper: a path, an `Image`, a PIL image, an
            array or tensor (H, W), (H, W, C) or (C, H, W), or a batch (B, C, H, W) of them; 8 or 16
            bits, or floats, in any units (docs/formats.md). What comes back has the same layout.
        b: the second source, the visible image v of the paper.
        more: further sources, for form ``"ddfm"``.
        prior: name, folder, a loaded `Prior`, or a function that loads one; it is only loaded for steps
            other than 0, for noisy sources and for their uncertainty.
        form: of the likelihood: ``"ddfm"`` (ours: it knows what each source has to say),
            ``"released"`` (what the authors' code computes) or ``"paper"`` (the published equations,
            which have no opinion between two sources: see docs/algorithm.md).
        scheduler: ``"ddim"``, ``"ddpm"`` or ``"dpm++"``.
        steps: network evaluations; 0 for the likelihood alone (form ``"ddfm"`` only). None for the
            form's own: 5 for ``"ddfm"``, 100 for the others.
        seed: of the starting noise, and of the scheduler's if it has any; 0 or more.
        task: what the sources are, for form ``"ddfm"``: ``"infrared"`` (with visible), ``"medical"`` (MRI
            with CT, PET or SPECT: nothing is sharpened or stretched), ``"exposure"`` (of one scene) or
            ``"focus"`` (on its parts). ``"auto"`` finds out: `ddfm.auto_task.choose_task`.
        colour_from: number of the source, counted from 1, whose chroma is taken; None for the task's
            own rule (`with_chroma`).
        noise: ``"auto"`` to find out how noisy each source is and to denoise, with the prior, what is;
            ``"off"``; or the standard deviation in each source, in 8-bit grey levels. None for
            ``"auto"``, but ``"off"`` for medical pictures, which nothing is taken from unasked, and for the
            other forms, which know of no noise.
        stretch: ``"auto"`` for what the form does (``"ddfm"``: contrast raised as far as the range allows,
            by 9 % at most for task infrared, 20 % for exposures, not at all for the others;
            ``"released"``: to the full range; ``"paper"``: nothing) or ``"none"``.
        uncertainty: whether to find out how far posterior samples spread (`ddfm.uncertainty`).
        device: ``"auto"`` (a GPU where there is one), ``"cpu"``, ``"cuda"``, ``"mps"``, ...
        dtype: of the network: ``"float32"``, ``"bfloat16"``, ``"float16"``, or ``"auto"`` for bfloat16 where
            the device is fast at it, in form ``"ddfm"``, and float32 elsewhere (docs/speed.md).
        backend: what evaluates the network: ``"torch"``, or ``"openvino"`` on the CPU.
        tile: side of the tiles, at least 64 pixels, in which larger pictures are shown to the network;
            ``"auto"`` for none up to 2048 pixels a side and 1024 beyond, or less where there is little
            memory; ``"off"`` for pictures in one piece. Unless it is ``"off"``, the likelihood of large
            pictures is computed part by part, too.
        register: bring the other sources, of whatever size and view, onto the first colour source:
            ``"affine"``, ``"homography"`` or ``"dense"`` (docs/registration.md). None for sources that are
            aligned.
        resize: bring the other sources to the size of the first colour source (bicubic) instead of
            refusing sources whose sizes differ.
        scales: numbers about the whole picture that form ``"ddfm"`` takes instead of each picture's own:
            those of a volume, for its slices (`ddfm.jobs.volumes.shared_scales`).
        callback: called with a `Step` after every sampling step.

    Raises:
        InputError: a source cannot be read, sizes differ, an option is not one of those above.
    """
    # 1. Read.
    given = as_sources([a, b, *more])
    scenes = [list(pictures) for pictures in zip(*given.pictures, strict=True)]
    check_options(
        form=form,
        scheduler=scheduler,
        steps=steps,
        seed=seed,
        task=task,
        colour_from=colour_from,
        noise=noise,
        stretch=stretch,
        device=device,
        dtype=dtype,
        backend=backend,
        tile=tile,
        register=register,
        sources=len(given.pictures),
    )
    if register is not None:
        scenes = [registered(scene, register) for scene in scenes]
    scenes = [match_sizes(scene, resize) for scene in scenes]
    check_colour(scenes, colour_from)
    choice = choose_for_all(scenes) if (task, form) == ("auto", "ddfm") else Choice(task, "")
    results = fuse_scenes(
        scenes,
        choice,
        prior=prior,
        form=form,
        scheduler=scheduler,
        steps=steps,
        seed=seed,
        colour_from=colour_from,
        noise=noise,
        stretch=stretch,
        uncertainty=uncertainty,
        device=device,
        dtype=dtype,
        backend=backend,
        tile=tile,
        scales=scales,
        callback=callback,
    )
    stds = [result.std for result in results if result.std is not None]
    return FusionResult(
        tuple(result.image for result in results),
        results[0].settings | {key: largest(results, key) for key in ("noise", "denoised")},
        (np.stack(stds) if given.is_batch else stds[0]) if stds else None,
        given.layout,
    )


def largest(results: Sequence[FusionResult], key: str) -> list[float]:
    """Of the levels of noise that the settings hold, by source."""
    return [max(levels) for levels in zip(*(result.settings[key] for result in results), strict=True)]


def fuse_scenes(
    scenes: Sequence[Sequence[Image]],
    choice: Choice,
    *,
    prior: str | os.PathLike[str] | Prior | Callable[[], Prior],
    form: str,
    scheduler: str,
    steps: int | None,
    seed: int,
    colour_from: int | None,
    noise: Noise | None,
    stretch: str,
    uncertainty: bool,
    device: str,
    dtype: str,
    backend: str,
    tile: Tile,
    scales: Mapping[str, float] | None = None,
    callback: Callable[[Step], None] = lambda step: None,
) -> list[FusionResult]:
    """Fuse several scenes of one kind at once: each as if it were alone, to rounding.

    Args:
        scenes: as many sources each, all of one scene of one size; where scenes differ in size, all have to
            come to the same one when they are padded to multiples of `ddfm.prior.Prior.multiple`.
        choice: the task of all of them, and why it was chosen.
        prior: and everything else: as for `fuse`, with `check_options` done. With ``"ddpm"``, whose noise
            depends on the size, and ``uncertainty``, whose draws follow each other, scenes that are to be as
            they are alone should come alone.

    Returns:
        one result for each scene, with the settings of its own.

    Raises:
        InputError: the prior cannot be loaded or has too few timesteps.
    """
    steps = DEFAULT_STEPS[form] if steps is None else steps
    rules = TASKS.get(choice.task, TASKS["infrared"])  # the older forms know of no tasks
    if choice.task in ("exposure", "focus"):
        scenes = [with_shared_range(scene) for scene in scenes]
    if noise is None:
        noise = "auto" if form == "ddfm" and choice.task != "medical" else "off"
    place = pick_device(device, backend)
    network_dtype = pick_dtype(dtype, place, form)

    height, width = (max(sides) for sides in zip(*(scene[0].size for scene in scenes), strict=True))

    @cache
    def model() -> Prior:
        return as_prior(prior).to(place, network_dtype, backend).for_tiles(tile, height, width)

    if steps:
        check_steps(model(), form, steps)  # what is wrong with it should come out before any work is done
    # 2. Prepare: luminance in [-1, 1], without noise; sources in an order that is not that of the arguments.
    with stage("prepare"):
        orders = [order_of_contents(scene) if form == "ddfm" else list(range(len(scene))) for scene in scenes]
        ordered = [[scene[n] for n in order] for scene, order in zip(scenes, orders, strict=True)]
        pixels = [[as_tensor(source).to(place) for source in scene] for scene in ordered]
        stacks = [prepared(places, pixels, orders, noise, model) for places in by_size(scenes)]

    # 3. Sample.
    def sampled(
        sources: Sequence[Sequence[Tensor]],
        left: Sequence[Sequence[Tensor]],
        seed: int,
        callback: Callable[[Step], None] = lambda step: None,
    ) -> list[tuple[Tensor, Likelihood]]:
        with stage("likelihood"):
            likelihoods = [
                likelihood_of(form, lumas, noise, rules, tile, scales)
                for lumas, noise in zip(sources, left, strict=True)
            ]
            starts = [start for likelihood in likelihoods if (start := likelihood.start) is not None]
        if steps or not starts:
            likes = [lumas[0] for lumas in sources]
            starts = draw_all(model(), likelihoods, steps, likes, seed, scheduler, callback)
        with stage("finish"):
            return [
                (likelihood.finish(luminance(f), stretch == "auto"), likelihood)
                for likelihood, f in zip(likelihoods, starts, strict=True)
            ]

    def spread(stack: Stack, left: Sequence[Tensor]) -> Tensor:
        def fused(sources: Sequence[Tensor], seed: int) -> Tensor:
            return sampled([sources], [left], seed)[0][0]

        return posterior_std(stack.noisy, stack.cleaned, model, fused, seed)

    lefts = [[source.left for source in stack.cleaned] for stack in stacks]
    fused = sampled([[source.luma for source in stack.cleaned] for stack in stacks], lefts, seed, callback)
    # 4. Restore: chroma, depth and alpha.
    results: dict[int, FusionResult] = {}
    for stack, left, (luma, likelihood) in zip(stacks, lefts, fused, strict=True):
        stds = spread(stack, left) if uncertainty else None
        for n, number in enumerate(stack.places):
            scene, order = ordered[number], orders[number]
            with stage(FUSED):
                coloured = {
                    k: without_noise(pixels[number][k], model, stack.levels[k], n)
                    if stack.cleaned[k].told[n]
                    else pixels[number][k]
                    for k, source in enumerate(scene)
                    if source.is_colour and colour_from in (None, order[k] + 1)
                }
                picture = luma[n : n + 1]
                if coloured:
                    picture = with_chroma(coloured, picture, likelihood, n, rules)
                image = restored(picture, scenes[number], colour_from)
            settings = {
                "version": __version__,
                "prior": model().name if model.cache_info().currsize else None,
                "form": form,
                "scheduler": scheduler,
                "steps": steps,
                "seed": seed,
                "task": choice.task,
                "why": choice.why,
                "colour_from": colour_from,
                "noise": in_given_order([source.found[n] for source in stack.cleaned], order),
                "denoised": in_given_order([source.told[n] for source in stack.cleaned], order),
                "stretch": stretch,
                "device": str(place),
                "dtype": str(network_dtype).removeprefix("torch."),
                "backend": backend,
                "tile": model().tile if model.cache_info().currsize else None,
            }
            spread_of_it = None if stds is None else stds[n, 0].cpu().numpy()
            results[number] = FusionResult((image,), settings, spread_of_it)
    return [results[k] for k in range(len(scenes))]


class Stack(NamedTuple):
    """Scenes of one size, whose K luminances are stacked.

    Attributes:
        places: of the scenes among all.
        noisy: the luminances as they came, (B, 1, H, W) in [-1, 1] each.
        levels: the noise in each that `clean_source` was told.
        cleaned: what it made of them.
    """

    places: list[int]
    noisy: list[Tensor]
    levels: list[Tensor | Literal["auto", "off"]]
    cleaned: list[Cleaned]


def by_size(scenes: Sequence[Sequence[Image]]) -> list[list[int]]:
    """The places of the scenes of each size."""
    places: dict[tuple[int, int], list[int]] = {}
    for place, scene in enumerate(scenes):
        places.setdefault(scene[0].size, []).append(place)
    return list(places.values())


def prepared(
    places: list[int],
    pixels: Sequence[Sequence[Tensor]],
    orders: Sequence[Sequence[int]],
    noise: Noise,
    model: Callable[[], Prior],
) -> Stack:
    """The scenes at these places, which are of one size; pixels are (1, C, H, W) in [0, 1]."""
    noisy = [
        torch.cat([luminance(image) for image in source]).mul_(2).sub_(1)
        for source in zip(*(pixels[place] for place in places), strict=True)
    ]
    levels = [
        noise
        if isinstance(noise, str)
        else GREY_LEVEL * torch.tensor([noise[orders[place][k]] for place in places])
        for k in range(len(noisy))
    ]
    cleaned = [clean_source(luma, model, level) for luma, level in zip(noisy, levels, strict=True)]
    return Stack(places, noisy, levels, cleaned)


def choose_for_all(scenes: Sequence[Sequence[Image]]) -> Choice:
    """The task of all pictures of a batch. Raises InputError if they differ; see also `choose_task`."""
    choices = [choose_task(scene) for scene in scenes]
    if len({choice.task for choice in choices}) > 1:
        found = ", ".join(choice.task for choice in choices)
        raise InputError(f"the batch holds different tasks ({found}); name one, or fuse them apart")
    choice = choices[0]
    # That intensities are left as they are, or are not, should not pass unnoticed.
    level = logging.WARNING if choice.task == "medical" else logging.INFO
    logger.log(level, "task %s: %s", *choice)
    return choice


def order_of_contents(scene: Sequence[Image]) -> list[int]:
    """The sources' places in an order that depends on their pixels alone: sums round the same then."""
    return sorted(range(len(scene)), key=lambda k: zlib.crc32(np.ascontiguousarray(scene[k].pixels).data))


def in_given_order(levels: Sequence[Tensor], order: Sequence[int]) -> list[float]:
    """In grey levels, of each given source; from those of the ordered ones."""
    return [round(levels[order.index(k)].item() / GREY_LEVEL, 2) for k in range(len(levels))]


def as_tensor(image: Image) -> Tensor:
    """(1, C, H, W) in [0, 1]."""
    return torch.from_numpy(image.pixels).movedim(-1, 0)[None]


def as_prior(prior: str | os.PathLike[str] | Prior | Callable[[], Prior]) -> Prior:
    """Whatever stands for a prior, loaded; raises InputError for what cannot be."""
    with stage("import"):
        from ddfm.prior import Prior, load_prior

    if isinstance(prior, Prior):
        return prior
    return load_prior(prior) if isinstance(prior, str | os.PathLike) else prior()


def draw(
    prior: Prior,
    likelihood: Likelihood,
    steps: int,
    like: Tensor,
    seed: int,
    scheduler: str,
    callback: Callable[[Step], None],
) -> Tensor:
    """A sample of p(f | sources), (B, C, H, W): from the likelihood's start if it has one, or from noise."""
    return draw_all(prior, [likelihood], steps, [like], seed, scheduler, callback)[0]


def draw_all(
    prior: Prior,
    likelihoods: Sequence[Likelihood],
    steps: int,
    likes: Sequence[Tensor],
    seed: int,
    scheduler: str,
    callback: Callable[[Step], None],
) -> list[Tensor]:
    """`draw` for pictures of several sizes at once, a likelihood and a sample for each."""
    # Noise is drawn on the CPU so that every device starts from the same, and for each picture as if it
    # were alone.
    generators = [torch.Generator().manual_seed(seed) for like in likes for _ in like]
    own = iter(generators)
    noise = [
        torch.cat([torch.randn((1, prior.channels, *like.shape[-2:]), generator=next(own)) for _ in like])
        for like in likes
    ]
    together = Together(likelihoods, likes, prior.multiple) if len(likes) > 1 else None
    likelihood: DataTerm = together or likelihoods[0]
    f = (together.framed(noise) if together else noise[0]).to(likes[0])
    start = likelihood.start
    first, last = span(prior, warm=start is not None)
    if start is not None:
        alpha_cumprod = prior.alphas_cumprod[first]
        f = alpha_cumprod.sqrt().to(f) * start + (1 - alpha_cumprod).sqrt().to(f) * f
    f = sample(
        prior,
        likelihood,
        f,
        spaced_timesteps(first, last, steps),
        scheduler=scheduler,
        keep_noise=start is not None,
        generator=generators,
        shown=together.mirrored if together else lambda f: f,
        callback=callback,
    )
    return together.pictures(f) if together else [f]


def likelihood_of(
    form: str,
    sources: Sequence[Tensor],
    noise: Sequence[Tensor],
    task: Task,
    tile: Tile,
    scales: Mapping[str, float] | None = None,
) -> Likelihood:
    """The likelihood in that form; of large pictures part by part, unless ``tile`` forbids it."""
    if form != "ddfm":
        return FORMS[form](sources, noise, task)
    if tile != "off" and is_large(*sources[0].shape[-2:]):
        return TiledLikelihood(sources, noise, task, steady=held(scales or {}))
    return HierarchicalLikelihood(sources, noise, task, steady=held(scales or {}))


def span(prior: Prior, warm: bool) -> tuple[int, int]:
    """The first and the last timestep to take."""
    if not warm:
        return len(prior.alphas_cumprod) - 1, 0
    first, last = (int((prior.sigmas < level).sum()) - 1 for level in (WARM_START, WARM_END))
    return first, last


def check_steps(prior: Prior, form: str, steps: int | None) -> None:
    """Raises InputError if the prior's schedule has not as many timesteps as steps are wanted."""
    steps = DEFAULT_STEPS[form] if steps is None else steps
    first, last = span(prior, warm=form == "ddfm")
    if steps > first - last + 1:
        raise InputError(
            f"steps {steps}: the prior {prior.name} has only {first - last + 1} timesteps to take"
        )


def check_colour(scenes: Sequence[Sequence[Image]], colour_from: int | None) -> None:
    """Raises InputError if the source that chroma is to come from has none."""
    grey = next(
        (s[colour_from - 1] for s in scenes if colour_from and not s[colour_from - 1].is_colour), None
    )
    if grey is not None:
        raise InputError(f"colour from {colour_from}: {grey.name} is grey; name a source in colour")
