from __future__ import annotations

import inspect
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as PILImage

from ddfm import fusion
from ddfm.commands.fuse import fuse as fuse_command
from tests.conftest import Command, check_refusals, picture


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    a, b = tmp_path / "a.png", tmp_path / "b.png"
    PILImage.fromarray(picture(40, 56, 1, np.uint8, 1)).save(a)
    PILImage.fromarray(picture(40, 56, 3, np.uint8, 2)).save(b)
    return a, b


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Three good pairs, one with a broken half, one of differing sizes, and a file without a partner."""
    a, b = tmp_path / "a", tmp_path / "b"
    a.mkdir()
    b.mkdir()
    for index in range(3):
        PILImage.fromarray(picture(32, 48, 1, np.uint8, index)).save(a / f"{index}.png")
        PILImage.fromarray(picture(32, 48, 3, np.uint8, index + 9)).save(b / f"{index}.jpg")
    PILImage.fromarray(picture(32, 48, 1, np.uint8)).save(a / "broken.png")
    (b / "broken.png").write_bytes((a / "broken.png").read_bytes()[:60])
    PILImage.fromarray(picture(32, 48, 1, np.uint8)).save(a / "sizes.png")
    PILImage.fromarray(picture(32, 50, 1, np.uint8)).save(b / "sizes.png")
    PILImage.fromarray(picture(32, 48, 1, np.uint8)).save(a / "lonely.png")
    return a, b


def test_a_pair(ddfm: Command, pair: tuple[Path, Path], tmp_path: Path) -> None:
    outputs = []
    for name in ("one.png", "two.png"):
        done = ddfm("fuse", *pair, "-o", tmp_path / name, "--steps", 2)
        assert done.returncode == 0, done.stderr
        assert f"{name}: 56x40, uint8" in done.stdout
        outputs.append((tmp_path / name).read_bytes())
    assert outputs[0] == outputs[1]
    with PILImage.open(tmp_path / "one.png") as fused:
        assert (fused.size, fused.mode) == ((56, 40), "RGB")


@pytest.mark.parametrize("suffix", [".jpg", ".tif", ".bmp", ".webp"])
def test_output_formats(ddfm: Command, pair: tuple[Path, Path], tmp_path: Path, suffix: str) -> None:
    done = ddfm("fuse", *pair, "-o", tmp_path / f"out{suffix}", "--steps", 1, "--form", "paper")
    assert done.returncode == 0, done.stderr
    with PILImage.open(tmp_path / f"out{suffix}") as fused:
        assert fused.size == (56, 40)


def test_no_steps_and_clean_sources_need_no_prior(
    ddfm: Command, pair: tuple[Path, Path], folders: tuple[Path, Path], tmp_path: Path
) -> None:
    for sources, out in ((pair, tmp_path / "out.png"), (folders, tmp_path / "outs")):
        done = ddfm("fuse", *sources, "-o", out, "--steps", 0, "--prior", "unnatural")
        assert "no such prior" not in done.stderr
        assert out.exists()
    assert len(list((tmp_path / "outs").iterdir())) == 3


def test_a_noisy_source_needs_the_prior(ddfm: Command, pair: tuple[Path, Path], tmp_path: Path) -> None:
    noisy, out = tmp_path / "noisy.png", tmp_path / "out.png"
    noise = np.random.default_rng(0).normal(128, 15, (40, 56))
    PILImage.fromarray(noise.clip(0, 255).astype(np.uint8)).save(noisy)
    done = ddfm("fuse", noisy, pair[1], "-o", out, "--steps", 0, "--prior", "unnatural")
    assert done.returncode == 2
    assert done.stderr.startswith("ddfm: unnatural: no such prior")
    assert done.stderr.count("\n") == 1
    assert not out.exists()


def test_noise_that_is_taken_out_is_told(ddfm: Command, pair: tuple[Path, Path], tmp_path: Path) -> None:
    a, b = pair
    outputs = {}
    for noise in ("off", "10,0", "0,10"):
        outputs[noise] = tmp_path / f"{noise}.png"
        done = ddfm("fuse", a, b, "-o", outputs[noise], "--steps", 0, "--noise", noise)
        assert done.returncode == 0, done.stderr
        told = [line for line in done.stderr.splitlines() if "noise of" in line]
        cleaned = {"off": [], "10,0": [a], "0,10": [b]}[noise]
        assert told == [f"{path}: noise of 10.0 grey levels taken out" for path in cleaned]
    assert len({path.read_bytes() for path in outputs.values()}) == 3


def test_folders(ddfm: Command, folders: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = ddfm("fuse", *folders, "-o", out, "--steps", 1)
    assert done.returncode == 1
    assert sorted(path.name for path in out.iterdir()) == ["0.png", "1.png", "2.png"]
    assert "3 fused, 0 kept, 2 failed" in done.stdout
    failures = [line for line in done.stderr.splitlines() if line.startswith("failed: ")]
    assert [line.split(":")[1].strip() for line in failures] == ["broken", "sizes"]
    assert "broken.png" in failures[0]
    assert "48x32" in failures[1]
    assert "50x32" in failures[1]
    assert "no partner" in done.stderr
    assert "lonely.png" in done.stderr

    kept = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    (out / "1.png").unlink()
    again = ddfm("fuse", *folders, "-o", out, "--steps", 1)
    assert again.returncode == 1
    assert "1 fused, 2 kept, 2 failed" in again.stdout
    assert (out / "1.png").exists()
    assert all((out / name).stat().st_mtime_ns == kept[out / name] for name in ("0.png", "2.png"))
    anew = ddfm("fuse", *folders, "-o", out, "--steps", 1, "--overwrite")
    assert "3 fused, 0 kept, 2 failed" in anew.stdout


def test_mistakes_get_one_plain_line(
    ddfm: Command, pair: tuple[Path, Path], folders: tuple[Path, Path], tmp_path: Path, golden: Path
) -> None:
    a, b = pair
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.png").touch()
    (tmp_path / "cut.png").write_bytes(a.read_bytes()[:80])
    (tmp_path / "nothing").mkdir()
    PILImage.fromarray(picture(20, 30, 1, np.uint8)).save(tmp_path / "small.png")
    PILImage.fromarray(picture(40, 56, 1, np.uint16)).save(tmp_path / "deep.png")
    broken = np.zeros((40, 56), np.float32)
    broken[1, :3] = np.nan
    tifffile.imwrite(tmp_path / "nan.tif", broken)
    bad_prior = tmp_path / "prior"
    bad_prior.mkdir()
    out = tmp_path / "out.png"
    mistakes: dict[tuple[object, ...], str] = {
        ("fuse", tmp_path / "absent.png", b, "-o", out): "absent.png: no such file",
        ("fuse", tmp_path / "text.png", b, "-o", out): "text.png: is not a PNG",
        ("fuse", tmp_path / "empty.png", b, "-o", out): "empty.png: is empty (0 bytes)",
        ("fuse", tmp_path / "cut.png", b, "-o", out): "cut.png: is damaged or cut short",
        ("fuse", a, tmp_path / "small.png", "-o", tmp_path / "new" / "out.png"): "a.png is 56x40 and",
        ("fuse", a, b, "-o", tmp_path / "out"): "out: unknown output format",
        ("fuse", a, "-o", out): "two sources or more are needed, 1 given",
        ("fuse", a, b): "Missing option",
        ("fuse", *folders[:1], b, "-o", out): "either files or folders are needed",
        (
            "fuse",
            folders[0],
            tmp_path / "nothing",
            "-o",
            tmp_path / "outs",
        ): "no images with the same name",
        ("fuse", a, b, "-o", out, "--form", "best"): "form 'best'",
        ("fuse", a, b, "-o", out, "--scheduler", "best"): "scheduler 'best'",
        ("fuse", a, b, "-o", out, "--steps", "none"): "--steps",
        ("fuse", a, b, "-o", out, "--steps", "0", "--form", "paper"): "steps 0: not within 1 to 1000",
        ("fuse", a, b, "-o", out, "--steps", "1000"): "steps 1000: the prior natural has only",
        ("fuse", a, b, "-o", out, "--task", "best"): "task 'best': not one of auto, infrared, medical",
        ("fuse", a, b, "-o", out, "--stretch", "best"): "stretch 'best': not one of auto, none",
        ("fuse", a, b, "-o", out, "--noise", "much"): "--noise much: not auto, off or one level for each",
        ("fuse", a, b, "-o", out, "--noise", "10"): "noise [10.0]: not 2 levels",
        ("fuse", a, b, "-o", out, "--noise", "1,2,3"): "not 2 levels",
        ("fuse", a, b, "-o", out, "--noise", "10,-1"): "not 2 levels",
        ("fuse", a, b, "-o", out, "--noise", "nan,1"): "not 2 levels",
        ("fuse", a, b, "-o", out, "--noise", "10,"): "--noise 10,: not auto, off or one level",
        ("fuse", a, b, "-o", out, "--tile", "small"): "--tile small: not auto, off or a number of pixels",
        ("fuse", a, b, "-o", out, "--tile", "-64"): "--tile -64: not auto, off or a number",
        ("fuse", a, b, "-o", out, "--tile", "32"): "tile 32: not auto, off or a side of at least 64",
        ("fuse", a, b, "-o", out, "--dtype", "int4"): "dtype 'int4'",
        ("fuse", a, b, "-o", out, "--device", "abacus"): "device 'abacus'",
        ("fuse", a, b, "-o", out, "--prior", "unnatural"): "unnatural: no such prior",
        ("fuse", a, b, "-o", out, "--prior", bad_prior): "config.json: missing",
        ("fuse", a, b, "-o", out, "--colour"): "No such option",
        ("fuse", a, b, "-o", tmp_path / "out.xyz"): "out.xyz: unknown output format",
        ("fuse", a, b, "-o", a / "out.png"): "cannot be written to",
        ("fuse", a, b, "-o", a): "is one of the sources",
        ("fuse", tmp_path / "deep.png", b, "-o", tmp_path / "out.jpg"): "cannot hold 16 bits",
        ("fuse", tmp_path / "nan.tif", b, "-o", tmp_path / "out.tif"): "nan.tif: 3 of 2240 samples are NaN",
        ("fuse", *folders, "-o", a): "is a file",
        ("fuse", *folders, "-o", a / "out"): "cannot be written to",
        ("fuse", *folders, "-o", tmp_path / "outs", "--form", "best"): "form 'best'",
        ("convert", "guided-diffusion", tmp_path / "text.png", "-o", tmp_path / "p"): "text.png: ",
        ("train", tmp_path / "nothing", "-o", tmp_path / "run"): "no images",
        ("dance",): "No such command",
    }
    check_refusals(ddfm, mistakes, tmp_path)


def test_help_has_examples(ddfm: Command) -> None:
    for command in (["fuse"], ["train"], ["demo"], ["convert", "guided-diffusion"]):
        done = ddfm(*command, "--help")
        assert done.returncode == 0
        assert f"Example: ddfm {' '.join(command)}" in done.stdout


def test_the_installed_command(pair: tuple[Path, Path], tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("ddfm")
    done = subprocess.run([command, "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"{version('ddfm')}\n")
    refused = subprocess.run(
        [command, "fuse", "absent", pair[1], "-o", tmp_path / "o.png"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (refused.returncode, refused.stderr) == (2, "ddfm: absent: no such file or folder\n")


def test_the_command_and_the_function_have_the_same_defaults() -> None:
    command, function = (inspect.signature(f).parameters for f in (fuse_command, fusion.fuse))
    shared = command.keys() & function.keys()
    assert shared == function.keys() - {"a", "b", "more", "callback"}
    same = shared - {"uncertainty"}  # a file to write there, whether to find it out here
    assert {n: command[n].default for n in same} == {n: function[n].default for n in same}


def test_version_and_help_load_nothing_heavy() -> None:
    code = "import sys, ddfm, ddfm.cli; sys.exit('torch' in sys.modules or 'diffusers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("name", "count", "colour"), [("tno", 17, False), ("roadscene", 171, True)])
def test_whole_sets_in_one_run(
    ddfm: Command, data: Path, tmp_path: Path, name: str, count: int, colour: bool
) -> None:
    root = data / "ivf" / name
    done = ddfm("fuse", root / "ir", root / "vi", "-o", tmp_path, "--steps", 1)
    assert done.returncode == 0, done.stderr
    assert f"{count} fused, 0 kept, 0 failed" in done.stdout
    for source in (root / "vi").iterdir():
        with PILImage.open(source) as visible, PILImage.open(tmp_path / f"{source.stem}.png") as fused:
            assert (fused.size, fused.mode) == (visible.size, "RGB" if colour else "L")
