from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from PIL import Image

from ddfm.errors import InputError
from ddfm.priors.diffusion import DiffusionPrior, timestep_of
from ddfm.priors.loading import load_prior
from ddfm.training.crops import Crops, central_crops, find_images
from ddfm.training.recipe import PriorRecipe, read_recipe
from ddfm.training.run import (
    DiffusionLoss,
    alpha_cumprod_at,
    build_prior,
    held_out_loss,
    learning_rate,
    train,
)
from tests.conftest import ROOT, Command, Poison, picture

SMALL = PriorRecipe(
    channels=(8, 16), norm_groups=4, crop=16, batch=4, steps=6, warmup_steps=2, ema_decay=0.9, bf16=False
)

PLAIN = replace(SMALL, norm_groups=0, even_below=50.0)


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = tmp_path / "photographs"
    folder.mkdir()
    for index in range(4):
        Image.fromarray(picture(40, 48, 3, np.uint8, index)).save(folder / f"{index}.jpg")
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = load_prior(folder / "prior").network.state_dict()
    return state


@pytest.mark.slow
def test_a_resumed_run_is_the_unbroken_run(photographs: Path, tmp_path: Path) -> None:
    images = find_images([photographs])
    train(images, tmp_path / "unbroken", SMALL, checkpoint_every=2)

    class StopError(Exception):
        pass

    def stop(record: dict[str, object]) -> None:
        if record["step"] == 4:
            raise StopError

    with pytest.raises(StopError):
        train(images, tmp_path / "broken", SMALL, checkpoint_every=2, progress=stop)
    with pytest.raises(InputError, match="holds a training run already"):
        train(images, tmp_path / "broken", SMALL)
    with pytest.raises(InputError, match="another recipe"):
        train(images, tmp_path / "broken", replace(SMALL, seed=1), resume=True)
    train(images, tmp_path / "broken", SMALL, checkpoint_every=2, resume=True)
    resumed = weights(tmp_path / "broken")
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in weights(tmp_path / "unbroken").items())
    losses = [
        [json.loads(line)["loss"] for line in (tmp_path / run / "log.jsonl").read_text().splitlines()]
        for run in ("unbroken", "broken")
    ]
    assert losses[0] == losses[1]


@pytest.mark.slow
def test_kill_at_any_moment_and_resume(photographs: Path, tmp_path: Path) -> None:
    """A process of its own is killed while it trains and writes; what it leaves can be resumed."""
    recipe = replace(SMALL, steps=400)
    script = (
        "import sys; from pathlib import Path; from dataclasses import replace;"
        "from ddfm.training.run import *; from ddfm.training.crops import find_images;"
        "from tests.training.test_run import SMALL;"
        "images = find_images([Path(sys.argv[1])]);"
        "train(images, Path(sys.argv[2]), replace(SMALL, steps=400), checkpoint_every=1,"
        "      progress=lambda record: print(record['step'], flush=True))"
    )
    run = tmp_path / "run"
    command = [sys.executable, "-c", script, str(photographs), str(run)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= 5:
                os.kill(process.pid, signal.SIGKILL)
                break
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    assert 5 <= state["step"] < 400
    shortened = replace(recipe, steps=state["step"] + 3)
    state["recipe"]["steps"] = shortened.steps
    torch.save(state, run / "checkpoint.pt")
    steps: list[int] = []
    train(
        find_images([photographs]),
        run,
        shortened,
        resume=True,
        progress=lambda record: steps.append(record["step"]),
    )
    assert steps == [shortened.steps]


@pytest.mark.slow
def test_two_processes_train_as_one(photographs: Path, tmp_path: Path) -> None:
    """torchrun with gloo: gradients averaged over two half batches are those of the whole batch."""
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        "channels = [8, 16]\nnorm_groups = 4\ncrop = 16\nbatch = 4\nsteps = 3\nwarmup_steps = 1\n"
        "bf16 = false\n"
    )
    arguments = ["-m", "ddfm.cli", "train", str(photographs), "--recipe", str(recipe), "--device", "cpu"]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for run, launcher in (("one", []), ("two", torchrun)):
        command = [sys.executable, *launcher, *arguments, "-o", str(tmp_path / run)]
        subprocess.run(command, check=True, env=environment, capture_output=True)
    two = weights(tmp_path / "two")
    assert all(
        torch.allclose(tensor, two[name], atol=1e-5) for name, tensor in weights(tmp_path / "one").items()
    )


