"""What becomes of degraded sources, and of their fusion: camera noise, white noise, blur, missing pixels.

    python benchmarks restoration DATA [--only PART ...] [--crops N] [--output FILE]

Crops of 256x256 pixels from the middle of N pairs each of TNO and RoadScene are degraded, restored in several
ways and fused. Parts:

- camera, METHOD: photographs of the visible source by a camera (camera_model.py) at three gains, or of both
  sources, restored by that method;
- white, METHOD: noise of standard deviation 10, 20 and 30 on both, likewise;
- other white, METHOD: the same on three other crops of each set, which nothing was chosen on;
- curve: how far the noise curve, found blind, is from the true one at the quartiles of intensity;
- clean: in how many pictures of all sets noise is found as they are, and in how many crops from their corners
  and middle;
- blur: the infrared source blurred by 1 to 3 pixels, with noise of 2 and 5, and a step edge: PSNR, overshoot;
- found blur: how near the blur found blind is to the true one, 1 to 3 pixels with noise of 2 and 5;
- soft: in which pictures of all sets a blur is found as they are;
- missing: 10 % of the pixels missing at random, or in blocks of 16x16 pixels, of both sources: PSNR of the
  filled source, beside OpenCV's inpainting with a radius of 3 pixels;
- defects: single pixels of infrared, also of MSRS, that are dead (0), hot (255) or stuck at any level: PSNR
  of the source as it is, through a median of 3x3 pixels, and with those filled that are found blind;
- clean defects: in which pictures of all sets defects are found as they are, and the most sure ones of one;
- m3svd: frames with known degradation (degraded/m3svd), 256x256 pixels of their middle.

A fusion is scored against that of the clean sources (VIF, Qabf, MI, SSIM). All are fused with 0 steps, so
that they differ by what was done to the sources alone. BM3D and non-local means are told the level that is
best for them: of `FACTORS` times the rms error, by the PSNR of the first crop of each set. So are unsharp
masking and least squares (with a penalty on the gradient), by all crops of a set. Ours is told the blur, and
no noise. Written to results/restoration.json; each method is a part, so that slow ones need to run once.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from camera_model import GAINS, Bytes, Values, photograph
from common import measure_parts, script_parser
from numpy.typing import NDArray
from PIL import Image as PILImage

from ddfm.benchmark.datasets import find_pairs, get_dataset
from ddfm.formats.pictures import images_by_stem, read_image
from ddfm.fusion.pipeline import fuse
from ddfm.metrics import METRICS
from ddfm.noise.camera import colour_noise, measure_camera_noise
from ddfm.noise.clean import clean_source, sharpen_source
from ddfm.noise.defects import find_defects, sure_defects
from ddfm.noise.edges import MOST_FOUND, NEIGHBOURS, SHARPEST, edge_blurs, estimate_blur
from ddfm.noise.level import GREY_LEVEL, NOISE_GATE, estimate_noise
from ddfm.noise.missing import filled
from ddfm.noise.posterior import posterior_mean
from ddfm.pictures.colour import luminance
from ddfm.priors.base import Prior
from ddfm.priors.loading import load_prior

CROP = 256
SETS = ("tno", "roadscene")
SOURCES = ("infrared", "visible")
SCORES = ("VIF", "Qabf", "MI", "SSIM_dr2")
NO_NOISE = 1e-9  # gain of a camera that has none
ALIKE = 8  # grey levels around an intensity, whose pixels tell its noise
FOUND_BLURS = (1, 1.5, 2, 3)  # pixels
BLURS, NOISES = (1, 2, 3), (2, 5)  # pixels; grey levels
DEFECTIVE = (0.0005, 0.002, 0.01)  # shares of the pixels
MISSING, BLOCK = 0.1, 16  # share of the pixels; a side of the blocks, in pixels
PENALTIES, AMOUNTS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0), (0.25, 0.5, 1.0, 2.0)
FACTORS = (0.7, 1.0, 1.4, 2.0)  # times the rms error: what BM3D and non-local means may be told
LUMA = np.array([0.299, 0.587, 0.114])
OURS, BEFORE = "ours", "white noise only"

Grey = NDArray[np.float64]
Degrade = Callable[[Bytes, bool, int], Bytes]
Restore = Callable[[Grey, float], Grey]


@dataclass(frozen=True)
class Crop:
    """A pair: infrared, (H, W), and visible, (H, W) or (H, W, 3)."""

    name: str
    clean: tuple[Bytes, Bytes]


@dataclass(frozen=True)
class Case:
    """A degradation of the visible source or of both.

    ``degrade`` takes a picture, whether it is the visible one, and a seed.
    """

    name: str
    degrade: Degrade
    both: bool

    def apply(self, crop: Crop) -> tuple[Bytes, Bytes]:
        infrared, visible = crop.clean
        seed = zlib.crc32(f"{self.name} {crop.name}".encode())
        first = self.degrade(infrared, False, seed) if self.both else infrared
        return first, self.degrade(visible, True, seed + 1)


def make_crops(data: Path, name: str, count: int) -> list[Crop]:
    """Return crops from the middle of pairs that are large enough, those of quality.py's noise."""
    pairs = find_pairs(get_dataset(name), data / "ivf" / name)
    large = [pair for pair in pairs if min(read_image(pair.files[0]).size) >= CROP]
    chosen = np.random.default_rng(0).choice(len(large), 6, replace=False)
    crops = []
    for pair in [large[i] for i in sorted(chosen)][:count]:
        parts = []
        for index, path in enumerate(pair.files):
            with PILImage.open(path) as picture:
                left, top = (picture.width - CROP) // 2, (picture.height - CROP) // 2
                mode = "L" if index == 0 or name == "tno" else "RGB"
                parts.append(np.array(picture.convert(mode).crop((left, top, left + CROP, top + CROP))))
        crops.append(Crop(f"{name} {pair.stem}", (parts[0], parts[1])))
    return crops


