"""Speed: the released way beside ours, with the same weights, in one run.

    python benchmarks speed [--golden FILE] [--openai] [--device NAME] [--only PART ...] [--repeats N]

The pair is the project's own street at night (`ddfm.demo`), resized. The networks are the bundled prior,
with --golden a small one of OpenAI's layout (a guided-diffusion .pt file; at 256x256 alone, because its
attention, at half the resolution, takes time with the square of the pixels), and with --openai (on a GPU
always) that of the paper with random weights, 552.8 M parameters.

compared: (a) the released form run the released way (`released_way`: 100 steps, float32, NCHW, colours
converted on the CPU at every step) and (b) ours, `ddfm.fuse` at its defaults and with its other back
ends. They take turns, ``repeats`` times. A step is what lies between two callbacks: network, likelihood,
scheduler; its time is the median. An image of ours is measured whole; one of (a) is 100 of its steps,
of which a few are taken (all of them once, for the bundled prior at 480x640). In turn with them: the
network's evaluation alone, a large matrix product in both number formats and a large copy, whose best
is the machine's peak; the evaluation's share of it counts the multiplications and additions of its
convolutions and matrix products, and the bytes that its operations read and write.

memory: what a process grows by at its peak, each in a fresh one.

scaling: seconds an image against pixels, with the exponent of a power law, and against the batch.

Written to results/speed.json, speed.md and speed.svg; on a GPU to speed-cuda.*, with the energy an image
takes.
"""

from __future__ import annotations

import multiprocessing
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, measure_parts, script_parser
from PIL import Image as PILImage
from torch import Tensor

from ddfm.demo.scenes import night
from ddfm.devices import pick_device, pick_dtype
from ddfm.formats.pictures import from_pil
from ddfm.fusion.pipeline import fuse
from ddfm.likelihoods.released import ReleasedLikelihood
from ddfm.pictures.image import Image
from ddfm.priors.diffusion import DiffusionPrior
from ddfm.priors.guided_diffusion import OPENAI_256_UNCONDITIONAL, network_config, read_guided_diffusion
from ddfm.priors.loading import load_prior
from ddfm.priors.network import UNet
from ddfm.priors.network_config import UNetConfig
from ddfm.priors.schedule import NoiseSchedule
from ddfm.sampling.loop import Step
from speed.machine import Clock, Growth, Peaks, Power, cost, machine
from speed.released_way import STEPS, HostLikelihood, released_prior
from speed.released_way import run as run_released
from speed.report import write_report

SIZES = ((256, 256), (480, 640), (1080, 1920))
SQUARES = (256, 512, 1024, 1536, 2048)
BATCHES = (1, 2, 4, 8)
RELEASED_STEPS = 3  # of the hundred that are timed at a time
Row = dict[str, Any]
VARIANTS: dict[str, dict[str, str]] = {
    "ours": {},
    "ours, float32": {"dtype": "float32"},
    "ours, OpenVINO": {"backend": "openvino"},
}
WHOLE = "released, all steps at 480x640"
SMALL, PAPER = "compared, a small network of OpenAI's layout", "compared, the paper's network"
THROUGHPUT, MEMORY = "throughput", "memory, MiB"
PARTS = ("compared", WHOLE, "scaling", SMALL, PAPER, THROUGHPUT, MEMORY)


def pair(height: int, width: int) -> tuple[Image, Image]:
    """Thermal, grey, and visible, in colour, 8 bits."""
    scene = night()
    a, b = (picture.resize((width, height), PILImage.Resampling.BICUBIC) for picture in (scene.a, scene.b))
    return from_pil(a, "thermal"), from_pil(b, "visible")


def lumas(sources: tuple[Image, Image], device: torch.device) -> list[Tensor]:
    """(1, 1, H, W) each, in [-1, 1]."""
    return [torch.from_numpy(2 * image.pixels.mean(-1) - 1)[None, None].to(device) for image in sources]


