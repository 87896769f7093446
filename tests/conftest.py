"""What the tests share: where the development data lies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of development data; its tests skip where it is absent."""
    folder = Path(os.environ.get("DDFM_SHARED", ROOT.parent / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent: development data are not part of the repository")
    return folder
