"""What `ddfm video` does to flicker, how fast it is, what memory it takes and what a crash leaves.

    python benchmarks/video.py [--quick] [--only PART ...]

All on drawn scenes, one thread: the street of ``ddfm demo`` (480 x 640) with independent noise in every
frame, a warm target that moves through it, and light that drifts. Sources are stored without loss, or
as H.264 (crf 23, a keyframe every 12 frames) where the scene says so; results are measured as the
written file decodes. Written to results/video.json.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from common import measure_parts, script_parser
from numpy.typing import NDArray

from ddfm.demo.scenes import night
from ddfm.fusion.options import Options
from ddfm.fusion.pipeline import fuse
from ddfm.priors.loading import load_prior
from ddfm.video import fuse_videos, partial_paths
from ddfm.video.steady import VideoNoise

RATE = 25
LUMA = np.array((0.299, 0.587, 0.114), np.float32)
PATH_OF_TARGET = slice(180, 300)  # rows that the target moves in; the rest is static
Array = NDArray[np.uint8]


def write(path: Path, frames: Iterator[Array], codec: str = "ffv1") -> None:
    with av.open(str(path), "w") as container:
        stream: Any = None
        for index, samples in enumerate(frames):
            grey = samples.ndim == 2
            if stream is None:
                quality = {"crf": "23", "preset": "veryfast"} if codec == "libx264" else {}
                stream = container.add_stream(codec, rate=RATE, options=quality)
                stream.height, stream.width = samples.shape[:2]
                stream.codec_context.gop_size = 12
                stream.pix_fmt = "gray" if grey and codec == "ffv1" else "yuv420p"
            frame = av.VideoFrame.from_ndarray(samples, format="gray" if grey else "rgb24")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@cache
def scene() -> Any:
    return night()


def street(
    count: int, sigma: float, drift: float, target: bool = True, scale: int = 1
) -> tuple[Iterator[Array], Iterator[Array]]:
    """Frames of the thermal and the visible street; ``drift``: share by which light grows every frame."""
    pair = scene()

    def frames(picture: Any, level: int, seed: int) -> Iterator[Array]:
        rng = np.random.default_rng(seed)
        still = np.asarray(picture, np.float32)[::scale, ::scale]
        for t in range(count):
            frame = still * (1 + drift * t)
            if target:
                left = (20 + 8 * t) % 560
                frame[200 // scale : 280 // scale, left // scale : (left + 60) // scale] = level
            noise = rng.normal(0, sigma, frame.shape) if sigma else 0.0
            yield (frame + noise).round().clip(0, 255).astype(np.uint8)

    return frames(pair.a, 230, 1), frames(pair.b, 60, 2)


def lumas(path: Path) -> list[NDArray[np.float32]]:
    with av.open(str(path)) as container:
        frames = [f.reformat(format="gray", dst_color_range="JPEG") for f in container.decode(video=0)]
        return [frame.to_ndarray().astype(np.float32) for frame in frames]


def change(frames: list[NDArray[np.float32]]) -> float:
    """Mean change from frame to frame outside the target's path, in grey levels."""
    static = np.ones(frames[0].shape[0], bool)
    static[PATH_OF_TARGET] = False
    return round(float(np.mean([abs(b - a)[static].mean() for a, b in pairwise(frames)])), 3)


