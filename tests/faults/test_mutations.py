"""A thousand damaged files: each is read, or refused in one line, and nothing beside it changes."""

from __future__ import annotations

import hashlib
import logging
import warnings
from pathlib import Path

import numpy as np
import pytest

from ddfm.errors import InputError
from tests.faults.mutations import kinds, mutated

CASES = 1000


def test_damaged_files_are_read_or_refused(tmp_path: Path) -> None:
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    known = kinds(tmp_path / "making")
    folder = tmp_path / "work"
    folder.mkdir()
    witness = folder / "witness"
    witness.write_bytes(b"untouched")
    refused = 0
    for seed in range(CASES):
        kind = known[seed % len(known)]
        path = folder / kind.name
        data = mutated(kind.whole, np.random.default_rng(seed))
        path.write_bytes(data)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                kind.read(path)
        except InputError as error:
            refused += 1
            assert "\n" not in str(error), seed
        except Exception as error:
            pytest.fail(f"seed {seed}, {kind.name}: {type(error).__name__}: {error}")
        assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(data).digest()
        assert {entry.name for entry in folder.iterdir()} == {"witness", kind.name}
        path.unlink()
    assert witness.read_bytes() == b"untouched"
    assert CASES / 4 < refused < CASES  # they do reach the readers, and do some harm


def test_whole_files_are_read(tmp_path: Path) -> None:
    for kind in kinds(tmp_path / "making"):
        path = tmp_path / kind.name
        path.write_bytes(kind.whole)
        assert kind.read(path) is not None
