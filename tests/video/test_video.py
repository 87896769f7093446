"""Videos: in step, upright, in their colours, with their sound, steady, playable after a crash."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from ddfm.errors import InputError
from ddfm.fusion.options import Options
from ddfm.likelihoods.hierarchical import HierarchicalLikelihood
from ddfm.likelihoods.tasks import TASKS
from ddfm.noise.level import GREY_LEVEL
from ddfm.video import fuse_videos, partial_paths
from ddfm.video.planes import Frame
from ddfm.video.reading import Reader, in_step
from ddfm.video.steady import NoiseLevels, SteadyFusion, TimeFilter
from tests.conftest import Command, picture

HEIGHT, WIDTH = 48, 64
Array = NDArray[Any]
# So a source that is fused with itself is itself.
SAME = Options(task="medical", steps=0, noise="off", stretch="none")


def write_video(
    path: Path,
    frames: Iterable[Array],
    *,
    rate: int = 10,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    times: Sequence[int] | None = None,
    unit: Fraction | None = None,
    rotation: int = 0,
    audio: str | None = None,
    matrix: int = 2,
    full: bool = False,
    aspect: Fraction | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """A video of arrays (H, W) or (H, W, 3), uint8, next to without loss; ``times`` in units of ``unit``."""
    pictures = list(frames)
    height, width = pictures[0].shape[:2]
    with av.open(str(path), "w", options=options or {}) as container:
        quality = {"crf": "4", "preset": "ultrafast"} if codec == "libx264" else {}
        stream: Any = container.add_stream(codec, rate=rate, options=quality)
        stream.height, stream.width, stream.pix_fmt = height, width, pixels
        stream.codec_context.gop_size = 5
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, 2 if full else 0
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        if unit:
            stream.codec_context.time_base = unit
        if rotation:
            stream.set_display_rotation(rotation)
        sound: Any = container.add_stream(audio, rate=48000) if audio else None
        if sound:
            sound.codec_context.layout, sound.codec_context.bit_rate = "stereo", 96_000
        for index, samples in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(samples, format="gray" if samples.ndim == 2 else "rgb24")
            frame = frame.reformat(
                format=pixels,
                dst_colorspace=None if matrix == 2 else "ITU709" if matrix == 1 else "ITU601",
                dst_color_range="JPEG" if full else None,
            )
            frame.pts = index if times is None else times[index]
            if unit:
                frame.time_base = unit
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound:
            seconds = len(pictures) / rate
            tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(int(48000 * seconds)) / 48000)
            waves = av.AudioFrame.from_ndarray(np.stack([tone, tone]).astype(np.float32), "fltp", "stereo")
            waves.sample_rate, waves.pts = 48000, 0
            context = sound.codec_context
            resampler = av.AudioResampler(context.format, "stereo", 48000, context.frame_size or 1024)
            for part in resampler.resample(waves):
                container.mux(sound.encode(part))
            container.mux(sound.encode(None))
    return path


def grey_frames(count: int, seed: int = 0) -> Iterator[Array]:
    """A grey picture in which a bright square moves."""
    scene = picture(HEIGHT, WIDTH, 1, np.uint8, seed) // 2
    for index in range(count):
        frame = scene.copy()
        frame[8:20, index % 40 : index % 40 + 12] = 240
        yield frame


def colour_frames(count: int, height: int = HEIGHT, width: int = WIDTH) -> Iterator[Array]:
    """Colours that are smooth enough for chroma of half the resolution, and far from black and white."""
    scene = picture(height, width, 3, np.uint8, 1) // 2 + 60
    for _ in range(count):
        yield scene


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A grey and a coloured video of 3 seconds at 10 frames a second; the coloured one has sound."""
    folder = tmp_path_factory.mktemp("videos")
    return (
        write_video(folder / "a.mp4", grey_frames(30)),
        write_video(folder / "b.mp4", colour_frames(30), audio="aac"),
    )


def decoded(path: Path) -> list[Any]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def times_of(path: Path) -> list[float]:
    return [round(float(frame.pts * frame.time_base), 4) for frame in decoded(path)]


def rgb(frame: Any) -> NDArray[np.int16]:
    return frame.to_ndarray(format="rgb24").astype(np.int16)


