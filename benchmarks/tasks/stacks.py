"""Parts "stacks" and "cost" of tasks.py: more than two sources, made from the development pairs."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from random import Random

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from quality.tables import Job, Row, Table

from ddfm.formats.pictures import read_image
from ddfm.fusion.pipeline import fuse
from ddfm.metrics import mef_ssim, to_grey
from ddfm.pictures.image import Image

RgbPixels = NDArray[np.uint8]  # (H, W, 3)

COUNTS = (2, 3, 5, 7, 9)
SCENES = {"exposure": ("AirBellowsGap", "Mask", "Venice"), "focus": ("lytro_06", "lytro_10", "mffw_11")}
COSTLY = {"exposure": "ICCV_02", "focus": "lytro_06"}
GAMMA = 2.2  # of the response curve that the exposures between are simulated with
BLUR = 3.0  # standard deviation of what is out of focus, in pixels
ORDERS = 6  # permutations tried of each stack


def pair_of(data: Path, task: str, name: str) -> list[Image]:
    root, kinds = (
        (data / "mef/mefb", ("under", "over"))
        if task == "exposure"
        else (data / "mff/mfifb", ("near", "far"))
    )
    return [read_image(next((root / kind).glob(f"{name}.*"))) for kind in kinds]


def bracket(pair: Sequence[Image], count: int) -> list[RgbPixels]:
    """The pair, and exposures between: the radiance that both tell of, exposed, clipped and rounded.

    Both are linearised with a gamma curve; the ratio of their exposures is the median where both are well
    exposed, and radiance their mean, weighted by how far from black and white each one is.
    """
    dark, light = (source.pixels**GAMMA for source in pair)
    weights = [1e-4 + 0.5 - np.abs(source.pixels - 0.5) for source in pair]
    both = np.minimum(*weights) > 0.1
    ratio = float(np.median(light[both] / dark[both])) if both.any() else 16.0
    radiance = (weights[0] * dark + weights[1] * light / ratio) / sum(weights)
    between = [(radiance * ratio**t).clip(0, 1) ** (1 / GAMMA) for t in np.linspace(0, 1, count)[1:-1]]
    return [as_picture(image) for image in (pair[0].pixels, *between, pair[1].pixels)]


def planes(pair: Sequence[Image], count: int) -> tuple[RgbPixels, list[RgbPixels]]:
    """The scene in focus everywhere, as the pair tells of it, and stripes of it in focus, one a source."""
    scene = fuse(pair[0], pair[1], task="focus", steps=0).image.pixels
    blurred = cv2.GaussianBlur(scene, (0, 0), BLUR, borderType=cv2.BORDER_REPLICATE)
    place = np.arange(scene.shape[1])[None, :, None] * count // scene.shape[1]
    return as_picture(scene), [as_picture(np.where(place == n, scene, blurred)) for n in range(count)]


def as_picture(pixels: NDArray[np.float32]) -> RgbPixels:
    return np.rint(255 * pixels).astype(np.uint8)


def stack(data: Path, task: str, name: str, count: int) -> tuple[RgbPixels | None, list[RgbPixels]]:
    """What is to come out, if that is known, and the sources."""
    if task == "exposure":
        return None, bracket(pair_of(data, task, name), count)
    return planes(pair_of(data, task, name), count)


def grey(picture: RgbPixels) -> torch.Tensor:
    return to_grey(torch.from_numpy(picture).movedim(-1, 0)[None]).double()


def psnr(picture: RgbPixels, truth: RgbPixels) -> float:
    error = np.square(picture.astype(float) - truth.astype(float)).mean()
    return float(10 * np.log10(255**2 / error))


def stacks(job: Job) -> list[Table]:
    """Stacks of k sources: exposures simulated between the pair's, focus planes cut from what is in focus.

    Every stack is fused in some of its orders, at the defaults and without the prior.
    """
    tables = []
    for task, scenes in SCENES.items():
        rows: dict[str, Row] = {}
        for count in COUNTS:
            values: list[dict[str, float]] = []
            same = tried = 0
            for name in scenes:
                truth, sources = stack(job.data, task, name, count)
                ours, likelihood = (
                    fuse(*sources, task=task, prior=job.prior, steps=steps).to_array() for steps in (None, 0)
                )
                average = as_picture(np.mean(sources, 0).astype(np.float32) / 255)
                others = {"ours": ours, "ours, steps 0": likelihood, "mean": average}
                if truth is None:
                    mertens = np.asarray(cv2.createMergeMertens().process(sources), np.float32)
                    others["mergemertens"] = as_picture(mertens.clip(0, 1))
                    inputs = [grey(source) for source in sources]
                    values.append({k: mef_ssim(inputs, grey(v)).item() for k, v in others.items()})
                else:
                    others["best source"] = max(sources, key=lambda source: psnr(source, truth))
                    values.append({k: psnr(v, truth) for k, v in others.items()})
                for order in orders(count):
                    again = fuse(*(sources[n] for n in order), task=task, prior=job.prior, steps=0).to_array()
                    tried += 1
                    same += again.tobytes() == likelihood.tobytes()
            means: Row = {key: statistics.fmean(row[key] for row in values) for key in values[0]}
            rows[f"k = {count}"] = {**means, "same bytes": f"{same} of {tried} orders"}
        measure = "MEF-SSIM with all k" if task == "exposure" else "PSNR, dB, to the scene in focus"
        tables.append(Table(f"{task}: {measure}, mean of {', '.join(scenes)}", rows))
        print(f"  stacks: {task}", flush=True)
    return tables


def orders(count: int) -> list[tuple[int, ...]]:
    """Orders other than the given one: all, or some at random."""
    if count <= 3:
        return list(permutations(range(count)))[1:]
    random = Random(count)
    return [tuple(random.sample(range(count), count)) for _ in range(ORDERS)]


def cost(job: Job) -> list[Table]:
    """Processor seconds of one fusion of k sources, and the peak memory of the process it runs in.

    Every fusion has a process of its own, warmed up on a small crop.
    """
    tables = []
    for task, name in COSTLY.items():
        rows: dict[str, Row] = {}
        for count in COUNTS:
            sources = stack(job.data, task, name, count)[1]
            row = rows[f"k = {count}"] = {}
            for steps in (0, 5):
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    seconds, peak = pool.apply(one_cost, (sources, task, steps))
                row |= {f"seconds, steps {steps}": seconds, f"MiB, steps {steps}": peak}
            print(f"  cost: {task}, k = {count}", flush=True)
        height, width = pair_of(job.data, task, name)[0].size
        further: Row = {}
        rest: Row = {}
        for column in rows["k = 2"]:
            values = [float(row[column]) for row in rows.values()]
            line = np.polyfit(COUNTS, values, 1)
            further[column] = float(line[0])
            rest[column] = f"{100 * np.abs(np.polyval(line, COUNTS) / values - 1).max():.0f} %"
        rows |= {"each further source": further, "off a straight line, at most": rest}
        tables.append(Table(f"{task}, {width}x{height}", rows))
    return tables


def one_cost(sources: Sequence[RgbPixels], task: str, steps: int) -> tuple[float, float]:
    """Seconds and MiB; the network, Python and what is imported included."""
    torch.set_num_threads(1)
    fuse(*(source[:64, :64] for source in sources), task=task, steps=steps)
    before = time.process_time()
    fuse(*sources, task=task, steps=steps)
    seconds = time.process_time() - before
    # Not getrusage's ru_maxrss, which a new process takes over from the one that started it.
    status = Path("/proc/self/status").read_text().splitlines()
    return seconds, next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM:"))
