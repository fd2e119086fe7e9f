"""Audio files to transcripts: which files, in which batches, and what came out of each."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from asr import audio
from asr.errors import AsrError, AudioError, ConfigError, DataError
from asr.recognizer import Recognizer
from asr.types import Hypothesis, Segment, Word

# A pause that ends a segment, seconds.
MAX_PAUSE = 0.8
# The longest segment: Whisper's window, seconds, and two lines of a subtitle, characters.
MAX_SEGMENT_SECONDS = 30.0
MAX_SEGMENT_CHARACTERS = 84
# The most that is recognised in one piece, seconds.
MAX_SECONDS = 30 * 60
# Batches that are formed together: enough to find files of like length, few enough to keep results coming.
_BATCHES_AHEAD = 8

# A stretch of a recording: start and end in seconds, None for the end of the file.
Clip = tuple[float, float | None]
WHOLE_FILE: tuple[Clip, ...] = ((0.0, None),)


@dataclass(frozen=True, slots=True)
class TranscriptionResult:
    """What was said in one audio file.

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


def find_audio(paths: Iterable[str | os.PathLike[str]], recursive: bool = False) -> list[tuple[Path, Path]]:
    """List audio files, each with the relative path, without suffix, that its transcripts get.

    A file named twice is listed once. Hidden files in folders are passed over. Paths that are no
    folders are listed as they are, existing or not: reading them says what is wrong.

    Parameters
    ----------
    paths : iterable of paths
        Files and folders.
    recursive : bool
        Look into the folders' folders as well.

    Returns
    -------
    list of (Path, Path)
        Files in the order of `paths`, sorted by name within a folder; the second paths are distinct.
        A file in a folder keeps its place below that folder: ``calls/`` with ``calls/may/3.wav``
        gives ``may/3``. Where two would be the same, both keep their suffix (``3.wav``), or are named from
        the deepest folder that they share (``calls/3``, ``notes/3``), or are numbered.

    Raises
    ------
    DataError
        A folder holds no audio files.
    """
    found: dict[str, tuple[Path, Path]] = {}
    for path in map(Path, paths):
        files = _files_in(path, recursive) if path.is_dir() else [(path, Path(path.stem))]
        for file, stem in files:
            found.setdefault(os.path.abspath(file), (file, stem))
    return _distinct(list(found.values()))


def _files_in(folder: Path, recursive: bool) -> list[tuple[Path, Path]]:
    files = []
    for file in sorted(folder.rglob("*") if recursive else folder.iterdir()):
        relative = file.relative_to(folder)
        hidden = any(part.startswith(".") for part in relative.parts)
        if file.suffix.lower() in audio.AUDIO_SUFFIXES and not hidden and file.is_file():
            files.append((file, relative.with_suffix("")))
    if not files:
        hint = "check the path" if recursive else "use --recursive to look into the folders below it"
        raise DataError(f"{folder}: no audio files in this folder; {hint}")
    return files


def _distinct(files: Sequence[tuple[Path, Path]]) -> list[tuple[Path, Path]]:
    """Rename output stems until none are equal, even on a disk that ignores case."""
    groups: dict[str, list[int]] = {}
    for index, (_, stem) in enumerate(files):
        groups.setdefault(str(stem).casefold(), []).append(index)
    stems = [stem for _, stem in files]
    for rivals in groups.values():
        if len(rivals) > 1:
            for index, stem in zip(rivals, _tell_apart([files[i] for i in rivals]), strict=True):
                stems[index] = stem
    taken: set[str] = set()
    for index, stem in enumerate(stems):
        number = 1
        while str(stems[index]).casefold() in taken:
            number += 1
            stems[index] = stem.with_name(f"{stem.name}-{number}")
        taken.add(str(stems[index]).casefold())
    return [(file, stem) for (file, _), stem in zip(files, stems, strict=True)]


def _tell_apart(rivals: Sequence[tuple[Path, Path]]) -> list[Path]:
    """Return other stems for files that want the same one: with suffixes, else with folders, else both."""
    absolute = [Path(os.path.abspath(file)) for file, _ in rivals]
    common = Path(os.path.commonpath(absolute))
    with_folders = [file.relative_to(common) for file in absolute]
    for stems in (
        [stem.with_name(file.name) for file, stem in rivals],
        [stem.with_suffix("") for stem in with_folders],
    ):
        if len({str(stem).casefold() for stem in stems}) == len(stems):
            return stems
    return with_folders


