from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_examples_run(example: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, example], cwd=tmp_path, check=True, capture_output=True)
    fused = tifffile.imread(tmp_path / "fused.tif")
    assert (fused.shape, fused.dtype) == ((96, 128, 3), np.float32)