@pytest.mark.slow
def test_training_lowers_the_loss_and_the_average_is_left(photographs: Path, tmp_path: Path) -> None:
    images = find_images([photographs])
    recipe = replace(SMALL, steps=60, learning_rate=3e-3)
    torch.manual_seed(recipe.seed)  # the weights that the run starts from
    untrained = held_out_loss(build_prior(recipe), central_crops(images, recipe.crop), recipe.batch)
    records: list[dict[str, Any]] = []
    train(images, tmp_path / "run", recipe, held_out=images, checkpoint_every=20, progress=records.append)
    assert [record["step"] for record in records] == [10, 20, 30, 40, 50, 60]
    assert [record["step"] for record in records if "held_out" in record] == [20, 40, 60]
    # 60 steps on four pictures, mostly at low noise: the first two quarters must have fallen for sure.
    assert records[-1]["held_out"][0] < 0.8 * untrained[0]
    assert records[-1]["held_out"][1] < 0.8 * untrained[1]
    for name, size in (("loss.png", (800, 500)), ("samples.png", (6 * 128, 128))):
        with Image.open(tmp_path / "run" / name) as drawn:
            assert drawn.size == size
    prior = load_prior(tmp_path / "run" / "prior")
    assert (prior.channels, prior.multiple, prior.pixel_unshuffle) == (1, 4, 2)


def test_the_end_of_a_run_is_moved_until_its_cooldown_begins(photographs: Path, tmp_path: Path) -> None:
    images, folder = find_images([photographs]), tmp_path / "run"
    recipe = replace(PLAIN, steps=4, cooldown_steps=1)

    class StopError(Exception):
        pass

    def stop(record: dict[str, object]) -> None:
        raise StopError

    with pytest.raises(StopError):
        train(images, folder, recipe, checkpoint_every=2, progress=stop)
    with pytest.raises(InputError, match="another recipe"):
        train(images, folder, replace(recipe, steps=6, learning_rate=1.0), resume=True)
    longer = replace(recipe, steps=6, cooldown_steps=2)
    train(images, folder, longer, checkpoint_every=5, resume=True)
    with pytest.raises(InputError, match="another recipe"):
        train(images, folder, replace(longer, steps=9), resume=True)
    train(images, tmp_path / "unbroken", longer)
    unbroken = weights(tmp_path / "unbroken")
    assert all(torch.equal(tensor, unbroken[name]) for name, tensor in weights(folder).items())


def random_prior(recipe: PriorRecipe) -> DiffusionPrior:
    """Before training, blocks return their input: here they do not."""
    prior = build_prior(recipe)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in prior.network.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return prior


def test_a_deeper_network_begins_as_a_shallower_one(photographs: Path, tmp_path: Path) -> None:
    images = find_images([photographs])
    shallow, deeper = random_prior(PLAIN), replace(PLAIN, layers_per_block=3, learning_rate=1e-12)
    begun = train(images, tmp_path / "run", deeper, begin_with=shallow)
    noisy = torch.randn(1, 1, 16, 24, generator=torch.Generator().manual_seed(1))
    for sigma in (0.05, 1.0):
        with torch.no_grad():
            expected = shallow.denoise(noisy, sigma)
            torch.testing.assert_close(begun.denoise(noisy, sigma), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "recipe",
    [
        SMALL,
        replace(PLAIN, channels=(8, 24)),
        replace(PLAIN, prediction_type="epsilon"),
        replace(PLAIN, layers_per_block=3),
    ],
    ids=["normalised", "wider", "of noise", "deeper"],
)
def test_priors_that_a_run_cannot_begin_with(recipe: PriorRecipe, photographs: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="begin with it"):
        train(
            find_images([photographs]),
            tmp_path / "run",
            replace(PLAIN, layers_per_block=2),
            begin_with=build_prior(recipe),
        )
    assert not (tmp_path / "run").exists()


