"""What the samples of a recording tell: its level, its faults, and a digest to find copies by.

A recording is read block by block in its own rate and channels, so that hours of it take as much memory as a
minute. Levels are fractions of full scale.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from asr.audio.frames import open_frames
from asr.types import Utterance

# A file may differ from its manifest by this much: durations are often rounded.
TOLERANCE_SECONDS = 0.05
TOLERANCE_RATIO = 0.01

_BLOCK_SECONDS = 60.0
_WINDOW_SECONDS = 0.02  # of the level
_FFT_SIZE = 512
_FFT_WINDOWS = 4000  # about a minute at 16 kHz; the spectrum of more tells nothing new
# A flat top: equal neighbours this near to the peak.
_FLAT_RATIO = 0.99
# Windows this far under the loudest ones, or under this level, hold no speech. The level is 20 dB under what
# a quiet microphone in a quiet room gives.
_SPEECH_DB = 40.0
_SPEECH_FLOOR = 10 ** (-70 / 20)


@dataclass(frozen=True, slots=True)
class Recording:
    """What was measured of the stretch of a file that an utterance is.

    Attributes
    ----------
    seconds : float
        Length of the whole file.
    sample_rate : int
        Hz, of the file.
    channels : int
    num_samples : int
        Per channel, of the stretch. 0 if it was not read, or lies beyond the end.
    peak : float
        Largest absolute sample.
    is_finite : bool
        Whether no sample is NaN or infinite; if not, nothing below means anything.
    is_constant : bool
        Whether all samples are the same: digital silence.
    flat_share : float
        Share of the samples that lie on flat tops, in runs of three and more: clipping.
    offset : float
        Mean of the samples (direct current).
    drift : float
        Standard deviation of the means of windows of 20 ms.
    speech_seconds : float
        Time in which the level is within 40 dB of the loudest part.
    correlation : float
        Of the first two channels; 1 for one channel, NaN if either is constant.
    dead_channels : tuple of int
        Channels (from 1) that are constant while others are not.
    high_band_db : float
        Power in the upper half of the band that matters over that in the lower half, decibels.
    band : float
        Upper edge of the band that matters, Hz.
    digest : bytes
        Of the samples, mixed to one channel and rounded to 16 bits: the same for a copy in another file
        format without loss, in any folder and with any header.
    """

    seconds: float
    sample_rate: int
    channels: int
    num_samples: int = 0
    peak: float = 0.0
    is_finite: bool = True
    is_constant: bool = False
    flat_share: float = 0.0
    offset: float = 0.0
    drift: float = 0.0
    speech_seconds: float = 0.0
    correlation: float = 1.0
    dead_channels: tuple[int, ...] = ()
    high_band_db: float = 0.0
    band: float = 0.0
    digest: bytes = b""


def tolerance(utterance: Utterance) -> float:
    """Return by how many seconds a file may differ from its manifest."""
    return max(TOLERANCE_SECONDS, TOLERANCE_RATIO * utterance.duration)


def measure_recording(utterance: Utterance, band_rate: int | None = None) -> Recording:
    """Read the stretch of a file that an utterance is.

    Parameters
    ----------
    band_rate : int, optional
        Hz of the audio that the model hears, by default 16000: the spectrum matters up to half of that.

    Raises
    ------
    AudioError
        The file is missing, empty, truncated or not audio.
    """
    path = utterance.audio_filepath
    assert path is not None
    with open_frames(path, 0, path) as frames:
        total = frames.count()
        rate, seconds = frames.rate, total / frames.rate
        first = round(utterance.offset * rate)
        if first >= total:
            return Recording(seconds, rate, frames.channels)
        end = utterance.offset + utterance.duration
        # A rounded duration must not change the digest: to the end if the end is meant.
        whole = first == 0 and abs(end - seconds) <= tolerance(utterance)
        stop = total if whole else min(total, max(first + 1, round(end * rate)))
        band = min(rate, band_rate or 16000) / 2
        blocks = frames.blocks(first, stop, round(_BLOCK_SECONDS * rate))
        return _measure(blocks, seconds, rate, frames.channels, band)


def _measure(
    blocks: Iterator[np.ndarray], seconds: float, rate: int, channels: int, band: float
) -> Recording:
    digest = hashlib.blake2b(digest_size=16)
    window = max(1, round(_WINDOW_SECONDS * rate))
    num_samples, num_flat, num_windows = 0, 0, 0
    peak, first_sample = 0.0, None
    is_constant = True
    sums = np.zeros(channels)
    products = np.zeros((channels, channels))
    levels: list[np.ndarray] = []
    means: list[np.ndarray] = []
    spectrum = np.zeros(_FFT_SIZE // 2 + 1)
    for block in blocks:
        largest = float(np.abs(block).max())  # NaN if any sample is
        if not math.isfinite(largest):
            return Recording(seconds, rate, channels, num_samples + len(block), is_finite=False)
        mono = block[:, 0] if channels == 1 else block.mean(axis=1)
        digest.update(np.rint(mono * 32768).clip(-32768, 32767).astype("<i2").tobytes())
        if first_sample is None:
            first_sample = block[0]
        is_constant = is_constant and bool((block == first_sample).all())
        num_samples += len(block)
        peak = max(peak, largest)
        num_flat += _count_flat(block, min(largest, 1.0))
        wide = block.astype(np.float64)
        sums += wide.sum(axis=0)
        products += wide.T @ wide
        steady = mono - mono.mean()
        framed = steady[: len(steady) // window * window].reshape(-1, window)
        levels.append((framed**2).mean(axis=1))
        means.append(mono.mean() + framed.mean(axis=1))
        if num_windows < _FFT_WINDOWS:
            power, count = _spectrum(steady)
            spectrum += power
            num_windows += count
    if num_samples == 0:  # the last part of an MP3 may be less than its header says
        return Recording(seconds, rate, channels)
    mean = sums / num_samples
    covariance = products / num_samples - np.outer(mean, mean)
    variances = covariance.diagonal().clip(min=0)
    alive = variances > 1e-12  # a millionth of full scale, squared
    dead = tuple(int(i) + 1 for i in np.flatnonzero(~alive)) if alive.any() else ()
    correlation = 1.0
    if channels > 1:
        both = math.sqrt(variances[0] * variances[1])
        correlation = float(covariance[0, 1] / both) if alive[:2].all() else math.nan
    power = np.concatenate(levels)
    return Recording(
        seconds=seconds,
        sample_rate=rate,
        channels=channels,
        num_samples=num_samples,
        peak=peak,
        is_constant=is_constant,
        flat_share=num_flat / (num_samples * channels),
        offset=float(mean.mean()),
        drift=float(np.concatenate(means).std()) if len(power) else 0.0,
        speech_seconds=_speech_windows(power) * window / rate if len(power) else num_samples / rate,
        correlation=correlation,
        dead_channels=dead,
        high_band_db=_high_band_db(spectrum, rate, band),
        band=band,
        digest=digest.digest(),
    )


def _count_flat(block: np.ndarray, peak: float) -> int:
    """Count the samples (n, channels) in the runs of three and more equal ones at the peak.

    Speech that is not clipped has hardly ever two equal samples there, let alone three: at 16 bits a wave
    of 100 Hz changes by ten steps from its top to the next sample, at a tenth of full scale.
    """
    if peak < 0.1 or len(block) < 3:
        return 0
    clipped = block.clip(-1.0, 1.0)
    near = np.abs(clipped) >= _FLAT_RATIO * peak
    if np.count_nonzero(near) < 3:
        return 0
    middle = near[1:-1] & (clipped[1:-1] == clipped[:-2]) & (clipped[1:-1] == clipped[2:])
    in_run = np.zeros_like(near)
    in_run[1:-1] = middle
    in_run[:-2] |= middle
    in_run[2:] |= middle
    return int(np.count_nonzero(in_run))


def _spectrum(samples: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the sum of the power spectra of windows of samples (n,), and how many they are."""
    count = min(len(samples) // _FFT_SIZE, _FFT_WINDOWS)
    if count == 0:
        return np.zeros(_FFT_SIZE // 2 + 1), 0
    windows = samples[: count * _FFT_SIZE].reshape(count, _FFT_SIZE) * np.hanning(_FFT_SIZE)
    return (np.abs(np.fft.rfft(windows, axis=1)) ** 2).sum(axis=0), count


def _high_band_db(spectrum: np.ndarray, rate: int, band: float) -> float:
    """Return the level of the band's upper half over that of its lower half, 0 if there is no spectrum."""
    frequencies = np.arange(len(spectrum)) * rate / _FFT_SIZE
    low = spectrum[frequencies <= 0.5 * band].sum()
    # A resampler's filter needs some room.
    high = spectrum[(frequencies >= 0.57 * band) & (frequencies <= 0.95 * band)].sum()
    if low <= 0:
        return 0.0
    return 10 * math.log10(max(high / low, 1e-20))


def _speech_windows(power: np.ndarray) -> int:
    """Count the windows, given their power, whose level is near that of the loudest twentieth."""
    loud = float(np.quantile(power, 0.95)) if len(power) >= 20 else float(power.max())
    least = max(loud * 10 ** (-_SPEECH_DB / 10), _SPEECH_FLOOR**2)
    return int(np.count_nonzero(power > least))
