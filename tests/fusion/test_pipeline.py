from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as PILImage

import ddfm
from ddfm import InputError, fuse
from ddfm.devices import is_fast_at_bfloat16
from ddfm.formats.pictures import read_image
from ddfm.fusion.sources import Source
from ddfm.likelihoods.forms import FORMS
from ddfm.likelihoods.tasks import TASKS
from ddfm.pictures.colour import chroma, luminance
from ddfm.priors.base import Prior
from ddfm.priors.loading import load_prior
from ddfm.sampling.draw import WARM_END, WARM_START
from ddfm.sampling.loop import Step
from ddfm.sampling.schedulers import SCHEDULERS
from tests.conftest import examples, picture


@pytest.fixture(scope="module")
def prior() -> Prior:
    return load_prior()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [(16, 16), (17, 31), (64, 48), (33, 130)])
def test_any_size_and_every_form(prior: Prior, form: str, size: tuple[int, int]) -> None:
    a, b = picture(*size, 1, np.uint8, 1), picture(*size, 3, np.uint8, 2)
    result = fuse(a, b, prior=prior, form=form, steps=2)
    assert (result.to_array().shape, result.to_array().dtype.name) == ((*size, 3), "uint8")
    assert result.settings["form"] == form


@pytest.mark.parametrize("form", ["ddfm", "paper"])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_the_same_seed_gives_the_same_bytes(prior: Prior, scheduler: str, form: str) -> None:
    a, b = picture(40, 56, 1, np.uint8, 1), picture(40, 56, 1, np.uint8, 2)
    first, second, other = (
        fuse(a, b, prior=prior, form=form, scheduler=scheduler, steps=4, seed=seed).to_array()
        for seed in (1, 1, 2)
    )
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_paper_result_lies_between_the_sources(prior: Prior) -> None:
    """At its last step x is a weighted mean of 0 and y, up to the splitting's tiny penalty."""
    a, b = picture(48, 64, 1, np.uint8, 1).astype(int), picture(48, 64, 1, np.uint8, 2).astype(int)
    fused = (
        fuse(a.astype(np.uint8), b.astype(np.uint8), prior=prior, form="paper", steps=3)
        .to_array()
        .astype(int)
    )
    assert (fused >= np.minimum(a, b) - 1).all()
    assert (fused <= np.maximum(a, b) + 1).all()


def test_identical_sources_come_back(prior: Prior) -> None:
    a = picture(48, 64, 1, np.uint16, 1)
    fused = fuse(a, a, prior=prior, form="paper", steps=10).to_array()
    assert fused.dtype == np.uint16
    assert np.abs(fused.astype(int) - a).mean() < 0.002 * 65535


def test_colour_in_colour_out_and_the_luminance_is_fused(prior: Prior) -> None:
    thermal, visible = picture(48, 64, 1, np.uint8, 1), picture(48, 64, 3, np.uint8, 2)
    fused = torch.from_numpy(fuse(thermal, visible, prior=prior, steps=3).image.pixels).movedim(-1, 0)
    source = torch.from_numpy(visible).movedim(-1, 0) / 255
    grey = fuse(thermal, np.asarray(luminance(source)[0]), prior=prior, steps=3).image
    assert not grey.is_colour
    assert torch.allclose(luminance(fused)[0], torch.from_numpy(grey.pixels[..., 0]), atol=1e-4)
    along = (chroma(fused) * chroma(source)).sum(0) / (chroma(fused).norm(dim=0) * chroma(source).norm(dim=0))
    strong = (chroma(fused).norm(dim=0) > 0.02) & (chroma(source).norm(dim=0) > 0.02)
    assert strong.float().mean() > 0.3
    assert along[strong].min() > 0.999  # the same hue everywhere


def test_grey_stays_grey(prior: Prior) -> None:
    a = picture(32, 32, 1, np.uint8, 1)
    result = fuse(
        np.dstack([a] * 3),
        PILImage.fromarray(picture(32, 32, 1, np.uint8, 2)).convert("RGB"),
        prior=prior,
        steps=1,
    )
    assert not result.image.is_colour
    assert result.image.to_array().shape == (32, 32)
    assert (result.to_array() == result.image.to_array()[..., None]).all()
    assert result.to_array().shape == (32, 32, 3)  # as the first source, whose channels are equal


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_depth_is_the_first_sources(prior: Prior, dtype: type) -> None:
    a, b = picture(32, 32, 1, dtype, 1), picture(32, 32, 3, np.uint8, 2)
    assert fuse(a, b, prior=prior, steps=1).to_array().dtype == dtype


