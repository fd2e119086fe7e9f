"""Ctrl-C and SIGTERM: the step is finished and saved; a second one stops at once."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Any


class TrainingInterrupted(Exception):  # noqa: N818 - nothing went wrong
    """Raised after Ctrl-C or SIGTERM, once the checkpoint is saved."""


class StopNow(BaseException):
    """Raised by Ctrl-C or SIGTERM within `StopSignals.at_once`."""


class StopSignals:
    """Context in which the first Ctrl-C or SIGTERM asks the training to stop, and a second one stops it.

    Attributes
    ----------
    requested : bool
        Whether one has come; to be looked at between steps.
    """

    def __init__(self) -> None:
        self.requested = False
        self._at_once = False
        self._process = os.getpid()
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        # Not the main thread: signals are left to it.
        with contextlib.suppress(ValueError):
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._catch)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Within it the first signal raises `StopNow`, for what can be interrupted anywhere."""
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    def _catch(self, number: int, _: object) -> None:
        if os.getpid() != self._process:  # one that was started by fork
            return
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        if self._at_once:
            raise StopNow