def test_cosine_schedule_and_noise_prediction(photographs: Path, tmp_path: Path) -> None:
    recipe = replace(SMALL, beta_schedule="squaredcos_cap_v2", prediction_type="epsilon", steps=2)
    train(find_images([photographs]), tmp_path / "run", recipe)
    prior = load_prior(tmp_path / "run" / "prior")
    assert prior.prediction_type == "epsilon"
    cosine = DDPMScheduler(beta_schedule="squaredcos_cap_v2").alphas_cumprod.double()
    assert torch.allclose(prior.alphas_cumprod, cosine, rtol=1e-4)
    assert prior.denoise(torch.zeros(1, 1, 16, 16), 0.1).isfinite().all()


def test_batches_depend_on_seed_and_step_alone(photographs: Path) -> None:
    sigmas = build_prior(SMALL).sigmas
    first, second = (Crops(find_images([photographs]), SMALL, sigmas) for _ in range(2))
    first.batch(0)
    for ours, theirs in zip(first.batch(7), second.batch(7), strict=True):
        assert torch.equal(ours, theirs)
    assert not torch.equal(first.batch(7)[0], first.batch(8)[0])
    clean, timesteps, noise = first.batch(3)
    assert clean.shape == noise.shape == (4, 1, 16, 16)
    assert clean.abs().max() <= 1
    assert ((timesteps >= 0) & (timesteps <= 999)).all()


def test_low_noise_share(photographs: Path) -> None:
    recipe = replace(SMALL, low_noise=1.0, low_noise_range=(5.0, 20.0), batch=64)
    sigmas = build_prior(recipe).sigmas
    _, timesteps, _ = Crops(find_images([photographs]), recipe, sigmas).batch(0)
    abar = alpha_cumprod_at(timesteps, sigmas)
    levels = ((1 - abar) / abar).sqrt() * 127.5
    assert levels.min() > 4.99
    assert levels.max() < 20.01


def test_noise_levels_between_timesteps() -> None:
    sigmas = build_prior(SMALL).sigmas
    level = torch.tensor([0.03, 0.2, 1.7], dtype=torch.float64)
    abar = alpha_cumprod_at(timestep_of(level, sigmas), sigmas)
    assert torch.allclose(((1 - abar) / abar).sqrt(), level, rtol=1e-3)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_loss_targets_agree_with_diffusers(prediction_type: str) -> None:
    prior = build_prior(replace(SMALL, prediction_type=prediction_type))
    scheduler = DDPMScheduler()
    clean, noise = torch.rand(2, 1, 16, 16) * 2 - 1, torch.randn(2, 1, 16, 16)
    timesteps = torch.tensor([50, 800])
    noisy = scheduler.add_noise(clean, noise, timesteps)
    target = noise if prediction_type == "epsilon" else scheduler.get_velocity(clean, noise, timesteps)
    out = torch.nn.functional.pixel_shuffle(
        prior.network(torch.nn.functional.pixel_unshuffle(noisy, 2), timesteps), 2
    )
    reference = ((out - target) ** 2).mean((1, 2, 3))
    assert torch.allclose(DiffusionLoss(prior)(clean, timesteps.float(), noise), reference, rtol=1e-3)


def test_levels_below_the_end_count_by_their_noise() -> None:
    """There the loss is the squared error of the clean picture by sigma, up to a constant."""
    prior = build_prior(PLAIN)
    clean, noise = torch.rand(3, 1, 16, 16) * 2 - 1, torch.randn(3, 1, 16, 16)
    sigma = torch.tensor([2, 20, 200], dtype=torch.float64) / 127.5
    timesteps = timestep_of(sigma, prior.sigmas)
    with torch.no_grad():
        noisy = clean + sigma.float().reshape(-1, 1, 1, 1) * noise
        squared = (prior.denoise(noisy, sigma) - clean).square().mean((1, 2, 3))
        losses = DiffusionLoss(prior, even_below=50)(clean, timesteps, noise)
    of_velocity = squared * (1 + sigma**2) / sigma**2
    assert torch.allclose(losses[2].double(), of_velocity[2], rtol=1e-3)
    assert torch.allclose(losses[:2].double(), of_velocity[:2] * sigma[:2] * 127.5 / 50, rtol=1e-3)


