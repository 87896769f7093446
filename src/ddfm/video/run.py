"""Two videos of one scene fused into one. docs/use/video.md.

Frames are taken as they are stored, a plane of luma and two of chroma. Luma is fused. Chroma is copied where
one source alone is in colour. Only a few frames are in memory at a time.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from ddfm.errors import InputError
from ddfm.formats.atomic import check_target, prepare_folder
from ddfm.formats.paths import check_paths
from ddfm.fusion.masks import check_masks, holes_of_masks
from ddfm.fusion.options import Options
from ddfm.fusion.pipeline import Fusion
from ddfm.fusion.task import Choice, choose_task
from ddfm.pictures.image import MINIMUM_SIDE, Image
from ddfm.threads import fair_threads, follow_load, threads, use_threads
from ddfm.video.frames import FrameFusion, PreparedFrame
from ddfm.video.overlap import Behind, prefetch
from ddfm.video.planes import Frame, read_planes
from ddfm.video.reading import Reader, in_step, pyav
from ddfm.video.steady import SteadyFusion
from ddfm.video.writing import FORMATS, Writer, partial_paths

if TYPE_CHECKING:
    from ddfm.priors.lazy import PriorSource


MOST_EVERY = 1_000_000


@dataclass(frozen=True)
class VideoResult:
    """Tell what `fuse_videos` made.

    Attributes:
        path: the file.
        frames: how many it has.
        seconds: how long it runs.
        size: height, width.
        notes: lines about what one may not expect: an input that ends early, rotation applied, audio
            that could not be kept.
        settings: prior (None if no network was needed), steps, seed, task and why it was chosen, noise,
            stretch, device, dtype, backend. The noise is that of each source, in 8-bit grey levels, as
            measured last or given; None if it was left alone.
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
    options: Options | None = None,
    *,
    prior: PriorSource = "natural",
    every: int = 1,
    start: float = 0.0,
    duration: float | None = None,
    progress: Callable[[int, int | None], None] = lambda frame, total: None,
) -> VideoResult:
    """Fuse two aligned videos of one scene into one, in step and without flicker.

    The result has the times of the frames of the first source in colour (of ``a`` if none is). Each of them
    is fused with the other source's frame nearest in time. Times count from the start of each file. It runs
    while both do. Until it is complete its name is OUT.partial-XXXXXXXX.mp4 (or .mkv): a file cut off by a
    crash or Ctrl-C still plays.

    Args:
        a: the first source, the infrared one: anything that FFmpeg decodes.
        b: the second source, the visible one, of the same size once both are upright.
        output: .mp4, .m4v, .mov or .mkv. H.264, upright, YUV 4:2:0 (4:4:4 if height or width is odd,
            which 4:2:0 cannot hold), with the audio of the first source that has any.
        options: task, steps, seed, noise, deblur, masks, stretch, device, dtype and backend as for
            `ddfm.fuse`; the others are not for videos. None for the defaults with 0 steps, which load no
            network. The task is chosen by the first frames. Noise is averaged over time; if there are steps,
            sources above the gate are denoised by the prior first. A mask holds for every frame; deblur
            "auto" looks at the first frame of each scene.
        prior: as for `ddfm.fuse`; for 0 steps only loaded to sharpen, or to fill what no source shows.
        every: fuse every n-th frame only.
        start: seconds to leave out at the start.
        duration: seconds to fuse; None for all.
        progress: called after every frame with how many are done and how many there will be; None
            if the inputs do not tell.

    Raises:
        InputError: an input is no video, cannot be decoded, changes its size on the way or differs in
            size from the other; an option is none of the above; the output cannot be written. Then
            nothing is left of the output.
    """
    paths, output = (Path(a), Path(b)), Path(output)
    options = Options(steps=0) if options is None else options
    check_video_options(options)
    check_cut(every, start, duration)
    check_output(output, [*paths, *options.mask_paths])
    fusion = Fusion(options, prior)
    fusion.check_prior()
    readers = [Reader(path) for path in paths]
    check_sizes(readers)
    masks = options.read_masks
    if masks is not None:
        check_masks(masks, [str(reader.path) for reader in readers], [reader.size for reader in readers])
    check_start(readers, start)
    choice = choose_for_videos(readers, start) if options.finds_task else fusion.chosen([])
    task = fusion.task_of(choice)
    if readers[0].in_colour and not readers[1].in_colour:  # the thermal source is the second
        task = replace(task, thermal=1)
    steady = SteadyFusion(
        task,
        fusion.prior,
        steps=options.evaluations,
        noise=options.noise_for(task),
        stretch=options.stretch == "auto",
        seed=options.seed,
        holes=None if masks is None else holes_of_masks(masks),
        deblur=options.deblur,
    )
    frames = FrameFusion(task, steady)
    cut = Cut(every, start, math.inf if duration is None else start + duration)
    count, end, notes = write_frames(readers, frames, options.torch_device, cut, output, progress)
    return VideoResult(
        path=output,
        frames=count,
        seconds=end - start,
        size=readers[0].size,
        notes=notes,
        settings={
            "prior": fusion.prior.asked.name if fusion.prior.asked else None,
            "steps": options.evaluations,
            "seed": options.seed,
            "task": choice.task,
            "why": choice.why,
            "noise": frames.noise,
            "deblur": "off" if options.deblur == "off" else steady.blurs,
            "stretch": options.stretch,
            "device": str(options.torch_device),
            "dtype": str(options.torch_dtype).removeprefix("torch."),
            "backend": options.backend,
        },
    )


