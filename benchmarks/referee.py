"""Ask the prior which of two composites is locally the more natural one, and measure what it knows.

    python benchmarks/referee.py DATA

The score of a diffusion model bounds how probable a picture is: the lower the denoising error over all
noise levels, the more probable (Ho et al. 2020, eq. 12). Its map, averaged over a neighbourhood, could judge
composites place by place. Two parts, both with the bundled prior:

* photographs: held-out photographs, a patch of each altered in ways that fusion alters pictures. How often
  the referee finds the altered patch the less natural one.
* pairs: two composites of every n-th pair, one leaning to either camera (balance .3 and .7). Each place is
  taken from the one that the referee prefers, or from the other one, or both are averaged.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from common import circumstances, measure_parts, script_parser
from PIL import Image as PILImage
from quality.tables import Job, measure
from torch import Tensor

from ddfm.benchmark.methods import Method
from ddfm.fusion.pipeline import fuse
from ddfm.pictures.colour import luminance
from ddfm.pictures.image import Image, from_array
from ddfm.pictures.pyramid import smooth
from ddfm.pictures.tiles import Padding
from ddfm.priors.base import Prior
from ddfm.priors.loading import load_prior
from ddfm.training.crops import find_images

SIGMAS = (0.1, 0.2, 0.4, 0.8)  # of [-1, 1]: what is smaller is detail that both composites share
SIDE = 256
PHOTOGRAPHS = 25
PATCH = 0.65  # quantile of blurred noise above which the patch lies
LEANINGS = (0.3, 0.7)
DECISIVE = 0.05  # share of the mean surprise by which one composite must lie below the other
METRICS = ("MI", "SCD", "VIF", "Qabf", "SSIM_dr2", "AG", "SD")


def main() -> None:
    parser = script_parser(__doc__, "referee.json", data=True, parts=("photographs", "tno", "msrs"))
    arguments = parser.parse_args()
    prior = load_prior()
    parts: dict[str, Callable[[], object]] = {
        "photographs": partial(photographs, prior, arguments.data / "natural" / "bsds500" / "val"),
        "tno": partial(pairs, prior, arguments.data, "tno", "ivf/tno", 3),
        "msrs": partial(pairs, prior, arguments.data, "msrs", "ivf/msrs", 8),
    }
    measure_parts(parts, arguments.output, arguments.only, facts=circumstances)


def surprise(prior: Prior, pictures: Tensor) -> Tensor:
    """Return the denoising error, in units of the noise, summed over levels, (B, 1, H, W).

    All pictures (B, 1, H, W) get the same noise, once with either sign, so that what they share cancels.
    """
    height, width = pictures.shape[-2:]
    padding = Padding.to_multiple(height, width, prior.multiple)
    total = torch.zeros_like(pictures)
    for seed, sigma in enumerate(SIGMAS):
        noise = torch.randn(1, 1, height, width, generator=torch.Generator().manual_seed(seed))
        for signed in (sigma * noise, -sigma * noise):
            clean = padding.crop(prior.denoise(padding.pad(pictures + signed), sigma))
            total += ((clean - pictures) / sigma).square()
    return total


# --- Photographs -----------------------------------------------------------------------------------


def photographs(prior: Prior, folder: Path) -> dict[str, float]:
    """Return, by kind of alteration, the share of patches whose alteration the referee notices."""
    every = len(find_images([folder])) // PHOTOGRAPHS
    shown = [central(path) for path in find_images([folder])[::every]]
    noticed: dict[str, list[bool]] = {}
    for index, picture in enumerate(shown):
        patch = a_patch(index)
        altered = alterations(picture, shown[(index + 7) % len(shown)], patch)
        found = surprise(prior, torch.cat([picture, *altered.values()]).clamp(-1, 1))
        judged = ((found[1:] - found[:1]) * patch).sum((1, 2, 3)) > 0
        for kind, unnatural in zip(altered, judged.tolist(), strict=True):
            noticed.setdefault(kind, []).append(unnatural)
    return {kind: round(float(np.mean(seen)), 2) for kind, seen in noticed.items()}


def central(path: Path) -> Tensor:
    """Return the middle of a photograph's luminance, (1, 1, SIDE, SIDE) in [-1, 1]."""
    picture = np.asarray(PILImage.open(path).convert("L"), dtype=np.float32)
    top, left = (picture.shape[0] - SIDE) // 2, (picture.shape[1] - SIDE) // 2
    return torch.from_numpy(picture[top : top + SIDE, left : left + SIDE].copy())[None, None] / 127.5 - 1


def a_patch(seed: int) -> Tensor:
    """Return an irregular patch, 1 inside, with a border of some 8 pixels, (1, 1, SIDE, SIDE)."""
    noise = smooth(torch.randn(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)), 5)
    return smooth((noise > noise.flatten().quantile(PATCH)).float(), 2)


def alterations(x: Tensor, other: Tensor, patch: Tensor) -> dict[str, Tensor]:
    """Return x with its patch altered as fusion may alter it."""
    return {
        "darker by a fifth of the range": x - 0.4 * patch,
        "brighter by a fifth of the range": x + 0.4 * patch,
        "half as much contrast": x - 0.5 * patch * (x - smooth(x, 5)),
        "half as bright": x - 0.5 * patch * (x + 1),
        "without details": x - patch * (x - smooth(x, 5)),
        "with another picture's details on top": x + 0.7 * patch * (other - smooth(other, 3)),
        "the mean with another picture": x + 0.5 * patch * (other - x),
        "another picture's intensities": x + patch * smooth(other - x, 4),
    }


# --- Pairs -----------------------------------------------------------------------------------------


def pairs(prior: Prior, data: Path, name: str, folder: str, every: int) -> dict[str, object]:
    """Return the mean of each metric by method, of grey pictures: as it is, and as the referee has it."""
    found = Job(data, prior, every=every).pairs(name, folder)
    methods = [
        Method("as it is", lambda a, b: grey(luminance_of(a, b, 0.5))),
        Method("what the referee prefers", partial(refereed, prior, 1.0)),
        Method("the mean of both", partial(refereed, prior, 0.0)),
        Method("what the referee rejects", partial(refereed, prior, -1.0)),
    ]
    results = measure(name, found, methods).results
    rows = {
        method: {metric: round(result.mean[metric], 3) for metric in METRICS}
        for method, result in results.items()
    }
    return {"pairs": len(found), **rows}


def refereed(prior: Prior, preference: float, a: Image, b: Image) -> Image:
    """Fuse with either leaning, and take each place from the one with less surprise; from the other at -1."""
    leaning = torch.cat([luminance_of(a, b, balance) for balance in LEANINGS])
    found = smooth(surprise(prior, leaning), 4)
    odds = (found[1:] - found[:1]) / (found.mean() * DECISIVE)
    return grey(torch.lerp(leaning[1:], leaning[:1], (preference * odds).sigmoid()))


def luminance_of(a: Image, b: Image, balance: float) -> Tensor:
    """Fuse the luminances without the prior, (1, 1, H, W) in [-1, 1]."""
    fused = fuse(a, b, balance=balance, steps=0, noise="off").image
    pixels = torch.from_numpy(fused.pixels).movedim(-1, 0)[None]
    return luminance(pixels) * 2 - 1


def grey(luma: Tensor) -> Image:
    """Return (1, 1, H, W) in [-1, 1] as a grey picture of 8 bits."""
    return from_array(((luma[0, 0].clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy())


if __name__ == "__main__":
    main()
