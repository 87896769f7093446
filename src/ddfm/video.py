"""Two videos of one scene fused into one: reading, keeping step, writing. docs/video.md.

Frames are taken as they are stored, a plane of luma and two of chroma: luma is fused, and chroma goes
through as it is where one source alone is in colour. Only a few frames are in memory at a time.
"""

from __future__ import annotations

import math
import os
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ddfm.devices import pick_device
from ddfm.errors import InputError
from ddfm.fusion import as_prior, check_options, check_steps, fused_chroma
from ddfm.hierarchical import TASKS, HierarchicalLikelihood, Task
from ddfm.images import MINIMUM_SIDE, prepare_folder
from ddfm.noise import GREY_LEVEL
from ddfm.steady import Noise, NoiseLevels, SteadyFusion, TimeFilter

if TYPE_CHECKING:
    from ddfm.prior import Prior

FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
ENCODER = {"preset": "veryfast", "crf": "10"}  # quick, and within two grey levels
KEYFRAMES = 1.0  # seconds between them; a crash costs two of these at most
# A crash must leave what can be played: fragments, each complete in itself, of which an index of the
# whole makes a common file at the end, or clusters no longer than a second. Packets go out at once.
FRAGMENTS = {"movflags": "hybrid_fragmented+frag_keyframe+empty_moov", "flush_packets": "1"}
CLUSTERS = {"cluster_time_limit": "1000", "flush_packets": "1"}

ROUNDING = 0.0005  # seconds by which timestamps may be off: Matroska counts milliseconds
MISSING = 0.5  # seconds from which on an end is early
ATTACHED_PICTURE = 0x400  # disposition of a cover, which is a video stream to FFmpeg
LOOKED_AT = 5  # frames that tell whether a video is in colour
NEUTRAL = 2.5 / 112  # chroma (of 1) up to which a picture is grey
HIGH = 576  # rows above which a video that does not tell its matrix is BT.709, else BT.601
STUDIO, FULL = 1, 2  # ranges of samples: 16 to 235, 0 to 255
RGB, BT709, UNSPECIFIED, BT601 = 0, 1, 2, 6  # matrices by their number in ITU-T H.273 ...
RED_AND_BLUE = {1: (0.2126, 0.0722), 7: (0.212, 0.087), 9: (0.2627, 0.0593)}  # ... and what luma has of them
RED_AND_BLUE_BT601 = (0.299, 0.114)


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
        settings: prior (None if no network was needed), steps, seed, task, noise (of each source, in
            8-bit grey levels, as measured last or given; None if it was left alone), stretch, device.
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
    task: str = "infrared",
    prior: str | os.PathLike[str] | Prior | Callable[[], Prior] = "natural",
    noise: Noise | None = None,
    stretch: str = "auto",
    device: str = "auto",
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
        task: as for `ddfm.fuse`.
        prior: as for `ddfm.fuse`; not loaded if ``steps`` is 0.
        noise: ``"auto"`` to find out how noisy each source is and to average that away over time (if
            ``steps`` is not 0, sources above the gate are denoised by the prior first); ``"off"``; or
            the standard deviation in each source, in 8-bit grey levels. None for ``"auto"``, but ``"off"``
            for medical pictures.
        stretch: ``"auto"`` or ``"none"``, as for `ddfm.fuse`.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"mps"``, ...
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
        dtype="float32",
    )
    check_cut(every, start, duration)
    check_output(output, paths)
    place = pick_device(device)
    if noise is None:
        noise = "off" if task == "medical" else "auto"

    @cache
    def model() -> Prior:
        return as_prior(prior).to(place)

    if steps:
        check_steps(model(), "ddfm", steps)
    readers = [Reader(path) for path in paths]
    leader = 1 if readers[1].in_colour and not readers[0].in_colour else 0
    lead, other = readers[leader], readers[1 - leader]
    check_sizes(readers)
    check_start(readers, start)
    end = math.inf if duration is None else start + duration
    total = expected_frames(readers, lead.interval * every, start, end)
    fusion = FrameFusion(
        TASKS[task],
        SteadyFusion(TASKS[task], model, steps=steps, noise=noise, stretch=stretch == "auto", seed=seed),
    )
    count, last = 0, start
    prepare_folder(output.parent)
    with Writer(output, lead, start, end, every) as writer, torch.inference_mode():
        writer.keep_audio(next((reader for reader in readers if reader.has_audio), None))
        for index, pair in enumerate(
            in_step(lead.frames(start, end), other.frames(start, early=True), other.interval)
        ):
            last = pair[0].time
            if index % every:
                continue
            first, second = (read_planes(frame, lead, place) for frame in pair)
            planes = (first, second) if leader == 0 else (second, first)
            writer.write(pair[0].pts, fusion.fuse(planes, last, lead.matrix))
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
            "noise": fusion.noise,
            "stretch": stretch,
            "device": str(place),
        },
    )


