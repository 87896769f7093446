"""Files and folders appear whole or not at all, whatever lies in the way, and killed runs leave no litter."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from ddfm.errors import InputError
from ddfm.formats.atomic import (
    PREFIX,
    leftovers,
    partial_folder,
    prepare_folder,
    sweep,
    whole_file,
    whole_folder,
    write_folder,
    write_whole,
)

KILLED = """
import os, signal, sys
from pathlib import Path
from ddfm.formats.atomic import whole_file, whole_folder
with whole_file(Path(sys.argv[1])) as file, whole_folder(Path(sys.argv[2])) as folder:
    file.write(b"half")
    (folder / "half").write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@contextmanager
def short_files(limit: int) -> Iterator[None]:
    """Let no file grow beyond so many bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGXFSZ, ignored)
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_appears_whole_and_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    with whole_file(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    def break_off(context: AbstractContextManager[object]) -> None:
        with context:
            raise KeyError("on the way")

    for context in (whole_file(path), whole_folder(tmp_path / "series")):
        with pytest.raises(KeyError):
            break_off(context)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("length", [248, 251, 255])
def test_names_as_long_as_they_can_be(tmp_path: Path, length: int) -> None:
    path = tmp_path / ("n" * (length - 4) + ".png")
    write_whole(path, b"data")
    assert path.read_bytes() == b"data"
    with pytest.raises(InputError, match="cannot be written"):
        write_whole(tmp_path / ("n" * 252 + ".png"), b"data")


def test_links_and_pipes_of_the_old_name_are_not_followed(tmp_path: Path) -> None:
    """The partial file was `.NAME.partial`: whoever put a link there chose what was overwritten."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    (tmp_path / ".a.png.partial").symlink_to(victim)
    os.mkfifo(tmp_path / ".b.png.partial")
    (tmp_path / ".c.png.partial").mkdir()
    for name in "abc":
        write_whole(tmp_path / f"{name}.png", b"data")
    assert victim.read_bytes() == b"mine"
    assert (tmp_path / ".a.png.partial").is_symlink()


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_targets_that_are_no_files(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.png"
    path.mkdir() if kind == "folder" else os.mkfifo(path)
    with pytest.raises(InputError, match="is a folder" if kind == "folder" else "no regular file"):
        write_whole(path, b"data")
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    with short_files(1000):
        with pytest.raises(InputError, match=r"too large|No space"):
            write_whole(tmp_path / "a.png", bytes(100_000))
        with pytest.raises(InputError, match=r"too large|No space"):
            write_folder(tmp_path / "series", {"1": bytes(10), "2": bytes(100_000)})
    assert not list(tmp_path.iterdir())


def test_a_killed_run_is_cleaned_up_after_and_a_living_one_is_not(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path / "a.png"), str(tmp_path / "series")]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert len(leftovers(tmp_path)) == 2
    with whole_file(tmp_path / "mine.png") as file, partial_folder(tmp_path) as folder:
        (folder / "1").touch()
        file.write(b"data")
        sweep(tmp_path)
        assert len(leftovers(tmp_path)) == 2  # of the living
    assert [path.name for path in tmp_path.iterdir()] == ["mine.png"]


def test_what_only_looks_like_litter_stays(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_bytes(b"mine")
    (tmp_path / f"{PREFIX}0123456789abcdef").symlink_to(theirs)
    names = (f"{PREFIX}notes", f"{PREFIX}0123456789abcdeg", f"{PREFIX}0123456789abcdef.png")
    for name in names:
        (tmp_path / name).touch()
    sweep(tmp_path)
    assert len(list(tmp_path.iterdir())) == 5


def test_preparing_a_folder_leaves_nothing_and_removes_litter(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    prepare_folder(folder)
    assert not list(folder.iterdir())
    (tmp_path / f"{PREFIX}0123456789abcdef").touch()
    prepare_folder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_many_writers_of_one_name_do_not_meet(tmp_path: Path) -> None:
    path, contents = tmp_path / "a.png", [bytes([k]) * 50_000 for k in range(24)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda data: write_whole(path, data), contents))
    assert path.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [path]


def test_an_empty_folder_may_be_filled_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    write_folder(tmp_path / "empty", {"1": b"data"})
    with pytest.raises(InputError, match="cannot be written"):
        write_folder(tmp_path / "empty", {"1": b"other"})
    assert (tmp_path / "empty" / "1").read_bytes() == b"data"
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_writing_removes_litter(tmp_path: Path, kind: str) -> None:
    """Also where nobody prepared the folder before."""
    (tmp_path / f"{PREFIX}0123456789abcdef").touch()
    if kind == "file":
        write_whole(tmp_path / "a", b"data")
    else:
        write_folder(tmp_path / "a", {"1": b"data"})
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("url", ["s3://bucket/folder", "gs://bucket", "file:///tmp/folder", "s3:"])
def test_a_url_is_no_folder_of_this_machine(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="is a URL"):
        prepare_folder(Path(url))
    assert list(tmp_path.iterdir()) == []
    prepare_folder(tmp_path / "at 12:30")  # a colon alone is none
