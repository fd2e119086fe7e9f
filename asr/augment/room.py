"""Reverberation by recorded or simulated room impulse responses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from asr import audio
from asr.augment.clips import Clips
from asr.augment.spectrum import convolve
from asr.augment.streams import applies, check_probability, check_range

_EARLY_SECONDS = 0.0025
"""Kept of a recorded response before its peak: the rise of the direct sound."""


class Reverberate:
    """Put an utterance into a room.

    The direct sound stays where it was in time, the length stays (the tail is cut), and so does the power.

    Parameters
    ----------
    files : str or sequence of str, optional
        Recorded impulse responses of one channel, from which one is drawn (`asr.augment.clips.Clips`). By
        default a response is simulated: the direct sound and after it Gaussian noise that decays
        exponentially, the statistical model of late reverberation (Polack, PhD thesis, Le Mans 1988).
    rt60 : sequence of float
        Shortest and longest time in which a simulated room's sound decays by 60 dB, seconds.
    direct_to_reverberant_db : sequence of float
        Lowest and highest energy of a simulated direct sound over that of its tail, dB.
    probability : float
        Share of the utterances that it is applied to.
    """

    def __init__(
        self,
        files: str | Sequence[str] | None = None,
        rt60: Sequence[float] = (0.1, 0.5),
        direct_to_reverberant_db: Sequence[float] = (0.0, 20.0),
        probability: float = 0.3,
    ) -> None:
        self.clips = None if files is None else Clips(files)
        self.rt60 = check_range("rt60", rt60, 0.02, 10)
        self.direct_to_reverberant_db = check_range(
            "direct_to_reverberant_db", direct_to_reverberant_db, -40, 60
        )
        self.probability = check_probability(probability)

    def open(self) -> None:
        """Find and check the files; raises DataError."""
        if self.clips is not None:
            self.clips.open(_channel_problem)

    def __call__(self, samples: Tensor, sample_rate: int, rng: np.random.Generator) -> Tensor:
        """Return samples (N,), float32, as heard in a room."""
        if not applies(self.probability, rng):
            return samples
        if self.clips is None:
            decibels = rng.uniform(*self.direct_to_reverberant_db)
            response = simulate_room(rng.uniform(*self.rt60), decibels, sample_rate, rng)
            delay = 0
        else:
            response = torch.from_numpy(self.clips.load(self.clips.draw(rng), sample_rate))
            peak = int(response.abs().argmax())
            start = max(0, peak - round(_EARLY_SECONDS * sample_rate))
            # What comes later than the utterance is long cannot be heard in it.
            response, delay = response[start : peak + len(samples)], peak - start
        reverberant = convolve(samples, response, delay)
        power = reverberant.square().mean()
        return reverberant * (samples.square().mean() / power).sqrt() if power > 0 else samples


def simulate_room(
    rt60: float, direct_to_reverberant_db: float, sample_rate: int, rng: np.random.Generator
) -> Tensor:
    """Return a simulated impulse response.

    Parameters
    ----------
    rt60 : float
        Time in which the sound decays by 60 dB, seconds; the response ends there.
    direct_to_reverberant_db : float
        Energy of the direct sound over that of the tail, dB.
    sample_rate : int
        Hz.

    Returns
    -------
    Tensor, float32, (K,)
        Starts with the direct sound, 1.
    """
    num_samples = max(2, round(rt60 * sample_rate))
    decay = torch.exp(torch.arange(num_samples) * (-3 * math.log(10) / (rt60 * sample_rate)))
    response = torch.from_numpy(rng.standard_normal(num_samples, dtype=np.float32)) * decay
    response[0] = 0.0
    response *= (10 ** (-direct_to_reverberant_db / 10) / response.square().sum()).sqrt()
    response[0] = 1.0
    return response


def _channel_problem(path: Path, samples: np.ndarray, info: audio.AudioInfo) -> str:
    if info.channels == 1:
        return ""
    return f"{info.channels} channels; a room impulse response has one, so write each to a file of its own"
