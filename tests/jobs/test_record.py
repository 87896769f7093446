"""The record of a folder run: what is kept, tried again, set aside; what a kill or a bad disk leaves."""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ddfm.errors import InputError
from ddfm.formats.atomic import write_whole
from ddfm.fusion.options import Options
from ddfm.fusion.pipeline import Fusion
from ddfm.fusion.result import FusionResult
from ddfm.jobs import files, listing, plan, work
from ddfm.jobs.folders import FolderResult, Watch, fuse_folders
from ddfm.jobs.listing import Found, Listing
from ddfm.jobs.manifest import NAME, Line, Manifest, Outcome
from ddfm.jobs.matching import Group
from ddfm.jobs.numbers import Numbers
from ddfm.jobs.work import may_pass
from ddfm.places.local import LocalFolder
from tests.conftest import Command, picture, seen
from tests.faults.test_disks import mount, small_disk

__all__ = ["small_disk"]
QUICK = Options(steps=0, task="infrared", noise="off", device="cpu")
ARGUMENTS = ("--steps", 0, "--task", "infrared", "--noise", "off", "--device", "cpu")
CRASHING = """
import os, signal, sys
from pathlib import Path
from ddfm.fusion.options import Options
from ddfm.jobs.folders import fuse_folders
import crash
options = Options(steps=0, noise="off", device="cpu", task=crash.TASK)
result = fuse_folders(sys.argv[1:3], sys.argv[3], options)
print(result.fused, result.kept, [outcome.failure for outcome in result.failed])
"""
# Unpickled, or imported, it makes this process end at the pair that is all black.
CRASH = """
import os, signal
from ddfm.jobs import work
from ddfm.likelihoods.tasks import TASKS
read = work.read_sources
def read_or_die(paths, *others):
    given = read(paths, *others)
    if not given.images[0].pixels.any():
        os.kill(os.getpid(), signal.SIGSEGV)
    return given
work.read_sources = read_or_die
TASK = "infrared"
"""


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for k in range(4):
        add(tmp_path, str(k), k)
    return tmp_path / "a", tmp_path / "b"


def add(root: Path, stem: str, seed: int) -> None:
    for folder, channels in (("a", 1), ("b", 3)):
        (root / folder).mkdir(exist_ok=True)
        made = picture(32, 40, channels, np.uint8, seed)
        Image.fromarray(made).save(root / folder / f"{stem}.png")


def stems(result: FolderResult) -> list[str]:
    """Of the groups that were fused in that run."""
    return [outcome.group.stem for outcome in result.outcomes if outcome.settings]


