"""The way of one pair: read, prepare, sample, restore.

Not called fuse.py, because `ddfm.fuse` is the function.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from numpy.typing import NDArray
from torch import Tensor

from ddfm import __version__
from ddfm.colour import blend_chroma, blend_exposed_chroma, combine, luminance
from ddfm.devices import pick_device, pick_dtype
from ddfm.errors import InputError
from ddfm.hierarchical import TASKS, HierarchicalLikelihood, Task
from ddfm.images import Image, check_writable, write_image
from ddfm.likelihood import FORMS, Likelihood
from ddfm.noise import GREY_LEVEL, clean_source
from ddfm.sampler import SCHEDULERS, Step, sample, spaced_timesteps
from ddfm.sources import Source, as_image, first_colour, match_sizes

if TYPE_CHECKING:
    from ddfm.prior import Prior

# The older forms get one EM iteration a step and no other, so that fewer steps than the released code's
# leave them short of their fixed point (benchmarks/results/released_steps.csv).
DEFAULT_STEPS = {"ddfm": 5, "paper": 100, "released": 100}
MAX_STEPS = 1000

# A warm start goes from a noise level that still leaves the scene open at the scale of details down to
# one below the grey levels' own: in units of [-1, 1], timesteps 200 and 10 of a linear schedule.
WARM_START, WARM_END = 0.73, 0.047

STRETCHES = ("auto", "none")
Noise = Literal["auto", "off"] | Sequence[float]


@dataclass(frozen=True)
class FusionResult:
    """A fused picture and what it was made with.

    Attributes:
        image: size and colour of the first colour source (or of the first one, if none is in
            colour), depth and alpha of the first source that has them.
        settings: version, prior (None if no network evaluation was needed), form, scheduler, steps,
            seed, task, stretch, device, dtype; noise: what was found in each source, and denoised: what
            the prior was told of it (0 where it was not asked), both in 8-bit grey levels.
    """

    image: Image
    settings: dict[str, Any]

    def to_array(self) -> NDArray[Any]:
        """(H, W) or (H, W, C) at the image's depth: uint8, uint16, or float32 in [0, 1]."""
        return self.image.to_array()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a PNG, JPEG, TIFF, BMP or WebP file, whole or not at all. Raises InputError."""
        path = Path(path)
        check_writable(path, self.image.depth, self.image.alpha is not None)
        write_image(path, self.image)


def fuse(
    a: Source,
    b: Source,
    *,
    prior: str | os.PathLike[str] | Prior | Callable[[], Prior] = "natural",
    form: str = "ddfm",
    scheduler: str = "ddim",
    steps: int | None = None,
    seed: int = 3407,
    task: str = "infrared",
    noise: Noise | None = None,
    stretch: str = "auto",
    device: str = "auto",
    dtype: str = "float32",
    resize: bool = False,
    callback: Callable[[Step], None] = lambda step: None,
) -> FusionResult:
    """Fuse two aligned pictures of one scene (DDFM, Zhao et al., ICCV 2023, algorithm 1).

    Args:
        a: the first source, the infrared image i of the paper: a path, an `Image`, a PIL image, an
            array (H, W) or (H, W, C) or a tensor (C, H, W); uint8, uint16, or floats in [0, 1].
        b: the second source, the visible image v of the paper.
        prior: name, folder, a loaded `Prior`, or a function that loads one; it is only loaded for steps
            other than 0 and for noisy sources.
        form: of the likelihood: ``"ddfm"`` (ours: it knows what each source has to say),
            ``"released"`` (what the authors' code computes) or ``"paper"`` (the published equations,
            which have no opinion between two sources: see docs/algorithm.md).
        scheduler: ``"ddim"``, ``"ddpm"`` or ``"dpm++"``.
        steps: network evaluations; 0 for the likelihood alone (form ``"ddfm"`` only). None for the
            form's own: 5 for ``"ddfm"``, 100 for the others.
        seed: of the starting noise, and of the scheduler's if it has any; 0 or more.
        task: what the sources are, for form ``"ddfm"``: ``"infrared"`` (with visible), ``"medical"`` (MRI
            with CT, PET or SPECT: nothing is sharpened or stretched), ``"exposure"`` (of one scene) or
            ``"focus"`` (on its parts).
        noise: ``"auto"`` to find out how noisy each source is and to denoise, with the prior, what is;
            ``"off"``; or the standard deviation in each source, in 8-bit grey levels. None for
            ``"auto"``, but ``"off"`` for medical pictures, which nothing is taken from unasked, and for the
            other forms, which know of no noise.
        stretch: ``"auto"`` for what the form does (``"ddfm"``: contrast raised by 9 % at most, as far
            as the range allows, for task infrared only; ``"released"``: to the full range;
            ``"paper"``: nothing) or ``"none"``.
        device: ``"auto"`` (a GPU where there is one), ``"cpu"``, ``"cuda"``, ``"mps"``, ...
        dtype: of the network: ``"float32"``, ``"bfloat16"`` or ``"float16"``.
        resize: bring the other source to the size of the first colour source (bicubic) instead of
            refusing sources whose sizes differ.
        callback: called with a `Step` after every sampling step.

    Raises:
        InputError: a source cannot be read, sizes differ, an option is not one of those above.
    """
    # 1. Read.
    sources = match_sizes([as_image(a, "first source"), as_image(b, "second source")], resize)
    check_options(
        form=form,
        scheduler=scheduler,
        steps=steps,
        seed=seed,
        task=task,
        noise=noise,
        stretch=stretch,
        device=device,
        dtype=dtype,
    )
    steps = DEFAULT_STEPS[form] if steps is None else steps
    if noise is None:
        noise = "auto" if form == "ddfm" and task != "medical" else "off"
    place = pick_device(device)

    @cache
    def model() -> Prior:
        return as_prior(prior).to(place, pick_dtype(dtype))

    if steps:
        check_steps(model(), form, steps)  # what is wrong with it should come out before any work is done
    # 2. Prepare: luminance in [-1, 1], without noise.
    pixels = [torch.from_numpy(source.pixels).movedim(-1, 0)[None].to(place) for source in sources]
    levels = [noise] * len(sources) if isinstance(noise, str) else [level * GREY_LEVEL for level in noise]
    cleaned = [
        clean_source(2 * luminance(image) - 1, model, level)
        for image, level in zip(pixels, levels, strict=True)
    ]
    likelihood = FORMS[form](
        [source.luma for source in cleaned], [source.left for source in cleaned], TASKS[task]
    )
    # 3. Sample.
    if steps:
        f = draw(model(), likelihood, steps, cleaned[0].luma, seed, scheduler, callback)
    else:
        assert likelihood.start is not None
        f = likelihood.start
    # 4. Restore: chroma, depth and alpha.
    luma = likelihood.finish(luminance(f), stretch == "auto")
    coloured = {
        k: without_noise(image, model, level) if source.told.any() else image
        for k, (image, source, level) in enumerate(zip(pixels, cleaned, levels, strict=True))
        if image.shape[1] == 3
    }
    fused = combine(luma, fused_chroma(coloured, luma, likelihood, TASKS[task])) if coloured else luma
    image = Image(
        pixels=fused[0].movedim(0, -1).cpu().numpy(),
        depth=sources[0].depth,
        alpha=next((source.alpha for source in sources if source.alpha is not None), None),
        icc_profile=first_colour(sources).icc_profile if coloured else None,
        name="fused",
    )
    denoised = [round(source.told.item() / GREY_LEVEL, 2) for source in cleaned]
    settings = {
        "version": __version__,
        "prior": model().name if steps or any(denoised) else None,
        "form": form,
        "scheduler": scheduler,
        "steps": steps,
        "seed": seed,
        "task": task,
        "noise": [round(source.found.item() / GREY_LEVEL, 2) for source in cleaned],
        "denoised": denoised,
        "stretch": stretch,
        "device": str(place),
        "dtype": dtype,
    }
    return FusionResult(image, settings)


def as_prior(prior: str | os.PathLike[str] | Prior | Callable[[], Prior]) -> Prior:
    """Whatever stands for a prior, loaded; raises InputError for what cannot be."""
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
    """A sample of p(f | sources), (1, C, H, W): from the likelihood's start if it has one, or from noise."""
    # Noise is drawn on the CPU so that every device starts from the same.
    generator = torch.Generator().manual_seed(seed)
    f = torch.randn(1, prior.channels, *like.shape[-2:], generator=generator).to(like)
    first, last = span(prior, warm=likelihood.start is not None)
    if likelihood.start is not None:
        alpha_cumprod = prior.alphas_cumprod[first]
        f = alpha_cumprod.sqrt().to(f) * likelihood.start + (1 - alpha_cumprod).sqrt().to(f) * f
    return sample(
        prior,
        likelihood,
        f,
        spaced_timesteps(first, last, steps),
        scheduler=scheduler,
        keep_noise=likelihood.start is not None,
        generator=generator,
        callback=callback,
    )