# --- In step -------------------------------------------------------------------------------------


@given(
    lead=st.lists(st.integers(0, 4000), min_size=1, max_size=30, unique=True),
    other=st.lists(st.integers(0, 4000), min_size=1, max_size=30, unique=True),
)
def test_frames_are_paired_with_the_nearest_in_time(lead: list[int], other: list[int]) -> None:
    def frames(times: list[int]) -> Iterator[Frame]:
        return (Frame(time / 100, time, None) for time in sorted(times))

    pairs = list(in_step(frames(lead), frames(other), interval=0.5))
    for left, right in pairs:
        assert abs(left.pts - right.pts) == min(abs(left.pts - time) for time in other)
    alone = [time for time in lead if not min(other) - 50 <= time <= max(other) + 50]
    assert [left.pts for left, _ in pairs] == sorted(set(lead) - set(alone))


def test_another_frame_rate_is_followed_by_time(tmp_path: Path) -> None:
    """The other source turns from dark to light at 1.0 s, whatever its rate: so does the result."""
    stripes = 30 * (np.arange(WIDTH) // 4 % 2) + np.zeros((HEIGHT, 1), int)  # a flat one would say nothing
    dark, light = ((level + stripes).astype(np.uint8) for level in (45, 195))
    b = write_video(tmp_path / "b.mp4", colour_frames(20), rate=10)
    for rate in (4, 10, 24, 30):
        a = write_video(tmp_path / "a.mp4", [dark] * rate + [light] * rate, rate=rate)
        fuse_videos(a, b, tmp_path / "out.mp4", Options(steps=0, noise="off"))
        means = [frame.to_ndarray(format="gray").mean() for frame in decoded(tmp_path / "out.mp4")]
        assert times_of(tmp_path / "out.mp4") == times_of(b)
        light_from = min(k for k in range(20) if round(k / 10 * rate + 1e-9) >= rate)
        assert int(np.argmax(np.diff(means))) == light_from - 1, rate


def test_variable_frame_rate_is_kept(tmp_path: Path) -> None:
    times = [0, 40, 80, 333, 350, 900, 901, 1400]
    b = write_video(tmp_path / "b.mkv", colour_frames(8), times=times, unit=Fraction(1, 1000))
    a = write_video(tmp_path / "a.mp4", grey_frames(15))
    for suffix in (".mp4", ".mkv"):
        result = fuse_videos(a, b, tmp_path / f"out{suffix}")
        assert times_of(result.path) == [time / 1000 for time in times]


def test_a_part_of_every_third_frame(pair: tuple[Path, Path], tmp_path: Path) -> None:
    calls: list[tuple[int, int | None]] = []
    result = fuse_videos(
        *pair,
        tmp_path / "out.mp4",
        every=3,
        start=0.7,
        duration=1.2,
        progress=lambda frame, total: calls.append((frame, total)),
    )
    assert times_of(result.path) == [0.0, 0.3, 0.6, 0.9]
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert (result.frames, round(result.seconds, 3)) == (4, 1.2)
    whole = fuse_videos(*pair, tmp_path / "whole.mp4", SAME)
    part = fuse_videos(*pair, tmp_path / "part.mp4", SAME, start=0.7, duration=0.3)
    for late, early in zip(decoded(whole.path)[7:10], decoded(part.path), strict=True):
        assert abs(rgb(late) - rgb(early)).mean() < 2


def test_the_result_ends_with_the_shorter_source(pair: tuple[Path, Path], tmp_path: Path) -> None:
    short = write_video(tmp_path / "short.mp4", grey_frames(12))
    result = fuse_videos(short, pair[1], tmp_path / "out.mp4")
    assert 12 <= result.frames <= 13  # one interval of its own after its last frame
    assert result.notes == (f"{short}: is shorter than b.mp4; the result ends with it",)


# --- As it was -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codec", "pixels", "matrix", "full"),
    [
        ("libx264", "yuv420p", 6, False),
        ("libx264", "yuv420p", 1, False),
        ("libx264", "yuvj420p", 6, True),
        ("libx264", "yuv420p10le", 1, False),
        ("mjpeg", "yuvj422p", 5, True),
        ("ffv1", "yuv444p", 2, False),
        ("ffv1", "bgr0", 2, False),
    ],
)
def test_colours_come_back(tmp_path: Path, codec: str, pixels: str, matrix: int, full: bool) -> None:
    source = write_video(
        tmp_path / "a.mkv", colour_frames(4, 96, 128), codec=codec, pixels=pixels, matrix=matrix, full=full
    )
    result = fuse_videos(source, source, tmp_path / "out.mp4", SAME)
    before, after = decoded(source)[-1], decoded(result.path)[-1]
    assert after.format.name == "yuv420p"
    # The scaler rounds formats differently, by a level and a half at most; a wrong matrix costs three.
    assert abs(rgb(before) - rgb(after)).mean() < 2
    y_before = before.reformat(format="gray", dst_color_range="JPEG").to_ndarray().astype(int)
    y_after = after.reformat(format="gray", dst_color_range="JPEG").to_ndarray().astype(int)
    assert np.quantile(abs(y_before - y_after), 0.99) <= 2
    assert abs((y_before - y_after).mean()) < 0.1


