"""Folder runs: several groups at once, in batches, in bounded memory, each as if it were alone."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Barrier, Lock, Thread
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pairs import fused_in_a_fresh_process, save
from PIL import Image as PILImage

from ddfm.fusion.options import Options
from ddfm.fusion.pipeline import Fusion, fuse
from ddfm.fusion.result import FusionResult
from ddfm.jobs import files, work
from ddfm.jobs.memory import Budget, peak_bytes
from ddfm.likelihoods.tiled import SIDE
from ddfm.pictures.image import from_array
from ddfm.priors.base import Prior
from ddfm.priors.loading import load_prior
from tests.conftest import Command, check_refusals, examples, picture, seen

# The bundled prior takes multiples of 16 pixels: these are padded to 48x64, all but the last.
SIZES = ((40, 56), (40, 56), (44, 60), (33, 64), (48, 64), (40, 56), (70, 30))


@pytest.fixture(scope="module")
def prior() -> Prior:
    return load_prior()


def save_pair(folder: Path, stem: str, size: tuple[int, int], seed: int) -> None:
    """One file in each of a and b."""
    for name, channels in (("a", 1), ("b", 3)):
        (folder / name).mkdir(exist_ok=True)
        made = picture(*size, channels, np.uint8, seed + channels)
        PILImage.fromarray(made).save(folder / name / f"{stem}.png")


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Pairs of several sizes; one is broken, one's sources differ in size."""
    for seed, size in enumerate(SIZES):
        save_pair(tmp_path, str(seed), size, 10 * seed)
    broken = tmp_path / "a" / "2-broken.png"
    save_pair(tmp_path, broken.stem, (40, 56), 1)
    broken.write_bytes(broken.read_bytes()[:60])
    save_pair(tmp_path, "4-sizes", (40, 56), 2)
    PILImage.fromarray(picture(40, 57, 1, np.uint8)).save(tmp_path / "a" / "4-sizes.png")
    return tmp_path


def outputs(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in seen(folder)}


