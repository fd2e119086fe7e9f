"""What the answers to all requests share: the recogniser, the limits, the counts, and whether it stops."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from asr.recognizer import Recognizer
from asr.serve.batching import Batcher
from asr.serve.errors import ApiError
from asr.serve.limits import Limits, RateLimiter
from asr.serve.metrics import Metrics
from asr.serve.uploads import upload_folder
from asr.windows import WindowOptions

# Threads that read and decode audio files.
_READERS = 16


class Service:
    """One model, served.

    Parameters
    ----------
    recognizer : Recognizer
    model : str
        What clients call the model.
    limits : Limits
    tokens : sequence of str
        Any one of them opens the service; none: it is open.
    origins : sequence of str
        Other web sites whose pages may use the service, ``https://example.org``; ``*`` for all.
    batch_seconds : float
        Audio that is recognised at a time.
    windows : WindowOptions, optional
        How files are cut; by default as suits the model.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        model: str,
        limits: Limits | None = None,
        tokens: Sequence[str] = (),
        origins: Sequence[str] = (),
        batch_seconds: float = 30.0,
        windows: WindowOptions | None = None,
    ) -> None:
        self.recognizer = recognizer
        self.model = model
        self.limits = limits or Limits()
        self.tokens = tuple(token.encode() for token in tokens)
        self.origins = tuple(origins)
        self.batch_seconds = batch_seconds
        self.windows = windows or WindowOptions.for_model(recognizer.max_train_seconds)
        self.rate = RateLimiter(self.limits.requests_per_minute)
        self.created = int(time.time())
        self.num_requests = self.num_live = 0
        self.stopping = False
        self.stop_requested = asyncio.Event()
        self.metrics = Metrics(
            model, lambda: self.batcher.num_waiting, lambda: self.num_requests, lambda: self.num_live
        )

    @contextmanager
    def running(self) -> Iterator[None]:
        """Start the recogniser's thread and those that read files; on the way out let them finish.

        Within, there are `batcher`, `readers` (an executor) and `folder`, for uploads.
        """
        # The first batch allocates and chooses kernels; nobody should wait for that.
        self.recognizer.recognize_audio([np.zeros(self.recognizer.sample_rate, np.float32)])
        with ExitStack() as stack:
            self.folder: Path = stack.enter_context(upload_folder())
            self.batcher = Batcher(self.recognizer, self.batch_seconds, self.metrics.count_batch)
            stack.callback(self.batcher.close)
            self.readers = stack.enter_context(ThreadPoolExecutor(_READERS, thread_name_prefix="reader"))
            yield

    @property
    def idle(self) -> bool:
        """Nobody is being served."""
        return not (self.num_requests or self.num_live)

    def stop(self) -> None:
        """Take no more requests; let live streams come to their end."""
        self.stopping = True
        self.stop_requested.set()

    def check_token(self, token: bytes | None) -> None:
        """Raise 401 unless the token is one of ours, or none is wanted."""
        # Compared with each, in a time that does not tell how much was right.
        if self.tokens and not sum(hmac.compare_digest(token or b"", own) for own in self.tokens):
            raise ApiError(
                401,
                "this server wants a token: Authorization: Bearer TOKEN",
                "invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )

    @contextmanager
    def request(self) -> Iterator[None]:
        """Count an upload while it is served, or raise 429 or 503."""
        self._check_running()
        _check_free(self.num_requests, self.limits.max_requests, "transcriptions")
        self.num_requests += 1
        try:
            yield
        finally:
            self.num_requests -= 1

    @contextmanager
    def live_stream(self) -> Iterator[None]:
        """Count a live stream while it lasts, or raise 429 or 503."""
        self._check_running()
        _check_free(self.num_live, self.limits.max_live, "live streams")
        self.num_live += 1
        try:
            yield
        finally:
            self.num_live -= 1

    def _check_running(self) -> None:
        if self.stopping:
            raise ApiError(
                503,
                "the server is stopping; try again later or elsewhere",
                "stopping",
                headers={"Retry-After": "10"},
            )


def _check_free(number: int, most: int, what: str) -> None:
    if number >= most:
        raise ApiError(
            429,
            f"{number} {what} are in progress, as many as this server takes; try again in a moment",
            "too_many_requests",
            headers={"Retry-After": "2"},
        )
