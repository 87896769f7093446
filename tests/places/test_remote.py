"""Folders behind URLs, against an S3 server in a process of its own.

The server is moto's. It is found beside this Python, or by DDFM_MOTO_SERVER.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from ray_cluster import HOST, free_port

from ddfm.errors import InputError
from ddfm.fusion.options import Options
from ddfm.jobs.folders import fuse_folders
from ddfm.places import place_of
from ddfm.places.remote import LOCK, RemoteFolder, store_of
from tests.conftest import Command, picture

obstore = pytest.importorskip("obstore")
QUICK = Options(steps=0, task="infrared", noise="off", device="cpu")
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The server's address; it listens on loopback and is stopped at the end."""
    program = os.environ.get("DDFM_MOTO_SERVER") or shutil.which(
        "moto_server", path=Path(sys.executable).parent
    )
    if program is None:
        pytest.skip("moto_server is not installed (DDFM_MOTO_SERVER names it)")
    port = free_port()
    process = subprocess.Popen(
        [program, "-H", HOST, "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for(port, process)
        yield f"http://{HOST}:{port}"
    finally:
        process.kill()
        process.wait()


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Return when somebody listens."""
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError("moto_server does not listen")


@pytest.fixture
def bucket(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a new bucket with three pairs, in a and b; one is broken."""
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": server, "XDG_STATE_HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    name = f"bucket-{tmp_path.name.replace('_', '-')[-30:].lower()}"
    urllib.request.urlopen(urllib.request.Request(f"{server}/{name}", method="PUT"), timeout=60).close()
    store_of.cache_clear()
    for seed, stem in enumerate(("0", "1", "broken")):
        for folder, channels in (("a", 1), ("b", 3)):
            path = tmp_path / folder / f"{stem}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(picture(32, 48, channels, np.uint8, seed)).save(path)
            data = path.read_bytes()
            data = data[:60] if (stem, folder) == ("broken", "b") else data
            RemoteFolder(f"s3://{name}/{folder}").put(path.name, data)
    return f"s3://{name}"


def names(url: str) -> list[str]:
    return sorted(about["path"] for chunk in obstore.list(store_of(url)) for about in chunk)


def test_folders_of_a_store(ddfm: Command, bucket: str, tmp_path: Path) -> None:
    """The same bytes as from files; kept by the next run; a broken picture is named by its URL."""
    arguments = ("--steps", 0, "--task", "infrared", "--noise", "off", "--device", "cpu")
    (tmp_path / "b" / "broken.png").unlink()
    here = ddfm("fuse", tmp_path / "a", tmp_path / "b", "-o", tmp_path / "out", *arguments)
    assert here.returncode == 0, here.stderr
    there = ddfm("fuse", f"{bucket}/a", f"{bucket}/b", "-o", f"{bucket}/out", *arguments)
    assert there.returncode == 1, there.stderr
    assert "2 fused, 0 kept, 1 failed" in there.stdout
    assert f"failed: broken: {bucket}/b/broken.png: is damaged" in there.stderr
    out = RemoteFolder(f"{bucket}/out")
    assert names(out.url) == [".ddfm-manifest.sqlite", "0.png", "1.png"]
    for name in ("0.png", "1.png"):
        with out.reading(Path(name)) as path:
            assert path.read_bytes() == (tmp_path / "out" / name).read_bytes()
    again = ddfm("fuse", f"{bucket}/a", f"{bucket}/b", "-o", f"{bucket}/out", *arguments)
    assert "0 fused, 2 kept, 1 failed" in again.stdout


def test_all_results_go_to_urls(ddfm: Command, bucket: str, tmp_path: Path) -> None:
    """Further results, too; nothing lies here under a folder called s3:."""
    pytest.importorskip("cv2")
    for folder in ("a", "b"):  # two that can be registered
        Image.fromarray(picture(96, 128, 1, np.uint8, 3)).save(tmp_path / folder / "0.png")
        RemoteFolder(f"{bucket}/{folder}").put("0.png", (tmp_path / folder / "0.png").read_bytes())
    kinds = {"uncertainty": "0.tif", "source-map": "0.png", "register-report": "0.png"}
    asked = [word for kind in kinds for word in (f"--{kind}", f"{bucket}/{kind}")]
    common = ("--steps", 1, "--task", "infrared", "--noise", "off", "--device", "cpu", "--register", "affine")
    before = sorted(Path.cwd().iterdir())
    done = ddfm("fuse", f"{bucket}/a", f"{bucket}/b", "-o", f"{bucket}/out", *asked, *common)
    assert "failed: 0" not in done.stderr, done.stderr
    here = [word for kind in kinds for word in (f"--{kind}", str(tmp_path / kind))]
    assert (
        ddfm("fuse", tmp_path / "a", tmp_path / "b", "-o", tmp_path / "out", *here, *common).returncode == 1
    )
    for kind, name in kinds.items():
        with RemoteFolder(f"{bucket}/{kind}").reading(Path(name)) as path:
            assert path.read_bytes() == (tmp_path / kind / name).read_bytes(), kind
    assert sorted(Path.cwd().iterdir()) == before


def test_the_record_is_found_by_another_machine(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the copy beside the outputs; changed pictures alone are fused anew."""
    folders = [f"{bucket}/a", f"{bucket}/b"]
    assert fuse_folders(folders, f"{bucket}/out", QUICK).fused == 2
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "other"))
    Image.fromarray(picture(32, 48, 1, np.uint8, 77)).save(tmp_path / "new.png")
    RemoteFolder(folders[0]).put("1.png", (tmp_path / "new.png").read_bytes())
    result = fuse_folders(folders, f"{bucket}/out", QUICK)
    assert ([outcome.group.stem for outcome in result.outcomes if outcome.settings], result.kept) == (
        ["1"],
        1,
    )


def test_two_runs_exclude_each_other(bucket: str) -> None:
    out = RemoteFolder(f"{bucket}/out")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as lasting:
        owner = {"host": socket.gethostname(), "pid": lasting.pid, "since": 0}
        assert out.put(LOCK, json.dumps(owner).encode(), new=True)
        with pytest.raises(InputError, match="another run is writing to this folder"):
            fuse_folders([f"{bucket}/a", f"{bucket}/b"], out.url, QUICK)
        lasting.kill()
    assert fuse_folders([f"{bucket}/a", f"{bucket}/b"], out.url, QUICK).fused == 2  # it is known to be dead
    assert LOCK not in names(out.url)


def test_a_store_that_is_not_there(ddfm: Command, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    done = ddfm("fuse", "s3://nobody/a", f"{bucket}/b", "-o", f"{bucket}/out", "--steps", 0)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "s3://nobody/a: cannot be listed" in done.stderr
    done = ddfm("fuse", f"{bucket}/a", f"{bucket}/b", "-o", f"{bucket}/b", "--steps", 0)
    assert (done.returncode, "is one of the sources" in done.stderr) == (2, True)


def test_local_urls(tmp_path: Path) -> None:
    assert place_of(f"file://{tmp_path}/a%20b").name == f"{tmp_path}/a b"
