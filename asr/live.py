"""Live recognition: samples in as they are spoken, words out as soon as they are certain.

A one-directional or latency-controlled model whose features need no whole utterance truly streams: frames,
log-probabilities and words are those of the whole recording at once, and the recurrent state is carried from
its beginning to its end. Any other model is run in windows over what was said last.

All is computed in blocks of fixed length, so that the words do not depend on how the samples are cut.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from asr.audio import Resampler
from asr.decoding.greedy import GreedyDecoder
from asr.decoding.streaming import GreedyStream
from asr.errors import AudioError, ConfigError
from asr.features import FrontEndStream
from asr.recognizer import Recognizer
from asr.segments import MAX_PAUSE, MAX_SEGMENT_CHARACTERS, MAX_SEGMENT_SECONDS, Segmenter
from asr.types import Segment, Word
from asr.vad import DETECTORS, FRAME, best_vad

BLOCK_SECONDS = 0.1
"""How much is computed at a time."""
QUIET_SECONDS, BLANK_SECONDS = 0.5, 0.3
"""A word is over after so long without speech, as the voice-activity detector hears it, and so long without a
token. 0.3 s without speech part a word in 2 of 150 strings of joined digits (FSDD, dev, a model with a delay
penalty), 0.2 s each in up to 6 more of 60 (three models)."""
STEP_SECONDS, RIGHT_SECONDS, LEFT_SECONDS = 0.5, 1.0, 4.0
"""A window is recognised again every so often; its words are final when so much has followed them; and so
much of what precedes stays in it."""
_LEAD_SECONDS = 0.5  # of silence in front of speech
_WINDOW_SECONDS = 12.0  # the longest window
# Beyond this the samples are integers stored as floats.
_MAX_PEAK = 16.0


@dataclass(frozen=True, slots=True)
class LiveUpdate:
    """What is new.

    Attributes
    ----------
    final : tuple of Word
        Words that will not change any more; times in seconds since the stream began.
    partial : str
        What was heard after all final words so far; replaces the last partial text.
    segments : tuple of Segment
        Stretches of speech that have ended, with all their words: each final word is in one of them.
    """

    final: tuple[Word, ...]
    partial: str
    segments: tuple[Segment, ...] = ()


class LiveTranscriber:
    """Recognises one stream of audio.

    Parameters
    ----------
    recognizer : Recognizer
        May serve several transcribers.
    sample_rate : int, optional
        Of the samples that will come, Hz; by default the model's own. Other rates are resampled.

    Attributes
    ----------
    sample_rate : int
    streams : bool
        Whether the model streams; else it runs in windows.
    delay : float
        Seconds after its end by which a word is final, but for the time to compute it, if the model writes it
        as soon as it has heard it. Infinite with beam search, which decodes a segment at its end.
    description : str
        How this model is run, in a line.

    Raises
    ------
    ConfigError
        The sample rate cannot be.

    Examples
    --------
    ::

        live = LiveTranscriber(load_model("model.asr"), sample_rate=48000)
        for samples in microphone:  # float32 (N,)
            update = live.push(samples)
            print(*update.final, update.partial)
        update = live.finish()
    """

    def __init__(self, recognizer: Recognizer, sample_rate: int | None = None) -> None:
        self.sample_rate = recognizer.sample_rate if sample_rate is None else sample_rate
        if not 1000 <= self.sample_rate <= 768000:
            raise ConfigError(f"sample rate {self.sample_rate} Hz: cannot be; use 1000 to 768000")
        recognizer.eval()
        reason = why_not_streaming(recognizer)
        self.streams = not reason
        self._engine: _Engine = _Windows(recognizer) if reason else _Stream(recognizer)
        self.delay = self._engine.delay + (0.0 if self.sample_rate == recognizer.sample_rate else 0.1)
        promise = f"words are final within {self.delay:.1f} s of where it has them end"
        if reason:
            self.description = f"{reason}: it runs in windows, {promise}"
        elif self.delay == math.inf:
            self.description = "the model streams; beam search makes words final at the end of a segment"
        else:
            self.description = f"the model streams; {promise}, if a pause follows"
        self._resampler = Resampler(self.sample_rate, recognizer.sample_rate)
        self._block = round(BLOCK_SECONDS * recognizer.sample_rate)
        self._left = np.zeros(0, np.float32)
        self._taken = 0
        self._finished = False
        self._segmenter = Segmenter()
        self._open: list[Word] = []  # of the segment that has not ended

    def push(self, samples: np.ndarray) -> LiveUpdate:
        """Take the next samples, float (N,) in [-1, 1], any number; louder ones are clipped.

        Raises
        ------
        AudioError
            A sample is no finite number, or none that audio can have. Nothing was taken of this push.
        """
        if self._finished:
            raise ValueError("the stream has been finished; start another one")
        samples = np.asarray(samples)
        if samples.ndim != 1 or not np.issubdtype(samples.dtype, np.floating):
            raise ValueError(f"samples: expected floats of shape (N,), found {samples.dtype} {samples.shape}")
        self._check(samples)
        self._taken += len(samples)
        return self._advance(samples.clip(-1, 1).astype(np.float32, copy=False))

    def finish(self) -> LiveUpdate:
        """Return what is left; no more samples will come."""
        if self._finished:
            return LiveUpdate((), "")
        self._finished = True
        return self._advance(np.zeros(0, np.float32), final=True)

    def _advance(self, samples: np.ndarray, final: bool = False) -> LiveUpdate:
        left = np.concatenate((self._left, self._resampler.push(samples, final=final)))
        words: list[Word] = []
        segments: list[Segment] = []
        for start in range(0, len(left) - self._block + 1, self._block):
            new = self._engine.push(left[start : start + self._block])
            words += new
            segments += self._segments(new)
        self._left = left[len(left) // self._block * self._block :]
        if final:
            new = self._engine.push(self._left, final=True)
            words += new
            segments += self._segments(new, final=True)
        return LiveUpdate(tuple(words), self._engine.partial, tuple(segments))

    def _segments(self, words: Sequence[Word], final: bool = False) -> list[Segment]:
        """Add words to the open segment; return the segments that end."""
        ended = []
        for word in words:
            # Before the segmenter would break it: that may be within words that were given out long ago.
            characters = sum(len(w.text) + 1 for w in self._open) + len(word.text)
            if self._open and (
                characters > MAX_SEGMENT_CHARACTERS or word.end - self._open[0].start > MAX_SEGMENT_SECONDS
            ):
                ended += self._segmenter.finish()
                self._open = []
            if new := self._segmenter.add([word]):
                ended += new
                self._open = []
            self._open.append(word)
        if self._open and (final or self._engine.quiet_since(self._open[-1].end) > MAX_PAUSE):
            ended += self._segmenter.finish()
            self._open = []
        return ended

    def _check(self, samples: np.ndarray) -> None:
        for bad, what, remedy in (
            (~np.isfinite(samples), "", "send finite samples"),
            (np.abs(samples) > _MAX_PEAK, ", far above full scale", "send samples in [-1, 1]"),
        ):
            if bad.any():
                first = int(np.argmax(bad))
                position = self._taken + first
                raise AudioError(
                    f"the stream: sample {position} (at {position / self.sample_rate:.3f} s) is "
                    f"{samples[first]:g}{what}; {remedy}"
                )


def _context(recognizer: Recognizer, features: FrontEndStream) -> float:
    """Return how far ahead an output frame of a streaming model looks, a block included; seconds."""
    extractor, subsampling = recognizer.features.extractor, recognizer.model.subsampling
    encoder, factor = recognizer.model.encoder, recognizer.model.factor
    samples = features.context * extractor.hop_length + extractor.window_length
    frames = subsampling.context + (encoder.chunk + encoder.right_context) * subsampling.factor
    frames += (encoder.lookahead.context if encoder.lookahead else 0) * factor + factor - 1
    return samples / extractor.sample_rate + frames * recognizer.features.frame_shift + BLOCK_SECONDS


def why_not_streaming(recognizer: Recognizer) -> str:
    """Return why a model cannot truly stream, empty if it can."""
    encoder = recognizer.model.encoder
    if encoder.bidirectional and not encoder.chunk:
        return "the model is bidirectional"
    if recognizer.features.needs_whole_utterance:
        return "the model's features are normalised over whole utterances"
    return ""


class _Engine(ABC):
    """Takes blocks of samples at the model's rate and gives final words.

    Attributes
    ----------
    delay : float
        See `LiveTranscriber`.
    partial : str
    """

    delay: float
    partial = ""

    def __init__(self, recognizer: Recognizer) -> None:
        self.recognizer = recognizer
        self.taken = 0  # samples
        self.last_speech = 0.0  # seconds up to which the detector heard speech
        self._vad = DETECTORS[best_vad()](recognizer.sample_rate)
        self._vad_frames = 0

    @property
    def seconds(self) -> float:
        """Heard so far."""
        return self.taken / self.recognizer.sample_rate

    @abstractmethod
    def push(self, samples: np.ndarray, final: bool = False) -> list[Word]:
        """Take samples, float32 (N,)."""

    @abstractmethod
    def quiet_since(self, end: float) -> float:
        """Return the seconds of silence after a final word that ended at `end`, as far as it is certain."""

    def _listen(self, samples: np.ndarray) -> None:
        self.taken += len(samples)
        probabilities = self._vad.push(samples)
        (speech,) = np.nonzero(probabilities >= 0.5)
        if len(speech):
            self.last_speech = (self._vad_frames + int(speech[-1]) + 1) * FRAME
        self._vad_frames += len(probabilities)


class _Stream(_Engine):
    """Runs a model that streams, from the first sample to the last."""

    def __init__(self, recognizer: Recognizer) -> None:
        super().__init__(recognizer)
        features, model = recognizer.features, recognizer.model
        self._features, self._model = features.stream(), model.stream()
        decoder = recognizer.decoder
        self._beam = not isinstance(decoder, GreedyDecoder)
        self._greedy = GreedyStream(
            recognizer.tokenizer.pieces,
            recognizer.frame_shift,
            decoder.calibration if isinstance(decoder, GreedyDecoder) else None,
        )
        self.delay = math.inf if self._beam else _context(recognizer, self._features) + QUIET_SECONDS + FRAME
        # For beam search: what was heard since the frame `_start`, and how the best path reads there.
        self._heard: list[Tensor] = []
        self._start = 0
        self._draft: list[Word] = []

    def push(self, samples: np.ndarray, final: bool = False) -> list[Word]:
        self._listen(samples)
        waveform = torch.from_numpy(samples).to(self.recognizer.device)[None]
        with torch.autocast(waveform.device.type, torch.bfloat16, self.recognizer.compute_type == "bfloat16"):
            log_probs = self._model.push(self._features.push(waveform, final=final), final=final)[0].cpu()
        words = self._greedy.push(log_probs)
        shift = self.recognizer.frame_shift
        quiet = self._greedy.num_frames * shift - self.last_speech >= QUIET_SECONDS
        if final or (quiet and self._greedy.blanks * shift >= BLANK_SECONDS):
            words += self._greedy.settle()
        self.partial = self._greedy.partial
        return self._search(log_probs, words, final) if self._beam else words

    def quiet_since(self, end: float) -> float:
        return 0.0 if self.partial else self._greedy.num_frames * self.recognizer.frame_shift - end

    def _search(self, log_probs: Tensor, words: list[Word], final: bool) -> list[Word]:
        """Keep log-probabilities until the segment ends, then decode them."""
        shift = self.recognizer.frame_shift
        self._heard.append(log_probs)
        self._draft += words
        end = self._draft[-1].end if self._draft else None
        now = self._greedy.num_frames
        if end is None:
            if not self._greedy.partial and not final:  # nothing but silence: keep a little of it
                self._drop(max(0, now - self._start - round(_LEAD_SECONDS / shift)))
            return []
        found: list[Word] = []
        if final or self.quiet_since(end) > MAX_PAUSE or (now - self._start) * shift > MAX_SEGMENT_SECONDS:
            count = now - self._start if final else min(now, math.ceil(end / shift)) - self._start
            heard = torch.cat(self._heard)[:count]
            hypothesis = self.recognizer.decode(heard[None], torch.tensor([count]))[0]
            offset = self._start * shift
            found = [replace(w, start=w.start + offset, end=w.end + offset) for w in hypothesis.words]
            self._drop(count)
            self._draft = []
        self.partial = " ".join([*(word.text for word in self._draft), self._greedy.partial]).strip()
        return found

    def _drop(self, count: int) -> None:
        self._heard = [torch.cat(self._heard)[count:]]
        self._start += count


class _Windows(_Engine):
    """Runs a model again and again over what was said last, and keeps words that enough has followed."""

    delay = RIGHT_SECONDS + STEP_SECONDS + BLOCK_SECONDS

    def __init__(self, recognizer: Recognizer) -> None:
        super().__init__(recognizer)
        self._samples = np.zeros(0, np.float32)
        self._speaking = False
        self._recognized = 0  # sample up to which the window was recognised
        self._settled = 0.0  # end of the last final word

    @property
    def _start(self) -> int:
        return self.taken - len(self._samples)

    def push(self, samples: np.ndarray, final: bool = False) -> list[Word]:
        self._listen(samples)
        self._samples = np.concatenate((self._samples, samples))
        silent = self.seconds - self.last_speech > MAX_PAUSE
        if not self._speaking:
            self._speaking = not silent and self.last_speech > 0
        if not self._speaking:
            self._keep_from(self.seconds - _LEAD_SECONDS)
            return []
        if final:
            words = self._recognize(self.seconds, self.seconds)
        elif silent:
            # Not to the very end: there the next speech may begin, which the detector has not heard yet.
            end = self.last_speech + MAX_PAUSE - _LEAD_SECONDS
            words = self._recognize(end, end)
        elif self.taken - self._recognized < STEP_SECONDS * self.recognizer.sample_rate:
            return []
        else:
            words = self._recognize(self.seconds, self.seconds - RIGHT_SECONDS)
            self._keep_from(max(self._settled - LEFT_SECONDS, self.seconds - _WINDOW_SECONDS))
            return words
        self._speaking, self.partial = False, ""
        self._keep_from(self.seconds - _LEAD_SECONDS)
        return words

    def quiet_since(self, end: float) -> float:
        return 0.0 if self._speaking else self.seconds - end

    def _keep_from(self, time: float) -> None:
        """Forget what was heard before `time`, seconds."""
        self._samples = self._samples[max(0, round(time * self.recognizer.sample_rate) - self._start) :]

    def _recognize(self, end: float, certain: float) -> list[Word]:
        """Recognise the window up to `end`; return new words that end before `certain`, seconds."""
        rate = self.recognizer.sample_rate
        self._recognized = self.taken
        offset = self._start / rate
        samples = self._samples[: round(end * rate) - self._start]
        if not len(samples):
            return []
        hypothesis = self.recognizer.recognize_audio([samples])[0]
        new = [
            replace(word, start=word.start + offset, end=word.end + offset)
            for word in hypothesis.words
            if offset + (word.start + word.end) / 2 > self._settled
        ]
        final = [word for word in new if word.end <= certain]
        self.partial = " ".join(word.text for word in new[len(final) :])
        if final:
            self._settled = final[-1].end
        return final