def rows(out: Path, columns: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(out / NAME) as record:
        found = record.execute(f"SELECT {columns} FROM pairs ORDER BY pair").fetchall()
    record.close()
    return found


# --- Listing -------------------------------------------------------------------------------------


def test_rounds_give_all_groups_once(
    tmp_path: Path, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("5.png", "x\udcff.png"):
        (folders[0] / name).write_bytes(b"")
    monkeypatch.setattr(listing, "ROUND", 1)
    listed = Listing([LocalFolder(folder) for folder in folders])
    found = [found.group for round_ in listed.rounds() for found in round_]
    assert sorted(group.stem for group in found) == list("0123")
    assert all(group.files == tuple(folder / f"{group.stem}.png" for folder in folders) for group in found)
    assert list(listed.unmatched()) == [folders[0] / "5.png", folders[0] / "x\udcff.png"]
    (folders[1] / "2.tif").write_bytes(b"")
    with pytest.raises(InputError, match=r"holds both 2\.png and 2\.tif"):
        list(Listing([LocalFolder(folder) for folder in folders]).rounds())


def test_work_begins_before_the_listing_ends(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "ROUND", 1)
    order: list[str] = []
    watch = Watch(
        listed=lambda unmatched: order.append("listed"), progress=lambda progress: order.append("worked")
    )
    rounds = Listing.rounds

    def slow(self: Listing) -> Iterator[list[Found]]:  # the second round comes after the first result
        for number, found in enumerate(rounds(self)):
            if number == 1:
                assert began.wait(60)
            yield found

    began = Event()
    fuse = Fusion.of

    def watched(self: Fusion, *arguments: Any) -> list[FusionResult]:
        began.set()
        return fuse(self, *arguments)

    monkeypatch.setattr(Listing, "rounds", slow)
    monkeypatch.setattr(Fusion, "of", watched)
    assert fuse_folders(folders, tmp_path / "out", QUICK, watch=watch).fused == 4
    assert order[-1] == "worked"


# --- What is done again --------------------------------------------------------------------------


def test_changed_pictures_and_options_are_fused_anew(folders: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert stems(fuse_folders(folders, out, QUICK, metrics=["EN"])) == list("0123")
    assert {state for (state,) in rows(out, "state")} == {"done"}
    assert all("EN" in metrics for (metrics,) in rows(out, "metrics"))
    before = {path: path.stat().st_mtime_ns for path in seen(out)}
    add(tmp_path, "2", 99)
    os.utime(folders[1] / "3.png", ns=(0, 0))  # its time alone
    result = fuse_folders(folders, out, QUICK, metrics=["EN"])
    assert (stems(result), result.kept) == (["2"], 3)
    after = {path: path.stat().st_mtime_ns for path in seen(out)}
    assert {path.stem for path in before if before[path] != after[path]} == {"2"}
    assert fuse_folders(folders, out, QUICK, metrics=["EN"]).kept == 4
    assert stems(fuse_folders(folders, out, QUICK.but(stretch="none"), metrics=["EN"])) == list("0123")


def test_outputs_of_a_run_without_a_record_are_kept(folders: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    fuse_folders(folders, out, QUICK)
    (out / NAME).unlink()
    assert fuse_folders(folders, out, QUICK).kept == 4
    add(tmp_path, "1", 50)
    assert stems(fuse_folders(folders, out, QUICK)) == ["1"]


def test_what_may_pass_is_tried_again(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One read fails once, another always; a broken picture is not tried twice."""
    (folders[1] / "3.png").write_bytes((folders[1] / "3.png").read_bytes()[:60])
    tried: list[str] = []
    read = files.read_sources

    def failing(paths: Sequence[Path], *others: Any) -> Any:
        stem = paths[0].stem
        tried.append(stem)
        if stem == "2" or (stem == "1" and tried.count("1") == 1):
            raise OSError(errno.EIO, "Input/output error")
        return read(paths, *others)

    monkeypatch.setattr(work, "read_sources", failing)
    monkeypatch.setattr(plan, "PAUSES", (0.0, 0.0))
    result = fuse_folders(folders, tmp_path / "out", QUICK)
    assert (stems(result), result.numbers.failed) == (["0", "1"], 2)
    assert [tried.count(stem) for stem in "0123"] == [1, 2, 3, 1]
    states = [(state, attempts) for state, attempts in rows(tmp_path / "out", "state, attempts")]
    assert states == [("done", 1), ("done", 2), ("failed", 3), ("quarantined", 1)]
    tried.clear()
    monkeypatch.setattr(work, "read_sources", read)
    again = fuse_folders(folders, tmp_path / "out", QUICK)
    assert (stems(again), [outcome.group.stem for outcome in again.failed]) == (["2"], ["3"])
    add(tmp_path, "3", 3)
    assert stems(fuse_folders(folders, tmp_path / "out", QUICK)) == ["3"]


def test_what_passes_and_what_does_not() -> None:
    refused = InputError("refused")
    refused.__cause__ = OSError(errno.EIO, "I/O")
    damaged = InputError("damaged")
    damaged.__cause__ = OSError("image file is truncated")
    assert [may_pass(error) for error in (refused, damaged, MemoryError(), InputError("sizes"))] == [
        True, False, True, False,
    ]  # fmt: skip


# --- Ends without a word -------------------------------------------------------------------------


def crash_run(folders: tuple[Path, Path], out: Path) -> subprocess.CompletedProcess[str]:
    root = out.parent
    (root / "crash.py").write_text(CRASH)
    (root / "sitecustomize.py").write_text(
        "import sys\nif 'ddfm.jobs.alone' in sys.orig_argv: import crash\n"
    )
    path = os.pathsep.join([str(root), *filter(None, sys.path)])
    return subprocess.run(
        [sys.executable, "-c", CRASHING, *map(str, folders), str(out)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no signals there")
def test_a_pair_that_ends_the_interpreter(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """The run ends with it. The next one tries it in processes of its own, twice, and sets it aside."""
    Image.fromarray(np.zeros((32, 40), np.uint8)).save(folders[0] / "1.png")
    out = tmp_path / "out"
    assert crash_run(folders, out).returncode == -signal.SIGSEGV
    done = crash_run(folders, out)
    assert done.returncode == 0, done.stderr
    assert "ended the process that worked on it (SIGSEGV)" in done.stdout
    assert [path.name for path in seen(out)] == ["0.png", "2.png", "3.png"]
    assert [row for row in rows(out, "pair, state, crashes") if row[0] == "1"] == [("1", "quarantined", 2)]
    assert crash_run(folders, out).stdout.startswith("0 3 ")


def test_an_output_that_a_killed_run_had_written_is_kept(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the output and its line in the record; and before the output was there."""
    out = tmp_path / "out"
    fuse_folders(folders, out, QUICK)
    with sqlite3.connect(out / NAME) as record:
        record.execute(
            "UPDATE pairs SET state = 'begun', inputs = '', before = '; ' WHERE pair IN ('1', '2')"
        )
    record.close()
    (out / "2.png").unlink()
    before = (out / "1.png").stat().st_ino
    result = fuse_folders(folders, out, QUICK)
    assert (result.fused, result.kept) == (1, 3)
    assert (out / "1.png").stat().st_ino == before
    assert all(len(inputs) == 64 for (inputs,) in rows(out, "inputs"))


# --- Other runs, bad disks -----------------------------------------------------------------------


def test_a_second_run_is_refused(ddfm: Command, folders: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    first = Manifest(out / NAME, "", "")
    done = ddfm("fuse", *folders, "-o", out, *ARGUMENTS)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "another run is writing to this folder" in done.stderr
    first.close()
    assert ddfm("fuse", *folders, "-o", out, *ARGUMENTS).returncode == 0


@pytest.mark.parametrize("part", [0.0, 0.4])
def test_a_damaged_record(ddfm: Command, folders: tuple[Path, Path], tmp_path: Path, part: float) -> None:
    """It is refused, never repaired by guessing; without it outputs are kept."""
    out = tmp_path / "out"
    assert ddfm("fuse", *folders, "-o", out, *ARGUMENTS).returncode == 0
    data = bytearray((out / NAME).read_bytes())
    first = int(part * len(data))
    data[first : first + 3000] = bytes(range(250)) * 12
    (out / NAME).write_bytes(data)
    done = ddfm("fuse", *folders, "-o", out, *ARGUMENTS)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done
    assert f"{NAME}: is damaged" in done.stderr
    (out / NAME).unlink()
    assert "0 fused, 4 kept" in ddfm("fuse", *folders, "-o", out, *ARGUMENTS).stdout


def test_a_disk_that_fills_up(ddfm: Command, folders: tuple[Path, Path], small_disk: Path) -> None:
    """The run ends with one line; with room it goes on from there."""
    ballast = small_disk / "ballast"
    write_whole(ballast, bytes(256 * 1024 - 140_000))
    for k in range(4, 60):
        add(folders[0].parent, str(k), k)
    done = ddfm("fuse", *folders, "-o", small_disk / "out", *ARGUMENTS)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done
    assert "No space left" in done.stderr or "the disk is full" in done.stderr
    for path in seen(small_disk / "out"):
        assert np.asarray(Image.open(path)).shape == (32, 40, 3)
    ballast.unlink()
    assert mount("mount", "-o", "remount,size=4m", str(small_disk))
    again = ddfm("fuse", *folders, "-o", small_disk / "out", *ARGUMENTS)
    assert again.returncode == 0, again.stderr
    assert len(seen(small_disk / "out")) == 60


def test_a_read_only_output(ddfm: Command, folders: tuple[Path, Path], small_disk: Path) -> None:
    assert mount("mount", "-o", "remount,ro", str(small_disk))
    done = ddfm("fuse", *folders, "-o", small_disk, *ARGUMENTS)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "Read-only" in done.stderr


# --- Numbers -------------------------------------------------------------------------------------


def test_rates_and_the_time_left() -> None:
    now = 100.0
    numbers = Numbers(clock=lambda: now)
    numbers.listed, numbers.all_listed = 50, True
    for second in range(20):
        now = 101.0 + second
        numbers.count_fused("one" if second % 2 else "two", 0.5)
    assert numbers.rates == {"one": 0.5, "two": 0.5}
    assert (numbers.rate, numbers.seconds_left, numbers.seconds) == (1.0, 30.0, 10.0)
    now = 1000.0  # the last minute saw nothing
    assert (numbers.rate, numbers.seconds_left) == (0.0, None)


def test_a_lost_pair_is_given_out_again() -> None:
    line = Line(Group("1", ()), "", "", "", "begun", "", 3, 1, 1, None)
    lost = Outcome(line.group, failure="lost", lost=True)
    assert plan.fate(lost, line) == ("waiting", 0.0)
    assert plan.fate(Outcome(line.group, failure="ended", crashed=True), line)[0] == "quarantined"
