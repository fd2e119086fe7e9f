"""A recording of any length as blocks of mono samples, in constant memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import TracebackType

import numpy as np

from asr.audio.frames import NativeFrames, open_frames
from asr.audio.resampling import Resampler
from asr.errors import AudioError

# The shortest recording that fills one analysis window of the usual front end.
MIN_MILLISECONDS = 25
# Decoders overshoot full scale a little; beyond this the samples are integers stored as floats.
_MAX_PEAK = 16.0
# Seconds that are read at a time.
_BLOCK = 16


class AudioStream:
    """An audio file, or samples at hand, read in blocks at the rate that is wanted.

    Parameters
    ----------
    source : path or np.ndarray
        A file, or samples, float (N,) or (N, channels), in [-1, 1].
    sample_rate : int
        Hz wanted. Another rate is resampled (soxr, high quality).
    source_rate : int, optional
        Of samples at hand, Hz; by default `sample_rate`.
    name : str, optional
        What messages call it; by default the path, or "the samples".

    Raises
    ------
    AudioError
        The file is missing, unreadable, empty, visibly truncated or not audio.

    Examples
    --------
    ::

        with AudioStream("talk.m4a", 16000) as stream:
            for samples in stream.read(start=60.0):
                ...
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | np.ndarray,
        sample_rate: int,
        *,
        source_rate: int | None = None,
        name: str | None = None,
    ) -> None:
        self.sample_rate = sample_rate
        self.name = name or ("the samples" if isinstance(source, np.ndarray) else os.fspath(source))
        self._frames: NativeFrames = open_frames(source, source_rate or sample_rate, self.name)
        self._peak = 0.0
        self._notes: list[str] = []

    @property
    def duration(self) -> float | None:
        """Seconds of the whole recording as its header says, None if it does not; exact once it was read."""
        return None if self._frames.total is None else self._frames.total / self._frames.rate

    @property
    def notes(self) -> tuple[str, ...]:
        """What a listener should know about what was read: mixed down, resampled, clipped, silent ..."""
        frames = self._frames
        notes = list(self._notes)
        if frames.channels > 1:
            notes.append(f"mixed down {frames.channels} channels")
        if frames.rate != self.sample_rate:
            note = f"resampled {frames.rate} -> {self.sample_rate} Hz"
            above = f"; the band above {frames.rate / 2000:g} kHz is empty"
            notes.append(note + above if frames.rate < self.sample_rate else note)
        if self._peak > 1:
            notes.append(f"clipped to full scale: samples reach {self._peak:.3g}")
        if self._peak == 0:
            notes.append("silent: all samples are zero")
        return tuple(notes)

    def read(self, start: float = 0.0, end: float | None = None) -> Iterator[np.ndarray]:
        """Yield mono samples, float32 (N,) in [-1, 1], of a stretch of the recording.

        Parameters
        ----------
        start, end : float
            Seconds, rounded to the recording's nearest sample; `end` is by default the recording's end.
            Stretches that are read in the order of time are read quickly.

        Raises
        ------
        AudioError
            The recording is truncated or damaged, shorter than 25 ms, ends before `start`, or has samples
            that are no finite numbers or far beyond full scale.
        """
        frames = self._frames
        first = round(start * frames.rate)
        stop = None if end is None else round(end * frames.rate)
        resampler = Resampler(frames.rate, self.sample_rate)
        position = first
        for block in frames.blocks(first, stop, _BLOCK * frames.rate):
            if position == first and len(block) * 1000 < MIN_MILLISECONDS * frames.rate:
                raise self._too_short(len(block))
            self._check(block, position)
            position += len(block)
            samples = block.mean(axis=1) if frames.channels > 1 else block[:, 0]
            yield np.clip(resampler.push(samples), -1, 1)
        rest = resampler.push(np.zeros(0, np.float32), final=True)
        if len(rest):
            yield np.clip(rest, -1, 1)
        # Durations in manifests are often rounded to hundredths of a second.
        short = 0 if stop is None else (stop - position) / frames.rate
        if short > 0.01:
            self._notes.append(f"ends {short:.2f} s before the end that was asked for")

    def _check(self, block: np.ndarray, position: int) -> None:
        peak = max(float(block.max()), -float(block.min()))  # NaN if one sample is
        if not np.isfinite(peak):
            first = int(np.argmin(np.isfinite(block).all(axis=1)))
            bad = block[first][~np.isfinite(block[first])][0]
            position += first
            raise AudioError(
                f"{self.name}: sample {position} (at {position / self._frames.rate:.3f} s) is {bad}, no "
                "finite number; export the file again as 16-bit WAV"
            )
        self._peak = max(self._peak, peak)
        if self._peak > _MAX_PEAK:
            raise AudioError(
                f"{self.name}: samples reach {self._peak:.6g} where full scale is 1; divide them by their "
                "integer range or save the file as 16-bit WAV"
            )

    def _too_short(self, num_samples: int) -> AudioError:
        count = "only one sample" if num_samples == 1 else f"only {num_samples} samples"
        return AudioError(
            f"{self.name}: {count} long ({1000 * num_samples / self._frames.rate:.3g} ms), speech needs at "
            f"least {MIN_MILLISECONDS} ms; leave this file out"
        )

    def close(self) -> None:
        """Let go of the file."""
        self._frames.close()

    def __enter__(self) -> AudioStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
