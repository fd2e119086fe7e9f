"""How long many recordings are, read from their headers at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from asr import audio


def durations(
    paths: Sequence[Path | str], *, progress: Callable[[int, int], object] | None = None
) -> list[float]:
    """Return the seconds that each file holds, in the order of `paths`.

    Threads are enough: reading a header is waiting for the disk and work of libsndfile, which both let other
    threads run.

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
    # More than there are cores, for disks that are far away.
    with ThreadPoolExecutor(2 * (os.cpu_count() or 1) + 4) as pool:
        jobs = [pool.submit(audio.info, path) for path in paths]
        try:
            for done, job in enumerate(jobs, start=1):
                found.append(job.result().duration)
                if progress is not None and (done % 100 == 0 or done == len(jobs)):
                    progress(done, len(jobs))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return found
