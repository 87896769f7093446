"""Answer requests: accept jobs, tell of them, hand out results."""

from __future__ import annotations

import asyncio
import hashlib
import json
import mimetypes
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

from fastapi import Header, Query, Request
from fastapi import Path as PathPart
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, Response, StreamingResponse

from ddfm.serve.answers import EXAMPLE_ID, JobAnswer, describe
from ddfm.serve.content import THERMAL, Content
from ddfm.serve.feed import Feed
from ddfm.serve.folders import VIEWS, Folders, size_of
from ddfm.serve.problems import Problem, validation_detail
from ddfm.serve.receiving import Received, Receiving, no_room
from ddfm.serve.requests import OUTPUTS, FusionOptions, bundled_priors, parse_options
from ddfm.serve.settings import Settings
from ddfm.serve.store import Job, Lane, QueueFullError, Store

HEARTBEAT_SECONDS = 15.0
PREVIEW_SECONDS = 20.0  # that a slider's picture may take
MOST_PREVIEWS = 32  # that wait
MOST_ARCHIVED = 200
PIECE = 2**18  # bytes
PRIOR_NOTES = {"natural": "luminance, any size"}

JobId = Annotated[str, PathPart(pattern=r"^[0-9a-f]{32}$", examples=[EXAMPLE_ID])]
RetryKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[\x21-\x7e]{1,128}$",
        description="A word of the client's own: the same one again answers the same job.",
    ),
]


