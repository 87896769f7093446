"""What one evaluation of a prior costs: operations, time and memory, beside the paper's network.

    python benchmarks/prior_cost.py [PRIOR]

Operations are counted by torch on the meta device. Each time is the median of five evaluations after
one, in a process of its own; memory is what that process grew by at its peak. Written to
results/prior_cost.json.
"""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import time

import torch
from common import script_parser, write_result
from torch.utils.flop_counter import FlopCounterMode

from ddfm.pictures.tiles import Padding
from ddfm.priors.foreign import Network
from ddfm.priors.guided_diffusion import OPENAI_256_UNCONDITIONAL, network_config
from ddfm.priors.loading import load_prior
from ddfm.priors.network import UNet
from ddfm.priors.network_config import UNetConfig

SIZES = ((480, 640), (1080, 1920))


def kilo_macs_per_pixel(network: Network, pixel_unshuffle: int, height: int, width: int) -> float:
    """Thousands of multiply-accumulates per image pixel and evaluation."""
    shape = (1, network.config.in_channels, height // pixel_unshuffle, width // pixel_unshuffle)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.to("meta")(torch.empty(shape, device="meta"), torch.ones(1, device="meta"))
    return counter.get_total_flops() / 2 / height / width / 1000


def evaluation(name: str, height: int, width: int, dtype: torch.dtype) -> dict[str, float]:
    """Median seconds of one evaluation, and the memory it takes in MB."""
    prior = load_prior(name).to("cpu", dtype)
    padding = Padding.to_multiple(height, width, prior.multiple)
    x = torch.randn(1, prior.channels, padding.padded_height, padding.padded_width)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    with torch.inference_mode():
        for _ in range(6):
            start = time.perf_counter()
            prior.predict_x0(x, 500, prior.alphas_cumprod[500])
            seconds.append(time.perf_counter() - start)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"seconds": round(statistics.median(seconds[1:]), 3), "peak_MB": round(grown / 1024)}


def main() -> None:
    parser = script_parser(__doc__, "prior_cost.json")
    parser.add_argument("prior", nargs="?", default="natural")
    arguments = parser.parse_args()
    name = arguments.prior
    prior = load_prior(name)
    with torch.device("meta"):
        paper = UNet(UNetConfig(**network_config(OPENAI_256_UNCONDITIONAL)))
    table: dict[str, object] = {
        "threads": torch.get_num_threads(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "parameters": sum(p.numel() for p in prior.network.parameters()),
        "kMAC per pixel": round(kilo_macs_per_pixel(prior.network, prior.pixel_unshuffle, 480, 640), 1),
        "paper's network: parameters": sum(p.numel() for p in paper.parameters()),
        "paper's network: kMAC per pixel": round(kilo_macs_per_pixel(paper, 1, 480, 640), 1),
    }
    fresh = multiprocessing.get_context("spawn")
    for height, width in SIZES:
        for dtype in (torch.float32, torch.bfloat16):
            with fresh.Pool(1) as pool:
                row = pool.apply(evaluation, (name, height, width, dtype))
            table[f"{height}x{width} {str(dtype).removeprefix('torch.')}"] = row
    write_result(arguments.output, table)
    print(arguments.output.read_text(), end="")


if __name__ == "__main__":
    main()
