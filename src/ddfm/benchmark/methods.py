"""What a benchmark compares: trivial baselines, OpenCV's and the vendors' ways, ours, others' outputs.

The baselines are in every table because each of them wins single metrics: a number only says something
beside theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ddfm.benchmark.datasets import Dataset
from ddfm.benchmark.evaluation import image_files
from ddfm.errors import InputError
from ddfm.fusion.options import Options
from ddfm.fusion.pipeline import Fusion
from ddfm.likelihoods.forms import FORMS
from ddfm.pictures.colour import blend_chroma, combine, luminance
from ddfm.pictures.image import Image
from ddfm.pictures.pyramid import compose, decompose
from ddfm.priors.base import Prior
from ddfm.priors.loading import load_prior

GreyOrRgb = NDArray[np.uint8]
"""A picture without alpha, (H, W, 1) or (H, W, 3)."""
Rule = Callable[[Tensor, Tensor, int], Tensor]
"""Two luminances (1, H, W) in [0, 1] and a seed to a fused luminance, to be clipped to [0, 1]."""

SEED = 3407  # of our sampling and of mean-noise
LAPLACIAN_BANDS = 5
MSX_SIGMA, MSX_GAIN = 2.0, 1.0  # pixels of the blur that leaves the edges; how strongly they are laid over
NOISE = 10 / 255  # standard deviation: enough to win SF and AG, and plain to see


@dataclass(frozen=True)
class Method:
    """A row of the table: a function to run, or the outputs that somebody else's program left.

    Attributes:
        name: the row's name.
        fuse: two sources of one size to the fused image; None if the outputs lie in files.
        outputs: those files by the pair's stem.
        baseline: whether it is one of the trivial ones.
        settings: what a run was made with; ours fill in what all pairs had in common.
    """

    name: str
    fuse: Callable[[Image, Image], Image] | None = None
    outputs: dict[str, Path] = field(default_factory=dict)
    baseline: bool = False
    settings: dict[str, Any] = field(default_factory=dict)


def mean(a: Tensor, b: Tensor, seed: int) -> Tensor:
    """Return the mean of the sources."""
    return (a + b) / 2


def maximum(a: Tensor, b: Tensor, seed: int) -> Tensor:
    """Return the larger value at each pixel."""
    return torch.maximum(a, b)


def laplacian(a: Tensor, b: Tensor, seed: int) -> Tensor:
    """Select the larger coefficient of a Laplacian pyramid, and average the rest (Burt 1984)."""
    bands, base = decompose(torch.stack([a, b], 1), LAPLACIAN_BANDS)
    chosen = [band.gather(1, band.abs().argmax(1, keepdim=True)) for band in bands]
    return compose(chosen, base.mean(1, keepdim=True))[:, 0]


def msx(a: Tensor, b: Tensor, seed: int) -> Tensor:
    """Lay the edges of the visible picture, the second, over the thermal one, as cameras' overlays do.

    Source: FLIR's patent on MSX, US 8,565,547 B2 (2013): what a high-pass filter leaves of the luminance of
    the visible picture is added to that of the thermal one. Cutoff and gain of products are not published.
    """
    return a + MSX_GAIN * (b - _blurred(b, MSX_SIGMA))


def _blurred(plane: Tensor, sigma: float) -> Tensor:
    """Blur (1, H, W) by a Gaussian, edges continued."""
    reach = int(3 * sigma)
    weights = torch.exp(-(torch.arange(-reach, reach + 1, dtype=plane.dtype) ** 2) / (2 * sigma**2))
    weights = weights / weights.sum()
    wide = F.pad(plane[None], (reach,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(wide, weights[None, None, None]), weights[None, None, :, None])[0]


def stretched_mean(a: Tensor, b: Tensor, seed: int) -> Tensor:
    """Return the mean, its darkest pixel made black and its brightest white."""
    fused = (a + b) / 2
    low, high = fused.aminmax()
    return (fused - low) / (high - low).clamp_min(torch.finfo(fused.dtype).tiny)


def clipped_sum(a: Tensor, b: Tensor, seed: int) -> Tensor:
    """Return a + b about middle grey (128 of 255): wins EN, SD and SCD at once."""
    total = a + b
    return total - total.mean() + 128 / 255


def mean_noise(a: Tensor, b: Tensor, seed: int) -> Tensor:
    """Return the mean with Gaussian noise of ten grey levels on it."""
    generator = torch.Generator().manual_seed(seed)
    return (a + b) / 2 + NOISE * torch.randn(a.shape, generator=generator)


RULES: dict[str, Rule] = {
    "mean": mean,
    "max": maximum,
    "stretched-mean": stretched_mean,
    "clipped-sum": clipped_sum,
    "mean-noise": mean_noise,
}
BASELINES = (*RULES, "a-only", "b-only")


def on_luminance(rule: Rule, seed: int, a: Image, b: Image) -> Image:
    """Apply a rule to the luminance, and add the chroma of the sources in colour, as `ddfm.fuse` does."""
    pixels = [torch.from_numpy(image.pixels).movedim(-1, 0) for image in (a, b)]
    fused = rule(luminance(pixels[0]), luminance(pixels[1]), seed).clamp(0, 1)
    coloured = [image for image in pixels if image.shape[0] == 3]
    if coloured:
        fused = combine(fused, blend_chroma(coloured))
    return Image(fused.movedim(0, -1).numpy(), a.depth)


def merge_mertens(a: Image, b: Image) -> Image:
    """Fuse by OpenCV's exposure fusion (Mertens, Kautz, Van Reeth, Pacific Graphics 2007) at its defaults."""
    import cv2

    pictures = [as_bytes(image) for image in (a, b)]
    channels = max(picture.shape[2] for picture in pictures)
    stack = [np.ascontiguousarray(np.broadcast_to(p, (*p.shape[:2], channels))) for p in pictures]
    fused = np.asarray(cv2.createMergeMertens().process(stack), np.float32)
    return Image(fused.reshape(*a.size, channels).clip(0, 1), a.depth)


