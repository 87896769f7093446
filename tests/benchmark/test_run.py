from __future__ import annotations

import hashlib
import json
import time
from math import inf, nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PILImage

from ddfm.benchmark.datasets import DATASETS
from ddfm.benchmark.evaluation import evaluate_folders
from ddfm.benchmark.methods import Method, find_methods
from ddfm.benchmark.published import load_published, published_for
from ddfm.benchmark.report.plots import box, short
from ddfm.benchmark.report.sheet import Window, most_different
from ddfm.benchmark.run import Failure, Meter, run, summarise
from ddfm.errors import InputError
from ddfm.jobs.files import read_8_bits
from ddfm.jobs.matching import Group
from ddfm.metrics import METRICS, Convention, mef_ssim, qcb, to_grey
from ddfm.pictures.image import Image
from tests.conftest import picture

FOLDER, TNO = DATASETS["folder"], DATASETS["tno"]


@pytest.fixture
def pairs(tmp_path: Path) -> list[Group]:
    found = []
    for index in range(3):
        pair = Group(f"{index}", (tmp_path / f"a/{index}.png", tmp_path / f"b/{index}.png"))
        for path, channels in zip(pair.files, (1, 3), strict=True):
            path.parent.mkdir(exist_ok=True)
            PILImage.fromarray(picture(48, 56, channels, np.uint8, index + channels)).save(path)
        found.append(pair)
    return found


def outputs(tmp_path: Path, pairs: list[Group]) -> Method:
    """Somebody's outputs: the first sources, mirrored."""
    (tmp_path / "theirs").mkdir()
    for pair in pairs:
        pixels = np.asarray(PILImage.open(pair.files[0]))[:, ::-1]
        PILImage.fromarray(pixels).save(tmp_path / "theirs" / f"{pair.stem}.png")
    return find_methods([str(tmp_path / "theirs")], FOLDER, [pair.stem for pair in pairs])[0]


@pytest.mark.parametrize("convention", ["paper", "vifb"])
def test_values_are_those_of_evaluate(tmp_path: Path, pairs: list[Group], convention: Convention) -> None:
    theirs = outputs(tmp_path, pairs)
    same = Method("same", lambda a, b: a)
    result = run(FOLDER, tmp_path, pairs, [theirs, same], convention)
    expected = evaluate_folders(
        tmp_path / "a", tmp_path / "b", [tmp_path / "theirs", tmp_path / "a"], convention
    )
    values = result.evaluation.methods
    assert values["theirs"] == expected.methods["theirs"]
    assert values["same"].images == expected.methods["a"].images
    assert result.evaluation.mean_rank is not None
    assert expected.mean_rank is not None
    assert result.evaluation.mean_rank["theirs"] == expected.mean_rank["theirs"]
    assert (result.costs["theirs"].seconds, result.costs["theirs"].peak_mib) == (None, None)
    sums = result.about["sha256"]
    assert sums["b/2.png"] == hashlib.sha256((tmp_path / "b/2.png").read_bytes()).hexdigest()
    assert len(sums) == 6
    assert [example.stem for example in result.examples] == ["0", "1", "2"]


def test_exposures_and_focus_stacks_are_judged_by_their_own_metrics_besides(
    tmp_path: Path, pairs: list[Group]
) -> None:
    same = Method("same", lambda a, b: a)
    paper = list(run(FOLDER, tmp_path, pairs[:1], [same]).evaluation.methods["same"].mean)
    for name, more in (("mefb", ["MEF_SSIM", "Qcb"]), ("mfifb", ["Qcb"])):
        result = run(DATASETS[name], tmp_path, pairs[:1], [same])
        values = result.evaluation.methods["same"].images["0"]
        assert list(values) == paper + more
        a, b = (to_grey(read_8_bits(path)) for path in pairs[0].files)
        assert values["Qcb"] == qcb(a, b, a).item()
        if "MEF_SSIM" in more:
            assert values["MEF_SSIM"] == mef_ssim([a, b], a).item()
    vifb = run(DATASETS["mefb"], tmp_path, pairs[:1], [same], "vifb").evaluation.methods["same"].mean
    assert list(vifb).count("Qcb") == 1
    assert "MEF_SSIM" in vifb


