"""What the tests share: where the data lies, small pictures, the command."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if "PYTEST_XDIST_WORKER" in os.environ:  # as many processes as cores: one thread each, theirs included
    os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pytest
import torch
from hypothesis import settings
from numpy.typing import NDArray

from ddfm.cli import main
from ddfm.formats import limits
from ddfm.priors.guided_diffusion import convert_guided_diffusion, read_config
from tests.browser import OpenPage, chromium, watched_pages
from tests.priors.checkpoints import TINY, random_checkpoint

# How many examples hypothesis tries at most: few in `make test`, more in `make test-all`.
settings.register_profile("quick", max_examples=8, deadline=None)
settings.register_profile("slow", max_examples=100, deadline=None)
settings.load_profile("quick")

ROOT = Path(__file__).parents[1]
Command = Callable[..., "Finished"]


def examples(most: int) -> settings:
    """Decorate a test of hypothesis that gets so many examples, or as few as the profile allows."""
    return settings(max_examples=min(most, settings().max_examples))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with golden arrays and development data; its tests skip where it is absent."""
    folder = Path(os.environ.get("DDFM_SHARED", ROOT.parent / "shared"))
    if not (folder / "golden").is_dir():
        pytest.skip(f"{folder} is absent: golden arrays and development data are not part of the repository")
    return folder


@pytest.fixture(scope="session")
def golden(shared: Path) -> Path:
    return shared / "golden"


@pytest.fixture(scope="session")
def data(shared: Path) -> Path:
    return shared / "data"


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A guided-diffusion checkpoint with random weights; its configuration lies beside it, as .json."""
    path = tmp_path_factory.mktemp("checkpoints") / "tiny.pt"
    torch.save(random_checkpoint(TINY), path)
    path.with_suffix(".json").write_text(json.dumps(TINY))
    return path


@pytest.fixture(scope="session")
def tiny_prior(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That network as a prior folder: RGB, learned variance, multiples of 4."""
    folder = tmp_path_factory.mktemp("priors") / "tiny"
    convert_guided_diffusion(tiny_checkpoint, folder, TINY)
    return folder


@pytest.fixture(scope="session")
def golden_prior(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network that made the golden arrays, as a prior folder."""
    folder = tmp_path_factory.mktemp("priors") / "golden"
    config = read_config(golden / "guided_diffusion_tiny.json")
    convert_guided_diffusion(golden / "guided_diffusion_tiny.pt", folder, config)
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture
def opened(browser: Any) -> Iterator[OpenPage]:
    """Open pages; any request elsewhere, and any complaint, fails the test."""
    with watched_pages(browser) as open_page:
        yield open_page


@pytest.fixture
def kept_threads() -> Iterator[None]:
    """Whatever number of threads a test sets, as many afterwards as before."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@dataclass(frozen=True)
class Finished:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def ddfm(monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run the command in this process, as its entry point does (a new one would import torch every time)."""

    def run(*arguments: str | int | Path) -> Finished:
        monkeypatch.setattr(sys, "argv", ["ddfm", *map(str, arguments)])
        monkeypatch.setattr(limits, "_max_pixels", limits._max_pixels)  # `--max-pixels` ends with the test
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as exit_:
            main()
        code = exit_.value.code
        assert isinstance(code, int | None)
        return Finished(code or 0, out.getvalue(), err.getvalue())

    return run


def check_refusals(ddfm: Command, mistakes: Mapping[tuple[object, ...], str], folder: Path) -> None:
    """Each mistake gets one plain line with its message, exit status 2, and leaves nothing in ``folder``."""
    before = sorted(folder.rglob("*"))
    for arguments, message in mistakes.items():
        done = ddfm(*arguments)
        assert done.returncode == 2, (arguments, done)
        assert message in done.stderr
        assert done.stderr.startswith("ddfm: ")
        assert done.stderr.count("\n") == 1, done.stderr
    assert sorted(folder.rglob("*")) == before


class Poison:
    """Pickled, it makes whoever unpickles it carelessly create a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("poisoned"),))


def seen(folder: Path) -> list[Path]:
    """What a user sees of a folder: all but the record of its run, sorted."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".ddfm-manifest"))


def picture(height: int, width: int, channels: int, dtype: type, seed: int = 0) -> NDArray[Any]:
    """A smooth random picture over the whole range of ``dtype``: (H, W) or (H, W, channels)."""
    rng = np.random.default_rng(seed)
    rows, columns = np.linspace(0, 3, height)[:, None, None], np.linspace(0, 3, width)[None, :, None]
    phase = rng.uniform(0, 6, (3, channels))
    waves = np.sin(rows * 2 + phase[0]) + np.sin(columns * 3 + phase[1]) + np.sin(rows * columns + phase[2])
    top = np.iinfo(dtype).max
    samples = (waves - waves.min()) / (waves.max() - waves.min()) * top
    return np.rint(samples[..., 0] if channels == 1 else samples).astype(dtype)
