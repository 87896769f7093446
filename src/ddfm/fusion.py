"""The way of one pair: read, prepare, sample, restore.

Not called fuse.py, because `ddfm.fuse` is the function.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from ddfm import __version__
from ddfm.colour import blend_chroma, combine, luminance
from ddfm.devices import pick_device, pick_dtype
from ddfm.errors import InputError
from ddfm.geometry import Padding
from ddfm.images import Image, check_writable, write_image
from ddfm.likelihood import FORMS
from ddfm.prior import Prior, load_prior
from ddfm.sampler import SCHEDULERS, Step, sample
from ddfm.sources import Source, as_image, first_colour, match_sizes

# As in the released code. An EM iteration a step is all that the likelihood gets, so fewer steps leave
# the released form short of its fixed point (benchmarks/results/released_steps.csv).
DEFAULT_STEPS = 100


@dataclass(frozen=True)
class FusionResult:
    """A fused picture and what it was made with.

    Attributes:
        image: size and colour of the first colour source (or of the first one, if none is in
            colour), depth and alpha of the first source that has them.
        settings: version, prior, form, scheduler, steps, seed, device, dtype.
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
    prior: str | os.PathLike[str] | Prior = "natural",
    form: str = "released",
    scheduler: str = "ddim",
    steps: int = DEFAULT_STEPS,
    seed: int = 3407,
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
        prior: name, folder, or a loaded `Prior`.
        form: of the likelihood: ``"released"`` (what the authors' code computes) or ``"paper"`` (the
            published equations, which have no opinion between two sources: see README).
        scheduler: ``"ddim"``, ``"ddpm"`` or ``"dpm++"``.
        steps: network evaluations, 1 to the length of the prior's schedule.
        seed: of the starting noise, and of the scheduler's if it has any; 0 or more.
        device: ``"auto"`` (a GPU where there is one), ``"cpu"``, ``"cuda"``, ``"mps"``, ...
        dtype: of the network: ``"float32"``, ``"bfloat16"`` or ``"float16"``.
        resize: bring the other source to the size of the first colour source (bicubic) instead of
            refusing sources whose sizes differ.
        callback: called with a `Step` after every network evaluation.

    Raises:
        InputError: a source cannot be read, sizes differ, an option is not one of those above.
    """
    # 1. Read.
    sources = match_sizes([as_image(a, "first source"), as_image(b, "second source")], resize)
    # 2. Prepare: luminance in [-1, 1], padded to what the network takes.
    model = prior if isinstance(prior, Prior) else load_prior(prior)
    check_options(model, form=form, scheduler=scheduler, steps=steps, seed=seed, device=device, dtype=dtype)
    place = pick_device(device)
    model = model.to(place, pick_dtype(dtype))
    pixels = [torch.from_numpy(source.pixels).movedim(-1, 0)[None].to(place) for source in sources]
    padding = Padding.to_multiple(*sources[0].size, model.multiple)
    infrared, visible = (padding.pad(2 * luminance(image) - 1) for image in pixels)
    # 3. Sample. The noise is drawn on the CPU so that every device starts from the same.
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(1, model.channels, *infrared.shape[-2:], generator=generator).to(place)
    likelihood = FORMS[form](infrared, visible)
    f = sample(model, likelihood, noise, steps, scheduler=scheduler, generator=generator, callback=callback)
    # 4. Restore: the sources' size, chroma, depth and alpha.
    luma = likelihood.finish(padding.crop(luminance(f)))
    coloured = [image for image in pixels if image.shape[1] == 3]
    fused = combine(luma, blend_chroma(coloured)) if coloured else luma
    image = Image(
        pixels=fused[0].movedim(0, -1).cpu().numpy(),
        depth=sources[0].depth,
        alpha=next((source.alpha for source in sources if source.alpha is not None), None),
        icc_profile=first_colour(sources).icc_profile if coloured else None,
        name="fused",
    )
    settings = {
        "version": __version__,
        "prior": model.name,
        "form": form,
        "scheduler": scheduler,
        "steps": steps,
        "seed": seed,
        "device": str(place),
        "dtype": dtype,
    }
    return FusionResult(image, settings)


def check_options(
    prior: Prior,
    *,
    form: str,
    scheduler: str,
    steps: int,
    seed: int,
    device: str,
    dtype: str,
    **unchecked: Any,
) -> None:
    """Refuse what `fuse` would refuse of its options, before any picture is read. Raises InputError."""
    if form not in FORMS:
        raise InputError(f"form {form!r}: not one of {', '.join(FORMS)}")
    if scheduler not in SCHEDULERS:
        raise InputError(f"scheduler {scheduler!r}: not one of {', '.join(SCHEDULERS)}")
    if not 1 <= steps <= len(prior.alphas_cumprod):
        raise InputError(f"steps {steps}: not within 1 to {len(prior.alphas_cumprod)}")
    if not 0 <= seed < 2**63:
        raise InputError(f"seed {seed}: not within 0 to 2^63 - 1")
    pick_device(device)
    pick_dtype(dtype)
