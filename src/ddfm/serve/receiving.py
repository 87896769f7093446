"""Receive a body's files, and find out what they are: pictures, volumes, series of DICOM files."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from ddfm.errors import InputError
from ddfm.serve import uploads
from ddfm.serve.content import Content, inspect, inspect_slice, is_dicom, joined
from ddfm.serve.problems import Problem, for_clients
from ddfm.serve.store import new_id

HEAD = 256  # bytes that tell DICOM files


@dataclass(frozen=True)
class Received:
    """Hold an upload whose files have been looked at."""

    id: str
    folder: Path
    sources: list[dict[str, Any]]
    contents: list[Content]
    fields: dict[str, bytes]


@dataclass(frozen=True)
class Found:
    """Tell of a source that was received: the client's name of it, ours, and what it is."""

    name: str
    file: str
    content: Content


class Receiving:
    """Receive a body into a folder of its own, for the length of a block."""

    def __init__(self, request: Request, incoming: Path, most_sources: int) -> None:
        self.request, self.most_sources = request, most_sources
        self.id = new_id()
        self.folder = incoming / self.id

    async def __aenter__(self) -> Received:
        self.folder.mkdir(mode=0o700)
        try:
            upload = await uploads.receive(
                self.request.headers.get("content-type", ""),
                self.request.stream(),
                self.folder,
                self.most_sources,
            )
            found = await run_in_threadpool(self.look, upload)
        except OSError as error:
            await self.__aexit__()
            raise no_room() from error
        except BaseException:
            await self.__aexit__()
            raise
        sources = [{"name": f.name, "file": f.file} | f.content.as_dict() for f in found]
        return Received(self.id, self.folder, sources, [f.content for f in found], upload.fields)

    async def __aexit__(self, *error: object) -> None:
        await run_in_threadpool(shutil.rmtree, self.folder, ignore_errors=True)

    def look(self, upload: uploads.Upload) -> list[Found]:
        """Return what the files are, under names that readers know. Raises Problem."""
        found: list[Found] = []
        series: dict[str, list[Found]] = {}
        for path, name, folder in zip(upload.files, upload.names, upload.folders, strict=True):
            try:
                with path.open("rb") as file:
                    dicom = is_dicom(file.read(HEAD))
                if dicom:
                    key, content = inspect_slice(path, name)
                    if key not in series:
                        found.append(Found(folder or f"series-{len(series) + 1}", path.name, content))
                    series.setdefault(key, []).append(Found(name, path.name, content))
                    continue
                content = inspect(path, name)
            except InputError as error:
                raise Problem(422, for_clients(str(error), {path: name})) from None
            path.rename(path.with_name(path.name + content.suffix))
            found.append(Found(name, path.name + content.suffix, content))
        slices = {files[0].file: files for files in series.values()}
        found = [self.series(f, slices[f.file]) if f.file in slices else f for f in found]
        if len(found) > self.most_sources:
            raise Problem(413, f"more than {self.most_sources} sources")
        return found

    def series(self, of: Found, slices: list[Found]) -> Found:
        """Put the files of a DICOM series into a folder of its own. Raises Problem."""
        paths = [self.folder / one.file for one in slices]
        try:
            content = joined([one.content for one in slices], of.name, sum(p.stat().st_size for p in paths))
        except InputError as error:
            raise Problem(422, for_clients(str(error), {})) from None
        folder = self.folder / f"{of.file}-series"
        folder.mkdir(mode=0o700)
        for number, path in enumerate(paths, 1):
            path.rename(folder / f"{number:05d}.dcm")
        return Found(of.name, folder.name, content)


def no_room() -> Problem:
    """Return the refusal of a full disk."""
    return Problem(507, "the service's disk is full", {"Retry-After": "600"})
