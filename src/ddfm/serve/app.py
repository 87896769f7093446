"""Put the service together: routes, errors, guard, workers, page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any

from fastapi import FastAPI
from starlette.responses import JSONResponse, Response

from ddfm.formats.limits import set_max_pixels
from ddfm.serve import problems
from ddfm.serve.answers import JobAnswer
from ddfm.serve.content import quiet_pydicom
from ddfm.serve.folders import Folders
from ddfm.serve.guard import Guard
from ddfm.serve.monitoring import Monitor
from ddfm.serve.service import Service
from ddfm.serve.settings import Settings
from ddfm.serve.store import Store
from ddfm.serve.supervisor import Supervisor
from ddfm.version import own_version

KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
FILE = {"type": "string", "contentMediaType": "application/octet-stream"}
FUSION_BODY = {
    "type": "object",
    "required": ["files"],
    "properties": {
        "files": {
            "type": "array",
            "items": FILE,
            "minItems": 1,
            "description": "The sources, in order. A thermal camera's own file may be both; the files of a "
            "DICOM series are one, wherever they stand, under the name of the folder that their names have.",
        },
        "options": {
            "type": "string",
            "contentMediaType": "application/json",
            "description": "JSON; see FusionOptions.",
            "examples": [
                '{"balance": 0.3, "seed": 7}',
                '{"task": "infrared", "range": [[7000, 8500], null], "deblur": [1.5, 0]}',
                '{"task": "exposure", "deghost": "off", "source_map": true}',
                '{"palette": "iron", "annotate": true, "range": [[20, 40]], "temperatures": true}',
            ],
        },
    },
}
EVALUATION_BODY = {
    "type": "object",
    "properties": {
        "fusion": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
        "a": FILE,
        "b": FILE,
        "fused": FILE,
        "convention": {"type": "string", "enum": ["paper", "vifb"]},
    },
}
PROBLEM = {
    "description": "What is wrong.",
    "content": {
        problems.MEDIA_TYPE: {
            "schema": {
                "type": "object",
                "required": ["type", "title", "status", "detail"],
                "properties": {
                    "type": {"type": "string"},
                    "title": {"type": "string"},
                    "status": {"type": "integer"},
                    "detail": {"type": "string"},
                },
            },
            "example": problems.body_of(422, "options: balance: Input should be less than or equal to 1"),
        }
    },
}


def create_app(settings: Settings) -> Any:
    """Return the ASGI application; its workers start and end with it. Raises InputError."""
    set_max_pixels(settings.max_pixels)
    quiet_pydicom()
    folders = Folders(settings.data)
    lock = folders.lock()
    store = Store(folders.database)
    store.recover()
    folders.clear_incoming()
    for id_ in folders.orphans(store.ids()):
        folders.remove(id_)
    service, supervisor = Service(settings, store, folders), Supervisor(settings, store, folders)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        supervisor.start()
        await service.feed.start()
        yield
        await service.feed.stop()
        supervisor.stop()
        store.close()
        _ = lock  # until here

    app = FastAPI(
        title="ddfm",
        version=own_version(),
        description="Image fusion with a diffusion prior.",
        lifespan=life,
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
    )
    problems.install(app)
    monitor = Monitor(app, store, supervisor)
    add_fusions(app, service)
    add_evaluations(app, service)
    add_rest(app, service, supervisor, monitor)
    add_page(app)
    return Guard(monitor, settings)


def refusals(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Return the problems of a route, for OpenAPI."""
    return dict.fromkeys((400, 401, 403, 421, 422, 429, *codes), PROBLEM)