class Cut(NamedTuple):
    """Say which frames are fused: every n-th, from ``start`` up to ``end``, both in seconds."""

    every: int
    start: float
    end: float


def write_frames(
    readers: Sequence[Reader],
    fusion: FrameFusion,
    device: torch.device,
    cut: Cut,
    output: Path,
    progress: Callable[[int, int | None], None],
) -> tuple[int, float, tuple[str, ...]]:
    """Fuse and write all frames; return their number, the second they end at, and what to tell the user."""
    leader = 1 if readers[1].in_colour and not readers[0].in_colour else 0
    lead, other = readers[leader], readers[1 - leader]
    total = expected_frames(readers, lead.interval * cut.every, cut.start, cut.end)
    count, last = 0, cut.start
    prepare_folder(output.parent)
    # One thread prepares frames and one fuses them, and threads that wait for others' cores are slow.
    share = max(1, torch.get_num_threads() // 2)
    with (
        Writer(output, lead, cut.start, cut.end, cut.every) as writer,
        torch.inference_mode(),
        threads(share),
        fair_threads(),
    ):
        writer.keep_audio(next((reader for reader in readers if reader.has_audio), None))
        with Behind() as behind:
            for frame, ready in prefetch(prepared_frames(readers, leader, fusion, device, cut, share)):
                follow_load()
                last = frame.time
                if ready is None:
                    continue
                behind(writer.write, frame.pts, fusion.fuse(ready, lead.matrix))
                count += 1
                progress(count, None if total is None else max(total, count))
        if not count:
            raise InputError(f"{lead.path} and {other.path}: have no frames in common after {cut.start:g} s")
        end = min(last + lead.interval, cut.end)
        writer.finish(end)
    notes = [note for reader in readers for note in reader.notes(cut.end)]
    if other.ended and not lead.ended and not notes:
        notes.append(f"{other.path}: is shorter than {lead.path.name}; the result ends with it")
    turned = [
        f"{reader.path}: rotation applied, the result is upright" for reader in readers if reader.turned
    ]
    return count, end, (*notes, *turned, *writer.notes)


def prepared_frames(
    readers: Sequence[Reader],
    leader: int,
    fusion: FrameFusion,
    device: torch.device,
    cut: Cut,
    share: int,
) -> Iterator[tuple[Frame, PreparedFrame | None]]:
    """Yield the frames that give the times, each with what is to be fused then, if anything is."""
    use_threads(share)
    lead, other = readers[leader], readers[1 - leader]
    both = in_step(lead.frames(cut.start, cut.end), other.frames(cut.start, early=True), other.interval)
    for index, frames in enumerate(both):
        ready = None
        if index % cut.every == 0:
            with torch.inference_mode():
                planes = [read_planes(frame, lead.size, lead.matrix, device) for frame in frames]
                ready = fusion.prepare(planes if leader == 0 else planes[::-1], frames[0].time)
        yield frames[0], ready


def check_video_options(options: Options) -> None:
    """Raise InputError for options that are not for videos."""
    plain = Options(device=options.device, backend=options.backend)
    for name in (
        "form",
        "scheduler",
        "sampler",
        "colour_from",
        "uncertainty",
        "tile",
        "register",
        "resize",
    ):
        if getattr(options, name) != getattr(plain, name):
            raise InputError(f"{name} {getattr(options, name)!r}: is not for videos; leave it out")
    if options.sources != 2:
        raise InputError(f"{options.sources} sources: videos are fused two at a time")


def choose_for_videos(readers: Sequence[Reader], start: float) -> Choice:
    """Return the task by the first frames; see `choose_task`."""
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
    if isinstance(every, bool) or not isinstance(every, int) or not 1 <= every <= MOST_EVERY:
        raise InputError(f"every {every}: must be a whole number from 1 (all frames) to {MOST_EVERY}")
    if not 0 <= start < math.inf:
        raise InputError(f"start {start:g}: must be 0 seconds or more")
    if duration is not None and not 0 < duration < math.inf:
        raise InputError(f"duration {duration:g}: must be more than 0 seconds")


def check_output(output: Path, inputs: Sequence[Path]) -> None:
    """Raise InputError if the output has an unknown suffix, is an input, or cannot be encoded."""
    if output.suffix.lower() not in FORMATS:
        raise InputError(f"{output}: unknown output format; use one of {', '.join(FORMATS)}")
    check_paths(inputs, [output, *partial_paths(output)])
    check_target(output)
    if "libx264" not in pyav().codecs_available:
        raise InputError("this build of PyAV has no libx264 encoder; the one of pip install av has")


def check_sizes(readers: Sequence[Reader]) -> None:
    """Raise InputError unless all have one size, that of pictures that can be fused."""
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
    """Return how many frames the result will have, as far as the inputs tell."""
    lengths = [reader.expected for reader in readers if reader.expected is not None]
    if not lengths and end == math.inf:
        return None
    return max(1, math.ceil((min([*lengths, end]) - start) / interval - 0.01))


def check_start(readers: Sequence[Reader], start: float) -> None:
    """Raise InputError if a video is known to end before."""
    for reader in readers:
        if reader.expected is not None and start >= reader.expected:
            raise InputError(f"start {start:g}: {reader.path} is only {reader.expected:.2f} s long")
