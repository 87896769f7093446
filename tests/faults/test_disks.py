"""Disks that are full or read-only, and two runs into one folder."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddfm.errors import InputError
from ddfm.formats.atomic import prepare_folder, write_folder, write_whole
from ddfm.fusion.options import Options
from ddfm.video import fuse_videos
from tests.conftest import picture, seen
from tests.formats.test_atomic import short_files
from tests.video.test_hostile import write

TWO_RUNS = """
import sys
from ddfm.fusion.options import Options
from ddfm.jobs.folders import fuse_folders
options = Options(steps=0, task="infrared", noise="off", device="cpu")
sys.exit(len(fuse_folders(sys.argv[1:3], sys.argv[3], options, overwrite=True).failed))
"""


def mount(*arguments: str) -> bool:
    """Call mount or umount; whether it did anything."""
    try:
        return subprocess.run(arguments, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    if not mount("mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)):
        pytest.skip("no disk can be mounted here")
    try:
        yield place
    finally:
        mount("umount", str(place))


def test_a_full_disk(small_disk: Path) -> None:
    write_whole(small_disk / "small", bytes(1000))
    with pytest.raises(InputError, match="No space left"):
        write_whole(small_disk / "large", bytes(1_000_000))
    with pytest.raises(InputError, match="No space left"):
        write_folder(small_disk / "series", {str(k): bytes(100_000) for k in range(5)})
    with pytest.raises(InputError, match="No space left"):
        write_whole(small_disk / "small", bytes(1_000_000))
    assert [path.name for path in small_disk.iterdir()] == ["small"]
    assert (small_disk / "small").read_bytes() == bytes(1000)


def test_a_read_only_disk(small_disk: Path) -> None:
    (small_disk / "a").write_bytes(b"mine")
    assert mount("mount", "-o", "remount,ro", str(small_disk))
    for refuse in (
        lambda: prepare_folder(small_disk),
        lambda: prepare_folder(small_disk / "new"),
        lambda: write_whole(small_disk / "a", b"other"),
        lambda: write_folder(small_disk / "series", {"1": b""}),
    ):
        with pytest.raises(InputError, match="Read-only"):
            refuse()
    assert (small_disk / "a").read_bytes() == b"mine"


def test_a_full_disk_and_a_video(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for name in "ab":
        write(tmp_path / f"{name}.mp4")
    options = Options(steps=0, task="infrared", noise="off", device="cpu")
    for suffix in (".mp4", ".mkv"):
        sources = tmp_path / "a.mp4", tmp_path / "b.mp4"
        with short_files(300), pytest.raises(InputError, match="cannot be written"):
            fuse_videos(*sources, tmp_path / "out" / f"o{suffix}", options)
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.slow
def test_two_runs_into_one_folder(tmp_path: Path) -> None:
    """They exclude each other: the second is refused, unless it comes when the first has ended."""
    for folder in ("ir", "vi"):
        (tmp_path / folder).mkdir()
        for k in range(6):
            Image.fromarray(picture(48, 48, 1, np.uint8, k)).save(tmp_path / folder / f"{k}.png")
    folders = [str(tmp_path / name) for name in ("ir", "vi", "out")]
    runs = [
        subprocess.Popen([sys.executable, "-c", TWO_RUNS, *folders], stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    ends = [run.communicate()[1] for run in runs]
    assert 0 in [run.returncode for run in runs]
    for run, end in zip(runs, ends, strict=True):
        assert run.returncode == 0 or "another run is writing to this folder" in end
    assert [path.name for path in seen(tmp_path / "out")] == [f"{k}.png" for k in range(6)]
