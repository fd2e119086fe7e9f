"""Where a recording is quiet and where it is loud, to the sample, from the sound alone."""

from __future__ import annotations

import math

import numpy as np

# A moment is as quiet as so much around it, seconds.
QUIET_SECONDS = 0.16
# Where speech is this many times as powerful as the background, its loudness tells where it begins and ends:
# at this many times the background, and no less than this share of the peak.
_OUTSTANDING, _LOUD, _AUDIBLE = 1000.0, 10.0, 1e-5


def quietest(samples: np.ndarray, first: int, last: int, sample_rate: int) -> int:
    """Return how far after `first`, up to `last`, the sound is quietest; of equal moments the middle one.

    Parameters
    ----------
    samples : np.ndarray, float32, (N,)
    first, last : int
        Positions in the samples.
    sample_rate : int
        Hz.
    """
    size = round(QUIET_SECONDS * sample_rate)
    start = max(first - size // 2, 0)
    power = _power(samples[start : last - size // 2 + size], size)
    if not len(power):
        return (last - first) // 2
    (lowest,) = np.nonzero(power == power.min())
    gaps = np.flatnonzero(np.diff(lowest) > 1)
    run = lowest[: gaps[0] + 1] if len(gaps) else lowest
    return start + size // 2 + int(run[len(run) // 2]) - first


def loud_part(samples: np.ndarray, sample_rate: int, first: int, pause: int) -> tuple[int, int] | None:
    """Return where what is louder than the background begins and ends.

    None where speech does not stand out from the background; how loud both are is taken from `first` on.

    Parameters
    ----------
    samples : np.ndarray, float32, (N,)
    sample_rate : int
        Hz.
    first : int
        Position from which on everything counts; what is before it, if no longer pause parts it from that.
    pause : int
        Samples.
    """
    size = max(round(0.01 * sample_rate), 1)
    power = _power(samples[first:], size)
    if len(power) <= 3 * size:
        return None
    background = _power(samples[first:], 3 * size).min()
    if power.max() < _OUTSTANDING * background or not power.max():
        return None
    # In steps of 3 dB: what is a little different at the ends of the samples changes nothing.
    threshold = 2.0 ** round(math.log2(max(_LOUD * background, _AUDIBLE * power.max())))
    loud = np.flatnonzero(_power(samples, size) > threshold) + size // 2
    pauses = np.flatnonzero((np.diff(loud) > pause) & (loud[:-1] < first))
    if len(pauses):
        loud = loud[pauses[-1] + 1 :]
    return int(loud[0]), int(loud[-1]) + 1


def _power(samples: np.ndarray, size: int) -> np.ndarray:
    """Return the mean power of each `size` samples in a row, float64 (N - size + 1,)."""
    total = np.cumsum(np.square(samples, dtype=np.float64))
    total = np.concatenate(([0.0], total))
    return (total[size:] - total[:-size]) / size
