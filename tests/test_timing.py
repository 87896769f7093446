from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as PILImage

import ddfm as package
from ddfm import timing as stages
from ddfm.priors.base import Prior
from ddfm.priors.loading import load_prior
from ddfm.timing import Times, profile, stage
from tests.conftest import Command, check_refusals, picture, seen


class Clock:
    """Seconds that pass when they are told to; whole ones, so that sums are exact."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> float:
        return self.now

    def tick(self, seconds: int) -> None:
        self.now += seconds


@pytest.fixture(scope="module")
def prior() -> Prior:
    return load_prior()


def pair(noise: float = 0.0) -> list[NDArray[np.uint8]]:
    """A grey picture and one in colour, with noise of so many grey levels."""
    rng = np.random.default_rng(0)
    clean = [picture(48, 64, 1, np.uint8, 1), picture(48, 64, 3, np.uint8, 2)]
    return [(image + rng.normal(0, noise, image.shape)).clip(0, 255).astype(np.uint8) for image in clean]


def evaluations(times: Times) -> Counter[str]:
    """Calls of the network, by the outermost stage they lie in."""
    calls: Counter[str] = Counter()
    for path, count in times.calls.items():
        if path[-1] == "network":
            calls[path[0]] += count
    return calls


# --- The account ---------------------------------------------------------------------------------


def test_stages_within_stages_count_once() -> None:
    clock = Clock()
    with profile(clock) as times:
        clock.tick(1)
        with stage("outer"):
            clock.tick(2)
            for _ in range(3):
                with stage("inner"):
                    clock.tick(4)
            clock.tick(8)
        clock.tick(16)
    assert times.seconds == {("outer",): 10, ("outer", "inner"): 12, ("other",): 17}
    assert times.calls == {("outer",): 1, ("outer", "inner"): 3}
    assert times.wall == times.total == clock.now


# Ticks, and stages that hold more of the same.
Script = st.recursive(
    st.integers(0, 99), lambda inner: st.tuples(st.sampled_from("abc"), st.lists(inner, max_size=4))
)


@given(st.lists(Script))
def test_times_sum_to_the_whole(script: list[int | tuple[str, list[int]]]) -> None:
    clock, entered = Clock(), 0

    def play(parts: list[int | tuple[str, list[int]]], inside: str) -> None:
        nonlocal entered
        for part in parts:
            if isinstance(part, int):
                clock.tick(part)
                continue
            name, inner = part
            entered += name != inside
            with stage(name):
                play(list(inner), name)

    with profile(clock) as times:
        play(script, "")
    assert times.total == times.wall == clock.now
    assert sum(times.calls.values()) == entered
    assert all(seconds >= 0 for seconds in times.seconds.values())


def test_a_stage_within_one_of_its_name_is_part_of_it() -> None:
    clock = Clock()

    @stage("read")
    def read(depth: int) -> None:
        clock.tick(1)
        if depth:
            read(depth - 1)

    with profile(clock) as times:
        read(2)
        read(0)
    assert times.seconds[("read",)] == 4
    assert times.calls == {("read",): 2}


def test_threads_add_up() -> None:
    """Three threads in one stage at a time: each counts; between them, when none is in a stage, is other."""
    clock, together = Clock(), Barrier(4, timeout=60)

    def work() -> None:
        together.wait()
        with stage("work"):
            together.wait()
            together.wait()  # in between the clock ticks
        together.wait()

    with profile(clock) as times, ThreadPoolExecutor(3) as pool:
        for _ in range(3):
            pool.submit(work)
        for seconds in (2, 0, 10, 0):
            clock.tick(seconds)
            together.wait()
        clock.tick(5)
    assert times.seconds == {("work",): 30, ("other",): 7}
    assert times.calls == {("work",): 3}
    assert (times.wall, times.total) == (17, 37)
    assert "wall time 17.000 s (2.2 stages at a time)" in str(times)


def test_nothing_is_recorded_when_nobody_records() -> None:
    clock = Clock()
    with stage("before"), profile(clock) as times:
        clock.tick(1)
    with stage("after"):
        clock.tick(1)
    assert times.seconds == {("other",): 1}
    assert not times.calls


def test_a_stage_that_fails_has_ended() -> None:
    clock = Clock()
    with profile(clock) as times:
        clock.tick(1)
        with pytest.raises(ZeroDivisionError), stage("fails"):
            clock.tick(1 // 0)
        clock.tick(2)
    assert times.calls == {("fails",): 1}
    assert times.seconds == {("fails",): 0, ("other",): 3}


def test_one_recording_at_a_time() -> None:
    with profile(), pytest.raises(package.InputError, match="a recording is going on already"), profile():
        pass
    with pytest.raises(ZeroDivisionError), profile():
        _ = 1 / 0
    with profile() as times:
        pass
    assert times.wall > 0


def test_work_given_to_a_gpu_counts_where_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, queue = Clock(), [0]

    def wait() -> None:
        clock.tick(queue[0])
        queue[0] = 0

    monkeypatch.setattr(stages, "wait_for_devices", wait)
    with profile(clock) as times:
        queue[0] += 1
        with stage("network"):
            queue[0] += 20
        with stage("likelihood"):
            queue[0] += 300
        queue[0] += 4000
    assert times.seconds == {("network",): 20, ("likelihood",): 300, ("other",): 4001}


# --- What fusions are made of --------------------------------------------------------------------


def test_a_fusion(prior: Prior) -> None:
    sources = pair()
    with profile() as times:
        recorded = package.fuse(*sources, prior=prior, task="infrared", noise="off")
    assert np.array_equal(recorded.to_array(), package.fuse(*sources, prior=prior, noise="off").to_array())
    assert times.total == pytest.approx(times.wall, rel=1e-9)
    parts = ("network", "likelihood", "scheduler")
    expected: dict[tuple[str, ...], int] = {("steps",): 1}
    for step in (f"step {n}" for n in range(1, 4)):
        expected["steps", step] = 1
        expected |= {("steps", step, part): 1 for part in parts}
    assert {path: count for path, count in times.calls.items() if path[0] == "steps"} == expected
    once = ("prepare", "likelihood", "steps", "finish", "restore")
    assert [times.calls[(name,)] for name in once] == [1] * len(once)
    assert times.calls[("read",)] == 2
    assert ("task",) not in times.calls


def test_denoising_is_told_apart(prior: Prior) -> None:
    """Five evaluations for every source, and five for all channels of one in colour."""
    for noise, prepare, restore in (([0, 0], 0, 0), ([9, 0], 5, 0), ([9, 9], 10, 5)):
        with profile() as times:
            package.fuse(*pair(9), prior=prior, noise=noise, steps=3)
        assert evaluations(times) == Counter(steps=3, prepare=prepare, restore=restore)


def test_uncertainty_is_told_apart(prior: Prior) -> None:
    with profile() as times:
        package.fuse(*pair(), prior=prior, noise="off", steps=1, uncertainty=True)
    assert evaluations(times) == {"steps": 1, "uncertainty": 8}
    assert "mean of" not in str(times)


def test_fusions_in_threads_add_up(prior: Prior) -> None:
    def fuse(number: int) -> bytes:
        return package.fuse(*pair(number), prior=prior, noise="off", steps=2).to_array().tobytes()

    alone = [fuse(number) for number in range(4)]
    with profile() as times, ThreadPoolExecutor(2) as pool:
        assert list(pool.map(fuse, range(4))) == alone
    assert evaluations(times) == {"steps": 8}
    assert times.calls[("restore",)] == 4
    assert times.total >= times.wall * (1 - 1e-9)
    assert ", mean of 4)" in str(times)
    assert ", 4 fused, " in str(times)


# --- The command ---------------------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Three pairs, the last of differing sizes."""
    a, b = tmp_path / "a", tmp_path / "b"
    for folder, channels in ((a, 1), (b, 3)):
        folder.mkdir()
        for k in range(3):
            width = 50 if (channels, k) == (3, 2) else 48
            PILImage.fromarray(picture(32, width, channels, np.uint8, k)).save(folder / f"{k}.png")
    return a, b


