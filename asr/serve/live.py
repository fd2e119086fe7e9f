"""Live audio over a WebSocket: 16-bit samples in, words out as soon as they are certain.

The client connects to ``/v1/audio/transcriptions/live?sample_rate=48000`` and sends binary messages of mono
samples, 16-bit signed little-endian, cut anywhere; then the text ``{"type": "finish"}``. The server sends
JSON:

- ``{"type": "ready", "sample_rate", "delay", "description"}``: `delay` is how many seconds after its end a
  word is final, null where that depends on the speaker's pauses;
- ``{"type": "update", "words": [{"word", "start", "end", "probability"}], "partial", "segments",
  "seconds"}``: words that are final now, what was heard after them, segments that have ended, and what was
  heard so far;
- ``{"type": "done", "text", "duration"}`` and a close with 1000, or with 1001 where the server stops;
- ``{"type": "error", "error": {...}}`` in OpenAI's shape, and a close with 1008 (the client's fault) or 1011.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import numpy as np
from starlette.requests import ClientDisconnect
from starlette.websockets import WebSocket, WebSocketDisconnect

from asr.errors import AsrError
from asr.live import LiveTranscriber, LiveUpdate
from asr.serve.errors import ApiError, internal_error
from asr.serve.formats import seconds, segment_fields, to_json, word_fields
from asr.serve.gate import LIVE_PROTOCOL
from asr.serve.limits import check_seconds
from asr.serve.service import Service

log = logging.getLogger("asr.serve")
T = TypeVar("T")

MIN_RATE, MAX_RATE = 8000, 192_000
# Audio that is recognised in one step, seconds, and that is taken before the recogniser has caught up: a
# client that is faster has to wait.
_MOST_AT_ONCE, _MOST_AHEAD = 0.5, 2.0
_BYTES = 2  # a sample


class LiveSession:
    """One connection.

    Parameters
    ----------
    service : Service
    socket : WebSocket
        Not yet accepted.
    """

    def __init__(self, service: Service, socket: WebSocket) -> None:
        self._service, self._socket = service, socket
        self._sample_rate = _sample_rate(socket.query_params.get("sample_rate"), service)
        self._buffer = bytearray()
        self._arrived, self._taken = asyncio.Event(), asyncio.Event()
        self._finished = False
        self._num_samples = self._num_segments = 0
        self._words: list[str] = []

    async def run(self) -> None:
        """Serve the connection to its end.

        Raises
        ------
        ApiError
            Before the connection is accepted: 429 or 503.
        """
        service, socket = self._service, self._socket
        with service.live_stream():
            wanted = socket.scope.get("subprotocols", [])
            await socket.accept(LIVE_PROTOCOL if LIVE_PROTOCOL in wanted else None)
            receiver = asyncio.create_task(self._receive())
            receiver.add_done_callback(lambda _: self._arrived.set())
            stopper = asyncio.create_task(self._stop())
            try:
                await self._transcribe(receiver)
            except (WebSocketDisconnect, ClientDisconnect):
                pass
            except ApiError as error:
                await self._fail(error, 1008)
            except Exception:
                log.exception("a live stream failed")
                await self._fail(internal_error(), 1011)
            finally:
                for task in (receiver, stopper):
                    task.cancel()
                await asyncio.gather(receiver, stopper, return_exceptions=True)
                service.metrics.audio_seconds.labels("live").inc(self._heard)

    async def _transcribe(self, receiver: asyncio.Task[None]) -> None:
        recognizer = self._service.recognizer
        live = await self._call(lambda: LiveTranscriber(recognizer, self._sample_rate))
        delay = seconds(live.delay) if math.isfinite(live.delay) else None
        await self._send("ready", sample_rate=self._sample_rate, delay=delay, description=live.description)
        while (samples := await self._take(receiver)) is not None:
            self._num_samples += len(samples)
            check_seconds(self._heard, self._service.limits)
            await self._update(await self._call(partial(live.push, samples)))
        await self._update(await self._call(live.finish))
        await self._send("done", text=" ".join(self._words), duration=seconds(self._heard))
        await self._socket.close(1001 if self._service.stopping else 1000)

    @property
    def _heard(self) -> float:
        return self._num_samples / self._sample_rate

    async def _update(self, update: LiveUpdate) -> None:
        self._words += [word.text for word in update.final]
        segments = [segment_fields(self._num_segments + n, s) for n, s in enumerate(update.segments)]
        self._num_segments += len(segments)
        await self._send(
            "update",
            words=[word_fields(word) for word in update.final],
            partial=update.partial,
            segments=segments,
            seconds=seconds(self._heard),
        )

    async def _receive(self) -> None:
        """Put what the client sends into the buffer until it has finished."""
        most = round(_MOST_AHEAD * self._sample_rate) * _BYTES
        while not self._finished:
            while len(self._buffer) >= most:
                self._taken.clear()
                await self._taken.wait()
            try:
                async with asyncio.timeout(self._service.limits.upload_seconds):
                    message = await self._socket.receive()
            except TimeoutError:
                raise ApiError(
                    408, "no audio came for too long; send silence to keep the stream open", "idle_stream"
                ) from None
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message["code"])
            if message.get("bytes") is not None:
                self._buffer += message["bytes"]
            else:
                self._finished = _is_finish(message["text"])
            self._arrived.set()

    async def _stop(self) -> None:
        """End the stream as if the client had finished, when the server stops."""
        await self._service.stop_requested.wait()
        self._finished = True
        self._arrived.set()

    async def _take(self, receiver: asyncio.Task[None]) -> np.ndarray | None:
        """Return the next samples, float32 (N,), waiting for them; None after the last."""
        most = round(_MOST_AT_ONCE * self._sample_rate) * _BYTES
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            if receiver.done():
                receiver.result()
            whole = min(len(self._buffer) - len(self._buffer) % _BYTES, most)
            if self._finished or len(self._buffer) > most:
                self._arrived.set()
            if whole:
                data = bytes(self._buffer[:whole])
                del self._buffer[:whole]
                self._taken.set()
                return np.frombuffer(data, "<i2").astype(np.float32) / 32768
            if self._finished:
                return None

    async def _call(self, function: Callable[[], T]) -> T:
        try:
            return await asyncio.wrap_future(self._service.batcher.call(function))
        except AsrError as error:
            raise ApiError(400, str(error), "invalid_audio") from error

    async def _send(self, kind: str, **content: Any) -> None:
        await self._socket.send_text(to_json({"type": kind} | content))

    async def _fail(self, error: ApiError, code: int) -> None:
        self._service.metrics.errors.labels(error.code).inc()
        with contextlib.suppress(WebSocketDisconnect, ClientDisconnect):
            await self._socket.send_text(to_json({"type": "error"} | error.body))
            await self._socket.close(code)


def _sample_rate(text: str | None, service: Service) -> int:
    if text is None:
        return service.recognizer.sample_rate
    if not (text.isascii() and text.isdecimal() and MIN_RATE <= int(text[:9]) <= MAX_RATE):
        raise ApiError(
            400,
            f"sample_rate is {text[:20]!r}; it has to be a number from {MIN_RATE} to {MAX_RATE}",
            "invalid_value",
            "sample_rate",
        )
    return int(text)


def _is_finish(text: str) -> bool:
    try:
        content = json.loads(text)
        if content["type"] == "finish":
            return True
    except (ValueError, TypeError, KeyError):
        pass
    raise ApiError(400, 'the only text to send is {"type": "finish"}', "invalid_value")
