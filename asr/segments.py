"""Words grouped into segments, as subtitles need them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from asr.types import Hypothesis, Segment, Word

# A pause that ends a segment, seconds.
MAX_PAUSE = 0.8
# The longest segment: Whisper's window, seconds, and two lines of a subtitle, characters.
MAX_SEGMENT_SECONDS = 30.0
MAX_SEGMENT_CHARACTERS = 84


class Segmenter:
    """Groups the words of a recording as they come.

    A segment ends at a pause of more than `MAX_PAUSE`. One that would exceed `MAX_SEGMENT_SECONDS` or
    `MAX_SEGMENT_CHARACTERS` ends at the longest pause in its second half.
    """

    def __init__(self) -> None:
        self._words: list[Word] = []

    def add(self, words: Sequence[Word]) -> list[Segment]:
        """Take the next words, in order of time; return the segments that they end."""
        ended = []
        for word in words:
            if self._words and word.start - self._words[-1].end > MAX_PAUSE:
                ended += self.finish()
            self._words.append(word)
            while len(self._words) > 1 and _too_long(self._words):
                end = _best_break(self._words)
                ended.append(_segment(self._words[:end]))
                del self._words[:end]
        return ended

    def finish(self) -> list[Segment]:
        """Return the segment that is open, if there is one."""
        ended = [_segment(self._words)] if self._words else []
        self._words = []
        return ended


def split_segments(hypothesis: Hypothesis, duration: float, offset: float = 0.0) -> tuple[Segment, ...]:
    """Group the words of a hypothesis into segments; see `Segmenter`.

    Parameters
    ----------
    hypothesis : Hypothesis
    duration : float
        Of the audio that was recognised, seconds; no word ends later.
    offset : float
        Added to all times, seconds.

    Returns
    -------
    tuple of Segment
        Empty if there are no words. `avg_logprob` is the mean over the tokens of the logarithm of
        their word's confidence.
    """
    words = []
    earliest = 0.0
    for word in hypothesis.words:
        start = min(max(word.start, earliest), duration)
        earliest = min(max(word.end, start), duration)
        words.append(replace(word, start=offset + start, end=offset + earliest))
    segmenter = Segmenter()
    return (*segmenter.add(words), *segmenter.finish())


def _too_long(words: Sequence[Word]) -> bool:
    characters = sum(len(word.text) + 1 for word in words) - 1
    return characters > MAX_SEGMENT_CHARACTERS or words[-1].end - words[0].start > MAX_SEGMENT_SECONDS


def _best_break(words: Sequence[Word]) -> int:
    """Return how many words to take: up to the longest pause in the second half, the last of equal ones."""
    candidates = range(max(len(words) // 2, 1), len(words))
    # Times are multiples of the model's frame shift: pauses that differ by less are equal.
    return max(candidates, key=lambda i: (round(words[i].start - words[i - 1].end, 3), i))


def _segment(words: Sequence[Word]) -> Segment:
    log_probs = [math.log(max(word.confidence, 1e-10)) for word in words for _ in word.tokens]
    return Segment(
        start=words[0].start,
        end=words[-1].end,
        text=" ".join(word.text for word in words),
        words=tuple(words),
        tokens=tuple(token for word in words for token in word.tokens),
        avg_logprob=sum(log_probs) / len(log_probs) if log_probs else 0.0,
    )
