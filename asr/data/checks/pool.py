"""Utterances examined on many cores."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from asr.data.checks.examine import Examined, examine
from asr.errors import DataError
from asr.types import Utterance

# Seconds of one core (AMD EPYC, Zen 4) that an utterance takes, and a second of its audio. What is done in
# less than a second or two is not worth starting processes for.
_PER_UTTERANCE, _PER_SECOND = 5e-4, 3e-4
_WORTH_PROCESSES = 1.5
_CHUNK = 32


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

    Parameters
    ----------
    read : bool
        Whether to read audio and features.
    sample_rate : int, optional
        Hz that the model hears.
    jobs : int, optional
        Processes, by default one for each core that may be used where that pays.
    progress : callable
        Called with the utterances done and those in all.

    Raises
    ------
    DataError
        If a process dies.
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
                try:
                    results = waiting.popleft().result()
                except BrokenProcessPool as error:
                    raise DataError(
                        f"a process that reads audio was killed after {done} of {total} utterances, "
                        f"probably for want of memory; use --jobs 1"
                    ) from error
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

    def submit(*call: object) -> Future[list[Examined]]:
        with _interrupts_held():
            return pool.submit(*call)  # type: ignore[arg-type]

    try:
        yield submit
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Let Ctrl-C wait. Processes that begin meanwhile never hear of it: they inherit what is held back."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
