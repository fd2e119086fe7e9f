"""Word and character error rates, pooled over utterances: the one definition of them here."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from asr.errors import DataError
from asr.scoring.alignment import (
    Align,
    Alignment,
    Alignments,
    Unit,
    align_characters,
    align_words,
    character_errors,
)
from asr.scoring.alternatives import has_group
from asr.scoring.bootstrap import confidence_interval
from asr.scoring.pairing import pair

__all__ = ["Score", "align", "confidence_interval", "score"]


@dataclass(frozen=True)
class Score:
    """How far hypotheses are from their references.

    Rates are fractions, not percent, of counts pooled over all utterances. WER and CER exceed 1 where there
    are more errors than reference words or characters; without any reference word they are 0.0 if nothing was
    recognised either, and infinite otherwise. Characters are Unicode code points, the single spaces between
    words among them.

    Attributes
    ----------
    wer, cer : float
        Word and character error rate: (S + D + I) / reference length.
    ser : float
        Fraction of utterances with at least one error.
    mer, wil : float
        Match error rate and word information lost, of Morris, Maier and Green (Interspeech 2004), of the
        `unit`.
    num_words, num_characters, num_sentences : int
        Size of the references.
    substitutions, deletions, insertions, hits : int
        Of the `unit`.
    ids : tuple of str, length N
        The utterances, in the order of the references.
    references, hypotheses : tuple of str, length N
        The texts as scored: normalised, with single spaces between words; of alternatives, those that fit
        the hypothesis best.
    fields : tuple of mapping, length N
        What else is known of each utterance, such as its speaker; empty mappings if nothing is.
    counts : numpy.ndarray, int64, (N, 4)
        Hits, substitutions, deletions and insertions of the `unit` in each utterance.
    alignments : Alignments, length N
        Which word or character stands for which; an element is made when it is asked for.
    unit : {"word", "character"}
        What `counts` and `alignments` are of.
    align : {"levenshtein", "sclite"}
    alternatives, optional_words : bool
        Whether braces stood for alternatives, and parentheses for words that may be left out.
    normalization : tuple of str
        Names of the steps that the texts went through, in order.
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
    references: tuple[str, ...] = field(repr=False)
    hypotheses: tuple[str, ...] = field(repr=False)
    fields: tuple[Mapping[str, Any], ...] = field(repr=False, compare=False)
    counts: np.ndarray = field(repr=False, compare=False)
    alignments: Alignments = field(repr=False, compare=False)
    unit: Unit = "word"
    align: Align = "levenshtein"
    alternatives: bool = False
    optional_words: bool = False
    normalization: tuple[str, ...] = ()

    @property
    def error_rate(self) -> float:
        """The error rate of the `unit`: `wer` or `cer`."""
        return self.wer if self.unit == "word" else self.cer

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the single utterances, for JSON; null stands for what is not finite.

        The bounds of the 95% interval by utterance are `wer_interval`, or `cer_interval` by character.
        """
        interval = "wer_interval" if self.unit == "word" else "cer_interval"
        return {
            "wer": _finite(self.wer),
            interval: [_finite(bound) for bound in confidence_interval(self)],
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
            "unit": self.unit,
            "align": self.align,
            "alternatives": self.alternatives,
            "optional_words": self.optional_words,
            "normalization": list(self.normalization),
        }


def score(
    references: Mapping[str, str] | Sequence[str],
    hypotheses: Mapping[str, str] | Sequence[str],
    *,
    normalization: Callable[[str], str] | None = None,
    align: Align = "levenshtein",
    unit: Unit = "word",
    alternatives: bool | None = None,
    optional_words: bool = False,
    fields: Mapping[str, Mapping[str, Any]] | None = None,
) -> Score:
    """Score hypotheses against references.

    Parameters
    ----------
    references, hypotheses : mapping of id to text, or sequence of texts
        Both of one kind. Mappings are paired by id, sequences by position (their ids are "1", "2", ...).
        Words are what whitespace separates; case and punctuation count.
    normalization : callable, optional
        Applied to every text, such as an `asr.scoring.normalization.Normalization`. If it has `names`, they
        are kept in the score; if it has `hypothesis`, that is applied to hypotheses instead.
    align : {"levenshtein", "sclite"}
        Fewest errors, as jiwer; or NIST's costs, which also read words as sclite does (see
        `asr.scoring.sclite.plain_word`). sclite ignores case unless told ``-s``; here case always counts.
    unit : {"word", "character"}
        What is aligned and counted. The space between two words is a character like any other.
    alternatives : bool, optional
        Whether groups such as ``{ um / uh / @ }`` stand for any one of their wordings, with ``@`` for none,
        or braces are words. By default they stand for wordings under sclite; with levenshtein a reference
        that holds such a group is then an error, for either choice could surprise.
    optional_words : bool
        Whether a word in parentheses may be left out, which then counts as correct (sclite's ``-D``).
    fields : mapping of id to mapping, optional
        What else is known of the utterances.

    Returns
    -------
    Score

    Raises
    ------
    DataError
        If there is no utterance, an id is on one side only, the sequences differ in length, or alternatives
        are malformed or not decided on.

    Examples
    --------
    >>> score(["the cat sat", "hello"], ["the bat sat", "hello there"]).wer
    0.5
    """
    pairing = pair(_by_id(references), _by_id(hypotheses))
    said, recognised = pairing.references, list(pairing.hypotheses.values())
    if normalization is not None:
        said = {id: normalization(text) for id, text in said.items()}
        recognised = list(map(getattr(normalization, "hypothesis", normalization), recognised))
    if alternatives is None:
        alternatives = align == "sclite" or _refuse_groups(said)
    words = align_words(said, recognised, align, alternatives=alternatives, optional_words=optional_words)
    if unit == "word":
        units, num_errors = words, character_errors(words.references, words.hypotheses)
    else:
        units = align_characters(words.references, words.hypotheses, align)
        num_errors = int(units.counts[:, 1:].sum())
    num_characters = sum(map(len, words.references))
    num_words = int(words.counts[:, :3].sum())
    hits, substitutions, deletions, insertions = units.counts.sum(axis=0).tolist()
    errors = substitutions + deletions + insertions
    ids = tuple(said)
    return Score(
        wer=_rate(int(words.counts[:, 1:].sum()), num_words),
        cer=_rate(num_errors, num_characters),
        ser=float(units.counts[:, 1:].any(axis=1).mean()),
        mer=errors / (hits + errors) if errors else 0.0,
        wil=1.0
        - _preserved(hits, errors, hits + substitutions + deletions, hits + substitutions + insertions),
        num_words=num_words,
        substitutions=substitutions,
        deletions=deletions,
        insertions=insertions,
        hits=hits,
        num_characters=num_characters,
        num_sentences=len(ids),
        ids=ids,
        references=words.references,
        hypotheses=words.hypotheses,
        fields=tuple((fields or {}).get(id, {}) for id in ids),
        counts=units.counts,
        alignments=units.alignments,
        unit=unit,
        align=align,
        alternatives=alternatives,
        optional_words=optional_words,
        normalization=tuple(getattr(normalization, "names", ())),
    )


def align(reference: str, hypothesis: str) -> Alignment:
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
    return align_words({"1": reference}, [hypothesis]).alignments[0]


def _by_id(texts: Mapping[str, str] | Sequence[str]) -> Mapping[str, str]:
    if isinstance(texts, str):
        raise TypeError("expected a mapping or a sequence of texts, got one string")
    if isinstance(texts, Mapping):
        return texts
    return {str(number): text for number, text in enumerate(texts, start=1)}


def _refuse_groups(references: Mapping[str, str]) -> bool:
    for id, text in references.items():
        if has_group(text):
            raise DataError(
                f"utterance {id!r}: the reference holds alternatives in braces; score the one that fits best "
                f"with --alternatives (`alternatives=True`), or braces as words with --no-alternatives "
                f"(`alternatives=False`)"
            )
    return False


def _preserved(hits: int, errors: int, num_said: int, num_recognised: int) -> float:
    """Return the word information preserved; all of it if nothing was said and nothing recognised."""
    return (hits / num_said) * (hits / num_recognised) if hits else float(not errors)


def _rate(errors: int, length: int) -> float:
    if length == 0:
        return math.inf if errors else 0.0
    return errors / length


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
