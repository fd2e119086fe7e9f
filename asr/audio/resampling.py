"""From one sample rate to another, block by block."""

from __future__ import annotations

import numpy as np
import soxr


class Resampler:
    """Resamples a stream with soxr in high quality; at equal rates it hands the samples on.

    The blocks together are as the whole resampled at once, ceil(N * new_rate / rate) samples.

    Parameters
    ----------
    rate, new_rate : int
        Hz.
    """

    def __init__(self, rate: int, new_rate: int) -> None:
        self.rate = rate
        self.new_rate = new_rate
        self._stream = None if rate == new_rate else soxr.ResampleStream(rate, new_rate, 1, quality="HQ")
        self._taken = 0
        self._given = 0

    def push(self, samples: np.ndarray, *, final: bool = False) -> np.ndarray:
        """Take the next samples, float32 (N,); return what is settled, after `final` everything."""
        if self._stream is None:
            return samples
        resampled = self._stream.resample_chunk(samples, last=final)
        self._taken += len(samples)
        if final:
            # The resampler rounds the number of samples in its own way.
            wanted = -(-self._taken * self.new_rate // self.rate) - self._given
            resampled = np.pad(resampled[:wanted], (0, max(wanted - len(resampled), 0)))
        self._given += len(resampled)
        return resampled
