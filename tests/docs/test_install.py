"""The page on installing names every extra, and none that does not exist."""

from __future__ import annotations

import re
import tomllib

from tests.conftest import ROOT


def test_extras_are_those_of_the_package() -> None:
    page = (ROOT / "docs" / "install.md").read_text()
    listed = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert sorted(listed) == sorted(extras)
