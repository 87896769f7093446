from __future__ import annotations

import colorsys

import torch
from hypothesis import given
from hypothesis import strategies as st
from skimage.color import rgb2ycbcr
from torch import Tensor

from ddfm.pictures.colour import blend_chroma, chroma, chroma_kept, combine, luminance

UNIT = st.floats(0, 1, width=32)
COLOUR = st.tuples(UNIT, UNIT, UNIT)


def pixel(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).reshape(1, -1, 1, 1)


@given(COLOUR)
def test_luminance_is_bt601(colour: tuple[float, float, float]) -> None:
    """Against scikit-image's studio-range Y = 16 + 219 Y'."""
    reference = (rgb2ycbcr([[colour]])[0, 0, 0] - 16) / 219
    assert abs(float(luminance(pixel(colour))) - reference) < 1e-4


@given(COLOUR)
def test_its_own_luminance_gives_the_image_back(colour: tuple[float, float, float]) -> None:
    image = pixel(colour)
    assert torch.allclose(combine(luminance(image), chroma(image)), image, atol=1e-9)


@given(COLOUR, UNIT)
def test_a_new_luminance_is_met_and_the_hue_stays(colour: tuple[float, float, float], luma: float) -> None:
    image = pixel(colour)
    result = combine(pixel((luma,)), chroma(image))
    assert ((result >= 0) & (result <= 1)).all()
    assert abs(float(luminance(result)) - luma) < 1e-9
    before, after = colorsys.rgb_to_hsv(*colour), colorsys.rgb_to_hsv(*result.flatten().tolist())
    if before[1] * before[2] > 1e-3 and after[1] * after[2] > 1e-3:
        turn = abs(before[0] - after[0])
        assert min(turn, 1 - turn) < 1e-3


@given(COLOUR, COLOUR)
def test_blended_chroma(first: tuple[float, float, float], second: tuple[float, float, float]) -> None:
    a, b = pixel(first), pixel(second)
    grey = pixel((0.5, 0.5, 0.5))
    blended = blend_chroma([a, b])
    assert torch.allclose(blended, blend_chroma([b, a]), atol=1e-9)
    assert torch.allclose(blend_chroma([a, grey]), chroma(a), atol=1e-6)
    low, high = torch.minimum(chroma(a), chroma(b)), torch.maximum(chroma(a), chroma(b))
    assert ((blended >= low - 1e-9) & (blended <= high + 1e-9)).all()
    assert abs(float(luminance(blended))) < 1e-9


def test_grey_has_no_chroma() -> None:
    grey = torch.rand(1, 1, 4, 5).expand(1, 3, 4, 5)
    assert chroma(grey).abs().max() < 1e-6
    assert blend_chroma([grey, grey]).abs().max() < 1e-6


@given(COLOUR, st.sampled_from([0.0, 1.0]), st.floats(0.1, 0.5))
def test_colour_is_given_room_in_black_and_white(
    colour: tuple[float, float, float], luma: float, least: float
) -> None:
    """The hue is there, with that share of the chroma at least; where there is no chroma nothing moves."""
    image = pixel(colour)
    result = combine(pixel((luma,)), chroma(image), least)
    assert ((result >= 0) & (result <= 1)).all()
    assert (chroma(result) - least * chroma(image)).abs().max() < 1e-9
    grey = combine(pixel((luma,)), chroma(pixel((0.4, 0.4, 0.4))), least)
    assert (grey - luma).abs().max() < 1e-9


@given(COLOUR, UNIT, UNIT)
def test_chroma_is_kept_where_nothing_is_brightened(
    colour: tuple[float, float, float], own: float, luma: float
) -> None:
    image = pixel(colour).expand(1, 3, 8, 8)
    kept = chroma_kept(chroma(image), torch.full((1, 1, 8, 8), own), torch.full((1, 1, 8, 8), luma), 0.04)
    assert ((kept >= 0) & (kept <= 1)).all()
    if luma <= own:
        assert (kept == 1).all()


def test_brightened_noise_loses_its_colour_and_a_colour_keeps_it() -> None:
    """Against Wiener's rule, signal / (signal + noise), for a colour of known size in known noise."""
    torch.manual_seed(0)
    dark, bright = torch.full((1, 1, 96, 96), 0.02), torch.full((1, 1, 96, 96), 0.6)
    noise = chroma(0.03 * torch.randn(1, 3, 96, 96))
    tint = chroma(torch.tensor([0.1, 0.0, 0.05]).reshape(1, 3, 1, 1).expand(1, 3, 96, 96))

    def kept(seen: Tensor) -> float:
        return float(chroma_kept(seen, dark, bright, 0.0)[..., 16:80, 16:80].mean())

    brightened = 1 - 0.02 / 0.6
    wiener = tint.square().sum(1).mean() / (tint.square().sum(1).mean() + noise.square().sum(1).mean())
    assert abs(kept(tint + noise) - (1 - brightened * (1 - float(wiener)))) < 0.02
    assert kept(noise) < 0.1
    assert kept(tint) > 0.999
