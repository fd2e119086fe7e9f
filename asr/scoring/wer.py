"""Word and character error rates, pooled over utterances, with a bootstrap interval.

The alignment is jiwer's: fewest errors, all kinds at equal cost. NIST's sclite weighs a substitution 4 and
an insertion or deletion 3, so its total is never lower and its split can differ.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import jiwer
import numpy as np

from asr.scoring.pairing import pair

Operation = Literal["C", "S", "D", "I"]

_OPERATIONS: dict[str, Operation] = {"equal": "C", "substitute": "S", "delete": "D", "insert": "I"}
_BLOCK = 1_000_000


@dataclass(frozen=True)
class Score:
    """How far hypotheses are from their references.

    Rates are fractions, not percent, of counts pooled over all utterances. WER and CER exceed 1 where there
    are more errors than reference words or characters; without any reference word they are 0.0 if nothing was
    recognised either, and infinite otherwise.

    Attributes
    ----------
    wer, cer : float
        Word and character error rate: (S + D + I) / reference length. Spaces between words are characters.
    ser : float
        Fraction of utterances with at least one word error.
    mer, wil : float
        Match error rate and word information lost, of Morris, Maier and Green (Interspeech 2004).
    num_words, num_characters, num_sentences : int
        Size of the references.
    substitutions, deletions, insertions, hits : int
        Words.
    ids : tuple of str, length N
        The utterances, in the order of the references.
    counts : numpy.ndarray, int64, (N, 4)
        Hits, substitutions, deletions and insertions of words in each utterance.
    """

    wer: float
    cer: float
    ser: float
    mer: float
    wil: float
    num_words: int
    substitutions: int
    deletions: int
    insertions: int
    hits: int
    num_characters: int
    num_sentences: int
    ids: tuple[str, ...] = field(repr=False)
    counts: np.ndarray = field(repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the single utterances, for JSON; null stands for what is not finite."""
        return {
            "wer": _finite(self.wer),
            "wer_interval": [_finite(bound) for bound in confidence_interval(self)],
            "cer": _finite(self.cer),
            "ser": self.ser,
            "mer": self.mer,
            "wil": self.wil,
            "num_words": self.num_words,
            "substitutions": self.substitutions,
            "deletions": self.deletions,
            "insertions": self.insertions,
            "hits": self.hits,
            "num_characters": self.num_characters,
            "num_sentences": self.num_sentences,
        }


def score(
    references: Mapping[str, str] | Sequence[str], hypotheses: Mapping[str, str] | Sequence[str]
) -> Score:
    """Score hypotheses against references.

    Parameters
    ----------
    references, hypotheses : mapping of id to text, or sequence of texts
        Both of one kind. Mappings are paired by id, sequences by position (their ids are "1", "2", ...).
        Words are what whitespace separates; case and punctuation count.

    Returns
    -------
    Score

    Raises
    ------
    DataError
        If there is no utterance, an id is on one side only, or the sequences differ in length.

    Examples
    --------
    >>> score(["the cat sat", "hello"], ["the bat sat", "hello there"]).wer
    0.5
    """
    pairing = pair(_by_id(references), _by_id(hypotheses))
    reference_texts = [_normalise(text) for text in pairing.references.values()]
    hypothesis_texts = [_normalise(text) for text in pairing.hypotheses.values()]
    words = jiwer.process_words(reference_texts, hypothesis_texts)
    characters = jiwer.process_characters(reference_texts, hypothesis_texts)

    counts = np.array([_count(chunks) for chunks in words.alignments], dtype=np.int64)
    hits, substitutions, deletions, insertions = counts.sum(axis=0).tolist()
    num_words = hits + substitutions + deletions
    num_characters = characters.hits + characters.substitutions + characters.deletions
    character_errors = characters.substitutions + characters.deletions + characters.insertions
    return Score(
        wer=_rate(substitutions + deletions + insertions, num_words),
        cer=_rate(character_errors, num_characters),
        ser=float(counts[:, 1:].any(axis=1).mean()),
        mer=float(words.mer),
        wil=float(words.wil),
        num_words=num_words,
        substitutions=substitutions,
        deletions=deletions,
        insertions=insertions,
        hits=hits,
        num_characters=num_characters,
        num_sentences=len(counts),
        ids=tuple(pairing.references),
        counts=counts,
    )


def align(reference: str, hypothesis: str) -> list[tuple[Operation, str | None, str | None]]:
    """Align two texts word by word.

    Returns
    -------
    list of (operation, reference word or None, hypothesis word or None)
        The operation is sclite's letter: C correct, S substituted, D deleted, I inserted.

    Examples
    --------
    >>> align("the cat sat", "the cat sat down")[-1]
    ('I', None, 'down')
    """
    output = jiwer.process_words([_normalise(reference)], [_normalise(hypothesis)])
    reference_words, hypothesis_words = output.references[0], output.hypotheses[0]
    aligned: list[tuple[Operation, str | None, str | None]] = []
    for chunk in output.alignments[0]:
        for index in range(_length(chunk)):
            aligned.append(
                (
                    _OPERATIONS[chunk.type],
                    None if chunk.type == "insert" else reference_words[chunk.ref_start_idx + index],
                    None if chunk.type == "delete" else hypothesis_words[chunk.hyp_start_idx + index],
                )
            )
    return aligned


def confidence_interval(
    score: Score, level: float = 0.95, samples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Bootstrap interval of the word error rate, by utterance.

    Utterances are drawn with replacement and the counts of each draw pooled (Bisani and Ney, ICASSP 2004);
    the bounds are percentiles of the resulting rates. Draws without a reference word have no rate and are
    left out.

    Parameters
    ----------
    score : Score
    level : float
        Probability that the interval covers, in (0, 1).
    samples : int
        Number of draws.
    seed : int

    Returns
    -------
    low, high : float
        Fractions. Not a number with fewer than two utterances or without reference words.
    """
    errors, words = score.counts[:, 1:].sum(axis=1), score.counts[:, :3].sum(axis=1)
    if len(errors) < 2 or not words.any():
        return math.nan, math.nan
    generator = np.random.default_rng(seed)
    rates = []
    draws_at_once = max(1, _BLOCK // len(errors))
    for start in range(0, samples, draws_at_once):
        drawn = generator.integers(len(errors), size=(min(draws_at_once, samples - start), len(errors)))
        drawn_words = words[drawn].sum(axis=1)
        valid = drawn_words > 0
        rates.append(errors[drawn].sum(axis=1)[valid] / drawn_words[valid])
    low, high = np.quantile(np.concatenate(rates), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _by_id(texts: Mapping[str, str] | Sequence[str]) -> Mapping[str, str]:
    if isinstance(texts, str):
        raise TypeError("expected a mapping or a sequence of texts, got one string")
    if isinstance(texts, Mapping):
        return texts
    return {str(number): text for number, text in enumerate(texts, start=1)}


def _normalise(text: str) -> str:
    """Put single spaces between words: jiwer would take a lone tab or line end for part of a word."""
    return " ".join(text.split())


def _length(chunk: jiwer.AlignmentChunk) -> int:
    return max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)


def _count(chunks: Iterable[jiwer.AlignmentChunk]) -> list[int]:
    counts: dict[str, int] = dict.fromkeys(_OPERATIONS.values(), 0)
    for chunk in chunks:
        counts[_OPERATIONS[chunk.type]] += _length(chunk)
    return list(counts.values())


def _rate(errors: int, length: int) -> float:
    if length == 0:
        return math.inf if errors else 0.0
    return errors / length


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
