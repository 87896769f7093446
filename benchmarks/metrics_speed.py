"""How long each metric takes on one pair, on one core: ``python benchmarks/metrics_speed.py``.

Writes the median of several repeats for every metric, the time of each convention's whole set through
``evaluate``, and, for comparison, of a VIF written the plain way, with square windows.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from time import perf_counter, process_time

import torch
from common import script_parser, write_result
from torch import Tensor
from torch.nn import functional as F

from ddfm.metrics import METRICS, Convention, evaluate, vif


def made_up_picture(height: int, width: int, channels: int, seed: int) -> Tensor:
    """Smooth blobs and some noise, as bytes: metrics take as long on it as on a photograph."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, channels, height // 16, width // 16, generator=generator)
    smooth = F.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    noise = torch.rand(1, channels, height, width, generator=generator)
    return (225 * smooth + 30 * noise).to(torch.uint8)


def milliseconds(run: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Median wall-clock and processor time of a run, after one to warm up."""
    run()
    wall, processor = [], []
    for _ in range(repeats):
        wall_start, processor_start = perf_counter(), process_time()
        run()
        wall.append(perf_counter() - wall_start)
        processor.append(process_time() - processor_start)
    return 1000 * median(wall), 1000 * median(processor)


def plain_vif(a: Tensor, b: Tensor, f: Tensor) -> Tensor:
    """VIFp(A, F) + VIFp(B, F) with square windows, each source on its own, as it is usually written."""
    return sum((plain_vifp(source.double(), f.double()) for source in (a, b)), torch.zeros(()))


def plain_vifp(reference: Tensor, distorted: Tensor) -> Tensor:
    kept = total = torch.zeros((), dtype=torch.float64)
    for size in (17, 9, 5, 3):
        t = torch.arange(size, dtype=torch.float64) - size // 2
        window = torch.exp(-(t[:, None] ** 2 + t**2) / (2 * (size / 5) ** 2))[None, None]
        window = window / window.sum()
        if size != 17:
            reference = F.conv2d(reference, window)[..., ::2, ::2]
            distorted = F.conv2d(distorted, window)[..., ::2, ::2]
        mean_r, mean_d = F.conv2d(reference, window), F.conv2d(distorted, window)
        variance_r = (F.conv2d(reference * reference, window) - mean_r**2).clamp(min=0)
        variance_d = (F.conv2d(distorted * distorted, window) - mean_d**2).clamp(min=0)
        shared = F.conv2d(reference * distorted, window) - mean_r * mean_d
        gain = (shared / (variance_r + 1e-10)).clamp(min=0)
        residual = (variance_d - gain * shared).clamp(min=1e-10)
        kept = kept + torch.log10(1 + gain**2 * variance_r / (residual + 2)).sum()
        total = total + torch.log10(1 + variance_r / 2).sum()
    return kept / total


def main() -> None:
    parser = script_parser(__doc__, "metrics_speed.txt")
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(1)

    pictures: dict[Convention, list[Tensor]] = {
        "paper": [made_up_picture(options.height, options.width, 1, seed) for seed in range(3)],
        "vifb": [made_up_picture(options.height, options.width, 3, seed) for seed in range(3)],
    }
    lines = [
        f"one pair, {options.width}x{options.height}, one thread, median of {options.repeats}, ms",
        f"{'metric':20}{'planes':>7}{'wall':>9}{'processor':>11}",
    ]

    def line(name: str, planes: int, run: Callable[[], object]) -> None:
        wall, processor = milliseconds(run, options.repeats)
        lines.append(f"{name:20}{planes:7}{wall:9.1f}{processor:11.1f}")
        print(lines[-1], flush=True)

    for convention, (a, b, f) in pictures.items():
        line(f"all of {convention}", a.shape[1], lambda a=a, b=b, f=f, c=convention: evaluate(a, b, f, c))  # type: ignore[misc]
        for metric in METRICS.values():
            if convention in metric.conventions:
                line(metric.name, a.shape[1], lambda a=a, b=b, f=f, m=metric: m.compute(a, b, f))  # type: ignore[misc]
    a, b, f = pictures["paper"]
    for metric in METRICS.values():
        if not metric.conventions:
            line(metric.name, 1, lambda m=metric: m.compute(a, b, f))  # type: ignore[misc]
    torch.testing.assert_close(plain_vif(a, b, f), vif(a, b, f)[0], rtol=1e-9, atol=0)
    line("VIF, square windows", 1, lambda: plain_vif(a, b, f))
    write_result(options.output, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
