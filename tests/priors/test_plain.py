"""The U-Net without normalisation, against its equations in numpy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.signal import correlate2d

from ddfm.errors import InputError
from ddfm.priors.diffusion import DiffusionPrior
from ddfm.priors.loading import load_prior
from ddfm.priors.plain import PlainUNet, PlainUNetConfig
from ddfm.priors.schedule import NoiseSchedule

Array = NDArray[np.float64]
Weights = Mapping[str, Array]
SMALL = PlainUNetConfig(in_channels=4, out_channels=4, block_out_channels=(6, 8, 10), layers_per_block=2)


def random_network(config: PlainUNetConfig = SMALL) -> PlainUNet:
    """All weights away from 0, those included that are 0 before training."""
    torch.manual_seed(0)
    network = PlainUNet(config)
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return network


def prior() -> DiffusionPrior:
    schedule = NoiseSchedule(prediction_type="v_prediction")
    return DiffusionPrior(random_network().prepare_for_inference(), schedule, pixel_unshuffle=2)


def convolved(x: Array, w: Weights, name: str) -> Array:
    """A 3x3 convolution with zeros around, (C, H, W)."""
    kernels = w[f"{name}.weight"]
    sums = [sum(correlate2d(x[c], k[c], "same") for c in range(len(x))) for k in kernels]
    return np.stack(sums) + w[f"{name}.bias"][:, None, None]


def blocks(x: Array, w: Weights, name: str, count: int) -> Array:
    for n in range(count):
        x = x + convolved(np.maximum(convolved(x, w, f"{name}.{n}.conv1"), 0), w, f"{name}.{n}.conv2")
    return x


def coarser(x: Array, w: Weights, name: str) -> Array:
    cells = x.reshape(len(x), x.shape[1] // 2, 2, x.shape[2] // 2, 2)
    return np.einsum("cyaxb,ocab->oyx", cells, w[f"{name}.weight"]) + w[f"{name}.bias"][:, None, None]


def finer(x: Array, w: Weights, name: str) -> Array:
    cells = np.einsum("cyx,coab->oyaxb", x, w[f"{name}.weight"])
    return cells.reshape(len(cells), 2 * x.shape[1], 2 * x.shape[2]) + w[f"{name}.bias"][:, None, None]


def expected(x: Array, sigma: float, w: Weights, config: PlainUNetConfig) -> Array:
    """One image, (C, H, W)."""

    def linear(v: Array, name: str) -> Array:
        return w[f"{name}.weight"] @ v + w[f"{name}.bias"]

    noise, layers = sigma / np.hypot(1, sigma), config.layers_per_block
    embedding = np.maximum(linear(np.array([noise, np.log(sigma) / 4]), "embedding"), 0)
    h, skips = convolved(x, w, "conv_in") + linear(embedding, "told_in")[:, None, None], []
    levels = len(config.block_out_channels) - 1
    for n in range(levels):
        skips.append(blocks(h, w, f"down_blocks.{n}", layers))
        told = linear(embedding, f"told_down.{n}")[:, None, None]
        h = coarser(skips[-1], w, f"downsamplers.{n}") + told
    h = blocks(h, w, "mid_block", 2 * layers)
    for n in range(levels):
        h = finer(h, w, f"upsamplers.{n}") + skips.pop() + linear(embedding, f"told_up.{n}")[:, None, None]
        h = blocks(h, w, f"up_blocks.{n}", layers)
    return convolved(h, w, "conv_out") / noise


@pytest.mark.parametrize("config", [SMALL, PlainUNetConfig(1, 2, (5,))], ids=["three levels", "one level"])
def test_it_computes_its_equations(config: PlainUNetConfig) -> None:
    network = random_network(config).double()
    w = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, config.in_channels, 8, 12, generator=generator, dtype=torch.float64)
    sigma = torch.tensor([0.02, 0.5, 30], dtype=torch.float64)
    before = x.clone()
    with torch.no_grad():
        ours = network(x, sigma).numpy()
        alone = network.prepare_for_inference()(x[:1], sigma[0]).numpy()
    for n, level in enumerate(sigma.tolist()):
        wanted = expected(x[n].numpy(), level, w, config)
        assert np.abs(ours[n] - wanted).max() < 1e-10 * np.abs(wanted).max()
    assert np.allclose(alone, ours[:1], rtol=0, atol=1e-10)
    assert torch.equal(x, before)


def test_it_is_told_the_noise_that_the_image_has() -> None:
    """By `denoise`, for which the schedule has no timestep of its own; each image its own."""
    ours, heard = prior(), []
    ours.network.register_forward_hook(lambda network, inputs, output: heard.append(inputs[1]))
    ours.denoise(torch.zeros(2, 1, 16, 24), torch.tensor([0.0712, 1.3]))
    ours.predict_x0(torch.zeros(1, 1, 16, 24), 500, ours.alphas_cumprod[500])
    assert torch.allclose(heard[0], torch.tensor([0.0712, 1.3]))
    assert torch.allclose(heard[1].double(), ours.sigmas[500])


def test_what_is_far_away_changes_nothing() -> None:
    """So a tile looks as it does in the whole picture."""
    ours = prior()
    x = torch.rand(1, 1, 320, 16, generator=torch.Generator().manual_seed(0)) - 0.5
    other = x.clone()
    other[..., 160:, :] *= 2  # it sees 120 pixels around
    near, changed = (ours.denoise(image, 0.1)[..., :32, :] for image in (x, other))
    assert torch.equal(near, changed)
    whole, tiles = (replace(ours, tile=tile).denoise(x, 0.1) for tile in (None, 192))
    assert torch.allclose(whole[..., :32, :], tiles[..., :32, :], rtol=0, atol=1e-6)


def test_a_folder_and_back(tmp_path: Path) -> None:
    ours, x = prior(), torch.rand(1, 1, 21, 30)
    ours.save(tmp_path)
    loaded = load_prior(tmp_path)
    assert isinstance(loaded.network, PlainUNet)
    assert (loaded.channels, loaded.multiple, loaded.network.config) == (1, 8, SMALL)
    assert torch.equal(loaded.denoise(x, 0.2), ours.denoise(x, 0.2))
    halved = loaded.to("cpu", torch.bfloat16).denoise(x, 0.2)
    assert 0 < (halved - ours.denoise(x, 0.2)).square().mean().sqrt() < 0.02


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"in_channels": 0}, "in_channels: 0; a whole number from 1"),
        ({"out_channels": None}, "out_channels: None"),
        ({"block_out_channels": []}, r"block_out_channels: \[\]"),
        ({"layers_per_block": "1"}, "layers_per_block: '1'"),
        ({"block_out_channels": [6, 8, 12]}, "the weights do not fit config.json"),
        ({"in_channels": 5}, "takes 5 channels"),
    ],
)
def test_folders_of_no_network(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    ours = prior()
    if changes.get("in_channels"):
        ours = replace(ours, network=random_network(replace(SMALL, **changes)))
    ours.save(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(InputError, match=message) as refused:
        load_prior(tmp_path)
    assert str(tmp_path) in str(refused.value)


@pytest.mark.skipif(find_spec("openvino") is None, reason="pip install ddfm[openvino]")
def test_openvino_computes_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    ours = prior()
    exported = ours.to("cpu", torch.float32, "openvino")
    x = torch.rand(2, 1, 40, 70, generator=torch.Generator().manual_seed(0)) - 0.5
    sigma = torch.tensor([0.05, 0.5])
    assert torch.allclose(exported.denoise(x, sigma), ours.denoise(x, sigma), rtol=0, atol=1e-4)
    torchs, openvinos = (replace(one, tile=32).denoise(x, sigma) for one in (ours, exported))
    assert torch.allclose(openvinos, torchs, rtol=0, atol=1e-4)