class Changes(BaseModel):
    """Name the options that a quick preview changes."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    balance: float | None = Field(None, ge=0, le=1, description="0 natural to 1 thermal.", examples=[0.3])
    stretch: Literal["auto", "none"] | None = None


class Service:
    """Hold what the routes need; each method that `routes` names is one."""

    def __init__(self, settings: Settings, store: Store, folders: Folders) -> None:
        self.settings, self.store, self.folders = settings, store, folders
        self.feed = Feed(folders)

    # Fusions.

    async def create_fusion(self, request: Request, retry_key: RetryKey = None) -> Response:
        """Accept two or more files and options; the job is queued."""
        if (known := await self.known(retry_key)) is not None:
            return self.accepted(known)
        self.check_queue()
        async with self.received(request) as got:
            options = parse_options(got.fields.get("options", b""))
            self.check_fusion(got, options)
            volume = got.contents[0].is_volume
            wanted = {"options": options.stored(), "sources": got.sources, "volume": volume}
            alike = likeness(options, got.contents)
            job = await self.add("fusion", wanted, got, alike, retry_key)
        return self.accepted(job)

    def check_fusion(self, got: Received, options: FusionOptions) -> None:
        """Refuse at once what no worker could do. Raises Problem."""
        count, volume = len(got.sources), got.contents[0].is_volume if got.contents else False
        thermal = any(content.kind == THERMAL for content in got.contents)
        if set(got.fields) - {"options"}:
            raise Problem(422, "the form has files and, in options, JSON; nothing else is known")
        if count < 2 and not thermal:
            raise Problem(
                422, f"two sources or more are needed, {count} came; a thermal camera's own file may be both"
            )
        if len({content.is_volume for content in got.contents}) > 1:
            raise Problem(422, "either all files are volumes or none is")
        if options.form != "ddfm" and count > 2:
            raise Problem(422, f"form {options.form} is for two sources, {count} came; ddfm takes any number")
        if options.form != "ddfm" and (options.steps == 0 or options.source_map):
            wrong = "source_map: is for form ddfm" if options.source_map else "steps: one or more are needed"
            raise Problem(422, f"{wrong}, not for form {options.form}")
        if options.colour_from is not None and options.colour_from > max(2, count):
            raise Problem(422, f"colour_from: is not within 1 to {max(2, count)}, the number of a source")
        for name, levels, needed in (
            ("noise", options.noise, max(2, count)),
            ("deblur", options.deblur, max(2, count)),
            ("range", options.range, count),
        ):
            if isinstance(levels, list) and len(levels) != needed:
                raise Problem(422, f"{name}: has {len(levels)} entries; {needed}, one a source, are needed")
        if not thermal and (asked := options.thermal):
            raise Problem(422, f"{asked[0]}: is for thermal cameras' own files, and none came")
        if volume and (options.uncertainty or options.source_map or options.register_):
            raise Problem(422, "volumes are fused without register, uncertainty and source_map")
        if not volume and "window" in (options.range or []):
            raise Problem(422, "range: window is for volumes; give two numbers, or data")

    def fusion(self, id_: JobId) -> JobAnswer:
        """Tell how far a fusion is."""
        return self.told(self.job(id_, "fusion"))

    async def events(self, id_: JobId) -> StreamingResponse:
        """Send the fusion's state whenever it changes, as server-sent events, until it is over."""
        self.job(id_, "fusion")
        if self.feed.listeners >= self.settings.max_streams:
            raise Problem(429, "too many event streams are open", {"Retry-After": "5"})
        return StreamingResponse(self.stream(id_), media_type="text/event-stream")

    async def stream(self, id_: str) -> AsyncIterator[str]:
        """Yield the events of a job."""
        before = ""
        async with aclosing(self.feed.changes(HEARTBEAT_SECONDS)) as changes:
            async for changed in changes:
                job = self.store.get(id_)
                if job is None:
                    yield "event: gone\ndata: {}\n\n"
                    return
                text = self.told(job).model_dump_json()
                if text != before:
                    before = text
                    yield f"event: {'end' if job.is_over else 'progress'}\ndata: {text}\n\n"
                elif not changed:
                    yield ": still here\n\n"
                if job.is_over:
                    return

    def live_preview(self, id_: JobId) -> Response:
        """Hand out the picture of the last sampling step, a small PNG."""
        self.job(id_, "fusion")
        return self.file(self.folders.preview(id_), "no step is done yet")

    def result(
        self,
        id_: JobId,
        format_: Annotated[
            Literal["as-made", "png", "tiff"],
            Query(alias="format", description="as-made: the bytes that `ddfm fuse` writes."),
        ] = "as-made",
        bits: Annotated[
            Literal["8", "16"] | None, Query(description="Of each sample; those of the first source.")
        ] = None,
    ) -> Response:
        """Hand out the fused picture or volume."""
        job = self.done(id_, "fusion")
        assert job.result
        path = self.folders.job(id_) / str(job.result["file"])
        if format_ == "as-made" and bits is None:
            return self.file(path, "the result has expired", download=path.name)
        if job.request["volume"]:
            raise Problem(422, "a volume is handed out as it was made; leave format and bits out")
        native = {"uint8": "8", "uint16": "16"}.get(str(job.result["depth"]))
        other = path.with_name(f"fused-{bits or native or '16'}.png")
        source = other if other.is_file() else path
        if format_ != "tiff":
            return self.file(source, "the result has expired", download="fused.png")
        return Response(as_tiff(source), media_type="image/tiff", headers=attachment("fused.tif"))

    def uncertainty(self, id_: JobId) -> Response:
        """Hand out how far the luminance can be relied on: a 16-bit TIFF, 65535 for black to white."""
        return self.other(id_, "uncertainty")

    def source_map(self, id_: JobId) -> Response:
        """Hand out which source counts most at each pixel: a PNG with a palette, numbers from 1."""
        return self.other(id_, "source_map")

    def temperatures(self, id_: JobId) -> Response:
        """Hand out the temperature of each fused pixel: a float TIFF, in degrees Celsius."""
        return self.other(id_, "temperatures")

    def other(self, id_: str, asked: str) -> Response:
        """Hand out a file that an option of that name asked for. Raises Problem."""
        self.done(id_, "fusion")
        path = self.folders.job(id_) / OUTPUTS[asked]
        return self.file(path, f"no {asked} was asked for", download=path.name)

    def view(
        self,
        id_: JobId,
        name: Annotated[str, PathPart(pattern=VIEWS.pattern)],
        slice_: Annotated[int | None, Query(alias="slice", ge=1, le=99_999)] = None,
    ) -> Response:
        """Hand out what a browser can show: source, result or uncertainty, an 8-bit PNG, upright."""
        self.done(id_, "fusion")
        return self.file(self.folders.view(id_, name, slice_), "there is no such view")

    async def preview(self, id_: JobId, changes: Changes) -> Response:
        """Answer with a small picture fused without sampling, at another balance, say."""
        job = self.job(id_, "fusion")
        if job.request["volume"]:
            raise Problem(422, "volumes have no quick preview")
        try:
            options = FusionOptions.model_validate(job.request["options"]).changed(
                changes.model_dump(exclude_none=True)
            )
        except ValidationError as error:
            raise Problem(422, validation_detail(error.errors())) from None
        wanted = {"options": options.stored(), "sources": job.request["sources"], "fusion": id_}
        try:
            asked = await run_in_threadpool(
                self.store.add, "preview", wanted, lane="quick", most=MOST_PREVIEWS
            )
        except QueueFullError:
            raise Problem(429, "too many previews wait", {"Retry-After": "1"}) from None
        try:
            over = await self.end_of(asked.id)
            if over.state != "done":
                raise Problem(409 if over.problem else 503, over.problem or "no worker was free in time")
            data = await run_in_threadpool(self.folders.preview(asked.id).read_bytes)
            return Response(data, media_type="image/png")
        finally:
            await run_in_threadpool(self.forget, asked.id)

    async def end_of(self, id_: str) -> Job:
        """Return a job when it is over, or when it has taken too long for somebody who waits."""
        end = asyncio.get_running_loop().time() + PREVIEW_SECONDS
        async with aclosing(self.feed.changes(1.0)) as changes:
            async for _ in changes:
                job = self.store.need(id_)
                if job.is_over or asyncio.get_running_loop().time() > end:
                    return job
        raise AssertionError("changes never end")

    def cancel_fusion(self, id_: JobId) -> Response:
        """Cancel a fusion, or forget one that is over, with its files."""
        self.job(id_, "fusion")
        return self.end(id_)

    def archive(
        self,
        fusion: Annotated[list[str], Query(min_length=1, max_length=MOST_ARCHIVED, examples=[[EXAMPLE_ID]])],
    ) -> FileResponse:
        """Hand out the results of several fusions as a ZIP; those that are not done are left out."""
        ids = list(dict.fromkeys(fusion))
        if not all(re.fullmatch(r"[0-9a-f]{32}", id_) for id_ in ids):
            raise Problem(422, "fusion: ids of fusions are needed")
        jobs = [job for id_ in ids if (job := self.store.get(id_)) and job.kind == "fusion" and job.result]
        if not jobs:
            raise Problem(404, "none of these fusions is done")
        with tempfile.NamedTemporaryFile(dir=self.folders.incoming, suffix=".zip", delete=False) as file:
            path = Path(file.name)
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                for job, name in zip(jobs, archive_names(jobs), strict=True):
                    assert job.result
                    made = self.folders.job(job.id) / str(job.result["file"])
                    if made.is_file():
                        archive.write(made, name)
        return FileResponse(
            path,
            media_type="application/zip",
            headers=attachment("fused.zip"),
            background=BackgroundTask(path.unlink),
        )

    # Evaluations.

    async def create_evaluation(self, request: Request, retry_key: RetryKey = None) -> Response:
        """Accept a fusion's id, or the files a, b and fused; they are measured beside trivial baselines."""
        if (known := await self.known(retry_key)) is not None:
            return self.accepted(known)
        self.check_queue()
        async with self.received(request) as got:
            fields = {name: value.decode("utf-8", "replace") for name, value in got.fields.items()}
            convention, fusion = fields.pop("convention", "paper"), fields.pop("fusion", None)
            if fields or convention not in ("paper", "vifb"):
                raise Problem(422, "convention is paper or vifb, fusion an id; nothing else is known")
            if (fusion is None) == (not got.sources):
                raise Problem(422, "either fusion, an id, is needed or three files: a, b and fused")
            wanted: dict[str, Any] = {"convention": convention}
            if fusion is not None:
                if not re.fullmatch(r"[0-9a-f]{32}", fusion):
                    raise Problem(422, "fusion: is no id")
                of = self.done(fusion, "fusion")
                assert of.result
                if not of.result.get("measurable"):
                    raise Problem(422, "fusion: pictures of two sources, undrawn, are measured, nothing else")
                wanted["fusion"] = fusion
            elif len(got.sources) != 3 or any(content.is_volume for content in got.contents):
                raise Problem(422, "three pictures are needed: a, b and fused, in this order")
            else:
                wanted["sources"] = got.sources
            job = await self.add("evaluation", wanted, got, "", retry_key)
        return self.accepted(job)

    def evaluation(self, id_: JobId) -> JobAnswer:
        """Tell how far an evaluation is, and its values when it is done."""
        return self.told(self.job(id_, "evaluation"))

    def cancel_evaluation(self, id_: JobId) -> Response:
        """Cancel an evaluation, or forget one that is over."""
        self.job(id_, "evaluation")
        return self.end(id_)

    # The rest.

    def priors(self) -> list[dict[str, str]]:
        """List the priors that options may name."""
        return [{"name": name, "what": PRIOR_NOTES.get(name, "")} for name in bundled_priors()]

    def limits(self) -> dict[str, Any]:
        """Tell what the service takes, so that clients need not try."""
        names = ("max_files", "max_upload", "max_pixels", "keep_hours")
        return {name: getattr(self.settings, name) for name in names}

    # What they have in common.

    def job(self, id_: str, kind: str) -> Job:
        """Return a job of that kind. Raises Problem."""
        job = self.store.get(id_)
        if job is None or job.kind != kind:
            raise Problem(404, f"there is no such {kind}, or it has expired")
        return job

    def done(self, id_: str, kind: str) -> Job:
        """Return a job that is done. Raises Problem."""
        job = self.job(id_, kind)
        if job.state != "done":
            raise Problem(409, f"the {kind} is {job.state}" + (f": {job.problem}" if job.problem else ""))
        return job

    def told(self, job: Job) -> JobAnswer:
        """Return what is said of a job."""
        return describe(job, self.store, self.settings.threads)

    def file(self, path: Path, otherwise: str, download: str | None = None) -> Response:
        """Return a file. Raises Problem if there is none."""
        try:
            opened = path.open("rb")
        except FileNotFoundError:
            raise Problem(404, otherwise) from None
        # By its descriptor: a worker may put another one in its place, or the job may be removed.
        headers = attachment(download) if download else {}
        headers["Content-Length"] = str(os.fstat(opened.fileno()).st_size)
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        return StreamingResponse(pieces(opened), media_type=kind, headers=headers)

    def end(self, id_: str) -> Response:
        """Cancel a job, or forget one that is over."""
        if not self.store.cancel(id_):
            self.forget(id_)
        return Response(status_code=204)

    def forget(self, id_: str) -> None:
        """Remove a job and its files."""
        self.store.remove(id_)
        self.folders.remove(id_)

    async def known(self, retry_key: str | None) -> Job | None:
        """Return the job that a client has sent before."""
        return None if retry_key is None else await run_in_threadpool(self.store.by_key, retry_key)

    def check_queue(self, lane: Lane = "main") -> None:
        """Refuse a job before its body is read, if no more can wait. Raises Problem."""
        if self.store.waiting(lane) >= self.settings.max_queue:
            raise self.full()
        if shutil.disk_usage(self.folders.data).free < 2 * self.settings.max_upload:
            raise no_room()

    def full(self) -> Problem:
        """Return the refusal of a full queue, with the time after which half of it may be gone."""
        seconds = self.settings.max_queue / 2 * self.store.seconds_a_job() / self.settings.workers
        return Problem(429, "the queue is full", {"Retry-After": str(max(1, min(600, round(seconds))))})

    def received(self, request: Request) -> Receiving:
        """Receive a body's files; they are removed again unless they become a job's."""
        return Receiving(request, self.folders.incoming, self.settings.max_files)

    async def add(
        self,
        kind: str,
        wanted: dict[str, Any],
        got: Received,
        alike: str,
        retry_key: str | None,
        lane: Lane = "main",
    ) -> Job:
        """Make a job of what was received. Raises Problem if the queue is full."""

        def settle() -> Job:
            size = size_of(got.folder)
            got.folder.rename(self.folders.job(got.id))
            try:
                job = self.store.add(
                    kind, wanted, id_=got.id, lane=lane, alike=alike, retry_key=retry_key, size=size,
                    most=self.settings.max_queue,
                )  # fmt: skip
            except BaseException:
                self.folders.remove(got.id)
                raise
            if job.id != got.id:  # the same request came twice at once
                self.folders.remove(got.id)
            return job

        try:
            return await run_in_threadpool(settle)
        except QueueFullError:
            raise self.full() from None

    def accepted(self, job: Job) -> Response:
        """Return the answer to an accepted job."""
        place = f"/v1/{job.kind}s/{job.id}"
        return Response(
            self.told(job).model_dump_json(), 202, {"Location": place}, media_type="application/json"
        )


