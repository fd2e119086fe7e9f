"""One upload from its form to its answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from asr.errors import AsrError
from asr.serve.errors import ApiError, internal_error
from asr.serve.formats import (
    MEDIA_TYPES,
    Options,
    delta_event,
    done_event,
    parse_options,
    render,
    to_event,
)
from asr.serve.gate import log
from asr.serve.reading import Progress, Reader
from asr.serve.service import Service
from asr.serve.uploads import Upload, receive_upload

T = TypeVar("T")

# A line without meaning keeps proxies from giving up on an answer that takes its time.
_KEEP_ALIVE_SECONDS = 15.0


class Transcription(Response):
    """The answer to a request for a transcription, which does the work while it is sent.

    So the upload, and the place among those in progress, are held for exactly as long as the answer takes.

    Parameters
    ----------
    service : Service
    """

    def __init__(self, service: Service) -> None:
        super().__init__()
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Receive the upload, transcribe it and send the answer.

        Raises
        ------
        ApiError
            If nothing has been sent yet.
        ClientDisconnect
        """
        service = self._service
        with service.request():
            request = Request(scope, receive)
            async with receive_upload(request, service.limits, service.folder) as upload:
                options = parse_options(upload.fields)
                answer = self._stream if options.stream else self._answer
                await _unless_disconnected(receive, answer(upload, options, scope, receive, send))

    async def _answer(
        self, upload: Upload, options: Options, scope: Scope, receive: Receive, send: Send
    ) -> None:
        async with aclosing(self._progress(upload)) as steps:
            async for progress in steps:
                result = progress.result
        assert result is not None
        media_type = MEDIA_TYPES.get(options.response_format, "application/json")
        response = Response(render(result, options), headers=_headers(options), media_type=media_type)
        await response(scope, receive, send)

    async def _stream(
        self, upload: Upload, options: Options, scope: Scope, receive: Receive, send: Send
    ) -> None:
        async with aclosing(self._progress(upload)) as steps:
            # What is wrong with the audio mostly shows here, while it can still be said with a status.
            await anext(steps)
            headers = _headers(options) | {"cache-control": "no-store", "x-accel-buffering": "no"}
            start = Response(headers=headers, media_type="text/event-stream")
            raw = [pair for pair in start.raw_headers if pair[0] != b"content-length"]
            await send({"type": "http.response.start", "status": 200, "headers": raw})

            async def say(text: str, more: bool = True) -> None:
                await send({"type": "http.response.body", "body": text.encode(), "more_body": more})

            said, last = False, ""
            try:
                async for progress in steps:
                    if progress.result is not None:
                        last = done_event(progress.result, options)
                    else:
                        await say(delta_event(progress.words, progress.seconds, options, follows=said))
                        said = said or bool(progress.words)
            except ApiError as error:
                scope["asr_error"] = error.code
                last = to_event(error.body)
            except ClientDisconnect:
                raise
            except Exception:
                log.exception("an event stream failed")
                scope["asr_error"] = internal_error().code
                last = to_event(internal_error().body)
        await say(last, more=False)

    async def _progress(self, upload: Upload) -> AsyncGenerator[Progress, None]:
        service = self._service
        reader = Reader(
            service.batcher, service.readers, upload.path, upload.name, service.limits, service.windows
        )
        try:
            async with aclosing(reader.progress(_KEEP_ALIVE_SECONDS)) as steps:
                async for progress in steps:
                    yield progress
        except AsrError as error:
            raise ApiError(400, str(error), "invalid_audio", "file") from error
        assert progress.result is not None
        service.metrics.audio_seconds.labels("file").inc(progress.result.duration)


def _headers(options: Options) -> dict[str, str]:
    return {"asr-ignored": ", ".join(options.ignored)} if options.ignored else {}


async def _unless_disconnected(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Do the work, or raise ClientDisconnect as soon as nobody waits for it."""

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    task, watcher = asyncio.create_task(work), asyncio.create_task(watch())
    try:
        await asyncio.wait((task, watcher), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        watcher.cancel()
        await asyncio.gather(task, watcher, return_exceptions=True)
