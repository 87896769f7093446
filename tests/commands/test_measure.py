"""The commands evaluate and benchmark."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

from ddfm.benchmark.methods import BASELINES
from tests.conftest import Command, check_refusals, picture


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three pairs in root/ir and root/vi, and outputs of two methods beside them."""
    for index in range(3):
        for folder, channels, seed in (("ir", 1, 0), ("vi", 3, 10), ("one", 1, 20), ("two", 3, 30)):
            path = tmp_path / "root" / folder / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            PILImage.fromarray(picture(48, 56, channels, np.uint8, index + seed)).save(path)
    return tmp_path / "root"


def test_evaluate_one_folder(ddfm: Command, root: Path, tmp_path: Path) -> None:
    sources = ("--a", root / "ir", "--b", root / "vi")
    file = tmp_path / "values.json"
    done = ddfm("evaluate", *sources, "--fused", root / "one", "--json", file)
    assert done.returncode == 0, done.stderr
    assert "mean over 3 images" in done.stdout
    values = json.loads(file.read_text())
    assert set(values) == {"convention", "mean", "images"}
    assert list(values["images"]) == ["0", "1", "2"]
    for name, mean in values["mean"].items():
        assert mean == pytest.approx(np.mean([image[name] for image in values["images"].values()]))
    fused = np.asarray(PILImage.open(root / "one" / "1.png")).astype(float)
    assert values["images"]["1"]["SD"] == pytest.approx(fused.std())


def test_evaluate_several_folders(ddfm: Command, root: Path, tmp_path: Path) -> None:
    arguments = ("--a", root / "ir", "--b", root / "vi", "--fused", root / "one", "--fused", root / "two")
    file = tmp_path / "values.csv"
    done = ddfm("evaluate", *arguments, "--convention", "vifb", "--json", "-", "--csv", file)
    assert done.returncode == 0, done.stderr
    values = json.loads(done.stdout)
    assert set(values) == {"convention", "methods", "mean_rank"}
    assert values["convention"] == "vifb"
    assert "Qcb" in values["methods"]["two"]["mean"]
    assert sum(values["mean_rank"].values()) == pytest.approx(3)
    with file.open(newline="") as rows:
        assert len(list(csv.DictReader(rows))) == 2 * (3 + 1)


