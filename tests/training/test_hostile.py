"""Recipes, checkpoints and configurations are data: what cannot be trained or loaded is refused."""

from __future__ import annotations

import io
import zipfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ddfm.errors import InputError
from ddfm.formats.tensors import load_tensors
from ddfm.priors.guided_diffusion import network_config, read_config
from ddfm.priors.loading import load_prior
from ddfm.priors.saving import save_whole
from ddfm.training.crops import find_images
from ddfm.training.recipe import PriorRecipe, read_recipe
from ddfm.training.run import build_prior, load_checkpoint, train
from tests.conftest import picture
from tests.formats.test_atomic import short_files
from tests.training.test_run import SMALL

RECIPES = [
    "steps = 0",
    "steps = -5",
    "steps = 1.5",
    "steps = true",
    "steps = 99999999999999999999",
    "learning_rate = nan",
    "learning_rate = inf",
    "learning_rate = -1",
    'learning_rate = "fast"',
    "ema_decay = 2",
    "ema_decay = nan",
    'prediction_type = "x"',
    'prediction_type = ["epsilon"]',
    'beta_schedule = "x"',
    "channels = []",
    "channels = [0]",
    "channels = [8, 1000000]",
    "channels = 8",
    'channels = ["a"]',
    "norm_groups = -1",
    "norm_groups = 7",
    "pixel_unshuffle = 0",
    "pixel_unshuffle = -2",
    "layers_per_block = 1000000000",
    "crop = 100000",
    "crop = 33",
    "batch = 0",
    "batch = 65536",
    "seed = -1",
    "warmup_steps = -1",
    "clip_norm = 0",
    "low_noise = 1.5",
    "low_noise_range = [0, 10]",
    "low_noise_range = [10, 3]",
    "low_noise_range = [1, 2, 3]",
    "bf16 = 1",
    "[steps]\nx = 1",
    "steps = 1979-05-27",
    "steps = [" + "[" * 5000,
    "steps = 1" + "0" * 5000,
]


@pytest.mark.parametrize("text", RECIPES, ids=lambda text: text[:30])
def test_recipes_that_train_nothing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"recipe\.toml: ") as caught:
        read_recipe(path)
    assert len(str(caught.value)) < 400


def test_recipes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    for data, message in ((b"\xff\xfe", "UTF-8"), (b"", "empty"), (b"#" * 100_000, "at most")):
        path.write_bytes(data)
        with pytest.raises(InputError, match=message):
            read_recipe(path)
    with pytest.raises(InputError, match="steps = 0"):
        PriorRecipe(steps=0)


def state_of(recipe: PriorRecipe) -> dict[str, Any]:
    """What a checkpoint of a run that has not begun would hold."""
    prior = build_prior(recipe)
    optimizer = torch.optim.AdamW(prior.network.parameters())
    weights = prior.network.state_dict()
    return {
        "recipe": asdict(recipe),
        "step": 1,
        "history": [{"step": 1, "loss": 0.5}],
        "network": weights,
        "average": weights,
        "optimizer": optimizer.state_dict(),
    }


def test_checkpoints_that_lack_something(tmp_path: Path) -> None:
    path, whole = tmp_path / "checkpoint.pt", state_of(SMALL)
    torch.save(whole, path)
    assert load_checkpoint(path, SMALL, "cpu")["step"] == 1
    name = next(iter(whole["network"]))
    spoilt: list[Any] = [{k: v for k, v in whole.items() if k != key} for key in whole]
    spoilt += [{**whole, key: None} for key in whole]
    spoilt += [{**whole, "step": -1}, {**whole, "step": 10**9}, {**whole, "history": [{}]}, [], None, 5]
    spoilt += [{**whole, "history": [{"step": 1, "loss": 1.0, "held_out": [1.0]}]}]
    spoilt += [{**whole, "average": {**whole["average"], name: whole["average"][name] * float("nan")}}]
    for state in spoilt:
        torch.save(state, path)
        with pytest.raises(InputError, match="not a checkpoint that can be resumed"):
            load_checkpoint(path, SMALL, "cpu")
    cooling = replace(SMALL, cooldown_steps=2)
    for steps in ("6", None, 2.5, -1):
        torch.save({**whole, "recipe": asdict(cooling) | {"steps": steps}}, path)
        with pytest.raises(InputError, match="was made with another recipe"):
            load_checkpoint(path, cooling, "cpu")


