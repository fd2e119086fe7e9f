"""How well a language model predicts a text."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Perplexity:
    """How well a language model predicts a text.

    Attributes
    ----------
    unit : str
        What a word is here: "word", "character" or "piece" (of a word).
    num_sentences, num_words : int
        Sentences, and words without the ends of sentences.
    num_oov : int
        Words outside the vocabulary.
    log10_prob : float
        Of the whole text with all ends of sentences; words outside the vocabulary count as ``<unk>``.
    log10_prob_oov : float
        The part of it that these words have.
    num_text_words : int
        Words in the ordinary sense, for comparing models of different units.
    """

    unit: str
    num_sentences: int
    num_words: int
    num_oov: int
    log10_prob: float
    log10_prob_oov: float
    num_text_words: int

    @property
    def ppl(self) -> float:
        """Perplexity a word, ends of sentences counted as words (KenLM's "including OOVs")."""
        return _power(-self.log10_prob, self.num_words + self.num_sentences)

    @property
    def ppl_without_oov(self) -> float:
        """Perplexity a word when words outside the vocabulary are left out (KenLM's "excluding OOVs")."""
        return _power(
            self.log10_prob_oov - self.log10_prob, self.num_words + self.num_sentences - self.num_oov
        )

    @property
    def ppl_per_text_word(self) -> float:
        """Perplexity a word in the ordinary sense, whatever the model's unit is."""
        return _power(-self.log10_prob, self.num_text_words + self.num_sentences)

    @property
    def oov_rate(self) -> float:
        """Share of the words that are outside the vocabulary."""
        return self.num_oov / self.num_words if self.num_words else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return all figures, JSON-able; an infinite perplexity is None."""
        rates = {
            "ppl": self.ppl,
            "ppl_without_oov": self.ppl_without_oov,
            "ppl_per_text_word": self.ppl_per_text_word,
        }
        finite = {key: value if math.isfinite(value) else None for key, value in rates.items()}
        return finite | {"oov_rate": self.oov_rate} | asdict(self)


def _power(log10: float, count: int) -> float:
    exponent = log10 / count if count else 0.0
    return 10**exponent if exponent < 300 else math.inf