def test_alpha_is_put_back_and_left_out(prior: Prior) -> None:
    a, b = picture(32, 40, 1, np.uint8, 1), picture(32, 40, 4, np.uint8, 2)
    with_alpha = fuse(a, b, prior=prior, steps=2).to_array()
    assert np.array_equal(with_alpha[..., 3], b[..., 3])
    assert np.array_equal(with_alpha[..., :3], fuse(a, b[..., :3], prior=prior, steps=2).to_array())


def test_every_kind_of_source(prior: Prior, tmp_path: Path) -> None:
    a, b = picture(32, 40, 1, np.uint8, 1), picture(32, 40, 3, np.uint8, 2)
    PILImage.fromarray(a).save(tmp_path / "a.png")
    reference = fuse(a, b, prior=prior, steps=1).to_array()
    kinds: list[Source] = [
        str(tmp_path / "a.png"),
        tmp_path / "a.png",
        PILImage.fromarray(a),
        torch.from_numpy(a)[None],
    ]
    for kind in [*kinds, read_image(tmp_path / "a.png")]:
        fused = fuse(kind, torch.from_numpy(b).movedim(-1, 0), prior=prior, steps=1)
        assert np.array_equal(fused.image.to_array(), reference)
        assert np.array_equal(fused.to_array(), reference.transpose(2, 0, 1))
    with pytest.raises(InputError, match="a int is not a path"):
        fuse(3, b, prior=prior)  # type: ignore[arg-type]


def test_sizes_that_differ(prior: Prior) -> None:
    a, b = picture(32, 40, 1, np.uint8, 1), picture(64, 80, 3, np.uint8, 2)
    with pytest.raises(
        InputError, match=r"40x32 and second source is 80x64|is 40x32 and .* is 80x64 pixels.*--resize"
    ):
        fuse(a, b, prior=prior)
    resized = fuse(a, b, prior=prior, steps=1, resize=True)
    assert resized.image.size == (64, 80)  # the colour source's


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"form": "best"}, "form 'best': not one of ddfm, paper, released"),
        ({"scheduler": "euler"}, "scheduler 'euler': not one of ddim, ddpm"),
        ({"steps": -1}, "steps -1: not within 0 to 1000 for form ddfm"),
        ({"steps": 1001}, "steps 1001: not within 0 to 1000 for form ddfm"),
        ({"steps": 0, "form": "paper"}, "steps 0: not within 1 to 1000 for form paper"),
        ({"steps": 0, "form": "released"}, "steps 0: not within 1 to 1000 for form released"),
        ({"task": "astronomy"}, "task 'astronomy': not one of auto, infrared, medical"),
        ({"stretch": "full"}, "stretch 'full': not one of auto, none"),
        ({"noise": "some"}, "noise 'some': not auto, off or a level"),
        ({"noise": [10.0]}, r"noise \[10.0\]: not 2 levels, one for each source"),
        ({"noise": [1.0, 2.0, 3.0]}, "not 2 levels"),
        ({"noise": [-1.0, 2.0]}, "not 2 levels"),
        ({"noise": [1.0, float("nan")]}, "not 2 levels"),
        ({"noise": [1.0, 255.0]}, "not 2 levels"),
        ({"noise": 10.0}, "noise 10.0: not 2 levels"),
        ({"tile": "small"}, "tile small: not auto, off or a side of at least 64 pixels"),
        ({"tile": 63}, "tile 63: not auto, off or a side of at least 64"),
        ({"tile": 100.0}, "tile 100.0: must be auto, off or a side"),
        ({"seed": -1}, "seed -1: not within 0 to"),
        ({"seed": 2**63}, "not within 0 to"),
        ({"dtype": "int8"}, "dtype 'int8': not one of float32"),
        ({"device": "abacus"}, "device 'abacus': not available here"),
        ({"prior": "unnatural"}, "unnatural: no such prior"),
    ],
)
def test_unknown_options(option: dict[str, Any], message: str) -> None:
    a = picture(16, 16, 1, np.uint8, 1)
    with pytest.raises(InputError, match=message):
        fuse(a, a, **option)