def parse_clip_timestamps(text: str) -> tuple[Clip, ...]:
    """Read ``start,end,start,end,...`` in seconds; without the last end, the last clip ends with the file.

    Raises
    ------
    ConfigError
        The times are no numbers, or do not ascend.

    Examples
    --------
    >>> parse_clip_timestamps("0,10.5,60")
    ((0.0, 10.5), (60.0, None))
    """
    try:
        times = [float(time) for time in text.split(",")]
    except ValueError:
        raise ConfigError(
            f"--clip_timestamps {text}: not numbers; give start,end,start,end,... in seconds"
        ) from None
    ends = times[1::2]
    ascending = all(a < b for a, b in zip(times[::2], ends, strict=False)) and all(
        a <= b for a, b in zip(ends, times[2::2], strict=False)
    )
    if not (ascending and all(math.isfinite(time) and time >= 0 for time in times)):
        raise ConfigError(f"--clip_timestamps {text}: times must ascend from 0; give start,end,start,end,...")
    return tuple((start, ends[i] if i < len(ends) else None) for i, start in enumerate(times[::2]))


def split_segments(hypothesis: Hypothesis, duration: float, offset: float = 0.0) -> tuple[Segment, ...]:
    """Group the words of a hypothesis into segments as subtitles need them.

    A segment ends at a pause of more than `MAX_PAUSE` and before it would exceed `MAX_SEGMENT_SECONDS`
    or `MAX_SEGMENT_CHARACTERS`.

    Parameters
    ----------
    hypothesis : Hypothesis
    duration : float
        Of the audio that was recognised, seconds; no word ends later.
    offset : float
        Added to all times, seconds.

    Returns
    -------
    tuple of Segment
        Empty if there are no words. `avg_logprob` is the mean over the tokens of the logarithm of
        their word's confidence.
    """
    groups: list[list[Word]] = []
    earliest = 0.0
    characters = 0
    for word in hypothesis.words:
        start = min(max(word.start, earliest), duration)
        end = min(max(word.end, start), duration)
        word = replace(word, start=offset + start, end=offset + end)
        characters += 1 + len(word.text)
        if (
            not groups
            or start - earliest > MAX_PAUSE
            or word.end - groups[-1][0].start > MAX_SEGMENT_SECONDS
            or characters > MAX_SEGMENT_CHARACTERS
        ):
            groups.append([])
            characters = len(word.text)
        groups[-1].append(word)
        earliest = end
    return tuple(_segment(group) for group in groups)


def _segment(words: Sequence[Word]) -> Segment:
    log_probs = [math.log(max(word.confidence, 1e-10)) for word in words for _ in word.tokens]
    return Segment(
        start=words[0].start,
        end=words[-1].end,
        text=" ".join(word.text for word in words),
        words=tuple(words),
        tokens=tuple(token for word in words for token in word.tokens),
        avg_logprob=sum(log_probs) / len(log_probs),
    )


