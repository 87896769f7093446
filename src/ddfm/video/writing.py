"""Write a video so that a file cut off by a crash still plays."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import torch

from ddfm.errors import InputError, reason_of
from ddfm.formats.atomic import DIGITS, create_partial, leftovers, settle, sweep
from ddfm.video.planes import STUDIO, Planes, is_even, plane_array
from ddfm.video.reading import ROUNDING, Reader, first_second, pyav, seek

FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
ENCODER = {"preset": "veryfast", "crf": "10"}  # quick, and within two grey levels
KEYFRAMES = 1.0  # seconds between them; a crash costs two of these at most
# A crash must leave what can be played: fragments, each complete in itself, of which an index of the
# whole makes a common file at the end, or clusters no longer than a second. Packets go out at once.
FRAGMENTS = {"movflags": "hybrid_fragmented+frag_keyframe+empty_moov", "flush_packets": "1"}
# Bit-exact: without the random numbers that Matroska gives to files and tracks.
CLUSTERS = {"cluster_time_limit": "1000", "flush_packets": "1", "fflags": "+bitexact"}
MOST_NAME_BYTES = 255


class Writer:
    """Writes frames to OUT.partial-<random>.mp4, which gets the output's name when it is complete.

    Used as a context: an error on the way takes the partial file away, but Ctrl-C closes it and leaves it.

    Attributes:
        notes: lines about what could not be kept.
    """

    def __init__(self, output: Path, lead: Reader, start: float, end: float, every: int) -> None:
        self.output = output
        self.lead, self.start, self.end = lead, start, end
        self.notes: list[str] = []
        self.audio: Audio | None = None
        self.complete = False
        self.reached = start
        # Times count from the start of the part that is fused.
        self.origin = round((lead.origin + Fraction(start)) / lead.time_base)
        with self.explained():
            sweep(output.parent, *partial_pattern(output))
            self.file, self.partial = create_partial(output.parent, *partial_pattern(output))
        try:
            self.open_streams(every)
        except BaseException:
            self.file.close()
            self.partial.unlink(missing_ok=True)
            raise

    def open_streams(self, every: int) -> None:
        """Set up the container and the encoder. Raises InputError."""
        lead, form = self.lead, FORMATS[self.output.suffix.lower()]
        with self.explained():
            self.container = pyav().open(
                Flushed(self.file), "w", format=form, options=CLUSTERS if form == "matroska" else FRAGMENTS
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
        interrupted = kind is not None and issubclass(kind, KeyboardInterrupt)
        try:
            if interrupted:
                self.finish(self.reached)
            if kind is None and self.complete:
                with self.explained():
                    settle(self.file, self.partial, self.output)
        finally:
            self.close()
            if not interrupted:  # it has the output's name by now, or is of no use
                self.partial.unlink(missing_ok=True)

    def close(self) -> None:
        """Close all files, whatever state they are in."""
        with suppress(pyav().error.FFmpegError, OSError):  # a full disk was told of before
            self.container.close()
        if self.audio is not None:
            self.audio.container.close()
        with suppress(OSError):
            self.file.close()

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn what goes wrong with writing into an InputError."""
        try:
            yield
        except (pyav().error.FFmpegError, OSError) as error:
            raise InputError(f"{self.output}: cannot be written ({reason_of(error)})") from error

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


class Flushed:
    """A file whose every write goes out at once, as far as FFmpeg's writing needs one."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.seek, self.tell = file.seek, file.tell

    def write(self, data: bytes) -> int:
        """Write all of it."""
        written = self.file.write(data)
        self.file.flush()
        return written


def partial_pattern(output: Path) -> tuple[str, str]:
    """Return how names of the unfinished output begin and end: with its suffix, so that players take them."""
    between = ".partial-"
    room = MOST_NAME_BYTES - len(os.fsencode(between + output.suffix)) - DIGITS
    stem = os.fsencode(output.stem)[:room].decode(sys.getfilesystemencoding(), "ignore")
    return stem + between, output.suffix


def partial_paths(output: Path) -> list[Path]:
    """List what interrupted or living runs have of an output: what there is can be played."""
    if not output.parent.is_dir():
        return []
    return leftovers(output.parent, *partial_pattern(output))
