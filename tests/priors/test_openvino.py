"""The network in OpenVINO, against the same network in torch."""

from __future__ import annotations

import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from ddfm import fuse
from ddfm.devices import is_fast_at_bfloat16
from ddfm.errors import InputError
from ddfm.priors.diffusion import DiffusionPrior
from ddfm.priors.loading import load_prior
from ddfm.priors.openvino import OpenVinoNetwork, check_openvino, core, runtime
from ddfm.priors.schedule import NoiseSchedule
from tests.conftest import Command, check_refusals, picture
from tests.priors.test_prior import small_network

# Not importorskip, which would import it with its telemetry.
pytestmark = pytest.mark.skipif(find_spec("openvino") is None, reason="pip install ddfm[openvino]")

CPU = torch.device("cpu")
BFLOAT16 = pytest.mark.skipif(
    not is_fast_at_bfloat16(CPU), reason="this CPU has no instructions for bfloat16"
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache folder, which is not the one of whoever runs the tests."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def natural(tmp_path_factory: pytest.TempPathFactory) -> DiffusionPrior:
    """In a folder of its own, so that nothing is written beside the bundled one."""
    folder = tmp_path_factory.mktemp("natural") / "prior"
    load_prior().save(folder)
    return load_prior(folder)


@pytest.fixture(scope="module")
def exported(natural: DiffusionPrior) -> DiffusionPrior:
    return natural.to("cpu", torch.float32, "openvino")


@pytest.fixture
def small(tmp_path: Path) -> DiffusionPrior:
    """A network that is exported in a moment, in a folder."""
    DiffusionPrior(small_network(), NoiseSchedule()).save(tmp_path / "small")
    return load_prior(tmp_path / "small")


def noise(*shape: int) -> torch.Tensor:
    return 0.5 * torch.randn(shape, generator=torch.Generator().manual_seed(0))


def exports(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix in (".xml", ".bin"))


def test_an_evaluation_is_that_of_torch(natural: DiffusionPrior, exported: DiffusionPrior) -> None:
    assert (natural.backend, exported.backend) == ("torch", "openvino")
    for shape in ((1, 1, 16, 16), (1, 1, 37, 90), (3, 1, 64, 48)):
        x, sigma = noise(*shape), torch.linspace(0.05, 0.5, shape[0])
        assert torch.allclose(exported.denoise(x, sigma), natural.denoise(x, sigma), rtol=0, atol=1e-5)
    assert exported.to("cpu", torch.float32, "openvino") is exported
    assert torch.equal(exported.to("cpu").denoise(x, sigma), natural.denoise(x, sigma))


@BFLOAT16
def test_bfloat16_rounds_as_far_as_that_of_torch(natural: DiffusionPrior) -> None:
    x, wanted = noise(1, 1, 64, 96), natural.denoise(noise(1, 1, 64, 96), 0.2)
    ours, theirs = (
        (natural.to("cpu", torch.bfloat16, backend).denoise(x, 0.2) - wanted).square().mean().sqrt()
        for backend in ("openvino", "torch")
    )
    assert 0 < ours < 2 * theirs


def test_tiles_are_those_of_torch(natural: DiffusionPrior, exported: DiffusionPrior) -> None:
    x = noise(1, 1, 112, 170) + torch.linspace(-1, 1, 170)
    whole, theirs, ours = (
        prior.denoise(x, 0.2) for prior in (exported, replace(natural, tile=96), replace(exported, tile=96))
    )
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-5)
    assert not torch.allclose(ours, whole, rtol=0, atol=1e-4)