def test_benchmark(ddfm: Command, root: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    shutil.copy(root / "ir" / "0.png", root / "ir" / "lonely.png")
    done = ddfm(
        "benchmark", "folder", "--root", root, "-o", out, "--methods", f"ddfm,{root / 'two'}", "--steps", 1
    )
    assert done.returncode == 0, done.stderr
    assert "3 pairs, 9 methods" in done.stdout
    assert "no partner" in done.stderr
    assert "lonely.png" in done.stderr
    values = json.loads((out / "results.json").read_text())
    assert list(values["methods"]) == ["ddfm", "two", *BASELINES]
    assert values["methods"]["ddfm"]["settings"]["steps"] == 1
    assert values["methods"]["ddfm"]["seconds"] > 0
    assert values["methods"]["two"]["seconds"] is None
    assert "benchmark folder --root" in values["about"]["command"]
    assert sorted(path.name for path in out.iterdir()) == ["report.html", "results.csv", "results.json"]

    # The values of outputs in a folder are those that evaluate gives.
    again = ddfm("evaluate", "--a", root / "ir", "--b", root / "vi", "--fused", root / "two", "--json", "-")
    assert values["methods"]["two"]["images"] == json.loads(again.stdout)["images"]


def test_benchmark_prints_json_and_limits(ddfm: Command, root: Path, tmp_path: Path) -> None:
    arguments = ("benchmark", "tno", "--root", root, "-o", tmp_path / "report", "--methods", "mean")
    done = ddfm(*arguments, "--convention", "vifb", "--limit", 2, "--json")
    assert done.returncode == 0, done.stderr
    values = json.loads(done.stdout)
    assert values == json.loads((tmp_path / "report" / "results.json").read_text())
    assert list(values["methods"]["mean"]["images"]) == ["0", "1"]
    assert list(values["methods"]) == list(BASELINES)
    assert values["convention"] == "vifb"


def test_benchmark_names_what_failed(ddfm: Command, root: Path, tmp_path: Path) -> None:
    (root / "ir" / "1.png").write_bytes(b"no picture")
    PILImage.fromarray(picture(48, 50, 1, np.uint8)).save(root / "two" / "2.png")
    done = ddfm("benchmark", "tno", "--root", root, "-o", tmp_path / "report", "--methods", root / "two")
    assert done.returncode == 1
    failed = [line for line in done.stderr.splitlines() if line.startswith("failed: ")]
    assert [line.split(": ")[1:3] for line in failed] == [["1", "sources"], ["2", "two"]]
    assert "ir/1.png" in failed[0]
    assert "two/2.png" in failed[1]
    assert "differ in size" in failed[1]
    assert "What failed" in (tmp_path / "report" / "report.html").read_text()


def test_mistakes_get_one_plain_line(ddfm: Command, root: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    sources = ("evaluate", "--a", root / "ir", "--b", root / "vi")
    one = (*sources, "--fused", root / "one")
    out = ("-o", tmp_path / "report")
    tno = ("benchmark", "tno", "--root", root, *out)
    mistakes: dict[tuple[object, ...], str] = {
        sources: "Missing option '--fused'",
        (*sources, "--fused", tmp_path / "nowhere"): "nowhere is not a folder",
        (*sources, "--fused", tmp_path / "empty"): "empty holds no images",
        (*one, "--convention", "best"): "convention 'best'; known: paper, vifb",
        (*one, "--json", tmp_path / "no" / "v.json"): "no is not a folder",
        (*one, "--csv", tmp_path): "is a folder",
        ("benchmark", "coco", "--root", root, *out): "unknown dataset 'coco'; known: tno",
        ("benchmark", "tno", "--root", tmp_path / "empty", *out): "empty/ir: missing",
        ("benchmark", "mri-ct", "--root", root, *out): "root/mri: missing; Harvard MRI-CT needs a folder mri",
        (*tno, "--methods", "median"): "median: neither a method",
        (*tno, "--methods", "mergemertens"): "mergemertens fuses exposures",
        (*tno, "--convention", "best"): "convention 'best'",
        (*tno, "--limit", 0): "limit 0",
        (*tno, "--steps", 1001): "steps 1001: not within 0 to 1000 for form ddfm",
        (*tno, "--methods", "ddfm:paper", "--steps", 0): "steps 0: not within 1 to 1000 for form paper",
        (*tno[:4], "-o", root / "ir" / "0.png", "--methods", "mean"): "is one of the sources",
    }
    check_refusals(ddfm, mistakes, tmp_path)


def test_help_has_examples(ddfm: Command) -> None:
    for command in ("evaluate", "benchmark"):
        done = ddfm(command, "--help")
        assert done.returncode == 0
        assert f"Example: ddfm {command}" in done.stdout


@pytest.mark.slow
def test_real_pairs_beside_published_methods(ddfm: Command, data: Path, tmp_path: Path) -> None:
    """Two pairs of TNO: the outputs of nine published methods, measured before by their authors' code."""
    tno = data / "ivf" / "tno"
    peers = sorted((tno / "peers").iterdir())
    arguments = (
        "--root",
        tno,
        "-o",
        tmp_path,
        "--methods",
        ",".join(map(str, peers)),
        "--limit",
        2,
        "--json",
    )
    done = ddfm("benchmark", "tno", *arguments)
    assert done.returncode == 0, done.stderr
    values = json.loads(done.stdout)
    with (tno / "peers_reference_values.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["image"] in ("05", "09")]
    assert len(rows) == 9 * 2 * 13
    for row in rows:
        measured = values["methods"][row["algorithm"]]["images"][row["image"]][row["metric"]]
        assert measured == pytest.approx(float(row["value"]), rel=1e-5), row
    assert "51.42" in (tmp_path / "report.html").read_text()
