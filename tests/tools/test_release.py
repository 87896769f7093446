"""A release is refused for what is wrong with it, and its archives have the same bytes each time."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tools.licences import Package, chosen, installed
from tools.release import (
    RESTRICTED,
    ReleaseError,
    build,
    check_archives,
    check_clean,
    check_extras,
    run,
    sha256,
    version_of,
    with_one_time,
)

BOUGHT = "GPL-3.0-only"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Files that agree on their version."""
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2.3"\n')
    (tmp_path / "CITATION.cff").write_text("version: 1.2.3\ndate-released: 2026-01-31\n")
    (tmp_path / "CHANGELOG.md").write_text(
        "# Changelog\n\n## Unreleased\n\n## 1.2.3 - 2026-01-31\n\n- a thing\n"
    )
    return tmp_path


def test_versions_that_agree(checkout: Path) -> None:
    assert version_of(checkout) == "1.2.3"


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("pyproject.toml", "1.2.3", "1.2.4", "versions differ: pyproject.toml 1.2.4, CITATION.cff 1.2.3"),
        ("CITATION.cff", "version: 1.2.3\n", "", "CITATION.cff None"),
        ("CITATION.cff", "01-31", "02-01", "date-released is not 2026-01-31"),
        ("CHANGELOG.md", "## 1.2.3 - 2026-01-31", "## 1.2.3", "has no version with a date"),
        (
            "CHANGELOG.md",
            "Unreleased\n",
            "Unreleased\n\n- more\n",
            "entries under Unreleased; move them to 1.2.3",
        ),
        ("CHANGELOG.md", "Unreleased\n", "Unreleased\n\n### Added\n- more\n", "entries under Unreleased"),
    ],
)
def test_versions_that_differ(checkout: Path, file: str, old: str, new: str, message: str) -> None:
    path = checkout / file
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ReleaseError, match=message):
        version_of(checkout)


def test_the_project_names_one_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert "## Unreleased" in changelog
    text = (ROOT / "CITATION.cff").read_text()
    version = next(line for line in text.splitlines() if line.startswith("version: ")).split()[1]
    assert f"\n## {version} - " in changelog
    assert f'\nversion = "{version}"\n' in (ROOT / "pyproject.toml").read_text()


def test_what_is_not_committed_is_named(tmp_path: Path) -> None:
    run("git", "init", "--quiet", cwd=tmp_path)
    check_clean(tmp_path)
    (tmp_path / "forgotten.py").touch()
    with pytest.raises(ReleaseError, match=r"forgotten\.py"):
        check_clean(tmp_path)


def test_restricted_extras_are_in_no_other(tmp_path: Path) -> None:
    assert set(RESTRICTED) < set(check_extras(ROOT))
    text = (ROOT / "pyproject.toml").read_text()
    (tmp_path / "pyproject.toml").write_text(text.replace('all = ["ddfm[', 'all = ["ddfm[heic,'))
    with pytest.raises(ReleaseError, match="extra all holds heic: pillow-heif brings libx265"):
        check_extras(tmp_path)
    install = (ROOT / "docs" / "install.md").read_text()
    assert all(f"| `{name}` |" in install for name in RESTRICTED)


def test_archives_of_other_times_and_owners_become_the_same(tmp_path: Path) -> None:
    archives = []
    for n, names in enumerate((("a", "b"), ("b", "a"))):
        archive = tmp_path / f"{n}.tar.gz"
        with tarfile.open(archive, "w:gz") as files:
            for name in names:
                (tmp_path / name).write_text(name)
                entry = files.gettarinfo(tmp_path / name, name)
                entry.mtime, entry.uid, entry.uname = n, n, str(n)
                with (tmp_path / name).open("rb") as data:
                    files.addfile(entry, data)
        with_one_time(archive, 1_700_000_000)
        archives.append(archive)
    assert sha256(archives[0]) == sha256(archives[1])
    with tarfile.open(archives[0]) as files:
        assert [(each.name, each.mtime) for each in files] == [("a", 1_700_000_000), ("b", 1_700_000_000)]


@pytest.mark.parametrize(
    ("licence", "inside", "verdict"),
    [
        ("MIT", {}, "permissive"),
        ("MIT AND BSD-3-Clause", {}, "permissive"),
        (f"{BOUGHT} OR MIT", {}, "permissive"),
        (f"{BOUGHT} AND MIT", {}, "restricted"),
        ("Apache-2.0 WITH LLVM-exception", {}, "permissive"),
        ("MPL-2.0 AND MIT", {}, "weak copyleft"),
        ("Free for non-commercial use", {}, "restricted"),
        ("unknown", {}, "restricted"),
        ("MIT", {"libx265": "GPL-2.0-or-later"}, "restricted"),
        ("MIT", {"libraw_r": "LGPL-2.1-or-later"}, "weak copyleft"),
    ],
)
def test_verdicts(licence: str, inside: dict[str, str], verdict: str) -> None:
    assert Package("a", "1", licence, inside).verdict == verdict


def test_licences_are_read_from_metadata_and_wheels() -> None:
    packages = {each.name: each for each in installed()}
    assert packages["numpy"].verdict == "permissive"
    assert packages["hypothesis"].verdict == "weak copyleft"
    assert packages["bm3d"].verdict == "restricted"
    assert packages["pillow_heif"].inside["libx265"] == "GPL-2.0-or-later"
    assert chosen("Apache-2.0 OR BSD-3-Clause") <= {"Apache-2.0", "BSD-3-Clause"}


@pytest.mark.slow
def test_two_builds_of_a_commit_have_the_same_bytes(tmp_path: Path) -> None:
    archives = build(ROOT, tmp_path)
    check_archives(archives)
    wheel = next(path for path in archives if path.suffix == ".whl")
    with zipfile.ZipFile(wheel) as files:
        names = files.namelist()
    assert "ddfm/py.typed" in names
    assert [name for name in names if name.endswith("licenses/NOTICE")]
    assert not [name for name in names if name.startswith(("tests/", "tools/", "benchmarks/"))]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in archives)
