"""In front of every request: who may come in, and what is written down of it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asr.serve.errors import ApiError, internal_error
from asr.serve.service import Service

log = logging.getLogger("asr.serve")

TRANSCRIPTIONS = "/v1/audio/transcriptions"
LIVE = "/v1/audio/transcriptions/live"
# The page and the health are for everybody.
_OPEN = ("/", "/health")
_KNOWN = (*_OPEN, "/metrics", "/openapi.json", "/v1/models", TRANSCRIPTIONS, LIVE)
_COUNTED = (TRANSCRIPTIONS, LIVE)
# A browser cannot put a token into a header of a WebSocket; it goes into the list of sub-protocols.
LIVE_PROTOCOL = "asr"
_TOKEN_PROTOCOL = "asr.token."
# How long what is left of a refused upload is read, so that the client sees the answer, not a reset.
_DRAIN_SECONDS = 2.0


class Gate:
    """ASGI middleware: tokens, origins, the rate of requests, the clean stop, metrics and the log."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app, self.service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, self.service.limits.upload_seconds)
        try:
            self._check(scope)
            await self.app(scope, exchange.receive, exchange.send)
        except ClientDisconnect:
            exchange.status = None
        except Exception as error:
            if not isinstance(error, ApiError):
                log.exception("%s %s failed", scope.get("method", "LIVE"), _endpoint(scope["path"]))
                error = internal_error()
            exchange.error = error.code
            if exchange.status is not None:
                raise
            # For a WebSocket, Starlette turns the answer into a denial of the handshake.
            await error.response()(scope, exchange.receive, exchange.send)
        finally:
            self._write_down(scope, exchange)

    def _check(self, scope: Scope) -> None:
        headers, path = Headers(scope=scope), scope["path"]
        if path in _OPEN or scope.get("method") == "OPTIONS":
            return
        origin = headers.get("origin")
        # Pages of other sites could otherwise have a visitor's browser send requests, to this machine too.
        if origin and origin.partition("://")[2] != headers.get("host") and not self._allowed(origin):
            raise ApiError(
                403,
                f"pages of {origin[:100]} may not use this server; see --cors-origin",
                "origin_not_allowed",
            )
        self.service.check_token(_token(headers))
        if path in _COUNTED:
            self.service.rate.check(scope["client"][0] if scope.get("client") else "")

    def _allowed(self, origin: str) -> bool:
        return "*" in self.service.origins or origin in self.service.origins

    def _write_down(self, scope: Scope, exchange: _Exchange) -> None:
        endpoint, status = _endpoint(scope["path"]), exchange.status
        # 499: the client went away before the answer (nginx's code).
        name = str(status or 499)
        seconds = time.perf_counter() - exchange.begun
        metrics = self.service.metrics
        metrics.requests.labels(endpoint, name).inc()
        metrics.latency.labels(endpoint).observe(seconds)
        code = exchange.error or scope.get("asr_error", "")
        if code:
            metrics.errors.labels(code).inc()
        if endpoint not in ("/health", "/metrics"):
            method = scope.get("method", "LIVE")
            log.info("%s %s %s %.3f s%s", method, endpoint, name, seconds, f" {code}" if code else "")


class _Exchange:
    """The messages of one request, with an eye on what has been received and sent."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, patience: float) -> None:
        self._receive, self._send, self._patience = receive, send, patience
        headers = Headers(scope=scope)
        self._body_left = (
            scope["type"] == "http"
            and ("transfer-encoding" in headers or headers.get("content-length", "0") != "0")
            # Who waits for permission to send has sent nothing.
            and headers.get("expect", "").lower() != "100-continue"
        )
        self.status: int | None = None
        self.error = ""
        self.begun = time.perf_counter()

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect" or (
            message["type"] == "http.request" and not message.get("more_body")
        ):
            self._body_left = False
        elif message["type"] == "http.request":
            self._body_left = True
        return message

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            self.status = message["status"]
            if self._body_left:
                MutableHeaders(scope=message)["connection"] = "close"
        elif kind == "websocket.http.response.start":
            self.status = message["status"]
        elif kind == "websocket.accept":
            self.status = 101
        elif kind == "websocket.close" and self.status is None:
            self.status = 403
        if kind == "http.response.body" and not message.get("more_body") and self._body_left:
            await self._deliver({**message, "more_body": True})
            await self._drain()
            message = {"type": kind, "body": b""}
        await self._deliver(message)

    async def _deliver(self, message: Message) -> None:
        try:
            async with asyncio.timeout(self._patience):
                await self._send(message)
        except TimeoutError:  # the client does not read its answer
            raise ClientDisconnect from None

    async def _drain(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                while self._body_left:
                    await self.receive()


def _endpoint(path: str) -> str:
    """Return a path as metrics and the log know it: nothing that a client made up."""
    return path if path in _KNOWN else "/v1/models" if path.startswith("/v1/models/") else "other"


def _token(headers: Headers) -> bytes | None:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip().encode("latin-1")
    for protocol in headers.get("sec-websocket-protocol", "").split(","):
        encoded = protocol.strip()
        if encoded.startswith(_TOKEN_PROTOCOL):
            encoded = encoded.removeprefix(_TOKEN_PROTOCOL)
            with contextlib.suppress(ValueError):
                return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    return None
