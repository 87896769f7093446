"""Writing a video so that what a crash leaves can be played."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from ddfm.errors import InputError
from ddfm.video.planes import STUDIO, Planes, is_even, plane_array
from ddfm.video.reading import ROUNDING, Reader, first_second, pyav, seek

FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
ENCODER = {"preset": "veryfast", "crf": "10"}  # quick, and within two grey levels
KEYFRAMES = 1.0  # seconds between them; a crash costs two of these at most
# A crash must leave what can be played: fragments, each complete in itself, of which an index of the
# whole makes a common file at the end, or clusters no longer than a second. Packets go out at once.
FRAGMENTS = {"movflags": "hybrid_fragmented+frag_keyframe+empty_moov", "flush_packets": "1"}
CLUSTERS = {"cluster_time_limit": "1000", "flush_packets": "1"}


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
        """Turn errors of writing into InputError."""
        try:
            yield
        except pyav().error.FFmpegError as error:
            raise InputError(f"{self.output}: cannot be written ({error.strerror})") from error

    def keep_audio(self, reader: Reader | None) -> None:
        """Copy the audio of that input unchanged along with the frames."""
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
        """Write a frame with luma in [0, 1] and chroma in [-1, 1], at a time in the lead's units."""
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
        """Write the frames that the encoder still holds, and the audio up to that time."""
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
        """Return the next packet with a time; None behind the last, and behind one that cannot be read."""
        try:
            return next((packet for packet in self.packets if packet.dts is not None), None)
        except pyav().error.FFmpegError:
            return None

    def copy(self, output: Any, until: float) -> None:
        """Copy the packets before that time, in seconds from the start of its file."""
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
    """Return the output's path while it is incomplete: its suffix comes last, so that players open it."""
    return output.with_name(f"{output.stem}.partial{output.suffix}")
