"""The way of the sources: read, prepare, sample, restore."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from ddfm import __version__
from ddfm.devices import pick_device, pick_dtype
from ddfm.errors import InputError
from ddfm.fusion.options import DEFAULT_STEPS, Noise, check_options
from ddfm.fusion.prepare import Stack, as_tensor, by_size, in_given_order, order_of_contents, prepared
from ddfm.fusion.restore import restored, with_chroma, without_noise
from ddfm.fusion.result import FusionResult, largest
from ddfm.fusion.sources import Source, as_sources, match_sizes
from ddfm.fusion.task import Choice, choose_for_all
from ddfm.likelihoods.base import Likelihood
from ddfm.likelihoods.forms import likelihood_of
from ddfm.likelihoods.tasks import TASKS
from ddfm.pictures.colour import luminance
from ddfm.pictures.image import Image, with_shared_range
from ddfm.pictures.tiles import Tile
from ddfm.registration.bring import registered
from ddfm.registration.models import Registering
from ddfm.sampling.draw import draw_all, span
from ddfm.sampling.loop import Step
from ddfm.sampling.uncertainty import posterior_std
from ddfm.threads import fair_threads
from ddfm.timing import FUSED, stage

if TYPE_CHECKING:
    from ddfm.priors.diffusion import Prior


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
            ``"focus"`` (on its parts). ``"auto"`` finds out: `ddfm.fusion.task.choose_task`.
        colour_from: number of the source, counted from 1, whose chroma is taken; None for the task's
            own rule (`with_chroma`).
        noise: ``"auto"`` to find out how noisy each source is and to denoise, with the prior, what is;
            ``"off"``; or the standard deviation in each source, in 8-bit grey levels. None for
            ``"auto"``, but ``"off"`` for medical pictures, which nothing is taken from unasked, and for the
            other forms, which know of no noise.
        stretch: ``"auto"`` for what the form does (``"ddfm"``: contrast raised as far as the range allows,
            by 9 % at most for task infrared, 20 % for exposures, not at all for the others;
            ``"released"``: to the full range; ``"paper"``: nothing) or ``"none"``.
        uncertainty: whether to find out how far posterior samples spread (`ddfm.sampling.uncertainty`).
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


@fair_threads()
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
            come to the same one when they are padded to multiples of `ddfm.priors.diffusion.Prior.multiple`.
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


def as_prior(prior: str | os.PathLike[str] | Prior | Callable[[], Prior]) -> Prior:
    """Whatever stands for a prior, loaded; raises InputError for what cannot be."""
    with stage("import"):
        from ddfm.priors.diffusion import Prior
        from ddfm.priors.loading import load_prior

    if isinstance(prior, Prior):
        return prior
    return load_prior(prior) if isinstance(prior, str | os.PathLike) else prior()


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
