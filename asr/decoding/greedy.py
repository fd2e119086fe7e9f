"""Best-path decoding: the most probable token of every frame, repeats merged, blanks removed."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from asr.types import Hypothesis, Word

BLANK = 0


class GreedyDecoder:
    """Best-path decoding (Graves et al., ICML 2006, section 3.2)."""

    def __call__(
        self, log_probs: Tensor, lengths: Tensor, pieces: Sequence[str], frame_shift: float
    ) -> list[Hypothesis]:
        """Decode a batch.

        Parameters
        ----------
        log_probs : Tensor, float, (B, T, V)
        lengths : Tensor, int64, (B,)
        pieces : sequence of str, length V
            What each token adds to the text, with spaces where words part.
        frame_shift : float
            Seconds per frame.

        Returns
        -------
        list of Hypothesis, length B
            A word starts with the first frame of its first token and ends with the last frame of its
            last one; its confidence is the mean probability of its tokens, each taken at its peak.
        """
        best_BT = log_probs.max(dim=-1)
        return [
            self._collapse(ids[:length], scores[:length], pieces, frame_shift)
            for ids, scores, length in zip(
                best_BT.indices.tolist(), best_BT.values.double().tolist(), lengths.tolist(), strict=True
            )
        ]

    @staticmethod
    def _collapse(
        ids: list[int], scores: list[float], pieces: Sequence[str], frame_shift: float
    ) -> Hypothesis:
        spans: list[TokenSpan] = []
        previous = BLANK
        for t, (token, score) in enumerate(zip(ids, scores, strict=True)):
            probability = math.exp(score)
            if token != BLANK and token == previous:
                span = spans[-1]
                spans[-1] = (token, span[1], t + 1, max(span[3], probability))
            elif token != BLANK:
                spans.append((token, t, t + 1, probability))
            previous = token
        tokens = tuple(span[0] for span in spans)
        return Hypothesis(
            text="".join(pieces[token] for token in tokens).strip(),
            words=group_words(spans, pieces, frame_shift),
            tokens=tokens,
            log_prob=sum(scores),
            confidence=sum(span[3] for span in spans) / len(spans) if spans else 1.0,
        )


TokenSpan = tuple[int, int, int, float]  # token, first frame, frame after the last, probability


def group_words(spans: Sequence[TokenSpan], pieces: Sequence[str], frame_shift: float) -> tuple[Word, ...]:
    """Join tokens to words at the spaces in their pieces; times in seconds."""
    groups: list[tuple[str, list[TokenSpan], list[int]]] = []
    spaces: list[int] = []
    open_word = False
    for span in spans:
        piece = pieces[span[0]]
        if piece.startswith(" "):
            open_word = False
        text = piece.strip(" ")
        if not text:
            spaces.append(span[0])
            continue
        if not open_word:
            groups.append(("", [], spaces))
            spaces = []
        word, members, tokens = groups.pop()
        groups.append((word + text, [*members, span], [*tokens, span[0]]))
        open_word = not piece.endswith(" ")
    return tuple(
        Word(
            word,
            start=members[0][1] * frame_shift,
            end=members[-1][2] * frame_shift,
            confidence=sum(m[3] for m in members) / len(members),
            tokens=tuple(tokens),
        )
        for word, members, tokens in groups
    )
