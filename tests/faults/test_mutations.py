"""A thousand damaged files: each is read, or refused in one line, and nothing beside it changes."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import numpy as np

from tests.faults.mutations import kinds, mutated, outcome

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
        message = outcome(kind, path)
        refused += message is not None
        assert "\n" not in (message or ""), f"seed {seed}, {kind.name}: {message}"
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