def as_bytes(image: Image) -> GreyOrRgb:
    """Return pixels as uint8, (H, W, 1) or (H, W, 3), without alpha: metrics are defined on them."""
    # In float64, as samples are written: in float32 some halves would be rounded otherwise.
    return np.rint(image.pixels.astype(np.float64) * 255).astype(np.uint8)


def is_ours(name: str) -> bool:
    """Tell whether a method of that name is this package's fusion, in any form."""
    return name == "ddfm" or name.startswith("ddfm:")


def find_methods(
    names: Sequence[str],
    dataset: Dataset,
    stems: Sequence[str],
    *,
    steps: int | None = None,
    seed: int = SEED,
    device: str = "auto",
) -> list[Method]:
    """Return the methods of those names in that order, then the baselines that were not named.

    Names are ``ddfm`` (defaults), ``ddfm:<form of the likelihood>``, ``mergemertens``, ``laplacian``, ``msx``
    and those in `BASELINES`. A path names a folder with one output for each of ``stems``. ``msx`` is the edge
    overlay of thermal cameras.

    Raises InputError: an unknown name, a folder that lacks an output, an option that `ddfm.fuse` refuses.
    """
    found: dict[str, Method] = {}
    prior = load_prior() if any(map(is_ours, names)) else None
    for name in (*names, *BASELINES):
        if name in found:
            continue
        if prior is not None and is_ours(name):
            method = _diffusion(name, dataset, prior, steps, seed, device)
        elif name in BASELINES:
            method = _baseline(name, seed)
        elif name == "mergemertens":
            method = _mertens(dataset)
        elif name == "msx":
            method = _msx(dataset, seed)
        elif name == "laplacian":
            method = Method(name, partial(on_luminance, laplacian, seed))
        else:
            method = _folder(name, stems)
        if method.name in found or (method.outputs and method.name in BASELINES):
            raise InputError(f"two methods are called {method.name}: rename one, they go by that name")
        found[method.name] = method
    return list(found.values())


def _baseline(name: str, seed: int) -> Method:
    if name in RULES:
        return Method(name, partial(on_luminance, RULES[name], seed), baseline=True)
    return Method(name, (lambda a, b: a) if name == "a-only" else (lambda a, b: b), baseline=True)


def _mertens(dataset: Dataset) -> Method:
    if dataset.task not in ("exposure", "any"):
        raise InputError(f"mergemertens fuses exposures; {dataset.title} is not a set of those")
    try:
        import cv2
    except ImportError as error:
        raise InputError("mergemertens needs OpenCV: pip install 'ddfm[bench]'") from error
    return Method("mergemertens", merge_mertens, settings={"opencv": cv2.__version__})


def _msx(dataset: Dataset, seed: int) -> Method:
    if dataset.task not in ("infrared", "any"):
        raise InputError(f"msx lays edges over thermal pictures; {dataset.title} is not a set of those")
    settings = {"sigma": MSX_SIGMA, "gain": MSX_GAIN}
    return Method("msx", partial(on_luminance, msx, seed), settings=settings)


def _folder(name: str, stems: Sequence[str]) -> Method:
    folder = Path(name)
    if not folder.is_dir():
        known = ("ddfm", *(f"ddfm:{form}" for form in FORMS), "mergemertens", "laplacian", "msx", *BASELINES)
        raise InputError(f"{name}: neither a method ({', '.join(known)}) nor a folder of fused images")
    files = image_files(folder)
    if missing := [stem for stem in stems if stem not in files]:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise InputError(f"{folder}: has no image called {missing[0]}{more}; each pair needs its output")
    return Method(folder.resolve().name, outputs={stem: files[stem] for stem in stems})


def _diffusion(
    name: str, dataset: Dataset, prior: Prior, steps: int | None, seed: int, device: str
) -> Method:
    """Make the method ``ddfm``, at its defaults for the data's task, or ``ddfm:<form>``."""
    # In float32 everywhere, so that numbers of different machines can be compared.
    options = Options(
        form="ddfm" if name == "ddfm" else name.removeprefix("ddfm:"),
        task="auto" if dataset.task == "any" else dataset.task,
        steps=steps,
        seed=seed,
        device=device,
        dtype="float32",
    )
    fusion = Fusion(options, prior)
    settings: dict[str, Any] = {}
    first, lock = [True], Lock()

    def run(a: Image, b: Image) -> Image:
        (result,) = fusion.of([[a, b]])
        with lock:
            if first:
                first.clear()
                settings.update(result.settings)
            for key in [key for key, value in settings.items() if result.settings.get(key) != value]:
                del settings[key]  # of a pair, not of the run
        return result.image

    return Method(name, run, settings=settings)
