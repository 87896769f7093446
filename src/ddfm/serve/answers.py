"""What the service says of jobs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, Field

from ddfm.serve.requests import FusionOptions, command_line
from ddfm.serve.store import Job, Store

EXAMPLE_ID = "0123456789abcdef0123456789abcdef"


class Source(BaseModel):
    """Describe a source."""

    name: str
    kind: str
    width: int
    height: int
    slices: int


class JobAnswer(BaseModel):
    """Describe a job."""

    id: str = Field(examples=[EXAMPLE_ID])
    kind: str = Field(examples=["fusion"])
    state: str = Field(description="queued, running, done, failed or cancelled", examples=["running"])
    place: int = Field(description="In the queue, 1 for the next; 0 if it does not wait.")
    step: int = Field(description="Sampling steps, slices or methods that are done.", examples=[3])
    steps: int = Field(description="Of so many.", examples=[5])
    unit: str = Field(description="What is counted: step, slice or method.", examples=["step"])
    created: str = Field(examples=["2026-01-31T12:00:00Z"])
    finished: str | None = None
    sources: list[Source] = []
    options: dict[str, Any] = {}
    command: str | None = Field(None, description="The command that makes the same bytes.")
    result: dict[str, Any] | None = Field(None, description="What was made, and with what settings.")
    problem: str | None = Field(None, description="Why it failed.")


def describe(job: Job, store: Store, threads: int) -> JobAnswer:
    """Return what is said of a job."""
    request = job.request
    sources = [Source(**{key: s[key] for key in Source.model_fields}) for s in request.get("sources", [])]
    options = request.get("options", {})
    command = None
    if job.kind == "fusion":
        # The worker knows how many threads it had, and what kind of file came out.
        made = job.result or {}
        output = str(made.get("file", "fused.png"))
        if output.endswith(".zip"):  # of what the command writes as a folder
            output = output.removesuffix(".zip")
        names = [source.name for source in sources]
        command = command_line(
            FusionOptions.model_validate(options), names, output, made.get("threads", threads)
        )
    result = {k: v for k, v in job.result.items() if k != "threads"} if job.result else None
    return JobAnswer(
        id=job.id,
        kind=job.kind,
        state=job.state,
        place=store.place(job),
        step=job.step,
        steps=job.steps,
        unit="method" if job.kind == "evaluation" else "slice" if request.get("volume") else "step",
        created=moment(job.created),
        finished=None if job.finished is None else moment(job.finished),
        sources=sources,
        options=options,
        command=command,
        result=result,
        problem=job.problem,
    )


def moment(seconds: float) -> str:
    """Return a time as ISO 8601, UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
