"""What the service takes beside plain pictures, and the options of such sources: cameras' files, DICOM."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tifffile
from PIL import Image

from ddfm.demo.thermogram import street_file
from tests.conftest import Command
from tests.serve.served import Served, check_problem, served, write_pair

pytestmark = pytest.mark.slow
SURNAME = "Doe"  # of the patient of `tests.formats.medical`


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("sources"), "--max-pixels", "1000000", "--threads", "1") as running:
        yield running


@pytest.fixture
def camera(tmp_path: Path) -> Path:
    path = tmp_path / "FLIR0001.jpg"
    path.write_bytes(street_file())
    return path


def by_its_command(ddfm: Command, job: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the command that the service shows, in the folder of the sources."""
    import shlex

    from ddfm.threads import threads

    monkeypatch.chdir(folder)
    number, *words = shlex.split(job["command"])
    assert number == "OMP_NUM_THREADS=1"
    with threads(1):
        done = ddfm(*words[1:])
    assert done.returncode == 0, done


def test_a_cameras_file_alone_is_both_sources(
    server: Served, camera: Path, ddfm: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {
        "steps": 1, "palette": "iron", "annotate": True, "isotherm": [20, 30], "range": [[0, 36.5]],
        "temperatures": True, "emissivity": 0.9, "source_map": True,
    }  # fmt: skip
    accepted = server.fuse(camera, **options)
    assert accepted.status_code == 202, accepted.text
    place = accepted.headers["location"]
    job = server.over(place)
    assert job["state"] == "done", job
    assert job["result"]["shown"] == ["FLIR0001.jpg", "FLIR0001.jpg, its photograph"]
    assert str(server.data) not in json.dumps(job)
    by_its_command(ddfm, job, camera.parent, monkeypatch)
    for route, name in (("result", "fused.png"), ("source-map", "source-map.png"),
                        ("temperatures", "temperatures.tif")):  # fmt: skip
        assert server.client.get(f"{place}/{route}").content == (camera.parent / name).read_bytes(), name
    degrees = tifffile.imread(camera.parent / "temperatures.tif")
    sizes = {}
    for name in ("source-1", "source-2", "fused", "source-map"):
        view = Image.open(io.BytesIO(server.client.get(f"{place}/views/{name}").content))
        sizes[name] = view.size
    assert sizes["source-1"] == sizes["source-2"] == sizes["source-map"] == degrees.shape[::-1]
    assert sizes["fused"][0] > sizes["source-1"][0]  # the scale stands beside it
    quick = server.client.post(f"{place}/previews", json={"balance": 0.9})
    assert quick.status_code == 200, quick.text
    assert np.asarray(Image.open(io.BytesIO(quick.content)).convert("RGB")).std(axis=2).max() > 20  # iron
    asked = server.client.post("/v1/evaluations", files={"fusion": (None, place.rsplit("/", 1)[1])})
    assert "undrawn" in check_problem(asked, 422)


def test_a_cameras_file_without_colours_is_measured(server: Served, camera: Path) -> None:
    place = server.fuse(camera, steps=0).headers["location"]
    job = server.over(place)
    assert job["state"] == "done", job
    assert job["result"]["settings"]["task"] == "infrared"
    asked = server.client.post("/v1/evaluations", files={"fusion": (None, place.rsplit("/", 1)[1])})
    assert server.over(asked.headers["location"])["state"] == "done"


def test_options_of_exposures_and_lenses(
    server: Served, tmp_path: Path, ddfm: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = write_pair(tmp_path)
    options: dict[str, Any] = {"task": "exposure", "steps": 0, "deghost": "off", "deblur": [1.25, 0],
                               "source_map": True,
               "range": ["data", [5, 250.5]]}  # fmt: skip
    place = server.fuse(*pair, **options).headers["location"]
    job = server.over(place)
    assert job["state"] == "done", job
    assert "--range 1:data --range 2:5,250.5" in job["command"]
    by_its_command(ddfm, job, tmp_path, monkeypatch)
    assert server.client.get(f"{place}/result").content == (tmp_path / "fused.png").read_bytes()
    assert server.client.get(f"{place}/source-map").content == (tmp_path / "source-map.png").read_bytes()
    check_problem(server.client.get(f"{place}/temperatures"), 404)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"palette": "iron"}, "palette: is for thermal cameras' own files"),
        ({"deblur": [1]}, "deblur: has 1 entries; 2"),
        ({"deblur": [9, 9]}, "less than or equal to 5"),
        ({"range": [[4, 2], None]}, "the lower one first"),
        ({"range": ["window", None]}, "window is for volumes"),
        ({"range": [None]}, "range: has 1 entries; 2"),
        ({"form": "paper", "source_map": True}, "source_map: is for form ddfm"),
    ],
)
def test_options_that_do_not_fit_are_refused_at_once(
    server: Served, tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    assert said in check_problem(server.fuse(*write_pair(tmp_path), **options), 422)


def test_a_picture_alone_is_refused(server: Served, tmp_path: Path) -> None:
    assert "two sources or more" in check_problem(server.fuse(write_pair(tmp_path)[0]), 422)


def send_series(server: Served, *folders: Path, **options: Any) -> httpx.Response:
    """Send folders' files as a browser does, mixed up."""
    mixed = [path for pair in zip(*(sorted(f.iterdir()) for f in folders), strict=True) for path in pair]
    files = [("files", (f"{path.parent.name}/{path.name}", path.read_bytes())) for path in mixed]
    return server.client.post("/v1/fusions", files=files, data={"options": json.dumps(options)})


def test_series_of_dicom_files(
    server: Served, tmp_path: Path, ddfm: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("nibabel")
    pytest.importorskip("pydicom")
    from tests.formats.medical import hounsfield, write_series

    mri = write_series(tmp_path / "mri", hounsfield(10, 48, 56))
    pet = write_series(tmp_path / "pet", hounsfield(10, 48, 56, seed=4))
    accepted = send_series(server, mri, pet, steps=1, range=[[-900, 1500], "data"])  # twenty files
    assert accepted.status_code == 202, accepted.text
    sources = [(s["name"], s["kind"], s["slices"]) for s in accepted.json()["sources"]]
    assert sources == [("mri", "DICOM", 10), ("pet", "DICOM", 10)]
    place = accepted.headers["location"]
    job = server.over(place)
    assert job["state"] == "done", job
    by_its_command(ddfm, job, tmp_path, monkeypatch)
    answer = server.client.get(f"{place}/result")
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        made = {name: archive.read(name) for name in archive.namelist()}
    assert made == {f"fused/{path.name}": path.read_bytes() for path in (tmp_path / "fused").iterdir()}
    assert len(made) == 10
    view = Image.open(io.BytesIO(server.client.get(f"{place}/views/source-2?slice=10").content))
    assert view.size == (56, 48)


def test_a_patients_data_leaves_by_no_answer_and_no_log(tmp_path: Path) -> None:
    """Whole series, damaged ones, and tags of the wrong kind that hold a name."""
    pytest.importorskip("nibabel")
    pytest.importorskip("pydicom")
    from tests.formats.medical import hounsfield, write_series

    series = [write_series(tmp_path / name, hounsfield(3, 24, 24, seed=k)) for k, name in enumerate("ab")]
    odd = bytearray((series[0] / "000.dcm").read_bytes())
    position = odd.find(b"DS", odd.find(b"\x20\x00\x32\x00"))  # ImagePositionPatient: a name, not numbers
    odd[position + 4 : position + 4 + 8] = b"Doe^Jane"
    code = "import sys; from ddfm.cli import main; sys.exit(main())"
    log = tmp_path / "log"
    said = []
    with log.open("wb") as written:
        command = [sys.executable, "-W", "always", "-c", code, "serve", "--port", "0", "--rate", "0"]
        process = subprocess.Popen(
            [*command, "--data", str(tmp_path / "data"), "--threads", "1"],
            stdout=subprocess.PIPE, stderr=written, text=True,
        )  # fmt: skip
        assert process.stdout
        address = process.stdout.readline().split()[0]
        try:
            with httpx.Client(base_url=address, timeout=240, trust_env=False) as client:
                server = Served.__new__(Served)
                server.client = client
                answers = [send_series(server, *series, steps=0)]
                damaged = [bytes(odd), bytes(odd[: len(odd) // 2]), bytes(odd[:300])]
                partner = (series[1] / "000.dcm").read_bytes()
                for data in damaged:
                    files = [("files", (f"{k}.dcm", part)) for k, part in enumerate((data, partner))]
                    answers.append(client.post("/v1/fusions", files=files))
                for answer in answers:
                    said.append(answer.text)
                    if answer.status_code == 202:
                        job = server.over(answer.headers["location"])
                        said.append(json.dumps(job))
                        if job["state"] == "done":
                            said.append(
                                client.get(answer.headers["location"] + "/result").content.decode("latin-1")
                            )
                said += [client.get("/metrics").text]
        finally:
            process.terminate()
            process.wait()
            process.stdout.close()
    assert any('"state": "done"' in text for text in said)
    assert any('"failed"' in text or '"status":422' in text for text in said)
    for text in [*said, log.read_text(), (tmp_path / "data" / "jobs.sqlite3").read_bytes().decode("latin-1")]:
        assert SURNAME not in text
    uid = (series[0] / "000.dcm").read_bytes()
    import pydicom

    identifier = str(pydicom.dcmread(io.BytesIO(uid)).SeriesInstanceUID)
    assert all(identifier not in text for text in said)


def test_series_that_are_too_large_are_refused_by_their_headers(tmp_path: Path, server: Served) -> None:
    pytest.importorskip("nibabel")
    pytest.importorskip("pydicom")
    from tests.formats.medical import hounsfield, write_series

    huge = write_series(tmp_path / "huge", hounsfield(2, 24, 24), Rows=60_000, Columns=60_000)
    assert "declares 3600000000 pixels" in check_problem(send_series(server, huge), 422)
    many = write_series(tmp_path / "many", hounsfield(50, 150, 150))
    assert "declares 1125000 pixels" in check_problem(send_series(server, many), 422)