# --- Degradations ----------------------------------------------------------------------------------


def white(sigma: float) -> Degrade:
    def degrade(clean: Bytes, visible: bool, seed: int) -> Bytes:
        noise = np.random.default_rng(seed).normal(0, sigma, clean.shape)
        return as_bytes(clean + noise)

    return degrade


def camera(shot: float) -> Degrade:
    return lambda clean, visible, seed: photograph(clean, shot, seed, visible)


def as_bytes(values: Values) -> Bytes:
    return np.rint(values).clip(0, 255).astype(np.uint8)


NOISY: Mapping[str, Sequence[Case]] = {
    "camera": [
        Case(f"{name}, {which}", camera(shot), which == "both")
        for name, shot in GAINS.items()
        for which in ("visible", "both")
    ],
    "white": [Case(f"sigma {sigma}", white(sigma), True) for sigma in (10, 20, 30)],
}


# --- What is done about it -------------------------------------------------------------------------


def grey(picture: Bytes) -> Grey:
    return picture.astype(np.float64) if picture.ndim == 2 else picture @ LUMA


def bm3d(noisy: Grey, sigma: float) -> Grey:
    import bm3d as package

    return np.asarray(package.bm3d(noisy, sigma))


def nl_means(noisy: Grey, sigma: float) -> Grey:
    import cv2

    return cv2.fastNlMeansDenoising(as_bytes(noisy), None, 0.9 * sigma, 7, 21).astype(np.float64)


def white_noise_only(prior: Prior) -> Restore:
    """What the noise was taken for before: white, of one level, denoised above a gate."""

    def restore(noisy: Grey, sigma: float) -> Grey:
        luma = torch.from_numpy(noisy).float()[None, None] * GREY_LEVEL - 1
        level = estimate_noise(luma)
        clean = posterior_mean(prior, luma, level) if level > NOISE_GATE else luma
        return (clean[0, 0].numpy().astype(np.float64) + 1) / GREY_LEVEL

    return restore


def told(restore: Restore, cases: Sequence[tuple[Grey, Grey]]) -> float:
    """Return the factor of the rms error that serves it best."""

    def mean_psnr(factor: float) -> float:
        return float(
            np.mean([psnr(restore(noisy, factor * rms(noisy, clean)), clean) for noisy, clean in cases])
        )

    return max(FACTORS, key=mean_psnr)


def rms(a: Grey, b: Grey) -> float:
    return float(np.sqrt(np.mean((a - b) ** 2)))


