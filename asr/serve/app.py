"""The web application: which address leads where."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from fastapi import FastAPI, WebSocket
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response

from asr.serve import openapi
from asr.serve.errors import ApiError
from asr.serve.gate import LIVE, TRANSCRIPTIONS, Gate
from asr.serve.live import LiveSession
from asr.serve.metrics import CONTENT_TYPE
from asr.serve.page import SECURITY_HEADERS, make_page
from asr.serve.service import Service
from asr.serve.transcription import Transcription


def make_app(service: Service) -> FastAPI:
    """Return the application of a service."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with service.running():
            yield

    # The usual pages of documentation load their scripts from elsewhere.
    app = FastAPI(title="asr", version=_version(), lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(Gate, service=service)
    if service.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=service.origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=["asr-ignored", "Retry-After"],
        )
    page = make_page(service)

    @app.exception_handler(HTTPException)
    async def refuse(_: Request, error: HTTPException) -> Response:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "refused")
        raise ApiError(error.status_code, error.detail, code, headers=error.headers) from error

    @app.get("/", include_in_schema=False)
    async def show_page() -> Response:
        return HTMLResponse(page, headers=SECURITY_HEADERS)

    @app.get(
        "/health",
        summary="Is the server ready for requests?",
        response_class=JSONResponse,
        responses={200: openapi.answer(openapi.HEALTH), 503: openapi.answer(openapi.HEALTH, "Stopping.")},
    )
    async def health() -> Response:
        if service.stopping:
            return JSONResponse({"status": "stopping"}, 503)
        return JSONResponse({"status": "ready"})

    @app.get(
        "/metrics",
        summary="Counts and times for Prometheus",
        response_class=PlainTextResponse,
        responses=openapi.answers(openapi.METRICS, 401, 403),
    )
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)

    model = {"id": service.model, "object": "model", "created": service.created, "owned_by": "asr"}

    @app.get(
        "/v1/models",
        summary="The model that is served",
        response_class=JSONResponse,
        responses=openapi.answers(openapi.answer(openapi.MODELS), 401, 403),
    )
    async def list_models() -> Response:
        return JSONResponse({"object": "list", "data": [model]})

    @app.get(
        "/v1/models/{model_id}",
        summary="One model",
        response_class=JSONResponse,
        responses=openapi.answers(openapi.answer(openapi.MODEL), 401, 403, 404),
    )
    async def get_model(model_id: str) -> Response:
        if model_id != service.model:
            raise ApiError(404, f"the model here is {service.model}", "model_not_found", "model")
        return JSONResponse(model)

    @app.post(
        TRANSCRIPTIONS,
        summary="Transcribe a file",
        response_class=Response,
        responses=openapi.answers(openapi.TRANSCRIPT, 400, 401, 403, 408, 413, 415, 429, 500, 503),
        openapi_extra=openapi.TRANSCRIPTIONS,
    )
    async def transcribe() -> Response:
        return Transcription(service)

    @app.websocket(LIVE)
    async def live(socket: WebSocket) -> None:
        await LiveSession(service, socket).run()

    def describe() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
            if service.tokens:
                schema.setdefault("components", {})["securitySchemes"] = openapi.BEARER
                for path, operations in schema["paths"].items():
                    for operation in operations.values():
                        operation["security"] = [] if path == "/health" else [{"bearer": []}]
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = describe  # type: ignore[method-assign]
    return app


def _version() -> str:
    try:
        return version("asr")
    except PackageNotFoundError:  # run from a clone
        return "0"
