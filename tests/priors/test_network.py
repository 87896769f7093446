"""The U-Net, against diffusers' with the same weights."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DModel
from diffusers.models.upsampling import Upsample2D
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from ddfm.errors import InputError
from ddfm.priors.diffusion import DiffusionPrior
from ddfm.priors.foreign import DiffusersUNet
from ddfm.priors.loading import load_prior
from ddfm.priors.network import SplitInput, UNet, Upsampling, misfits
from ddfm.priors.network_config import Foreign, UNetConfig, read_unet_config
from ddfm.priors.schedule import NoiseSchedule
from tests.conftest import examples

# What a config.json holds, small: each family of published networks, and their options one by one.
OPENAI = {
    "in_channels": 3,
    "out_channels": 6,
    "block_out_channels": [32, 32, 64],
    "layers_per_block": 2,
    "down_block_types": ["ResnetDownsampleBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"],
    "downsample_type": "resnet",
    "upsample_type": "resnet",
    "attention_head_dim": 16,
    "attn_norm_num_groups": 32,
    "resnet_time_scale_shift": "scale_shift",
}
CHURCH = {  # google/ddpm-church-256, with an eighth of its width and four of its six resolutions
    "act_fn": "silu",
    "attention_head_dim": None,
    "block_out_channels": [16, 16, 32, 64],
    "center_input_sample": False,
    "down_block_types": ["DownBlock2D", "DownBlock2D", "AttnDownBlock2D", "DownBlock2D"],
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "in_channels": 3,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-06,
    "norm_num_groups": 8,
    "out_channels": 3,
    "sample_size": 256,
    "time_embedding_type": "positional",
    "up_block_types": ["UpBlock2D", "AttnUpBlock2D", "UpBlock2D", "UpBlock2D"],
}
SMALL: dict[str, Any] = {
    "in_channels": 1,
    "out_channels": 1,
    "block_out_channels": [8, 12],
    "layers_per_block": 1,
    "down_block_types": ["DownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "UpBlock2D"],
    "norm_num_groups": 4,
    "attention_head_dim": 4,
}
CONVOLUTIONS = {
    "act_fn": "silu",
    "add_attention": False,
    "attn_norm_num_groups": None,
    "block_out_channels": [16, 24, 32, 64],
    "down_block_types": ["DownBlock2D"] * 4,
    "in_channels": 4,
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "out_channels": 4,
    "up_block_types": ["UpBlock2D"] * 4,
}
LAYOUTS: dict[str, dict[str, Any]] = {
    "convolutions alone": CONVOLUTIONS,
    "OpenAI": OPENAI,
    "OpenAI, 4 groups in the middle": OPENAI | {"attn_norm_num_groups": 4},
    "OpenAI, no groups in the middle": OPENAI | {"attn_norm_num_groups": None},
    "church": CHURCH,
    "one resolution": SMALL
    | {"block_out_channels": [8], "down_block_types": ["DownBlock2D"], "up_block_types": ["UpBlock2D"]},
    "time_embedding_dim": SMALL | {"time_embedding_dim": 20},
    "odd width": SMALL | {"block_out_channels": [9, 12], "norm_num_groups": 3},
    "attention and convolutions": SMALL
    | {"down_block_types": ["AttnDownBlock2D"] * 2, "up_block_types": ["AttnUpBlock2D"] * 2},
    "resnets without scale_shift": SMALL
    | {"down_block_types": ["ResnetDownsampleBlock2D"] * 2, "up_block_types": ["ResnetUpsampleBlock2D"] * 2},
}
layouts = pytest.mark.parametrize("values", LAYOUTS.values(), ids=LAYOUTS)


def config_of(values: dict[str, Any]) -> UNetConfig:
    config = read_unet_config(values, "config.json")
    assert isinstance(config, UNetConfig)
    return config


def both(values: dict[str, Any], seed: int = 0) -> tuple[UNet, UNet2DModel]:
    """Ours and diffusers' with the same random weights, all of them (biases, too) far from 0 and 1."""
    ours, theirs = UNet(config_of(values)).double(), UNet2DModel.from_config(values).double()
    torch.manual_seed(seed)
    for parameter in theirs.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    assert misfits(ours, theirs.state_dict()) == []
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def noisy(values: dict[str, Any], seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (3, values["in_channels"], 16, 24)
    return torch.randn(shape, generator=generator, dtype=torch.float64), torch.tensor([3.0, 511.25, 998.0])


@layouts
@pytest.mark.parametrize("prepared", [False, True])
def test_it_predicts_what_diffusers_predicts(values: dict[str, Any], prepared: bool) -> None:
    ours, theirs = both(values)
    x, t = noisy(values)
    if prepared:
        ours.prepare_for_inference()
    before = x.clone()
    with torch.inference_mode():
        expected = theirs.eval()(x, t).sample
        assert (ours(x, t) - expected).abs().max() < 1e-10
        assert (ours(x[:1], 3.0) - expected[:1]).abs().max() < 1e-10
    assert torch.equal(x, before)
    assert expected.std() > 0.1  # so that 1e-10 says something


@layouts
def test_it_learns_what_diffusers_learns(values: dict[str, Any]) -> None:
    ours, theirs = both(values)
    x, t = noisy(values)
    for network in (ours, theirs):
        out = network(x.requires_grad_(), t)
        (out if network is ours else out.sample).square().mean().backward()
    wanted = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None
        assert (parameter.grad - wanted[name].grad).abs().max() < 1e-10, name


@layouts
def test_it_begins_as_diffusers_begins(values: dict[str, Any]) -> None:
    """A seed gives the same first weights, and an optimiser's state has the same order."""
    torch.manual_seed(7)
    ours = UNet(config_of(values)).state_dict()
    torch.manual_seed(7)
    theirs = UNet2DModel.from_config(values).state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@layouts
def test_gradients_with_respect_to_the_image_are_the_same_when_prepared(values: dict[str, Any]) -> None:
    ours, _ = both(values)
    x, t = noisy(values)
    prepared = copy.deepcopy(ours).prepare_for_inference()
    plain, quick = (
        torch.autograd.grad(n(x.requires_grad_(), t).square().sum(), x)[0] for n in (ours, prepared)
    )
    assert (plain - quick).abs().max() < 1e-10 * plain.abs().max()


@layouts
def test_what_it_saves_diffusers_opens(values: dict[str, Any], tmp_path: Path) -> None:
    ours, _ = both(values)
    ours.float().prepare_for_inference().save(tmp_path)
    opened, report = UNet2DModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    for name, value in UNet2DModel.from_config(values).config.items():
        if not name.startswith("_"):
            assert opened.config[name] == value or tuple(opened.config[name]) == tuple(value), name
    assert json.loads((tmp_path / "config.json").read_text())["_class_name"] == "UNet2DModel"
    saved = ours.state_dict()
    assert all(torch.equal(tensor, saved[name]) for name, tensor in opened.state_dict().items())
    assert read_unet_config(json.loads((tmp_path / "config.json").read_text()), "again") == ours.config


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 3), st.integers(0, 99))
@examples(40)
def test_upsampling_is_that_of_diffusers(height: int, width: int, channels: int, seed: int) -> None:
    torch.manual_seed(seed)
    theirs = Upsample2D(channels, use_conv=True).double()
    ours = Upsampling(channels).double()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, channels, height, width, dtype=torch.float64)
    with torch.no_grad():
        assert torch.equal(ours(x, x), theirs(x))
        ours.fuse()
        assert torch.allclose(ours(x, x), theirs(x), rtol=0, atol=1e-12)


