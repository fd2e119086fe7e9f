"""What every decoder is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from torch import Tensor

from asr.types import Hypothesis


class Decoder(ABC):
    """Turns a model's log-probabilities into hypotheses.

    Attributes
    ----------
    assets : mapping of str to bytes
        Content that the decoder needs beside its options, such as a language model; a model file keeps it.
    """

    assets: Mapping[str, bytes] = {}

    def prepare(self, pieces: Sequence[str]) -> list[str]:
        """Make ready for a model's tokens; return what a user should know, one line each.

        Raises
        ------
        DataError
            If the decoder does not fit the tokens.
        """
        return []

    @abstractmethod
    def __call__(
        self, log_probs: Tensor, lengths: Tensor, pieces: Sequence[str], frame_shift: float
    ) -> list[Hypothesis]:
        """Decode a batch.

        Parameters
        ----------
        log_probs : Tensor, float32, (B, T, V)
            Natural logarithms; token 0 is the blank.
        lengths : Tensor, int64, (B,)
            Frames of each utterance.
        pieces : sequence of str, length V
            What each token adds to the text, with spaces where words part.
        frame_shift : float
            Seconds per frame.

        Returns
        -------
        list of Hypothesis, length B
        """
