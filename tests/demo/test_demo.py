from __future__ import annotations

import socket
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import Command


@pytest.mark.slow
def test_the_demo_fuses_its_scenes_without_a_network(
    ddfm: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("the demo must not use the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    done = ddfm("demo", "-o", tmp_path / "demo")
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "demo" / "overview.png") in done.stdout
    assert {path.name for path in (tmp_path / "demo").iterdir()} == {
        *("night-thermal.png", "night-visible.png", "night-fused.png"),
        *("focus-near-focus.png", "focus-far-focus.png", "focus-fused.png"),
        *("exposure-under-exposed.png", "exposure-over-exposed.png", "exposure-fused.png"),
        *("thermogram.jpg", "thermogram-fused.png", "thermogram-temperatures.tif", "thermogram.csv"),
        "overview.png",
    }
    with Image.open(tmp_path / "demo" / "night-fused.png") as fused:
        assert (fused.size, fused.mode) == ((640, 480), "RGB")


def test_a_place_that_cannot_be_written_is_said_before_the_work(ddfm: Command, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = ddfm("demo", "-o", tmp_path / "file" / "demo")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "cannot be written to" in done.stderr