def flicker(
    folder: Path, count: int, sigma: float, drift: float, frame_by_frame: int, codec: str
) -> dict[str, float]:
    a, b, out = (folder / name for name in ("a.mkv", "b.mkv", "out.mp4"))
    for path, frames in zip((a, b), street(count, sigma, drift), strict=True):
        write(path, frames, codec)
    row = {"thermal": change(lumas(a)), "visible": change(lumas(b))}
    modes: dict[str, VideoNoise] = {"--noise auto": "auto", "--noise off": "off"}
    for name, noise in modes.items():
        fuse_videos(a, b, out, Options(steps=0, noise=noise))
        row[f"video, {name}"] = change(lumas(out))
        if noise == "auto":
            row["the same, second half"] = change(lumas(out)[count // 2 :])
    prior = load_prior()
    for name, noise in modes.items():
        most = frame_by_frame if noise == "auto" else count  # denoising each takes a second
        fused = [fuse(*pair, steps=0, noise=noise, prior=prior).to_array() for pair in pictures(a, b, most)]
        row[f"frame by frame, {name}"] = change([(frame @ LUMA).astype(np.float32) for frame in fused])
    return row


def pictures(a: Path, b: Path, most: int) -> Iterator[tuple[Array, Array]]:
    """The first frames of two videos, grey and RGB."""
    with av.open(str(a)) as first, av.open(str(b)) as second:
        for left, right, _ in zip(first.decode(video=0), second.decode(video=0), range(most), strict=False):
            grey: Any = left.reformat(format="gray", dst_color_range="JPEG").to_ndarray()
            colour: Any = right.to_ndarray(format="rgb24")
            yield grey, colour


def sampled(folder: Path, count: int, steps: int) -> dict[str, float]:
    """With the prior in the fusion, at half the size."""
    global PATH_OF_TARGET
    a, b, out = (folder / name for name in ("a.mkv", "b.mkv", "out.mp4"))
    for path, frames in zip((a, b), street(count, 2.0, 0.0, scale=2), strict=True):
        write(path, frames)
    kept, PATH_OF_TARGET = PATH_OF_TARGET, slice(90, 150)
    prior = load_prior()
    fuse_videos(a, b, out, Options(steps=steps), prior=prior)
    row = {"thermal": change(lumas(a)), "visible": change(lumas(b)), "video": change(lumas(out))}
    pairs = pictures(a, b, count)
    fused = [fuse(*pair, steps=steps, noise="off", prior=prior).to_array() for pair in pairs]
    row["frame by frame"] = change([(frame @ LUMA).astype(np.float32) for frame in fused])
    PATH_OF_TARGET = kept
    return row


def degraded(folder: Path, count: int) -> dict[str, float]:
    """At half the size: the visible source whole, with missing pixels, and behind a lens of 2 pixels.

    Missing are 1 % of the pixels, two columns and a block of 40x40, in every frame.
    """
    from scipy.ndimage import gaussian_filter

    global PATH_OF_TARGET
    a, b, out = (folder / name for name in ("a.mkv", "b.mkv", "out.mp4"))
    thermal, visible = (list(frames) for frames in street(count, 2.0, 0.0, scale=2))
    kept, PATH_OF_TARGET = PATH_OF_TARGET, slice(90, 150)
    missing = np.random.default_rng(0).random(visible[0].shape[:2]) < 0.01
    missing[:, 200:202] = missing[20:60, 40:80] = True
    holed = [np.where(missing[..., None], 0, frame).astype(np.uint8) for frame in visible]
    noise = [frame.astype(np.float32) - visible[0] for frame in visible]
    soft = gaussian_filter(visible[0].astype(np.float32), (2, 2, 0))
    blurred = [(soft + each).round().clip(0, 255).astype(np.uint8) for each in noise]
    cases: dict[str, tuple[list[Array], dict[str, Any]]] = {
        "whole": (visible, {}),
        "missing, masked": (holed, {"masks": [None, missing]}),
        "blurred": (blurred, {}),
        "blurred, --deblur 0,2": (blurred, {"deblur": [0, 2]}),
        "blurred, --deblur auto": (blurred, {"deblur": "auto"}),
    }
    prior, row = load_prior(), {}
    for name, (frames, options) in cases.items():
        for path, pictures in ((a, thermal), (b, frames)):
            write(path, iter(pictures))
        result = fuse_videos(a, b, out, Options(steps=0, **options), prior=prior)
        row[name] = change(lumas(out))
        if name.endswith("auto"):
            row["found, thermal and visible"] = result.settings["deblur"]
    PATH_OF_TARGET = kept
    return row


def trail(folder: Path, count: int) -> dict[str, float]:
    """What the target leaves behind it: the result less that of clean sources, mean over its height."""
    a, b, out = (folder / name for name in ("a.mkv", "b.mkv", "out.mp4"))
    results = []
    modes: tuple[tuple[float, VideoNoise], ...] = ((4.0, "auto"), (0.0, "off"))
    for sigma, noise in modes:
        for path, frames in zip((a, b), street(count, sigma, 0.0), strict=True):
            write(path, frames)
        fuse_videos(a, b, out, Options(steps=0, noise=noise))
        results.append(lumas(out)[-1])
    left = 20 + 8 * (count - 1)
    behind = (results[0] - results[1])[204:276, max(0, left - 80) : left - 4].mean(0)
    ahead = (results[0] - results[1])[204:276, left + 64 : left + 144].mean(0)
    return {
        "largest behind": round(float(abs(behind).max()), 2),
        "largest ahead": round(float(abs(ahead).max()), 2),
        "mean behind": round(float(behind.mean()), 2),
        "mean ahead": round(float(ahead.mean()), 2),
    }


def resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def memory(folder: Path, count: int) -> dict[str, Any]:
    """Resident memory while a video with sound-free H.264 sources is fused, and its slope."""
    a, b = folder / "long_a.mp4", folder / "long_b.mp4"
    for path, frames in zip((a, b), street(count, 2.0, 0.0, scale=4), strict=True):
        write(path, frames, "libx264")
    samples: list[tuple[int, float]] = []

    def watch(frame: int, total: int | None) -> None:
        if frame % (count // 12) == 0:
            samples.append((frame, round(resident(), 1)))

    fuse_videos(a, b, folder / "long.mp4", progress=watch)
    settled = samples[len(samples) // 2 :]
    frame, size = np.array(settled).T
    slope = float(np.polyfit(frame, size, 1)[0])
    return {
        "frames": count,
        "size": "120x160",
        "resident MB by frame": dict(samples),
        "MB per 1000 frames, second half": round(1000 * slope, 3),
        "MB more after 30 minutes, extrapolated": round(slope * 30 * 60 * RATE, 1),
    }


def speed(folder: Path, count: int) -> dict[str, Any]:
    """Frames a second, decoding and encoding included, each part of the way on a thread of its own."""
    a, b = folder / "a.mp4", folder / "b.mp4"
    for path, frames in zip((a, b), street(count, 4.0, 0.0), strict=True):
        write(path, frames, "libx264")
    rows: dict[str, Any] = {}
    modes: dict[str, VideoNoise] = {"--noise auto": "auto", "--noise off": "off"}
    for name, noise in modes.items():
        clocks: list[tuple[float, float]] = []

        def note(frame: int, total: int | None, clocks: list[tuple[float, float]] = clocks) -> None:
            clocks.append((time.perf_counter(), time.process_time()))

        result = fuse_videos(a, b, folder / "out.mp4", Options(steps=0, noise=noise), progress=note)
        wall, processor = (end - start for start, end in zip(clocks[0], clocks[-1], strict=True))
        rows[name] = {
            "frames a second": round((len(clocks) - 1) / wall, 1),
            "frames a second of processor time": round((len(clocks) - 1) / processor, 1),
            "Mbit/s": round(result.path.stat().st_size * 8 / result.seconds / 1e6, 2),
        }
    return rows


def crash(folder: Path, count: int) -> dict[str, int]:
    """Frames that can be decoded of what SIGKILL leaves after so many were fused."""
    a, b = folder / "a.mp4", folder / "b.mp4"
    for path, frames in zip((a, b), street(count + 10, 2.0, 0.0, scale=4), strict=True):
        write(path, frames, "libx264")
    code = (
        "import os, signal, sys; from ddfm.video import fuse_videos;"
        f"fuse_videos(*sys.argv[1:], progress=lambda n, t: n == {count} and os.kill(os.getpid(), 9))"
    )
    row = {"frames fused": count}
    for suffix in (".mp4", ".mkv"):
        out = folder / f"crash{suffix}"
        done = subprocess.run([sys.executable, "-c", code, a, b, out], check=False)
        assert done.returncode == -signal.SIGKILL
        (partial,) = partial_paths(out)
        row[f"frames left of {out.name}"] = len(lumas(partial))
    return row


FLICKER = {
    "flicker, noise 4": (4, 0.0, "ffv1"),
    "flicker, noise 2": (2, 0.0, "ffv1"),
    "flicker, noise 10": (10, 0.0, "ffv1"),
    "flicker, noise 4, light +0.2 % a frame": (4, 0.002, "ffv1"),
    "flicker, noise 4, H.264": (4, 0.0, "libx264"),
}
SAMPLED = "flicker with --steps 2, 240x320, noise 2"
DEGRADED = "missing pixels, and a lens of 2 pixels, 240x320"
PARTS = (*FLICKER, SAMPLED, DEGRADED, "trail", "speed at 480x640", "memory", "crash")


def apart(work: Callable[..., Any], *arguments: Any) -> Any:
    """Do the work in a fresh process with one thread."""
    with multiprocessing.get_context("spawn").Pool(1, torch.set_num_threads, (1,)) as pool:
        result = pool.apply(work, arguments)
    print(result, flush=True)
    return result


def parts_of(folder: Path, quick: bool) -> dict[str, Callable[[], Any]]:
    """Return the measurements by name; ``quick`` ones take a few frames only."""
    count, most = (6, 3) if quick else (26, 4)
    parts = {
        title: partial(apart, flicker, folder, count, sigma, drift, most, codec)
        for title, (sigma, drift, codec) in FLICKER.items()
    }
    return parts | {
        SAMPLED: partial(apart, sampled, folder, 3 if quick else 8, 2),
        DEGRADED: partial(apart, degraded, folder, 3 if quick else 8),
        "trail": partial(apart, trail, folder, 10 if quick else 40),
        "speed at 480x640": partial(apart, speed, folder, count),
        "memory": partial(apart, memory, folder, 60 if quick else 5000),
        "crash": partial(apart, crash, folder, 120),
    }


def main() -> None:
    parser = script_parser(__doc__, "video.json", parts=PARTS)
    parser.add_argument("--quick", action="store_true", help="a few frames of everything, nothing kept")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measure_parts(
            parts_of(folder, options.quick),
            folder / "video.json" if options.quick else options.output,
            options.only,
            facts=lambda: {"threads": 1, "processors": os.cpu_count()},
        )


if __name__ == "__main__":
    main()
