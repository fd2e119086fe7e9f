"""Audio of any length to transcripts: files are read ahead, their windows share batches."""

from __future__ import annotations

import os
import queue
import shutil
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from asr.audio import AudioStream
from asr.errors import AsrError, AudioError
from asr.inputs import STANDARD_INPUT
from asr.recognizer import Recognizer
from asr.segments import Segmenter, split_segments
from asr.types import Hypothesis, Segment, Word
from asr.windows import MIN_WINDOW, WHOLE_FILE, Clip, Joiner, Window, WindowOptions, read_windows

__all__ = ["TranscriptionResult", "split_segments", "transcribe", "transcribe_files"]

# Batches that are formed together: enough to find windows of like length, few enough to keep results coming.
_BATCHES_AHEAD = 8

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TranscriptionResult:
    """What was said in a recording.

    Attributes
    ----------
    path : Path
        The audio file.
    duration : float
        Of the whole file, seconds.
    text : str
    segments : tuple of Segment
        In order of time, none overlapping.
    language : str or None
    notes : tuple of str
        What a reader of the transcript should know about the audio.
    """

    path: Path
    duration: float
    text: str
    segments: tuple[Segment, ...]
    language: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def words(self) -> tuple[Word, ...]:
        """The words in order of time, none overlapping."""
        return tuple(word for segment in self.segments for word in segment.words)


def transcribe(
    recognizer: Recognizer,
    source: str | os.PathLike[str] | np.ndarray,
    sample_rate: int | None = None,
    *,
    options: WindowOptions | None = None,
    clips: Sequence[Clip] = WHOLE_FILE,
    batch_seconds: float = 120.0,
) -> TranscriptionResult:
    """Transcribe a recording of any length.

    Parameters
    ----------
    recognizer : Recognizer
    source : path or np.ndarray
        A file, or samples, float (N,) or (N, channels), in [-1, 1].
    sample_rate : int, optional
        Of samples, Hz; by default the model's. A file knows its own.
    options : WindowOptions, optional
        How to cut it; by default as suits the model.
    clips : sequence of (start, end)
        The stretches to transcribe, seconds, each on its own; an end of None is the recording's.
    batch_seconds : float
        Audio recognised at a time, padding included.

    Raises
    ------
    AudioError
        The recording cannot be read.

    Examples
    --------
    >>> transcribe(recognizer, "talk.mp3").words[0]  # doctest: +SKIP
    Word(text='hello', start=0.42, end=0.77, confidence=0.98, tokens=(8, 5, 12, 12, 15))
    """
    if isinstance(source, np.ndarray):
        job = _Job(
            Path("samples"), lambda: AudioStream(source, recognizer.sample_rate, source_rate=sample_rate)
        )
    else:
        job = _file_job(recognizer, Path(source))
    _run(recognizer, [job], options, clips, batch_seconds, _Observer())
    if job.error is not None:
        raise job.error
    return job.result()


def transcribe_files(
    recognizer: Recognizer,
    files: Iterable[Path],
    *,
    options: WindowOptions | None = None,
    clips: Sequence[Clip] = WHOLE_FILE,
    batch_seconds: float = 120.0,
    on_result: Callable[[TranscriptionResult], None],
    on_error: Callable[[Path, AsrError], None],
    on_segment: Callable[[Path, Segment], None] = lambda path, segment: None,
    progress: Callable[[float], None] = lambda seconds: None,
) -> None:
    """Transcribe files in batches of windows of like length; a file that fails does not stop the others.

    Parameters
    ----------
    recognizer : Recognizer
    files : iterable of Path
        ``-`` is standard input.
    options : WindowOptions, optional
        How to cut them; by default as suits the model.
    clips : sequence of (start, end)
        The stretches of each file to transcribe, seconds, each on its own; an end of None is the file's.
    batch_seconds : float
        Audio in a batch, padding included. A longer window is a batch of its own.
    on_result, on_error : callable
        One of them is called for each file, in the order of `files`.
    on_segment : callable
        Called with each segment, in order, as soon as it is known.
    progress : callable
        Called with the seconds of audio done since the last call.
    """
    jobs = (_file_job(recognizer, path) for path in files)
    _run(
        recognizer, jobs, options, clips, batch_seconds, _Observer(on_result, on_error, on_segment, progress)
    )