# --- Interruption --------------------------------------------------------------------------------


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C raises, also where it was switched off for the tests as for any command in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupted_command(ddfm: Command, mixed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was written is whole."""
    write = files.write_result

    def write_and_interrupt(*arguments: Any) -> None:
        write(*arguments)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(work, "write_result", write_and_interrupt)
    done = ddfm("fuse", mixed / "a", mixed / "b", "-o", mixed / "out", "--steps", 3)
    assert (done.returncode, done.stdout) == (130, ""), done.stderr
    written = seen(mixed / "out")
    assert written
    for path in written:
        assert path.suffix == ".png"
        assert np.asarray(PILImage.open(path)).ndim == 3


# --- Memory --------------------------------------------------------------------------------------


@given(amounts=st.lists(st.integers(1, 150), min_size=2, max_size=12))
@examples(30)
def test_a_budget_is_kept_unless_one_alone_takes_more(amounts: list[int]) -> None:
    budget, lock, held, wrong = Budget(100), Lock(), list[int](), list[list[int]]()

    def take(amount: int) -> None:
        with budget.taking(amount):
            with lock:
                held.append(amount)
                if sum(held) > 100 and len(held) > 1:
                    wrong.append(list(held))
            with lock:
                held.remove(amount)

    workers = [Thread(target=take, args=(amount,)) for amount in amounts]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert not wrong
    assert budget.taken == 0


def test_a_budget_lets_in_who_fits_beside_the_others() -> None:
    budget, met = Budget(100), Barrier(2)

    def take() -> None:
        with budget.taking(50):
            met.wait(60)

    other = Thread(target=take)
    other.start()
    take()
    other.join()
    with pytest.raises(ValueError, match="failed"), budget.taking(10**9):
        raise ValueError("failed")
    assert budget.taken == 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of one run is known on Linux only")
@pytest.mark.parametrize(
    ("side", "sources", "colour", "steps", "task"),
    [
        (1024, 2, False, 0, "infrared"),
        (1024, 4, True, 0, "infrared"),
        (1024, 2, True, 0, "exposure"),
        (1024, 2, False, 2, "infrared"),  # at 512 a process's own spread, 40 MB, is a quarter of it
        (1024, 2, True, 2, "infrared"),
        (768, 2, True, 2, "infrared"),
    ],
)
def test_the_formula_holds_for_the_memory_that_a_fusion_takes(
    prior: Prior, tmp_path: Path, side: int, sources: int, colour: bool, steps: int, task: str
) -> None:
    """Never more than the formula says, and not much less; benchmarks/memory.py has more cases."""
    paths = [
        save(tmp_path / f"{k}.png", picture(side, side, 3 if colour else 1, np.uint8, k))
        for k in range(sources)
    ]
    options = ("--noise", "off", "--task", task, "--steps", str(steps), "--dtype", "float32")
    taken = fused_in_a_fresh_process(paths, tmp_path / "fused.png", options, threads=1)
    tiled = prior.for_tiles("auto", side, side)
    evaluation = tiled.evaluation_bytes(side, side) if steps else 0
    formula = peak_bytes(side, side, sources, sources if colour else 0, evaluation, task)
    assert 1 / 1.5 <= taken.grown / formula <= 1


@pytest.mark.usefixtures("kept_threads")
def test_large_pictures_are_alone_and_have_all_threads(
    ddfm: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(3)
    for stem, width in (("large", SIDE + 100), ("small", 60), ("small too", 60)):
        save_pair(tmp_path, stem, (20, width), 1)
    seen = []

    fuse_scenes = Fusion.of

    def watched(fusion: Fusion, scenes: Any, *arguments: Any) -> list[FusionResult]:
        seen.append((scenes[0][0].size[1] > SIDE, torch.get_num_threads()))
        return fuse_scenes(fusion, scenes, *arguments)

    monkeypatch.setattr(Fusion, "of", watched)
    done = ddfm("fuse", tmp_path / "a", tmp_path / "b", "-o", tmp_path / "out", "--steps", 0)
    assert done.returncode == 0, done.stderr
    assert sorted(seen) == [(False, 1), (False, 1), (True, 3)]
    assert torch.get_num_threads() == 3


# --- What comes out ------------------------------------------------------------------------------


def test_the_bytes_do_not_depend_on_the_number_of_threads(
    ddfm: Command, mixed: Path, kept_threads: None
) -> None:
    runs = []
    for count in (1, 2, 5):
        torch.set_num_threads(count)
        out = mixed / f"out{count}"
        done = ddfm("fuse", mixed / "a", mixed / "b", "-o", out, "--task", "infrared")
        assert done.returncode == 1
        assert "7 fused, 0 kept, 2 failed" in done.stdout
        failed = [line.split(":")[1] for line in done.stderr.splitlines() if line.startswith("failed")]
        assert failed == [" 2-broken", " 4-sizes"]
        runs.append(outputs(out))
    assert runs[0] == runs[1] == runs[2]


@pytest.mark.parametrize("steps", [0, 2])
def test_batches_are_what_their_pictures_are_alone(ddfm: Command, mixed: Path, steps: int) -> None:
    for batch in (1, 4):
        done = ddfm(
            *("fuse", mixed / "a", mixed / "b", "-o", mixed / f"out{batch}"),
            *("--task", "infrared", "--steps", steps, "--batch", batch),
        )
        assert "7 fused, 0 kept, 2 failed" in done.stdout, done
        assert done.stderr.count("failed: ") == 2
    for alone in seen(mixed / "out1"):
        pixels = [
            np.asarray(PILImage.open(path)).astype(int) for path in (alone, mixed / "out4" / alone.name)
        ]
        assert np.abs(pixels[0] - pixels[1]).max() <= 1


def test_a_batch_that_fails_is_tried_one_by_one(
    ddfm: Command, mixed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    fuse_scenes = Fusion.of

    def short_of_memory(fusion: Fusion, scenes: Any, *arguments: Any) -> list[FusionResult]:
        sizes.append(len(scenes))
        if len(scenes) > 1 or scenes[0][0].size == SIZES[3]:
            raise MemoryError("no room")
        return fuse_scenes(fusion, scenes, *arguments)

    monkeypatch.setattr(Fusion, "of", short_of_memory)
    done = ddfm("fuse", mixed / "a", mixed / "b", "-o", mixed / "out", "--steps", 1, "--batch", 20)
    assert "6 fused, 0 kept, 3 failed" in done.stdout
    assert "failed: 3: MemoryError: no room" in done.stderr
    assert max(sizes) > 1


def test_no_batch_of_none(ddfm: Command, mixed: Path) -> None:
    mistake = ("fuse", mixed / "a", mixed / "b", "-o", mixed / "out", "--batch", 0)
    check_refusals(ddfm, {mistake: "--batch 0: not a number of pictures, 1 or more"}, mixed)


def test_uncertainty_is_that_of_a_picture_alone(ddfm: Command, tmp_path: Path) -> None:
    for stem in ("0", "1"):
        save_pair(tmp_path, stem, (32, 48), int(stem))
    options = ("--steps", 1, "--noise", "6,0")
    for batch in (1, 2):
        done = ddfm(
            *("fuse", tmp_path / "a", tmp_path / "b", "-o", tmp_path / f"out{batch}", *options),
            *("--uncertainty", tmp_path / f"spread{batch}", "--batch", batch),
        )
        assert done.returncode == 0, done.stderr
    assert outputs(tmp_path / "spread1") == outputs(tmp_path / "spread2")


@pytest.mark.parametrize("form", ["ddfm", "released"])
@pytest.mark.parametrize("noise", [[0.0, 0.0], [12.0, 0.0]])
def test_scenes_of_several_sizes_at_once(prior: Prior, form: str, noise: list[float]) -> None:
    """Each is what it is alone, to rounding of the network; noise and settings are its own."""
    arrays = [
        (picture(*size, 1, np.uint8, k), picture(*size, 3, np.uint8, k + 9))
        for k, size in enumerate(SIZES[:-1])
    ]
    options: dict[str, Any] = {"form": form, "steps": 3, "noise": noise, "seed": 5, "stretch": "none"}
    options |= {"task": "infrared", "device": "cpu", "dtype": "float32"}
    scenes = [[from_array(array) for array in pair] for pair in arrays]
    together = Fusion(Options(**options), prior).of(scenes)
    for pair, result in zip(arrays, together, strict=True):
        alone = fuse(*pair, prior=prior, **options)
        assert result.image.size == alone.image.size
        assert np.abs(result.image.pixels - alone.image.pixels).max() < 2e-4
        assert result.settings == alone.settings


def test_a_folder_has_one_task(ddfm: Command, tmp_path: Path) -> None:
    """A frame that alone would be refused, as perhaps medical, is what the others are."""
    for k in range(5):
        save_pair(tmp_path, str(k), (64, 80), k)
    for side, seed in (("a", 1), ("b", 2)):
        night = np.zeros((64, 80), np.uint8)
        night[10:54, 10:70] = picture(44, 60, 1, np.uint8, seed)
        night[:2] = 40  # of the border some 80 % are black: too little for a slice, too much for a street
        PILImage.fromarray(night).save(tmp_path / side / "night.png")
    alone = ddfm(
        *("fuse", tmp_path / "a" / "night.png", tmp_path / "b" / "night.png"),
        *("-o", tmp_path / "n.png", "--steps", 0),
    )
    assert alone.returncode == 2
    assert "may be medical or not" in alone.stderr
    done = ddfm("fuse", tmp_path / "a", tmp_path / "b", "-o", tmp_path / "out", "--steps", 0)
    assert done.returncode == 0, done.stderr
    assert "6 fused, 0 kept, 0 failed" in done.stdout
    assert "task infrared (5 of 5 looked at; " in done.stderr
    for side in ("a", "b"):
        for k in range(5):
            (tmp_path / side / f"{k}.png").unlink()
    refused = ddfm("fuse", tmp_path / "a", tmp_path / "b", "-o", tmp_path / "none", "--steps", 0)
    assert refused.returncode == 2
    assert "may be medical or not" in refused.stderr
    assert not (tmp_path / "none").exists()