def test_a_network_with_attention_in_colour(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """OpenAI's layout, read from its own checkpoint; the export lies beside that."""
    for suffix in (".pt", ".json"):
        shutil.copy(tiny_checkpoint.with_suffix(suffix), tmp_path / f"tiny{suffix}")
    prior = load_prior(tmp_path / "tiny.pt")
    exported, x = prior.to("cpu", torch.float32, "openvino"), noise(2, 3, 40, 52)
    for ours, theirs in ((exported, prior), (replace(exported, tile=32), replace(prior, tile=32))):
        assert torch.allclose(ours.denoise(x, 0.3), theirs.denoise(x, 0.3), rtol=1e-4, atol=1e-4)
    assert len(exports(tmp_path / "openvino")) == 4  # for one piece and for tiles


@pytest.mark.usefixtures("kept_threads")
def test_threads_share_it(natural: DiffusionPrior, exported: DiffusionPrior) -> None:
    """Several threads at once, with sizes of their own, in one piece and in tiles; torch's hooks, too."""
    images = [noise(1, 1, 32 + 16 * (n % 3), 112) for n in range(6)]
    torch.set_num_threads(1)
    for prior in (exported, replace(exported, tile=64), replace(natural, tile=64)):
        denoised = partial(prior.denoise, sigma=0.2)
        with ThreadPoolExecutor(3, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            together = list(pool.map(denoised, images))
        assert all(torch.equal(a, b) for a, b in zip(map(denoised, images), together, strict=True))


@pytest.mark.usefixtures("kept_threads")
def test_requests_have_the_callers_number_of_threads(small: DiffusionPrior) -> None:
    prior = small.to("cpu", torch.float32, "openvino")
    for number in (1, 2, 1):
        torch.set_num_threads(number)
        prior.denoise(noise(1, 1, 16, 16), 0.1)
    assert prior.exported is not None
    used = {
        threads: [r.get_compiled_model().get_property("INFERENCE_NUM_THREADS") for r in requests]
        for threads, requests in prior.exported.whole.idle.items()
    }
    assert used == {1: [1], 2: [min(2, os.cpu_count() or 1)]}


def test_an_export_is_found_again_but_never_a_stale_one(small: DiffusionPrior) -> None:
    assert small.folder is not None
    folder = small.folder / "openvino"
    x = noise(1, 1, 16, 32)
    small.to("cpu", torch.float32, "openvino")
    first = {path: path.stat().st_mtime_ns for path in exports(folder)}
    assert [path.name for path in first] == ["network.bin", "network.xml"]
    again = load_prior(small.folder).to("cpu", torch.float32, "openvino")
    assert {path: path.stat().st_mtime_ns for path in exports(folder)} == first
    assert torch.allclose(again.denoise(x, 0.1), small.denoise(x, 0.1), rtol=0, atol=1e-5)
    # Other weights in the same place.
    for parameter in small.network.parameters():
        parameter.data *= 1.1
    changed = small.to("cpu", torch.float32, "openvino")
    assert len(exports(folder)) == 4
    assert torch.allclose(changed.denoise(x, 0.1), small.denoise(x, 0.1), rtol=0, atol=1e-5)
    assert not torch.allclose(changed.denoise(x, 0.1), again.denoise(x, 0.1), rtol=0, atol=1e-3)


def test_where_exports_go(small: DiffusionPrior, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert small.folder is not None
    (small.folder / "openvino").touch()  # no folder can be made there, whoever runs the test
    small.to("cpu", torch.float32, "openvino")
    assert len(exports(cache / "ddfm" / "openvino")) == 2
    replace(small, folder=None).to("cpu", torch.float32, "openvino")
    assert len(exports(cache)) == 2
    shutil.rmtree(cache)
    cache.touch()
    caplog.set_level("WARNING", logger="ddfm")  # which the command line turns down
    kept_nowhere, x = small.to("cpu", torch.float32, "openvino"), noise(1, 1, 16, 16)
    assert torch.allclose(kept_nowhere.denoise(x, 0.1), small.denoise(x, 0.1), rtol=0, atol=1e-5)
    assert "the exported network is not kept" in caplog.text


def test_a_damaged_export_is_named(small: DiffusionPrior) -> None:
    small.to("cpu", torch.float32, "openvino")
    assert small.folder is not None
    file = exports(small.folder)[1]
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(InputError, match=f"{file.parent}: is damaged; delete it"):
        small.to("cpu", torch.float32, "openvino")


def test_whoever_is_first_keeps_the_export(small: DiffusionPrior) -> None:
    """Two processes that both found nothing, one after the other done with making it."""
    assert small.folder is not None
    graphs = [OpenVinoNetwork.of(small.network, torch.float32, None).whole for _ in range(2)]
    for graph in graphs:
        graph.folder = small.folder
    x, t = noise(1, 1, 16, 16), torch.ones(1)
    results = [replace(graph, exported=graph._made(), idle={}).infer(x, t) for graph in graphs]
    assert torch.equal(*results)
    assert len(exports(small.folder)) == 2
    assert not list(small.folder.rglob("*.partial"))


def test_what_it_cannot_do_is_refused(tmp_path: Path, ddfm: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="device meta is for backend torch"):
        check_openvino(torch.device("meta"), torch.float32)
    a = tmp_path / "a.png"
    a.touch()
    sources = ("fuse", a, a, "-o", tmp_path / "out.png")
    check_refusals(
        ddfm,
        {
            (*sources, "--backend", "tensorrt"): "backend 'tensorrt': not one of torch, openvino",
            (
                *sources,
                "--backend",
                "openvino",
                "--device",
                "meta",
            ): "device 'meta': nothing is computed",
        },
        tmp_path,
    )
    monkeypatch.setattr(
        "ddfm.priors.openvino.FORMATS", {torch.float32: ("FP32", ""), torch.float16: ("FP99", "")}
    )
    with pytest.raises(InputError, match=r"dtype float16: backend openvino does not .* use dtype float32$"):
        check_openvino(CPU, torch.float16)


def test_an_absent_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    for cached in (core, runtime):
        cached.cache_clear()
    a = np.zeros((16, 16), np.uint8)
    with pytest.raises(InputError, match=r"openvino: is not installed .*pip install ddfm\[openvino\]"):
        fuse(a, a, prior=lambda: pytest.fail("was loaded"), backend="openvino")


def test_nothing_is_reported_to_its_makers() -> None:
    assert runtime().tools.ovc.telemetry_utils.tm.__name__ == "openvino.tools.ovc.telemetry_stub"


def test_fusing_with_either_backend(natural: DiffusionPrior) -> None:
    a, b = picture(48, 64, 1, np.uint8, 1), picture(48, 64, 3, np.uint8, 2)
    ours, theirs = (
        fuse(a, b, prior=natural, task="infrared", noise=[6, 0], dtype="float32", backend=backend)
        for backend in ("openvino", "torch")
    )
    assert (ours.settings["backend"], ours.settings["device"]) == ("openvino", "cpu")
    assert (theirs.settings["backend"], theirs.settings["dtype"]) == ("torch", "float32")
    assert np.allclose(ours.image.pixels, theirs.image.pixels, rtol=0, atol=1e-4)
    again = fuse(a, b, prior=natural, task="infrared", noise=[6, 0], dtype="float32", backend="openvino")
    assert np.array_equal(ours.image.pixels, again.image.pixels)