class _Job:
    """A recording on its way."""

    def __init__(self, path: Path, open_stream: Callable[[], AudioStream]) -> None:
        self.path = path
        self.open_stream = open_stream
        self.duration = 0.0
        self.notes: tuple[str, ...] = ()
        self.error: AsrError | None = None
        self.is_read = False
        self.num_read = self.num_taken = self.num_shown = 0
        self.segments: list[Segment] = []
        self._joiner = Joiner()
        self._segmenter = Segmenter()
        self._seconds_done = 0.0

    @property
    def done(self) -> bool:
        return self.error is not None or (self.is_read and self.num_taken == self.num_read)

    def take(self, window: Window, hypothesis: Hypothesis) -> None:
        self.num_taken += 1
        self.segments += self._segmenter.add(self._joiner.add(window, hypothesis))

    def finish(self) -> None:
        self.segments += self._segmenter.add(self._joiner.finish())
        self.segments += self._segmenter.finish()

    def advance(self, seconds: float) -> float:
        """Return how much is new of what has been done of the recording."""
        new = max(seconds - self._seconds_done, 0.0)
        self._seconds_done += new
        return new

    def result(self) -> TranscriptionResult:
        text = " ".join(segment.text for segment in self.segments)
        return TranscriptionResult(self.path, self.duration, text, tuple(self.segments), notes=self.notes)


def _file_job(recognizer: Recognizer, path: Path) -> _Job:
    def open_stream() -> AudioStream:
        if path == STANDARD_INPUT:
            return _StandardInput(recognizer.sample_rate)
        return AudioStream(path, recognizer.sample_rate)

    return _Job(path, open_stream)


class _StandardInput(AudioStream):
    """An audio file on standard input, kept on disk: most formats cannot be read from a pipe."""

    def __init__(self, sample_rate: int) -> None:
        self._copy = tempfile.NamedTemporaryFile()  # noqa: SIM115
        try:
            shutil.copyfileobj(sys.stdin.buffer, self._copy)
            self._copy.flush()
            super().__init__(self._copy.name, sample_rate, name="standard input")
        except BaseException:
            self._copy.close()
            raise

    def close(self) -> None:
        super().close()
        self._copy.close()


@dataclass(frozen=True)
class _Observer:
    on_result: Callable[[TranscriptionResult], None] = lambda result: None
    on_error: Callable[[Path, AsrError], None] = lambda path, error: None
    on_segment: Callable[[Path, Segment], None] = lambda path, segment: None
    progress: Callable[[float], None] = lambda seconds: None


Item = tuple[_Job, Window]


def _run(
    recognizer: Recognizer,
    jobs: Iterable[_Job],
    options: WindowOptions | None,
    clips: Sequence[Clip],
    batch_seconds: float,
    observer: _Observer,
) -> None:
    options = options or WindowOptions.for_model(recognizer.max_train_seconds)
    begun: deque[_Job] = deque()
    items = _read(recognizer, jobs, begun, options, clips)
    if recognizer.device.type == "cuda":
        items = _ahead(items, size=64)
    for group in _groups(items, batch_seconds):
        hypotheses: dict[int, Hypothesis | AsrError] = {}
        for batch in _batches(group, batch_seconds):
            windows = [group[index][1] for index in batch]
            for index, outcome in zip(batch, _recognize(recognizer, windows), strict=True):
                job, window = group[index]
                hypotheses[index] = outcome
                observer.progress(job.advance(window.end))
        for index, (job, window) in enumerate(group):
            outcome = hypotheses[index]
            if isinstance(outcome, AsrError):
                job.error = job.error or AudioError(f"{job.path}: {outcome}")
            elif job.error is None:
                job.take(window, outcome)
        _report(begun, observer)
    _report(begun, observer)
    assert not begun


