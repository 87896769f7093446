from __future__ import annotations

import json
import math
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from safetensors.torch import load_file, save_file

from ddfm.errors import InputError
from ddfm.likelihoods.base import Unconditional
from ddfm.priors.diffusion import DiffusionPrior, timestep_of
from ddfm.priors.loading import bundled_priors, list_priors, load_prior
from ddfm.priors.network import UNet
from ddfm.priors.network_config import UNetConfig
from ddfm.priors.plain import PlainUNet
from ddfm.priors.schedule import NoiseSchedule
from ddfm.sampling.loop import sample
from tests.conftest import ROOT, Command


@pytest.fixture(scope="module")
def natural() -> DiffusionPrior:
    return load_prior("natural")


def small_config(in_channels: int = 1, out_channels: int = 1) -> UNetConfig:
    return UNetConfig(
        in_channels=in_channels,
        out_channels=out_channels,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        add_attention=False,
    )


def small_network(in_channels: int = 1, out_channels: int = 1) -> UNet:
    torch.manual_seed(0)
    return UNet(small_config(in_channels, out_channels))


def test_the_bundled_prior_is_small(natural: DiffusionPrior) -> None:
    assert bundled_priors() == ["natural"]
    assert sum(p.numel() for p in natural.network.parameters()) <= 12_000_000
    folder = ROOT / "src" / "ddfm" / "assets" / "natural"
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 30_000_000
    assert DDPMScheduler.from_pretrained(folder).config.prediction_type == natural.prediction_type
    assert (natural.channels, natural.multiple) == (1, 16)
    assert isinstance(natural.network, PlainUNet)


def test_the_bundled_prior_denoises(natural: DiffusionPrior) -> None:
    """A picture with edges and a slope: the error must fall by far more than any smoothing could do."""
    rows, columns = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")
    clean = (
        (columns + rows) / 190 - 0.5 + 0.8 * ((rows - 48) ** 2 + (columns - 40) ** 2 < 900).float() - 0.4
    )[None, None]
    sigma = 25 / 127.5
    noisy = clean + sigma * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    error = (natural.denoise(noisy, sigma) - clean).square().mean().sqrt()
    assert error < 0.3 * sigma
    wrong_level = (natural.denoise(noisy, sigma / 4) - clean).square().mean().sqrt()
    assert wrong_level > error


def test_noise_levels_belong_to_each_image(natural: DiffusionPrior) -> None:
    x = torch.rand(2, 1, 32, 48) * 2 - 1
    together = natural.denoise(x, torch.tensor([0.05, 0.4]))
    assert torch.allclose(together[1:], natural.denoise(x[1:], 0.4), atol=1e-4)


def test_timestep_of_inverts_the_schedule(natural: DiffusionPrior) -> None:
    wanted = torch.arange(0, 1000, 37)
    assert torch.allclose(timestep_of(natural.sigmas[wanted], natural.sigmas), wanted.float(), atol=1e-3)
    between = (natural.sigmas[10] * natural.sigmas[11]).sqrt().reshape(1)
    assert float(timestep_of(between, natural.sigmas)) == pytest.approx(10.5, abs=1e-3)
    outside = timestep_of(torch.tensor([1e-9, 1e9]), natural.sigmas)
    assert outside.tolist() == [0, 999]


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_prediction_types_agree_with_diffusers(prediction_type: str) -> None:
    """x_0 from the network's output, against diffusers' own scheduler."""
    scheduler = DDPMScheduler(prediction_type=prediction_type, clip_sample=False)
    prior = DiffusionPrior(small_network(), NoiseSchedule(prediction_type=prediction_type))
    x = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours = prior.predict_x0(x, 400, prior.alphas_cumprod[400])
        theirs = scheduler.step(prior.network(x, 400), 400, x).pred_original_sample
    assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("channels", "outputs"), [(1, 1), (3, 3), (3, 6)])
def test_any_unconditional_network_serves(channels: int, outputs: int, tmp_path: Path) -> None:
    network = small_network(channels, outputs)
    DiffusionPrior(network, NoiseSchedule()).save(tmp_path / "flat")
    prior = load_prior(tmp_path / "flat")
    assert (prior.channels, prior.multiple) == (channels, 2)
    assert prior.denoise(torch.zeros(1, channels, 16, 16), 0.1).shape == (1, channels, 16, 16)
    if outputs == channels:
        theirs = UNet2DModel.from_pretrained(tmp_path / "flat")
        DDPMPipeline(theirs, DDPMScheduler()).save_pretrained(tmp_path / "pipeline")
        weights = load_prior(tmp_path / "pipeline").network.state_dict()
        assert all(
            torch.equal(a, b)
            for a, b in zip(weights.values(), prior.network.state_dict().values(), strict=True)
        )


def test_every_way_to_name_a_prior(tiny_checkpoint: Path, tiny_prior: Path, tmp_path: Path) -> None:
    by_folder, x = load_prior(tiny_prior), torch.rand(1, 3, 32, 32)
    reference = by_folder.denoise(x, 0.2)
    assert torch.equal(
        load_prior(tiny_prior / "diffusion_pytorch_model.safetensors").denoise(x, 0.2), reference
    )
    # The checkpoint's configuration lies beside it under the same name.
    assert torch.equal(load_prior(tiny_checkpoint).denoise(x, 0.2), reference)
    for name in ("absent.safetensors", "absent.pt"):
        with pytest.raises(InputError, match=f"{name}: no such file"):
            load_prior(tmp_path / name)


