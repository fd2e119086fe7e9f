"""The words of a recording's windows as one row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from asr.types import Hypothesis, Word
from asr.windows.cutting import Window

# Words of two windows whose middles are this close, seconds, may be the same one.
_SAME_WORD = 0.2


class Joiner:
    """Makes one row of words of the hypotheses of a recording's windows, given in order.

    Examples
    --------
    ::

        joiner = Joiner()
        for window in read_windows(stream, options):
            (hypothesis,) = recognizer.recognize_audio([window.samples])
            words += joiner.add(window, hypothesis)
        words += joiner.finish()
    """

    def __init__(self) -> None:
        self._pending: list[Word] = []
        self._earliest = 0.0

    def add(self, window: Window, hypothesis: Hypothesis) -> list[Word]:
        """Take the next window's words; return those that are settled, with times in the recording.

        Words neither overlap nor go back in time.
        """
        words = [
            replace(word, start=window.start + word.start, end=min(window.start + word.end, window.end))
            for word in hypothesis.words
        ]
        if window.continues:
            keep, skip = _seam(self._pending, words, window.begin)
            settled, words = self._pending[:keep], words[skip:]
        else:
            settled = self._pending
        self._pending = words
        return self._in_order(settled)

    def finish(self) -> list[Word]:
        """Return the last words."""
        settled, self._pending = self._pending, []
        return self._in_order(settled)

    def _in_order(self, words: Sequence[Word]) -> list[Word]:
        ordered = []
        for word in words:
            start = max(word.start, self._earliest)
            self._earliest = max(word.end, start)
            ordered.append(replace(word, start=start, end=self._earliest))
        return ordered


def join(recognized: Iterable[tuple[Window, Hypothesis]]) -> Iterator[Word]:
    """Yield the words of a recording from its windows with their hypotheses, in order; see `Joiner`."""
    joiner = Joiner()
    for window, hypothesis in recognized:
        yield from joiner.add(window, hypothesis)
    yield from joiner.finish()


def _seam(before: Sequence[Word], after: Sequence[Word], cut: float) -> tuple[int, int]:
    """Return how many words to keep of the window before a cut, and how many to skip of the one after it.

    The words change hands at the one nearest to the cut that both windows have. Where they agree on none,
    each has those with their middle on its side, and of two words for one sound the more probable stays.
    """
    common = [
        (abs(_middle(a) + _middle(b) - 2 * cut), i, j)
        for i, a in enumerate(before)
        for j, b in enumerate(after)
        if a.text == b.text and abs(_middle(a) - _middle(b)) <= _SAME_WORD
    ]
    if common:
        _, keep, skip = min(common)
        return keep, skip
    keep = sum(_middle(word) < cut for word in before)
    skip = sum(_middle(word) < cut for word in after)
    if keep and skip < len(after):
        a, b = before[keep - 1], after[skip]
        shared = min(a.end, b.end) - max(a.start, b.start)
        if shared > 0.5 * min(a.end - a.start, b.end - b.start):
            return (keep, skip + 1) if a.confidence >= b.confidence else (keep - 1, skip)
    return keep, skip


def _middle(word: Word) -> float:
    return (word.start + word.end) / 2