# --- Checks --------------------------------------------------------------------------------------


def check_cut(every: int, start: float, duration: float | None) -> None:
    """Raises InputError for what is no part of a video."""
    if every < 1:
        raise InputError(f"every {every}: must be 1 (all frames) or more")
    if not 0 <= start < math.inf:
        raise InputError(f"start {start:g}: must be 0 seconds or more")
    if duration is not None and not 0 < duration < math.inf:
        raise InputError(f"duration {duration:g}: must be more than 0 seconds")


def check_output(output: Path, inputs: Sequence[Path]) -> None:
    """Raises InputError if the output has an unknown suffix, is an input, or cannot be encoded."""
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
    """Raises InputError unless all have one size, that of pictures that can be fused."""
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
    """How many frames the result will have, as far as the inputs tell."""
    lengths = [reader.expected for reader in readers if reader.expected is not None]
    if not lengths and end == math.inf:
        return None
    return max(1, math.ceil((min([*lengths, end]) - start) / interval - 0.01))


def check_start(readers: Sequence[Reader], start: float) -> None:
    """Raises InputError if a video is known to end before."""
    for reader in readers:
        if reader.expected is not None and start >= reader.expected:
            raise InputError(f"start {start:g}: {reader.path} is only {reader.expected:.2f} s long")


def pyav() -> Any:
    """PyAV, which is an extra."""
    try:
        import av
    except ImportError as error:
        raise InputError("videos need PyAV: pip install 'ddfm[video]'") from error
    return av


# --- Reading -------------------------------------------------------------------------------------


class Frame(NamedTuple):
    """A decoded frame.

    Attributes:
        time: seconds from the start of its file.
        pts: the same in the stream's units, from wherever those count.
        video: PyAV's frame.
        group: how many keyframes that others depend on came before or with it.
    """

    time: float
    pts: int
    video: Any
    group: int = 0