def psnr(a: Grey, b: Grey) -> float:
    return float(20 * np.log10(255 / max(rms(a.clip(0, 255), b), 1e-6)))


# --- Scores ----------------------------------------------------------------------------------------


def fused(first: NDArray[Any], second: NDArray[Any], prior: Prior, noise: str = "off") -> Grey:
    made = fuse(first, second, prior=prior, steps=0, task="infrared", noise=noise)  # type: ignore[arg-type]
    return grey(as_bytes(made.to_array().astype(np.float64)))


def scored(made: Grey, wanted: Grey) -> dict[str, float]:
    """Return the metrics of a fusion against that of the clean sources."""
    f, reference = (torch.from_numpy(x)[None, None].double() for x in (np.rint(made), np.rint(wanted)))
    return {name: float(METRICS[name].compute(reference, reference, f)) for name in SCORES}


def sources_of(method: str, factors: Mapping[bool, float], prior: Prior) -> Callable[..., Grey]:
    """Return the function that restores a source; it takes the degraded one and the clean one."""
    way = {"BM3D": bm3d, "non-local means": nl_means, BEFORE: white_noise_only(prior)}[method]

    def restore(noisy: Bytes, clean: Bytes, visible: bool) -> Grey:
        error = rms(grey(noisy), grey(clean))
        return way(grey(noisy), factors[visible] * error) if error else grey(noisy)

    return restore


def measure(case: Case, crops: Sequence[Crop], method: str, prior: Prior) -> dict[str, float]:
    """Return one row: means over the crops of one set."""
    degraded = [case.apply(crop) for crop in crops]
    factors = {False: 1.0, True: 1.0}
    if method in ("BM3D", "non-local means"):
        way = bm3d if method == "BM3D" else nl_means
        for index, visible in enumerate((False, True)):
            if visible or case.both:
                factors[visible] = told(way, [(grey(degraded[0][index]), grey(crops[0].clean[index]))])
    rows, seconds = [], []
    for crop, given in zip(crops, degraded, strict=True):
        wanted = fused(*crop.clean, prior)
        start = time.perf_counter()
        if method in (OURS, "nothing"):
            made = fused(*given, prior, "auto" if method == OURS else "off")
        else:
            restore = sources_of(method, factors, prior)
            clean = [restore(x, y, bool(k)) for k, (x, y) in enumerate(zip(given, crop.clean, strict=True))]
            made = fused(as_bytes(clean[0]), as_bytes(clean[1]), prior)
        seconds.append(time.perf_counter() - start)
        rows.append(scored(made, wanted))
    row = {name: round(float(np.mean([each[name] for each in rows])), 4) for name in SCORES}
    told_rms = {"told, visible": factors[True]} if method in ("BM3D", "non-local means") else {}
    return {**row, "seconds": round(float(np.median(seconds)), 2), **told_rms}


# --- The noise curve ---------------------------------------------------------------------------------


def curve_errors(case: Case, crops: Sequence[Crop]) -> list[float]:
    """Return found by true noise, less one, at the quartiles of intensity of each visible source.

    True is the rms of what the noise changed, among the pixels about as bright: the same photograph without
    noise is subtracted. Sources in which no noise is found have no curve.
    """
    errors = []
    for crop in crops:
        with_noise = case.apply(crop)[1]
        without = grey(photograph(crop.clean[1], NO_NOISE, 0, True))
        luma = torch.from_numpy(grey(with_noise)).float()[None, None] * GREY_LEVEL - 1
        rgb = torch.from_numpy(np.atleast_3d(with_noise)).movedim(-1, 0)[None].float() / 255
        found = measure_camera_noise(luma, float(estimate_noise(luma)), float(colour_noise(rgb)))
        if found is None:
            continue
        for intensity in np.quantile(without, (0.25, 0.5, 0.75)):
            alike = np.abs(without - intensity) < ALIKE
            true = rms(grey(with_noise)[alike], without[alike])
            at = found.at(torch.tensor(intensity).float() * GREY_LEVEL - 1)
            errors.append(float(at) / GREY_LEVEL / true - 1)
    return errors


