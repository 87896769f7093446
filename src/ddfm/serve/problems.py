"""Say what is wrong as application/problem+json (RFC 9457), without a path or a trace of the server."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from ddfm.errors import one_line

MEDIA_TYPE = "application/problem+json"
MOST_CHARACTERS = 400
HINT = re.compile(r"; ddfm --max-pixels.*$")  # what only the operator could do
ROOTS = ("body", "query", "path", "header")
KIND = re.compile(r"[\[(]")  # in pydantic's names for the kinds of a value, such as list[float]
OPTION = re.compile(r"(?<![\w-])--([a-z])")  # the command line's way to write an option


class Problem(HTTPException):
    """Stand for an answer that says what is wrong.

    Args:
        status: HTTP's.
        detail: one sentence for the one who asked.
        headers: beside it.
    """

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, one_line(detail)[:MOST_CHARACTERS], dict(headers or {}))


def body_of(status: int, detail: str) -> dict[str, Any]:
    """Return the members of a problem."""
    return {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}


def answer(status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return the answer that says what is wrong."""
    return JSONResponse(body_of(status, detail), status, dict(headers or {}), MEDIA_TYPE)


def for_clients(message: str, names: Mapping[Path, str]) -> str:
    """Return an error of this package as a client may read it.

    Args:
        names: the client's own names of files, by where they lie here.
    """
    for path, name in sorted(names.items(), key=lambda item: -len(str(item[0]))):
        message = message.replace(str(path), name)
    return OPTION.sub(r"\1", HINT.sub("", message))[:MOST_CHARACTERS]


def install(app: FastAPI) -> None:
    """Have the application answer every error as a problem."""

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        return answer(error.status_code, str(error.detail), error.headers)

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> JSONResponse:
        return answer(500, "an error of the service itself; its operator finds the trace in the log")

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return answer(422, validation_detail(error.errors()))


def validation_detail(errors: Any) -> str:
    """Return the first error of pydantic's list in one line: where, and what.

    A value that may be of several kinds has an error for each. The deepest is of the kind that was meant.
    """
    at = [part for part in errors[0]["loc"] if part not in ROOTS]
    alike = [error for error in errors if not at or at[0] in error["loc"]]
    found = max(alike, key=lambda error: len(error["loc"]))
    places = [str(part) for part in found["loc"] if part not in ROOTS and not KIND.search(str(part))]
    place = one_line(".".join(places))[:80]
    return one_line(f"{place}: {found['msg']}" if place else found["msg"])[:MOST_CHARACTERS]
