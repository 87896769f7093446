from __future__ import annotations

import csv
import json
from io import StringIO
from math import inf
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from ddfm.benchmark.evaluation import as_table, evaluate_folders, write_csv, write_json
from ddfm.errors import InputError
from ddfm.jobs.files import read_8_bits
from ddfm.metrics import METRICS, evaluate

STEMS = ("night", "street", "tower")


def save(
    path: Path, seed: int, channels: int = 1, size: tuple[int, int] = (45, 48), contrast: float = 40
) -> None:
    path.parent.mkdir(exist_ok=True)
    shape = size if channels == 1 else (*size, channels)
    pixels = np.random.default_rng(seed).normal(128, contrast, shape).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, list[Path]]:
    """Grey ``a``, colour ``b``, and two methods: one copies a at less contrast, the other is noise."""
    a, b, copy, noise = (tmp_path / name for name in ("a", "b", "copy", "noise"))
    for seed, stem in enumerate((*STEMS, "extra")):
        save(a / f"{stem}.png", seed)
        if stem in STEMS:  # the extra one has no partner, and counts for nothing
            save(b / f"{stem}.bmp", seed + 10, channels=3)
            save(copy / f"{stem}.png", seed, contrast=15)
            save(noise / f"{stem}.tif", seed + 20, channels=3)
    (a / "notes.txt").write_text("not an image")
    return a, b, [copy, noise]


@pytest.mark.parametrize("convention", ["paper", "vifb"])
def test_values_are_those_of_the_metrics_and_means_their_means(
    folders: tuple[Path, Path, list[Path]], convention: str
) -> None:
    a, b, fused = folders
    result = evaluate_folders(a, b, fused, convention)  # type: ignore[arg-type]
    assert list(result.methods) == ["copy", "noise"]
    assert list(result.methods["noise"].images) == sorted(STEMS)
    images = [read_8_bits(p) for p in (a / "night.png", b / "night.bmp", fused[1] / "night.tif")]
    assert [image.shape[1] for image in images] == [1, 3, 3]
    a_image, b_image, f_image = images
    expected = {name: value.item() for name, value in evaluate(a_image, b_image, f_image, convention).items()}  # type: ignore[arg-type]
    noise = result.methods["noise"]
    assert noise.images["night"] == expected
    for name, mean in noise.mean.items():
        assert mean == pytest.approx(np.mean([noise.images[stem][name] for stem in STEMS]))


def test_ranks_follow_each_metrics_direction(folders: tuple[Path, Path, list[Path]]) -> None:
    a, b, fused = folders
    result = evaluate_folders(a, b, fused)
    assert result.mean_rank is not None
    ranks = []
    for name in result.methods["copy"].mean:
        copy, noise = (result.methods[method].mean[name] for method in ("copy", "noise"))
        first = copy > noise if METRICS[name].higher_is_better else copy < noise
        ranks.append(1 if first else 2)
    assert 1 in ranks
    assert 2 in ranks
    assert result.mean_rank["copy"] == pytest.approx(np.mean(ranks))
    assert result.mean_rank["copy"] + result.mean_rank["noise"] == pytest.approx(3)


def test_equal_methods_share_their_rank(folders: tuple[Path, Path, list[Path]], tmp_path: Path) -> None:
    a, b, (copy, noise) = folders
    twin = tmp_path / "twin"
    copy_files = sorted(copy.iterdir())
    twin.mkdir()
    for file in copy_files:
        (twin / file.name).write_bytes(file.read_bytes())
    result = evaluate_folders(a, b, [copy, twin])
    assert result.mean_rank == {"copy": 1.5, "twin": 1.5}
    assert evaluate_folders(a, b, [noise]).mean_rank is None