class Reader:
    """The video of a file, decoded as it is asked for.

    Attributes:
        path: the file.
        size: height and width, upright.
        in_colour: whether any of its first frames is.
        has_audio: whether there is audio beside it.
        turned: whether its frames are stored otherwise than upright.
        origin: seconds that its timestamps count from.
        time_base: seconds of a unit of its timestamps.
        interval: mean seconds between two frames.
        expected: seconds from its start to its end, as the file tells, or None.
        matrix, tags: what its colours mean: number of the matrix, and all that is known of it.
        aspect: shape of a pixel, width by height, upright.
        ended: whether it was read to its end.
    """

    def __init__(self, path: Path) -> None:
        """Raises InputError if there is no video in it that can be decoded."""
        self.path = path
        self.ended = False
        self.damaged, self.last = 0, 0.0
        if not path.exists():
            raise InputError(f"{path}: no such file")
        if path.is_dir():
            raise InputError(f"{path}: is a folder, a video file is needed")
        if path.stat().st_size == 0:
            raise InputError(f"{path}: is empty (0 bytes)")
        with self.opened() as container:
            stream = self.stream_of(container)
            rate = stream.average_rate or stream.guessed_rate or Fraction(25)
            self.rate = Fraction(rate).limit_denominator(10_000)
            self.interval = float(1 / self.rate)
            self.time_base = Fraction(stream.time_base)
            self.has_audio = bool(container.streams.audio)
            self.origin = first_second(container)
            self.expected = expected_seconds(container, stream)
            shape = stream.sample_aspect_ratio
            frames = []
            for frame in self.decoded(container, stream):
                frames.append(frame)
                if len(frames) == LOOKED_AT:
                    break
            if not frames:
                raise InputError(f"{path}: none of its frames can be decoded; it is damaged or cut short")
            first = frames[0]
            self.orientation = orientation(first)
            self.turned = self.orientation != UPRIGHT
            self.size = self.upright_size(first)
            self.matrix = matrix_of(first, self.size)
            self.tags = {
                "colorspace": self.matrix if first.format.is_rgb else first.colorspace,
                "color_primaries": stream.codec_context.color_primaries,
                "color_trc": stream.codec_context.color_trc,
            }
            self.aspect = Fraction(shape) if shape else Fraction(1)
            if self.orientation.transposed:
                self.aspect = 1 / self.aspect
            planes = [read_planes(Frame(0.0, 0, frame), self, torch.device("cpu")) for frame in frames]
            self.in_colour = any(part.chroma is not None and is_coloured(part.chroma) for part in planes)

    def opened(self) -> Any:
        """The container; raises InputError if it is none."""
        av = pyav()
        try:
            container = av.open(str(self.path))
        except av.error.FFmpegError as error:
            raise InputError(f"{self.path}: {why_unreadable(self.path, error)}") from error
        name = container.format.name
        if name in ("image2", "tty", "srt", "ass", "webvtt") or name.endswith("_pipe"):
            container.close()
            picture = name == "image2" or name.endswith("_pipe")
            what = "is a picture, not a video; ddfm fuse takes pictures" if picture else "is not a video"
            raise InputError(f"{self.path}: {what}")
        return container

    def stream_of(self, container: Any) -> Any:
        """The video stream, ready to decode on several threads."""
        for stream in container.streams.video:
            if getattr(stream, "disposition", 0) & ATTACHED_PICTURE:  # PyAV 14.0 does not tell
                continue
            if stream.codec_context is None:
                raise InputError(f"{self.path}: its codec is not known to this build of FFmpeg")
            stream.thread_type = "AUTO"
            return stream
        raise InputError(f"{self.path}: has no video stream")

    def decoded(self, container: Any, stream: Any) -> Iterator[Any]:
        """Its frames as far as they can be decoded; counts those that cannot."""
        errors = pyav().error.FFmpegError
        packets = container.demux(stream)
        started = False  # frames that a seek left without those they are made from are not damaged
        while True:
            try:
                packet = next(packets)
            except (StopIteration, errors):  # a file that was cut ends in the midst of a packet
                return
            try:
                frames = packet.decode()
            except errors:
                self.damaged += 1
                continue
            for frame in frames:
                if frame.is_corrupt:
                    self.damaged += started
                else:
                    started = True
                    yield frame

    def frames(self, start: float = 0.0, end: float = math.inf, *, early: bool = False) -> Iterator[Frame]:
        """The frames of that part, one by one; raises InputError if their size changes.

        ``early``: with those from the keyframe before ``start``, which have to be decoded anyway.
        """
        self.damaged = 0
        with self.opened() as container:
            stream = self.stream_of(container)
            if start > 0:
                seek(container, self.origin + Fraction(start))
            before: Frame | None = None
            group, after_key = 0, True
            for video in self.decoded(container, stream):
                group += video.key_frame and not after_key
                after_key = video.key_frame
                if (size := self.upright_size(video)) != self.size:
                    at = "" if before is None else f" after {before.time:.2f} s"
                    raise InputError(
                        f"{self.path}: changes from {self.size[1]}x{self.size[0]} to {size[1]}x{size[0]} "
                        f"pixels{at}; all frames must have one size"
                    )
                # Raw streams have no timestamps.
                step = max(1, round(self.interval / self.time_base))
                pts = video.pts if video.pts is not None else 0 if before is None else before.pts + step
                frame = Frame(float(pts * self.time_base - self.origin), pts, video, group)
                if before is not None and frame.pts <= before.pts:
                    continue  # a timestamp that goes back: there is no place for such a frame
                before = frame
                if frame.time >= end - ROUNDING:
                    return
                self.last = frame.time
                if early or frame.time >= start - ROUNDING:
                    yield frame
            self.ended = True

    def upright_size(self, video: Any) -> tuple[int, int]:
        height, width = video.height, video.width
        return (width, height) if self.orientation.transposed else (height, width)

    def notes(self, end: float) -> list[str]:
        """Lines about what was missing of it."""
        lines = []
        reached = self.last + self.interval
        if self.ended and self.expected is not None and min(end, self.expected) - reached > MISSING:
            lines.append(
                f"{self.path}: ends early, at {reached:.2f} of {self.expected:.2f} s; the result ends there"
            )
        if self.damaged:
            lines.append(f"{self.path}: {self.damaged} damaged frames left out")
        return lines


