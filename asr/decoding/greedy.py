"""Best-path decoding: the most probable token of every frame, repeats merged, blanks removed."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from asr.decoding.base import Decoder
from asr.decoding.confidence import Calibration
from asr.decoding.timing import group_words, merge_path
from asr.types import Hypothesis


class GreedyDecoder(Decoder):
    """Best-path decoding (Graves et al., ICML 2006, section 3.2).

    The best path is also the forced alignment of the text that it spells, so it has the words' times.

    Parameters
    ----------
    calibration : Calibration, optional
        Turns confidences into the probability of being right.
    """

    def __init__(self, calibration: Calibration | None = None) -> None:
        self.calibration = calibration

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
            Word times and confidence as of `asr.decoding.timing.group_words`.
        """
        best_BT = log_probs.max(dim=-1)
        return [
            self._collapse(ids[:length], scores[:length], pieces, frame_shift)
            for ids, scores, length in zip(
                best_BT.indices.tolist(), best_BT.values.double().tolist(), lengths.tolist(), strict=True
            )
        ]

    def _collapse(
        self, ids: list[int], scores: list[float], pieces: Sequence[str], frame_shift: float
    ) -> Hypothesis:
        spans = merge_path(ids, [math.exp(score) for score in scores])
        tokens = tuple(span[0] for span in spans)
        raw = sum(span[3] for span in spans) / len(spans) if spans else 1.0
        return Hypothesis(
            text="".join(pieces[token] for token in tokens).strip(),
            words=group_words(spans, pieces, frame_shift, len(ids), self.calibration),
            tokens=tokens,
            log_prob=sum(scores),
            confidence=raw if self.calibration is None else self.calibration.utterances(raw),
        )
