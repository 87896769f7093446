"""Memory that loading and converting a guided-diffusion checkpoint takes, as multiples of its size.

    python benchmarks/convert_memory.py [NUM_CHANNELS]

A checkpoint of OpenAI's 256x256 layout with random weights is written (256 channels: the paper's, 2.2 GB;
default 128), then loaded and converted in processes of their own, whose anonymous memory is watched.
Pages of the mapped file are not counted: the system takes them back at will.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from common import script_parser, write_result

from ddfm.priors.guided_diffusion import (
    OPENAI_256_UNCONDITIONAL,
    convert_guided_diffusion,
    network_config,
    network_names,
    read_guided_diffusion,
)
from ddfm.priors.network import UNet
from ddfm.priors.network_config import UNetConfig


def write_checkpoint(path: Path, config: dict[str, Any]) -> int:
    """A random checkpoint of that layout; returns its size in bytes."""
    with torch.device("meta"):
        state = UNet(UNetConfig(**network_config(config))).state_dict()
    weights = {}
    for old, new in network_names(config):
        for part in ("weight", "bias"):
            if old.endswith(".qkv"):
                shape = state[f"{new}.to_q.{part}"].shape
                weights[f"{old}.{part}"] = torch.randn(3 * shape[0], *shape[1:], *[1] * (part == "weight"))
            elif (name := f"{new}.{part}") in state:
                extra = [1] * (old.endswith(".proj_out") and part == "weight")
                weights[f"{old}.{part}"] = torch.randn(*state[name].shape, *extra)
    torch.save(weights, path)
    path.with_suffix(".yaml").write_text(yaml.safe_dump(config))
    return path.stat().st_size


def anonymous_memory() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("this system does not tell RssAnon")


def peak_of(work: Callable[..., object], *arguments: Any) -> int:
    """Bytes by which anonymous memory grows at most while ``work`` runs."""
    before, peak, done = anonymous_memory(), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.01):
            peak = max(peak, anonymous_memory() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    work(*arguments)
    done.set()
    watcher.join()
    return peak


def main() -> None:
    parser = script_parser(__doc__, "convert_memory.json")
    parser.add_argument("num_channels", type=int, nargs="?", default=128, help="256 are the paper's")
    arguments = parser.parse_args()
    channels = arguments.num_channels
    config = OPENAI_256_UNCONDITIONAL | {"num_channels": channels}
    fresh = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "checkpoint.pt"
        size = write_checkpoint(checkpoint, config)
        row: dict[str, float] = {"num_channels": channels, "checkpoint_MB": round(size / 1e6)}
        for name, work, given in (
            ("load", read_guided_diffusion, (checkpoint,)),
            ("convert", convert_guided_diffusion, (checkpoint, Path(folder) / "out")),
        ):
            with fresh.Pool(1) as pool:
                row[f"{name}: peak / size"] = round(pool.apply(peak_of, (work, *given)) / size, 2)
    write_result(arguments.output, row)
    print(row)


if __name__ == "__main__":
    main()