def test_learning_rate_warms_up_and_decays() -> None:
    recipe = PriorRecipe(steps=1000, warmup_steps=100, learning_rate=1.0)
    assert learning_rate(recipe, 0) == pytest.approx(0.01)
    assert learning_rate(recipe, 99) == learning_rate(recipe, 100) == pytest.approx(1)
    assert learning_rate(recipe, 550) == pytest.approx(0.01 + 0.99 * (1 + math.cos(math.pi / 2)) / 2)
    assert learning_rate(recipe, 1000) == pytest.approx(0.01)


def test_a_constant_learning_rate_cools_down_to_nothing() -> None:
    recipe = PriorRecipe(steps=1000, warmup_steps=100, cooldown_steps=200, learning_rate=1.0)
    rates = [learning_rate(recipe, step) for step in (49, 100, 799, 900, 999)]
    assert rates == pytest.approx([0.5, 1, 1, 0.5, 0.005])


def test_recipes(tmp_path: Path) -> None:
    bundled = ROOT / "src" / "ddfm" / "assets" / "natural" / "recipe.toml"
    prior = load_prior("natural")
    assert read_recipe(bundled).channels == tuple(prior.network.config.block_out_channels)
    path = tmp_path / "recipe.toml"
    path.write_text("steps = 10\nchannels = [8, 16]\n")
    assert read_recipe(path) == PriorRecipe(steps=10, channels=(8, 16))
    path.write_text("epochs = 10\n")
    with pytest.raises(InputError, match="unknown setting 'epochs'"):
        read_recipe(path)
    path.write_text("steps = ")
    with pytest.raises(InputError, match="not a readable recipe"):
        read_recipe(path)


def test_the_command_trains(ddfm: Command, photographs: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("channels = [8, 16]\nnorm_groups = 4\ncrop = 16\nbatch = 2\nsteps = 2\nbf16 = false\n")
    arguments = ("train", photographs, "-o", tmp_path / "run", "--recipe", recipe, "--device", "cpu")
    done = ddfm(*arguments, "--held-out", photographs)
    assert done.returncode == 0, done.stderr
    assert "step 2/2" in done.stdout
    assert load_prior(tmp_path / "run" / "prior").channels == 1
    assert ddfm(*arguments).returncode == 2
    recipe.write_text(recipe.read_text().replace("norm_groups = 4", "norm_groups = 0"))
    begun = ddfm(*arguments, "--begin-with", tmp_path / "run" / "prior", "-o", tmp_path / "begun")
    assert (begun.returncode, begun.stderr.count("\n")) == (2, 1)
    assert "without normalisation" in begun.stderr
    checkpoint = tmp_path / "run" / "checkpoint.pt"
    for spoil in (lambda: checkpoint.write_bytes(b"damaged"), lambda: torch.save(Poison(), checkpoint)):
        spoil()
        refused = ddfm(*arguments, "--resume")
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
        assert "not a checkpoint that can be resumed" in refused.stderr
    assert not Path("poisoned").exists()


def test_damaged_photographs_are_named(photographs: Path, tmp_path: Path) -> None:
    whole = (photographs / "2.jpg").read_bytes()
    (photographs / "2.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"2\.jpg: is damaged or cut short"):
        train(find_images([photographs]), tmp_path / "run", SMALL)
    assert not (tmp_path / "run").exists()


def test_small_images_are_refused(tmp_path: Path) -> None:
    Image.fromarray(picture(20, 20, 1, np.uint8)).save(tmp_path / "small.png")
    with pytest.raises(InputError, match="no image is at least 128 pixels"):
        train(find_images([tmp_path]), tmp_path / "run", PriorRecipe())
    assert not (tmp_path / "run").exists()
