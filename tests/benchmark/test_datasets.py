from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

from ddfm.benchmark.datasets import DATASETS, find_folders, find_pairs, get_dataset
from ddfm.errors import InputError
from tests.conftest import picture


def put(root: Path, *files: str) -> None:
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        PILImage.fromarray(picture(16, 16, 1, np.uint8)).save(path)


@pytest.mark.parametrize(
    ("name", "a", "b"),
    [
        ("tno", "ir", "vi"),
        ("roadscene", "cropinfrared", "crop_LR_visible"),
        ("msrs", "test/ir", "test/vi"),
        ("m3fd", "M3FD_Fusion/Ir", "M3FD_Fusion/Vis"),
        ("llvip", "infrared/test", "visible/test"),
        ("fmb", "test/Infrared", "test/Visible"),
        ("mri-pet", "MRI", "PET"),
        ("mefb", "under", "over"),
        ("lytro", "sourceA", "sourceB"),
        ("vifb", "input/IR", "input/VI"),
        ("folder", "a", "b"),
        ("folder", "Inf", "Vis"),
    ],
)
def test_layouts(tmp_path: Path, name: str, a: str, b: str) -> None:
    put(tmp_path, f"{a}/2.png", f"{a}/1.png", f"{b}/1.bmp", f"{b}/2.bmp", f"{a}/alone.png")
    (tmp_path / a / "notes.txt").write_text("not a picture")
    pairs = find_pairs(DATASETS[name], tmp_path)
    assert [pair.stem for pair in pairs] == ["1", "2"]
    assert pairs[0].files[0] == tmp_path / a / "1.png"
    assert pairs[0].files[1] == tmp_path / b / "1.bmp"


def test_the_test_part_of_llvip_is_taken_not_its_training_part(tmp_path: Path) -> None:
    put(
        tmp_path,
        *(f"{kind}/{part}/{part}.jpg" for kind in ("infrared", "visible") for part in ("train", "test")),
    )
    assert [pair.stem for pair in find_pairs(DATASETS["llvip"], tmp_path)] == ["test"]


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"nowhere: no such folder; MSRS is to be had from https://github\.com"
    ):
        find_folders(DATASETS["msrs"], tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"/ir: missing; .*folder ir \(or inf, .*\) with the first sources"):
        find_folders(DATASETS["tno"], tmp_path)
    put(tmp_path, "ir/1.png")
    with pytest.raises(InputError, match=r"/vi: missing; MFNet .*second sources; its files hold red"):
        find_folders(DATASETS["mfnet"], tmp_path)
    (tmp_path / "vi").mkdir()
    with pytest.raises(InputError, match="no images with the same name"):
        find_pairs(DATASETS["tno"], tmp_path)
    with pytest.raises(InputError, match="unknown dataset 'coco'; known: tno, roadscene"):
        get_dataset("coco")


def test_every_set_says_where_it_comes_from_and_what_its_test_part_is() -> None:
    for dataset in DATASETS.values():
        assert dataset.name == "folder" or dataset.source.startswith("https://")
        assert dataset.split
        assert not set(dataset.a) & set(dataset.b)


@pytest.mark.parametrize(
    ("name", "folder", "count"),
    [
        ("tno", "ivf/tno", 17),
        ("roadscene", "ivf/roadscene", 171),
        ("mri-ct", "mif/mri_ct", 11),
        ("mri-pet", "mif/mri_pet", 21),
        ("mri-spect", "mif/mri_spect", 37),
        ("mefb", "mef/mefb", 19),
        ("mfifb", "mff/mfifb", 25),
        ("vifb", "vifb", 15),
        ("folder", "misaligned/msrs", 10),
    ],
)
def test_development_data(data: Path, name: str, folder: str, count: int) -> None:
    assert len(find_pairs(DATASETS[name], data / folder)) == count