def form(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a multipart body for OpenAPI: it is parsed piece by piece, not by FastAPI."""
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


def pictures(*kinds: str) -> dict[int | str, dict[str, Any]]:
    """Return the answer of a route that hands out files, for OpenAPI."""
    content = {kind: {"schema": {"type": "string", "format": "binary"}} for kind in kinds}
    return {200: {"description": "The file.", "content": content}}


def add_fusions(app: FastAPI, service: Service) -> None:
    """Add the routes of fusions."""
    one, png = "/v1/fusions/{id_}", pictures("image/png")
    accepted: dict[int | str, dict[str, Any]] = {202: {"model": JobAnswer}}
    app.add_api_route(
        "/v1/fusions", service.create_fusion, methods=["POST"], status_code=202, tags=["fusions"],
        responses=accepted | refusals(408, 413, 415, 507), openapi_extra=form(FUSION_BODY),
    )  # fmt: skip
    app.add_api_route(
        one, service.fusion, response_model=JobAnswer, tags=["fusions"], responses=refusals(404)
    )
    app.add_api_route(
        one, service.cancel_fusion, methods=["DELETE"], status_code=204, tags=["fusions"],
        responses=refusals(404),
    )  # fmt: skip
    routes: tuple[tuple[str, Any, dict[int | str, dict[str, Any]]], ...] = (
        ("/events", service.events, pictures("text/event-stream")),
        (
            "/result",
            service.result,
            pictures("image/png", "image/tiff", "application/zip", "application/octet-stream"),
        ),
        ("/preview", service.live_preview, png),
        ("/uncertainty", service.uncertainty, pictures("image/tiff")),
        ("/source-map", service.source_map, png),
        ("/temperatures", service.temperatures, pictures("image/tiff")),
        ("/views/{name}", service.view, png),
    )
    for path, function, answers in routes:
        app.add_api_route(
            one + path, function, response_class=Response, tags=["fusions"],
            responses=answers | refusals(404, 409),
        )  # fmt: skip
    app.add_api_route(
        one + "/previews", service.preview, methods=["POST"], response_class=Response, tags=["fusions"],
        responses=png | refusals(404, 408, 409, 413, 503),
    )  # fmt: skip
    app.add_api_route(
        "/v1/archive", service.archive, response_class=Response, tags=["fusions"],
        responses=pictures("application/zip") | refusals(404),
    )  # fmt: skip


def add_evaluations(app: FastAPI, service: Service) -> None:
    """Add the routes of evaluations."""
    accepted: dict[int | str, dict[str, Any]] = {202: {"model": JobAnswer}}
    one = "/v1/evaluations/{id_}"
    app.add_api_route(
        "/v1/evaluations", service.create_evaluation, methods=["POST"], status_code=202, tags=["evaluations"],
        responses=accepted | refusals(404, 408, 409, 413, 415, 507), openapi_extra=form(EVALUATION_BODY),
    )  # fmt: skip
    app.add_api_route(
        one, service.evaluation, response_model=JobAnswer, tags=["evaluations"], responses=refusals(404)
    )
    app.add_api_route(
        one, service.cancel_evaluation, methods=["DELETE"], status_code=204, tags=["evaluations"],
        responses=refusals(404),
    )  # fmt: skip


def add_rest(app: FastAPI, service: Service, supervisor: Supervisor, monitor: Monitor) -> None:
    """Add the routes about the service itself."""

    def alive() -> dict[str, str]:
        """Tell that the service answers."""
        return {"status": "ok"}

    def ready() -> Response:
        """Tell whether jobs are taken: there is a database, and workers run, or are being started."""
        service.store.waiting()
        good = supervisor.alive > 0
        about = {"ready": good, "workers": supervisor.alive, "warm": supervisor.ready}
        return JSONResponse(about, 200 if good else 503)

    def numbers() -> Response:
        """Count requests and jobs, in Prometheus' text format."""
        return Response(monitor.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    app.add_api_route("/v1/priors", service.priors, tags=["service"], responses=refusals())
    app.add_api_route("/v1/limits", service.limits, tags=["service"], responses=refusals())
    app.add_api_route("/healthz", alive, tags=["service"])
    app.add_api_route("/readyz", ready, response_class=JSONResponse, tags=["service"])
    app.add_api_route(
        "/metrics", numbers, response_class=Response, tags=["service"], responses=pictures("text/plain")
    )


def add_page(app: FastAPI) -> None:
    """Add the page: files of the package, each a route of its own, so that no name is a path."""
    folder = files("ddfm.serve") / "page"
    for entry in folder.iterdir():
        kind = KINDS.get(entry.name[entry.name.rfind(".") :])
        if kind is None:
            continue
        data = entry.read_bytes()
        path = "/" if entry.name == "index.html" else f"/page/{entry.name}"
        app.add_api_route(
            path, _sender(data, f"{kind}; charset=utf-8"), include_in_schema=False, response_class=Response
        )


def _sender(data: bytes, kind: str) -> Any:
    async def send() -> Response:
        return Response(data, media_type=kind, headers={"Cache-Control": "no-cache"})

    return send