def test_a_derived_kernel_never_outlives_its_weights() -> None:
    ours, _ = both(SMALL)
    other, theirs = both(SMALL, seed=5)
    x, t = noisy(SMALL)
    ours.prepare_for_inference()
    assert "kernel" not in " ".join(ours.state_dict())
    ours.load_state_dict(other.state_dict())
    with torch.no_grad():
        assert (ours(x, t) - theirs(x, t).sample).abs().max() < 1e-10
        ours.prepare_for_inference().train().requires_grad_(True)
        for mine, yours in zip(ours.parameters(), theirs.parameters(), strict=True):
            mine.mul_(1.1), yours.mul_(1.1)
        assert (ours(x, t) - theirs(x, t).sample).abs().max() < 1e-10


def test_a_network_is_loaded_in_its_quick_form(tmp_path: Path) -> None:
    DiffusionPrior(both(CONVOLUTIONS)[0].float(), NoiseSchedule(), pixel_unshuffle=2).save(tmp_path)
    network = load_prior(tmp_path).network
    upsamplings = [layer for layer in network.modules() if isinstance(layer, Upsampling)]
    assert len(upsamplings) == 3
    assert all(layer.kernel is not None for layer in upsamplings)
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert isinstance(network, UNet)
    assert network.conv_out.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("value", [-1.0, -0.499, 0.503, 0.9961])
