"""How long many recordings are, read from their headers on all cores."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing

from asr import audio
from asr.errors import AudioError

# From so many headers on, a second's work, processes are started for them.
_MANY = 3000


def durations(
    paths: Sequence[str | os.PathLike[str]], *, progress: Callable[[int, int], object] | None = None
) -> list[float]:
    """Return the seconds that each file holds, in the order of `paths`.

    Parameters
    ----------
    progress : callable, optional
        Called with the files done and the files in all.

    Raises
    ------
    AudioError
        Of the first file that is missing, damaged or not audio.
    """
    found = []
    with closing(probe(paths)) as results:
        for seconds, problem in results:
            if problem:
                raise AudioError(problem)
            found.append(seconds)
            if progress is not None and (len(found) % 100 == 0 or len(found) == len(paths)):
                progress(len(found), len(paths))
    return found


def probe(paths: Sequence[str | os.PathLike[str]]) -> Generator[tuple[float, str], None, None]:
    """Yield each file's seconds, and what keeps it from being read: empty if nothing does."""
    if len(paths) < _MANY:
        yield from map(_probe, paths)
        return
    # Threads would wait for each other: of the time for a header that is in memory, most is Python's. Not
    # forked, because a parent with threads (progress bar, torch) must not be. Ctrl-C is the parent's alone.
    pool = ProcessPoolExecutor(
        mp_context=multiprocessing.get_context("spawn"),
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),
    )
    try:
        yield from pool.map(_probe, paths, chunksize=100)
    finally:
        pool.shutdown(cancel_futures=True)


def _probe(path: str | os.PathLike[str]) -> tuple[float, str]:
    try:
        return audio.info(path).duration, ""
    except AudioError as error:
        return 0.0, str(error)
