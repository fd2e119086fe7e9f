"""The whole check: every line, every sample, and every split against the others."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from asr.data.checks.corpus import (
    check_characters,
    check_inputs,
    check_letter_rates,
    check_rates,
    check_shapes,
    letter_rates,
    usual_frame_shift,
)
from asr.data.checks.examine import Examined, examine
from asr.data.checks.problems import Problem
from asr.data.checks.sets import check_copies, check_overlaps, check_shared
from asr.data.checks.splits import Split
from asr.data.checks.utterances import check_spelling
from asr.text import Normalizer
from asr.types import Utterance

if TYPE_CHECKING:
    from asr.text import Tokenizer

# Seconds of one core (AMD EPYC, Zen 4) that an utterance takes, and a second of its audio. What is done in
# less than a second or two is not worth starting processes for.
_PER_UTTERANCE, _PER_SECOND = 5e-4, 3e-4
_WORTH_PROCESSES = 1.5
_CHUNK = 32


@dataclass(frozen=True, slots=True)
class Needs:
    """What the model that is to be trained or used needs of its data.

    Attributes
    ----------
    normalizer : callable
        From a transcript to the text that is trained on.
    tokenizer : Tokenizer or None
        Without one it is not known what can be spelled and what fits its frames.
    output_length : callable or None
        From seconds of audio to the model's output frames T'.
    sample_rate, num_features : int or None
        Hz; coefficients a frame.
    frame_shift : float or None
        Seconds a frame of features.
    """

    normalizer: Callable[[str], str] = field(default_factory=Normalizer)
    tokenizer: Tokenizer | None = None
    output_length: Callable[[float], int] | None = None
    sample_rate: int | None = None
    num_features: int | None = None
    frame_shift: float | None = None


@dataclass(frozen=True, slots=True)
class SplitReport:
    """What was found in a split.

    Attributes
    ----------
    split : Split
    problems : list of Problem
        Of the split's lines, in their order, those of the whole split last.
    measures : mapping of str to ndarray
        Float64, one value an utterance, or fewer where some could not be measured: ``seconds``,
        ``letters_per_second``, ``peak_db`` (decibels under full scale), ``speech_share``.
    seconds_of_file : mapping of int to float
        By line of the manifest, how long the whole file is, where it could be read.
    """

    split: Split
    problems: list[Problem]
    measures: dict[str, np.ndarray]
    seconds_of_file: dict[int, float]

    @property
    def hours(self) -> float:
        """Hours of audio."""
        return sum(u.duration for u in self.split.utterances) / 3600

    @property
    def num_speakers(self) -> int:
        """Speakers that are named."""
        return len({u.speaker for u in self.split.utterances if u.speaker is not None})


def check_splits(
    splits: Sequence[Split],
    needs: Needs | None = None,
    *,
    read: bool = True,
    jobs: int | None = None,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> list[SplitReport]:
    """Check the splits of a corpus by themselves and against each other.

    Parameters
    ----------
    splits : sequence of Split
        From `asr.data.checks.splits.read_splits`.
    needs : Needs, optional
        Of the model.
    read : bool
        Whether to read audio and features.
    jobs : int, optional
        Processes, by default one for each core that may be used where that pays.
    progress : callable
        Called with the utterances done and those in all.
    """
    needs = needs or Needs()
    utterances = [utterance for split in splits for utterance in split.utterances]
    results = examine_all(utterances, read, needs.sample_rate, jobs, progress)
    examined = [[next(results) for _ in split.utterances] for split in splits]
    found: dict[str, list[Problem]] = {split.path: list(split.problems) for split in splits}
    for split, of_split in zip(splits, examined, strict=True):
        for i, (utterance, result) in enumerate(zip(split.utterances, of_split, strict=True)):
            spelling = check_spelling(utterance, needs.normalizer, needs.tokenizer, needs.output_length)
            found[split.path] += [split.locate(p, i) for p in (*result.problems, *spelling)]
    shift = needs.frame_shift or usual_frame_shift(splits, examined)
    digests = [[result.digest for result in of_split] for of_split in examined]
    for problem in (
        *check_inputs(splits),
        *check_rates(splits, examined, needs.sample_rate),
        *check_shapes(splits, examined, needs.num_features, shift),
        *check_copies(splits, digests, needs.normalizer),
        *check_overlaps(splits),
        *check_letter_rates(splits),
        *check_characters(splits, needs.normalizer, with_unseen=needs.tokenizer is None),
        *check_shared(splits, needs.normalizer),
    ):
        found[problem.manifest].append(problem)
    return [
        SplitReport(
            split,
            sorted(found[split.path], key=lambda p: p.line or 1 << 62),
            _measures(split, of_split),
            dict(_seconds(split, of_split, shift)),
        )
        for split, of_split in zip(splits, examined, strict=True)
    ]


def _measures(split: Split, examined: Sequence[Examined]) -> dict[str, np.ndarray]:
    recordings = [e.recording for e in examined if e.recording is not None and e.recording.peak > 0]
    rates = letter_rates(split)
    return {
        "seconds": np.array([u.duration for u in split.utterances]),
        "letters_per_second": rates[rates > 0],
        "peak_db": 20 * np.log10([r.peak for r in recordings]),
        "speech_share": np.array([r.speech_seconds * r.sample_rate / r.num_samples for r in recordings]),
    }


def _seconds(split: Split, examined: Sequence[Examined], shift: float) -> Iterator[tuple[int, float]]:
    for line, result in zip(split.lines, examined, strict=True):
        if result.recording is not None:
            yield line, result.recording.seconds
        elif result.shape:
            yield line, result.shape[0] * shift


def num_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def examine_all(
    utterances: Sequence[Utterance],
    read: bool = True,
    sample_rate: int | None = None,
    jobs: int | None = None,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Iterator[Examined]:
    """Yield what `examine` finds in each utterance, in their order, on many cores.

    Parameters are those of `check_splits`; memory is that of a few utterances.
    """
    total = len(utterances)
    if jobs is None:
        work = _PER_UTTERANCE * total + read * _PER_SECOND * sum(u.duration for u in utterances)
        jobs = num_cores() if work > _WORTH_PROCESSES else 1
    if jobs == 1:
        for done, utterance in enumerate(utterances, start=1):
            yield examine(utterance, read, sample_rate)
            progress(done, total)
        return
    done = 0
    with _pool(jobs) as submit:
        waiting: deque[Future[list[Examined]]] = deque()
        for start in range(0, total + 4 * jobs * _CHUNK, _CHUNK):
            if start < total:
                waiting.append(submit(_examine_chunk, utterances[start : start + _CHUNK], read, sample_rate))
            while waiting and (len(waiting) > 4 * jobs or start >= total):
                results = waiting.popleft().result()
                yield from results
                done += len(results)
                progress(done, total)


def _examine_chunk(utterances: Sequence[Utterance], read: bool, sample_rate: int | None) -> list[Examined]:
    return [examine(utterance, read, sample_rate) for utterance in utterances]


@contextmanager
def _pool(jobs: int) -> Iterator[Callable[..., Future[list[Examined]]]]:
    """Give a function that has worker processes call a function; Ctrl-C ends them without a word."""
    # Not forked: this process may have threads, of torch and of progress bars.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_ignore_interrupts)
    is_main = threading.current_thread() is threading.main_thread()

    def submit(*call: object) -> Future[list[Examined]]:
        # A process inherits what is ignored, so none dies of Ctrl-C before it has begun.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN) if is_main else None
        try:
            return pool.submit(*call)  # type: ignore[arg-type]
        finally:
            if is_main:
                signal.signal(signal.SIGINT, before)

    try:
        yield submit
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
