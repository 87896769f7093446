from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from hypothesis import given
from hypothesis import strategies as st

from ddfm.priors.diffusion import Prior
from ddfm.priors.layers import Residual, SplitInput, Upsampling, plain, quicken
from ddfm.priors.loading import load_prior
from tests.conftest import examples


@pytest.fixture(scope="module")
def natural() -> Prior:
    return load_prior("natural")


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 3), st.integers(1, 3), st.integers(0, 99))
@examples(40)
def test_upsampling_is_that_of_diffusers(height: int, width: int, inside: int, out: int, seed: int) -> None:
    torch.manual_seed(seed)
    layer = Upsample2D(inside, use_conv=True, out_channels=out).double()
    x = torch.randn(2, inside, height, width, dtype=torch.float64)
    with torch.no_grad():
        assert torch.allclose(Upsampling(layer.conv)(x), layer(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("out", [8, 12])
def test_a_residual_block_is_that_of_diffusers(out: int) -> None:
    torch.manual_seed(0)
    block = ResnetBlock2D(in_channels=8, out_channels=out, temb_channels=5, groups=4).double().eval()
    x, temb = torch.randn(2, 8, 6, 7, dtype=torch.float64), torch.randn(2, 5, dtype=torch.float64)
    before = x.clone(), temb.clone()
    with torch.inference_mode():
        assert torch.allclose(Residual(block)(x, temb), block(x, temb), rtol=0, atol=1e-12)
    assert torch.equal(x, before[0])  # skip connections and the blocks that follow need them
    assert torch.equal(temb, before[1])


def test_a_quickened_network_computes_the_same_and_is_saved_as_it_was(natural: Prior, tmp_path: Path) -> None:
    quick = natural.network
    assert sum(isinstance(layer, Upsampling) for layer in quick.modules()) == 3
    assert sum(isinstance(layer, Residual) for layer in quick.modules()) == 14
    own = plain(quick)
    assert not any(isinstance(layer, Upsampling | Residual) for layer in own.modules())
    x, t = torch.randn(1, 4, 16, 24, generator=torch.Generator().manual_seed(0)), torch.tensor([300.0])
    with torch.inference_mode():
        assert torch.allclose(quick(x, t).sample, own(x, t).sample, rtol=0, atol=2e-5)
    natural.save(tmp_path)
    again = load_prior(tmp_path)
    with torch.inference_mode():
        assert torch.equal(again.network(x, t).sample, quick(x, t).sample)


def test_layers_of_other_kinds_are_left_alone() -> None:
    blocks = [
        ResnetBlock2D(in_channels=8, temb_channels=5, groups=4, **other)
        for other in (
            {"time_embedding_norm": "scale_shift"},
            {"output_scale_factor": 2.0},
            {"up": True},
            {"down": True},
            {"skip_time_act": True},
            {"non_linearity": "gelu"},
        )
    ]
    upsamplers = [Upsample2D(4), Upsample2D(4, use_conv=True, kernel_size=5, padding=2)]
    network = torch.nn.Sequential(*blocks, *upsamplers, Upsample2D(4, use_conv_transpose=True))
    quicken(network)
    assert not any(isinstance(layer, Upsampling | Residual) for layer in network)


@pytest.mark.parametrize("value", [-1.0, -0.499, 0.503, 0.9961])
def test_a_network_in_16_bits_sees_the_image_as_it_is(value: float) -> None:
    difference = torch.nn.Conv2d(1, 1, (1, 2), bias=False)
    difference.weight.data = torch.tensor([[[[-1.0, 1.0]]]])
    step = 1 / 1024  # an eighth of a grey level, which bfloat16 does not tell apart near black or white
    x = torch.tensor([value, value + step])[None, None, None]
    split = SplitInput.of(copy.deepcopy(difference)).to(torch.bfloat16)
    assert split(x).item() == pytest.approx(step, rel=2**-7)
    rounded = difference.to(torch.bfloat16)(x.bfloat16())
    assert rounded.item() != pytest.approx(step, rel=0.5)


def test_a_network_in_16_bits_has_its_input_split(natural: Prior) -> None:
    halved = natural.to("cpu", torch.bfloat16)
    assert isinstance(halved.network.conv_in, SplitInput)
    assert halved.to("cpu", torch.bfloat16) is halved
    assert isinstance(natural.network.conv_in, torch.nn.Conv2d)
    back = halved.to("cpu", torch.float32)
    x = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    assert (back.denoise(x, 0.1) - natural.denoise(x, 0.1)).abs().max() < 0.02
