"""Best-path decoding of a stream: words as soon as they can no longer change."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from asr.decoding.confidence import Calibration
from asr.decoding.timing import BLANK, END_EXTENSION, TokenSpan, group_words
from asr.types import Word

SETTLE_SECONDS = 1.5
"""After so long without a token a word is over, though no space has come. In 1,300 joined digits the longest
gap between the letters of a word was 0.56 s with a one-directional LSTM, 1.6 s with one that looks ahead."""

LONGEST_WORD_SECONDS = 10.0
"""What is longer is given out, so that a model that writes no spaces is not waited for without end."""


class GreedyStream:
    """Decodes log-probabilities as they come, with the words of `GreedyDecoder` over all of them.

    A word is final when the next one begins, soon after the space that ends it, or after `SETTLE_SECONDS`
    without a token; letters that follow such a pause without a space begin a word of their own. How the
    frames are cut into pushes changes nothing.

    Parameters
    ----------
    pieces : sequence of str, length V
        What each token adds to the text, with spaces where words part.
    frame_shift : float
        Seconds per frame.
    calibration : Calibration, optional
        Applied to the words' confidence.

    Attributes
    ----------
    num_frames : int
        Taken so far.
    blanks : int
        Frames since the last token, or since the start.
    """

    def __init__(
        self, pieces: Sequence[str], frame_shift: float, calibration: Calibration | None = None
    ) -> None:
        self.pieces, self.frame_shift, self.calibration = pieces, frame_shift, calibration
        self.num_frames = self.blanks = 0
        self._spans: list[TokenSpan] = []  # of the words that are not final
        self._previous = BLANK
        self._settled = math.ceil(SETTLE_SECONDS / frame_shift)
        self._longest = math.ceil(LONGEST_WORD_SECONDS / frame_shift)
        # Beyond this gap the end of a word does not depend on where the next one starts.
        self._gap = math.ceil(2 * END_EXTENSION / frame_shift)

    @property
    def partial(self) -> str:
        """What was heard since the last final word."""
        return " ".join("".join(self.pieces[span[0]] for span in self._spans).split())

    def push(self, log_probs: Tensor) -> list[Word]:
        """Take log-probabilities, float32 (T, V); return the words that became final."""
        best = log_probs.max(dim=-1)
        words: list[Word] = []
        for token, score in zip(best.indices.tolist(), best.values.tolist(), strict=True):
            words += self._step(token, math.exp(score))
        return words

    def settle(self) -> list[Word]:
        """Return all words that are not final yet: nothing will be added to them."""
        words, self._spans = self._words(), []
        return words

    def _step(self, token: int, probability: float) -> list[Word]:
        t = self.num_frames
        self.num_frames += 1
        repeated, self._previous = token == self._previous, token
        if token == BLANK:
            self.blanks += 1
            if self.blanks == self._settled:
                return self.settle()
            closed = bool(self._spans) and self.pieces[self._spans[-1][0]].endswith(" ")
            return self._take(len(self._spans)) if closed and self.blanks == self._gap else []
        self.blanks = 0
        settled = self.settle() if self._spans and t - self._spans[0][1] > self._longest else []
        if repeated:
            if self._spans:  # else it is the end of a token that was given out
                span = self._spans[-1]
                self._spans[-1] = (token, span[1], t + 1, max(span[3], probability))
            return settled
        self._spans.append((token, t, t + 1, probability))
        return settled + self._take(len(self._words()) - 1)

    def _words(self) -> list[Word]:
        return list(
            group_words(self._spans, self.pieces, self.frame_shift, self.num_frames, self.calibration)
        )

    def _take(self, count: int) -> list[Word]:
        """Take the first `count` words out of what is not final."""
        words = self._words()[: max(0, count)]
        self._spans = self._spans[sum(len(word.tokens) for word in words) :]
        return words
