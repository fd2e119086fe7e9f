"""Audio files to augment with: noises and room impulse responses."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr import audio
from asr.errors import AsrError, AudioError, DataError

_CACHE_BYTES = 64 << 20
"""Samples that a process keeps, of each set of clips."""
_MAX_CACHED_SECONDS = 60.0
"""Of a longer clip only the stretch that is needed is read."""
_MAX_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Clip:
    """A stretch of an audio file.

    Attributes
    ----------
    path : Path
    offset : float
        Where it starts, seconds.
    duration : float or None
        Seconds; None for all that follows, until `Clips.open` has looked.
    """

    path: Path
    offset: float = 0.0
    duration: float | None = None


class Clips:
    """A set of audio files, found and checked by `open`, then read when they are needed.

    Parameters
    ----------
    files : str or sequence of str
        Folders (searched with all below them), manifests (``.jsonl`` or ``.json``, with `audio_filepath` and
        optional `offset` and `duration`), audio files, or a list of these.
    """

    def __init__(self, files: str | Sequence[str]) -> None:
        self.files = (files,) if isinstance(files, str) else tuple(files)
        if not self.files or not all(self.files):
            raise ValueError("files must name a folder, a manifest or audio files, found none")
        self.clips: list[Clip] = []
        self._cache: OrderedDict[tuple[int, int], np.ndarray] = OrderedDict()

    def open(self, problem: Callable[[Path, np.ndarray, audio.AudioInfo], str] | None = None) -> None:
        """Find the files and read every one once, so that no bad one is met in the middle of a training.

        Parameters
        ----------
        problem : callable, optional
            From a path, its samples and its header to what else is wrong, or "".

        Raises
        ------
        DataError
            A name is of nothing, a folder or manifest has no audio, or files are missing, damaged or
            silent: up to three of them with what is wrong, and the number of the others.
        """
        found = [clip for name in self.files for clip in _find(Path(name))]
        self.clips, problems = [], []
        for clip in found:
            try:
                info = audio.info(clip.path)
                samples = audio.load(
                    clip.path, sample_rate=info.sample_rate, offset=clip.offset, duration=clip.duration
                ).samples
                if not samples.any():
                    raise AudioError(f"{clip.path}: silent: all samples are zero; leave it out")
                if problem is not None and (message := problem(clip.path, samples, info)):
                    raise AudioError(f"{clip.path}: {message}")
            except AsrError as error:
                problems.append(str(error))
            else:
                self.clips.append(Clip(clip.path, clip.offset, len(samples) / info.sample_rate))
        if problems:
            more = len(problems) - _MAX_SHOWN
            raise DataError("; ".join(problems[:_MAX_SHOWN]) + (f"; and {more} more" if more > 0 else ""))

    def draw(self, rng: np.random.Generator) -> int:
        """Draw one of the clips, each with the same chance."""
        assert self.clips, "open() comes first"
        return int(rng.integers(len(self.clips)))

    def load(self, index: int, sample_rate: int) -> np.ndarray:
        """Return a whole clip, float32 (N,), mono at `sample_rate`; a short one is kept for the next time."""
        key = index, sample_rate
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        clip = self.clips[index]
        samples = audio.load(
            clip.path, sample_rate=sample_rate, offset=clip.offset, duration=clip.duration
        ).samples
        if (clip.duration or 0.0) <= _MAX_CACHED_SECONDS:
            self._cache[key] = samples
            while sum(kept.nbytes for kept in self._cache.values()) > _CACHE_BYTES:
                self._cache.popitem(last=False)
        return samples

    def excerpt(self, num_samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
        """Return so many samples of a drawn clip from a drawn place on; a shorter clip is repeated.

        Returns
        -------
        np.ndarray, float32, (num_samples,)
        """
        index, place = self.draw(rng), rng.random()
        clip = self.clips[index]
        seconds = num_samples / sample_rate
        duration = clip.duration or 0.0
        if duration > max(_MAX_CACHED_SECONDS, seconds + 1):
            start = clip.offset + place * (duration - seconds - 0.1)
            # A tenth of a second more, as resampling may round the length down.
            read = audio.load(clip.path, sample_rate=sample_rate, offset=start, duration=seconds + 0.1)
            return read.samples[:num_samples]
        samples = self.load(index, sample_rate)
        room = len(samples) - num_samples
        if room >= 0:
            start_sample = int(place * (room + 1))
            return samples[start_sample : start_sample + num_samples]
        return np.resize(np.roll(samples, -int(place * len(samples))), num_samples)


def _find(path: Path) -> list[Clip]:
    """List the clips that a name stands for, in an order that does not depend on the file system."""
    if path.is_dir():
        clips = [Clip(p) for p in sorted(path.rglob("*")) if p.suffix.lower() in audio.AUDIO_SUFFIXES]
    elif path.suffix.lower() in (".jsonl", ".json") and path.is_file():
        clips = _read_manifest(path)
    else:
        return [Clip(path)]  # whether it exists and is audio shows when it is read
    if not clips:
        raise DataError(f"{path}: no audio files in it; name a folder, manifest or file that has some")
    return clips


def _read_manifest(path: Path) -> list[Clip]:
    clips = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
            file = path.parent / fields["audio_filepath"]
            duration = fields.get("duration")
            clips.append(Clip(file, float(fields.get("offset") or 0.0), duration and float(duration)))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(
                f"{path}:{number}: no audio_filepath to read ({error}); give one JSON object a line"
            ) from error
    return clips