def expected_seconds(container: Any, stream: Any) -> float | None:
    """Seconds from the start of the file to the end of the video, as the file tells."""
    if stream.duration:
        return float(
            (stream.duration + (stream.start_time or 0)) * stream.time_base - first_second(container)
        )
    stated = stream.metadata.get("DURATION", "")  # of Matroska, whose other duration is also the sound's
    if re.fullmatch(r"\d+:\d\d:\d\d(\.\d+)?", stated):
        hours, minutes, seconds = stated.split(":")
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    return container.duration / 1e6 if container.duration else None


def first_second(container: Any) -> Fraction:
    """The time that a file's timestamps count from."""
    return Fraction(container.start_time or 0, 1_000_000)


def seek(container: Any, seconds: float | Fraction) -> None:
    """To the last keyframe before; a file in which that cannot be done is read from its start."""
    try:
        container.seek(int(seconds * 1_000_000), backward=True)
    except pyav().error.FFmpegError:
        container.seek(0)


def why_unreadable(path: Path, error: Exception) -> str:
    with path.open("rb") as file:
        head = file.read(12)
    if head[4:8] == b"ftyp":
        return "is cut short or damaged: its index (moov) is missing, without which nothing can be decoded"
    reason = getattr(error, "strerror", None) or str(error)
    return f"is not a video that FFmpeg can read ({reason})"


def in_step(lead: Iterator[Frame], other: Iterator[Frame], interval: float) -> Iterator[tuple[Frame, Frame]]:
    """Each frame of ``lead`` with the one of ``other`` that is nearest in time, the earlier of two.

    Frames of ``lead`` that are more than ``interval`` before the first or behind the last of ``other`` have
    no partner and are left out.
    """
    near = next(other, None)
    following = next(other, None)
    if near is None:
        return
    first = near.time
    for frame in lead:
        while following is not None and abs(following.time - frame.time) < abs(near.time - frame.time):
            near, following = following, next(other, None)
        if frame.time < first - interval - ROUNDING:
            continue
        if following is None and frame.time > near.time + interval + ROUNDING:
            return
        yield frame, near


# --- Frames and planes ---------------------------------------------------------------------------


class Orientation(NamedTuple):
    """What makes a stored frame upright: a transposition, then mirror images."""

    transposed: bool
    left_right: bool
    up_down: bool

    def apply(self, plane: Tensor) -> Tensor:
        plane = plane.mT if self.transposed else plane
        sides = [side for side, mirrored in ((-1, self.left_right), (-2, self.up_down)) if mirrored]
        return plane.flip(sides) if sides else plane


UPRIGHT = Orientation(False, False, False)


def orientation(video: Any) -> Orientation:
    """From the frame's display matrix: x' = a x + c y, y' = b x + d y (ISO 14496-12, 6.2.2)."""
    matrix = video.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return UPRIGHT
    a, b, _, c, d = struct.unpack("=5i", bytes(matrix)[:20])
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Orientation(True, c < 0, b < 0)
    return Orientation(False, a < 0, d < 0)


class Planes(NamedTuple):
    """A frame: luma (1, 1, H, W) in [-1, 1]; chroma, Cb and Cr, (1, 2, h, w) in [-1, 1], None if grey.

    ``group`` is that of the `Frame`.
    """

    luma: Tensor
    chroma: Tensor | None
    group: int = 0


def read_planes(frame: Frame, lead: Reader, place: torch.device) -> Planes:
    """A frame as planes, upright, its colours in the matrix of the leading video, whatever they were in.

    Chroma has half the resolution, or the full one if height or width is odd.
    """
    video = frame.video
    name = video.format.name
    if name.startswith(("gray", "mono", "ya")):
        full = video.color_range != STUDIO
        video = video if name == "gray" else video.reformat(format="gray")
    else:
        video, full = planar(video, lead)
    turn = orientation(frame.video)
    luma, *chroma = (turn.apply(plane.to(place).float()) for plane in samples(video))
    luma = luma / 127.5 - 1 if full else (luma - 16) / 109.5 - 1
    if not chroma:
        return Planes(luma[None, None], None, frame.group)
    return Planes(luma[None, None], (torch.stack(chroma)[None] - 128) / (127.5 if full else 112), frame.group)