@dataclass
class _Job:
    """A file on its way: its clips, and what is known so far."""

    path: Path
    clips: Sequence[Clip]
    duration: float = 0.0
    segments: dict[int, tuple[str, tuple[Segment, ...]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    error: AsrError | None = None

    def seconds(self, clip: int) -> float:
        start, end = self.clips[clip]
        return min(self.duration, self.duration if end is None else end) - start

    @property
    def done(self) -> bool:
        return self.error is not None or len(self.segments) == len(self.clips)

    def result(self) -> TranscriptionResult:
        parts = [self.segments[clip] for clip in range(len(self.clips))]
        return TranscriptionResult(
            path=self.path,
            duration=self.duration,
            text=" ".join(text for text, _ in parts if text),
            segments=tuple(segment for _, segments in parts for segment in segments),
            notes=tuple(dict.fromkeys(self.notes)),
        )


def transcribe_files(
    recognizer: Recognizer,
    files: Iterable[Path],
    *,
    clips: Sequence[Clip] = WHOLE_FILE,
    batch_seconds: float = 120.0,
    on_result: Callable[[TranscriptionResult], None],
    on_error: Callable[[Path, AsrError], None],
) -> None:
    """Transcribe files in batches of like length; a file that fails does not stop the others.

    Parameters
    ----------
    recognizer : Recognizer
    files : iterable of Path
    clips : sequence of (start, end)
        The stretches of each file to transcribe, seconds, each on its own; an end of None is the file's.
    batch_seconds : float
        Audio in a batch, padding included. A longer clip is a batch of its own.
    on_result, on_error : callable
        One of them is called for each file, in the order of `files`.
    """
    group: list[_Job] = []
    for path in files:
        job = _Job(path, clips)
        try:
            job.duration = audio.info(path).duration
            _check_seconds(job)
        except AsrError as error:
            job.error = error
        group.append(job)
        if sum(job.duration for job in group) >= _BATCHES_AHEAD * batch_seconds:
            _transcribe_group(recognizer, group, batch_seconds, on_result, on_error)
            group = []
    _transcribe_group(recognizer, group, batch_seconds, on_result, on_error)


def _check_seconds(job: _Job) -> None:
    longest = max(map(job.seconds, range(len(job.clips))))
    if longest > MAX_SECONDS:
        raise AudioError(
            f"{job.path}: {longest:.0f} s in one piece, at most {MAX_SECONDS} s can be recognised; "
            f"cut it, for example with --clip_timestamps 0,{MAX_SECONDS},{MAX_SECONDS},{2 * MAX_SECONDS},..."
        )


def _transcribe_group(
    recognizer: Recognizer,
    group: Sequence[_Job],
    batch_seconds: float,
    on_result: Callable[[TranscriptionResult], None],
    on_error: Callable[[Path, AsrError], None],
) -> None:
    reported = 0
    for batch in [[], *_batches(group, batch_seconds)]:
        _transcribe_batch(recognizer, batch)
        while reported < len(group) and group[reported].done:
            job = group[reported]
            reported += 1
            if job.error is None:
                on_result(job.result())
            else:
                on_error(job.path, job.error)


def _batches(group: Sequence[_Job], batch_seconds: float) -> Iterator[list[tuple[_Job, int]]]:
    """Yield clips as (job, clip number), sorted by length, as many as fit when padded to the longest."""
    parts = [(job, clip) for job in group if job.error is None for clip in range(len(job.clips))]
    parts.sort(key=lambda part: part[0].seconds(part[1]))
    batch: list[tuple[_Job, int]] = []
    for job, clip in parts:
        if batch and (len(batch) + 1) * job.seconds(clip) > batch_seconds:
            yield batch
            batch = []
        batch.append((job, clip))
    if batch:
        yield batch


def _transcribe_batch(recognizer: Recognizer, batch: Sequence[tuple[_Job, int]]) -> None:
    loaded: list[tuple[_Job, int, np.ndarray]] = []
    for job, clip in batch:
        start, end = job.clips[clip]
        try:
            sound = audio.load(
                job.path,
                sample_rate=recognizer.sample_rate,
                offset=start,
                duration=None if end is None else end - start,
            )
        except AsrError as error:
            job.error = error
            continue
        job.notes += sound.notes
        trained = recognizer.max_train_seconds
        if trained is not None and sound.duration > trained:
            job.notes.append(
                f"{sound.duration:.3g} s in one piece, the model was trained on up to {trained:.3g} s; "
                "accuracy may suffer; cut it with --clip_timestamps"
            )
        loaded.append((job, clip, sound.samples))
    if not loaded:
        return
    outcomes = _recognize(recognizer, [samples for _, _, samples in loaded])
    for (job, clip, samples), outcome in zip(loaded, outcomes, strict=True):
        if isinstance(outcome, AsrError):
            job.error = AudioError(f"{job.path}: {outcome}")
            continue
        duration = len(samples) / recognizer.sample_rate
        segments = split_segments(outcome, duration, job.clips[clip][0])
        job.segments[clip] = (outcome.text, segments)


def _recognize(recognizer: Recognizer, waveforms: Sequence[np.ndarray]) -> list[Hypothesis | AsrError]:
    """Recognise a batch; where that fails, one by one, so that each failure has its file."""
    try:
        return list(recognizer.recognize_audio(waveforms))
    except (AsrError, torch.OutOfMemoryError) as error:
        if len(waveforms) == 1:
            if isinstance(error, AsrError):
                return [error]
            return [AudioError("does not fit into the device's memory; cut it with --clip_timestamps")]
    return [_recognize(recognizer, [waveform])[0] for waveform in waveforms]
