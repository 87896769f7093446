"""What `speed` holds times against: a clock, the machine's best, what an evaluation has to compute."""

from __future__ import annotations

import copy
import ctypes
import platform
import statistics
import subprocess
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from ddfm.devices import is_fast_at_bfloat16
from ddfm.pictures.tiles import Padding
from ddfm.priors.diffusion import DiffusionPrior, predict
from ddfm.sampling.loop import Step

LARGE = {"cpu": (2048, 2**26), "cuda": (8192, 2**30)}  # side of the matrices, floats of the copy


class Clock:
    """Seconds on a device, which is waited for."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def seconds(self, work: Callable[[], object]) -> float:
        start = self.now()
        work()
        return self.now() - start

    def steps(self, work: Callable[[Callable[[Step], None]], object]) -> tuple[float, list[float]]:
        """Of the whole, and between the callbacks that it is given to make after every step."""
        stamps: list[float] = []
        total = self.seconds(lambda: work(lambda step: stamps.append(self.now())))
        return total, [b - a for a, b in pairwise(stamps)]


class Traffic(TorchDispatchMode):
    """Counts the numbers that operations read and write, each by itself; those of views are none."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = operator(*args, **(kwargs or {}))
        if not operator.is_view:
            outputs = result if isinstance(result, tuple | list) else [result]
            inputs = [x for arg in args for x in (arg if isinstance(arg, tuple | list) else [arg])]
            self.numbers += sum(x.numel() for x in (*inputs, *outputs) if isinstance(x, Tensor))
        return result


def cost(prior: DiffusionPrior, height: int, width: int) -> tuple[int, int]:
    """Floating-point operations of an evaluation, and numbers read and written."""
    network = copy.deepcopy(prior.network).to("meta")
    padding = Padding.to_multiple(height, width, prior.multiple)
    x = torch.empty(1, prior.channels, padding.padded_height, padding.padded_width, device="meta")
    with torch.no_grad(), Traffic() as traffic, FlopCounterMode(display=False) as counter:
        predict(network, x, 0, prior.pixel_unshuffle)
    return counter.get_total_flops(), traffic.numbers


class Peaks:
    """The best that the machine was seen to do: operations a second by number format, bytes a second."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.best = clock, {"float32": 0.0, "bfloat16": 0.0, "copy": 0.0}
        side, count = LARGE[clock.device.type]
        self.operations = 2 * side**3
        self.matrices = {
            kind: torch.randn(side, side, device=clock.device).to(getattr(torch, kind))
            for kind in ("float32", "bfloat16")
        }
        self.source = torch.ones(count, device=clock.device)
        self.target = torch.empty_like(self.source)

    def measure(self) -> None:
        for name, matrix in self.matrices.items():
            seconds = self.clock.seconds(lambda m=matrix: m @ m)  # type: ignore[misc]
            self.best[name] = max(self.best[name], self.operations / seconds)
        seconds = self.clock.seconds(lambda: self.target.copy_(self.source))
        self.best["copy"] = max(self.best["copy"], 2 * self.source.nbytes / seconds)


class Growth:
    """By how many bytes this process's resident memory grows at most within a context (Linux).

    What is free is given back to the system first, and the mark of the highest is set to what is left.
    """

    def __enter__(self) -> Growth:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        self.before = resident("VmRSS")
        return self

    def __exit__(self, *error: object) -> None:
        self.bytes = resident("VmHWM") - self.before


def resident(kind: str) -> int:
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith(kind))


class Power:
    """Joules that a GPU draws within a context, by nvidia-smi every tenth of a second; None without it."""

    def __enter__(self) -> Power:
        self.watts: list[float] = []
        self.start, self.ended = time.perf_counter(), threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def _watch(self) -> None:
        query = ["nvidia-smi", "--query-gpu=power.draw", "--format=csv,noheader,nounits", "-i", "0"]
        while not self.ended.wait(0.1):
            try:
                self.watts.append(float(subprocess.run(query, capture_output=True, check=True).stdout))
            except (OSError, ValueError, subprocess.CalledProcessError):
                return

    def __exit__(self, *error: object) -> None:
        self.ended.set()
        self.thread.join()
        self.seconds = time.perf_counter() - self.start

    @property
    def joules(self) -> float | None:
        return statistics.fmean(self.watts) * self.seconds if self.watts else None


def machine(device: torch.device) -> dict[str, Any]:
    name = platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).is_file():
        name = next(
            (x.split(":")[1].strip() for x in info.read_text().splitlines() if "model name" in x), name
        )
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    return {
        "device": name,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "bfloat16": is_fast_at_bfloat16(device),
    }
