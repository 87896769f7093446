"""`ddfm fuse` with files of thermal cameras."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as PILImage

from ddfm.demo.thermogram import flir_file
from ddfm.formats.radiometric import read_thermogram
from ddfm.jobs.matching import match_thermograms
from tests.conftest import Command, picture, seen
from tests.formats.medical import write_nifti
from tests.formats.test_radiometric import photograph, warmth


def small(seed: int = 0) -> bytes:
    """A small file of a camera."""
    return flir_file(warmth(30, 40) + seed, photograph(100, 75), offset=(0, 0))


def test_one_file_is_both_sources(ddfm: Command, tmp_path: Path, street: bytes) -> None:
    source, out = tmp_path / "street.jpg", tmp_path / "fused.png"
    source.write_bytes(street)
    done = ddfm(
        *("fuse", source, "-o", out, "--steps", 0, "--palette", "iron", "--annotate", "--isotherm", 20, 40),
        *("--temperatures", tmp_path / "t.tif", "--table", tmp_path / "t.csv", "--range", "0,30"),
    )
    assert done.returncode == 0, done.stderr
    assert "street.jpg: -1.9 to 32.5 °C" in done.stderr
    temperatures = tifffile.imread(tmp_path / "t.tif")
    assert (temperatures.dtype, temperatures.shape) == (np.float32, (428, 571))
    own = read_thermogram(source).readings
    (row,) = csv.DictReader((tmp_path / "t.csv").read_text().splitlines())
    for name, value in (("minimum", own.min()), ("mean", own.mean()), ("maximum", own.max())):
        assert float(row[name]) == pytest.approx(value, abs=0.006)
    assert (row["file"], row["camera"], row["emissivity"]) == ("street.jpg", "made-up camera", "0.95")
    with PILImage.open(out) as image:
        assert image.height == 428
        assert image.width > 570
    assert source.read_bytes() == street


def test_temperatures_do_not_depend_on_the_fusion(ddfm: Command, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(small())
    written = []
    for k, more in enumerate((("--steps", 0), ("--steps", 1, "--balance", 1, "--palette", "lava"))):
        path = tmp_path / f"{k}.tif"
        done = ddfm("fuse", tmp_path / "a.jpg", "-o", tmp_path / f"{k}.png", "--temperatures", path, *more)
        assert done.returncode == 0, done.stderr
        written.append(tifffile.imread(path))
    assert np.array_equal(*written)


def test_a_photograph_can_be_given_in_either_place(ddfm: Command, tmp_path: Path) -> None:
    thermal, visible = tmp_path / "a.jpg", tmp_path / "b.png"
    thermal.write_bytes(flir_file(warmth(48, 64)))
    PILImage.fromarray(picture(48, 64, 3, np.uint8)).save(visible)
    outputs = []
    for sources in ((thermal, visible), (visible, thermal)):
        done = ddfm("fuse", *sources, "-o", tmp_path / "out.png", "--steps", 0, "--palette", "viridis")
        assert done.returncode == 0, done.stderr
        outputs.append((tmp_path / "out.png").read_bytes())
    assert outputs[0] == outputs[1]
    done = ddfm("fuse", thermal, visible, "-o", tmp_path / "out.png", "--steps", 0, "--range", "0,50")
    assert done.returncode == 0, done.stderr
    assert "outside" not in done.stderr  # the range is one of temperatures, not of the photograph


def test_overrides_change_the_temperatures(ddfm: Command, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(small())
    done = ddfm(
        *("fuse", tmp_path / "a.jpg", "-o", tmp_path / "o.png", "--steps", 0, "--table", tmp_path / "t.csv"),
        *("--emissivity", 0.7, "--distance", 20, "--reflected", -10),
    )
    assert done.returncode == 0, done.stderr
    (row,) = csv.DictReader((tmp_path / "t.csv").read_text().splitlines())
    assert (row["emissivity"], row["distance"], row["reflected"]) == ("0.7", "20", "-10")
    assert float(row["maximum"]) > 85


def test_a_mixed_folder_loses_nothing(ddfm: Command, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    (folder / "good.jpg").write_bytes(small())
    (folder / "warmer.JPG").write_bytes(small(40))
    (folder / "cut.jpg").write_bytes(small()[:3000])
    (folder / "bare.jpg").write_bytes(flir_file(warmth()))
    (folder / "plain.jpg").write_bytes(photograph())
    (folder / "empty.png").write_bytes(b"")
    options = (
        "--steps",
        0,
        "--palette",
        "iron",
        "--table",
        tmp_path / "t.csv",
        "--temperatures",
        tmp_path / "t",
    )
    done = ddfm("fuse", folder, "-o", out, *options)
    assert done.returncode == 1
    assert "2 fused, 0 kept, 4 failed" in done.stdout
    lines = {
        line.split(":")[1].strip(): line for line in done.stderr.splitlines() if line.startswith("failed")
    }
    assert "cut short" in lines["cut"]
    assert "holds no photograph" in lines["bare"]
    assert "not a radiometric JPEG" in lines["plain"]
    assert "empty" in lines["empty"]
    assert [path.name for path in seen(out)] == ["good.png", "warmer.png"]
    assert {path.name for path in (tmp_path / "t").iterdir()} == {"good.tif", "warmer.tif"}
    rows = list(csv.DictReader((tmp_path / "t.csv").read_text().splitlines()))
    assert [row["file"] for row in rows] == ["bare.jpg", "good.jpg", "warmer.JPG"]
    # One range holds for all: the second file, 40 degrees warmer, has other colours.
    good, warmer = (np.asarray(PILImage.open(out / f"{name}.png")).astype(int) for name in ("good", "warmer"))
    assert np.abs(good - warmer).mean() > 15
    again = ddfm("fuse", folder, "-o", out, *options)
    assert "0 fused, 2 kept, 4 failed" in again.stdout
    assert len((tmp_path / "t.csv").read_text().splitlines()) == 4


def test_what_changes_the_outputs_is_known_to_the_record(ddfm: Command, tmp_path: Path) -> None:
    folder, out, table = tmp_path / "in", tmp_path / "out", tmp_path / "t.csv"
    folder.mkdir()
    for k, name in enumerate(("a", "b")):
        (folder / f"{name}.jpg").write_bytes(small(k))
    fuse = ("fuse", folder, "-o", out, "--steps", 0, "--palette")
    assert "2 fused, 0 kept" in ddfm(*fuse, "iron").stdout
    again = ddfm(*fuse, "iron", "--table", table)  # which is no part of any output
    assert "0 fused, 2 kept" in again.stdout
    assert [row["file"] for row in csv.DictReader(table.read_text().splitlines())] == ["a.jpg", "b.jpg"]
    for more in (("lava",), ("lava", "--emissivity", 0.7), ("lava", "--temperatures", tmp_path / "warm")):
        assert "2 fused, 0 kept" in ddfm(*fuse, *more).stdout, more
    assert "0 fused, 2 kept" in ddfm(*fuse, *more).stdout
    before = (out / "a.png").read_bytes()
    (folder / "c.jpg").write_bytes(small(40))  # with it the range of all is another one
    assert "3 fused, 0 kept" in ddfm(*fuse, *more).stdout
    assert (out / "a.png").read_bytes() != before
    (folder / "d.jpg").write_bytes(small(20))  # it lies within
    assert "1 fused, 3 kept" in ddfm(*fuse, *more).stdout


def test_what_folders_of_thermograms_do_not_have(ddfm: Command, tmp_path: Path) -> None:
    for name in ("thermal", "visible"):
        (tmp_path / name).mkdir()
    (tmp_path / "thermal" / "1.jpg").write_bytes(flir_file(warmth(48, 64)))
    PILImage.fromarray(picture(48, 64, 3, np.uint8)).save(tmp_path / "visible" / "1.png")
    thermal, visible, out = (tmp_path / name for name in ("thermal", "visible", "out"))
    for refused, words in (
        ((thermal, "--metrics", "EN"), "--metrics compares files of pictures"),
        ((thermal, "--table", "s3://bucket/t.csv"), "s3://bucket/t.csv: the table is written to a file"),
        ((thermal, "--temperatures", thermal), "is one of the sources"),
    ):
        done = ddfm("fuse", *refused, "-o", out, "--steps", 0)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert words in done.stderr
        assert not out.exists()
    done = ddfm("fuse", thermal, visible, "-o", out, "--steps", 0, "--metrics", "EN")
    assert "0 fused, 0 kept, 1 failed" in done.stdout
    assert "failed: 1: " in done.stderr
    assert "--metrics compares files of pictures" in done.stderr


def test_names_of_groups_are_never_shared() -> None:
    names = ("A_T", "A_V", "A", "B_R", "B_T", "B_W", "C_T", "D_V")
    groups = match_thermograms({name: Path(f"{name}.jpg") for name in names})
    assert {group.stem: [path.stem for path in group.files] for group in groups} == {
        "A": ["A"],
        "A_T": ["A_T", "A_V"],
        "B": ["B_R", "B_W"],
        "B_T": ["B_T", "B_W"],
        "C_T": ["C_T"],
        "D_V": ["D_V"],
    }


def test_djis_pairs_are_matched_by_their_names(ddfm: Command, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "DJI_0001_T.jpg").write_bytes(flir_file(warmth(48, 64)))
    (folder / "DJI_0002_R.JPG").write_bytes(flir_file(warmth(48, 64)))
    for stem in ("DJI_0001_V", "DJI_0002_W"):
        PILImage.fromarray(picture(48, 64, 3, np.uint8)).save(folder / f"{stem}.JPG")
    done = ddfm("fuse", folder, "-o", tmp_path / "out", "--steps", 0)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in seen(tmp_path / "out")] == ["DJI_0001.png", "DJI_0002.png"]


def test_two_folders_of_thermograms_and_photographs(ddfm: Command, tmp_path: Path) -> None:
    for name in ("thermal", "visible"):
        (tmp_path / name).mkdir()
    (tmp_path / "thermal" / "1.jpg").write_bytes(flir_file(warmth(48, 64)))
    PILImage.fromarray(picture(48, 64, 3, np.uint8)).save(tmp_path / "visible" / "1.png")
    done = ddfm(
        *("fuse", tmp_path / "thermal", tmp_path / "visible", "-o", tmp_path / "out", "--steps", 0),
        *("--temperatures", tmp_path / "t"),
    )
    assert done.returncode == 0, done.stderr
    assert np.abs(tifffile.imread(tmp_path / "t" / "1.tif") - warmth(48, 64)).max() < 0.05


def test_what_is_not_radiometric_is_refused_in_one_line(ddfm: Command, tmp_path: Path) -> None:
    a, b = tmp_path / "a.png", tmp_path / "b.png"
    for path in (a, b):
        PILImage.fromarray(picture(40, 56, 1, np.uint8)).save(path)
    (tmp_path / "t.jpg").write_bytes(small())
    out = tmp_path / "out.png"
    write_nifti(tmp_path / "scan.nii", np.zeros((20, 20, 20), np.int16))
    mistakes = {
        (tmp_path / "scan.nii",): "two sources or more are needed, 1 given",
        (tmp_path / "scan.nii", tmp_path / "scan.nii", "--annotate"): "--annotate is for radiometric sources",
        (tmp_path / "t.jpg", tmp_path / "t.jpg", "--annotate"): "--annotate is for those alone",
        (a, b, "--palette", "iron"): "--palette is for those alone",
        (a, b, "--temperatures", tmp_path / "t.tif"): "--temperatures is for those alone",
        (a,): "two sources or more are needed, 1 given",
        (tmp_path / "t.jpg", "--palette", "jet"): "palette 'jet': not one of",
        (tmp_path / "t.jpg", "--isotherm", 5, 1): "the lower one first",
        (tmp_path / "t.jpg", "--table", tmp_path / "t.txt"): "name a .csv file",
        (tmp_path / "t.jpg", "--temperatures", tmp_path / "t.png"): "name a .tif file",
        (tmp_path / "t.jpg", "--emissivity", 3): "emissivity 3 is not within",
    }
    for arguments, words in mistakes.items():
        done = ddfm("fuse", *arguments, "-o", out)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert words in done.stderr
        assert not out.exists()
