"""Reading a video frame by frame, and two of them in step."""

from __future__ import annotations

import io
import math
import os
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from ddfm.errors import InputError, reason_of
from ddfm.formats import tiff
from ddfm.formats.files import open_regular
from ddfm.formats.limits import check_decoded, most_pixels
from ddfm.video.planes import UPRIGHT, Frame, is_coloured, matrix_of, orientation, read_planes

ROUNDING = 0.0005  # seconds by which timestamps may be off: Matroska counts milliseconds
MISSING = 0.5  # seconds from which on an end is early
ATTACHED_PICTURE = 0x400  # disposition of a cover, which is a video stream to FFmpeg
BUFFER = 2**20  # bytes read at once
SLOWEST, FASTEST = Fraction(1, 1000), Fraction(10_000)  # frames a second: a header may say anything
# FFmpeg's names of what holds a video by itself. Lists of files (concat, hls, dash, ...), pictures, subtitles
# and devices are not among them.
CONTAINERS = (
    *(
        "mov",
        "matroska",
        "avi",
        "mpegts",
        "mpeg",
        "flv",
        "ogg",
        "asf",
        "mxf",
        "nut",
        "gxf",
        "wtv",
        "rm",
        "dv",
    ),
    *("h264", "hevc", "vvc", "m4v", "mpegvideo", "mjpeg", "ivf", "av1", "obu", "yuv4mpegpipe", "gif"),
)
PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"BM")
PLAYLISTS = (b"ffconcat", b"#EXTM3U", b"<?xml", b"<MPD", b"[playlist]", b"v=0")
FLIR_RECORDS = b"FFF\0"  # how FLIR's sequences begin
LOOKED_AT = 5  # frames that tell whether a video is in colour


def pyav() -> Any:
    """Import PyAV, which is an extra."""
    try:
        import av
    except ImportError as error:
        raise InputError("videos need PyAV: pip install 'ddfm[video]'") from error
    return av


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
        """Open the file; raises InputError if it has no video that can be decoded."""
        self.path = path
        self.ended = False
        self.damaged, self.last = 0, 0.0
        with self.opened() as container:
            stream = self.stream_of(container)
            rate = stream.average_rate or stream.guessed_rate or Fraction(25)
            self.rate = min(max(Fraction(rate).limit_denominator(10_000), SLOWEST), FASTEST)
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
            cpu = torch.device("cpu")
            planes = [read_planes(Frame(0.0, 0, frame), self.size, self.matrix, cpu) for frame in frames]
            self.in_colour = any(part.chroma is not None and is_coloured(part.chroma) for part in planes)

    def opened(self) -> Any:
        """Return the container; raises InputError if it is none.

        Only containers are opened, never a list of other files or addresses, whatever the name says.
        """
        av = pyav()
        with open_regular(self.path, "a video file") as file:
            if file.read(len(FLIR_RECORDS)) == FLIR_RECORDS:
                raise InputError(
                    f"{self.path}: holds a thermal camera's radiometric frames (SEQ, CSQ), which "
                    "are not read; save them as radiometric JPEG and fuse the folder: ddfm fuse FOLDER -o OUT"
                )
            os.lseek(file.fileno(), 0, os.SEEK_SET)  # seek() would move within what was read ahead
            # The container closes its own copy when it is let go.
            kept = Input(os.dup(file.fileno()), "rb")
        try:
            return av.open(
                kept,
                options={"format_whitelist": ",".join(CONTAINERS), "protocol_whitelist": ""},
                metadata_errors="replace",
                buffer_size=BUFFER,
            )
        except av.error.FFmpegError as error:
            raise InputError(f"{self.path}: {why_unreadable(self.path, error)}") from error

    def stream_of(self, container: Any) -> Any:
        """Return the video stream, ready to decode on several threads."""
        for stream in container.streams.video:
            if getattr(stream, "disposition", 0) & ATTACHED_PICTURE:  # PyAV 14.0 does not tell
                continue
            if stream.codec_context is None:
                raise InputError(f"{self.path}: its codec is not known to this build of FFmpeg")
            context = stream.codec_context
            pixels = context.width * context.height
            check_decoded(str(self.path), pixels, 4 * pixels, self.path.stat().st_size)
            context.options = {"max_pixels": str(most_pixels())}
            stream.thread_type = "AUTO"
            return stream
        raise InputError(f"{self.path}: has no video stream")

    def decoded(self, container: Any, stream: Any) -> Iterator[Any]:
        """Yield all frames that can be decoded; count the others."""
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
        """Yield the frames of that part, one by one; raises InputError if their size changes.

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
        """Return height and width of an upright frame."""
        height, width = video.height, video.width
        return (width, height) if self.orientation.transposed else (height, width)

    def notes(self, end: float) -> list[str]:
        """List lines about missing frames."""
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
    """Return the seconds from the start of the file to the end of the video, as the file states them."""
    if stream.duration:
        return float(
            (stream.duration + (stream.start_time or 0)) * stream.time_base - first_second(container)
        )
    stated = stream.metadata.get("DURATION", "")  # of Matroska, whose other duration is also the sound's
    if re.fullmatch(r"[0-9]{1,4}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,12})?", stated):
        hours, minutes, seconds = stated.split(":")
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    return container.duration / 1e6 if container.duration else None


def first_second(container: Any) -> Fraction:
    """Return the time that a file's timestamps count from."""
    return Fraction(container.start_time or 0, 1_000_000)


def seek(container: Any, seconds: float | Fraction) -> None:
    """Seek to the last keyframe before; a file that cannot seek is read from its start."""
    try:
        container.seek(int(seconds * 1_000_000), backward=True)
    except pyav().error.FFmpegError:
        container.seek(0)


class Input(io.FileIO):
    """A file that closes itself when nobody has it any more."""

    def __del__(self) -> None:
        self.close()


def why_unreadable(path: Path, error: Exception) -> str:
    """Return why a file is not opened as a video."""
    with open_regular(path) as file:
        head = file.read(32)
    if head[4:8] == b"ftyp":
        return "is cut short or damaged: its index (moov) is missing, without which nothing can be decoded"
    if head.startswith((*PICTURES, *tiff.MAGIC)) or (head.startswith(b"RIFF") and head[8:12] == b"WEBP"):
        return "is a picture, not a video; ddfm fuse takes pictures"
    if head.lstrip(b"\xef\xbb\xbf").startswith(PLAYLISTS):
        return "is a list of other files, not a video; name the video itself"
    return f"is not a video that FFmpeg can read ({reason_of(error)})"


def in_step(lead: Iterator[Frame], other: Iterator[Frame], interval: float) -> Iterator[tuple[Frame, Frame]]:
    """Pair each frame of ``lead`` with the one of ``other`` nearest in time, the earlier of two.

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
