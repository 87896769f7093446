"""The commands, end to end, on small sets; the given detector on real ones where they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ddfm.downstream import detection
from ddfm.downstream.inputs import find_inputs
from ddfm.downstream.layouts import flir_crops, msrs
from ddfm.downstream.ssdlite import TILE, graph_file, starts
from ddfm.errors import InputError
from tests.conftest import Command, check_refusals
from tests.downstream import sets


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from ddfm.downstream.night_drive import synthesize

    folder = tmp_path_factory.mktemp("sets") / "drive"
    synthesize(folder, 10)
    return folder


def report(folder: Path) -> tuple[str, dict[str, Any]]:
    page = (folder / "report.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "http" not in page.replace("http-equiv", "")  # loads nothing
    return page, json.loads((folder / "results.json").read_text())


def test_segmentation_is_trained_and_resumed(drive: Path, tmp_path: Path, ddfm: Command) -> None:
    pytest.importorskip("transformers")
    arguments = ("downstream", "segmentation", "night-drive", "--root", drive, "-o", tmp_path)
    settings = ("--inputs", "visible,mean", "--seeds", 2, "--steps", 3)
    done = ddfm(*arguments, *settings)
    assert done.returncode == 0, done.stderr
    page, values = report(tmp_path)
    assert "mIoU, background left out" in page
    assert "training loss" in page
    assert page.count("data:image/jpeg") == 4  # two test scenes of two inputs
    assert {name: len(found["mIoU"]) for name, found in values["inputs"].items()} == {"visible": 2, "mean": 2}
    assert set(values["inputs"]["mean"]) == {"mIoU", "IoU_by_class", "day", "night"}
    files = sorted((tmp_path / "cache" / "trainings").glob("*.pt"))
    assert len(files) == 4
    times = [file.stat().st_mtime_ns for file in files]
    assert ddfm(*arguments, *settings).returncode == 0
    assert [file.stat().st_mtime_ns for file in files] == times  # nothing was trained again
    assert report(tmp_path)[1] == values


def test_detection_is_trained(drive: Path, tmp_path: Path, ddfm: Command) -> None:
    pytest.importorskip("faster_coco_eval")
    arguments = ("downstream", "detection", "night-drive", "--root", drive, "-o", tmp_path)
    done = ddfm(*arguments, "--protocol", "retrained", "--inputs", "infrared,max", "--seeds", 1, "--steps", 3)
    assert done.returncode == 0, done.stderr
    _, values = report(tmp_path)
    (part,) = values.values()
    assert list(part["inputs"]) == ["infrared", "max"]
    assert 0 <= part["inputs"]["max"]["AP50"][0] <= 1


def test_perfect_predictions_are_perfect(drive: Path, tmp_path: Path, ddfm: Command) -> None:
    pytest.importorskip("faster_coco_eval")
    perfect = tmp_path / "boxes"
    perfect.mkdir()
    for path in (drive / "boxes").glob("*.txt"):
        (perfect / path.name).write_text("".join(f"{line} 0.9\n" for line in path.read_text().splitlines()))
    for task, folder in (("detection", perfect), ("segmentation", drive / "labels")):
        output = tmp_path / task
        arguments = ("downstream", task, "night-drive", "--root", drive, "-o", output)
        done = ddfm(*arguments, "--protocol", "evaluate-only", "--inputs", f"Perfect={folder}")
        assert done.returncode == 0, done.stderr
        _, values = report(output)
        if task == "detection":
            assert values["boxes as given"]["inputs"]["Perfect"]["AP50_95"][0] == pytest.approx(1)
        else:
            both = {"with_background": 1.0, "without_background": 1.0}
            assert values["inputs"]["Perfect"]["mIoU"] == [both]


def test_a_mask_of_another_size_is_refused(drive: Path, tmp_path: Path, ddfm: Command) -> None:
    for name in (drive / "test.txt").read_text().split():
        Image.new("L", (8, 8)).save(tmp_path / f"{name}.png")
    arguments = ("downstream", "segmentation", "night-drive", "--root", drive, "-o", tmp_path / "out")
    done = ddfm(*arguments, "--protocol", "evaluate-only", "--inputs", f"Small={tmp_path}")
    assert done.returncode == 2
    assert "00008D.png: is 8x8 pixels, its label 160x120" in done.stderr


def classification(folder: Path) -> tuple[str | Path, ...]:
    names = ("downstream", "classification", "flir-crops")
    return *names, "--root", folder / "set", "-o", folder / "out"


def test_classification_of_crops_that_differ(tmp_path: Path, ddfm: Command) -> None:
    sets.flir_crops(tmp_path / "set", crops=6)
    done = ddfm(*classification(tmp_path), "--inputs", "visible,infrared", "--seeds", 1, "--steps", 25)
    assert done.returncode == 0, done.stderr
    page, values = report(tmp_path / "out")
    for name in ("visible", "infrared"):
        for time in ("day", "night"):
            assert values["inputs"][name][time]["balanced"][0] > 0.9  # their grey levels tell them apart
    assert "shown infrared" in page
    assert "accuracy against" not in page  # ours is not among the inputs


def test_classes_as_given(tmp_path: Path, ddfm: Command) -> None:
    sets.flir_crops(tmp_path / "set", crops=2)
    names = flir_crops.read(tmp_path / "set", "test").names
    answers = tmp_path / "answers.csv"
    lines = [f"{name},{'person' if name.startswith('day') else name.split('/')[1]}" for name in names]
    answers.write_text("\n".join(["name,class", *lines]))
    right = tmp_path / "right.csv"
    right.write_text("\n".join(["name,class", *(f"{name},{name.split('/')[1]}" for name in names)]))
    given = ("--protocol", "evaluate-only", "--inputs", f"Theirs={answers},ddfm={right}")
    assert ddfm(*classification(tmp_path), *given).returncode == 0
    page, values = report(tmp_path / "out")
    assert "shown Theirs" not in page  # nobody said what another input would have made of it
    assert "Balanced accuracy against ddfm" in page
    assert "-0.667 [" in page  # two classes of three by day, none at night
    assert "+0.000 [+0.000, +0.000]" in page
    assert values["inputs"]["Theirs"]["day"]["worst"] == [0.0]
    assert values["inputs"]["Theirs"]["day"]["accuracy"] == [pytest.approx(1 / 3)]
    assert values["inputs"]["Theirs"]["night"]["worst"] == [1.0]
    answers.write_text("\n".join(["name,class", *lines[1:]]))
    done = ddfm(*classification(tmp_path), *given)
    assert done.returncode == 2
    assert f"answers.csv: {names[0]} should have one of person, car, bicycle" in done.stderr


def test_mistakes_get_one_plain_line(drive: Path, tmp_path: Path, ddfm: Command) -> None:
    output = tmp_path / "out"

    def call(task: str, name: str, *more: object, root: Path = drive) -> tuple[object, ...]:
        return ("downstream", task, name, "--root", root, "-o", output, *more)

    mistakes = {
        call("segmentation", "cityscapes"): "unknown dataset 'cityscapes'; known here: fmb, mfnet",
        call("segmentation", "mfnet", root=tmp_path): "this folder is missing",
        call("segmentation", "mfnet", root=tmp_path / "no"): "is not a folder",
        call(
            "segmentation", "night-drive", "--protocol", "pretrained"
        ): "must be one of retrained, evaluate-only",
        call("segmentation", "night-drive", "--inputs", "sum"): "unknown input 'sum'",
        call("segmentation", "night-drive", "--seeds", 0): "seeds 0: must be at least 1",
        call("segmentation", "night-drive", "--steps", 0): "steps 0: must be at least 1",
        call("detection", "night-drive", "--protocol", "retrained", "--model", "x"): "unknown detector 'x'",
        call(
            "detection", "night-drive", "--protocol", "evaluate-only"
        ): "inputs are NAME=PATH of predictions",
        call("classification", "mnist"): "unknown dataset 'mnist'; known here: flir-crops",
        call("classification", "flir-crops"): "neither this folder nor train.zip is there",
        ("datasets", "check", "mnist", "--root", drive): "unknown dataset 'mnist'",
    }
    check_refusals(ddfm, mistakes, tmp_path)


def test_tiles_cover_a_side_evenly() -> None:
    assert starts(200) == [0]
    for side in (321, 480, 640, 1024):
        begins = starts(side)
        assert begins[0] == 0
        assert begins[-1] + TILE == side
        assert max(np.diff(begins)) <= 0.75 * TILE + 1


@pytest.mark.slow
def test_the_given_detector_on_labelled_streets(data: Path) -> None:
    """Persons are found; the numbers are those of benchmarks/results/downstream.md."""
    try:
        graph_file()
    except InputError as error:
        pytest.skip(str(error))
    pictures = data / "ivf/msrs"
    labelled = msrs.detection_of(pictures / "ir", pictures / "vi", data / "detection/msrs/labels")
    found = detection.pretrained(labelled, find_inputs(["visible", "mean"]))
    whole = found["whole picture"]
    assert len(whole.scenes) == 12
    assert sum(map(len, whole.truth)) == 24
    values = {name: whole.precisions(name)[0].mean_50 for name in whole.inputs}
    assert values == pytest.approx({"visible": 0.511, "mean": 0.754}, abs=0.02)
    low, high = whole.interval_50("mean").low, whole.interval_50("mean").high
    assert low < values["mean"] < high
