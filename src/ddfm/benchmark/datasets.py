"""Public data sets of fusion: where to get them, how they must lie on disk, which part is for testing.

Nothing is downloaded: most of these sets carry no licence to hand them on. The splits are those that the
sets' own pages or papers state. Where there is none, papers choose their own pairs. Then their numbers cannot
be compared pair by pair, and `Dataset.split` says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ddfm.errors import InputError
from ddfm.jobs.matching import Group, match_folders

Task = Literal["infrared", "medical", "exposure", "focus", "any"]
Names = tuple[str, ...]

INFRARED: Names = ("ir", "inf", "infrared", "thermal", "cropinfrared")
VISIBLE: Names = ("vi", "vis", "visible", "rgb", "crop_LR_visible")
UNDER: Names = ("under", "underexposed", "low")
OVER: Names = ("over", "overexposed", "high")
NEAR: Names = ("near", "sourceA", "A")
FAR: Names = ("far", "sourceB", "B")


@dataclass(frozen=True)
class Dataset:
    """A set of aligned pairs.

    Attributes:
        name: what the command calls it.
        title: what people call it.
        task: kind of pairs.
        source: the public place to get it.
        a: accepted names of the folder with the first sources, the preferred one first. Upper and
            lower case are the same, and the folder may lie in one of ``WITHIN``.
        b: likewise the second sources; files match by name before the suffix.
        split: which pairs are for testing, as far as anybody says so.
        test_pairs: how many those are, or None if that is not settled.
        note: what has to be done to the set as it is handed out, if anything.
    """

    name: str
    title: str
    task: Task
    source: str
    a: Names
    b: Names
    split: str
    test_pairs: int | None = None
    note: str = ""


# Folders that the two may lie in: the root itself, the test part, what some archives unpack to.
WITHIN = ("", "test", "input", "M3FD_Fusion")

_HARVARD = "https://www.med.harvard.edu/aanlib/"
_NO_SPLIT = "none of its own; papers choose their own pairs"
_ALL = "all pairs"

_ALL_SETS = (
    Dataset(
        "tno",
        "TNO Image Fusion Dataset",
        "infrared",
        "https://figshare.com/articles/dataset/TNO_Image_Fusion_Dataset/1008029",
        INFRARED,
        VISIBLE,
        f"{_NO_SPLIT}, 25 or 42 as a rule",
        note="give the two pictures of a scene one name",
    ),
    Dataset(
        "roadscene",
        "RoadScene",
        "infrared",
        "https://github.com/hanna-xu/RoadScene",
        INFRARED,
        VISIBLE,
        f"{_NO_SPLIT} of the 221, often 50",
    ),
    Dataset(
        "msrs",
        "MSRS",
        "infrared",
        "https://github.com/Linfeng-Tang/MSRS",
        INFRARED,
        VISIBLE,
        "the folder test",
        361,
    ),
    Dataset(
        "m3fd",
        "M3FD",
        "infrared",
        "https://github.com/JinyuanLiu-CV/TarDAL",
        INFRARED,
        VISIBLE,
        "the part M3FD_Fusion",
        300,
    ),
    Dataset(
        "llvip",
        "LLVIP",
        "infrared",
        "https://github.com/bupt-ai-cz/LLVIP",
        ("infrared/test", *INFRARED),
        ("visible/test", *VISIBLE),
        "the folders infrared/test and visible/test",
        3463,
    ),
    Dataset(
        "mfnet",
        "MFNet",
        "infrared",
        "https://www.mi.t.u-tokyo.ac.jp/static/projects/mil_multispectral/",
        INFRARED,
        VISIBLE,
        "the names in its test.txt",
        393,
        note="its files hold red, green, blue and thermal: write the fourth channel to ir, the rest to vi",
    ),
    Dataset(
        "fmb",
        "FMB",
        "infrared",
        "https://github.com/JinyuanLiu-CV/SegMiF",
        INFRARED,
        VISIBLE,
        "the folder test",
        280,
    ),
    Dataset("mri-ct", "Harvard MRI-CT", "medical", _HARVARD, ("mri",), ("ct",), _NO_SPLIT),
    Dataset("mri-pet", "Harvard MRI-PET", "medical", _HARVARD, ("mri",), ("pet",), _NO_SPLIT),
    Dataset("mri-spect", "Harvard MRI-SPECT", "medical", _HARVARD, ("mri",), ("spect",), _NO_SPLIT),
    Dataset(
        "mefb",
        "MEFB",
        "exposure",
        "https://github.com/xingchenzhang/MEFB",
        UNDER,
        OVER,
        _ALL,
        100,
        note="it has a folder for each scene: collect the darker pictures in one, the brighter in the other",
    ),
    Dataset(
        "mfifb",
        "MFIFB",
        "focus",
        "https://github.com/xingchenzhang/MFIFB",
        NEAR,
        FAR,
        _ALL,
        105,
    ),
    Dataset(
        "lytro",
        "Lytro",
        "focus",
        "https://github.com/mnnejati/LytroDataset",
        NEAR,
        FAR,
        _ALL,
        20,
        note="its two pictures lie side by side, told apart by the end of their names: "
        "sort them into two folders and give both one name",
    ),
    Dataset(
        "vifb",
        "VIFB",
        "infrared",
        "https://github.com/xingchenzhang/VIFB",
        INFRARED,
        VISIBLE,
        _ALL,
        21,
        note="VI/peopleshadow.jpg and IR/peopleShadow.jpg are one pair: give them one name",
    ),
    Dataset(
        "folder",
        "Pairs of your own",
        "any",
        "two folders of your own",
        ("a", *INFRARED, *UNDER, *NEAR, "mri"),
        ("b", *VISIBLE, *OVER, *FAR, "ct", "pet", "spect"),
        _ALL,
    ),
)

DATASETS: dict[str, Dataset] = {dataset.name: dataset for dataset in _ALL_SETS}
"""Every known set by its name; ``folder`` is anybody's."""