def load(network: str) -> DiffusionPrior:
    """A prior by what stands in the tables: a file, a bundled one's name, or "OpenAI"."""
    if network == "OpenAI":
        torch.manual_seed(0)
        unet = UNet(UNetConfig(**network_config(OPENAI_256_UNCONDITIONAL))).prepare_for_inference()
        return DiffusionPrior(unet, NoiseSchedule(), name=network)
    return read_guided_diffusion(Path(network)) if network.endswith(".pt") else load_prior(network)


# --- The two ways --------------------------------------------------------------------------------


def prepared(
    prior: DiffusionPrior, device: torch.device, dtype: str = "auto", backend: str = "torch"
) -> DiffusionPrior:
    """As `fuse` would have it, so that it is not made ready anew for every image."""
    return prior.to(device, pick_dtype(dtype, device, warm=True), backend)


@dataclass(frozen=True)
class Way:
    """The released way, or ours with options of `fuse`; the prior is ready where and how it computes."""

    name: str
    prior: DiffusionPrior
    options: dict[str, Any]

    def run(
        self, sources: tuple[Image, Image], steps: int | None, callback: Callable[[Step], None]
    ) -> object:
        """Some steps of the released way, or a whole image of ours with so many; None for the default."""
        if self.name == "released":
            infrared, visible = lumas(sources, self.prior.device)
            return run_released(self.prior, infrared, visible, steps or RELEASED_STEPS, callback)
        options = {"task": "infrared", "steps": steps, "callback": callback, **self.options}
        return fuse(*sources, prior=self.prior, **options)

    def evaluate(self, x: Tensor) -> Tensor:
        with torch.inference_mode():
            return self.prior.predict_x0(x.expand(-1, self.prior.channels, -1, -1), 100, 0.9)


def ways(network: str, device: torch.device) -> list[Way]:
    prior = load(network)
    names = [name for name in VARIANTS if device.type == "cpu" or VARIANTS[name].get("backend") is None]
    return [
        Way("released", released_prior(prior.to(device)), {}),
        *(
            Way(name, prepared(prior, device, **VARIANTS[name]), VARIANTS[name])
            for name in (names[:1] if network == "OpenAI" else names)
        ),
    ]


def compared(network: str, size: tuple[int, int], repeats: int, clock: Clock, peaks: Peaks) -> Iterator[Row]:
    """A row for each way, with medians over the repeats."""
    sources = pair(*size)
    x = lumas(sources, clock.device)[1]
    chosen = ways(network, clock.device)
    images: dict[str, list[float]] = defaultdict(list)
    steps: dict[str, list[float]] = defaultdict(list)
    evaluations: dict[str, list[float]] = defaultdict(list)
    for turn in range(repeats + 1):
        if not turn and repeats == 1:
            continue  # the first turn is for caches, but where it takes minutes
        for way in chosen:
            peaks.measure()
            total, each = clock.steps(partial(way.run, sources, None))
            evaluation = clock.seconds(partial(way.evaluate, x))
            if turn:
                images[way.name].append(STEPS * statistics.median(each) if way.name == "released" else total)
                steps[way.name] += each
                evaluations[way.name].append(evaluation)
        images["ours, --steps 0"] += [
            clock.seconds(partial(fuse, *sources, task="infrared", steps=0))
        ] * bool(turn)
    for way in chosen:
        kind = str(way.prior.network.dtype).removeprefix("torch.")
        evaluation = statistics.median(evaluations[way.name])
        operations, numbers = cost(way.prior, *size)
        moved = numbers * way.prior.network.dtype.itemsize
        yield {
            "network": Path(network).stem,
            "size": f"{size[0]}x{size[1]}",
            "way": way.name,
            "format": kind,
            "seconds an image": round(statistics.median(images[way.name]), 4),
            "seconds a step": round(statistics.median(steps[way.name]), 4),
            "seconds an evaluation": round(evaluation, 4),
            "share of matrix peak": round(operations / evaluation / peaks.best[kind], 3),
            "share of copy peak": round(moved / evaluation / peaks.best["copy"], 3),
        }
    yield {
        "network": Path(network).stem,
        "size": f"{size[0]}x{size[1]}",
        "way": "ours, --steps 0",
        "seconds an image": round(statistics.median(images["ours, --steps 0"]), 4),
    }


