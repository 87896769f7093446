"""Part "noise" of quality.py: degraded crops, fused in several ways, against the clean sources."""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage

from ddfm.benchmark.methods import Method, as_bytes
from ddfm.formats.pictures import read_image
from ddfm.fusion.pipeline import fuse
from ddfm.jobs.matching import Group
from ddfm.pictures.image import Image, from_array
from ddfm.priors.base import Prior
from quality.tables import CEILING, LIKELIHOOD, OURS, Job, Measured, Row, Table, measure, ours

Bytes = NDArray[np.uint8]

CROP, CROPS = 256, 6
NOISE_METRICS = ("VIF", "Qabf", "MI", "SSIM_dr2")
BLUR = 1.0  # pixels, of the Gaussian blur
NL_MEANS = 0.9  # h for each grey level of noise: the best of .8 to 1.5 by PSNR on four TNO pictures
CLEAN = "none (clean)"
LEVEL = 0.97  # of the reference's value that still counts as level with it

Degrade = Callable[[Bytes, np.random.Generator], NDArray[Any]]
Denoise = Callable[[Bytes, float], NDArray[Any]]


def gaussian(sigma: float) -> Degrade:
    return lambda x, random: x + random.normal(0, sigma, x.shape)


def stripes(axis: int, noise: float = 0, deviation: float = 6) -> Degrade:
    """Offsets of columns (axis 0: the same all along it) or rows, and noise."""

    def degrade(x: Bytes, random: np.random.Generator) -> NDArray[Any]:
        offsets = random.normal(0, deviation, x.shape[1 - axis])
        return x + np.expand_dims(offsets, axis) + random.normal(0, 1, x.shape) * noise

    return degrade


def jpeg(x: Bytes, random: np.random.Generator) -> NDArray[Any]:
    import cv2

    data = cv2.imencode(".jpg", x, [cv2.IMWRITE_JPEG_QUALITY, 30])[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE))


@dataclass(frozen=True)
class Degradation:
    """What is done to the first source (infrared) alone or to both.

    ``sigma`` is what a denoiser is told: the true level, or for JPEG, where there is none, the rms of what
    it changed.
    """

    name: str
    degrade: Degrade
    both: bool
    sigma: float | None = None

    def apply(self, image: Image, first: bool) -> tuple[Bytes, float]:
        """The degraded picture, clipped and rounded to 8 bits, and sigma; 0 if this source is spared."""
        clean = as_bytes(image)[..., 0]
        if not (first or self.both):
            return clean, 0.0
        seed = zlib.crc32(f"{self.name} {Path(image.name).stem} {first}".encode())
        changed = np.rint(self.degrade(clean, np.random.default_rng(seed))).clip(0, 255).astype(np.uint8)
        rms = float(np.sqrt(np.mean((changed.astype(float) - clean) ** 2)))
        return changed, rms if self.sigma is None else self.sigma


DEGRADATIONS = (
    Degradation("Gaussian 10 on both", gaussian(10), True, 10),
    Degradation("Gaussian 20 on both", gaussian(20), True, 20),
    Degradation("Gaussian 10 on the first", gaussian(10), False, 10),
    Degradation("Gaussian 20 on the first", gaussian(20), False, 20),
    Degradation("columns 6 on the first", stripes(0), False, 6),
    Degradation("rows 6 on the first", stripes(1), False, 6),
    Degradation("columns 6 and noise 10 on the first", stripes(0, 10), False, 136**0.5),
    Degradation("rows 6 and noise 10 on the first", stripes(1, 10), False, 136**0.5),
    Degradation("JPEG 30 on both", jpeg, True),
    Degradation(CLEAN, gaussian(0), False, 0),
)


def blur(x: Bytes, sigma: float) -> NDArray[Any]:
    import cv2

    return cv2.GaussianBlur(x, (0, 0), BLUR)


def nl_means(x: Bytes, sigma: float) -> NDArray[Any]:
    import cv2

    return cv2.fastNlMeansDenoising(x, None, NL_MEANS * sigma, 7, 21)


def bm3d(x: Bytes, sigma: float) -> NDArray[Any]:
    import bm3d as package

    return np.asarray(package.bm3d(x.astype(np.float64), sigma)).clip(0, 255).astype(np.float32) / 255