def measure_curves(case: Case, crops: Sequence[Crop]) -> dict[str, float]:
    errors = curve_errors(case, crops)
    return {
        "found in": len(errors) // 3,
        "of": len(crops),
        "within 15 %": round(float(np.mean(np.abs(errors) < 0.15)), 3) if errors else 0.0,
        "worst": round(errors[int(np.argmax(np.abs(errors)))], 3) if errors else 0.0,
    }


def count_noisy(folder: Path) -> dict[str, int]:
    """Return in how many pictures noise is found, white or not, of how many, and in how many crops."""
    paths = list(images_by_stem(folder).values())
    found = crops = found_in_crops = 0
    for path in paths:
        pixels = torch.from_numpy(read_image(path).pixels).movedim(-1, 0)[None]
        found += is_noisy(pixels)
        height, width = pixels.shape[-2] - CROP, pixels.shape[-1] - CROP
        if min(height, width) < 0:
            continue
        corners = product((0, height), (0, width))
        for top, left in {*corners, (height // 2, width // 2)}:
            crops += 1
            found_in_crops += is_noisy(pixels[..., top : top + CROP, left : left + CROP])
    return {
        "pictures": len(paths),
        "noise found": found,
        "crops": crops,
        "noise found in crops": found_in_crops,
    }


def is_noisy(pixels: torch.Tensor) -> bool:
    """Tell whether noise is found in a picture, (1, C, H, W) in [0, 1]."""
    luma = 2 * luminance(pixels) - 1
    fine, colour = float(estimate_noise(luma)), float(colour_noise(pixels))
    return measure_camera_noise(luma, fine, colour) is not None


# --- Blur ----------------------------------------------------------------------------------------------


def soft(clean: Grey, blur: float, noise: float, seed: int) -> Grey:
    from scipy.ndimage import gaussian_filter

    random = np.random.default_rng(seed)
    return as_bytes(gaussian_filter(clean, blur, truncate=8) + random.normal(0, noise, clean.shape)).astype(
        float
    )


def least_squares(y: Grey, blur: float, penalty: float) -> Grey:
    """Return the x of least |blurred x - y|^2 + penalty |grad x|^2, mirrored at the borders."""
    from scipy.fft import dctn, idctn

    along, across = (np.arange(side)[:, None] / (2 * side) for side in y.shape)
    frequencies = along**2 + across.T**2
    gradient = 4 - 2 * np.cos(2 * np.pi * along) - 2 * np.cos(2 * np.pi * across.T)
    h = np.exp(-2 * (np.pi * blur) ** 2 * frequencies)
    return np.asarray(idctn(dctn(y) * h / (h * h + penalty * gradient)))


def unsharp(y: Grey, blur: float, amount: float) -> Grey:
    from scipy.ndimage import gaussian_filter

    return np.asarray(y + amount * (y - gaussian_filter(y, blur)))


def ours_sharp(y: Grey, blur: float, prior: Prior) -> Grey:
    luma = torch.from_numpy(y).float()[None, None] * GREY_LEVEL - 1
    clean = clean_source(luma, lambda: prior)
    sharp = sharpen_source(luma, clean, lambda: prior, torch.tensor([blur])).luma
    return (sharp[0, 0].numpy().astype(np.float64) + 1) / GREY_LEVEL


def measure_blur(crops: Sequence[Crop], prior: Prior, blur: float, noise: float) -> dict[str, float]:
    clean = [grey(crop.clean[0]) for crop in crops]
    given = [soft(x, blur, noise, seed) for seed, x in enumerate(clean)]

    def mean_psnr(restore: Callable[[Grey], Grey]) -> float:
        return round(float(np.mean([psnr(restore(y), x) for y, x in zip(given, clean, strict=True)])), 2)

    step = np.full((96, 96), 77.0)
    step[:, 48:] = 178
    profile = ours_sharp(soft(step, blur, noise, 0), blur, prior)[16:-16].mean(0)
    over = max(profile.max() - 178, 77 - profile.min()) / (178 - 77)
    return {
        "nothing": mean_psnr(lambda y: y),
        "unsharp masking": max(mean_psnr(lambda y, a=a: unsharp(y, blur, a)) for a in AMOUNTS),  # type: ignore[misc]
        "least squares": max(mean_psnr(lambda y, p=p: least_squares(y, blur, p)) for p in PENALTIES),  # type: ignore[misc]
        "ours": mean_psnr(lambda y: ours_sharp(y, blur, prior)),
        "overshoot": round(float(over), 4),
    }


def as_luma(y: Grey) -> torch.Tensor:
    return torch.from_numpy(y).float()[None, None] * GREY_LEVEL - 1


def measure_found_blur(crops: Sequence[Crop], source: int, blur: float, noise: float) -> dict[str, Any]:
    """Return in how many crops a blur is found, and how near it is to the one added and to that of both.

    Both are the one added and what the edges of the picture as it is have: hypot of the two.
    """
    found, added, both = 0, [], []
    for seed, crop in enumerate(crops):
        clean = grey(crop.clean[source])
        own = edge_blurs(as_luma(clean), 0)
        estimate = estimate_blur(as_luma(soft(clean, blur, noise, seed)), noise * GREY_LEVEL)
        if estimate and len(own):
            found += 1
            added.append(estimate / blur - 1)
            total = np.hypot(blur, NEIGHBOURS * float(own.quantile(SHARPEST)))
            both.append(estimate / min(total, MOST_FOUND) - 1)
    near = {
        name: {"within 20 %": int((np.abs(errors) < 0.2).sum()), "worst": round(max(errors, key=abs), 2)}
        for name, errors in (("added", added), ("both", both))
        if errors
    }
    return {"pictures": len(crops), "found in": found, **near}


def list_soft(folder: Path) -> dict[str, Any]:
    """Return in which pictures a blur is found as they are, of how many."""
    paths, found = list(images_by_stem(folder).values()), {}
    for path in paths:
        luma = 2 * luminance(torch.from_numpy(read_image(path).pixels).movedim(-1, 0)[None]) - 1
        blur = estimate_blur(luma, float(estimate_noise(luma)))
        if blur:
            found[path.name] = round(blur, 2)
    return {"pictures": len(paths), "soft": found}


# --- Missing pixels --------------------------------------------------------------------------------------


def at_random(shape: tuple[int, int], seed: int) -> NDArray[np.bool_]:
    return np.random.default_rng(seed).random(shape) < MISSING


def in_blocks(shape: tuple[int, int], seed: int) -> NDArray[np.bool_]:
    cells = shape[0] // BLOCK, shape[1] // BLOCK
    chosen = np.random.default_rng(seed).permutation(cells[0] * cells[1])[
        : round(MISSING * cells[0] * cells[1])
    ]
    missing = np.zeros(cells, bool)
    missing.flat[chosen] = True
    return np.kron(missing, np.ones((BLOCK, BLOCK), bool)).astype(bool)


def opencv_filled(y: Grey, missing: NDArray[np.bool_], method: str) -> Grey:
    import cv2

    flag = {"Telea": cv2.INPAINT_TELEA, "Navier-Stokes": cv2.INPAINT_NS}[method]
    return cv2.inpaint(as_bytes(y), missing.astype(np.uint8), 3, flag).astype(np.float64)


def ours_filled(y: Grey, missing: NDArray[np.bool_], prior: Prior) -> Grey:
    luma = torch.from_numpy(y).float()[None, None] * GREY_LEVEL - 1
    made = filled(prior, luma, torch.from_numpy(~missing).float()[None, None])
    return (made[0, 0].numpy().astype(np.float64) + 1) / GREY_LEVEL


def measure_missing(
    crops: Sequence[Crop], source: int, holes: Callable[..., NDArray[np.bool_]], prior: Prior
) -> dict[str, Any]:
    """Return mean PSNR, and in how many pictures ours is above OpenCV's two, for one source of all crops."""
    rows: dict[str, list[float]] = {}
    for seed, crop in enumerate(crops):
        clean, missing = grey(crop.clean[source]), holes((CROP, CROP), seed)
        given = np.where(missing, 0, clean)
        made = {name: opencv_filled(given, missing, name) for name in ("Telea", "Navier-Stokes")}
        made["ours"] = ours_filled(given, missing, prior)
        for name, picture in made.items():
            rows.setdefault(name, []).append(psnr(np.where(missing, picture, clean), clean))
    best = np.maximum(rows["Telea"], rows["Navier-Stokes"])
    above = int((np.array(rows["ours"]) > best).sum())
    return {name: round(float(np.mean(found)), 2) for name, found in rows.items()} | {
        "pictures": len(crops),
        "ours above both": above,
    }


def defective(y: Grey, kind: str, share: float, seed: int) -> tuple[Grey, NDArray[np.bool_]]:
    """Return the picture with that share of its pixels dead, hot or stuck at any level, and which ones."""
    random = np.random.default_rng(seed)
    bad = random.random(y.shape) < share
    low, high = {"dead": (0, 1), "hot": (255, 256), "stuck": (0, 256)}[kind]
    level = random.integers(low, high, y.shape)
    return np.where(bad, level, y), bad & (y != level)


def measure_defects(crops: Sequence[Crop], kind: str, share: float, prior: Prior) -> dict[str, Any]:
    """Return mean PSNR of the infrared source, how many defects are found, and how many other pixels."""
    from scipy.ndimage import median_filter

    rows: dict[str, list[float]] = {}
    there = found = wrong = opened = 0
    for seed, crop in enumerate(crops):
        clean = grey(crop.clean[0])
        given, bad = defective(clean, kind, share, seed)
        missing = find_defects(as_luma(given))[0, 0].numpy()
        ours = ours_filled(given, missing, prior) if missing.any() else given
        made = {"nothing": given, "median 3x3": median_filter(given, 3), "ours": ours}
        for name, picture in made.items():
            rows.setdefault(name, []).append(psnr(picture, clean))
        there, found = there + int(bad.sum()), found + int((missing & bad).sum())
        wrong, opened = wrong + int((missing & ~bad).sum()), opened + bool(missing.any())
    means = {name: round(float(np.mean(values)), 2) for name, values in rows.items()}
    counts = {"defects": there, "found": found, "others taken": wrong}
    return means | {"pictures": len(crops), "found in": opened} | counts


def list_defects(folder: Path) -> dict[str, Any]:
    """Return in which pictures defects are found as they are, of how many, and the most sure ones in one."""
    paths, found, most = list(images_by_stem(folder).values()), {}, 0
    for path in paths:
        luma = 2 * luminance(torch.from_numpy(read_image(path).pixels).movedim(-1, 0)[None]) - 1
        most = max(most, *(len(places) for places in sure_defects(luma[0, 0])))
        if count := int(find_defects(luma).sum()):
            found[path.name] = count
    return {"pictures": len(paths), "defects in": found, "most sure ones": most}


# --- Frames with known degradation ---------------------------------------------------------------------


def m3svd_crops(data: Path, infrared: str, visible: str) -> list[Crop]:
    """Return the middle of every frame of those two kinds, visible in grey as its blur is judged in."""
    crops = []
    for sequence in sorted((data / "degraded" / "m3svd").iterdir()):
        for path in sorted((sequence / "infrared_Enhance").iterdir()):
            parts = []
            for folder in (infrared, visible):
                with PILImage.open(sequence / folder / path.name) as picture:
                    left, top = (picture.width - CROP) // 2, (picture.height - CROP) // 2
                    box = (left, top, left + CROP, top + CROP)
                    parts.append(np.array(picture.convert("L" if folder == infrared else "RGB").crop(box)))
            crops.append(Crop(f"{sequence.name} {path.stem}", (parts[0], parts[1])))
    return crops


def measure_m3svd(data: Path, infrared: str, visible: str, prior: Prior) -> dict[str, dict[str, float]]:
    """Return a row for each way: PSNR of both luminances, and scores of the fusion."""
    clean = m3svd_crops(data, "infrared_Enhance", "visible_Enhance")
    given = m3svd_crops(data, infrared, visible)
    rows: dict[str, list[dict[str, float]]] = {}
    for crop, bad in zip(clean, given, strict=True):
        wanted = fused(*crop.clean, prior)
        for name in ("nothing", BEFORE, OURS):
            made = fused(*bad.clean, prior, "auto" if name == OURS else "off")
            if name == BEFORE:
                restore = white_noise_only(prior)
                first, second = (as_bytes(restore(grey(x), 0)) for x in bad.clean)
                made = fused(first, second, prior)
            rows.setdefault(name, []).append(scored(made, wanted))
    return {
        name: {score: round(float(np.mean([r[score] for r in made])), 4) for score in SCORES}
        for name, made in rows.items()
    }


METHODS = ("nothing", BEFORE, "non-local means", "BM3D", OURS)
OTHERS = ("BM3D", OURS)  # on crops that nothing was chosen on
M3SVD = (("infrared_noise", "visible_Enhance"), ("infrared_Enhance", "visible_Blur"))  # degraded, and not
PARTS = (
    *(f"{part}, {method}" for part in NOISY for method in METHODS),
    *(f"other white, {method}" for method in OTHERS),
    *("curve", "clean", "blur", "found blur", "soft", "missing", "defects", "clean defects", "m3svd"),
)
CLEAN = (
    *(f"ivf/{name}/{kind}" for name in ("tno", "roadscene", "msrs") for kind in ("ir", "vi")),
    *("vifb/ir", "vifb/vi", "mef/mefb/under", "mef/mefb/over", "mff/mfifb/near", "mff/mfifb/far"),
)
# Medical pictures and photographs, too, where single pixels are looked for.
MORE_CLEAN = (
    *("mif/mri_ct/ct", "mif/mri_ct/mri", "mif/mri_pet/mri", "mif/mri_spect/mri", "natural/imagenet1000"),
    *(f"natural/bsds500/{part}" for part in ("train", "val", "test")),
)


def main() -> None:
    parser = script_parser(__doc__, "restoration.json", data=True, parts=PARTS)
    parser.add_argument("--crops", type=int, default=3, help="pairs a set, 6 at most")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data, prior = arguments.data, load_prior()
    sets = {name: make_crops(data, name, arguments.crops) for name in SETS}

    def noisy(part: str, method: str, sets: Mapping[str, Sequence[Crop]] = sets) -> dict[str, Any]:
        return {
            f"{case.name}, {name}": measure(case, crops, method, prior)
            for case in NOISY[part]
            for name, crops in sets.items()
        }

    parts: dict[str, Callable[[], dict[str, Any]]] = {
        f"{part}, {method}": partial(noisy, part, method) for part in NOISY for method in METHODS
    }
    others = {name: make_crops(data, name, 6)[3:] for name in SETS}
    parts |= {f"other white, {method}": partial(noisy, "white", method, others) for method in OTHERS}
    parts["curve"] = lambda: {
        f"{case.name}, {name}": measure_curves(case, crops)
        for name, crops in sets.items()
        for case in NOISY["camera"][::2]
    }
    parts["clean"] = lambda: {name: count_noisy(data / name) for name in CLEAN}
    parts["blur"] = lambda: {
        f"blur {blur}, noise {noise}, {name}": measure_blur(crops, prior, blur, noise)
        for name, crops in sets.items()
        for blur in BLURS
        for noise in NOISES
    }
    parts["found blur"] = lambda: {
        f"blur {blur}, noise {noise}, {SOURCES[source]}, {name}": measure_found_blur(
            crops, source, blur, noise
        )
        for name, crops in sets.items()
        for blur, noise, source in product(FOUND_BLURS, NOISES, range(2))
    }
    parts["soft"] = lambda: {name: list_soft(data / name) for name in CLEAN}
    parts["missing"] = lambda: {
        f"{holes.__name__.replace('_', ' ')}, {SOURCES[source]}, {name}": measure_missing(
            crops, source, holes, prior
        )
        for name, crops in sets.items()
        for holes, source in product((at_random, in_blocks), range(2))
    }
    parts["defects"] = lambda: {
        f"{kind}, {share:.2%}, {name}": measure_defects(crops, kind, share, prior)
        for name, crops in (sets | {"msrs": make_crops(data, "msrs", arguments.crops)}).items()
        for kind, share in product(("dead", "hot", "stuck"), DEFECTIVE)
    }
    parts["clean defects"] = lambda: {name: list_defects(data / name) for name in CLEAN + MORE_CLEAN}
    parts["m3svd"] = lambda: {
        f"{infrared}, {visible}": measure_m3svd(data, infrared, visible, prior) for infrared, visible in M3SVD
    }
    measure_parts(parts, arguments.output, arguments.only)


if __name__ == "__main__":
    main()