@pytest.mark.parametrize("pixels", ["gray", "gray16le"])
def test_grey_stays_grey(tmp_path: Path, pixels: str) -> None:
    source = write_video(tmp_path / "a.mkv", grey_frames(4), codec="ffv1", pixels=pixels)
    result = fuse_videos(source, source, tmp_path / "out.mp4", SAME)
    for before, after in zip(grey_frames(4), decoded(result.path), strict=True):
        assert abs(before[..., None].astype(int) - rgb(after)).max() <= 5  # of H.264, at the square's border
        assert abs(before[..., None].astype(int) - rgb(after)).mean() <= 1


@pytest.mark.parametrize("size", [(47, 64), (48, 63), (47, 63)])
def test_odd_sizes_are_kept(tmp_path: Path, size: tuple[int, int]) -> None:
    source = write_video(tmp_path / "a.mkv", colour_frames(3, *size), codec="ffv1", pixels="yuv444p")
    result = fuse_videos(source, source, tmp_path / "out.mp4", SAME)
    before, after = decoded(source)[-1], decoded(result.path)[-1]
    assert (after.height, after.width) == size == result.size
    assert abs(rgb(before) - rgb(after)).mean() < 2


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_rotated_sources_come_out_upright(tmp_path: Path, rotation: int) -> None:
    """Stored turned, with a matrix that turns it back: the same as upright, for one source and for both."""
    upright = list(colour_frames(3))
    stored = [np.ascontiguousarray(np.rot90(frame, -rotation // 90)) for frame in upright]
    plain = write_video(tmp_path / "plain.mp4", upright)
    turned = write_video(tmp_path / "turned.mp4", stored, rotation=rotation, aspect=Fraction(3, 2))
    for a, b in ((plain, turned), (turned, turned)):
        result = fuse_videos(a, b, tmp_path / "out.mp4", SAME)
        after = decoded(result.path)[-1]
        assert result.size == (after.height, after.width) == (HEIGHT, WIDTH)
        assert after.side_data.get("DISPLAYMATRIX") is None
        assert abs(upright[0].astype(int) - rgb(after)).mean() < 2.5
        assert f"{turned}: rotation applied, the result is upright" in result.notes
    with av.open(str(result.path)) as container:
        shape = container.streams.video[0].sample_aspect_ratio
    assert shape == (Fraction(3, 2) if rotation == 180 else Fraction(2, 3))


def audio_packets(path: Path) -> list[tuple[float, bytes]]:
    with av.open(str(path)) as container:
        packets: list[Any] = [p for p in container.demux(audio=0) if p.pts is not None]
        return [(round(float(p.pts * p.time_base), 3), bytes(p)) for p in packets]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_sound_is_copied_in_step(pair: tuple[Path, Path], tmp_path: Path, suffix: str) -> None:
    before = [packet for packet in audio_packets(pair[1]) if packet[0] >= 0]
    whole = fuse_videos(*pair, tmp_path / f"whole{suffix}")
    assert audio_packets(whole.path) == [packet for packet in before if packet[0] < 3]
    part = fuse_videos(*pair, tmp_path / f"part{suffix}", start=1.0, duration=1.0)
    wanted = [(round(time - 1, 3), data) for time, data in before if 1 <= time < 2]
    assert [data for _, data in audio_packets(part.path)] == [data for _, data in wanted]
    for (time, _), (expected, _) in list(zip(audio_packets(part.path), wanted, strict=True))[1:]:
        assert abs(time - expected) <= 0.001
    assert abs(audio_packets(part.path)[0][0] - wanted[0][0]) < 1024 / 48000  # .mp4 begins with its first
    assert not whole.notes


def test_sound_that_does_not_fit_is_named(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    source = write_video(tmp_path / "a.wmv", grey_frames(30), codec="mpeg4", audio="wmav2")
    result = fuse_videos(source, pair[1], tmp_path / "out.mp4")
    assert result.notes == (f"{source}: audio left out, .mp4 cannot hold wmav2; .mkv can hold more",)


# --- Steady --------------------------------------------------------------------------------------


def scene(height: int = 96, width: int = 128) -> torch.Tensor:
    """Two sources, (1, 2, H, W), with edges and texture."""
    a, b = picture(height, width, 1, np.uint8, 2), picture(height, width, 1, np.uint8, 3)
    board = 60.0 * ((np.arange(height)[:, None] // 12 + np.arange(width) // 12) % 2)
    both = np.stack([a * 0.5 + 40, b * 0.3 + 40 + board])
    return torch.from_numpy(both).float()[None] / 127.5 - 1


def noisy(sources: torch.Tensor, seed: int, sigma: float = 4.0) -> torch.Tensor:
    noise = torch.randn(sources.shape, generator=torch.Generator().manual_seed(seed))
    return sources + sigma * GREY_LEVEL * noise


def with_square(sources: torch.Tensor, left: int, contrast: float) -> torch.Tensor:
    sources = sources.clone()
    sources[..., 30:60, left : left + 20] += contrast * GREY_LEVEL
    return sources.clamp(-1, 1)


def steady(**options: Any) -> SteadyFusion:
    def no_prior() -> Any:
        raise AssertionError("no network is needed")

    return SteadyFusion(TASKS["infrared"], no_prior, **options)


def single(sources: torch.Tensor, stretch: bool = True) -> torch.Tensor:
    nothing = torch.zeros(1)
    likelihood = HierarchicalLikelihood(sources.split(1, 1), [nothing, nothing], TASKS["infrared"])
    return likelihood.finish(likelihood.start, stretch)


def flicker(frames: Sequence[torch.Tensor]) -> float:
    """Mean change from frame to frame below the moving square, in grey levels."""
    return float(np.mean([(b - a)[..., 66:, :].abs().mean() for a, b in pairwise(frames)])) / GREY_LEVEL


def test_what_does_not_move_does_not_flicker() -> None:
    frames = [noisy(with_square(scene(), 4 * t, 90), t) for t in range(20)]
    fusion = steady()
    fused = [2 * fusion.fuse(frame, 0.04)[0] - 1 for frame in frames]
    sources = min(flicker([frame[:, k : k + 1] for frame in frames]) for k in range(2))
    assert sources == pytest.approx(4 * 2 / np.pi**0.5, rel=0.02)  # E|n1 - n2| of noise of sigma 4
    assert flicker(fused) < 0.5 * sources
    assert flicker([2 * single(frame) - 1 for frame in frames]) > sources  # frame by frame it is sharpened
    assert fusion.levels.level is not None
    assert (fusion.levels.level / GREY_LEVEL).tolist() == pytest.approx([4, 4], rel=0.1)


@pytest.mark.parametrize("contrast", [6, 12, 40, 120])
def test_a_moving_square_leaves_no_trail(contrast: float) -> None:
    """Behind it, the result is what it is without the square, on average over the square's height."""
    fusion, without = steady(stretch=False), steady(stretch=False)
    for t in range(20):
        trail = fusion.fuse(noisy(with_square(scene(), 4 * t, contrast), t), 0.04)[0]
        clear = without.fuse(noisy(scene(), t), 0.04)[0]
    square = single(with_square(scene(), 76, contrast), False) - single(
        scene(), False
    )  # what it changes elsewhere
    behind = (trail - clear - square)[..., 34:56, 20:70].mean(-2) * 255  # the square is at 76 to 96
    assert behind.abs().max() < 2.5
    assert abs(behind.mean()) < 1


def test_drifting_light_is_followed() -> None:
    fusion = steady(stretch=False)
    for t in range(40):
        sources = scene() + 0.75 * t * GREY_LEVEL
        fused, _ = fusion.fuse(noisy(sources, t), 0.04)
    lag = (fused - single(sources, stretch=False)).mean() * 255
    assert abs(lag) < 1.5


def test_after_a_cut_nothing_is_left() -> None:
    fusion = steady()
    for t in range(5):
        fusion.fuse(noisy(scene(), t), 0.04)
    other = noisy(scene().flip(-1, -2) * -0.5 - 0.4, 9)
    after, _ = fusion.fuse(other, 0.04)
    alone, _ = steady().fuse(other, 0.0)
    assert (after - alone).abs().mean() * 255 < 1


def test_the_first_frame_is_a_picture() -> None:
    """Without a frame before there is nothing to hold: to the bit what the likelihood gives."""
    assert torch.equal(steady(noise="off").fuse(scene(), 0.0)[0], single(scene()))


def test_noise_is_averaged_away() -> None:
    """After many frames the details' noise is that of a recursive mean over ten: sigma / sqrt(19)."""
    average, sigma = TimeFilter(), torch.full((1,), 4 * GREY_LEVEL)
    flat = torch.zeros(1, 1, 128, 128)
    errors = []
    for t in range(60):
        filtered = average(noisy(flat, t), sigma)
        if t >= 30:
            errors.append(filtered)
    rms = float(torch.cat(errors).square().mean().sqrt()) / GREY_LEVEL
    # Light, the mean over some sixteen pixels, passes; it has .045 of the noise.
    assert rms == pytest.approx(4 * (1 / 19 + 0.045**2) ** 0.5, rel=0.1)


def test_a_keyframe_does_not_pump() -> None:
    """What was settled and is coded anew comes in gradually; the same change without a keyframe at once."""
    jumps = []
    for keyframe in (True, False):
        average, sigma = TimeFilter(), torch.zeros(1)
        for _ in range(6):
            before = average(scene()[:, :1], sigma)
        after = average(noisy(scene()[:, :1], 0, 4.0), sigma, [keyframe])
        jumps.append(float((after - before).abs().mean()) / GREY_LEVEL)
    assert jumps[0] < 0.5 * jumps[1]
    assert jumps[1] == pytest.approx(4 * (2 / np.pi) ** 0.5, rel=0.05)


def test_motion_is_not_taken_for_noise() -> None:
    levels = NoiseLevels()
    for t in range(4):
        level = levels(noisy(with_square(scene(), 20 * t, 90), t, sigma=3.0), 0.5)
    assert (level / GREY_LEVEL).tolist() == pytest.approx([3, 3], rel=0.15)


def test_the_sampler_goes_on_from_the_frame_before() -> None:
    """With the prior, too, what is still flickers less than it does frame by frame."""
    from ddfm.priors.loading import load_prior

    prior = load_prior("natural")
    frames = [noisy(scene()[..., :64, :64], t, 2.0) for t in range(5)]

    def run(fusions: Iterator[SteadyFusion]) -> list[torch.Tensor]:
        with torch.inference_mode():
            return [fusion.fuse(f, 0.04)[0] for fusion, f in zip(fusions, frames, strict=False)]

    def new() -> SteadyFusion:
        return SteadyFusion(TASKS["infrared"], lambda: prior, steps=2)

    def change(fused: list[torch.Tensor]) -> float:
        return float(np.mean([(b - a).abs().mean() for a, b in pairwise(fused)]))

    one = new()
    assert change(run(one for _ in frames)) < 0.8 * change(run(new() for _ in frames))


# --- Cut, killed, interrupted --------------------------------------------------------------------


@pytest.mark.parametrize("options", [None, {"movflags": "frag_keyframe+empty_moov"}])
def test_a_truncated_source_ends_the_result(
    pair: tuple[Path, Path], tmp_path: Path, options: dict[str, str] | None
) -> None:
    whole = write_video(tmp_path / f"whole{'.mp4' if options else '.mkv'}", grey_frames(30), options=options)
    data = whole.read_bytes()
    for share in (0.9, 0.61, 0.33):
        cut = whole.with_stem(f"cut-{share}")
        cut.write_bytes(data[: int(share * len(data))])
        result = fuse_videos(cut, pair[1], tmp_path / "out.mp4")
        assert len(decoded(result.path)) == result.frames
        assert 1 <= result.frames <= 30 * share + 6
        if share < 0.8 and not options:  # a file in fragments does not tell how long it should be
            assert [note.startswith(f"{cut}: ends early, at ") for note in result.notes] == [True]
            assert " of 3.00 s; the result ends there" in result.notes[0]


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_what_a_kill_leaves_can_be_played(pair: tuple[Path, Path], tmp_path: Path, suffix: str) -> None:
    """SIGKILL at frame 78 of 80: all but what the encoder holds and the last fragments are there."""
    a = write_video(tmp_path / "a.mp4", grey_frames(80))
    b = write_video(tmp_path / "b.mp4", colour_frames(80), audio="aac")
    out = tmp_path / f"out{suffix}"
    code = (
        "import os, signal, sys; from ddfm import Options, fuse_videos;"
        "fuse_videos(*sys.argv[1:], Options(steps=0, noise='off'),"
        " progress=lambda n, total: os.kill(os.getpid(), signal.SIGKILL) if n == 78 else None)"
    )
    killed = subprocess.run(
        [sys.executable, "-c", code, a, b, out], env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert not out.exists()
    (left,) = partial_paths(out)
    assert re.fullmatch(rf"out\.partial-[0-9a-f]{{16}}\{suffix}", left.name)
    frames = decoded(left)
    assert len(frames) >= 40
    assert [round(float(frame.pts * frame.time_base), 3) for frame in frames[:3]] == [0.0, 0.1, 0.2]
    assert len(audio_packets(left)) > 100


def test_an_interruption_leaves_what_is_there(pair: tuple[Path, Path], tmp_path: Path) -> None:
    def interrupt(frame: int, total: int | None) -> None:
        if frame == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fuse_videos(*pair, tmp_path / "out.mp4", progress=interrupt)
    (left,) = tmp_path.iterdir()
    assert [left] == partial_paths(tmp_path / "out.mp4")
    assert len(decoded(left)) == 9
    fuse_videos(*pair, tmp_path / "out.mp4", duration=0.5)  # the next run to that output removes it
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


@pytest.mark.usefixtures("kept_threads")
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_same_inputs_same_bytes(pair: tuple[Path, Path], tmp_path: Path, suffix: str) -> None:
    torch.set_num_threads(1)  # sums are added up in another order by another number
    one, two = (tmp_path / f"{name}{suffix}" for name in ("one", "two"))
    for path in (one, two):
        fuse_videos(*pair, path, duration=1.0)
    assert one.read_bytes() == two.read_bytes()


# --- Mistakes ------------------------------------------------------------------------------------


def refused(*arguments: Any, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        fuse_videos(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_mistakes_are_explained(pair: tuple[Path, Path], tmp_path: Path) -> None:
    a, b = pair
    sources = tmp_path / "sources"
    sources.mkdir()
    text, empty, still, sound, half = (
        sources / name for name in ("text.txt", "empty.mp4", "still.png", "sound.mp4", "half.mp4")
    )
    text.write_text("no video at all\n" * 50)
    empty.touch()
    Image.fromarray(next(grey_frames(1))).save(still)
    with av.open(str(sound), "w") as container, av.open(str(b)) as source:
        target = container.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            if packet.dts is not None:
                packet.stream = target
                container.mux(packet)
    sequence = sources / "walk.seq"
    sequence.write_bytes(b"FFF\0" + bytes(2000))
    half.write_bytes(a.read_bytes()[: a.stat().st_size // 2])
    small = write_video(sources / "small.mp4", [np.zeros((32, 64), np.uint8)])
    tiny = write_video(sources / "tiny.mkv", [np.zeros((8, 8), np.uint8)] * 3, codec="ffv1")
    out = tmp_path / "out"
    target_file = out / "out.mp4"
    for first, message in (
        (sources / "none.mp4", "none.mp4: no such file"),
        (sources, "is a folder, a video file is needed"),
        (empty, "empty.mp4: is empty (0 bytes)"),
        (text, "text.txt: is not a video"),
        (still, "still.png: is a picture, not a video; ddfm fuse takes pictures"),
        (sound, "sound.mp4: has no video stream"),
        (sequence, "walk.seq: holds a thermal camera's radiometric frames"),
        (half, "half.mp4: is cut short or damaged: its index (moov) is missing"),
        (small, f"small.mp4 is 64x32 and {b} is 64x48 pixels; videos must be aligned and of one size"),
    ):
        assert message in refused(first, b, target_file)
    assert "at least 16x16 are needed" in refused(tiny, tiny, target_file)
    for options, message in (
        ({"every": 0}, "every 0: must be a whole number from 1 (all frames)"),
        ({"start": -1.0}, "start -1: must be 0 seconds or more"),
        ({"start": float("nan")}, "start nan: must be 0 seconds or more"),
        ({"duration": 0.0}, "duration 0: must be more than 0 seconds"),
        ({"start": 100.0}, f"start 100: {a} is only 3.00 s long"),
    ):
        assert message in refused(a, b, target_file, **options)
    for unfit in ({"form": "paper"}, {"colour_from": 2}, {"uncertainty": True}, {"register": "affine"}):
        (name,) = unfit
        assert f"{name} {unfit[name]!r}: is not for videos" in refused(a, b, target_file, Options(**unfit))
    assert "unknown output format; use one of .mp4" in refused(a, b, out / "out.gif")
    assert "is one of the sources" in refused(a, b, b)
    assert not out.exists()


def test_a_size_that_changes_is_refused(pair: tuple[Path, Path], tmp_path: Path) -> None:
    big = write_video(tmp_path / "big.ts", colour_frames(10))
    small = write_video(tmp_path / "small.ts", colour_frames(10, 32, 48))
    both = tmp_path / "both.ts"
    both.write_bytes(big.read_bytes() + small.read_bytes())
    folder = tmp_path / "out"
    message = refused(pair[0], both, folder / "out.mp4")
    assert (
        "both.ts: changes from 64x48 to 48x32 pixels after 0.90 s; all frames must have one size" in message
    )
    assert not list(folder.iterdir())


def test_an_error_on_the_way_leaves_nothing(pair: tuple[Path, Path], tmp_path: Path) -> None:
    def fail(frame: int, total: int | None) -> None:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError):
        fuse_videos(*pair, tmp_path / "out.mp4", progress=fail)
    assert not list(tmp_path.iterdir())


def test_only_a_few_frames_are_held(pair: tuple[Path, Path]) -> None:
    """Reading is lazy: the first frame is there long before the last is decoded."""
    reader = Reader(pair[0])
    frames = reader.frames()
    assert next(frames).time == 0.0
    assert not reader.ended


def test_the_command(ddfm: Command, pair: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    done = ddfm("video", *pair, "-o", out, "--every", 2, "--duration", 0.8, "--noise", "off")
    assert done.returncode == 0, done.stderr
    assert f"{WIDTH}x{HEIGHT}, 4 frames" in done.stdout
    assert "out.mp4: task infrared (1 of 2 sources grey, the rest in colour)" in done.stderr
    assert len(decoded(out)) == 4
    for mistake, message in (
        (("video", pair[0], tmp_path / "none.mp4", "-o", out), "none.mp4: no such file"),
        (("video", *pair, "-o", tmp_path / "out.gif"), "out.gif: unknown output format"),
        (("video", *pair, "-o", out, "--task", "best"), "task 'best'"),
        (("video", *pair, "-o", out, "--start", 99), "is only"),
    ):
        refused = ddfm(*mistake)
        assert refused.returncode == 2
        assert message in refused.stderr
        assert refused.stderr.count("\n") == 1


def test_exposures_of_a_moving_scene_are_told(tmp_path: Path) -> None:
    """``auto`` looks at the first frames."""
    dark = write_video(tmp_path / "dark.mkv", [frame // 3 for frame in colour_frames(4)])
    bright = write_video(tmp_path / "bright.mkv", colour_frames(4))
    settings = fuse_videos(dark, bright, tmp_path / "out.mkv", Options(steps=0, noise="off")).settings
    assert settings["task"] == "exposure"
    assert "grey levels" in settings["why"]