def fused_chroma(coloured: Mapping[int, Tensor], luma: Tensor, likelihood: Likelihood, task: Task) -> Tensor:
    """The chroma by the task's rule, (1, 3, H, W), of the sources in colour, given by their place."""
    images = list(coloured.values())
    if task.chroma == "exposure":
        return blend_exposed_chroma(images, luma)
    if task.chroma == "choice" and isinstance(likelihood, HierarchicalLikelihood):
        choice = likelihood.choice()
        return blend_chroma(images, [choice[:, k : k + 1] for k in coloured])
    return blend_chroma(images)


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


def without_noise(image: Tensor, model: Callable[[], Prior], level: float | Literal["auto", "off"]) -> Tensor:
    """Each channel of a colour image (1, 3, H, W) in [0, 1] denoised, for its chroma."""
    channels = clean_source(2 * image.movedim(1, 0) - 1, model, level).luma
    return ((channels.movedim(0, 1) + 1) / 2).clamp(0, 1)


def check_options(
    *,
    form: str,
    scheduler: str,
    steps: int | None,
    seed: int,
    task: str,
    noise: Noise | None,
    stretch: str,
    device: str,
    dtype: str,
    **unchecked: Any,
) -> None:
    """Refuse what `fuse` would refuse of its options, before any picture is read. Raises InputError."""
    for name, value, known in (
        ("form", form, FORMS),
        ("scheduler", scheduler, SCHEDULERS),
        ("task", task, TASKS),
        ("stretch", stretch, STRETCHES),
    ):
        if value not in known:
            raise InputError(f"{name} {value!r}: not one of {', '.join(known)}")
    fewest = 0 if form == "ddfm" else 1
    if steps is not None and not fewest <= steps <= MAX_STEPS:
        raise InputError(f"steps {steps}: not within {fewest} to {MAX_STEPS} for form {form}")
    if not 0 <= seed < 2**63:
        raise InputError(f"seed {seed}: not within 0 to 2^63 - 1")
    if isinstance(noise, str) and noise not in ("auto", "off"):
        raise InputError(f"noise {noise!r}: not auto, off or a level for each source")
    levels = (0.0, 0.0) if noise is None or isinstance(noise, str) else noise
    if not isinstance(levels, Sequence) or len(levels) != 2 or not all(0 <= level < 255 for level in levels):
        raise InputError(f"noise {noise}: not two levels, one for each source, of 0 to 255 grey levels")
    pick_device(device)
    pick_dtype(dtype)
