"""How much one request, one client and all of them together may ask for."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from anyio import fail_after

from asr.serve.errors import ApiError

# A slower upload than this is given up after the time that every upload has: 16-bit speech at 8 kHz.
MIN_BYTES_PER_SECOND = 16_000
# Clients whose requests are remembered; beyond this those that have been quiet are forgotten.
_MOST_CLIENTS = 10_000


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a service.

    Attributes
    ----------
    max_bytes : int
        Of the body of a request.
    max_seconds : float
        Of audio in one file or one live stream.
    max_requests : int
        Uploads that are received, wait or are transcribed at the same time.
    max_live : int
        Live streams at the same time.
    requests_per_minute : float
        Of one client, files and streams together; infinity for any number.
    upload_seconds : float
        After which an upload must come at `MIN_BYTES_PER_SECOND` on average; the longest pause in an upload
        and in a live stream.
    """

    max_bytes: int = 200_000_000
    max_seconds: float = 4 * 3600.0
    max_requests: int = 64
    max_live: int = 16
    requests_per_minute: float = float("inf")
    upload_seconds: float = 30.0


class RateLimiter:
    """Lets each client make so many requests a minute, in bursts of as many (a token bucket)."""

    def __init__(self, per_minute: float) -> None:
        self._per_minute = per_minute
        self._buckets: dict[str, tuple[float, float]] = {}  # what is left, when it was counted

    def check(self, client: str) -> None:
        """Count a request.

        Raises
        ------
        ApiError
            429, with the seconds to wait.
        """
        if self._per_minute == float("inf"):
            return
        now = time.monotonic()
        left, since = self._buckets.pop(client, (self._per_minute, now))
        left = min(self._per_minute, left + (now - since) * self._per_minute / 60)
        # Put in last: the first ones are those that have been quiet for longest.
        self._buckets[client] = (left - 1 if left >= 1 else left, now)
        while len(self._buckets) > _MOST_CLIENTS:
            del self._buckets[next(iter(self._buckets))]
        if left < 1:
            wait = (1 - left) * 60 / self._per_minute
            raise ApiError(
                429,
                f"more than {self._per_minute:g} requests a minute; try again in {wait:.0f} s",
                "rate_limit_exceeded",
                headers={"Retry-After": str(max(1, round(wait + 0.5)))},
            )


class Body(Protocol):
    """A request whose body can be read in pieces."""

    def stream(self) -> AsyncGenerator[bytes, None]:
        """Yield the body in pieces."""
        ...


async def limited(body: Body, limits: Limits) -> AsyncGenerator[bytes, None]:
    """Yield the body of a request in pieces, as long as it is neither too large nor too slow.

    Raises
    ------
    ApiError
        413 or 408.
    """
    stream = body.stream()
    received = 0
    begun = time.monotonic()
    while True:
        spent = time.monotonic() - begun
        left = limits.upload_seconds + received / MIN_BYTES_PER_SECOND - spent
        try:
            with fail_after(max(0.0, min(limits.upload_seconds, left))):
                chunk = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise ApiError(
                408,
                f"the upload came too slowly ({received} bytes in {spent:.0f} s); try again, or send a "
                "compressed file",
                "upload_too_slow",
            ) from None
        received += len(chunk)
        check_size(received, limits)
        yield chunk


def check_size(num_bytes: int, limits: Limits) -> None:
    """Raise 413 for more bytes than allowed."""
    if num_bytes > limits.max_bytes:
        raise ApiError(
            413,
            f"larger than {limits.max_bytes / 1e6:g} MB, the limit of this server; send a compressed or a "
            "shorter file",
            "upload_too_large",
            "file",
        )


def check_seconds(seconds: float, limits: Limits) -> None:
    """Raise 413 for more audio than allowed."""
    if seconds > limits.max_seconds:
        raise ApiError(
            413,
            f"longer than {limits.max_seconds:g} s, the limit of this server; cut the audio",
            "audio_too_long",
            "file",
        )