def test_an_rgb_prior_with_learned_variance(tiny_prior: Path) -> None:
    a, b = picture(36, 44, 1, np.uint8, 1), picture(36, 44, 3, np.uint8, 2)
    seen: list[Step] = []
    for form in FORMS:
        assert fuse(a, b, prior=tiny_prior, form=form, steps=2, callback=seen.append).to_array().shape == (
            36,
            44,
            3,
        )
    assert [step.index for step in seen] == [0, 1] * len(FORMS)


def test_bfloat16_is_close(prior: Prior) -> None:
    a, b = picture(48, 64, 1, np.uint8, 1), picture(48, 64, 1, np.uint8, 2)
    single, half, again = (
        fuse(a, b, prior=prior, form="released", steps=5, dtype=dtype).to_array().astype(int)
        for dtype in ("float32", "bfloat16", "float32")
    )
    assert np.abs(single - half).max() > 0
    assert np.abs(single - half).mean() < 4
    assert np.array_equal(single, again)  # the prior that was given has not been rounded


@pytest.mark.parametrize("fast", [True, False])
def test_bfloat16_where_it_is_fast_and_rounding_cannot_grow(
    prior: Prior, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ddfm.devices.is_fast_at_bfloat16", lambda device: fast)
    a, b = picture(32, 40, 1, np.uint8, 1), picture(32, 40, 1, np.uint8, 2)
    for form in FORMS:
        used = "bfloat16" if fast and form == "ddfm" else "float32"
        auto, named = (
            fuse(a, b, prior=prior, form=form, steps=2, device="cpu", dtype=dtype) for dtype in ("auto", used)
        )
        assert auto.settings["dtype"] == used
        assert np.array_equal(auto.image.pixels, named.image.pixels)


def test_devices_that_are_fast_at_bfloat16() -> None:
    """Against what Linux says of the processor."""
    assert not is_fast_at_bfloat16(torch.device("mps"))
    flags = Path("/proc/cpuinfo").read_text().split() if Path("/proc/cpuinfo").exists() else []
    if hasattr(torch.cpu, "get_capabilities"):
        assert is_fast_at_bfloat16(torch.device("cpu")) == bool({"avx512_bf16", "amx_bf16"} & set(flags))


# --- Form ddfm: steps, noise, stretch ------------------------------------------------------------


def noisy(image: NDArray[Any], grey_levels: float, seed: int) -> NDArray[Any]:
    noise = np.random.default_rng(seed).normal(0, grey_levels, image.shape)
    return np.rint(image + noise).clip(0, 255).astype(np.uint8)


def never() -> Prior:
    raise AssertionError("the prior was loaded though it is not needed")


@pytest.mark.parametrize("size", [(16, 16), (16, 75), (41, 17)])
@pytest.mark.parametrize("steps", [0, 2])
def test_the_smallest_sizes(prior: Prior, size: tuple[int, int], steps: int) -> None:
    rng = np.random.default_rng(1)
    a, b = (rng.integers(0, 256, (*size, 3), np.uint8) for _ in range(2))
    for noise in ("auto", "off", [9.0, 9.0]):
        fused = fuse(a, b, prior=prior, steps=steps, noise=noise).to_array()
        assert (fused.shape, fused.dtype.name) == (b.shape, "uint8")


@pytest.mark.parametrize("noise", ["auto", "off"])
def test_no_steps_need_no_network(noise: str) -> None:
    code = f"""if True:
        import sys, numpy as np, ddfm
        a = np.add.outer(np.arange(40), 3 * np.arange(50)).astype(np.uint8)
        result = ddfm.fuse(a, a.T.reshape(40, 50), steps=0, noise={noise!r})
        assert result.settings["prior"] is None
        sys.exit("diffusers" in sys.modules)"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_prior_is_loaded_when_it_is_needed(prior: Prior) -> None:
    calls = []

    def load() -> Prior:
        calls.append(1)
        return prior

    a, b = picture(96, 128, 1, np.uint8, 1), picture(96, 128, 3, np.uint8, 2)
    clean = fuse(a, b, prior=never, steps=0)
    assert (clean.settings["prior"], clean.settings["denoised"]) == (None, [0, 0])
    told = fuse(noisy(a, 12, 1), noisy(b, 12, 2), prior=load, steps=0)
    assert (told.settings["prior"], len(calls)) == ("natural", 1)
    assert fuse(a, b, prior=load, steps=1).settings["prior"] == "natural"
    assert len(calls) == 2
    fuse(noisy(a, 12, 1), noisy(b, 12, 2), prior=never, steps=0, noise="off")
    fuse(noisy(a, 12, 1), b, prior=never, steps=0, noise=[0, 0.0])
    with pytest.raises(InputError, match="unnatural: no such prior"):
        fuse(noisy(a, 12, 1), b, prior="unnatural", steps=0)


def test_more_steps_than_a_warm_start_leaves_are_refused(prior: Prior) -> None:
    a = picture(16, 16, 1, np.uint8, 1)
    room = int(((prior.sigmas >= WARM_END) & (prior.sigmas < WARM_START)).sum()) + 1
    with pytest.raises(InputError, match=f"steps {room + 1}: the prior natural has only {room} timesteps"):
        fuse(a, a, prior=prior, steps=room + 1)


def test_a_warm_start_is_what_the_sources_say_and_noise(prior: Prior) -> None:
    """Float pictures of little contrast, so that nothing is clipped or rounded."""
    a, b = (0.4 + 0.2 * picture(48, 64, 1, np.uint8, seed).astype(np.float32) / 255 for seed in (1, 2))
    seen: list[Step] = []
    fuse(a, b, prior=prior, seed=7, dtype="float32", callback=seen.append)
    alone = fuse(a, b, prior=never, steps=0, stretch="none").image.pixels[..., 0]
    start = 2 * torch.from_numpy(alone)[None, None] - 1
    first, last = seen[0].timestep, seen[-1].timestep
    assert len(seen) == 3
    assert prior.sigmas[first] < WARM_START <= prior.sigmas[first + 1]
    assert prior.sigmas[last] < WARM_END <= prior.sigmas[last + 1]
    noise = torch.randn(1, 1, 48, 64, generator=torch.Generator().manual_seed(7))
    expected = prior.denoise(start + float(prior.sigmas[first]) * noise, prior.sigmas[first])
    assert torch.allclose(seen[0].prediction, expected.clamp(-1, 1), rtol=0, atol=1e-3)


def test_settings_say_what_was_done(prior: Prior) -> None:
    a, b = picture(96, 128, 1, np.uint8, 1), picture(96, 128, 3, np.uint8, 2)
    given = fuse(a, b, prior=prior, steps=1, noise=[10, 2.5], stretch="none", task="medical").settings
    assert given["noise"] == given["denoised"] == [10, 2.5]
    assert (given["stretch"], given["task"], given["steps"]) == ("none", "medical", 1)
    found = fuse(noisy(a, 12, 1), b, prior=prior, steps=0).settings
    assert found["noise"][0] == pytest.approx(12, rel=0.15)  # and rounding, and clipping
    assert found["denoised"] == [found["noise"][0], 0]
    assert found["noise"][1] < 3
    older = fuse(a, b, prior=prior, form="paper", steps=1).settings
    assert (older["noise"], older["stretch"], older["form"]) == ([0, 0], "auto", "paper")


def test_contrast_is_raised_about_the_mean_or_not_at_all() -> None:
    """Float pictures of little contrast, so that nothing is clipped or rounded."""
    a, b = (0.4 + 0.2 * picture(48, 64, 1, np.uint8, seed).astype(np.float32) / 255 for seed in (1, 2))
    plain, raised = (fuse(a, b, steps=0, prior=never, stretch=s).to_array() for s in ("none", "auto"))
    gain = raised.std() / plain.std()
    assert 1 < gain <= TASKS["infrared"].stretch  # as far as both have something to say
    assert np.allclose(raised, plain.mean() + gain * (plain - plain.mean()), atol=1e-5)
    medical = [fuse(a, b, steps=0, prior=never, task="medical", stretch=s) for s in ("none", "auto")]
    assert np.allclose(medical[0].to_array(), medical[1].to_array(), atol=1e-6)


def test_noise_of_a_colour_source_leaves_its_chroma_too(prior: Prior) -> None:
    thermal, visible = picture(96, 128, 1, np.uint8, 1), picture(96, 128, 3, np.uint8, 2)

    def chroma_of(source: NDArray[Any], noise: str) -> torch.Tensor:
        result = fuse(thermal, source, prior=prior, steps=0, noise=noise)  # type: ignore[arg-type]
        return chroma(torch.from_numpy(result.image.pixels).movedim(-1, 0))

    clean = chroma_of(visible, "off")
    left, cleaned = (chroma_of(noisy(visible, 20, 3), noise) - clean for noise in ("off", "auto"))
    assert cleaned.norm() < 0.5 * left.norm()


def test_results_are_saved(prior: Prior, tmp_path: Path) -> None:
    result = fuse(picture(20, 24, 1, np.uint8, 1), picture(20, 24, 3, np.uint8, 2), prior=prior, steps=1)
    result.save(tmp_path / "new" / "fused.png")
    assert np.array_equal(np.asarray(PILImage.open(tmp_path / "new" / "fused.png")), result.to_array())
    with pytest.raises(InputError, match="unknown output format"):
        result.save(tmp_path / "fused.xyz")


def test_the_package_imports_lazily() -> None:
    assert ddfm.fuse is fuse
    with pytest.raises(AttributeError):
        _ = ddfm.nothing


def test_without_the_stretch_exposures_keep_their_knee() -> None:
    """Beyond the knee the luminance is bent, whether contrast may be raised or not."""
    bright = np.full((48, 64), 250, np.uint8)
    options: dict[str, Any] = {"task": "exposure", "steps": 0, "noise": "off", "stretch": "none"}
    knee, level = 0.85, 2 / 255
    bent = knee + (1 - knee - level) * math.tanh((2 * 250 / 255 - 1 - knee) / (1 - knee))
    assert np.array_equal(
        fuse(bright, bright, **options).to_array(), np.full_like(bright, round(255 * (bent + 1) / 2))
    )
    dark, light = (245 + picture(48, 64, 1, np.uint8, seed) // 26 for seed in (1, 2))
    for stretch in ("auto", "none"):
        assert fuse(dark, light, **{**options, "stretch": stretch}).to_array().max() < 255


def stack(count: int, seed: int = 0, channels: int = 3) -> list[NDArray[Any]]:
    return [picture(40, 52, channels, np.uint8, seed + k) for k in range(count)]


@pytest.mark.parametrize("task", ["infrared", "medical", "exposure", "focus"])
@pytest.mark.parametrize("steps", [0, 2])
def test_the_order_of_the_sources_does_not_matter_to_the_byte(prior: Prior, task: str, steps: int) -> None:
    sources = [*stack(3), picture(40, 52, 1, np.uint8, 9)]
    levels = [0.0, 12.0, 0.0, 4.0]
    fused = set()
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]):
        given, told = [sources[k] for k in order], [levels[k] for k in order]
        result = fuse(*given, prior=prior, steps=steps, task=task, noise=told)
        fused.add(result.image.to_array().tobytes())
        assert result.settings["denoised"] == told
    assert len(fused) == 1


@given(count=st.integers(2, 5), task=st.sampled_from(["infrared", "medical", "exposure", "focus"]))
@examples(12)
def test_equal_sources_are_left_alone(count: int, task: str) -> None:
    """However many there are: what all of them say is the answer (contrast and range left aside)."""
    ramp = np.tile(np.linspace(0.2, 0.7, 48, dtype=np.float32), (32, 1))
    fused = fuse(*[ramp] * count, steps=0, task=task, noise="off", stretch="none").to_array()
    assert np.abs(fused - ramp).max() < 2e-3


def test_a_third_source_counts(prior: Prior) -> None:
    """A detail that only the third source shows is in the result."""
    flat = np.full((48, 64), 90, np.uint8)
    marked = flat.copy()
    marked[20:28, 30:38] = 230
    without = fuse(flat, flat, steps=0, task="infrared").to_array().astype(int)
    fused = fuse(flat, flat, marked, steps=0, task="infrared").to_array().astype(int)
    assert (fused - without)[22:26, 32:36].min() > 80
    assert np.abs(fused - without)[:, :20].max() < 8


def test_colour_from(prior: Prior) -> None:
    red, blue = np.zeros((2, 32, 32, 3), np.uint8)
    red[...], blue[...] = (180, 60, 60), (60, 60, 180)
    grey = picture(32, 32, 1, np.uint8)
    fused = {k: fuse(red, blue, grey, steps=0, colour_from=k).to_array().mean((0, 1)) for k in (1, 2)}
    assert fused[1][0] - fused[1][2] > 60
    assert fused[2][2] - fused[2][0] > 60
    both = fuse(red, blue, grey, steps=0).to_array().mean((0, 1))
    assert abs(both[0] - both[2]) < 40
    with pytest.raises(InputError, match="colour from 3: third source is grey; name a source in colour"):
        fuse(red, blue, grey, steps=0, colour_from=3)
    for k in (0, 4):
        with pytest.raises(InputError, match=f"colour from {k}: not within 1 to 3"):
            fuse(red, blue, grey, steps=0, colour_from=k)


@pytest.mark.parametrize("steps", [0, 2])
@pytest.mark.parametrize("scheduler", ["ddim", "ddpm"])
def test_a_batch_gives_what_its_pictures_give_alone(prior: Prior, steps: int, scheduler: str) -> None:
    a, b = np.stack(stack(3, 0, 1)), np.stack(stack(3, 5))
    options: dict[str, Any] = {"prior": prior, "steps": steps, "scheduler": scheduler, "task": "infrared"}
    batch = fuse(a[:, None], b.transpose(0, 3, 1, 2), **options)
    assert batch.to_array().shape == (3, 3, 40, 52)
    assert batch.to_tensor().shape == (3, 3, 40, 52)
    for n in range(3):
        alone = fuse(a[n], b[n], **options).to_array()
        assert np.abs(batch.to_array()[n].transpose(1, 2, 0).astype(int) - alone).max() <= 1
    with pytest.raises(InputError, match="holds 3 pictures: use images"):
        _ = batch.image


def test_batches_that_differ(prior: Prior) -> None:
    a = np.stack(stack(3))
    with pytest.raises(InputError, match="the sources hold 3, 2 pictures; all need as many as the first"):
        fuse(a, a[:2], steps=0)
    with pytest.raises(InputError, match=r"first source, picture 1 is 52x40 and .* is 50x40 pixels"):
        fuse(a, a[:, :, :50], steps=0)


@pytest.mark.parametrize("form", ["paper", "released"])
def test_the_older_forms_take_two(prior: Prior, form: str) -> None:
    with pytest.raises(InputError, match=f"form {form}: is for two sources, 3 are given"):
        fuse(*stack(3), prior=prior, form=form)


def test_medical_is_never_guessed_silently(caplog: pytest.LogCaptureFixture) -> None:
    slices = np.zeros((2, 64, 64), np.uint8)
    slices[0, 16:48, 16:48], slices[1, 20:40, 24:50] = picture(32, 32, 1, np.uint8), 140
    with caplog.at_level("INFO", logger="ddfm"):
        result = fuse(*slices, steps=0)
    assert result.settings["task"] == "medical"
    assert "black in all sources" in result.settings["why"]
    assert any(r.levelname == "WARNING" and "task medical" in r.getMessage() for r in caplog.records)
    assert fuse(*slices, steps=0, task="infrared").settings["why"] == ""


def test_the_balance_knows_the_thermal_source() -> None:
    """The grey one beside one in colour, in whatever order; of two grey ones the first."""
    grey, colour = picture(40, 48, 1, np.uint8, 1), picture(40, 48, 3, np.uint8, 2)
    options: dict[str, Any] = {"steps": 0, "task": "infrared", "noise": "off"}
    for sources in ((grey, colour), (colour, grey)):
        thermal = fuse(*sources, balance=1, **options).to_array() @ np.array([0.299, 0.587, 0.114])
        assert np.abs(thermal - grey).max() <= 4
    assert np.array_equal(
        fuse(grey, colour, balance=0.3, **options).image.pixels,
        fuse(colour, grey, balance=0.3, **options).image.pixels,
    )
    other = picture(40, 48, 1, np.uint8, 3)
    assert np.abs(fuse(grey, other, balance=1, **options).to_array().astype(int) - grey).max() <= 4
    assert fuse(grey, other, balance=0.3, **options).settings["balance"] == 0.3
    for balance in (-0.1, 1.1, float("nan"), "half"):
        with pytest.raises(InputError, match="balance"):
            fuse(grey, other, balance=balance, **options)  # type: ignore[arg-type]
