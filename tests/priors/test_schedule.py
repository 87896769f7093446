"""Noise schedules, against diffusers' with the same configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler

from ddfm.errors import InputError
from ddfm.priors.loading import load_prior
from ddfm.priors.schedule import BETAS, NoiseSchedule

NATURAL = Path(__file__).parents[2] / "src" / "ddfm" / "assets" / "natural"


@pytest.mark.parametrize("name", BETAS)
@pytest.mark.parametrize("settings", [{}, {"num_train_timesteps": 37, "beta_start": 0.001, "beta_end": 0.3}])
def test_schedules_are_those_of_diffusers(name: str, settings: dict[str, Any]) -> None:
    ours, theirs = (
        NoiseSchedule(beta_schedule=name, **settings),
        DDPMScheduler(beta_schedule=name, **settings),
    )
    assert torch.equal(ours.betas, theirs.betas)
    assert (ours.alphas_cumprod - torch.cumprod(1 - theirs.betas.double(), 0)).abs().max() < 1e-15
    assert ours.prediction_type == theirs.config.prediction_type
    assert ours.alphas_cumprod.dtype == torch.float64


def test_betas_may_be_given() -> None:
    betas = [0.1, 0.25, 0.5]
    ours, theirs = NoiseSchedule(trained_betas=tuple(betas)), DDPMScheduler(trained_betas=betas)
    assert torch.equal(ours.betas, theirs.betas)
    assert ours.alphas_cumprod.shape == (3,)


@pytest.mark.parametrize("name", [*BETAS, "given"])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_what_is_saved_is_read_by_both(name: str, prediction_type: str, tmp_path: Path) -> None:
    kind: dict[str, Any] = {"trained_betas": (0.1, 0.2)} if name == "given" else {"beta_schedule": name}
    saved = NoiseSchedule(prediction_type=prediction_type, **kind)
    saved.save(tmp_path)
    ours, theirs = (
        NoiseSchedule.read(tmp_path / "scheduler_config.json"),
        DDPMScheduler.from_pretrained(tmp_path),
    )
    assert ours == saved
    assert torch.equal(ours.betas, theirs.betas)
    assert (theirs.config.prediction_type, theirs.config.clip_sample) == (prediction_type, False)


def test_what_diffusers_saves_is_read_and_saved_again(tmp_path: Path) -> None:
    DDPMScheduler(beta_schedule="sigmoid", variance_type="fixed_large", thresholding=True).save_pretrained(
        tmp_path
    )
    ours = NoiseSchedule.read(tmp_path / "scheduler_config.json")
    assert ours == NoiseSchedule(beta_schedule="sigmoid")
    ours.save(tmp_path / "again")
    again = DDPMScheduler.from_pretrained(tmp_path / "again").config
    assert (again.variance_type, again.thresholding, again.clip_sample) == ("fixed_large", True, True)


def test_the_bundled_schedule() -> None:
    assert load_prior().schedule == NoiseSchedule(prediction_type="v_prediction")
    assert torch.equal(load_prior().schedule.betas, DDPMScheduler.from_pretrained(NATURAL).betas)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_train_timesteps": 0}, "num_train_timesteps: 0; 1 to 100000 is needed"),
        ({"num_train_timesteps": 10**9}, "num_train_timesteps: 1000000000"),
        ({"num_train_timesteps": 10.5}, "num_train_timesteps: 10.5"),
        ({"num_train_timesteps": None}, "num_train_timesteps: None"),
        ({"beta_schedule": "circle"}, "beta_schedule: 'circle'; one of linear"),
        ({"beta_schedule": ["linear"]}, r"beta_schedule: \['linear'\]"),
        ({"beta_start": "0.1"}, "beta_start: '0.1'; a number from 0 to 1"),
        ({"beta_end": float("nan")}, "beta_end: nan"),
        ({"beta_end": 1.0}, "beta_schedule: gives betas that are not strictly between 0 and 1"),
        ({"beta_start": 0}, "beta_schedule: gives betas"),
        ({"beta_schedule": "scaled_linear", "beta_start": -0.1}, "beta_start: -0.1; a number from 0"),
        ({"beta_end": 10**400}, "beta_end: 1000"),
        ({"trained_betas": [0.1, 1.0]}, "trained_betas: gives betas"),
        ({"trained_betas": [0.1, None]}, r"trained_betas: \[0.1, None\]"),
        ({"trained_betas": []}, r"trained_betas: \(\)"),
        ({"trained_betas": 0.1}, "trained_betas: 0.1"),
        ({"trained_betas": [1e-9] * 200_000}, "trained_betas"),
        ({"prediction_type": "flow"}, "prediction_type: 'flow'; epsilon or v_prediction or sample"),
        ({"prediction_type": None}, "prediction_type: None"),
        ({"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr: true"),
    ],
)
def test_schedules_that_no_prior_has(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "scheduler_config.json"
    path.write_text(json.dumps(json.loads((NATURAL / path.name).read_text()) | changes))
    with pytest.raises(InputError, match=message) as caught:
        NoiseSchedule.read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < len(str(path)) + 200


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "[" * 100_000, "\udcff"])
def test_files_that_are_no_configuration(text: str, tmp_path: Path) -> None:
    path = tmp_path / "scheduler_config.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=r"scheduler_config\.json: not a"):
        NoiseSchedule.read(path)
