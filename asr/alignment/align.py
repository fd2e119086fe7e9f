"""When each word and character of a transcript was said, and what does not match."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from asr.alignment.spelling import SpelledWord, spell
from asr.alignment.viterbi import Costs, align_words
from asr.alignment.windows import long_log_probs
from asr.decoding.confidence import Calibration
from asr.decoding.timing import TokenSpan, group_tokens, merge_path, word_end
from asr.errors import DataError
from asr.recognizer import Recognizer
from asr.scoring import align
from asr.types import Utterance

# Frames x states that are searched as one; beyond, the recording is cut where the recogniser agrees.
_MAX_CELLS = 4_000_000
# Words in a row that must agree on either side of a cut, and the fewest frames between cuts.
_AGREEMENT = 3
_MIN_FRAMES = 500


@dataclass(frozen=True, slots=True)
class AlignedToken:
    """A character (or a piece of a word) with its times in seconds and its probability."""

    text: str
    start: float
    end: float
    confidence: float


@dataclass(frozen=True, slots=True)
class AlignedWord:
    """A word of the transcript that was found in the audio.

    Attributes
    ----------
    text : str
        As the transcript has it.
    line : int
        Of the transcript, from 0.
    start, end : float
        Seconds from the start of the utterance.
    confidence : float
        As of a recognised word: the mean probability of its tokens, calibrated if the model is.
    tokens : tuple of AlignedToken
        Each lasts until the next one starts.
    """

    text: str
    line: int
    start: float
    end: float
    confidence: float
    tokens: tuple[AlignedToken, ...]


@dataclass(frozen=True, slots=True)
class MissingWord:
    """A word of the transcript that was not found: why, and the time about which it would be.

    Attributes
    ----------
    text : str
    line : int
    reason : {"not in the audio", "cannot be spelled"}
    time : float
        Where the word before it ends, seconds.
    """

    text: str
    line: int
    reason: str
    time: float


@dataclass(frozen=True, slots=True)
class ExtraSpeech:
    """A stretch of speech that the transcript lacks, and what the model hears there; seconds."""

    start: float
    end: float
    text: str


@dataclass(frozen=True)
class TextAlignment:
    """An utterance with its transcript.

    Attributes
    ----------
    id : str
    duration : float
        Seconds.
    words : tuple of AlignedWord
        In order, none overlapping.
    missing : tuple of MissingWord
    extra : tuple of ExtraSpeech
    unknown : mapping of str to int
        Characters (or words) of the transcript that the model has no token for, with their counts.
    """

    id: str
    duration: float
    words: tuple[AlignedWord, ...]
    missing: tuple[MissingWord, ...]
    extra: tuple[ExtraSpeech, ...]
    unknown: Mapping[str, int]


def align_text(
    recognizer: Recognizer,
    utterance: Utterance,
    text: str,
    *,
    costs: Costs | None = None,
    progress: Callable[[float], None] = lambda seconds: None,
) -> TextAlignment:
    """Align a transcript with its audio.

    Parameters
    ----------
    utterance : Utterance
        Of any length; its own text is not read.
    text : str
        The transcript; its lines are kept apart.
    costs : Costs, optional
        What it takes to call a word missing.
    progress : callable
        Called with the seconds of audio done since the last call.

    Raises
    ------
    AudioError, DataError
        The audio cannot be read, or the transcript has no word that the model can spell.
    """
    pieces = recognizer.tokenizer.pieces
    spelled, unknown = spell(text, recognizer.normalizer, recognizer.tokenizer)
    words = [word for word in spelled if word.tokens]
    if not words:
        raise DataError(
            f"{utterance.id}: the transcript has no word that the model can spell; "
            f"its tokens are {', '.join(map(repr, pieces[1:41]))}{', ...' if len(pieces) > 41 else ''}"
        )
    log_probs = long_log_probs(recognizer, utterance, progress).numpy()
    places, extra = find_words(log_probs, [word.tokens for word in words], pieces, costs or Costs())
    timer = _Timer(
        log_probs,
        pieces,
        recognizer.frame_shift,
        utterance.duration,
        getattr(recognizer.decoder, "calibration", None),
    )
    times = iter(timer.words(words, places))
    found: list[AlignedWord] = []
    missing: list[MissingWord] = []
    for word in spelled:
        aligned = next(times) if word.tokens else None
        if aligned is not None:
            found.append(aligned)
        else:
            reason = "not in the audio" if word.tokens else "cannot be spelled"
            missing.append(MissingWord(word.text, word.line, reason, found[-1].end if found else 0.0))
    return TextAlignment(
        id=utterance.id,
        duration=timer.duration,
        words=tuple(found),
        missing=tuple(missing),
        extra=tuple(timer.speech(start, end) for start, end in extra),
        unknown=unknown,
    )


Place = Sequence[tuple[int, int, int]] | None
"""A word's tokens as (position in the word, first frame, frame after the last), None if it is missing."""


