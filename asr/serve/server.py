"""The web server around the application: its address, slow connections, and the clean stop."""

from __future__ import annotations

import asyncio
import errno
import socket
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from asr.errors import ConfigError
from asr.serve.service import Service

# A client that has not sent the head of its request by then is sent away, seconds.
_HEAD_SECONDS = 30.0
# Open connections; those beyond get 503, so that there are always file descriptors left.
_MOST_CONNECTIONS = 800
_LARGEST_MESSAGE = 1 << 20  # of a WebSocket, bytes


class _Protocol(HttpToolsProtocol):
    """HTTP/1.1 as uvicorn speaks it, with a limit on the time that the head of a request takes."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._wait()

    def on_headers_complete(self) -> None:
        self._wait(over=True)
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait(over=True)
        super().connection_lost(exc)

    def _wait(self, over: bool = False) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if over else self.loop.call_later(_HEAD_SECONDS, self.transport.close)


class Server(uvicorn.Server):
    """Stops when it is told to and nobody is being served any more; told twice, at once.

    Until then it answers: new requests with 503, ``/health`` with "stopping".
    """

    def __init__(self, app: FastAPI, service: Service, **options: Any) -> None:
        self._service = service
        super().__init__(
            uvicorn.Config(
                app,
                http=_Protocol,
                lifespan="on",
                # Garbage on the line is the client's fault; faults of ours are in the log of asr.serve.
                log_level="critical",
                access_log=False,
                server_header=False,
                limit_concurrency=_MOST_CONNECTIONS,
                ws_max_size=_LARGEST_MESSAGE,
                # A client's answer to a ping would wait behind its audio; idle streams end without that.
                ws_ping_interval=None,
                timeout_keep_alive=15,
                **options,
            )
        )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take the signal to stop."""
        self.force_exit = self.should_exit
        self.should_exit = True
        self._service.stop()

    async def on_tick(self, counter: int) -> bool:
        """Tell the main loop whether to end."""
        return await super().on_tick(counter) and (self._service.idle or self.force_exit)


def bind(host: str, port: int) -> socket.socket:
    """Open the address to serve on; port 0 takes a free one.

    Raises
    ------
    ConfigError
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except OverflowError:
        raise ConfigError(f"--port {port}: there is no such port; use 0 to 65535") from None
    except socket.gaierror as error:
        raise ConfigError(
            f"--host {host}: no such address ({error.strerror}); use 127.0.0.1 or 0.0.0.0"
        ) from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"--port {port}: in use on {host}; choose another, or 0 for any that is free"
            ) from error
        raise ConfigError(f"--host {host} --port {port}: {error.strerror}; choose another address") from error
