from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UNet2DModel

from ddfm.errors import InputError
from ddfm.priors.guided_diffusion import (
    OPENAI_256_UNCONDITIONAL,
    convert_guided_diffusion,
    convert_weights,
    network_config,
    network_names,
    read_config,
    split_qkv,
)
from ddfm.priors.loading import load_prior
from tests.conftest import Poison
from tests.priors.checkpoints import TINY, checkpoint_shapes


def test_converted_network_matches_the_original(golden: Path, golden_prior: Path) -> None:
    network = load_prior(golden_prior).network
    arrays = np.load(golden / "unet_forward.npz")
    x = torch.from_numpy(arrays["unet_x"])
    for timestep, reference in zip(arrays["unet_t"], torch.from_numpy(arrays["unet_y"]), strict=True):
        with torch.no_grad():
            y = network(x, int(timestep))
        assert (y - reference).norm() / reference.norm() < 1e-5


def test_openai_layout_has_its_parameters_and_every_key_is_mapped() -> None:
    with torch.device("meta"):
        network = UNet2DModel(**network_config(OPENAI_256_UNCONDITIONAL))
    state = network.state_dict()
    assert sum(tensor.numel() for tensor in state.values()) == 552_814_086
    checkpoint = {
        name: torch.empty(shape, device="meta")
        for name, shape in checkpoint_shapes(OPENAI_256_UNCONDITIONAL).items()
    }
    converted = convert_weights(checkpoint, OPENAI_256_UNCONDITIONAL)
    assert {k: v.shape for k, v in converted.items()} == {k: v.shape for k, v in state.items()}
    # What the published checkpoint is known to hold.
    assert checkpoint["input_blocks.10.1.qkv.weight"].shape == (1536, 512, 1)
    assert checkpoint["out.2.weight"].shape == (6, 256, 3, 3)
    assert checkpoint["time_embed.0.weight"].shape == (1024, 256)


def test_qkv_orders() -> None:
    heads, head_channels, channels = 2, 3, 6
    rows = torch.arange(3 * channels, dtype=torch.float32)
    legacy = split_qkv(rows, head_channels)
    assert [part.tolist() for part in legacy] == [
        [0, 1, 2, 9, 10, 11],
        [3, 4, 5, 12, 13, 14],
        [6, 7, 8, 15, 16, 17],
    ]
    assert torch.equal(torch.stack(split_qkv(rows, 0)), rows.reshape(3, heads * head_channels))
    assert split_qkv(rows.reshape(-1, 1, 1).expand(-1, channels, 1), head_channels)[0].shape == (
        channels,
        channels,
    )


@pytest.mark.parametrize("resblock_updown", [True, False])
@pytest.mark.parametrize("use_scale_shift_norm", [True, False])
def test_every_supported_layout_round_trips(resblock_updown: bool, use_scale_shift_norm: bool) -> None:
    config = OPENAI_256_UNCONDITIONAL | {
        "image_size": 32,
        "num_channels": 32,
        "num_res_blocks": 1,
        "channel_mult": "1,2",
        "attention_resolutions": "16",
        "num_head_channels": 16,
        "resblock_updown": resblock_updown,
        "use_scale_shift_norm": use_scale_shift_norm,
    }
    network = UNet2DModel(**network_config(config))
    targets = {f"{new}.{part}" for _, new in network_names(config) for part in ("weight", "bias")}
    unmapped = [name for name in network.state_dict() if name not in targets and ".to_q." not in name]
    assert not [name for name in unmapped if ".to_k." not in name and ".to_v." not in name]


def test_configuration_files(tmp_path: Path) -> None:
    path = tmp_path / "model.yaml"
    path.write_text("num_channels: 128\nattention_resolutions: 32,16\n")
    assert read_config(path) == OPENAI_256_UNCONDITIONAL | {
        "num_channels": 128,
        "attention_resolutions": "32,16",
    }
    path.write_text("- a list\n")
    with pytest.raises(InputError, match=r"model\.yaml: not a configuration"):
        read_config(path)
    path.write_text("{unclosed")
    with pytest.raises(InputError, match=r"model\.yaml: not a readable JSON or YAML file"):
        read_config(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_cond": True}, "class-conditional"),
        ({"num_head_channels": -1}, "channels a head"),
        ({"channel_mult": "1,two"}, "malformed"),
        ({"image_size": 77}, "malformed"),
    ],
)
def test_configurations_that_no_prior_has(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        network_config(OPENAI_256_UNCONDITIONAL | changes)


def test_bad_checkpoints_are_refused_and_leave_nothing(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    whole = tiny_checkpoint.read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.pt").write_text("not a checkpoint")
    torch.save({"a": Poison()}, tmp_path / "poison.pt")
    (tmp_path / "old-poison.pt").write_bytes(pickle.dumps({"a": Poison()}, protocol=2))
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    torch.save({"other.weight": torch.zeros(1)}, tmp_path / "other.pt")
    config = read_config(tiny_checkpoint.with_suffix(".json"))
    for name, message in {
        "absent.pt": "no such file",
        "cut.pt": "not a whole PyTorch checkpoint",
        "text.pt": "not a whole PyTorch checkpoint|could run code",
        "poison.pt": "could run code",
        "old-poison.pt": "could run code",
        "list.pt": "not a state dict",
        "other.pt": "not of the configured architecture",
    }.items():
        with pytest.raises(InputError, match=message) as caught:
            convert_guided_diffusion(tmp_path / name, tmp_path / "out", config)
        assert name in str(caught.value)
    wrong = config | {"num_channels": 64}
    with pytest.raises(InputError, match="not of the configured architecture"):
        convert_guided_diffusion(tiny_checkpoint, tmp_path / "out", wrong)
    assert not (tmp_path / "poisoned").exists()
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".*partial*"))


def test_an_existing_folder_is_not_overwritten(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(InputError, match="exists already"):
        convert_guided_diffusion(tiny_checkpoint, tmp_path, TINY)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_command_converts(tiny_checkpoint: Path, tmp_path: Path, ddfm: Any) -> None:
    done = ddfm(
        "convert", "guided-diffusion", tiny_checkpoint,
        "--config", tiny_checkpoint.with_suffix(".json"), "-o", tmp_path / "tiny",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "tiny" / "config.json").read_text())["_class_name"] == "UNet2DModel"
    assert load_prior(tmp_path / "tiny").channels == 3
    refused = ddfm("convert", "guided-diffusion", tmp_path / "none.pt", "-o", tmp_path / "b")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "none.pt: no such file" in refused.stderr