def released_whole(size: tuple[int, int], clock: Clock) -> dict[str, float | str]:
    """All hundred steps, once, to hold against a hundred times one."""
    infrared, visible = lumas(pair(*size), clock.device)
    prior = released_prior(load("natural").to(clock.device))
    seconds, steps = clock.steps(lambda c: run_released(prior, infrared, visible, STEPS, c))
    return {"seconds": round(seconds, 2), "of which a step": round(statistics.median(steps), 4)}


def agreement(device: torch.device) -> float:
    """Largest difference of the released way's likelihood from form "released", in [-1, 1]."""
    infrared, visible = lumas(pair(96, 128), device)
    f = torch.rand(1, 3, 96, 128, generator=torch.Generator().manual_seed(0)).to(device) * 2 - 1
    likelihoods = [way(infrared, visible) for way in (ReleasedLikelihood, HostLikelihood)]
    first, second = (likelihood.rectify(f) for likelihood in likelihoods)
    return float((first - second).abs().max())


# --- Growth ---------------------------------------------------------------------------------------


def scaling(repeats: int, clock: Clock) -> dict[str, Any]:
    """Seconds an image of ours, at each number of steps: of squares, and of batches at 480x640."""
    prior = prepared(load("natural"), clock.device)
    found: dict[str, Any] = {}
    for steps in (0, 5):

        def seconds(a: Tensor, b: Tensor, n: int = steps) -> float:
            return clock.seconds(lambda: fuse(a, b, prior=prior, task="infrared", steps=n))

        squares = {side: as_arrays(pair(side, side)) for side in SQUARES}
        times: dict[int, list[float]] = {side: [] for side in SQUARES}
        for turn in range(repeats + 1):  # the first turn is for caches
            for side, (a, b) in squares.items():
                times[side] += [seconds(a, b)] * bool(turn)
        medians = {side: statistics.median(values) for side, values in times.items()}
        exponent = np.polyfit(np.log([side**2 for side in SQUARES]), np.log(list(medians.values())), 1)[0]
        a, b = as_arrays(pair(480, 640))
        batches = {
            n: statistics.median(
                seconds(a.expand(n, -1, -1, -1), b.expand(n, -1, -1, -1)) / n for _ in range(repeats)
            )
            for n in BATCHES
        }
        found[f"--steps {steps}"] = {
            "seconds by side of a square": {side: round(value, 4) for side, value in medians.items()},
            "exponent of the pixels": round(float(exponent), 3),
            "seconds an image of 480x640 by batch": {n: round(value, 4) for n, value in batches.items()},
        }
    return found


def as_arrays(sources: tuple[Image, Image]) -> tuple[Tensor, Tensor]:
    """(1, 1, H, W) and (1, 3, H, W), uint8."""
    a, b = (torch.from_numpy(source.to_array()) for source in sources)
    return a[None, None], b.movedim(-1, 0)[None]


# --- Memory ---------------------------------------------------------------------------------------


def grown(network: str, way: str, size: tuple[int, int]) -> int:
    """MiB that this process grows by at its peak over what it has with the network loaded."""
    chosen = next(each for each in ways(network, torch.device("cpu")) if each.name == way)
    chosen.run(pair(64, 64), 2, lambda step: None)  # what is made once
    sources = pair(*size)
    with Growth() as growth:
        chosen.run(sources, 2, lambda step: None)
    return round(growth.bytes / 2**20)


def memory(networks: Sequence[str]) -> Iterator[Row]:
    """Of two steps; the others need no more."""
    fresh = multiprocessing.get_context("spawn")
    for network in networks:
        if network == "OpenAI":
            continue
        for size in SIZES if network == "natural" else SIZES[:1]:
            row: Row = {"network": Path(network).stem, "size": f"{size[0]}x{size[1]}"}
            for way in ("released", *VARIANTS):
                with fresh.Pool(1) as pool:
                    row[way] = pool.apply(grown, (network, way, size))
            yield row


