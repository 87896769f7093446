"""The service by a real server process: jobs, results, progress, crashes."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.conftest import ROOT, Command, picture
from tests.serve.served import HEADERS, Served, check_problem, served, until, workers_of, write_pair

LONG: dict[str, Any] = {"steps": 1000, "task": "infrared", "form": "released"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("service"), "--max-pixels", "1000000", "--threads", "1") as running:
        yield running


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return write_pair(tmp_path)


def test_result_is_what_the_command_writes(
    server: Served, pair: tuple[Path, Path], ddfm: Command, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"task": "infrared", "seed": 11, "balance": 0.25, "steps": 3}
    accepted = server.fuse(*pair, **options)
    assert accepted.status_code == 202, accepted.text
    place = accepted.headers["location"]
    job = server.over(place)
    assert job["state"] == "done", job
    assert (job["step"], job["steps"]) == (3, 3)
    result = server.client.get(f"{place}/result")
    assert result.headers["content-type"] == "image/png"
    with_one_thread(ddfm, "fuse", *pair, "-o", tmp_path / "fused.png",
                    "--task", "infrared", "--seed", 11, "--balance", 0.25, "--steps", 3)  # fmt: skip
    assert result.content == (tmp_path / "fused.png").read_bytes()
    assert job["command"] == (
        "OMP_NUM_THREADS=1 ddfm fuse thermal0.png visible0.png -o fused.png --task infrared --steps 3 "
        "--seed 11 --balance 0.25"
    )


def with_one_thread(ddfm: Command, *arguments: str | int | float | Path) -> None:
    from ddfm.threads import threads

    with threads(1):
        done = ddfm(*arguments)
    assert done.returncode == 0, done


def test_formats_and_depths(server: Served, pair: tuple[Path, Path]) -> None:
    place = server.fuse(*pair, task="infrared", steps=0).headers["location"]
    assert server.over(place)["state"] == "done"
    made = Image.open(io.BytesIO(server.client.get(f"{place}/result").content))
    eight = server.client.get(f"{place}/result?bits=8")
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(eight.content))), np.asarray(made))
    for query, kind in (("?bits=16", "image/png"), ("?format=tiff&bits=16", "image/tiff")):
        answer = server.client.get(f"{place}/result{query}")
        assert answer.headers["content-type"] == kind
        data = answer.content
        samples = tifffile.imread(io.BytesIO(data)) if "tiff" in kind else png16(data)
        assert samples.dtype == np.uint16
        # The same picture, but for the rounding to 8 bits.
        assert np.abs(samples / 257.0 - np.asarray(made)).max() <= 0.51
        assert len(np.unique(samples)) > 256
    check_problem(server.client.get(f"{place}/result?format=gif"), 422)


def png16(data: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint16]]:
    import imagecodecs

    return np.asarray(imagecodecs.png_decode(data), np.uint16)


def test_events_tell_each_step_and_a_preview(server: Served, pair: tuple[Path, Path]) -> None:
    place = server.fuse(*pair, task="infrared", steps=8).headers["location"]
    told, previews = [], set()
    with server.client.stream("GET", f"{place}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        for line in stream.iter_lines():
            if line.startswith("data: "):
                told.append(json.loads(line[6:]))
                if told[-1]["step"]:
                    previews.add(server.client.get(f"{place}/preview").content)
    steps = [job["step"] for job in told if job["state"] in ("running", "done")]
    assert steps == sorted(steps)
    assert told[-1]["state"] == "done"
    assert told[-1]["step"] == told[-1]["steps"] == 8
    assert all(Image.open(io.BytesIO(data)).size == (80, 64) for data in previews)
    assert previews


def test_cancel_waiting_and_running(server: Served, pair: tuple[Path, Path]) -> None:
    running = server.fuse(*pair, **LONG).headers["location"]
    until(lambda: server.client.get(running).json()["step"] > 0)
    waiting = server.fuse(*pair, task="infrared").headers["location"]
    assert server.client.get(waiting).json()["place"] == 1
    for place in (waiting, running):
        assert server.client.delete(place).status_code == 204
        assert server.client.get(place).json()["state"] == "cancelled"
        check_problem(server.client.get(f"{place}/result"), 409)
    # The worker is free at once, and takes the next one.
    after = server.fuse(*pair, task="infrared", steps=1).headers["location"]
    assert server.over(after)["state"] == "done"
    assert server.client.delete(after).status_code == 204
    check_problem(server.client.get(after), 404)


def test_balance_answers_without_sampling(server: Served, pair: tuple[Path, Path]) -> None:
    place = server.fuse(*pair, task="infrared", steps=0).headers["location"]
    assert server.over(place)["state"] == "done"
    made = {}
    for balance in (0, 0.5, 1):
        answer = server.client.post(f"{place}/previews", json={"balance": balance})
        assert answer.status_code == 200, answer.text
        made[balance] = np.asarray(Image.open(io.BytesIO(answer.content)), float)
    fused = np.asarray(Image.open(io.BytesIO(server.client.get(f"{place}/result").content)), float)
    assert np.array_equal(made[0.5], fused)  # no steps, and small enough to be shown as it is
    thermal, visible = (np.asarray(Image.open(path).convert("L"), float) for path in pair)
    grey = {balance: value.mean(-1) for balance, value in made.items()}
    assert np.abs(grey[1] - thermal).mean() < np.abs(grey[0] - thermal).mean()
    assert np.abs(grey[0] - visible).mean() < np.abs(grey[1] - visible).mean()
    check_problem(server.client.post(f"{place}/previews", json={"balance": 2}), 422)
    check_problem(server.client.post(f"{place}/previews", json={"steps": 2}), 422)


@pytest.mark.slow
def test_volumes_by_slices(server: Served, tmp_path: Path, ddfm: Command) -> None:
    paths = []
    for name, seed in (("a", 0), ("b", 5)):
        path = tmp_path / f"{name}.tif"
        pages = np.stack([picture(40, 48, 1, np.uint8, seed + k) for k in range(3)])
        tifffile.imwrite(path, pages, photometric="minisblack")
        paths.append(path)
    place = server.fuse(*paths, task="medical", steps=1).headers["location"]
    job = server.over(place)
    assert job["state"] == "done", job
    assert (job["unit"], job["steps"], job["result"]["slices"]) == ("slice", 3, 3)
    with_one_thread(ddfm, "fuse", *paths, "-o", tmp_path / "f.tif", "--task", "medical", "--steps", 1)
    data = server.client.get(f"{place}/result").content
    assert data == (tmp_path / "f.tif").read_bytes()
    for k, page in enumerate(tifffile.imread(tmp_path / "f.tif")):
        shown = server.client.get(f"{place}/views/fused?slice={k + 1}").content
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(shown))), page)
    check_problem(server.client.get(f"{place}/views/fused?slice=4"), 404)


@pytest.mark.slow
def test_uncertainty_views_and_archive(server: Served, pair: tuple[Path, Path]) -> None:
    place = server.fuse(*pair, task="infrared", steps=1, uncertainty=True).headers["location"]
    assert server.over(place)["state"] == "done"
    std = tifffile.imread(io.BytesIO(server.client.get(f"{place}/uncertainty").content))
    assert (std.shape, std.dtype) == ((64, 80), np.uint16)
    for name in ("fused", "source-1", "source-2", "uncertainty"):
        view = Image.open(io.BytesIO(server.client.get(f"{place}/views/{name}").content))
        assert view.size == (80, 64)
    other = server.fuse(*pair, task="infrared", steps=0).headers["location"]
    assert server.over(other)["state"] == "done"
    ids = [p.rsplit("/", 1)[1] for p in (place, other)]
    answer = server.client.get("/v1/archive", params={"fusion": [*ids, "0" * 32]})
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.namelist() == ["thermal0.png", "thermal0-2.png"]
        assert archive.read("thermal0.png") == server.client.get(f"{place}/result").content
    check_problem(server.client.get("/v1/archive", params={"fusion": "0" * 32}), 404)
    assert list((server.data / "incoming").iterdir()) == []


def test_metrics_are_those_of_the_command(
    server: Served, pair: tuple[Path, Path], ddfm: Command, tmp_path: Path
) -> None:
    place = server.fuse(*pair, task="infrared", steps=0).headers["location"]
    assert server.over(place)["state"] == "done"
    id_ = place.rsplit("/", 1)[1]
    asked = server.client.post("/v1/evaluations", files={"fusion": (None, id_)})
    measured = server.over(asked.headers["location"])["result"]
    assert {"fused", "mean", "max", "a-only", "b-only"} <= set(measured["methods"])
    for name, data in (("a", pair[0].read_bytes()), ("b", pair[1].read_bytes()),
                       ("f", server.client.get(f"{place}/result").content)):  # fmt: skip
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes(data)
    done = ddfm(
        "evaluate", "--a", tmp_path / "a", "--b", tmp_path / "b", "--fused", tmp_path / "f", "--json", "-"
    )
    assert json.loads(done.stdout)["mean"] == pytest.approx(measured["methods"]["fused"], rel=1e-6)
    three = [(name, (name, (tmp_path / name / "x.png").read_bytes())) for name in ("a", "b", "f")]
    files = server.over(server.client.post("/v1/evaluations", files=three).headers["location"])
    assert files["result"]["methods"] == measured["methods"]


def test_a_failure_is_told_by_the_clients_own_names(server: Served, tmp_path: Path) -> None:
    small, large = write_pair(tmp_path, 64, 80)[0], write_pair(tmp_path, 80, 64, seed=4)[1]
    job = server.over(server.fuse(small, large).headers["location"])
    assert job["state"] == "failed"
    assert job["problem"].startswith("thermal0.png is 80x64 and visible4.png is 64x80 pixels")
    assert str(server.data) not in json.dumps(job)
    assert "--" not in job["problem"]


def test_the_same_key_is_the_same_job(server: Served, pair: tuple[Path, Path]) -> None:
    first, again = (server.fuse(*pair, key="mine", steps=0, task="infrared") for _ in range(2))
    assert first.json()["id"] == again.json()["id"]
    assert server.fuse(*pair, key="other", steps=0, task="infrared").json()["id"] != first.json()["id"]


def test_rest(server: Served) -> None:
    assert server.client.get("/healthz").json() == {"status": "ok"}
    assert server.client.get("/readyz").json()["ready"]
    assert server.client.get("/v1/priors").json()[0]["name"] == "natural"
    assert server.client.get("/v1/limits").json()["max_pixels"] == 1_000_000
    numbers = server.client.get("/metrics").text
    assert 'ddfm_jobs{state="queued"}' in numbers
    assert 'route="/v1/fusions/{id_}"' in numbers or "/v1/priors" in numbers
    page = server.client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    for name in HEADERS:
        assert page.headers[name]
    assert "unsafe" not in page.headers["content-security-policy"]
    for missing in ("/page/../settings.py", "/page/%2e%2e/app.py", "/page/none.js", "/v1/nothing"):
        check_problem(server.client.get(missing), 404)


@pytest.mark.slow
def test_a_dead_workers_job_is_taken_again_at_most_twice(server: Served, pair: tuple[Path, Path]) -> None:
    place = server.fuse(*pair, **LONG).headers["location"]
    for _ in range(3):
        until(lambda: server.client.get(place).json()["step"] > 0 and workers_of(server.process))
        for pid in workers_of(server.process):
            os.kill(pid, signal.SIGKILL)
        until(lambda: server.client.get(place).json()["step"] == 0
              or server.client.get(place).json()["state"] == "failed")  # fmt: skip
    job = server.over(place)
    assert job["state"] == "failed"
    assert "died" in job["problem"]
    # The service goes on.
    after = server.fuse(*pair, task="infrared", steps=1).headers["location"]
    assert server.over(after)["state"] == "done"


@pytest.mark.slow
def test_a_kill_loses_no_job(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    server = Served(tmp_path / "data", "--threads", "1")
    try:
        long = server.fuse(*pair, task="infrared", form="released", steps=60).headers["location"]
        places = [long] + [
            server.fuse(*pair, task="infrared", seed=k, steps=1).headers["location"] for k in range(3)
        ]
        until(lambda: server.client.get(long).json()["step"] > 0)
        left = workers_of(server.process)
        server.kill()
        until(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() and is_worker(pid) for pid in left))
        (tmp_path / "data" / "incoming" / "half").mkdir()  # as an upload that was cut off
        server.start()
        jobs = [server.over(place) for place in places]
        assert [job["state"] for job in jobs] == ["done"] * 4
        assert all(server.client.get(f"{place}/result").status_code == 200 for place in places)
        assert list((tmp_path / "data" / "incoming").iterdir()) == []
    finally:
        server.stop()


def is_worker(pid: int) -> bool:
    try:
        return b"ddfm.serve.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


@pytest.mark.slow
def test_a_batch_is_each_of_them_alone(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    other = write_pair(tmp_path, seed=7)
    with served(tmp_path / "data", "--threads", "1", "--batch", "4") as server:
        blocking = server.fuse(*pair, **LONG).headers["location"]
        places = [
            server.fuse(*files, task="infrared", steps=2).headers["location"] for files in (pair, other, pair)
        ]
        server.client.delete(blocking)
        for place in places:
            job = server.over(place)
            assert job["state"] == "done"
            assert job["result"]["settings"]["fused_at_once"] == 3
        starts = [server.client.get(f"{place}/result").content for place in places]
    assert starts[0] == starts[2]
    with served(tmp_path / "data2", "--threads", "1") as server:
        for files, data in zip((pair, other), starts, strict=False):
            alone = server.fuse(*files, task="infrared", steps=2).headers["location"]
            assert server.over(alone)["state"] == "done"
            made = np.asarray(Image.open(io.BytesIO(server.client.get(f"{alone}/result").content)), int)
            assert np.abs(made - np.asarray(Image.open(io.BytesIO(data)), int)).max() <= 1  # rounding


@pytest.mark.slow
def test_the_example_of_the_docs(
    server: Served, pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / "use" / "service.md").read_text(), re.DOTALL
    )
    for path, name in zip(pair, ("thermal.png", "visible.png"), strict=True):
        path.rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code.replace("http://127.0.0.1:8000", server.address), names)
    names["service"].close()
    with Image.open(tmp_path / "fused.png") as made:
        assert made.size == (80, 64)