def test_json_and_csv_give_the_values_back(folders: tuple[Path, Path, list[Path]], tmp_path: Path) -> None:
    a, b, fused = folders
    result = evaluate_folders(a, b, fused)
    write_json(result, tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_text()) == result.as_dict()
    write_csv(result, tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * (3 + 1)
    for row in rows:
        method = result.methods[row.pop("method")]
        values = method.mean if (image := row.pop("image")) == "(mean)" else method.images[image]
        assert {name: float(value) for name, value in row.items()} == values


def test_json_of_one_method_is_its_values(folders: tuple[Path, Path, list[Path]]) -> None:
    a, b, fused = folders
    result = evaluate_folders(a, b, fused[:1])
    assert result.as_dict() == {
        "convention": "paper",
        "mean": result.methods["copy"].mean,
        "images": result.methods["copy"].images,
    }


def test_an_infinite_psnr_is_null_in_json(tmp_path: Path) -> None:
    for name in ("a", "b", "f"):
        save(tmp_path / name / "same.png", 0)
    result = evaluate_folders(tmp_path / "a", tmp_path / "b", [tmp_path / "f"])
    assert result.methods["f"].mean["PSNR"] == inf
    write_json(result, tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_text())["mean"]["PSNR"] is None


def test_the_table_shows_means_and_ranks(folders: tuple[Path, Path, list[Path]]) -> None:
    a, b, fused = folders
    result = evaluate_folders(a, b, fused)
    console = Console(width=100, file=StringIO())
    with console.capture() as capture:
        console.print(as_table(result))
    text = capture.get()
    assert "mean over 3 images" in text
    assert "MSE ↓" in text
    assert f"{result.methods['noise'].mean['VIF']:.4f}" in text
    assert "mean rank" in text


def test_what_is_missing_is_named(folders: tuple[Path, Path, list[Path]], tmp_path: Path) -> None:
    a, b, fused = folders
    with pytest.raises(InputError, match="nowhere is not a folder"):
        evaluate_folders(a, tmp_path / "nowhere", fused)
    with pytest.raises(InputError, match="no folder of fused images"):
        evaluate_folders(a, b, [])
    (fused[1] / "street.tif").unlink()
    with pytest.raises(InputError, match=r"noise: 1 of 3 results missing \(street\); --allow-missing"):
        evaluate_folders(a, b, fused)
    (a / "tower.png").unlink()
    with pytest.raises(InputError, match=r"copy: .*a and .*b have no pair called tower"):
        evaluate_folders(a, b, fused)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="empty holds no images"):
        evaluate_folders(a, b, [empty])


def test_missing_results_may_be_allowed(folders: tuple[Path, Path, list[Path]], tmp_path: Path) -> None:
    a, b, fused = folders
    whole = evaluate_folders(a, b, fused)
    (fused[1] / "street.tif").unlink()
    done: list[tuple[int, int]] = []
    part = evaluate_folders(a, b, fused, allow_missing=True, progress=lambda *counts: done.append(counts))
    assert done == [(1, 2), (2, 2)]
    assert part.missing == {"noise": ["street"]}
    assert part.as_dict()["missing"] == {"noise": ["street"]}
    for name, result in part.methods.items():
        rest = {stem: values for stem, values in whole.methods[name].images.items() if stem != "street"}
        assert result.images == rest
    for stem in STEMS:
        (fused[1] / f"{stem}.tif").unlink(missing_ok=True)
    save(fused[1] / "street.tif", 1)
    (fused[0] / "street.png").unlink()
    with pytest.raises(InputError, match="no pair has a result of every method"):
        evaluate_folders(a, b, fused, allow_missing=True)


def test_metrics_by_name(folders: tuple[Path, Path, list[Path]]) -> None:
    a, b, fused = folders
    all_of_them = evaluate_folders(a, b, fused)
    some = evaluate_folders(a, b, fused, metrics=["VIF", "EN", "FMI"])
    for name, result in some.methods.items():
        assert list(result.mean) == ["VIF", "EN", "FMI"]
        assert "FMI" not in all_of_them.methods[name].mean
        assert {result.mean[m] == all_of_them.methods[name].mean[m] for m in ("VIF", "EN")} == {True}
    with pytest.raises(InputError, match="unknown metric LPIPS; known: EN"):
        evaluate_folders(a, b, fused, metrics=["LPIPS"])
    with pytest.raises(InputError, match="no metric given"):
        evaluate_folders(a, b, fused, metrics=[])


def test_doubtful_files_are_refused(folders: tuple[Path, Path, list[Path]], tmp_path: Path) -> None:
    a, b, fused = folders
    with pytest.raises(InputError, match=r"two folders.*called copy"):
        evaluate_folders(a, b, [fused[0], fused[0]])
    save(fused[0] / "night.png", 0, size=(45, 50))
    with pytest.raises(InputError, match=r"night\.png: .*differ in size"):
        evaluate_folders(a, b, fused)
    (fused[0] / "night.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"night\.png: is not a PNG"):
        evaluate_folders(a, b, fused)
    Image.fromarray(np.zeros((45, 48), np.uint16)).save(fused[0] / "night.png")
    with pytest.raises(InputError, match=r"night\.png: has uint16 samples; 8 bits are needed"):
        evaluate_folders(a, b, fused)
    save(a / "night.bmp", 0)
    with pytest.raises(InputError, match=r"night\.bmp and night\.png.* same stem"):
        evaluate_folders(a, b, fused)
    with pytest.raises(InputError, match="cannot be written"):
        write_json(evaluate_folders(b, b, fused[1:]), tmp_path / "absent" / "out.json")


def test_palette_and_alpha_images_are_read_as_colour(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert("RGBA").save(tmp_path / "alpha.png")
    assert torch.equal(read_8_bits(tmp_path / "alpha.png")[0].permute(1, 2, 0), torch.from_numpy(pixels))
    Image.fromarray(pixels).quantize(16).save(tmp_path / "palette.png")
    assert read_8_bits(tmp_path / "palette.png").shape == (1, 3, 8, 9)
