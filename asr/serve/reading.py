"""A file's windows through the shared batches, and its words as they become final."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from asr.audio import AudioStream
from asr.segments import split_segments
from asr.serve.batching import Batcher
from asr.serve.limits import Limits, check_seconds
from asr.transcribe import TranscriptionResult
from asr.types import Hypothesis, Word
from asr.windows import Joiner, Window, WindowOptions, read_windows

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a transcription has come.

    Attributes
    ----------
    duration : float
        Of the file, seconds: what its header says or, beyond that, what has been read.
    words : tuple of Word
        That have become final.
    seconds : float
        Up to where the file has been recognised.
    result : TranscriptionResult, optional
        With the last one.
    """

    duration: float
    words: tuple[Word, ...] = ()
    seconds: float = 0.0
    result: TranscriptionResult | None = None


class _Stream(AudioStream):
    """A file that is read up to a limit, whatever its header says."""

    def __init__(self, path: Path, sample_rate: int, name: str, limits: Limits) -> None:
        super().__init__(path, sample_rate, name=name)
        self.limits = limits
        self.seconds_read = 0.0
        check_seconds(self.duration or 0.0, limits)

    def read(self, start: float = 0.0, end: float | None = None) -> Iterator[np.ndarray]:
        for samples in super().read(start, end):
            self.seconds_read += len(samples) / self.sample_rate
            check_seconds(self.seconds_read, self.limits)
            yield samples


class Reader:
    """Reads one file and has it recognised.

    At most two batches' worth of its windows is read ahead, so the memory does not grow with the file.

    Parameters
    ----------
    batcher : Batcher
    readers : Executor
        Whose threads read and decode the file.
    path : Path
    name : str
        What messages call the file.
    limits : Limits
    windows : WindowOptions
    """

    def __init__(
        self,
        batcher: Batcher,
        readers: Executor,
        path: Path,
        name: str,
        limits: Limits,
        windows: WindowOptions,
    ) -> None:
        self._batcher, self._readers = batcher, readers
        self._path, self._name, self._limits, self._options = path, name, limits, windows
        self._reading: asyncio.Future[Any] | None = None

    async def progress(self, idle_seconds: float) -> AsyncGenerator[Progress, None]:
        """Yield the progress: once when the file has been opened and begun, then with new words.

        Parameters
        ----------
        idle_seconds : float
            Also yield when nothing has happened for so long.

        Raises
        ------
        AudioError, ApiError
            The file cannot be read, or is too long.
        """
        recognizer = self._batcher.recognizer
        stream = await self._read(
            lambda: _Stream(self._path, recognizer.sample_rate, self._name, self._limits)
        )
        waiting: deque[tuple[Window, asyncio.Future[Hypothesis]]] = deque()
        try:
            windows = read_windows(stream, self._options)
            lane, joiner = self._batcher.lane(), Joiner()
            words: list[Word] = []

            def duration() -> float:
                return max(stream.duration or 0.0, stream.seconds_read)

            window = await self._read(lambda: next(windows, None))
            yield Progress(duration())
            while window is not None or waiting:
                while window is not None and self._has_room(window, waiting):
                    waiting.append((window, asyncio.wrap_future(lane.submit(window.samples))))
                    window = await self._read(lambda: next(windows, None))
                first, future = waiting[0]
                done, _ = await asyncio.wait((future,), timeout=idle_seconds)
                settled: list[Word] = []
                if done:
                    settled = joiner.add(first, future.result())
                    waiting.popleft()
                    words += settled
                yield Progress(duration(), tuple(settled), first.end if done else first.start)
            last = joiner.finish()
            words += last
            yield Progress(duration(), tuple(last), duration())
            yield Progress(duration(), result=_result(self._name, duration(), words, stream.notes))
        finally:
            for _, future in waiting:
                future.cancel()
            # A request that is given up leaves a thread that still reads.
            assert self._reading is not None
            await asyncio.gather(self._reading, return_exceptions=True)
            stream.close()

    def _has_room(self, window: Window, waiting: deque[tuple[Window, asyncio.Future[Hypothesis]]]) -> bool:
        ahead = sum(other.duration for other, _ in waiting)
        return not waiting or ahead + window.duration <= 2 * self._batcher.batch_seconds

    async def _read(self, function: Callable[[], T]) -> T:
        self._reading = asyncio.get_running_loop().run_in_executor(self._readers, function)
        return await asyncio.shield(self._reading)


def _result(name: str, duration: float, words: list[Word], notes: tuple[str, ...]) -> TranscriptionResult:
    text = " ".join(word.text for word in words)
    tokens = tuple(token for word in words for token in word.tokens)
    segments = split_segments(Hypothesis(text, tuple(words), tokens, 0.0, 1.0), duration)
    return TranscriptionResult(Path(name), duration, text, segments, notes=notes)
