"""Hostile requests: refused as problems that tell nothing of the server, which answers the next one."""

from __future__ import annotations

import io
import json
import random
import socket
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.conftest import picture
from tests.serve.served import Served, check_problem, served, until, write_pair

pytestmark = pytest.mark.slow
TOKEN = "a-token-for-the-tests"
BOUNDARY = "xxBOUNDARYxx"
FORM = f"multipart/form-data; boundary={BOUNDARY}"
SEED = 3407


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    data = tmp_path_factory.mktemp("hostile")
    with served(data, "--max-pixels", "200000", "--max-upload", "1", "--threads", "1") as running:
        yield running


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    thermal, visible = write_pair(tmp_path_factory.mktemp("pair"))
    return thermal.read_bytes(), visible.read_bytes()


def post(server: Served, *files: bytes, options: str = "{}", names: tuple[str, ...] = ()) -> httpx.Response:
    sent = [("files", (names[k] if names else f"picture{k}.png", data)) for k, data in enumerate(files)]
    return server.client.post("/v1/fusions", files=sent, data={"options": options})


def refused(server: Served, response: httpx.Response) -> None:
    """The request is refused, or accepted and its job ends; nothing leaks."""
    if response.status_code == 202:
        job = server.over(response.headers["location"])
        assert job["state"] in ("done", "failed"), job
        assert str(server.data) not in json.dumps(job)
        assert "an error of the service itself" not in str(job["problem"]), job
    else:
        check_problem(response, 400, 404, 413, 415, 422, secrets=[str(server.data)])