def planar(video: Any, lead: Reader) -> tuple[Any, bool]:
    """A colour frame in 8-bit planes of the lead's matrix, and whether they have the full range."""
    name = video.format.name
    full = name.startswith("yuvj") or video.color_range == FULL
    wanted = "yuv420p" if is_even(lead.size) else "yuv444p"
    rgb = video.format.is_rgb or name == "pal8"
    matrix = lead.matrix if video.colorspace == UNSPECIFIED else video.colorspace
    if not rgb and matrix == lead.matrix and name.replace("yuvj", "yuv") == wanted:
        return video, full
    planes = video.reformat(
        format=wanted,
        src_colorspace=None if rgb else scaler_matrix(matrix),
        dst_colorspace=scaler_matrix(lead.matrix),
        src_color_range="JPEG" if rgb or full else "MPEG",
        dst_color_range="JPEG" if full and not rgb else "MPEG",
    )
    return planes, full and not rgb


def samples(video: Any) -> list[Tensor]:
    """The planes of an 8-bit planar frame, uint8, without a copy: they live as long as the frame."""
    return [torch.from_numpy(plane_array(plane)) for plane in video.planes]


def plane_array(plane: Any) -> NDArray[np.uint8]:
    rows = np.frombuffer(plane, np.uint8, plane.height * plane.line_size)
    return rows.reshape(plane.height, plane.line_size)[:, : plane.width]


def matrix_of(video: Any, size: tuple[int, int]) -> int:
    """The matrix of its YUV; where it does not tell, and for RGB, what players take for granted."""
    if video.colorspace in (RGB, UNSPECIFIED):
        return BT709 if size[0] > HIGH else BT601
    return int(video.colorspace)


def scaler_matrix(matrix: int) -> str:
    """The scaler's name for a matrix; what it has no name for is close to one of its others."""
    return {BT709: "ITU709", 4: "FCC", 7: "SMPTE240M", 9: "ITU709"}.get(matrix, "ITU601")


def is_even(size: tuple[int, int]) -> bool:
    return size[0] % 2 == 0 and size[1] % 2 == 0


def is_coloured(chroma: Tensor) -> bool:
    return bool(chroma.abs().amax() > NEUTRAL)


# --- Fusing --------------------------------------------------------------------------------------


class FrameFusion:
    """Planes of the sources' frames to planes of fused ones."""

    def __init__(self, task: Task, steady: SteadyFusion) -> None:
        self.task, self.steady = task, steady
        self.colours: dict[int, SteadyColour] = {}
        self.time: float | None = None
        self.groups: list[int] | None = None

    @property
    def noise(self) -> list[float] | None:
        """Of each source, in 8-bit grey levels."""
        level = self.steady.levels.level
        if not isinstance(self.steady.noise, str):
            return list(self.steady.noise)
        return None if level is None else [round(sigma / GREY_LEVEL, 2) for sigma in level.tolist()]

    def fuse(self, sources: Sequence[Planes], time: float, matrix: int) -> Planes:
        """The frames of one time, in seconds, whose colours have that matrix; gives luma in [0, 1]."""
        seconds = 0.0 if self.time is None else time - self.time
        self.time = time
        groups = [source.group for source in sources]
        recoded = [new != old for new, old in zip(groups, self.groups or groups, strict=True)]
        self.groups = groups
        lumas = torch.cat([source.luma for source in sources], 1)
        luma, likelihood = self.steady.fuse(lumas, seconds, recoded)
        chroma = {
            k: source.chroma
            for k, source in enumerate(sources)
            if source.chroma is not None and is_coloured(source.chroma)
        }
        if self.steady.noise != "off":
            chroma = {
                k: self.colours.setdefault(k, SteadyColour())(part, seconds, recoded[k])
                for k, part in chroma.items()
            }
        if not chroma:
            return Planes(luma, None)
        if len(chroma) == 1 and self.task.chroma != "exposure":
            (mixed,) = chroma.values()
        else:
            mixed = blended(chroma, sources, luma, likelihood, self.task)
        return Planes(luma, within_gamut(luma, mixed, matrix))


