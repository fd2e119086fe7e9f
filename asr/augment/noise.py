"""Additive noise, recorded or generated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from asr.augment.clips import Clips
from asr.augment.spectrum import shape
from asr.augment.streams import applies, check_probability, check_range

Color = Literal["white", "pink", "brown"]

# Power falls by these powers of the frequency.
_SLOPES = {"white": 0.0, "pink": 1.0, "brown": 2.0}
_LOWEST_HZ = 20.0


class AddNoise:
    """Add noise at a drawn ratio of speech to noise.

    Both powers are means over the utterance. An utterance or a stretch of noise without a sound stays as
    it is.

    Parameters
    ----------
    files : str or sequence of str, optional
        Recorded noise: folders, manifests or audio files (`asr.augment.clips.Clips`), at any sample rate and
        with any number of channels. A drawn stretch of a drawn file is added, repeated if it is too short.
    colors : sequence of {"white", "pink", "brown"}, optional
        Generated noise whose power falls by 0, 3 and 6 dB an octave. By default all three without `files`,
        and none with them. With both, recorded noise counts as one more color.
    snr_db : sequence of float
        Lowest and highest ratio, dB; drawn evenly.
    probability : float
        Share of the utterances that it is applied to.
    """

    def __init__(
        self,
        files: str | Sequence[str] | None = None,
        colors: Sequence[Color] | None = None,
        snr_db: Sequence[float] = (5.0, 30.0),
        probability: float = 0.5,
    ) -> None:
        self.clips = None if files is None else Clips(files)
        if colors is None:
            colors = get_args(Color) if files is None else ()
        self.kinds = (*colors, *(["files"] if files is not None else []))
        if not self.kinds or not set(colors) <= set(get_args(Color)):
            raise ValueError(f"colors must be of white, pink and brown, found {list(colors)}")
        self.snr_db = check_range("snr_db", snr_db, -50, 100)
        self.probability = check_probability(probability)

    def open(self) -> None:
        """Find and check the files; raises DataError."""
        if self.clips is not None:
            self.clips.open()

    def __call__(self, samples: Tensor, sample_rate: int, rng: np.random.Generator) -> Tensor:
        """Return samples (N,), float32, with noise."""
        if not applies(self.probability, rng):
            return samples
        kind, snr = self.kinds[rng.integers(len(self.kinds))], rng.uniform(*self.snr_db)
        if kind == "files":
            assert self.clips is not None
            noise = torch.from_numpy(self.clips.excerpt(len(samples), sample_rate, rng))
        else:
            noise = colored_noise(len(samples), sample_rate, kind, rng)
        speech_power, noise_power = _power(samples), _power(noise)
        if speech_power == 0 or noise_power == 0:
            return samples
        return samples + noise * (speech_power / noise_power / 10 ** (snr / 10)) ** 0.5


def colored_noise(num_samples: int, sample_rate: int, color: str, rng: np.random.Generator) -> Tensor:
    """Return Gaussian noise, float32 (N,), whose power falls as 1, 1/f or 1/f^2 from 20 Hz on."""
    noise = torch.from_numpy(rng.standard_normal(num_samples, dtype=np.float32))
    slope = _SLOPES[color]
    if not slope:
        return noise
    return shape(noise, sample_rate, lambda hz: hz.clamp(min=_LOWEST_HZ) ** (-slope / 2), margin=0.0)


def _power(samples: Tensor) -> float:
    return float(samples.square().mean())