@pytest.mark.parametrize("spoil", ["names", "shapes", "optimizer"])
def test_checkpoints_of_another_network(tmp_path: Path, spoil: str) -> None:
    Image.fromarray(picture(40, 48, 1, np.uint8)).save(tmp_path / "a.png")
    state = state_of(SMALL)
    if spoil == "names":
        state["network"] = {f"x.{name}": tensor for name, tensor in state["network"].items()}
    elif spoil == "shapes":
        state["average"] = {name: tensor[..., :0] for name, tensor in state["average"].items()}
    else:
        state["optimizer"] = {"state": {}, "param_groups": []}
    run = tmp_path / "run"
    run.mkdir()
    torch.save(state, run / "checkpoint.pt")
    with pytest.raises(InputError, match="not a checkpoint that can be resumed"):
        train(find_images([tmp_path / "a.png"]), run, SMALL, resume=True)


def test_files_of_tensors_that_unpack_to_too_much(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save({"x": torch.zeros(1).expand(10**6, 10**6)}, path)
    with pytest.raises(InputError, match="more numbers than"):
        load_tensors(path)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", bytes(50_000_000))
    path.write_bytes(packed.getvalue())
    with pytest.raises(InputError, match="unpacks to"):
        load_tensors(path)
    for data in (b"", b"PK\x03\x04", b"\x80\x02", b"damaged"):
        path.write_bytes(data)
        with pytest.raises(InputError, match=r"a\.pt: "):
            load_tensors(path)


def test_a_full_disk_while_training(tmp_path: Path) -> None:
    Image.fromarray(picture(40, 48, 1, np.uint8)).save(tmp_path / "a.png")
    before = sorted(tmp_path.iterdir())
    with short_files(2000), pytest.raises(InputError, match="cannot be written"):
        train(find_images([tmp_path / "a.png"]), tmp_path / "run", replace(SMALL, steps=1))
    assert not list((tmp_path / "run").iterdir())
    assert sorted(tmp_path.iterdir()) == [*before, tmp_path / "run"]


def test_a_prior_is_left_whole(tmp_path: Path) -> None:
    prior, folder = build_prior(SMALL), tmp_path / "prior"
    with short_files(2000), pytest.raises(InputError, match="cannot be written"):
        save_whole(prior, folder)
    assert not list(tmp_path.iterdir())
    save_whole(prior, folder)
    kept = {path.name: path.read_bytes() for path in folder.iterdir()}
    with short_files(2000), pytest.raises(InputError, match="cannot be written"):
        save_whole(prior, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == kept
    save_whole(prior, folder)
    assert load_prior(folder).channels == 1


CONFIGURATIONS = [
    '{"num_channels": 7}',
    '{"num_channels": 1000000000}',
    '{"num_channels": "x"}',
    '{"channel_mult": "inf"}',
    '{"channel_mult": "nan,1"}',
    '{"channel_mult": "1e9"}',
    '{"channel_mult": ",,"}',
    '{"channel_mult": "' + "1," * 100 + '1"}',
    '{"num_res_blocks": 100000000}',
    '{"num_res_blocks": 0}',
    '{"attention_resolutions": "0"}',
    '{"image_size": 0}',
    '{"image_size": 10000000000}',
    '{"num_head_channels": null}',
    '{"num_channels": [1]}',
    "[" * 5000,
    "{" * 5000,
    "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]",
    "num_channels: 1" + "0" * 5000,
    "- 1",
    "!!python/object/apply:os.system [true]",
    "",
]


@pytest.mark.parametrize("text", CONFIGURATIONS, ids=lambda text: text[:30])
def test_configurations_of_no_network(tmp_path: Path, text: str) -> None:
    path = tmp_path / "model.yaml"
    path.write_text(text)
    with pytest.raises(InputError):
        network_config(read_config(path))
