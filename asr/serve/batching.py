"""One thread that recognises for everybody: windows of several requests share batches, fairly."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np

from asr.recognizer import Recognizer
from asr.types import Hypothesis

T = TypeVar("T")

# What live streams get between two batches at least, seconds.
_LEAST_CALL_TIME = 0.1


@dataclass(frozen=True, slots=True)
class _Window:
    tag: float
    samples: np.ndarray
    future: Future[Hypothesis]


class Lane:
    """The windows of one request; see `Batcher.lane`."""

    def __init__(self, batcher: Batcher) -> None:
        self._batcher = batcher
        self.tag = 0.0

    def submit(self, samples: np.ndarray) -> Future[Hypothesis]:
        """Queue a window, float32 (N,) at the recogniser's rate; cancel the future to take it back."""
        return self._batcher.submit(self, samples)


class Batcher:
    """Recognises windows in batches in a thread of its own, in an order that is fair between requests.

    Self-clocked fair queueing (Golestani, INFOCOM 1994), with seconds of audio for the size of a packet: a
    window's tag is the request's last tag, or the tag now served if that is later, plus its own length.
    The lowest tag goes first. So the one window of a short request overtakes those that an hour-long one
    has waiting, and yet each request that waits gets its share.

    Parameters
    ----------
    recognizer : Recognizer
    batch_seconds : float
        Audio in a batch, padding included. A longer window is a batch of its own.
    on_batch : callable
        Called after each batch with its number of windows, their seconds of audio and the seconds it took.
    """

    def __init__(
        self, recognizer: Recognizer, batch_seconds: float, on_batch: Callable[[int, float, float], None]
    ) -> None:
        self.recognizer = recognizer
        self.batch_seconds = batch_seconds
        self._on_batch = on_batch
        self._waiting: list[_Window] = []
        self._calls: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._clock = 0.0
        self._batch_time = 0.0
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="recogniser")
        self._thread.start()

    def lane(self) -> Lane:
        """Return what a request queues its windows with."""
        return Lane(self)

    def submit(self, lane: Lane, samples: np.ndarray) -> Future[Hypothesis]:
        """Queue a window of a request."""
        future: Future[Hypothesis] = Future()
        with self._changed:
            assert not self._closed
            lane.tag = max(lane.tag, self._clock) + len(samples) / self.recognizer.sample_rate
            self._waiting.append(_Window(lane.tag, samples, future))
            self._changed.notify()
        return future

    def call(self, function: Callable[[], T]) -> Future[T]:
        """Run a function in the recogniser's thread, before the next batch: a step of a live stream."""
        future: Future[T] = Future()
        with self._changed:
            assert not self._closed
            self._calls.append((function, future))
            self._changed.notify()
        return future

    @property
    def num_waiting(self) -> int:
        """Windows that are not yet in a batch."""
        return len(self._waiting)

    def close(self) -> None:
        """Finish what is queued and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._calls or self._waiting or self._closed)
                if not (self._calls or self._waiting):
                    return
            self._run_calls()
            with self._changed:
                batch = self._take()
            if batch:
                self._recognize(batch)

    def _run_calls(self) -> None:
        """Run what live streams wait for; where files wait too, for as long as the last batch took."""
        until = time.perf_counter() + max(self._batch_time, _LEAST_CALL_TIME)
        while self._calls and not (self._waiting and time.perf_counter() > until):
            function, future = self._calls.popleft()
            if future.set_running_or_notify_cancel():
                _settle(future, function)

    def _take(self) -> list[_Window]:
        """Remove the next batch from the queue: the lowest tag, and in their order others that fit to it."""
        self._waiting.sort(key=lambda window: window.tag)
        longest = 0
        batch: list[_Window] = []
        left: list[_Window] = []
        for window in self._waiting:
            padded = max(longest, len(window.samples)) * (len(batch) + 1) / self.recognizer.sample_rate
            if batch and padded > self.batch_seconds:
                left.append(window)
            elif window.future.set_running_or_notify_cancel():
                batch.append(window)
                longest = max(longest, len(window.samples))
        self._waiting = left
        if batch:
            self._clock = max(self._clock, batch[0].tag)
        return batch

    def _recognize(self, batch: Sequence[_Window]) -> None:
        begun = time.perf_counter()
        try:
            found = self.recognizer.recognize_audio([window.samples for window in batch])
        except Exception:
            # One by one, so that a failure is only its own request's.
            for window in batch:
                _settle(window.future, partial(self._recognize_one, window.samples))
        else:
            for window, hypothesis in zip(batch, found, strict=True):
                window.future.set_result(hypothesis)
        samples = sum(len(window.samples) for window in batch)
        self._batch_time = time.perf_counter() - begun
        self._on_batch(len(batch), samples / self.recognizer.sample_rate, self._batch_time)

    def _recognize_one(self, samples: np.ndarray) -> Hypothesis:
        return self.recognizer.recognize_audio([samples])[0]


def _settle(future: Future[T], function: Callable[[], T]) -> None:
    try:
        future.set_result(function())
    except Exception as error:
        future.set_exception(error)
