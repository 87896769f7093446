from __future__ import annotations

import inspect
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as PILImage

from ddfm.commands.fuse import fuse as fuse_command
from ddfm.fusion import pipeline
from tests.conftest import Command, check_refusals, picture, seen


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
    assert len(seen(tmp_path / "outs")) == 3


def test_a_noisy_source_needs_the_prior(ddfm: Command, pair: tuple[Path, Path], tmp_path: Path) -> None:
    noisy, out = tmp_path / "noisy.png", tmp_path / "out.png"
    noise = np.random.default_rng(0).normal(128, 15, (40, 56))
    PILImage.fromarray(noise.clip(0, 255).astype(np.uint8)).save(noisy)
    done = ddfm("fuse", noisy, pair[1], "-o", out, "--steps", 0, "--prior", "unnatural")
    assert done.returncode == 2
    assert done.stderr.startswith("ddfm: unnatural: no such prior")
    assert done.stderr.count("\n") == 1
    assert not out.exists()


def test_three_sources_in_any_order(ddfm: Command, pair: tuple[Path, Path], tmp_path: Path) -> None:
    third = tmp_path / "c.png"
    PILImage.fromarray(picture(40, 56, 3, np.uint8, 5)).save(third)
    outputs = set()
    for number, order in enumerate(([0, 1, 2], [2, 0, 1])):
        sources, out = [[*pair, third][k] for k in order], tmp_path / f"{number}.png"
        done = ddfm("fuse", *sources, "-o", out, "--steps", 0)
        assert done.returncode == 0, done.stderr
        assert f"{number}.png: task infrared (1 of 3 sources grey, the rest in colour)" in done.stderr
        outputs.add(out.read_bytes())
    assert len(outputs) == 1


def test_three_folders(ddfm: Command, folders: tuple[Path, Path], tmp_path: Path) -> None:
    third = tmp_path / "c"
    third.mkdir()
    for stem in ("0", "2"):
        PILImage.fromarray(picture(32, 48, 3, np.uint8, 5)).save(third / f"{stem}.webp")
    done = ddfm("fuse", *folders, third, "-o", tmp_path / "out", "--steps", 0, "--colour-from", 3)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in seen(tmp_path / "out")] == ["0.png", "2.png"]
    assert "no partner" in done.stderr
    assert "0 and 1 more: task infrared" in done.stderr


def test_uncertainty(ddfm: Command, folders: tuple[Path, Path], tmp_path: Path) -> None:
    a, b = folders[0] / "0.png", folders[1] / "0.jpg"
    out, spread = tmp_path / "out.png", tmp_path / "spread.tif"
    done = ddfm("fuse", a, b, "-o", out, "--steps", 1, "--uncertainty", spread)
    assert done.returncode == 0, done.stderr
    assert tifffile.imread(spread).shape == (32, 48)
    assert spread.with_suffix(".png").exists()
    done = ddfm("fuse", *folders, "-o", tmp_path / "o", "--steps", 0, "--uncertainty", tmp_path / "u")
    assert sorted(path.name for path in (tmp_path / "u").iterdir()) == [
        f"{stem}.{suffix}" for stem in "012" for suffix in ("png", "tif")
    ]


def test_ranges(ddfm: Command, pair: tuple[Path, Path], tmp_path: Path) -> None:
    """Raw counts: in colour the result has the colour source's depth, alone the counts' own units."""
    counts = (7000 + 1500.0 * picture(40, 56, 1, np.uint8, 3) / 255).round().astype(np.uint16)
    raw = tmp_path / "raw.tif"
    tifffile.imwrite(raw, counts)
    done = ddfm("fuse", raw, pair[1], "-o", tmp_path / "out.png", "--steps", 0, "--range", "1:7000,8500")
    assert done.returncode == 0, done.stderr
    with PILImage.open(tmp_path / "out.png") as fused:
        assert fused.mode == "RGB"
        assert np.ptp(np.asarray(fused)) > 128
    kelvin = tmp_path / "kelvin.tif"
    tifffile.imwrite(kelvin, (290 + counts / 400).astype(np.float32))
    done = ddfm("fuse", kelvin, pair[1], "-o", tmp_path / "colour.png", "--steps", 0)
    assert done.returncode == 0, done.stderr
    assert "colour.png: 56x40, uint8" in done.stdout
    done = ddfm("fuse", raw, raw, "-o", tmp_path / "same.tif", "--steps", 0, "--range", "data")
    assert done.returncode == 0, done.stderr
    assert np.abs(tifffile.imread(tmp_path / "same.tif").astype(int) - counts).max() <= 1
    cut = ddfm("fuse", raw, raw, "-o", tmp_path / "cut.tif", "--steps", 0, "--range", "7000,8000")
    assert "samples lie outside the range 7000 to 8000 and are cut off" in cut.stderr


