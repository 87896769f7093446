"""Nothing of the user's is lost, whatever is typed, and every mistake is one plain line."""

from __future__ import annotations

import csv
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ddfm.cli import main
from ddfm.commands.terminal import label
from ddfm.errors import InputError, one_line, visible
from ddfm.formats.pictures import write_pages
from ddfm.formats.tables import cell
from ddfm.jobs.matching import is_output
from ddfm.pictures.image import from_array
from ddfm.places.local import LocalFolder
from tests.conftest import Command, picture
from tests.formats.medical import hounsfield, write_nifti

QUICK = ("--steps", 0, "--task", "infrared", "--noise", "off", "--device", "cpu")


def hashes(folder: Path) -> dict[str, str]:
    """What every regular file below a folder holds."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """Three pictures, a, b and c, and a TIFF, a NIfTI and a folder of each of two kinds."""
    for k, name in enumerate(("a", "b", "r", "r-2")):
        Image.fromarray(picture(32, 32, 1, np.uint8, k)).save(tmp_path / f"{name}.png")
        write_nifti(tmp_path / f"{name}.nii", hounsfield(16, 16, 2, k))
        pages = [from_array(picture(16, 16, 1, np.uint8, k + page)) for page in range(2)]
        write_pages(tmp_path / f"{name}.tif", pages)
    for folder in ("ir", "vi"):
        (tmp_path / folder).mkdir()
        for stem in ("1", "2"):
            Image.fromarray(picture(48, 48, 1, np.uint8, len(folder + stem))).save(
                tmp_path / folder / f"{stem}.png"
            )
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [
        ("a.nii", "b.nii", "-o", "a.nii"),
        ("a.nii", "b.nii", "-o", "b.nii"),
        ("a.tif", "b.tif", "-o", "./ir/../b.tif"),
        ("a.png", "b.png", "-o", "a.png"),
        ("a.png", "b.png", "-o", "new.png", "--uncertainty", "a.tiff"),
        ("a.png", "b.png", "-o", "new.png", "--uncertainty", "new.tif"),
        ("a.png", "b.png", "r-2.png", "-o", "n.png", "--register", "affine", "--register-report", "r.png"),
        ("a.png", "b.png", "-o", "new.png", "--register", "affine", "--register-report", "b.png"),
        ("ir", "vi", "-o", "ir"),
        ("ir", "vi", "-o", "new", "--uncertainty", "vi"),
        ("ir", "vi", "-o", "new", "--uncertainty", "new"),
    ],
)
def test_no_source_is_written_over(
    ddfm: Command, sources: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(sources)
    before = hashes(sources)
    done = ddfm("fuse", *arguments, *QUICK)
    assert done.returncode == 2, done
    assert "is one of the sources" in done.stderr or "would" in done.stderr
    assert done.stderr.count("\n") == 1
    assert hashes(sources) == before


@pytest.mark.parametrize("option", ["--csv", "--json"])
def test_values_are_not_written_over_pictures(ddfm: Command, sources: Path, option: str) -> None:
    before = hashes(sources)
    fused = sources / "vi"
    for path in (fused / "1.png", sources / "ir" / "2.png"):
        done = ddfm("evaluate", "--a", sources / "ir", "--b", fused, "--fused", fused, option, path)
        assert done.returncode == 2
        assert "is one of the sources" in done.stderr
    assert hashes(sources) == before


def test_training_does_not_write_over_photographs(ddfm: Command, tmp_path: Path) -> None:
    for name in ("loss.png", "samples.png", "other.png"):
        Image.fromarray(picture(160, 160, 1, np.uint8)).save(tmp_path / name)
    before = hashes(tmp_path)
    done = ddfm("train", tmp_path, "-o", tmp_path, "--device", "cpu")
    assert (done.returncode, "is one of the sources" in done.stderr) == (2, True)
    assert hashes(tmp_path) == before


def test_empty_files_and_folders_are_no_outputs(sources: Path) -> None:
    out = sources / "out"
    out.mkdir()

    def finished() -> list[bool]:
        return [is_output(LocalFolder(out).head(name)) for name in ("1.png", "1.tif")]

    assert finished() == [False, False]
    (out / "1.png").touch()
    assert finished() == [False, False]
    (out / "1.tif").mkdir()
    assert finished() == [False, False]
    (out / "1.png").write_bytes((sources / "a.png").read_bytes())
    assert finished() == [True, False]


def test_names_of_every_kind_reach_nobody_raw(ddfm: Command, tmp_path: Path) -> None:
    names = ("\x1b[31mred.png", "turned\u202egnp.png", "\udcff.png", "new\nline.png", "bell\x07.png")
    for name in names:
        path = tmp_path / name
        path.write_bytes(b"no picture")
        for arguments in (("info", path), ("fuse", path, path, "-o", tmp_path / "o.png")):
            done = ddfm(*arguments)
            assert done.returncode == 2
            shown = done.stdout + done.stderr
            assert done.stderr.count("\n") == 1
            assert not set(shown) & {"\x1b", "\u202e", "\x07", "\udcff"}, ascii(shown)
            shown.encode()


def test_hidden_characters() -> None:
    assert visible("a\x1b[0m\u202eb\udcffc") == "a\\x1b[0m\\u202eb\\udcffc"
    assert visible("plain \u00fc \u6f22") == "plain \u00fc \u6f22"
    assert one_line("two\n lines\r") == "two lines"
    assert str(InputError("a\x00b\nc")) == "a\\x00b c"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "=cmd|' /C calc'!A0"])
def test_cells_are_no_formulas(text: str) -> None:
    assert cell(text).startswith(("'", "\\t"))
    assert cell("(mean)") == "(mean)"
    assert cell("street 1") == "street 1"


def test_tables_hold_names_as_they_are(ddfm: Command, sources: Path) -> None:
    for folder in ("=x", "[bold]y"):
        (sources / folder).mkdir()
        for stem in ("1", "2"):
            (sources / folder / f"{stem}.png").write_bytes((sources / "ir" / "1.png").read_bytes())
    table = sources / "values.csv"
    fused = [part for folder in ("=x", "[bold]y") for part in ("--fused", sources / folder)]
    done = ddfm("evaluate", "--a", sources / "ir", "--b", sources / "vi", *fused, "--csv", table)
    assert done.returncode == 0, done
    assert "[bold]y" in done.stdout
    with table.open(newline="") as file:
        assert {row["method"] for row in csv.DictReader(file)} == {"'=x", "[bold]y"}


def test_labels_are_no_markup() -> None:
    from rich.text import Text

    for name in ("[red]a.png", "[/]", "a[b]c\\", "\x1b[0m"):
        assert Text.from_markup(label(name)).plain.rstrip() == visible(name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fuse", "a.png", "b.png", "-o", "o.png", "--tile", "9" * 5000), "tile"),
        (("fuse", "a.png", "b.png", "-o", "o.png", "--device", "meta"), "device"),
        (("fuse", "a.png", "b.png", "-o", "o.png", "--range", f"{'9' * 5000}:1,2"), "range"),
        (("fuse", "a.png", "b.png", "-o", "o.png", "--noise", "nan,1"), "noise"),
        (("fuse", "a.png", "b.png", "-o", "o" * 300 + ".png"), "255 bytes"),
        (("fuse", "a.png", "b.png", "-o", "/".join(["o" * 200] * 30) + ".png"), "4096 bytes"),
        (("fuse", "a" * 300, "b.png", "-o", "o.png"), "too long"),
        (("fuse", "/".join(["a" * 200] * 30), "b.png", "-o", "o.png"), "too long"),
        (("video", "a.png", "b.png", "-o", "o.mp4", "--every", "1" + "0" * 30), ""),
        (("--max-pixels", "0", "info", "a.png"), "max-pixels"),
        (("--max-pixels", "100", "info", "a.png"), "--max-pixels 1024"),
    ],
)
def test_values_that_no_option_has(
    ddfm: Command, sources: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    from ddfm.formats import limits

    monkeypatch.setattr(limits, "_max_pixels", limits.MAX_PIXELS)
    monkeypatch.chdir(sources)
    before = hashes(sources)
    done = ddfm(*arguments)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done
    assert message in done.stderr
    assert hashes(sources) == before


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any) -> None:
        raise KeyError("ours")

    monkeypatch.setattr("ddfm.jobs.info.describe", broken)
    monkeypatch.setattr(sys, "argv", ["ddfm", "info", "x.png"])
    with pytest.raises(KeyError, match="ours"):
        main()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no /dev/full")
def test_output_that_cannot_be_written(sources: Path) -> None:
    """A full disk, and a terminal of ASCII: one line, or escapes, and no traceback after the work."""
    (sources / "\u00fc.png").write_bytes((sources / "a.png").read_bytes())
    command = [sys.executable, "-m", "ddfm.cli", "info", str(sources / "\u00fc.png")]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "standard output: cannot be written" in done.stderr
    plain = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, env=plain, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "\\xfc.png: PNG" in done.stdout
