"""The recording channel: level and band of a waveform."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from asr.augment.spectrum import shape
from asr.augment.streams import applies, check_probability, check_range


class Volume:
    """Make an utterance louder or quieter.

    Parameters
    ----------
    gain_db : sequence of float
        Lowest and highest gain, dB; drawn evenly.
    probability : float
        Share of the utterances that it is applied to.

    Notes
    -----
    Nothing clips: a waveform that would exceed full scale is brought down to it as a whole
    (`asr.augment.Augmentation`).
    """

    def __init__(self, gain_db: Sequence[float] = (-12.0, 6.0), probability: float = 1.0) -> None:
        self.gain_db = check_range("gain_db", gain_db, -80, 80)
        self.probability = check_probability(probability)

    def __call__(self, samples: Tensor, sample_rate: int, rng: np.random.Generator) -> Tensor:
        """Return samples (N,), float32, with the drawn gain."""
        if not applies(self.probability, rng):
            return samples
        return samples * 10 ** (rng.uniform(*self.gain_db) / 20)


class BandLimit:
    """Leave only a band of frequencies, as a telephone or a recording of a lower sample rate does.

    The filter has no phase, so that the timing stays, and edges of half a cosine, a tenth of the frequency
    wide. A low-pass filter has the effect of resampling down and up again.

    Parameters
    ----------
    low_hz, high_hz : sequence of float
        Ranges from which the lower and the upper end of the band are drawn, Hz; ``[0, 0]`` for no lower
        end. An upper end above half the sample rate cuts nothing. A telephone has [200, 400] and
        [3000, 3600].
    probability : float
        Share of the utterances that it is applied to.
    """

    def __init__(
        self,
        low_hz: Sequence[float] = (0.0, 300.0),
        high_hz: Sequence[float] = (2500.0, 4000.0),
        probability: float = 0.2,
    ) -> None:
        self.low_hz = check_range("low_hz", low_hz, 0, 1e5)
        self.high_hz = check_range("high_hz", high_hz, 0, 1e5)
        if self.low_hz[1] >= self.high_hz[0]:
            raise ValueError(f"low_hz must end below high_hz, found {list(low_hz)} and {list(high_hz)}")
        self.probability = check_probability(probability)

    def __call__(self, samples: Tensor, sample_rate: int, rng: np.random.Generator) -> Tensor:
        """Return samples (N,), float32, of the drawn band."""
        if not applies(self.probability, rng):
            return samples
        low, high = rng.uniform(*self.low_hz), rng.uniform(*self.high_hz)

        def gain(frequencies: Tensor) -> Tensor:
            kept = _rise(high - frequencies, high / 10)
            return kept * _rise(frequencies - low, low / 10) if low else kept

        return shape(samples, sample_rate, gain)


def _rise(distance: Tensor, width: float) -> Tensor:
    """Return 0 below ``-width / 2``, 1 above ``width / 2``, and half a cosine between."""
    return 0.5 - 0.5 * torch.cos(math.pi * (distance / width + 0.5).clamp(0, 1))