def test_a_network_in_16_bits_sees_the_image_as_it_is(value: float) -> None:
    difference = SplitInput(1, 1, (1, 2), bias=False)
    difference.weight.data = torch.tensor([[[[-1.0, 1.0]]]])
    step = 1 / 1024  # an eighth of a grey level, which bfloat16 does not tell apart near black or white
    x = torch.tensor([value, value + step])[None, None, None]
    assert difference(x).item() == pytest.approx(step, rel=1e-4)
    assert difference.to(torch.bfloat16)(x).item() == pytest.approx(step, rel=2**-7)
    rounded = torch.nn.functional.conv2d(x.bfloat16(), difference.weight)
    assert rounded.item() != pytest.approx(step, rel=0.5)


def test_a_prior_in_16_bits_and_back() -> None:
    natural = load_prior("natural")
    halved = natural.to("cpu", torch.bfloat16)
    assert (halved.network.dtype, natural.network.dtype) == (torch.bfloat16, torch.float32)
    assert halved.to("cpu", torch.bfloat16) is halved
    back = halved.to("cpu", torch.float32)
    x = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    assert (back.denoise(x, 0.1) - natural.denoise(x, 0.1)).abs().max() < 0.02
    assert not torch.equal(back.denoise(x, 0.1), natural.denoise(x, 0.1))


def test_folders_from_before_attention_had_its_names(tmp_path: Path) -> None:
    ours, theirs = both(CHURCH)
    DiffusionPrior(ours.float(), NoiseSchedule()).save(tmp_path)
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    former = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    weights = load_file(file)
    for new, old in former.items():
        weights = {name.replace(new, old): tensor for name, tensor in weights.items()}
    save_file(weights, file)
    x, t = noisy(CHURCH)
    with torch.no_grad():
        expected = theirs.float()(x.float(), t).sample
        assert torch.allclose(load_prior(tmp_path).network(x.float(), t), expected, atol=1e-4)
        torch.save(weights, file.with_suffix(".bin"))  # and of before safetensors
        file.unlink()
        assert torch.allclose(load_prior(tmp_path).network(x.float(), t), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"down_block_types": ["SkipDownBlock2D", "DownBlock2D"]}, "down_block_types: 'SkipDownBlock2D'"),
        ({"act_fn": "gelu"}, "act_fn: 'gelu'"),
        ({"time_embedding_type": "fourier"}, "time_embedding_type: 'fourier'"),
        ({"mid_block_scale_factor": 1.5}, "mid_block_scale_factor: 1.5"),
        ({"attention_head_dim": 5}, "attention_head_dim: 5 does not divide 12"),
        ({"downsample_type": "none"}, "downsample_type: 'none'"),
        ({"resnet_time_scale_shift": "ada_group"}, "resnet_time_scale_shift: 'ada_group'"),
    ],
)
def test_other_layouts_are_known_for_what_they_are(changes: dict[str, Any], reason: str) -> None:
    assert read_unet_config(SMALL | changes, "config.json") == Foreign(reason)