# --- GPU ------------------------------------------------------------------------------------------


def throughput(networks: Sequence[str], clock: Clock, peaks: Peaks) -> Iterator[Row]:
    """Images of 480x640 a second by batch on a GPU, and what an evaluation of that batch reaches."""
    a, b = as_arrays(pair(480, 640))
    for network in networks:
        prior = prepared(load(network), clock.device)
        operations, _ = cost(prior, 480, 640)
        for n in BATCHES:
            batch = [source.expand(n, -1, -1, -1) for source in (a, b)]
            work = partial(fuse, *batch, prior=prior, task="infrared")
            work()
            peaks.measure()
            with Power() as power:
                seconds = statistics.median(clock.seconds(work) for _ in range(5))
            x = torch.rand(n, prior.channels, 480, 640, device=clock.device) * 2 - 1
            with torch.inference_mode():
                times = [clock.seconds(lambda p=prior, x=x: p.predict_x0(x, 100, 0.9)) for _ in range(8)]  # type: ignore[misc]
            kind = str(prior.network.dtype).removeprefix("torch.")
            yield {
                "network": Path(network).stem,
                "batch": n,
                "images a second": round(n / seconds, 2),
                "joules an image": power.joules and round(power.joules / 5 / n, 1),
                "share of matrix peak": round(
                    n * operations / statistics.median(times[2:]) / peaks.best[kind], 3
                ),
            }


def main() -> None:
    parser = script_parser(__doc__, parts=PARTS)
    parser.prog = "benchmarks speed"
    parser.add_argument("--golden", type=Path, help="a small guided-diffusion checkpoint")
    parser.add_argument("--openai", action="store_true", help="the paper's network, too; minutes a step")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    clock = Clock(pick_device(arguments.device))
    peaks = Peaks(clock)
    on_gpu = clock.device.type == "cuda"
    networks = ["natural", *([str(arguments.golden)] if arguments.golden else [])]
    large = ["OpenAI"] if arguments.openai or on_gpu else []
    if (difference := agreement(clock.device)) > 2e-3:
        raise SystemExit(f"the released way is not what it should be: {difference:.4f} off")

    def compare(chosen: Sequence[str], repeats: int) -> list[Row]:
        return [
            row
            for network in chosen
            for size in {"natural": SIZES, "OpenAI": SIZES[1:2]}.get(network, SIZES[:1])
            for row in compared(network, size, repeats, clock, peaks)
        ]

    parts: dict[str, Callable[[], Any]] = {
        "compared": lambda: compare(networks[:1], arguments.repeats),
        WHOLE: lambda: released_whole(SIZES[1], clock),
        "scaling": lambda: scaling(arguments.repeats, clock),
    }
    if networks[1:]:
        parts[SMALL] = lambda: compare(networks[1:], 1)
    if large:
        parts[PAPER] = lambda: compare(large, arguments.repeats if on_gpu else 1)
    if on_gpu:
        parts[THROUGHPUT] = lambda: list(throughput([*networks, *large], clock, peaks))
    else:
        parts[MEMORY] = lambda: list(memory(networks))
    if absent := [name for name in arguments.only or () if name not in parts]:
        parser.error(f"{absent[0]}: not on this device, or a network for it is not given")
    results = RESULTS / ("speed-cuda.json" if on_gpu else "speed.json")

    def facts() -> Row:
        found: Row = {"machine": machine(clock.device)}
        if all(peaks.best.values()):  # some parts need none
            found["peaks"] = {name: f"{value / 1e9:.1f} G/s" for name, value in peaks.best.items()}
        return found

    measure_parts(
        parts, results, arguments.only, facts=facts, report=lambda table: write_report(table, results)
    )


if __name__ == "__main__":
    main()