class SteadyColour:
    """Noise of a source's chroma averaged away over time, as that of its luma."""

    def __init__(self) -> None:
        self.levels, self.filter = NoiseLevels(), TimeFilter()

    def __call__(self, chroma: Tensor, seconds: float, recoded: bool) -> Tensor:
        return self.filter(chroma, self.levels(chroma, seconds), [recoded])


# Cb and Cr of BT.601, in [-1, 1], from R - Y, G - Y, B - Y, and back. Which matrix it really is does not
# matter for the choice between the sources' chroma.
TO_DIFFERENCES = ((0.0, 0.701), (-0.17207, -0.35707), (0.886, 0.0))


def blended(
    chroma: dict[int, Tensor],
    sources: Sequence[Planes],
    luma: Tensor,
    likelihood: HierarchicalLikelihood,
    task: Task,
) -> Tensor:
    """One chroma from several by the rule for pictures (`fused_chroma`), which takes RGB."""
    to_differences = luma.new_tensor(TO_DIFFERENCES)
    size = (luma.shape[-2], luma.shape[-1])
    images = {}
    for k, part in chroma.items():
        full = F.interpolate(part, size, mode="bilinear", align_corners=False)
        differences = torch.einsum("dc,bchw->bdhw", to_differences, full)
        images[k] = (sources[k].luma + 1) / 2 + differences
    differences = fused_chroma(images, luma, likelihood, task)
    mixed = torch.stack([differences[:, 2] / 0.886, differences[:, 0] / 0.701], 1)
    smallest = next(iter(chroma.values()))
    return mixed if smallest.shape[-2:] == luma.shape[-2:] else F.avg_pool2d(mixed, 2)


def within_gamut(luma: Tensor, chroma: Tensor, matrix: int) -> Tensor:
    """As much of the chroma as fits the luma, as in `ddfm.colour.combine`: hue and luma are kept."""
    red, blue = RED_AND_BLUE.get(matrix, RED_AND_BLUE_BT601)
    r, b = (1 - red) * chroma[:, 1:], (1 - blue) * chroma[:, :1]
    g = -(red * r + blue * b) / (1 - red - blue)
    if chroma.shape[-2:] != luma.shape[-2:]:
        luma = F.avg_pool2d(luma, 2)
    highest = torch.maximum(torch.maximum(r, b), g).clamp_min(GREY_LEVEL)
    lowest = torch.minimum(torch.minimum(r, b), g).clamp_max(-GREY_LEVEL)
    return chroma * torch.minimum((1 - luma) / highest, luma / -lowest).clamp(0, 1)


# --- Writing -------------------------------------------------------------------------------------