def test_other_layouts_are_loaded_by_diffusers(tmp_path: Path) -> None:
    values = SMALL | {"act_fn": "gelu", "add_attention": False}
    torch.manual_seed(0)
    theirs = UNet2DModel.from_config(values)
    theirs.save_pretrained(tmp_path)
    NoiseSchedule().save(tmp_path)
    prior = load_prior(tmp_path)
    assert isinstance(prior.network, DiffusersUNet)
    assert (prior.channels, prior.multiple, prior.device.type) == (1, 2, "cpu")
    x, t = torch.randn(2, 1, 16, 24), torch.tensor([3.0, 500.0])
    with torch.no_grad():
        assert torch.allclose(prior.network(x, t), theirs(x, t).sample, rtol=0, atol=1e-5)
    by_file = load_prior(tmp_path / "diffusion_pytorch_model.safetensors")
    assert torch.equal(by_file.denoise(x, 0.1), prior.denoise(x, 0.1))
    assert (prior.to("cpu", torch.bfloat16).denoise(x, 0.1) - prior.denoise(x, 0.1)).abs().max() < 0.1
    prior.save(tmp_path / "again")
    assert "_name_or_path" not in json.loads((tmp_path / "again" / "config.json").read_text())
    assert torch.equal(load_prior(tmp_path / "again").denoise(x, 0.1), prior.denoise(x, 0.1))
    (tmp_path / "diffusion_pytorch_model.safetensors").write_bytes(b"damaged")
    with pytest.raises(InputError, match="not a prior that can be loaded"):
        load_prior(tmp_path)


def test_other_layouts_without_diffusers_name_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(SMALL | {"act_fn": "gelu"}))
    NoiseSchedule().save(tmp_path)
    monkeypatch.delitem(sys.modules, "ddfm.priors.foreign", raising=False)
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(
        InputError, match=r"act_fn: 'gelu', which needs diffusers: pip install 'ddfm\[diff"
    ) as caught:
        load_prior(tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"in_channels": 0}, "in_channels: 0; a whole number from 1"),
        ({"in_channels": True}, "in_channels: True"),
        ({"in_channels": "3"}, "in_channels: '3'"),
        ({"out_channels": 10**9}, "out_channels: 1000000000"),
        ({"layers_per_block": 10**6}, "layers_per_block: 1000000"),
        ({"layers_per_block": None}, "layers_per_block: None"),
        ({"block_out_channels": 8}, "block_out_channels: 8; a list"),
        ({"block_out_channels": []}, r"block_out_channels: \[\]"),
        ({"block_out_channels": [8] * 1000}, "block_out_channels"),
        ({"block_out_channels": [8, -12]}, "block_out_channels"),
        ({"block_out_channels": [8, 12, 16]}, "down_block_types: 2 of them for 3 block_out_channels"),
        ({"up_block_types": ["UpBlock2D"]}, "up_block_types: 1 of them for 2 block_out_channels"),
        ({"down_block_types": ["DownBlock2D", 2]}, "down_block_types"),
        ({"up_block_types": "UpBlock2D"}, "up_block_types: 'UpBlock2D'"),
        ({"norm_num_groups": 5}, "norm_num_groups: 5 does not divide block_out_channels 8"),
        ({"norm_num_groups": None}, "norm_num_groups: None"),
        ({"attn_norm_num_groups": 7}, "attn_norm_num_groups: 7 does not divide"),
        ({"norm_eps": 0}, "norm_eps: 0"),
        ({"norm_eps": float("nan")}, "norm_eps: nan"),
        ({"time_embedding_dim": -4}, "time_embedding_dim: -4; null or"),
        ({"downsample_padding": 7}, "downsample_padding: 7"),
        ({"freq_shift": 0.5}, "freq_shift: 0.5"),
        ({"flip_sin_to_cos": "yes"}, "flip_sin_to_cos: 'yes'; true or false"),
        ({"sample_size": [1, 2, 3]}, "sample_size"),
        ({"_class_name": "UNet2DConditionModel"}, "_class_name: 'UNet2DConditionModel'"),
    ],
)
def test_layouts_that_no_network_has(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^folder/config.json: {message}") as caught:
        read_unet_config(SMALL | changes, "folder/config.json")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_configuration_is_a_mapping() -> None:
    with pytest.raises(InputError, match=r"^config\.json: not a configuration"):
        read_unet_config([], "config.json")


@pytest.mark.parametrize("steps", [0, 5])
def test_diffusers_is_not_imported(steps: int) -> None:
    code = f"""if True:
        import sys, numpy as np, ddfm
        a = np.add.outer(np.arange(40), 3 * np.arange(50)).astype(np.uint8)
        result = ddfm.fuse(a, a.T.reshape(40, 50), steps={steps})
        assert result.settings["steps"] == {steps}
        ddfm.load_prior().to("cpu")
        import ddfm.training.run
        loaded = {{"diffusers", "huggingface_hub", "transformers"}} & sys.modules.keys()
        sys.exit(", ".join(loaded) or 0)"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
