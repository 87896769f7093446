"""The gallery is what its script makes, and its commands run."""

from __future__ import annotations

import importlib.util
import shlex
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import ROOT, Command

PICTURES = ROOT / "docs" / "images" / "gallery"
MOST_BYTES = 1_500_000


@pytest.fixture(scope="module")
def gallery() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("gallery", ROOT / "docs" / "gallery.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_the_page_is_the_scripts(gallery: ModuleType) -> None:
    assert (ROOT / "docs" / "gallery.md").read_text() == gallery.page()


def test_pictures_are_those_of_the_page(gallery: ModuleType) -> None:
    names = [entry.name for entry in gallery.ENTRIES]
    assert len(names) == len(set(names)) == 30
    assert sorted(path.stem for path in PICTURES.iterdir()) == sorted(names)
    assert sum(path.stat().st_size for path in PICTURES.iterdir()) < MOST_BYTES


@pytest.mark.slow
def test_commands_run(
    gallery: ModuleType, tmp_path: Path, ddfm: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    gallery.write_sources(tmp_path)
    for entry in gallery.ENTRIES:
        done = ddfm(*shlex.split(entry.command)[1:])
        assert done.returncode == 0, f"{entry.command}\n{done.stderr}"
        assert all((tmp_path / name).is_file() for name in entry.shown), entry.command