def test_volumes(ddfm: Command, tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    affine = np.array([[0, -1.5, 0, 3], [1.2, 0, 0, 5], [0, 0, 3, -7], [0, 0, 0, 1.0]])
    rng, sources = np.random.default_rng(0), [tmp_path / "mri.nii.gz", tmp_path / "ct.nii"]
    for path in sources:
        nibabel.save(nibabel.Nifti1Image(rng.integers(-200, 900, (24, 20, 4), np.int16), affine), path)
    done = ddfm("fuse", *sources, "-o", tmp_path / "fused.nii.gz", "--steps", 0)
    assert done.returncode == 0, done.stderr
    assert "task medical (the sources are NIfTI volumes)" in done.stderr
    assert "24x20, 4 slices, int16" in done.stdout
    fused = nibabel.load(tmp_path / "fused.nii.gz")
    assert np.array_equal(fused.affine, nibabel.load(sources[0]).affine)
    assert fused.shape == (24, 20, 4)
    facts = ddfm("info", tmp_path / "fused.nii.gz", sources[1])
    assert facts.returncode == 0
    assert facts.stdout.count("4 slices") == 2


def test_info(ddfm: Command, pair: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    done = ddfm("info", pair[0], tmp_path / "text.png", pair[1])
    assert done.returncode == 2
    assert "a.png: PNG" in done.stdout
    assert "56x40, colour, uint8" in done.stdout
    assert done.stderr.startswith(f"ddfm: {tmp_path / 'text.png'}: is not a PNG")
    facts = json.loads(ddfm("info", "--json", *pair).stdout)
    assert [(fact["width"], fact["height"], fact["colour"]) for fact in facts] == [
        (56, 40, False),
        (56, 40, True),
    ]


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
    assert [path.name for path in seen(out)] == ["0.png", "1.png", "2.png"]
    assert "3 fused, 0 kept, 2 failed" in done.stdout
    failures = [line for line in done.stderr.splitlines() if line.startswith("failed: ")]
    assert [line.split(":")[1].strip() for line in failures] == ["broken", "sizes"]
    assert "broken.png" in failures[0]
    assert "48x32" in failures[1]
    assert "50x32" in failures[1]
    assert "no partner" in done.stderr
    assert "lonely.png" in done.stderr

    kept = {path: path.stat().st_mtime_ns for path in seen(out)}
    (out / "1.png").unlink()
    again = ddfm("fuse", *folders, "-o", out, "--steps", 1)
    assert again.returncode == 1
    assert "1 fused, 2 kept, 2 failed" in again.stdout
    assert (out / "1.png").exists()
    assert all((out / name).stat().st_mtime_ns == kept[out / name] for name in ("0.png", "2.png"))
    anew = ddfm("fuse", *folders, "-o", out, "--steps", 1, "--overwrite")
    assert "3 fused, 0 kept, 2 failed" in anew.stdout


def test_mistakes_get_one_plain_line(
    ddfm: Command, pair: tuple[Path, Path], folders: tuple[Path, Path], tmp_path: Path
) -> None:
    a, b = pair
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.png").touch()
    (tmp_path / "cut.png").write_bytes(a.read_bytes()[:80])
    (tmp_path / "nothing").mkdir()
    PILImage.fromarray(picture(20, 30, 1, np.uint8)).save(tmp_path / "small.png")
    masked = tmp_path / "mask.png"
    PILImage.fromarray(np.eye(20, 30, dtype=np.uint8)).save(masked)
    PILImage.fromarray(picture(40, 56, 1, np.uint16)).save(tmp_path / "deep.png")
    broken = np.zeros((40, 56), np.float32)
    broken[1, :3] = np.nan
    tifffile.imwrite(tmp_path / "nan.tif", broken)
    volume = tmp_path / "pages.tif"
    tifffile.imwrite(volume, picture(40, 56, 3, np.uint8).transpose(2, 0, 1), photometric="minisblack")
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
        ("fuse", a, b, "-o", out, "--colour-from", "1"): "colour from 1: ",
        ("fuse", a, b, "-o", out, "--colour-from", "3"): "colour from 3: not within 1 to 2",
        ("fuse", a, b, b, "-o", out, "--form", "paper"): "form paper: is for two sources, 3 are given",
        ("fuse", a, b, "-o", out, "--uncertainty", out): "two results would be written there",
        ("fuse", a, b, "-o", out, "--uncertainty", tmp_path / "u.jpg"): "is written as a 16-bit TIFF",
        ("fuse", a, b, "-o", tmp_path / "o.tif", "--uncertainty", tmp_path / "o.tif"): "two results would be",
        ("fuse", a, b, "-o", out, "--range", "5"): "--range 5: range ['5']: not data or two numbers",
        ("fuse", a, b, "-o", out, "--range", "9,1"): "--range 9,1: range 9 to 1: two numbers are needed",
        ("fuse", a, b, "-o", out, "--range", "3:data"): "--range 3:data: 3 is not the number of a source",
        ("fuse", a, b, "-o", out, "--range", "window"): "a.png: has no display window",
        ("fuse", a, volume, "-o", out): "pages.tif: is a volume and",
        ("fuse", volume, volume, "-o", out): "the first source is a TIFF of several pages; write .tif",
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
        ("fuse", a, b, "-o", out, "--deblur", "much"): "--deblur much: not auto, off or the blur of each",
        ("fuse", a, b, "-o", out, "--deblur", "2"): "deblur [2.0]: not auto, off or 2 standard deviations",
        ("fuse", volume, volume, "-o", tmp_path / "o.tif", "--deblur", "auto"): "--deblur auto: slices would",
        ("fuse", a, b, "-o", out, "--deblur", "0,9"): "of 0 to 5 pixels",
        ("fuse", a, b, "-o", out, "--mask", "m.png"): "--mask m.png: not the number of a source, 1 to 2",
        ("fuse", a, b, "-o", out, "--mask", "3:m.png"): "--mask 3:m.png: not the number of a source, 1 to 2",
        ("fuse", a, b, "-o", out, "--mask", "1:absent.png"): "absent.png: no such file",
        ("fuse", a, b, "-o", out, "--mask", f"1:{b}"): "is in colour; a mask is black, and white",
        ("fuse", a, b, "-o", out, "--mask", f"2:{masked}"): "mask.png: is 30x20 pixels and",
        ("fuse", a, b, "-o", masked, "--mask", f"2:{masked}"): "mask.png: is one of the sources",
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
    command, function = (inspect.signature(f).parameters for f in (fuse_command, pipeline.fuse))
    shared = command.keys() & function.keys()
    assert shared == function.keys() - {"a", "b", "more", "callback", "sampler"}  # which is no text
    same = shared - {"uncertainty", "source_map"}  # files to write there, whether to find it out here
    assert {n: command[n].default for n in same} == {n: function[n].default for n in same}


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["fuse", "--help"], []])
def test_version_and_help_load_nothing_heavy(arguments: list[str]) -> None:
    """Nor does the package itself, which is what stands for no arguments."""
    heavy = {"torch", "diffusers", "numpy", "scipy", "PIL", "cv2", "av", "tifffile", "imagecodecs", "nibabel"}
    heavy |= {"openvino", "rich.progress", "ddfm.fusion.pipeline", "ddfm.formats.pictures"}
    code = (
        "import atexit, sys, ddfm\n"
        f"atexit.register(lambda: print('loaded', *{heavy} & sys.modules.keys()))\n"
        f"if sys.argv[1:]: import ddfm.cli; ddfm.cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "loaded"


@pytest.mark.slow
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
