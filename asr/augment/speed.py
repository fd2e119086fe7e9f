"""Speed and pitch by resampling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchaudio.functional import phase_vocoder
from torchaudio.transforms import Resample

from asr.augment.streams import applies, check_probability, check_range

_WINDOW_SECONDS = 0.032


class SpeedPerturb:
    """Play an utterance faster or slower (Ko et al., Interspeech 2015).

    A waveform is resampled, so that tempo and pitch change; precomputed frames are interpolated
    linearly in time, so that only the tempo does.

    Parameters
    ----------
    factors : sequence of float
        Speeds to draw from with equal chance; 1.1 is ten per cent faster. They are rounded to hundredths,
        which keeps the resampler's ratio small.
    continuous : bool
        Draw any hundredth from the least to the greatest of the factors.
    probability : float
        Share of the utterances that it is applied to.
    """

    def __init__(
        self,
        factors: Sequence[float] = (0.9, 1.0, 1.1),
        continuous: bool = False,
        probability: float = 1.0,
    ) -> None:
        if not factors or not all(0.25 <= factor <= 4 for factor in factors):
            raise ValueError(f"speed factors must lie between 0.25 and 4, found {list(factors)}")
        percents = [round(100 * factor) for factor in factors]
        if continuous:
            percents = list(range(min(percents), max(percents) + 1))
        self.factors = tuple(percent / 100 for percent in percents)
        self.probability = check_probability(probability)

    def factor(self, rng: np.random.Generator) -> float:
        """Draw the speed; from a fresh generator, the one that a call with it will apply."""
        factor = self.factors[rng.integers(len(self.factors))]
        return factor if applies(self.probability, rng) else 1.0

    def __call__(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        """Change the speed of a waveform (N,) or of frames (T, F), float32."""
        factor = self.factor(rng)
        if factor == 1.0:
            return x
        if x.ndim == 1:
            return _resampler(round(factor * 100))(x)
        num_frames = max(1, round(x.shape[0] / factor))
        return F.interpolate(x.T[None], size=num_frames, mode="linear", align_corners=False)[0].T.contiguous()


class PitchPerturb:
    """Raise or lower pitch and formants; the tempo stays.

    The utterance is stretched in time by a phase vocoder (Flanagan and Golden, Bell System Technical Journal
    45(9), 1966), then resampled to its length.

    Parameters
    ----------
    factors : sequence of float
        Lowest and highest factor; every hundredth between has the same chance.
    probability : float
        Share of the utterances that it is applied to.
    """

    def __init__(self, factors: Sequence[float] = (0.85, 1.2), probability: float = 0.3) -> None:
        self.factors = check_range("pitch factors", factors, 0.5, 2)
        self.probability = check_probability(probability)

    def __call__(self, samples: Tensor, sample_rate: int, rng: np.random.Generator) -> Tensor:
        """Return samples (N,), float32, of another pitch."""
        if not applies(self.probability, rng):
            return samples
        lowest, highest = (round(100 * factor) for factor in self.factors)
        percent = int(rng.integers(lowest, highest + 1))
        if percent == 100:
            return samples
        hop_length = max(1, round(_WINDOW_SECONDS * sample_rate / 4))
        n_fft = 4 * hop_length
        window = torch.hann_window(n_fft)
        spectrum = torch.stft(
            samples, n_fft, hop_length, window=window, pad_mode="constant", return_complex=True
        )
        # Radians that the phase of each bin goes on from one frame to the next.
        advance = torch.arange(n_fft // 2 + 1)[:, None] * (2 * math.pi * hop_length / n_fft)
        stretched = phase_vocoder(spectrum, 100 / percent, advance)
        num_samples = -(-len(samples) * percent // 100)
        longer = torch.istft(stretched, n_fft, hop_length, window=window, length=num_samples)
        shifted = _resampler(percent)(longer)
        return F.pad(shifted, (0, max(0, len(samples) - len(shifted))))[: len(samples)]


@lru_cache(maxsize=400)
def _resampler(percent: int) -> Resample:
    """Return what makes a waveform `percent` hundredths times as fast; its filters are made once."""
    return Resample(percent, 100)