def test_hub_models_come_from_the_cache_and_offline_is_said(
    tiny_prior: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert "cached" not in {row["where"] for row in list_priors()}
    with pytest.raises(InputError, match=r"somebody/model: no such folder here, not in the cache.*offline"):
        load_prior("somebody/model")
    # The cache's layout: a folder per model, a reference to a revision, its snapshot.
    model = tmp_path / "models--somebody--model"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text("0" * 40)
    shutil.copytree(tiny_prior, model / "snapshots" / ("0" * 40))
    assert load_prior("somebody/model").channels == 3
    assert {"name": "somebody/model", "where": "cached"}.items() <= list_priors()[1].items()


def test_the_hub_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "cached" not in {row["where"] for row in list_priors()}
    with pytest.raises(InputError, match=r"^somebody/model: .*pip install 'ddfm\[diffusers\]'$"):
        load_prior("somebody/model")


def test_the_command_lists_priors(ddfm: Command) -> None:
    listed = ddfm("priors")
    assert listed.stdout.startswith("natural ")
    assert json.loads(ddfm("priors", "--json").stdout)[0]["where"] == "bundled"


def test_a_saved_prior_is_the_same_prior(natural: DiffusionPrior, tmp_path: Path) -> None:
    natural.save(tmp_path)
    assert "_name_or_path" not in json.loads((tmp_path / "config.json").read_text())
    again, x = load_prior(tmp_path), torch.rand(1, 1, 32, 32)
    assert torch.equal(again.denoise(x, 0.2), natural.denoise(x, 0.2))


def test_what_cannot_be_loaded_is_refused(tmp_path: Path) -> None:
    good = tmp_path / "good"
    DiffusionPrior(small_network(), NoiseSchedule()).save(good)
    weights = good / "diffusion_pytorch_model.safetensors"

    def spoiled(name: str) -> Path:
        return Path(shutil.copytree(good, tmp_path / name))

    cut = spoiled("cut") / weights.name
    cut.write_bytes(weights.read_bytes()[:1000])
    (spoiled("weightless") / weights.name).unlink()
    (spoiled("unscheduled") / "scheduler_config.json").unlink()
    wider = json.loads((good / "config.json").read_text()) | {"block_out_channels": [8, 32]}
    (spoiled("wider") / "config.json").write_text(json.dumps(wider))
    tensors = load_file(weights)
    tensors.pop("conv_out.bias")
    save_file(tensors, spoiled("incomplete") / weights.name)
    (spoiled("garbled") / "config.json").write_text("{")
    DiffusionPrior(small_network(2, 2), NoiseSchedule()).save(tmp_path / "two-channels")
    conditional = json.loads((good / "config.json").read_text()) | {"num_class_embeds": 3}
    (spoiled("conditional") / "config.json").write_text(json.dumps(conditional))
    for kind, value in {"infinite": math.inf, "nan": math.nan}.items():
        tensors = load_file(weights)
        tensors["down_blocks.1.resnets.0.conv1.weight"][3, 2, 1, 0] = value
        save_file(tensors, spoiled(kind) / weights.name)
    (spoiled("unshuffled") / "prior.json").write_text('{"pixel_unshuffle": "2"}')
    (spoiled("noiseless") / "scheduler_config.json").write_text('{"beta_end": 1}')
    for name, message in {
        "absent": "no such prior",
        "cut": "diffusion_pytorch_model.safetensors: not a whole safetensors file",
        "weightless": "diffusion_pytorch_model.safetensors: missing",
        "unscheduled": "scheduler_config.json: missing",
        "wider": "the weights do not fit config.json",
        "incomplete": "do not fit config.json .1 tensors, conv_out.bias first",
        "garbled": "config.json: not a readable JSON file",
        "two-channels": "takes 2 channels",
        "conditional": "conditional on a class",
        "infinite": "safetensors: down_blocks.1.resnets.0.conv1.weight holds values that are not finite",
        "nan": "safetensors: down_blocks.1.resnets.0.conv1.weight holds values that are not finite",
        "unshuffled": "prior.json: pixel_unshuffle: '2'; a whole number from 1 to 16",
        "noiseless": "scheduler_config.json: beta_schedule: gives betas that are not strictly between",
    }.items():
        with pytest.raises(InputError, match=message) as caught:
            load_prior(tmp_path / name)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


def test_images_of_any_size_are_mirrored_at_their_borders() -> None:
    prior, image = load_prior(), 0.3 * torch.randn(1, 1, 21, 50, generator=torch.Generator().manual_seed(0))
    top, left = 5, 7  # to 32 x 64
    padded = torch.from_numpy(np.pad(image.numpy(), [(0, 0), (0, 0), (top, 6), (left, 7)], "symmetric"))
    expected = prior.denoise(padded, 0.1)[..., top : top + 21, left : left + 50]
    assert torch.equal(prior.denoise(image, 0.1), expected)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_what_a_network_returns_is_finite_or_refused(value: float) -> None:
    network = small_network()
    assert network.conv_out.bias is not None
    network.conv_out.bias.data[0] = value
    prior = DiffusionPrior(network.eval().requires_grad_(False), NoiseSchedule(), name="broken")
    message = "^prior broken: its network returned values that are not finite at timestep 250$"
    with pytest.raises(InputError, match=message):
        prior.denoise(torch.zeros(2, 1, 16, 16), prior.sigmas[250])
    with pytest.raises(InputError, match=message.replace("250", "190")):
        sample(prior, Unconditional(), torch.zeros(1, 1, 16, 16), torch.tensor([190, 10]))
    with pytest.raises(InputError, match=message):
        replace(prior, tile=128).denoise(torch.zeros(1, 1, 16, 200), prior.sigmas[250])
