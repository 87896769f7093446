"""The napari plugin: its manifest, and what its widget does, without Qt."""

from __future__ import annotations

import sys
import tomllib
from dataclasses import dataclass
from importlib import import_module
from threading import enumerate as threads
from typing import Any

import numpy as np
import pytest
import yaml

from ddfm.errors import InputError
from ddfm.fusion.options import Options
from ddfm.fusion.pipeline import fuse
from ddfm.napari_plugin.layers import Fusing, Progress, fused_layers
from ddfm.napari_plugin.widget import fuse_layers_widget
from tests.conftest import ROOT, picture

MANIFEST = ROOT / "src" / "ddfm" / "napari_plugin" / "napari.yaml"


@dataclass
class FakeLayer:
    """A layer without napari."""

    data: Any
    rgb: bool = False
    name: str = "layer"


THERMAL, VISIBLE = (picture(40, 56, channels, np.uint8, channels) for channels in (1, 3))


def run(fusing: Fusing) -> tuple[list[Progress], Any]:
    """All steps, and what comes out."""
    steps = []
    while True:
        try:
            steps.append(next(fusing))
        except StopIteration as end:
            return steps, end.value


def test_the_manifest_leads_to_the_widget() -> None:
    # npe2's own check cannot run here: it is a plugin of pytest whose import warns, which ends pytest.
    manifest = yaml.safe_load(MANIFEST.read_text())
    commands = {command["id"]: command["python_name"] for command in manifest["contributions"]["commands"]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    entry = project["entry-points"]["napari.manifest"]
    assert entry == {manifest["name"]: "ddfm.napari_plugin:napari.yaml"}
    assert manifest["name"] == project["name"]
    for widget in manifest["contributions"]["widgets"]:
        assert widget["command"].startswith("ddfm.")
        module, _, function = commands[widget["command"]].partition(":")
        assert callable(getattr(import_module(module), function))


def test_without_napari_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "magicgui", None)
    with pytest.raises(InputError, match=r"pip install 'ddfm\[napari\]'"):
        fuse_layers_widget(None)


def test_two_layers_make_one(tiny_prior: Any) -> None:
    options = Options(task="infrared", steps=3)
    steps, fused = run(fused_layers([FakeLayer(THERMAL), FakeLayer(VISIBLE, True)], options, str(tiny_prior)))
    assert steps == [Progress(1, 3), Progress(2, 3), Progress(3, 3)]
    expected = fuse(THERMAL, VISIBLE, task="infrared", steps=3, prior=str(tiny_prior)).to_array()
    assert np.array_equal(fused, expected)


def test_stacks_are_fused_plane_by_plane() -> None:
    stacks = [np.stack([picture(32, 40, 1, np.uint16, k + n) for n in range(3)]) for k in (0, 10)]
    options = Options(task="medical", steps=0)
    steps, fused = run(fused_layers([FakeLayer(stack) for stack in stacks], options))
    assert fused.shape == (3, 32, 40)
    assert fused.dtype == np.uint16
    assert steps[-1] == Progress(3, 3)


def test_closing_ends_the_fusion(tiny_prior: Any) -> None:
    options = Options(task="infrared", steps=1000, form="paper")
    fusing = fused_layers([FakeLayer(THERMAL), FakeLayer(VISIBLE, True)], options, str(tiny_prior))
    assert next(fusing).done == 1
    fusing.close()
    assert not [thread for thread in threads() if thread.name == "ddfm"]


def test_what_does_not_go_together_is_said() -> None:
    options = Options(steps=0)
    mistakes: dict[str, list[FakeLayer]] = {
        "two layers or more": [FakeLayer(THERMAL)],
        "as many planes": [FakeLayer(THERMAL), FakeLayer(np.stack([THERMAL] * 2))],
        "a stack of planes, is needed": [FakeLayer(THERMAL), FakeLayer(np.zeros((2, 2, 2, 40, 56)))],
        "of one size": [FakeLayer(THERMAL), FakeLayer(THERMAL[:30])],
        "samples are int64": [FakeLayer(THERMAL), FakeLayer(THERMAL.astype(np.int64))],
    }
    for words, layers in mistakes.items():
        with pytest.raises(InputError, match=words):
            run(fused_layers(layers, options))