def find_words(
    log_probs: np.ndarray, words: Sequence[Sequence[int]], pieces: Sequence[str], costs: Costs
) -> tuple[list[Place], list[tuple[int, int]]]:
    """Align words with log-probabilities (T, V), cut where the most probable path agrees with the text.

    Returns
    -------
    places : list of Place, length W
    extra : list of (int, int)
        Frames, from and to, of speech that the words do not cover.
    """
    space = pieces.index(" ") if " " in pieces else None
    spans = _best_path(log_probs)
    places: list[Place] = []
    extra: list[tuple[int, int]] = []
    for first, last, begin, end in _slices(len(log_probs), spans, words, pieces):
        path = align_words(log_probs[begin:end], words[first:last], costs, space)
        for tokens in path.words:
            places.append(tokens and [(k, begin + start, begin + stop) for k, start, stop in tokens])
        extra += [(begin + start, begin + stop) for start, stop, _ in path.fillers]
    return places, [stretch for stretch in extra if _has_speech(spans, *stretch, pieces)]


def _best_path(log_probs: np.ndarray) -> list[TokenSpan]:
    best = log_probs.argmax(axis=1)
    return merge_path(best.tolist(), np.exp(log_probs.max(axis=1)).tolist())


def _has_speech(spans: Sequence[TokenSpan], begin: int, end: int, pieces: Sequence[str]) -> bool:
    return any(begin <= span[1] < end and pieces[span[0]].strip() for span in spans)


def _slices(
    num_frames: int, spans: Sequence[TokenSpan], words: Sequence[Sequence[int]], pieces: Sequence[str]
) -> Iterator[tuple[int, int, int, int]]:
    """Yield (first word, word after the last, first frame, frame after the last) of pieces to align.

    A cut lies before a word that the most probable path has too, with `_AGREEMENT` words on either side.
    """
    first, begin = 0, 0
    if num_frames * sum(map(len, words)) > _MAX_CELLS:
        for word, frame in _cuts(spans, words, pieces):
            if frame - begin >= _MIN_FRAMES:
                yield first, word, begin, frame
                first, begin = word, frame
    yield first, len(words), begin, num_frames


def _cuts(
    spans: Sequence[TokenSpan], words: Sequence[Sequence[int]], pieces: Sequence[str]
) -> Iterator[tuple[int, int]]:
    def written(tokens: Iterator[int] | Sequence[int]) -> str:
        # A written word may be several to the model: 20 is "twenty" and "one" in "twenty-one".
        return "".join(pieces[token] for token in tokens).strip().replace(" ", "_")

    groups = group_tokens([span[0] for span in spans], pieces)
    heard = [written([spans[i][0] for i in spoken]) for spoken, _ in groups]
    word = number = agreeing = 0
    for operation, _, _ in align(" ".join(map(written, words)), " ".join(heard)):
        agreeing = agreeing + 1 if operation == "C" else 0
        word += operation != "I"
        number += operation != "D"
        if agreeing >= 2 * _AGREEMENT:
            # The run's words are those up to `word`; the cut is `_AGREEMENT` words back, before any space.
            spoken, everything = groups[number - _AGREEMENT]
            before = spans[groups[number - _AGREEMENT - 1][0][-1]][2]
            start = spans[everything[0]][1]
            yield word - _AGREEMENT, start if everything != spoken else (before + start) // 2


class _Timer:
    """Turns frames into seconds and probabilities."""

    def __init__(
        self,
        log_probs: np.ndarray,
        pieces: Sequence[str],
        frame_shift: float,
        duration: float,
        calibration: Calibration | None,
    ) -> None:
        self.log_probs = log_probs
        self.pieces = pieces
        self.frame_shift = frame_shift
        # The last frame may end after the audio.
        self.duration = max(duration, (len(log_probs) - 1) * frame_shift)
        self.calibration = calibration

    def words(self, words: Sequence[SpelledWord], places: Sequence[Place]) -> Iterator[AlignedWord | None]:
        """Yield each word with its times, None for one without a place."""
        spoken = [
            # Spaces are tokens too, and have no part in a word's times.
            [(word.tokens[k], a, b) for k, a, b in place or () if self.pieces[word.tokens[k]].strip()]
            for word, place in zip(words, places, strict=True)
        ]
        following: list[int | None] = [None]
        for spans in reversed(spoken[1:]):
            following.append(spans[0][1] if spans else following[-1])
        for word, spans, start in zip(words, spoken, reversed(following), strict=True):
            yield self._word(word, spans, start) if spans else None

    def _word(
        self, word: SpelledWord, spans: Sequence[tuple[int, int, int]], following: int | None
    ) -> AlignedWord:
        ends = [start * self.frame_shift for _, start, _ in spans[1:]]
        ends.append(word_end(spans[-1][2], following, len(self.log_probs), self.frame_shift))
        tokens = tuple(
            AlignedToken(
                self.pieces[token].strip(),
                start * self.frame_shift,
                min(end, self.duration),
                float(np.exp(self.log_probs[start:stop, token].max())),
            )
            for (token, start, stop), end in zip(spans, ends, strict=True)
        )
        raw = sum(token.confidence for token in tokens) / len(tokens)
        confidence = raw if self.calibration is None else self.calibration.words(raw)
        return AlignedWord(word.text, word.line, tokens[0].start, tokens[-1].end, confidence, tokens)

    def speech(self, begin: int, end: int) -> ExtraSpeech:
        """Return what is heard in a stretch of frames."""
        spans = _best_path(self.log_probs[begin:end])
        text = "".join(self.pieces[span[0]] for span in spans).strip()
        return ExtraSpeech(begin * self.frame_shift, min(end * self.frame_shift, self.duration), text)