def get_dataset(name: str) -> Dataset:
    """Return the set of that name; raises InputError, listing the known ones."""
    if name not in DATASETS:
        raise InputError(f"unknown dataset {name!r}; known: {', '.join(DATASETS)}")
    return DATASETS[name]


def find_folders(dataset: Dataset, root: Path) -> tuple[Path, Path]:
    """Find the folders of the first and of the second sources below ``root``.

    Raises InputError naming the folder that is expected, and where the set is to be had.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; {dataset.title} is to be had from {dataset.source}")
    a, b = (_below(root, names) for names in (dataset.a, dataset.b))
    for found, names, sources in ((a, dataset.a, "first"), (b, dataset.b, "second")):
        if found is None:
            others = f" (or {', '.join(names[1:])})" if names[1:] else ""
            raise InputError(
                f"{root / names[0]}: missing; {dataset.title} needs a folder {names[0]}{others} "
                f"with the {sources} sources" + (f"; {dataset.note}" if dataset.note else "")
            )
    assert a is not None
    assert b is not None
    return a, b


def find_pairs(dataset: Dataset, root: Path) -> list[Group]:
    """Find all pairs below ``root``, sorted by name; files without a partner are left out.

    Raises InputError if a folder is missing or no two files have one name.
    """
    return match_folders(*find_folders(dataset, root))[0]


def _below(root: Path, names: Sequence[str]) -> Path | None:
    """Find the first of the folders ``names`` that exists, in the root or in one of WITHIN."""
    return next(
        (found for within in WITHIN for name in names if (found := _descend(root, f"{within}/{name}"))), None
    )


def _descend(folder: Path, path: str) -> Path | None:
    """Find a folder by its path, upper and lower case alike: archives come with ir, Ir and IR."""
    for part in filter(None, path.split("/")):
        matching = [entry for entry in sorted(folder.iterdir()) if entry.name.lower() == part.lower()]
        inside = next((entry for entry in matching if entry.is_dir()), None)
        if inside is None:
            return None
        folder = inside
    return folder