class Writer:
    """Writes frames to OUT.partial.mp4, which gets the output's name when it is complete.

    Used as a context: an error on the way takes the partial file away, but Ctrl-C closes it and leaves it.

    Attributes:
        notes: lines about what could not be kept.
    """

    def __init__(self, output: Path, lead: Reader, start: float, end: float, every: int) -> None:
        self.output, self.partial = output, partial_path(output)
        self.lead, self.start, self.end = lead, start, end
        self.notes: list[str] = []
        self.audio: Audio | None = None
        self.complete = False
        self.reached = start
        # Times count from the start of the part that is fused.
        self.origin = round((lead.origin + Fraction(start)) / lead.time_base)
        form = FORMATS[output.suffix.lower()]
        with self.explained():
            self.container = pyav().open(
                str(self.partial), "w", format=form, options=CLUSTERS if form == "matroska" else FRAGMENTS
            )
            self.stream = self.container.add_stream("libx264", rate=lead.rate / every, options=ENCODER)
        self.pixels = "yuv420p" if is_even(lead.size) else "yuv444p"
        context = self.stream.codec_context
        context.height, context.width = lead.size
        context.pix_fmt = self.pixels
        context.time_base = self.stream.time_base = lead.time_base
        context.sample_aspect_ratio = lead.aspect
        context.gop_size = max(1, round(KEYFRAMES / (lead.interval * every)))
        # Without frames that wait for later ones, timestamps need no edit list, which a file in fragments
        # cannot have from the start.
        context.max_b_frames = 0
        context.color_range = STUDIO
        for tag, value in lead.tags.items():
            setattr(context, tag, value)

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is not None and issubclass(kind, KeyboardInterrupt):
                self.finish(self.reached)
        finally:
            self.container.close()
            if self.audio is not None:
                self.audio.container.close()
            if kind is None and self.complete:
                self.partial.replace(self.output)
            elif kind is None or not issubclass(kind, KeyboardInterrupt):
                self.partial.unlink(missing_ok=True)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """What goes wrong with writing, as an InputError."""
        try:
            yield
        except pyav().error.FFmpegError as error:
            raise InputError(f"{self.output}: cannot be written ({error.strerror})") from error

    def keep_audio(self, reader: Reader | None) -> None:
        """Copy the audio of that input, as it is, along with the frames."""
        if reader is None:
            return
        container = reader.opened()
        source = container.streams.audio[0]
        codec = source.codec_context.codec
        name = getattr(codec, "canonical_name", codec.name)  # PyAV 14.0 knows the decoder's alone
        if name not in self.container.supported_codecs:
            container.close()
            self.notes.append(
                f"{reader.path}: audio left out, {self.output.suffix} cannot hold {name}; .mkv can hold more"
            )
            return
        target = self.container.add_stream_from_template(source)
        self.audio = Audio(container, source, target, self.start, self.end)

    def write(self, pts: int, planes: Planes) -> None:
        """A frame with luma in [0, 1] and chroma in [-1, 1], at a time in the lead's units."""
        height, width = self.lead.size
        video = pyav().VideoFrame(width, height, self.pixels)
        luma = (planes.luma[0, 0] * 219 + 16).round().to("cpu", torch.uint8)
        plane_array(video.planes[0])[:] = luma.numpy()
        if planes.chroma is None:
            for plane in video.planes[1:]:
                plane_array(plane)[:] = 128
        else:
            chroma = (planes.chroma[0] * 112 + 128).round().to("cpu", torch.uint8).numpy()
            for plane, values in zip(video.planes[1:], chroma, strict=True):
                plane_array(plane)[:] = values
        video.pts, video.time_base = pts - self.origin, self.lead.time_base
        video.color_range, video.colorspace = STUDIO, self.lead.tags["colorspace"]
        self.reached = float(video.pts * video.time_base) + self.start
        with self.explained():
            if self.audio is not None:
                self.audio.copy(self.container, self.reached)
            self.container.mux(self.stream.encode(video))

    def finish(self, end: float) -> None:
        """Write what the encoder still holds, and the audio up to that time."""
        with self.explained():
            self.container.mux(self.stream.encode(None))
            if self.audio is not None:
                self.audio.copy(self.container, end)
            self.container.close()
        self.complete = True


class Audio:
    """Packets of an audio stream on their way from one file to another."""

    def __init__(self, container: Any, source: Any, target: Any, start: float, end: float) -> None:
        self.container, self.target, self.start, self.end = container, target, start, end
        origin = first_second(container)
        if start > 0:
            seek(container, origin + Fraction(start))
        self.unit = Fraction(source.time_base)
        self.origin = origin
        self.offset = round((origin + Fraction(start)) / self.unit)
        self.packets = container.demux(source)
        self.waiting = self.next()

    def next(self) -> Any:
        """The next packet with a time; None behind the last, and behind one that cannot be read."""
        try:
            return next((packet for packet in self.packets if packet.dts is not None), None)
        except pyav().error.FFmpegError:
            return None

    def copy(self, output: Any, until: float) -> None:
        """What comes before that time, in seconds from the start of its file."""
        while (packet := self.waiting) is not None:
            time = float(packet.dts * self.unit - self.origin)
            if time >= min(until, self.end):
                return
            # What lies before the start is left out: also what primes a decoder, before zero.
            if time >= self.start - ROUNDING:
                packet.dts -= self.offset
                packet.pts = packet.pts if packet.pts is None else packet.pts - self.offset
                packet.stream = self.target
                output.mux(packet)
            self.waiting = self.next()


def partial_path(output: Path) -> Path:
    """Where the output lies while it is not complete: with its suffix last, so that players take it."""
    return output.with_name(f"{output.stem}.partial{output.suffix}")
