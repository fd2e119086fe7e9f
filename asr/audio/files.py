"""Whole recordings, and parts of them, as one waveform; and the writer of audio."""

from __future__ import annotations

import io
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile as sf

from asr.audio.frames import open_frames
from asr.audio.stream import AudioStream
from asr.errors import AudioError

# Sample frames that are read at a time.
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Audio:
    """A waveform and what was done to it on the way in.

    Attributes
    ----------
    samples : np.ndarray, float32, (N,)
        Mono, in [-1, 1].
    sample_rate : int
        Hz.
    notes : tuple of str
        What a listener should know: mixed down, resampled, clipped, silent, shorter than asked for.
    """

    samples: np.ndarray
    sample_rate: int
    notes: tuple[str, ...] = ()

    @property
    def duration(self) -> float:
        """Seconds."""
        return len(self.samples) / self.sample_rate


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What an audio file's header says.

    Attributes
    ----------
    sample_rate : int
        Hz, of the file.
    channels : int
    num_samples : int
        Samples per channel.
    duration : float
        Seconds.
    """

    sample_rate: int
    channels: int
    num_samples: int
    duration: float


def load(
    path: str | os.PathLike[str],
    *,
    sample_rate: int,
    offset: float = 0.0,
    duration: float | None = None,
) -> Audio:
    """Read a file, or a part of it, as mono samples at `sample_rate`.

    Parameters
    ----------
    path : path
    sample_rate : int
        Hz wanted. A file with another rate is resampled (soxr, high quality).
    offset : float
        Where to start, seconds. Rounded to the file's nearest sample.
    duration : float, optional
        How much to read, seconds; by default to the end.

    Returns
    -------
    Audio
        Samples are clipped to [-1, 1], with a note when the file itself exceeds that.

    Raises
    ------
    AudioError
        The file is missing, unreadable, empty, truncated, not audio, shorter than 25 ms, has samples
        that are no finite numbers, or ends before `offset`.

    Examples
    --------
    >>> load("speech.flac", sample_rate=16000, offset=1.5, duration=2.0).samples.shape  # doctest: +SKIP
    (32000,)
    """
    if not (math.isfinite(offset) and offset >= 0):
        raise AudioError(f"{path}: offset {offset} s; give a start of 0 s or later")
    if duration is not None and not (math.isfinite(duration) and duration > 0):
        raise AudioError(f"{path}: duration {duration} s; give one above 0 s")
    with AudioStream(path, sample_rate) as stream:
        blocks = list(stream.read(offset, None if duration is None else offset + duration))
        samples = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
        return Audio(samples, sample_rate, stream.notes)


def info(path: str | os.PathLike[str]) -> AudioInfo:
    """Read the header of an audio file.

    A format that only ffmpeg knows is decoded to count its samples, because such containers do not
    state their length to the sample.

    Raises
    ------
    AudioError
        The file is missing, unreadable, empty, visibly truncated or not audio.
    """
    with open_frames(path, 0, os.fspath(path)) as frames:
        num_samples = frames.count()
        return AudioInfo(frames.rate, frames.channels, num_samples, num_samples / frames.rate)


def encode(samples: np.ndarray, sample_rate: int, kind: Literal["wav", "flac"]) -> bytes:
    """Return the content of a 16-bit audio file.

    Parameters
    ----------
    samples : np.ndarray, float, (N,) or (N, channels)
        In [-1, 1]; values beyond are clipped. Samples that were read from 16 bits come back as they were.
    sample_rate : int
        Hz.
    kind : {"wav", "flac"}
    """
    content = io.BytesIO()
    sf.write(content, samples, sample_rate, subtype="PCM_16", format=kind.upper())
    return content.getvalue()


def load_channels(
    path: str | os.PathLike[str], offset: float, duration: float | None
) -> tuple[np.ndarray, int]:
    """Read a part of a file as it is: all channels, at its own rate.

    Parameters
    ----------
    path : path
    offset, duration : float
        Seconds, rounded to the file's nearest sample; without a duration, to the end.

    Returns
    -------
    samples : np.ndarray, float32, (N, channels)
    sample_rate : int
        Hz.

    Raises
    ------
    AudioError
    """
    with open_frames(path, 0, os.fspath(path)) as frames:
        first = round(offset * frames.rate)
        stop = None if duration is None else round((offset + duration) * frames.rate)
        return np.concatenate(list(frames.blocks(first, stop, _BLOCK))), frames.rate


def save(path: str | os.PathLike[str], samples: np.ndarray, sample_rate: int) -> None:
    """Write samples as 16-bit audio; the suffix (.wav or .flac) chooses the format.

    Parameters
    ----------
    path : path
    samples : np.ndarray, float, (N,) or (N, channels)
        In [-1, 1]; values beyond are clipped.
    sample_rate : int
        Hz.

    Raises
    ------
    AudioError
        The suffix is another one or the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in (".wav", ".flac"):
        raise AudioError(f"{path}: cannot write '{path.suffix}' files; use the suffix .wav or .flac")
    try:
        sf.write(path, samples, sample_rate, subtype="PCM_16")
    except (sf.LibsndfileError, OSError) as error:
        raise AudioError(f"{path}: cannot be written ({error}); check the folder") from error
