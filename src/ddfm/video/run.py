"""Two videos of one scene fused into one. docs/video.md.

Frames are taken as they are stored, a plane of luma and two of chroma: luma is fused, and chroma goes
through as it is where one source alone is in colour. Only a few frames are in memory at a time.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ddfm.devices import pick_device, pick_dtype, threads, use_threads
from ddfm.errors import InputError
from ddfm.formats.atomic import prepare_folder
from ddfm.fusion.options import check_options
from ddfm.fusion.pipeline import as_prior, check_steps
from ddfm.fusion.task import Choice, choose_task
from ddfm.likelihoods.tasks import TASKS
from ddfm.pictures.image import MINIMUM_SIDE, Image
from ddfm.video.frames import FrameFusion, PreparedFrame
from ddfm.video.overlap import Behind, prefetch
from ddfm.video.planes import Frame, read_planes
from ddfm.video.reading import Reader, in_step, pyav
from ddfm.video.steady import SteadyFusion, VideoNoise
from ddfm.video.writing import FORMATS, Writer, partial_path

if TYPE_CHECKING:
    from ddfm.priors.diffusion import Prior


@dataclass(frozen=True)
class VideoResult:
    """What `fuse_videos` made.

    Attributes:
        path: the file.
        frames: how many it has.
        seconds: how long it runs.
        size: height, width.
        notes: lines about what one may not expect: an input that ends early, rotation applied, audio
            that could not be kept.
        settings: prior (None if no network was needed), steps, seed, task and why it was chosen,
            noise (of each source, in 8-bit grey levels, as measured last or given; None if it was left
            alone), stretch, device, dtype, backend.
    """

    path: Path
    frames: int
    seconds: float
    size: tuple[int, int]
    notes: tuple[str, ...]
    settings: dict[str, Any]


def fuse_videos(
    a: str | os.PathLike[str],
    b: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    every: int = 1,
    start: float = 0.0,
    duration: float | None = None,
    steps: int = 0,
    seed: int = 3407,
    task: str = "auto",
    prior: str | os.PathLike[str] | Prior | Callable[[], Prior] = "natural",
    noise: VideoNoise | None = None,
    stretch: str = "auto",
    device: str = "auto",
    dtype: str = "auto",
    backend: str = "torch",
    progress: Callable[[int, int | None], None] = lambda frame, total: None,
) -> VideoResult:
    """Fuse two aligned videos of one scene into one, in step and without flicker.

    The result has the times of the frames of the first source in colour (of ``a`` if none is), each of
    them fused with the frame of the other source that is nearest in time; times count from the start
    of each file. It runs while both do. Until it is complete it is called OUT.partial.mp4 (or .mkv):
    what a crash or Ctrl-C leaves there can be played.

    Args:
        a: the first source, the infrared one: anything that FFmpeg decodes.
        b: the second source, the visible one, of the same size once both are upright.
        output: .mp4, .m4v, .mov or .mkv. H.264, upright, YUV 4:2:0 (4:4:4 if height or width is odd,
            which 4:2:0 cannot hold), with the audio of the first source that has any.
        every: fuse every n-th frame only.
        start: seconds to leave out at the start.
        duration: seconds to fuse; None for all.
        steps: network evaluations a frame; 0 for the likelihood alone, which loads no network.
        seed: of the starting noise, the same for every frame.
        task: as for `ddfm.fuse`; ``"auto"`` looks at the first frames.
        prior: as for `ddfm.fuse`; not loaded if ``steps`` is 0.
        noise: ``"auto"`` to find out how noisy each source is and to average that away over time (if
            ``steps`` is not 0, sources above the gate are denoised by the prior first); ``"off"``; or
            the standard deviation in each source, in 8-bit grey levels. None for ``"auto"``, but ``"off"``
            for medical pictures.
        stretch: ``"auto"`` or ``"none"``, as for `ddfm.fuse`.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"mps"``, ...
        dtype: of the network, as for `ddfm.fuse`.
        backend: what evaluates it, as for `ddfm.fuse`.
        progress: called after every frame with how many are done and how many there will be; None
            if the inputs do not tell.

    Raises:
        InputError: an input is no video, cannot be decoded, changes its size on the way or differs in
            size from the other; an option is none of the above; the output cannot be written. Then
            nothing is left of the output.
    """
    paths, output = (Path(a), Path(b)), Path(output)
    check_options(
        form="ddfm",
        scheduler="ddim",
        steps=steps,
        seed=seed,
        task=task,
        noise=noise,
        stretch=stretch,
        device=device,
        dtype=dtype,
        backend=backend,
    )
    check_cut(every, start, duration)
    check_output(output, paths)
    place = pick_device(device, backend)
    number = pick_dtype(dtype, place, "ddfm")

    @cache
    def model() -> Prior:
        return as_prior(prior).to(place, number, backend)

    if steps:
        check_steps(model(), "ddfm", steps)
    readers = [Reader(path) for path in paths]
    leader = 1 if readers[1].in_colour and not readers[0].in_colour else 0
    lead, other = readers[leader], readers[1 - leader]
    check_sizes(readers)
    check_start(readers, start)
    task, why = choose_for_videos(readers, start) if task == "auto" else (task, "")
    if noise is None:
        noise = "off" if task == "medical" else "auto"
    end = math.inf if duration is None else start + duration
    total = expected_frames(readers, lead.interval * every, start, end)
    fusion = FrameFusion(
        TASKS[task],
        SteadyFusion(TASKS[task], model, steps=steps, noise=noise, stretch=stretch == "auto", seed=seed),
    )
    count, last = 0, start
    prepare_folder(output.parent)

    def prepared() -> Iterator[tuple[Frame, PreparedFrame | None]]:
        """Yield the frames that give the times, each with its prepared sources, if it is to be fused."""
        use_threads(share)
        both = in_step(lead.frames(start, end), other.frames(start, early=True), other.interval)
        for index, frames in enumerate(both):
            ready = None
            if index % every == 0:
                with torch.inference_mode():
                    planes = [read_planes(frame, lead.size, lead.matrix, place) for frame in frames]
                    ready = fusion.prepare(planes if leader == 0 else planes[::-1], frames[0].time)
            yield frames[0], ready

    # One thread prepares frames and one fuses them, and threads that wait for others' cores are slow.
    share = max(1, torch.get_num_threads() // 2)
    with Writer(output, lead, start, end, every) as writer, torch.inference_mode(), threads(share):
        writer.keep_audio(next((reader for reader in readers if reader.has_audio), None))
        with Behind() as behind:
            for frame, ready in prefetch(prepared()):
                last = frame.time
                if ready is None:
                    continue
                behind(writer.write, frame.pts, fusion.fuse(ready, lead.matrix))
                count += 1
                progress(count, None if total is None else max(total, count))
        if not count:
            raise InputError(f"{lead.path} and {other.path}: have no frames in common after {start:g} s")
        writer.finish(min(last + lead.interval, end))
    notes = [note for reader in readers for note in reader.notes(end)]
    if other.ended and not lead.ended and not notes:
        notes.append(f"{other.path}: is shorter than {lead.path.name}; the result ends with it")
    turned = [
        f"{reader.path}: rotation applied, the result is upright" for reader in readers if reader.turned
    ]
    return VideoResult(
        path=output,
        frames=count,
        seconds=min(last + lead.interval, end) - start,
        size=lead.size,
        notes=(*notes, *turned, *writer.notes),
        settings={
            "prior": model().name if steps else None,
            "steps": steps,
            "seed": seed,
            "task": task,
            "why": why,
            "noise": fusion.noise,
            "stretch": stretch,
            "device": str(place),
            "dtype": str(number).removeprefix("torch."),
            "backend": backend,
        },
    )


def choose_for_videos(readers: Sequence[Reader], start: float) -> Choice:
    """Choose the task by the first frames; see `choose_task`."""
    scene = []
    for reader in readers:
        for frame in reader.frames(start, early=True):
            planes = read_planes(frame, readers[0].size, readers[0].matrix, torch.device("cpu"))
            luma = (planes.luma[0, 0] + 1) / 2
            shown = luma.clamp(0, 1)[..., None].expand(-1, -1, 3 if reader.in_colour else 1)
            scene.append(Image(shown.numpy(), np.dtype(np.uint8), name=str(reader.path)))
            break
    if len(scene) < len(readers):
        raise InputError(f"{readers[0].path} and {readers[1].path}: have no frames after {start:g} s")
    return choose_task(scene)


def check_cut(every: int, start: float, duration: float | None) -> None:
    """Raise InputError for a part that no video has."""
    if every < 1:
        raise InputError(f"every {every}: must be 1 (all frames) or more")
    if not 0 <= start < math.inf:
        raise InputError(f"start {start:g}: must be 0 seconds or more")
    if duration is not None and not 0 < duration < math.inf:
        raise InputError(f"duration {duration:g}: must be more than 0 seconds")


def check_output(output: Path, inputs: Sequence[Path]) -> None:
    """Raise InputError if the output has an unknown suffix, is an input, or cannot be encoded."""
    if output.suffix.lower() not in FORMATS:
        raise InputError(f"{output}: unknown output format; use one of {', '.join(FORMATS)}")
    if output.is_dir():
        raise InputError(f"{output}: is a folder; name a file in it")
    for taken in (output, partial_path(output)):
        if taken.exists() and any(path.exists() and taken.samefile(path) for path in inputs):
            raise InputError(f"{taken}: is one of the sources; name another output")
    if "libx264" not in pyav().codecs_available:
        raise InputError("this build of PyAV has no libx264 encoder; the one of pip install av has")


def check_sizes(readers: Sequence[Reader]) -> None:
    """Raise InputError unless all have one size, large enough to be fused."""
    if any(reader.size != readers[0].size for reader in readers):
        sizes = " and ".join(f"{r.path} is {r.size[1]}x{r.size[0]}" for r in readers)
        raise InputError(f"{sizes} pixels; videos must be aligned and of one size")
    height, width = readers[0].size
    if min(height, width) < MINIMUM_SIDE:
        raise InputError(
            f"{readers[0].path}: is {width}x{height} pixels; "
            f"at least {MINIMUM_SIDE}x{MINIMUM_SIDE} are needed"
        )


def expected_frames(readers: Sequence[Reader], interval: float, start: float, end: float) -> int | None:
    """Count the frames that the result will have, as far as the inputs tell."""
    lengths = [reader.expected for reader in readers if reader.expected is not None]
    if not lengths and end == math.inf:
        return None
    return max(1, math.ceil((min([*lengths, end]) - start) / interval - 0.01))


def check_start(readers: Sequence[Reader], start: float) -> None:
    """Raise InputError if a video is known to end before."""
    for reader in readers:
        if reader.expected is not None and start >= reader.expected:
            raise InputError(f"start {start:g}: {reader.path} is only {reader.expected:.2f} s long")
