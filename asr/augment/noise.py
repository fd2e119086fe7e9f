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

Color = Literal["white", "pink", "brown", "notes"]

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
    colors : sequence of {"white", "pink", "brown", "notes"}, optional
        Generated noise: three whose power falls by 0, 3 and 6 dB an octave, and notes as of music (see
        `notes`). By default the three without `files`, and none with them. With both, recorded noise counts
        as one more color.
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
            colors = get_args(Color)[:3] if files is None else ()
        self.kinds = (*colors, *(["files"] if files is not None else []))
        if not self.kinds or not set(colors) <= set(get_args(Color)):
            raise ValueError(f"colors must be of white, pink, brown and notes, found {list(colors)}")
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
            noise = generated_noise(len(samples), sample_rate, kind, rng)
        speech_power, noise_power = _power(samples), _power(noise)
        if speech_power == 0 or noise_power == 0:
            return samples
        return samples + noise * (speech_power / noise_power / 10 ** (snr / 10)) ** 0.5


def generated_noise(num_samples: int, sample_rate: int, color: str, rng: np.random.Generator) -> Tensor:
    """Return noise of one of the colors, float32 (N,); see `colored_noise` and `notes`."""
    if color == "notes":
        return notes(num_samples, sample_rate, rng)
    return colored_noise(num_samples, sample_rate, color, rng)


def colored_noise(num_samples: int, sample_rate: int, color: str, rng: np.random.Generator) -> Tensor:
    """Return Gaussian noise, float32 (N,), whose power falls as 1, 1/f or 1/f^2 from 20 Hz on."""
    noise = torch.from_numpy(rng.standard_normal(num_samples, dtype=np.float32))
    slope = _SLOPES[color]
    if not slope:
        return noise
    return shape(noise, sample_rate, lambda hz: hz.clamp(min=_LOWEST_HZ) ** (-slope / 2), margin=0.0)


def notes(num_samples: int, sample_rate: int, rng: np.random.Generator) -> Tensor:
    """Return what a model should hear no words in though it has pitch and overtones, float32 (N,).

    One to three voices, each of one timbre (up to seven harmonics, falling by 3 to 15 dB an octave, and
    by 9 to 87 dB a second), play notes of 0.1 to 1 s between 65 and 1,050 Hz, with rests between some,
    at times nothing but rests.
    """
    sound = np.zeros(num_samples)
    for _ in range(rng.integers(1, 4)):
        overtones = np.arange(1, rng.integers(2, 9))
        slope, decay, length = rng.uniform(0.5, 2.5), rng.uniform(1, 10), rng.uniform(0.1, 1)
        start = 0
        while start < num_samples:
            time = np.arange(min(round(length * sample_rate), num_samples - start)) / sample_rate
            if rng.random() < 0.85:
                hz = 65.4 * 2 ** (rng.integers(49) / 12) * overtones  # semitones of four octaves from C2
                audible = hz < sample_rate / 2
                waves = np.sin(2 * np.pi * np.outer(time, hz[audible])) @ overtones[audible] ** -slope
                sound[start : start + len(time)] += waves * np.exp(-decay * time) * np.minimum(200 * time, 1)
            start += len(time)
    return torch.from_numpy(sound.astype(np.float32))


def _power(samples: Tensor) -> float:
    return float(samples.square().mean())