def table(stderr: str) -> tuple[dict[str, float], list[str]]:
    """Seconds of the outermost stages, total included, and the lines of the steps."""
    lines = stderr[stderr.index("stage  ") :].splitlines()
    assert max(map(len, lines)) <= 80
    until = lines.index("")
    rows = {row[:24].rstrip(): float(row[30:41]) for row in lines[1:until] if row[0] != " "}
    steps = lines[until + 2 : -2]
    return rows, steps


def seconds_left_out(text: str) -> str:
    return text.rpartition(",")[0]


@pytest.fixture
def run(ddfm: Command, tmp_path: Path) -> Callable[..., tuple[str, str]]:
    """The command without and with --profile: the same file, status and lines, and then the table."""

    def compare(*arguments: object, suffix: str = ".png", status: int = 0) -> tuple[str, str]:
        plain, timed = (tmp_path / f"{name}{suffix}" for name in ("plain", "timed"))
        before, after = (
            ddfm("fuse", *arguments, "-o", plain),
            ddfm("fuse", *arguments, "-o", timed, "--profile"),
        )
        assert (before.returncode, after.returncode) == (status, status)
        assert before.stderr.replace("plain", "timed") == after.stderr[: after.stderr.index("stage  ")]
        as_before = seconds_left_out(before.stdout).replace("plain", "timed")
        assert as_before == seconds_left_out(after.stdout)
        for file in [plain] if plain.is_file() else seen(plain):
            assert file.read_bytes() == (timed if plain.is_file() else timed / file.name).read_bytes()
        return after.stdout, after.stderr

    return compare


