"""Names of one file are one, whatever their spelling, and nothing is written over what is read."""

from __future__ import annotations

import os
import sys
from pathlib import Path, PureWindowsPath
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddfm.errors import InputError
from ddfm.formats.paths import check_name, check_paths, files_below, identity, numbered, same_name


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    path.write_bytes(b"source")
    return path


def windows(path: str) -> Path:
    """A path as Windows takes it apart, whatever this system is."""
    return cast(Path, PureWindowsPath(path))


def test_spellings_of_a_source(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.png").symlink_to(source)
    (tmp_path / "again").symlink_to(tmp_path)
    (tmp_path / "hard.png").hardlink_to(source)
    monkeypatch.chdir(tmp_path)
    for spelling in ("a.png", "./a.png", "folder/../a.png", "link.png", "again/a.png", "hard.png"):
        with pytest.raises(InputError, match="is one of the sources"):
            check_paths([source], [Path(spelling)])
    check_paths([source], [Path("b.png"), Path("folder/a.png")])


def test_two_results_in_one_place(tmp_path: Path) -> None:
    (tmp_path / "again").symlink_to(tmp_path)
    with pytest.raises(InputError, match="two results would be written there"):
        check_paths([], [tmp_path / "new.png", tmp_path / "again" / "new.png"])
    (tmp_path / "to.png").symlink_to(tmp_path / "new.png")  # a link that leads nowhere yet
    with pytest.raises(InputError, match="two results"):
        check_paths([], [tmp_path / "new.png", tmp_path / "to.png"])
    check_paths([], [tmp_path / "new.png", tmp_path / "newer.png"])


def test_folders_that_are_not_there_yet(tmp_path: Path) -> None:
    assert identity(tmp_path / "x" / "y" / "a.png") == identity(tmp_path / "x" / "z" / ".." / "y" / "a.png")
    assert identity(tmp_path / "x" / "a.png") != identity(tmp_path / "y" / "a.png")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere case is folded")
def test_here_case_tells_names_apart(tmp_path: Path) -> None:
    check_paths([], [tmp_path / "a.png", tmp_path / "A.png"])


@pytest.mark.parametrize(
    ("one", "other", "fold", "system"),
    [
        ("A.PNG", "a.png", True, "darwin"),
        ("STRASSE", "stra\u00dfe", True, "win32"),
        ("caf\u00e9", "cafe\u0301", False, "darwin"),
        ("CAF\u00c9", "cafe\u0301", True, "darwin"),
        ("a.png", "a.png.", True, "win32"),
        ("a.png", "a.png ", True, "win32"),
    ],
)
def test_names_that_other_systems_take_for_one(one: str, other: str, fold: bool, system: str) -> None:
    assert same_name(one, fold, system) == same_name(other, fold, system)
    assert same_name(one, False, "linux") != same_name(other, False, "linux")


@given(st.text(min_size=1, max_size=20))
def test_a_common_spelling_is_its_own(name: str) -> None:
    for fold, system in ((True, "win32"), (True, "darwin"), (False, "darwin"), (False, "linux")):
        once = same_name(name, fold, system)
        assert same_name(once, fold, system) == once


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nul", "device"),
        ("NUL.png", "device"),
        ("com1.tif", "device"),
        ("COM\u00b9", "device"),
        ("aux .png", "device"),
        ("a.png.", "dot or space"),
        ("a.png ", "dot or space"),
        ("a.png:b", "character"),
        ("a|b.png", "character"),
        ("a\tb.png", "character"),
        ("n" * 252 + ".png", "more than 255"),
    ],
)
def test_names_that_windows_does_not_have(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_name(windows(f"results\\{name}"), "win32")
    check_name(windows("C:\\results\\console.png"), "win32")


def test_names_and_paths_that_are_too_long(tmp_path: Path) -> None:
    check_name(tmp_path / ("n" * 255), "linux")
    with pytest.raises(InputError, match="more than 255 bytes"):
        check_name(tmp_path / ("n" * 256), "linux")
    with pytest.raises(InputError, match="more than 255 bytes"):
        check_name(tmp_path / ("\u00fc" * 128), "linux")
    with pytest.raises(InputError, match="more than 4096 bytes"):
        check_paths([], [tmp_path.joinpath(*["n" * 200] * 21)])
    with pytest.raises(InputError, match="zero byte"):
        check_paths([], [tmp_path / "a\0b"])


def test_names_that_are_not_text(tmp_path: Path) -> None:
    path = Path(os.fsdecode(bytes(tmp_path) + b"/\xff.png"))
    path.write_bytes(b"source")
    with pytest.raises(InputError, match=r"\\udcff\.png: is one of the sources"):
        check_paths([path], [path])


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may enter everywhere")
def test_a_folder_that_may_not_be_entered(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    with pytest.raises(InputError, match="Permission denied"):
        check_paths([], [tmp_path / "closed" / "a.png"])


def test_numbered_and_listed(tmp_path: Path, source: Path) -> None:
    assert [path.name for path in numbered(tmp_path / "r.png", 3)] == ["r-1.png", "r-2.png", "r-3.png"]
    assert files_below([tmp_path]) == [tmp_path, source]
    with pytest.raises(InputError, match="is not a folder"):
        files_below([source])
