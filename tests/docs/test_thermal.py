"""The code of docs/use/thermal.md runs, and names options that exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddfm.demo.thermogram import flir_file
from ddfm.pictures.palettes import PALETTES
from tests.conftest import ROOT, Command
from tests.formats.test_radiometric import photograph, warmth

PAGE = (ROOT / "docs" / "use" / "thermal.md").read_text()


def test_the_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FLIR0123.jpg").write_bytes(flir_file(warmth(30, 40), photograph(100, 75), offset=(0, 0)))
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {}
    exec(block, names)
    assert names["picture"].depth == np.uint8
    assert names["thermogram"].conditions.emissivity == 0.9


def test_options_and_palettes_are_those_of_the_command(ddfm: Command) -> None:
    shown = ddfm("fuse", "--help").stdout
    for option in set(re.findall(r"`(--[a-z]+)", PAGE)):
        assert option in shown, option
    (listed,) = re.findall(r"`--palette ([a-z|]+)`", PAGE)
    assert set(listed.split("|")) == set(PALETTES)