def png_header(width: int, height: int, depth: int = 8) -> bytes:
    """A PNG whose header declares a size, with a few bytes of data."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)),
              (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")]  # fmt: skip
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def encoded(kind: str, side: int = 48) -> bytes:
    buffer = io.BytesIO()
    samples = picture(side, side, 3, np.uint8)
    if kind == "TIFF":
        tifffile.imwrite(buffer, samples)
    else:
        Image.fromarray(samples).save(buffer, kind)
    return buffer.getvalue()


def still_answers(server: Served, pair: tuple[bytes, bytes]) -> None:
    assert server.client.get("/readyz").json()["ready"]
    job = server.over(post(server, *pair, options='{"task": "infrared", "steps": 0}').headers["location"])
    assert job["state"] == "done", job
    until(lambda: not list((server.data / "incoming").iterdir()))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "WEBP", "TIFF"])
def test_truncated_and_changed_files(server: Served, pair: tuple[bytes, bytes], kind: str) -> None:
    data, rng = encoded(kind), random.Random(SEED)
    options = '{"steps": 0, "task": "infrared"}'
    cut = [data[: round(len(data) * k / 20)] for k in range(20)]
    changed = []
    for _ in range(20):
        made = bytearray(data)
        for _ in range(rng.randint(1, 8)):
            made[rng.randrange(len(made))] = rng.randrange(256)
        changed.append(bytes(made))
    for file in cut + changed:
        refused(server, post(server, file, data, options=options))
    still_answers(server, pair)


BOMBS = [(30_000, 30_000), (2**31 - 1, 2**31 - 1), (200_001, 1), (1, 2**30), (0, 0), (0, 5), (2**32 - 1, 1)]


@pytest.mark.parametrize("size", BOMBS)
def test_bombs_are_refused_from_their_header(
    server: Served, pair: tuple[bytes, bytes], size: tuple[int, int]
) -> None:
    for depth in (8, 16):
        check_problem(post(server, png_header(*size, depth), pair[1]), 422, secrets=[str(server.data)])
    buffer = io.BytesIO()
    Image.new("1", (60_000, 8000)).save(buffer, "TIFF", compression="group4")  # 480 megapixels in a few bytes
    assert len(buffer.getvalue()) < 2**20
    check_problem(post(server, buffer.getvalue(), pair[1]), 422)


def test_a_volume_that_is_a_bomb(server: Served, pair: tuple[bytes, bytes]) -> None:
    nibabel = pytest.importorskip("nibabel")
    import gzip

    header = nibabel.Nifti1Header()
    header.set_data_shape((2000, 2000, 2000))
    header.set_data_dtype(np.uint8)
    header["magic"], header["vox_offset"] = b"n+1", 352
    data = header.binaryblock + b"\0" * 2**18
    for file in (data, gzip.compress(data), gzip.compress(b"\0" * 2**24), data[:200]):
        check_problem(post(server, file, file), 422, secrets=[str(server.data)])


WRONG = [
    b"",
    b"\0",
    b"hello",
    b"<svg onload='alert(1)'/>",
    b"%PDF-1.7",
    b"PK\x03\x04" + b"\0" * 40,
    b"GIF89a" + b"\0" * 40,
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff",
    b"II*\0",
    b"MM\0*" + b"\xff" * 20,
    b"RIFF\0\0\0\0WEBPVP8 ",
    b"BM" + b"\xff" * 60,
    b"\x1f\x8b" + b"\0" * 30,
    b"#!/bin/sh\nrm -rf /",
    b"%!PS-Adobe",
    b"P6 9 9 255 ",
    b"\0" * 128 + b"DICM" + b"\0" * 50,
    b"\x7fELF" + b"\0" * 100,
    b"\0" * 344 + b"n+1\0" + b"\xff" * 200,
    b"8BPS" + b"\0" * 30,
    b"\0\0\1\0" + b"\0" * 30,
]


@pytest.mark.parametrize("data", WRONG)
def test_types_are_judged_by_content(server: Served, pair: tuple[bytes, bytes], data: bytes) -> None:
    check_problem(post(server, data, pair[1], names=("a.png", "b.png")), 422, secrets=[str(server.data)])


NAMES = [
    "../../../../etc/passwd",
    "/etc/passwd",
    "..\\..\\windows\\win.ini",
    "C:\\boot.ini",
    "..",
    ".",
    "",
    "a/../b",
    "~root/.ssh/x",
    "a\r\nSet-Cookie: x=1",
    "\u202egnp.exe",
    "CON",
    "a" * 5000,
    "%2e%2e%2fpasswd",
    "-rf",
    "--help",
    "$(id)",
    "`id`",
    "a;b|c",
    "<script>alert(1)</script>",
    "\ud83d\ude00.png".encode("utf-16", "surrogatepass").decode("utf-16"),
    "jobs.sqlite3",
    "a\\",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_never_become_paths(server: Served, pair: tuple[bytes, bytes], name: str) -> None:
    response = post(server, *pair, options='{"steps": 0, "task": "infrared"}', names=(name, "b.png"))
    if response.status_code != 202:  # a part without a name is no file
        check_problem(response, 400, 422)
        return
    job = server.over(response.headers["location"])
    assert job["state"] == "done", job
    shown = job["sources"][0]["name"]
    assert len(shown) <= 120
    assert not set(shown) & set("/\\\r\n")
    assert shown not in ("", ".", "..")
    folder = server.data / "jobs" / job["id"]
    assert {path.name for path in folder.iterdir()} == {
        "source-1.png", "source-2.png", "fused.png", "fused-16.png", "views",
    }  # fmt: skip
    archive = server.client.get("/v1/archive", params={"fusion": job["id"]})
    import zipfile

    with zipfile.ZipFile(io.BytesIO(archive.content)) as opened:
        (inside,) = opened.namelist()
    assert not inside.startswith((".", "/"))
    assert not set(inside) & set("/\\:\r\n")


OPTIONS = [
    "",
    "{",
    "[]",
    "null",
    "3",
    '"x"',
    "{}}",
    "{'a': 1}",
    '{"steps": -1}',
    '{"steps": 1001}',
    '{"steps": 1.5}',
    '{"steps": "3"}',
    '{"steps": true}',
    '{"steps": 1e400}',
    '{"seed": -1}',
    '{"seed": 9223372036854775808}',
    '{"seed": ' + "9" * 5000 + "}",
    '{"balance": NaN}',
    '{"balance": Infinity}',
    '{"balance": -0.1}',
    '{"balance": "0.5"}',
    '{"task": "magic"}',
    '{"task": 1}',
    '{"prior": "../../etc/passwd"}',
    '{"prior": "/etc"}',
    '{"prior": "google/ddpm-church-256"}',
    '{"prior": ""}',
    '{"prior": null}',
    '{"device": "cuda"}',
    '{"tile": 1}',
    '{"backend": "openvino"}',
    '{"callback": "x"}',
    '{"sampler": "os.system"}',
    '{"noise": [1]}',
    '{"noise": [1, 2, 3]}',
    '{"noise": [1, "2"]}',
    '{"noise": [-1, 0]}',
    '{"noise": "loud"}',
    '{"noise": {}}',
    '{"register": "rigid"}',
    '{"register": 1}',
    '{"colour_from": 0}',
    '{"colour_from": 3}',
    '{"colour_from": 99}',
    '{"form": "released", "steps": 0}',
    '{"form": "none"}',
    '{"scheduler": "__import__"}',
    '{"uncertainty": 1}',
    "[" * 10_000,
    '{"a":' * 5_000,
    '{"__proto__": {}}',
    '{"task": "\\ud800"}',
    "\0",
    "\xff",
    '{"resize": "yes"}',
    '{"stretch": false}',
    '{"steps": 3, "steps": -3}',
]


@pytest.mark.parametrize("options", OPTIONS[1:])
def test_options_that_are_none(server: Served, pair: tuple[bytes, bytes], options: str) -> None:
    check_problem(post(server, *pair, options=options), 422, 413, secrets=[str(server.data)])


def part(name: str = "files", filename: str | None = "a.png", data: bytes = b"x") -> bytes:
    named = "" if filename is None else f'; filename="{filename}"'
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'
    return head.encode() + data + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()
BODIES = [
    (FORM, b""),
    (FORM, END),
    (FORM, b"no boundary at all"),
    (FORM, part()),
    (FORM, part()[:-10]),
    (FORM, part() + b"--"),
    (FORM, END + part()),
    (FORM, b"\r\n" * 5000 + END),
    (FORM, part(data=b"") + END),
    (FORM, part() + END),
    ("multipart/form-data", part() + END),
    ("multipart/form-data; boundary=", END),
    ('multipart/form-data; boundary="', END),
    ("multipart/form-data; boundary=" + "x" * 5000, END),
    ("multipart/mixed; boundary=xxBOUNDARYxx", part() + END),
    ("application/json", b"{}"),
    ("text/plain", b"x"),
    ("", b"x"),
    ("application/x-www-form-urlencoded", b"options=%7B%7D"),
    (FORM, f"--{BOUNDARY}\r\n\r\nx\r\n".encode() + END),
    (FORM, f"--{BOUNDARY}\r\nNo colon\r\n\r\nx\r\n".encode() + END),
    (FORM, f"--{BOUNDARY}\r\n".encode() + b"X-A: " + b"y" * 100_000 + b"\r\n\r\nx\r\n" + END),
    (FORM, f"--{BOUNDARY}\r\n".encode() + b"X-A: y\r\n" * 1000 + b"\r\nx\r\n" + END),
    (FORM, part("options", None, b"{" * 100_000) + END),
    (FORM, b"".join(part(f"f{k}", None) for k in range(500)) + END),
    (FORM, b"".join(part(filename=f"{k}.png") for k in range(50)) + END),
    (FORM, part("", "") + END),
    (FORM, part("files", None, b"not a file") + END),
    (FORM, b"\0" * 1000 + END),
    (FORM, part(filename="\0") + END),
    (FORM, b"--" + b"\r\n--" * 1000),
    (FORM, part().replace(b"form-data", b"attachment") + END),
]


@pytest.mark.parametrize("kind_and_body", BODIES, ids=range(len(BODIES)))
@pytest.mark.parametrize("path", ["/v1/fusions", "/v1/evaluations"])
def test_broken_bodies(server: Served, path: str, kind_and_body: tuple[str, bytes]) -> None:
    kind, body = kind_and_body
    response = server.client.post(path, content=body, headers={"Content-Type": kind})
    check_problem(response, 400, 413, 415, 422, secrets=[str(server.data)])


def test_random_bodies(server: Served, pair: tuple[bytes, bytes]) -> None:
    rng = random.Random(SEED)
    whole = part(data=pair[0]) + part(data=pair[1]) + END
    for _ in range(60):
        made = bytearray(whole)
        for _ in range(rng.randint(1, 20)):
            place = rng.randrange(min(len(made), 400))
            made[place : place + rng.randint(0, 3)] = rng.randbytes(rng.randint(0, 3))
        response = server.client.post("/v1/fusions", content=bytes(made), headers={"Content-Type": FORM})
        refused(server, response)
    still_answers(server, pair)


def test_too_much_is_refused_before_it_is_read(server: Served) -> None:
    response = server.client.post("/v1/fusions", content=b"x" * (2**20 + 1), headers={"Content-Type": FORM})
    check_problem(response, 413)

    def chunks() -> Iterator[bytes]:  # without a length
        yield part()[:-2]
        for _ in range(40):
            yield b"x" * 2**16

    try:
        response = server.client.post("/v1/fusions", content=chunks(), headers={"Content-Type": FORM})
    except httpx.TransportError:  # closed while it was being sent
        pass
    else:
        check_problem(response, 413)
    until(lambda: not list((server.data / "incoming").iterdir()))


PATHS = [
    "/v1/fusions/x",
    "/v1/fusions/" + "0" * 31,
    "/v1/fusions/" + "G" * 32,
    "/v1/fusions/../../etc/passwd",
    "/v1/fusions/%2e%2e%2f%2e%2e%2fjobs.sqlite3",
    "/v1/fusions/" + "0" * 32,
    "/v1/fusions/" + "0" * 32 + "/result",
    "/v1/fusions/" + "0" * 32 + "/views/../../x",
    "/v1/fusions/" + "0" * 32 + "/views/lock",
    "/v1/evaluations/" + "0" * 32,
    "/v1/archive",
    "/v1/archive?fusion=../x",
    "/page/",
    "/page/%00",
    "/..%2f..%2fetc%2fpasswd",
    "/" + "a" * 5000,
    "/v1/fusions/" + "0" * 32 + "/views/source-1?slice=-1",
    "/v1/fusions/" + "0" * 32 + "/result?bits=7",
    "/docs",
    "/redoc",
    "/.git/config",
    "/v1/fusions/%ff%fe",
]


@pytest.mark.parametrize("path", PATHS)
def test_paths_that_are_none(server: Served, path: str) -> None:
    check_problem(server.client.get(path), 404, 422, secrets=[str(server.data)])


def test_methods_that_are_none(server: Served) -> None:
    for method in ("PUT", "PATCH", "TRACE", "OPTIONS", "PROPFIND"):
        check_problem(server.client.request(method, "/v1/fusions"), 405)


def test_other_sites_are_kept_out(server: Served, pair: tuple[bytes, bytes]) -> None:
    for host in ("evil.example", "evil.example:80", "localhost.evil.example", "127.0.0.1.nip.io", ""):
        check_problem(server.client.get("/v1/priors", headers={"Host": host}), 421, 400)
    for origin in ("http://evil.example", "null", "http://localhost.evil.example"):
        check_problem(server.client.get("/v1/priors", headers={"Origin": origin}), 403)
    own = server.client.get("/v1/priors", headers={"Origin": server.address})
    assert own.status_code == 200
    assert not any(name.lower().startswith("access-control") for name in own.headers)


def test_a_token_is_demanded(tmp_path: Path) -> None:
    with served(tmp_path / "data", "--token", TOKEN) as server:
        for wrong in (
            "",
            "Bearer",
            "Bearer x",
            f"Basic {TOKEN}",
            f"bearer {TOKEN}x",
            f"Bearer {TOKEN[:-1]}",
            "Bearer \xff",
        ):
            given = [(b"Authorization", wrong.encode("latin-1"))] if wrong else []
            answer = server.client.get("/v1/priors", headers=given)
            check_problem(answer, 401, secrets=[TOKEN])
            assert answer.headers["www-authenticate"].startswith("Bearer")
        for path in ("/metrics", "/v1/limits"):
            check_problem(server.client.get(path), 401)
        good = {"Authorization": f"Bearer {TOKEN}"}
        assert server.client.get("/v1/priors", headers=good).status_code == 200
        assert server.client.get("/healthz").status_code == 200
        assert server.client.get("/").status_code == 200
        check_problem(server.client.post("/v1/fusions", content=b"x"), 401)


def test_one_client_cannot_ask_without_end(tmp_path: Path) -> None:
    with served(tmp_path / "data", "--rate", "0.01") as server:
        answers = [server.client.get("/v1/priors") for _ in range(101)]
        assert [answer.status_code for answer in answers] == [200] * 100 + [429]
        check_problem(answers[-1], 429)
        assert int(answers[-1].headers["retry-after"]) >= 1


def test_a_full_queue_says_when_to_come_again(tmp_path: Path) -> None:
    with served(tmp_path / "data", "--max-queue", "2", "--threads", "1") as server:
        pair = write_pair(tmp_path)
        long = server.fuse(*pair, form="released", steps=1000, task="infrared").headers["location"]
        until(lambda: server.client.get(long).json()["state"] == "running")
        places = [server.fuse(*pair, task="infrared", steps=0) for _ in range(3)]
        assert [place.status_code for place in places] == [202, 202, 429]
        check_problem(places[-1], 429)
        assert int(places[-1].headers["retry-after"]) >= 1
        server.client.delete(long)
        for place in places[:2]:
            assert server.over(place.headers["location"])["state"] == "done"


def test_slow_clients_hold_nobody_up(server: Served, pair: tuple[bytes, bytes]) -> None:
    host, port = server.address.removeprefix("http://").split(":")
    slow = [socket.create_connection((host, int(port))) for _ in range(50)]
    try:
        for k, connection in enumerate(slow):  # half a header, or a body that never comes
            start = f"POST /v1/fusions HTTP/1.1\r\nHost: {host}:{port}\r\n"
            body = f"Content-Type: {FORM}\r\nContent-Length: 5000\r\n\r\n--{BOUNDARY}"
            connection.sendall((start + (body if k % 2 else "")).encode())
        job = server.over(post(server, *pair, options='{"task": "infrared"}').headers["location"])
        assert job["state"] == "done"
    finally:
        for connection in slow:
            connection.close()


def test_slow_bodies_and_headers_are_ended(server: Served) -> None:
    host, port = server.address.removeprefix("http://").split(":")
    start = f"POST /v1/fusions HTTP/1.1\r\nHost: {host}:{port}\r\n"
    for text, status in (
        (f"Content-Type: {FORM}\r\nContent-Length: 5000\r\n\r\n--", b" 408 "),
        ("X-A: ", b""),
    ):
        with socket.create_connection((host, int(port)), timeout=120) as connection:
            connection.sendall((start + text).encode())
            got = b""
            while piece := connection.recv(4096):  # until the server ends it
                got += piece
            assert status in got


def test_raw_nonsense(server: Served, pair: tuple[bytes, bytes]) -> None:
    host, port = server.address.removeprefix("http://").split(":")
    rng = random.Random(SEED)
    for text in (
        b"\0" * 100,
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\r\n\r\n",
        b"X" * 100_000,
        rng.randbytes(5000),
        b"POST /v1/fusions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/fusions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
    ):
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            connection.sendall(text)
            connection.shutdown(socket.SHUT_WR)
            try:
                answer = connection.recv(65536)
            except ConnectionResetError:
                answer = b""
            assert not answer.startswith((b"HTTP/1.1 5", b"HTTP/1.1 2")), answer[:100]
    still_answers(server, pair)


def test_there_are_more_than_300_cases() -> None:
    cases = (
        5 * 40
        + 3 * len(BOMBS)
        + len(WRONG)
        + len(NAMES)
        + len(OPTIONS)
        - 1
        + 2 * len(BODIES)
        + 60
        + len(PATHS)
    )
    assert cases > 300