def test_profile_of_a_pair(run: Callable[..., tuple[str, str]], folders: tuple[Path, Path]) -> None:
    _, stderr = run(*(folder / "0.png" for folder in folders))
    rows, steps = table(stderr)
    names = ["import", "load prior", "read", "defects", "task", "prepare", "likelihood", "steps", "finish"]
    assert list(rows) == [*names, "restore", "write", "other", "total"]
    total = rows.pop("total")
    assert sum(rows.values()) == pytest.approx(total, abs=0.0005 * (len(rows) + 1))
    assert [line.split()[0] for line in steps] == ["1", "2", "3"]
    assert all(len(line.split()) == 4 for line in steps)


def test_profile_of_folders(run: Callable[..., tuple[str, str]], folders: tuple[Path, Path]) -> None:
    _, stderr = run(*folders, "--steps", 2, suffix="", status=1)
    _, steps = table(stderr)
    assert len(steps) == 2
    assert "(ms, mean of 2)" in stderr
    assert stderr.splitlines()[-1].endswith(" a second")
    assert ", 2 fused, " in stderr.splitlines()[-1]


def test_profile_of_volumes(run: Callable[..., tuple[str, str]], tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    rng, sources = np.random.default_rng(0), [tmp_path / "mri.nii", tmp_path / "ct.nii"]
    for path in sources:
        nibabel.save(nibabel.Nifti1Image(rng.integers(-200, 900, (24, 20, 4), np.int16), np.eye(4)), path)
    _, stderr = run(*sources, "--steps", 0, suffix=".nii")
    rows, _ = table(stderr)
    assert {"read", "prepare", "likelihood", "restore", "write"} <= rows.keys()
    assert ", 4 fused, " in stderr


def test_refusals_are_one_line_as_ever(ddfm: Command, folders: tuple[Path, Path], tmp_path: Path) -> None:
    a, b = folders
    out = tmp_path / "out.png"
    mistakes: dict[tuple[object, ...], str] = {
        ("fuse", a / "0.png", b / "9.png", "-o", out, "--profile"): "no such file",
        ("fuse", a / "2.png", b / "2.png", "-o", out, "--profile"): "2.png is 48x32 and",
        ("fuse", a, b / "0.png", "-o", out, "--profile"): "either files or folders are needed",
    }
    check_refusals(ddfm, mistakes, tmp_path)
    with profile() as times:  # the refused ones are over
        pass
    assert not times.calls