def likeness(options: FusionOptions, contents: list[Content]) -> str:
    """Return what jobs have in common that can be fused at once; empty for those that are fused alone."""
    if any(content.is_volume or content.kind == THERMAL for content in contents):
        return ""
    if options.uncertainty or options.source_map or options.register_ or options.scheduler == "ddpm":
        return ""
    sizes = [(content.width, content.height) for content in contents]
    return hashlib.sha256(json.dumps([options.stored(), sizes], sort_keys=True).encode()).hexdigest()


def archive_names(jobs: list[Job]) -> Iterator[str]:
    """Yield a name for each result: the first source's stem, numbered if it came before."""
    seen: dict[str, int] = {}
    for job in jobs:
        assert job.result
        suffix = "".join(Path(str(job.result["file"])).suffixes)
        stem = re.sub(r"[^\w.-]", "_", Path(job.request["sources"][0]["name"]).stem).strip(".") or "fused"
        stem = stem.removesuffix(".nii")
        seen[stem] = seen.get(stem, 0) + 1
        yield f"{stem}{suffix}" if seen[stem] == 1 else f"{stem}-{seen[stem]}{suffix}"


def pieces(opened: BinaryIO) -> Iterator[bytes]:
    """Yield an open file piece by piece, and close it."""
    with opened:
        while piece := opened.read(PIECE):
            yield piece


def attachment(name: str) -> dict[str, str]:
    """Return the header that has a browser save a file."""
    return {"Content-Disposition": f'attachment; filename="{name}"'}


def as_tiff(path: Path) -> bytes:
    """Return a picture as TIFF, its samples as they are."""
    from ddfm.formats.pictures import read_image, write_image

    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "fused.tif"
        write_image(made, read_image(path))
        return made.read_bytes()
