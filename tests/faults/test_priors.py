"""Priors are data: weights that are not finite and sizes of no network are refused, never drawn from."""

from __future__ import annotations

import json
import shutil
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from ddfm.errors import InputError
from ddfm.priors.diffusion import DiffusionPrior
from ddfm.priors.loading import load_prior
from ddfm.priors.schedule import NoiseSchedule
from tests.conftest import Command, picture
from tests.priors.test_prior import small_network

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def prior(tmp_path: Path) -> Path:
    """A copy of the bundled prior, to be spoilt."""
    with as_file(files("ddfm") / "assets" / "natural") as folder:
        kept = ("*.json", "*.safetensors")
        for path in (path for pattern in kept for path in folder.glob(pattern)):
            (tmp_path / "prior").mkdir(exist_ok=True)
            shutil.copy(path, tmp_path / "prior" / path.name)
    assert load_prior(tmp_path / "prior").channels == 1
    return tmp_path / "prior"


@pytest.fixture
def unet(tmp_path: Path) -> Path:
    """A small prior of the usual layout, to be spoilt."""
    DiffusionPrior(small_network(), NoiseSchedule()).save(tmp_path / "unet")
    return tmp_path / "unet"


def spoil(path: Path, **settings: Any) -> None:
    """Change settings in a JSON file."""
    values = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(values | settings))


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(ddfm: Command, prior: Path, tmp_path: Path, number: float) -> None:
    """They made a black picture, with status 0."""
    weights = load_file(prior / WEIGHTS)
    name = sorted(weights)[len(weights) // 2]
    save_file({**weights, name: torch.full_like(weights[name], number)}, prior / WEIGHTS)
    for stem in "ab":
        Image.fromarray(picture(32, 32, 1, np.uint8, ord(stem))).save(tmp_path / f"{stem}.png")
    sources = tmp_path / "a.png", tmp_path / "b.png"
    done = ddfm(
        "fuse", *sources, "-o", tmp_path / "o.png", "--prior", prior, "--steps", 1, "--task", "infrared"
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done
    assert not (tmp_path / "o.png").exists()


@pytest.mark.parametrize(
    "settings",
    [
        {"beta_start": float("nan")},
        {"beta_start": 0.0, "beta_end": 0.0},
        {"beta_end": 2.0},
        {"beta_start": -1.0},
        {"num_train_timesteps": 0},
        {"num_train_timesteps": -5},
        {"num_train_timesteps": 10**12},
        {"trained_betas": [float("nan")] * 1000},
        {"trained_betas": []},
        {"prediction_type": "x"},
        {"beta_schedule": ["linear"]},
    ],
    ids=str,
)
def test_schedules_that_are_none(prior: Path, settings: dict[str, Any]) -> None:
    spoil(prior / "scheduler_config.json", **settings)
    with pytest.raises(InputError):
        load_prior(prior)


@pytest.mark.parametrize(
    "settings",
    [
        {"layers_per_block": 10**9},
        {"layers_per_block": -1},
        {"block_out_channels": [10**9]},
        {"block_out_channels": []},
        {"norm_num_groups": 0},
        {"in_channels": 10**9},
        {"down_block_types": 5},
        {"act_fn": {"x": 1}},
    ],
    ids=str,
)
def test_networks_that_are_none(unet: Path, settings: dict[str, Any]) -> None:
    spoil(unet / "config.json", **settings)
    with pytest.raises(InputError):
        load_prior(unet)


@pytest.mark.parametrize("value", [-2, 0, 10**9, "x", None, 1.5])
def test_foldings_that_are_none(prior: Path, value: Any) -> None:
    spoil(prior / "prior.json", pixel_unshuffle=value)
    with pytest.raises(InputError):
        load_prior(prior)


@pytest.mark.parametrize("name", ["config.json", "scheduler_config.json", "prior.json", WEIGHTS])
@pytest.mark.parametrize("data", [b"", b"{", b"[" * 5000, b"\xff\xfe", b"null", b"5"])
def test_files_that_are_no_part_of_a_prior(prior: Path, name: str, data: bytes) -> None:
    (prior / name).write_bytes(data)
    with pytest.raises(InputError):
        load_prior(prior)
