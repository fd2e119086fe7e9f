"""Recordings of any length in windows that a model can take."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from asr.audio import AudioStream
from asr.vad import DETECTORS, FRAME, VadName, best_vad
from asr.windows.loudness import QUIET_SECONDS, loud_part, quietest
from asr.windows.options import WindowOptions

# A stretch of a recording: start and end in seconds, None for the end of the file.
Clip = tuple[float, float | None]
WHOLE_FILE: tuple[Clip, ...] = ((0.0, None),)

# A pause this long, seconds, needs no words from both sides of the cut in its middle.
_CLEAN_PAUSE = 0.5
# Speech that goes on is cut no earlier than at this share of what a window may hold.
_EARLIEST = 1 / 3
# The detector may be late by so much, seconds. It may also miss whole words before one that it hears; they
# are found, so far back, by their loudness, where no longer pause than that parts them from it.
_REACH = 0.4
_FARTHEST = 2.5


@dataclass(frozen=True, slots=True)
class Window:
    """A piece of a recording to recognise on its own.

    Attributes
    ----------
    samples : np.ndarray, float32, (N,)
    sample_rate : int
        Hz.
    start : float
        Where its samples begin in the recording, seconds.
    begin : float
        The cut before which its words are those of the window before it too, seconds; `start` if the two
        share nothing.
    continues : bool
        Whether it shares samples with the window before it.
    """

    samples: np.ndarray
    sample_rate: int
    start: float
    begin: float
    continues: bool = False

    @property
    def duration(self) -> float:
        """Seconds."""
        return len(self.samples) / self.sample_rate

    @property
    def end(self) -> float:
        """Where its samples end in the recording, seconds."""
        return self.start + self.duration


def read_windows(
    stream: AudioStream, options: WindowOptions, clips: Sequence[Clip] = WHOLE_FILE
) -> Iterator[Window]:
    """Yield the windows of a recording in order, reading it as they are asked for.

    Parameters
    ----------
    stream : AudioStream
        At the model's sample rate.
    options : WindowOptions
    clips : sequence of (start, end)
        Stretches to cut, each on its own, seconds; in order.

    Raises
    ------
    AudioError
        The recording turns out to be damaged, or ends before a clip begins.
    """
    for start, end in clips:
        yield from _clip_windows(stream, options, start, end)


def _clip_windows(
    stream: AudioStream, options: WindowOptions, start: float, end: float | None
) -> Iterator[Window]:
    rate = stream.sample_rate
    blocks = stream.read(start, end)
    name: VadName = best_vad() if options.vad == "auto" else options.vad
    head: list[np.ndarray] = []
    if options.vad == "auto":
        limit = round(options.max_speech_duration_s * rate)
        for block in blocks:
            head.append(block)
            if sum(map(len, head)) > limit:
                break
        else:
            yield Window(np.concatenate(head), rate, start, start)
            return
    cutter = _Cutter(options, name, rate, start)
    for block in _both(head, blocks):
        yield from cutter.push(block)
    yield from cutter.push(np.zeros(0, np.float32), final=True)


def _both(head: Iterable[np.ndarray], rest: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    yield from head
    yield from rest


class _Cutter:
    """Finds the windows of one clip as its samples come.

    Positions are samples from the clip's beginning, except those called frames, which are the detector's. The
    samples that may still be needed are kept in `_samples`, the first of which is number `_offset`.
    """

    def __init__(self, options: WindowOptions, vad: VadName, sample_rate: int, clip_start: float) -> None:
        self.options = options
        self.rate = sample_rate
        self.clip_start = clip_start
        self._vad = DETECTORS[vad](sample_rate)
        self._samples = np.zeros(0, np.float32)
        self._offset = 0
        self._speech: list[bool] = []  # of frames since `_first_frame`: below the lower threshold or not
        self._first_frame = 0
        self._num_frames = 0
        # The open stretch: where it began or was cut last, whether speech was ever likely, how many frames of
        # speech to expect in it, and where silence began.
        self._start: int | None = None
        self._continues = False
        self._heard = False
        self._spoken = 0.0
        self._silent_since: int | None = None
        # A stretch that ended, kept until it is known how far its padding may go: start, end of speech.
        self._closed: tuple[int, bool, int] | None = None
        self._last_end = 0  # of the windows yielded
        self._pad = self._count(options.speech_pad_ms / 1000)
        self._reach = max(self._count(_REACH), self._pad)
        self._grid = max(self._pad // 2, 1)
        self._farthest = max(self._count(_FARTHEST), 2 * self._reach)
        self._min_silence = self._count(max(options.min_silence_duration_ms / 1000, FRAME))
        self._min_speech = options.min_speech_duration_ms / 1000 / FRAME
        self._max = int(options.max_speech_duration_s * sample_rate)
        self._context = self._count(options.context_s)

    def push(self, samples: np.ndarray, *, final: bool = False) -> Iterator[Window]:
        """Take the next samples; yield the windows that they settle."""
        self._samples = np.concatenate((self._samples, samples))
        for probability in self._vad.push(samples, final=final).tolist():
            yield from self._step(probability)
        if final:
            yield from self._finish()
        self._forget()

    def _step(self, probability: float) -> Iterator[Window]:
        """Take the next frame."""
        options = self.options
        begin, end = self._frame(self._num_frames), self._frame(self._num_frames + 1)
        self._num_frames += 1
        quiet = probability < max(options.threshold - 0.15, 0.01)
        self._speech.append(not quiet)
        if self._closed is not None and begin - self._closed[2] >= 4 * self._reach:
            yield self._close(self._closed[2] + 2 * self._reach)
        if self._start is None:
            if quiet:
                return
            self._start = max(begin - 2 * self._reach, 0)
            if self._closed is not None:
                border = min(self._on_grid(self._quietest(self._closed[2], begin) + self._grid - 1), begin)
                yield self._close(min(border, self._closed[2] + 2 * self._reach))
                self._start = max(self._start, border)
            self._continues, self._heard, self._spoken, self._silent_since = False, False, 0.0, None
        self._heard = self._heard or probability >= options.threshold
        self._spoken += 0.0 if quiet else probability
        if not quiet:
            self._silent_since = None
        elif self._silent_since is None:
            self._silent_since = begin
        elif begin - self._silent_since >= self._min_silence:
            if self._is_speech():
                self._closed = (self._start, self._continues, self._silent_since)
            self._start = None
            return
        spoken_until = end if self._silent_since is None else self._silent_since
        if self._is_full(spoken_until):
            voice = self._voice(self._start, spoken_until)
            if voice is not None and not self._continues:
                self._start, _ = self._edges(self._earliest(voice[0]), self._start, voice, spoken_until)
            if self._is_full(spoken_until):
                yield from self._cut()

    def _is_full(self, end: int) -> bool:
        """Tell whether a window may hold no more than the open stretch up to `end`."""
        assert self._start is not None
        return end - self._start + (self._context if self._continues else 0) >= self._max

    def _is_speech(self) -> bool:
        """Tell whether the open stretch is to be recognised, as far as it is known."""
        return self._continues or (self._heard and self._spoken >= self._min_speech)

    def _close(self, end: int) -> Window:
        assert self._closed is not None
        start, continues, _ = self._closed
        self._closed = None
        return self._window(start, continues, end)

    def _finish(self) -> Iterator[Window]:
        last = self._offset + len(self._samples)
        if self._closed is not None:
            yield self._close(min(self._closed[2] + 2 * self._reach, last))
        if self._start is not None and self._is_speech():
            silence = last if self._silent_since is None else self._silent_since
            yield self._window(self._start, self._continues, min(silence + 2 * self._reach, last))

    def _cut(self) -> Iterator[Window]:
        """Cut speech that goes on at its quietest moment; yield the window before the cut."""
        assert self._start is not None
        start, continues = self._start, self._continues
        left = self._context if continues else 0
        last = start - left + self._max - self._context
        cut = self._quietest(start + int(_EARLIEST * (last - start)), last)
        if not self._is_speech():
            self._start, self._heard, self._spoken = cut, False, 0.0
            return
        silence_begins, silence_ends = self._pause(cut)
        if silence_ends - silence_begins < _CLEAN_PAUSE * self.rate:
            self._start, self._continues = cut, True
            yield self._window(start, continues, cut + self._context, ends_clean=False)
        elif silence_ends < self._frame(self._num_frames):
            self._start, self._continues = cut, False
            yield self._window(start, continues, cut)
        else:
            self._start = None
            self._closed = (start, continues, silence_begins)

    def _quietest(self, earliest: int, last: int) -> int:
        """Return where the sound around is quietest, as far as the detector has heard it; see `quietest`."""
        heard = self._samples[: self._frame(self._num_frames) - self._offset]
        return earliest + quietest(heard, earliest - self._offset, last - self._offset, self.rate)

    def _pause(self, position: int) -> tuple[int, int]:
        """Return where the silence around a position begins and ends, as far as it is known."""
        begin = end = int(position / self.rate / FRAME)
        while begin > self._first_frame and not self._speech[begin - 1 - self._first_frame]:
            begin -= 1
        while end < self._num_frames and not self._speech[end - self._first_frame]:
            end += 1
        return self._frame(begin), self._frame(end)

    def _window(self, start: int, continues: bool, end: int, *, ends_clean: bool = True) -> Window:
        first = max(start - self._context, self._offset) if continues else start
        voice = self._voice(start, end)
        if voice is not None:
            earliest = first if continues else min(self._earliest(voice[0]), start)
            begins, ends = self._edges(earliest, start, voice, end)
            if ends_clean:
                end = ends
            if not continues:
                over = end - begins - self._max
                if over > 0:  # less padding
                    if ends_clean:
                        end -= min(over // 2, self._pad, max(end - voice[1], 0))
                    begins = min(end - self._max, voice[0])
                start = first = begins
            end = min(end, first + self._max)
        self._last_end = max(self._last_end, end)
        samples = self._samples[first - self._offset : end - self._offset]
        return Window(
            samples.copy(),
            self.rate,
            self.clip_start + first / self.rate,
            self.clip_start + start / self.rate,
            continues,
        )

    def _earliest(self, voice: int) -> int:
        """Return from where on words may belong to speech that the detector hears from `voice` on."""
        return max(voice - self._farthest, self._last_end)

    def _voice(self, start: int, end: int) -> tuple[int, int] | None:
        """Return from where to where the detector hears speech, of `start` to `end`."""
        frames = range(
            int(start / self.rate / FRAME), min(int(end / self.rate / FRAME) + 1, self._num_frames)
        )
        spoken = [frame for frame in frames if self._speech[frame - self._first_frame]]
        if not spoken:
            return None
        return max(self._frame(spoken[0]), start), min(self._frame(spoken[-1] + 1), end)

    def _edges(self, earliest: int, start: int, voice: tuple[int, int], end: int) -> tuple[int, int]:
        """Return where speech begins, from `earliest` on, and where it ends, each with the padding.

        Loudness tells, compared with that from `start` on; where it does not, a quiet moment is taken.
        """
        loud = loud_part(
            self._samples[earliest - self._offset : end - self._offset],
            self.rate,
            start - earliest,
            self._reach,
        )
        if loud is not None and (earliest + loud[0] >= voice[1] or earliest + loud[1] <= voice[0]):
            loud = None  # another sound
        if loud is not None and loud[0] > self._count(0.01):
            begins = max(earliest + loud[0] - self._pad, earliest)
        else:
            quiet_from = max(voice[0] - self._reach, start)
            begins = self._quietest(quiet_from, voice[0])
            if begins == quiet_from:
                begins = self._quietest(start, begins)
            begins = max(self._on_grid(begins), start)
        ends = end if loud is None else earliest + loud[1] + self._pad
        if ends >= end:
            last = min(voice[1] + self._reach, end)
            ends = self._quietest(voice[1], last)
            if ends == last:
                ends = self._quietest(last, end)
            ends = self._on_grid(ends + self._grid - 1)
        return begins, min(ends, end)

    def _on_grid(self, position: int) -> int:
        """Return the last position, up to this one, at which a window may begin or end.

        The quietest moment near speech depends on where the detector's frames end, by some hundredths of a
        second; so these moments are few, and the same wherever the clip begins.
        """
        clip_start = self._count(self.clip_start)
        return (clip_start + position) // self._grid * self._grid - clip_start

    def _count(self, seconds: float) -> int:
        return round(seconds * self.rate)

    def _frame(self, frame: int) -> int:
        """Return where a frame begins."""
        return self._count(frame * FRAME)

    def _forget(self) -> None:
        """Drop what no window can need any more."""
        starts = [self._frame(self._num_frames) - self._farthest - 2 * self._reach]
        if self._start is not None:
            starts.append(self._start - max(self._context, self._farthest))
        if self._closed is not None:
            starts.append(self._closed[0] - max(self._context, self._farthest))
        needed = min(starts) - self._count(QUIET_SECONDS)
        needed_frame = max(int(needed / self.rate / FRAME), self._first_frame)
        del self._speech[: needed_frame - self._first_frame]
        self._first_frame = needed_frame
        self._samples = self._samples[self._frame(needed_frame) - self._offset :]
        self._offset = self._frame(needed_frame)
