"""What the tests of thermal cameras' files share."""

from __future__ import annotations

import pytest

from ddfm.demo.thermogram import street_file


@pytest.fixture(scope="session")
def street() -> bytes:
    """The drawn street as a camera's file."""
    return street_file()