def test_failures_are_named_and_means_stay_over_the_same_pairs(tmp_path: Path, pairs: list[Group]) -> None:
    def picky(a: Image, b: Image) -> Image:
        if a.name.endswith("1.png"):
            raise RuntimeError("out of memory")
        return a

    def broken(a: Image, b: Image) -> Image:
        raise InputError("never works")

    pairs[2].files[1].write_bytes(b"no picture")
    methods = [Method("picky", picky), Method("broken", broken), Method("fine", lambda a, b: b)]
    seen: list[str] = []
    result = run(FOLDER, tmp_path, pairs, methods, progress=seen.append)
    assert {name: list(r.images) for name, r in result.evaluation.methods.items()} == {
        "picky": ["0"],
        "fine": ["0"],
    }
    assert [(f.stem, f.method) for f in result.failures] == [
        ("0", "broken"),
        ("1", "picky"),
        ("1", "broken"),
        ("2", ""),
    ]
    assert result.failures[1].reason == "RuntimeError: out of memory"
    assert "2.png" in result.failures[3].reason
    assert seen == ["picky", "broken", "fine"] * 3
    with pytest.raises(InputError, match="no pair could be measured: broken 0: never works"):
        run(FOLDER, tmp_path, pairs, [Method("broken", broken)])


def test_mean_ranks_of_a_made_up_table() -> None:
    """EN up, MSE down: x is first and second, y second and first, z last and last."""
    table = {"x": (7.0, 30.0), "y": (6.0, 20.0), "z": (5.0, 40.0)}
    values = {name: {"1": {"EN": en, "MSE": mse}} for name, (en, mse) in table.items()}
    result = summarise(values, "paper", [])
    assert result.mean_rank == {"x": 1.5, "y": 1.5, "z": 3}
    with pytest.raises(InputError, match="could not"):
        summarise({"x": {}}, "paper", [Failure("1", "x", "could not")])


def test_the_meter_sees_time_and_memory() -> None:
    mebibytes = 256
    begun = time.perf_counter()
    with Meter() as meter:
        entered = time.perf_counter()
        block = np.ones(mebibytes * 2**20, np.uint8)
        del block
        left = time.perf_counter()
    assert left - entered <= meter.seconds <= time.perf_counter() - begun
    with Meter() as after:
        pass
    if meter.peak_mib is None or after.peak_mib is None:
        pytest.skip("peak memory is known on Linux and CUDA only")
    # Half of the block is room for what else the process takes or gives back meanwhile.
    assert abs(meter.peak_mib - mebibytes) < mebibytes / 2
    assert after.peak_mib < mebibytes / 2  # the peak of one block is not that of the next


def test_the_window_lies_where_the_sources_differ() -> None:
    a = np.full((80, 120, 1), 100, np.uint8)
    b = np.full((80, 120, 3), 100, np.uint8)
    b[50:70, 90:110] = 220
    assert most_different(a, b) == Window(50, 90, 20)


def test_boxes_follow_tukey() -> None:
    assert box([nan, inf]) is None
    drawn = box([1, 2, 3, 4, 5, 20, nan])
    assert drawn is not None
    assert (drawn.low, drawn.first, drawn.median, drawn.third, drawn.high) == (1, 2.25, 3.5, 4.75, 5)
    assert drawn.outliers == (20,)
    written = [short(value) for value in (0.1236, 12.346, 123.46, 1234.6, -0.5, inf, nan)]
    assert written == ["0.124", "12.35", "123.5", "1235", "-0.500", "∞", "\N{EN DASH}"]


def test_published_numbers_name_known_sets_and_metrics() -> None:
    rows = load_published()
    for row in rows:
        assert set(row.datasets) <= set(DATASETS)
        assert set(row.values) <= {*METRICS, "mIoU", "mAP50"}
        assert row.source
    paper = {name: row.values for row in rows for name in row.datasets if row.method == "DDFM (paper)"}
    # ICCV 2023, the tables of infrared-visible and of medical fusion.
    assert paper["msrs"] == {"EN": 6.88, "SD": 40.75, "MI": 2.35, "VIF": 0.81, "Qabf": 0.58, "SSIM_dr2": 0.94}
    assert paper["mri-ct"] == paper["mri-spect"]
    assert [row.values["SD"] for row in published_for("tno")] == [51.42, 34.55]
    assert published_for("folder") == []


def test_pairs_at_once_give_the_same_values_and_pictures(tmp_path: Path, pairs: list[Group]) -> None:
    """One worker or three: the same but for the date, though pairs end in another order."""

    def results(workers: int) -> Any:
        methods = find_methods(["ddfm", "laplacian"], TNO, [pair.stem for pair in pairs], steps=1)
        result = run(TNO, tmp_path, pairs, methods, workers=workers)
        made = result.as_dict()
        made["about"] = {key: value for key, value in result.about.items() if key != "date"}
        return made, result.examples, [method.settings for method in methods]

    one, three = results(1), results(3)
    assert json.dumps(one[0]) == json.dumps(three[0])
    assert one[0]["methods"]["ddfm"]["seconds"] is None
    assert one[2] == three[2]
    assert one[2][0]["task"] == "infrared"
    for first, second in zip(one[1], three[1], strict=True):
        assert first.stem == second.stem
        for name in first.outputs:
            assert np.array_equal(first.outputs[name], second.outputs[name]), name