def noise(job: Job) -> list[Table]:
    """Degraded crops, fused, against the clean sources."""
    with tempfile.TemporaryDirectory() as folder:
        crops = {
            "TNO": make_crops(job.pairs("tno", "ivf/tno"), Path(folder, "tno"), max(1, CROPS // job.every)),
            "RoadScene": make_crops(
                job.pairs("roadscene", "ivf/roadscene"), Path(folder, "roadscene"), max(1, CROPS // job.every)
            ),
        }
        found = {
            degradation.name: {
                which: measure(
                    f"noise, {degradation.name}, {which}", pairs, noisy_methods(job.prior, degradation)
                )
                for which, pairs in crops.items()
            }
            for degradation in DEGRADATIONS
        }
    return [
        Table(
            "Ours, blind, beside the others",
            {name: noise_verdict(of_sets) for name, of_sets in found.items() if name != CLEAN},
            f"Yes, or every metric in which ours is below. Level: at least {LEVEL:.0%} of BM3D's value.",
        ),
        *(
            Table(name, noise_rows(of_sets), "Means over the crops of each set.")
            for name, of_sets in found.items()
        ),
    ]


def make_crops(pairs: Sequence[Group], folder: Path, count: int) -> list[Group]:
    """Grey crops from the middle of some pairs that are large enough, as PNG files."""
    large = [pair for pair in pairs if min(read_image(pair.files[0]).size) >= CROP]
    chosen = np.random.default_rng(0).choice(len(large), count, replace=False)
    made = []
    for pair in (large[i] for i in sorted(chosen)):
        files = []
        for kind, path in zip("ab", pair.files, strict=True):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            files.append(folder / kind / f"{pair.stem}.png")
            with PILImage.open(path) as picture:
                left, top = (picture.width - CROP) // 2, (picture.height - CROP) // 2
                picture.convert("L").crop((left, top, left + CROP, top + CROP)).save(files[-1])
        made.append(Group(pair.stem, tuple(files)))
    return made


def noisy_methods(prior: Prior, degradation: Degradation) -> list[Method]:
    """Every method takes the clean sources, which it is scored against, and degrades them first."""

    def denoised(name: str, denoise: Denoise | None) -> Method:
        def run(*clean: Image) -> Image:
            sources = []
            for index, image in enumerate(clean):
                x, sigma = degradation.apply(image, index == 0)
                y = x if denoise is None or sigma == 0 else denoise(x, sigma)
                sources.append(from_array(y))
            return fuse(*sources, prior=prior, steps=0, noise="off").image

        return Method(name, run)

    def blind(name: str, **options: Any) -> Method:
        def run(*clean: Image) -> Image:
            noisy = [degradation.apply(image, index == 0)[0] for index, image in enumerate(clean)]
            return fuse(noisy[0], noisy[1], prior=prior, noise="auto", **options).image

        return Method(name, run)

    return [
        denoised("likelihood only", None),
        denoised("Gaussian blur first", blur),
        denoised("non-local means first", nl_means),
        denoised("BM3D first", bm3d),
        blind(OURS),
        blind(LIKELIHOOD, steps=0),
        ours(CEILING, prior, steps=0, noise="off"),
    ]


def noise_rows(of_sets: Mapping[str, Measured]) -> dict[str, Row]:
    """A row for each method: the metrics on each set, and seconds."""
    first = next(iter(of_sets.values()))
    rows: dict[str, Row] = {}
    for name in first.results:
        rows[name] = {
            f"{metric} {which}": found.results[name].mean[metric]
            for which, found in of_sets.items()
            for metric in NOISE_METRICS
        }
        rows[name]["seconds"] = first.seconds[name] or 0.0
    return rows


def noise_verdict(of_sets: Mapping[str, Measured]) -> Row:
    """Ours against each other way in every metric on every set: yes, or where not."""

    def where_not(reference: str, share: float) -> str:
        below = [
            f"{metric} {which} {means[OURS].mean[metric]:.3f} < {means[reference].mean[metric]:.3f}"
            for which, means in ((which, found.results) for which, found in of_sets.items())
            for metric in NOISE_METRICS
            if means[OURS].mean[metric] < share * means[reference].mean[metric]
        ]
        return "yes" if not below else f"not in {', '.join(below)}"

    return {
        "above likelihood only": where_not("likelihood only", 1),
        "above non-local means": where_not("non-local means first", 1),
        "above Gaussian blur": where_not("Gaussian blur first", 1),
        "level with BM3D": where_not("BM3D first", LEVEL),
    }
