"""What holds for every metric: shapes, batches, colour, symmetry, bounds, refusals, degenerate images."""

from __future__ import annotations

from math import inf, isnan, nan

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ddfm.errors import InputError
from ddfm.metrics import METRICS, Metric, evaluate, to_grey
from tests.conftest import examples
from tests.metrics.pictures import constant, picture, triple

EVERY = pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
LEAST = {
    **dict.fromkeys(("SF", "AG", "Avg_gradient", "Spatial_frequency", "Nabf"), 2),
    **dict.fromkeys(("FMI",), 3),
    **dict.fromkeys(("SSIM_dr2", "SSIM_dr255", "Qy"), 7),
    **dict.fromkeys(("Q0", "Qs", "Qw", "Qe"), 8),
    "Ssim": 11,
    **dict.fromkeys(("VIF", "VIFF", "MEF_SSIM"), 41),
    "MS_SSIM": 176,
}
OF_FUSED = (
    "EN",
    "SD",
    "SF",
    "AG",
    "Avg_gradient",
    "Edge_intensity",
    "Entropy",
    "Spatial_frequency",
    "Variance",
)

COMPARING = pytest.mark.parametrize(
    "metric", [m for m in METRICS.values() if m.name not in OF_FUSED], ids=lambda metric: metric.name
)


def size_for(metric: Metric) -> int:
    return max(LEAST.get(metric.name, 1), 44)


@EVERY
def test_a_batch_gives_what_its_images_give_alone(metric: Metric) -> None:
    side = size_for(metric)
    triples = [triple(side, side + 3, seed) for seed in (0, 10, 20)]
    a, b, f = (torch.cat(images) for images in zip(*triples, strict=True))
    together = metric.compute(a, b, f)
    assert together.shape == (3,)
    assert together.dtype == torch.float64
    alone = torch.cat([metric.compute(*images) for images in triples])
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)


