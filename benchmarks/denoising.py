"""One-step denoising by a prior beside methods that learned nothing, on held-out photographs.

    python benchmarks/denoising.py bsds500/val natural bm3d nl-means wavelet

White Gaussian noise is added to the luminance of every image (seed = its place in the list), not
rounded and not clipped; every method is told sigma. The score is the mean PSNR over the images,
10 log10(255^2 / MSE) with the estimate clipped to [0, 255]. Rows are merged into
results/denoising.json, so that the slow references need to run only once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import measure_parts, script_parser
from numpy.typing import NDArray
from PIL import Image

from ddfm.pictures.tiles import Padding
from ddfm.priors.loading import load_prior
from ddfm.training.crops import find_images

SIGMAS = (15, 25, 50)
Denoiser = Callable[[NDArray[np.float64], float], NDArray[Any]]


def bm3d() -> Denoiser:
    import bm3d

    return lambda noisy, sigma: bm3d.bm3d(noisy, sigma)


def nl_means() -> Denoiser:
    from skimage.restoration import denoise_nl_means

    def denoise(noisy: NDArray[np.float64], sigma: float) -> NDArray[Any]:
        return denoise_nl_means(
            noisy, patch_size=5, patch_distance=6, h=0.6 * sigma, sigma=sigma, fast_mode=True
        )

    return denoise


def wavelet() -> Denoiser:
    from skimage.restoration import cycle_spin, denoise_wavelet

    def denoise(noisy: NDArray[np.float64], sigma: float) -> NDArray[Any]:
        options = {"sigma": sigma, "method": "BayesShrink", "mode": "soft"}
        return cycle_spin(noisy, func=denoise_wavelet, max_shifts=3, func_kw=options, workers=1)

    return denoise


def prior(name: str) -> Denoiser:
    model = load_prior(name)

    def denoise(noisy: NDArray[np.float64], sigma: float) -> NDArray[Any]:
        image = torch.from_numpy(noisy).float()[None, None] / 127.5 - 1
        padding = Padding.to_multiple(noisy.shape[0], noisy.shape[1], model.multiple)
        clean = padding.crop(model.denoise(padding.pad(image), sigma / 127.5))
        return (clean[0, 0].numpy().astype(np.float64) + 1) * 127.5

    return denoise


REFERENCES = {"bm3d": bm3d, "nl-means": nl_means, "wavelet": wavelet}


def measure(denoise: Denoiser, images: list[Path]) -> dict[str, float]:
    """Mean PSNR in dB for every sigma."""
    row: dict[str, float] = {}
    for sigma in SIGMAS:
        scores = []
        for index, path in enumerate(images):
            clean = np.asarray(Image.open(path).convert("L"), dtype=np.float64)
            noisy = clean + np.random.default_rng(index).normal(0, sigma, clean.shape)
            estimate = denoise(noisy, sigma).clip(0, 255)
            scores.append(10 * np.log10(255**2 / np.mean((estimate - clean) ** 2)))
        row[f"sigma {sigma}"] = round(float(np.mean(scores)), 3)
    return row


def main() -> None:
    parser = script_parser(__doc__, "denoising.json", every="photograph")
    parser.add_argument("images", type=Path, help="folder of held-out photographs")
    parser.add_argument("methods", nargs="+", help=f"priors, and any of {', '.join(REFERENCES)}")
    arguments = parser.parse_args()
    images = find_images([arguments.images])[:: arguments.every]

    def row(method: str) -> dict[str, Any]:
        found = measure(REFERENCES[method]() if method in REFERENCES else prior(method), images)
        print(found, flush=True)
        return {"images": len(images), **found}

    measure_parts({method: partial(row, method) for method in arguments.methods}, arguments.output)


if __name__ == "__main__":
    main()
