"""Videos that are lists of others, or hold what no video holds."""

from __future__ import annotations

import os
from pathlib import Path

import av
import numpy as np
import pytest

from ddfm.errors import InputError
from ddfm.formats.limits import max_pixels
from ddfm.video.reading import Reader
from ddfm.video.run import check_cut, check_output
from ddfm.video.writing import partial_pattern
from tests.conftest import picture


def write(path: Path, **metadata: str) -> bytes:
    """A video of a few frames; returns its bytes."""
    with av.open(str(path), "w") as container:
        container.metadata.update(metadata)
        stream = container.add_stream("libx264", rate=10)
        stream.width = stream.height = 64
        for k in range(3):
            frame = av.VideoFrame.from_ndarray(np.dstack([picture(64, 64, 1, np.uint8, k)] * 3))
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path.read_bytes()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.mp4", "ffconcat version 1.0\nfile secret.mp4\n"),
        ("x.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:1.0,\nsecret.mp4\n#EXT-X-ENDLIST\n"),
        ("x.mkv", "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:1.0,\nhttp://localhost/a.ts\n#EXT-X-ENDLIST\n"),
    ],
)
def test_lists_of_other_files(tmp_path: Path, name: str, text: str) -> None:
    write(tmp_path / "secret.mp4")
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match="is a list of other files"):
        Reader(tmp_path / name)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_titles_that_are_not_utf_8(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    whole = write(path, title="Ubungsflug im Marz")
    assert b"Ubungsflug" in whole
    path.write_bytes(whole.replace(b"Ubungsflug", b"\xdcbungsflug"))
    assert Reader(path).size == (64, 64)


def test_names_that_ffmpeg_would_take_for_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("concat:a.mp4|b.mp4", "subfile,,start,0,end,0,,:a.mp4", "%d.mp4", "\udcff.mp4"):
        write(tmp_path / "plain.mp4")
        os.replace(tmp_path / "plain.mp4", name)  # noqa: PTH105 - names that are no text
        assert Reader(Path(name)).size == (64, 64)


def test_pipes_and_sizes(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(InputError, match="no regular file"):
        Reader(tmp_path / "pipe.mp4")
    write(tmp_path / "a.mp4")
    with max_pixels(64 * 64 - 1), pytest.raises(InputError, match="--max-pixels 4096"):
        Reader(tmp_path / "a.mp4")


def test_outputs(tmp_path: Path) -> None:
    write(tmp_path / "a.mp4")
    (tmp_path / "link.mp4").symlink_to(tmp_path / "a.mp4")
    with pytest.raises(InputError, match="is one of the sources"):
        check_output(tmp_path / "link.mp4", [tmp_path / "a.mp4"])
    for every in (0, 10**30, 1.5, True):
        with pytest.raises(InputError, match="every"):
            check_cut(every, 0, None)  # type: ignore[arg-type]
    for stem in ("a", "n" * 251, "\u00fc" * 125):
        prefix, suffix = partial_pattern(tmp_path / f"{stem}.mp4")
        assert len(os.fsencode(prefix + suffix)) + 16 <= 255