@EVERY
def test_one_pair_of_sources_stands_against_a_batch(metric: Metric) -> None:
    side = size_for(metric)
    a, b, f = triple(side, side)
    fused = torch.cat([f, picture(5, side, side)])
    twice = metric.compute(torch.cat([a, a]), torch.cat([b, b]), fused)
    torch.testing.assert_close(metric.compute(a, b, fused), twice, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", sorted(set(METRICS) - {"Spatial_frequency"}))  # it has seams: its own test
def test_colour_is_the_mean_of_the_channels(name: str) -> None:
    metric = METRICS[name]
    side = size_for(metric)
    triples = [triple(side, side, seed) for seed in (0, 10, 20)]
    a, b, f = (torch.cat(images, 1) for images in zip(*triples, strict=True))
    separate = torch.stack([metric.compute(*images) for images in triples]).mean(0)
    torch.testing.assert_close(metric.compute(a, b, f), separate, rtol=1e-12, atol=1e-12)
    grey_a = a[:, :1]
    repeated = metric.compute(grey_a.expand_as(a), b, f)
    torch.testing.assert_close(metric.compute(grey_a, b, f), repeated, rtol=1e-12, atol=1e-12)


@EVERY
def test_bytes_and_floats_agree_and_inputs_stay_as_they_were(metric: Metric) -> None:
    side = size_for(metric)
    images = triple(side, side)
    before = [image.clone() for image in images]
    as_bytes = metric.compute(*(image.to(torch.uint8) for image in images))
    torch.testing.assert_close(as_bytes, metric.compute(*images), rtol=0, atol=0)
    torch.testing.assert_close(as_bytes, metric.compute(*(image.float() for image in images)), rtol=0, atol=0)
    assert all(torch.equal(image, old) for image, old in zip(images, before, strict=True))


@EVERY
def test_the_order_of_the_sources_does_not_matter(metric: Metric) -> None:
    side = size_for(metric)
    a, b, f = triple(side, side)
    torch.testing.assert_close(metric.compute(a, b, f), metric.compute(b, a, f), rtol=1e-12, atol=1e-12)


@given(
    seed=st.integers(0, 10**6),
    levels=st.sampled_from((2, 16, 256)),
    kind=st.sampled_from(("mean", "copy", "unrelated", "inverse", "black", "noise")),
)
@examples(30)
def test_values_stay_in_the_declared_range(seed: int, levels: int, kind: str) -> None:
    a, b = picture(seed, 42, 45, levels), picture(seed + 1, 42, 45, levels)
    noise = torch.randint(0, 256, a.shape, generator=torch.Generator().manual_seed(seed)).double()
    fused = {
        "mean": ((a + b) / 2).round(),
        "copy": a,
        "unrelated": picture(seed + 2, 42, 45),
        "inverse": 255 - a,
        "black": torch.zeros_like(a),
        "noise": noise,
    }[kind]
    for metric in METRICS.values():
        if metric.name == "MS_SSIM":  # wants larger images: its bounds have their own test
            continue
        value, (low, high) = metric.compute(a, b, fused).item(), metric.range
        assert not isnan(value), metric.name
        assert low - 1e-9 <= value <= high + 1e-9, metric.name


@EVERY
def test_too_small_images_are_refused_by_name_and_size(metric: Metric) -> None:
    least = LEAST.get(metric.name, 1)
    values = metric.compute(*(picture(seed, least, least + 5) for seed in range(3)))
    assert not values.isnan().any()
    if least > 1:
        message = rf"needs images of at least {least}x{least} pixels; these have {least + 5}x{least - 1}"
        with pytest.raises(InputError, match=message):
            metric.compute(*(picture(seed, least - 1, least + 5) for seed in range(3)))


@EVERY
@pytest.mark.parametrize("bad", [nan, inf, -inf, -1.0, 255.5])
def test_a_fused_image_with_values_that_are_no_grey_levels_is_refused(metric: Metric, bad: float) -> None:
    a, b, f = triple(176, 176)
    f[0, 0, 3, 4] = bad
    with pytest.raises(InputError, match=r"finite and within 0\.\.255"):
        metric.compute(a, b, f)


@COMPARING
@pytest.mark.parametrize("bad", [nan, inf, -inf, -1.0, 255.5])
@pytest.mark.parametrize("place", ["a", "b"])
def test_sources_with_values_that_are_no_grey_levels_are_refused(
    metric: Metric, bad: float, place: str
) -> None:
    images = dict(zip("abf", triple(176, 176), strict=True))
    images[place][0, 0, 3, 4] = bad
    with pytest.raises(InputError, match=r"finite and within 0\.\.255"):
        metric.compute(images["a"], images["b"], images["f"])


@COMPARING
def test_images_that_do_not_fit_together_are_refused(metric: Metric) -> None:
    a, b, f = triple(176, 180)
    with pytest.raises(InputError, match="differ in size"):
        metric.compute(a, b, f[..., :179])
    with pytest.raises(InputError, match="do not match"):
        metric.compute(a, torch.cat([b, b]), torch.cat([f, f, f]))
    with pytest.raises(InputError, match="batch, channels, height, width"):
        metric.compute(a, b, f[0])


CONSTANT = {
    **dict.fromkeys(("EN", "SD", "SF", "AG", "MI", "MSE", "CC", "SCD", "VIF"), 0.0),
    **dict.fromkeys(("Avg_gradient", "Cross_entropy", "Edge_intensity", "Entropy", "Mutinf", "Qcb"), 0.0),
    **dict.fromkeys(("Qcv", "Rmse", "Spatial_frequency", "Variance", "NMI", "Qw", "Qe", "Nabf"), 0.0),
    **dict.fromkeys(("FMI", "Q0", "Qs", "Qy", "VIFF", "MEF_SSIM"), 1.0),
    **dict.fromkeys(("SSIM_dr2", "SSIM_dr255", "Ssim", "MS_SSIM"), 2.0),
    **dict.fromkeys(("PSNR", "Psnr"), inf),
}


@EVERY
@pytest.mark.parametrize("level", [100.0, 77.3])
def test_three_equal_constant_images(metric: Metric, level: float) -> None:
    value = metric.compute(*(constant(level, 176, 176) for _ in range(3))).item()
    if metric.name == "Qabf":  # the zeros around the image make edges of their own, perfectly kept
        assert value == pytest.approx(0.9994 * 0.9879, abs=0.02)
    else:
        # Rounding moves a local variance by 1e-11, next to C2 = 0.0036 of SSIM with L = 2.
        assert value == pytest.approx(CONSTANT[metric.name], abs=1e-8)


@EVERY
def test_black_images_and_constant_fusions_have_values(metric: Metric) -> None:
    black, grey = constant(0, 176, 176), constant(90, 176, 176)
    a, b, _ = triple(176, 176)
    for images in (
        (black, black, black),
        (black, black, grey),
        (a, b, black),
        (a, b, grey),
        (black, grey, a),
    ):
        assert not metric.compute(*images).isnan().any()


COPY = {
    **dict.fromkeys(("MSE", "Cross_entropy", "Qcv", "Rmse", "Nabf", "SCD"), 0.0),
    **dict.fromkeys(("CC", "Qcb", "FMI", "Q0", "Qs", "Qw", "Qe", "Qy", "VIFF"), 1.0),
    **dict.fromkeys(("VIF", "SSIM_dr2", "SSIM_dr255", "Ssim", "MS_SSIM", "NMI"), 2.0),
    **dict.fromkeys(("PSNR", "Psnr"), inf),
}


@pytest.mark.parametrize("name", COPY)
def test_a_copy_of_two_equal_sources_is_perfect(name: str) -> None:
    a = picture(1, 176, 180)
    assert METRICS[name].compute(a, a, a).item() == pytest.approx(COPY[name], abs=1e-6)


@pytest.mark.parametrize("name", sorted(set(COPY) - {"SCD", "VIFF"}))  # VIFF takes a spike for contrast
def test_one_pixel_takes_perfection_away(name: str) -> None:
    a = picture(1, 176, 180)
    f = a.clone()
    f[0, 0, 90, 60] = 255 - f[0, 0, 90, 60]
    metric = METRICS[name]
    value = metric.compute(a, a, f).item()
    assert value < COPY[name] if metric.higher_is_better else value > COPY[name]


def test_evaluate_gives_the_columns_of_its_convention() -> None:
    a, b, f = triple()
    paper, vifb = evaluate(a, b, f), evaluate(a, b, f, "vifb")
    names = "EN SD SF AG MI MSE PSNR CC SCD VIF Qabf SSIM_dr2 SSIM_dr255"
    assert list(paper) == names.split()
    assert len(vifb) == 13
    assert set(paper) & set(vifb) == {"Qabf"}
    assert list(evaluate(a, b, f, metrics=["Qw", "FMI"])) == ["Qw", "FMI"]


def test_paper_measures_grey_and_vifb_the_channels() -> None:
    a, b, f = (torch.cat([picture(seed + k, 44, 47) for k in range(3)], 1) for seed in (0, 10, 20))
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    grey = [(weights * image.float()).sum(1, keepdim=True).round() for image in (a, b, f)]
    assert evaluate(a, b, f, "paper")["SD"].item() == grey[2].double().std(correction=0).item()
    expected = f[0].flatten(1).std(1, correction=0).mean().item()
    assert evaluate(a, b, f, "vifb")["Variance"].item() == pytest.approx(expected, rel=1e-12)


def test_equal_channels_make_the_same_grey() -> None:
    grey = torch.arange(256.0).view(1, 1, 16, 16)
    assert torch.equal(to_grey(grey.expand(1, 3, 16, 16)), grey)
    assert to_grey(grey) is grey


@pytest.mark.parametrize(
    ("arguments", "message"), [({"convention": "mef"}, "mef"), ({"metrics": ["XX"]}, "XX")]
)
def test_unknown_names_are_refused(arguments: dict[str, object], message: str) -> None:
    a, b, f = triple()
    with pytest.raises(InputError, match=f"unknown.*{message}.*known: "):
        evaluate(a, b, f, **arguments)  # type: ignore[arg-type]


def test_complex_images_are_refused() -> None:
    image: Tensor = constant(1).to(torch.complex64)
    with pytest.raises(InputError, match="real"):
        METRICS["EN"].compute(image, image, image)