def _read(
    recognizer: Recognizer,
    jobs: Iterable[_Job],
    begun: deque[_Job],
    options: WindowOptions,
    clips: Sequence[Clip],
) -> Iterator[Item]:
    """Yield the windows of all recordings, each of which is added to `begun` when its turn comes."""
    for job in jobs:
        begun.append(job)
        try:
            with job.open_stream() as stream:
                job.duration = stream.duration or 0.0
                longest = 0.0
                for window in read_windows(stream, options, clips):
                    longest = max(longest, window.duration)
                    job.num_read += 1
                    yield job, window
                    if job.error is not None:
                        break
                job.duration = stream.duration or 0.0
                job.notes = (*stream.notes, *_length_notes(recognizer, longest))
        except AsrError as error:
            job.error = job.error or error
        job.is_read = True


def _length_notes(recognizer: Recognizer, seconds: float) -> list[str]:
    trained = recognizer.max_train_seconds
    if trained is None or seconds <= max(trained, MIN_WINDOW) + 0.1:
        return []
    return [
        f"{seconds:.3g} s in one piece, the model was trained on up to {trained:.3g} s; accuracy may suffer; "
        "lower --max-speech-duration-s"
    ]


def _ahead(items: Iterable[T], size: int) -> Iterator[T]:
    """Yield items that a thread of their own prepares, at most `size` of them ahead."""
    ready: queue.Queue[tuple[T] | BaseException | None] = queue.Queue(size)
    stopped = threading.Event()

    def work() -> None:
        last: BaseException | None = None
        try:
            for item in items:
                if stopped.is_set():
                    return
                ready.put((item,))
        except BaseException as error:
            last = error
        ready.put(last)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while isinstance(item := ready.get(), tuple):
            yield item[0]
        if item is not None:
            raise item
    finally:
        stopped.set()
        while thread.is_alive():
            try:
                ready.get(timeout=0.1)
            except queue.Empty:
                continue


def _groups(items: Iterable[Item], batch_seconds: float) -> Iterator[list[Item]]:
    """Yield windows as they are read, first for one batch, then for more and more up to `_BATCHES_AHEAD`."""
    group: list[Item] = []
    seconds, batches = 0.0, 1
    for item in items:
        group.append(item)
        seconds += item[1].duration
        if seconds >= batches * batch_seconds:
            yield group
            group, seconds, batches = [], 0.0, min(2 * batches, _BATCHES_AHEAD)
    # Files without windows have their turn as well.
    yield group


def _batches(group: Sequence[Item], batch_seconds: float) -> Iterator[list[int]]:
    """Yield positions in the group sorted by length, as many as fit when padded to the longest."""
    order = sorted(range(len(group)), key=lambda index: group[index][1].duration)
    batch: list[int] = []
    for index in order:
        if batch and (len(batch) + 1) * group[index][1].duration > batch_seconds:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _report(begun: deque[_Job], observer: _Observer) -> None:
    """Tell what is known, in the order of the recordings."""
    while begun:
        job = begun[0]
        if job.done and job.error is None:
            job.finish()
        if job.error is None:
            for segment in job.segments[job.num_shown :]:
                observer.on_segment(job.path, segment)
            job.num_shown = len(job.segments)
        if not job.done:
            return
        begun.popleft()
        observer.progress(job.advance(job.duration))
        if job.error is None:
            observer.on_result(job.result())
        else:
            observer.on_error(job.path, job.error)


def _recognize(recognizer: Recognizer, windows: Sequence[Window]) -> list[Hypothesis | AsrError]:
    """Recognise a batch; where that fails, one by one, so that each failure has its file."""
    try:
        return list(recognizer.recognize_audio([window.samples for window in windows]))
    except (AsrError, torch.OutOfMemoryError) as error:
        if len(windows) == 1:
            if isinstance(error, AsrError):
                return [error]
            return [AudioError("does not fit into the device's memory; lower --max-speech-duration-s")]
    return [_recognize(recognizer, [window])[0] for window in windows]
