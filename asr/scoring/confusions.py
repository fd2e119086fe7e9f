"""Which words are confused, which utterances are worst, and what one system recognises that another does not.

Everything here is counted from the alignments of a `Score`, so that it adds up to the score's own totals.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from asr.errors import ConfigError, DataError
from asr.scoring.wer import Score


@dataclass(frozen=True)
class FrequentErrors:
    """How often each error occurs.

    Attributes
    ----------
    substitutions : Counter of (reference word, hypothesis word)
    deletions, insertions : Counter of word
    """

    substitutions: Counter[tuple[str, str]]
    deletions: Counter[str]
    insertions: Counter[str]


def frequent_errors(score: Score) -> FrequentErrors:
    """Count every substitution, deletion and insertion of a score."""
    substitutions: Counter[tuple[str, str]] = Counter()
    deletions: Counter[str] = Counter()
    insertions: Counter[str] = Counter()
    for index in np.flatnonzero(score.counts[:, 1:].any(axis=1)).tolist():
        for operation, said, recognised in score.alignments[index]:
            if operation == "S":
                substitutions[said or "", recognised or ""] += 1
            elif operation == "D":
                deletions[said or ""] += 1
            elif operation == "I":
                insertions[recognised or ""] += 1
    return FrequentErrors(substitutions, deletions, insertions)


def worst_utterances(score: Score, count: int) -> list[int]:
    """Return the indices of the utterances with the most errors, of equal ones the shorter first."""
    errors, lengths = score.counts[:, 1:].sum(axis=1), score.counts[:, :3].sum(axis=1)
    order = np.lexsort((lengths, -errors))
    return [index for index in order[:count].tolist() if errors[index]]


@dataclass(frozen=True)
class OutOfVocabulary:
    """Reference words that a vocabulary does not hold, and how they were recognised.

    Insertions belong to no reference word, so an error here is a substitution or a deletion.

    Attributes
    ----------
    words, hits : Counter of word
        How often each unseen word was said, and was recognised.
    num_words, num_hits : int
        All reference words, unseen or not, and how many of them were recognised.
    """

    words: Counter[str]
    hits: Counter[str]
    num_words: int
    num_hits: int

    @property
    def rate(self) -> float:
        """Fraction of the reference words that are unseen."""
        return self.words.total() / self.num_words if self.num_words else 0.0

    @property
    def error_rate(self) -> float:
        """Fraction of the unseen words that was missed; not a number without unseen words."""
        total = self.words.total()
        return 1 - self.hits.total() / total if total else math.nan

    @property
    def seen_error_rate(self) -> float:
        """Fraction of the other words that was missed; not a number without other words."""
        total = self.num_words - self.words.total()
        return 1 - (self.num_hits - self.hits.total()) / total if total else math.nan

    def to_dict(self, top: int) -> dict[str, Any]:
        """Return the counts and the `top` most frequent unseen words, for JSON."""
        return {
            "num_words": self.words.total(),
            "num_distinct": len(self.words),
            "rate": self.rate,
            "error_rate": None if math.isnan(self.error_rate) else self.error_rate,
            "seen_error_rate": None if math.isnan(self.seen_error_rate) else self.seen_error_rate,
            "words": [
                {"word": word, "count": count, "hits": self.hits[word]}
                for word, count in self.words.most_common(top)
            ],
        }


def out_of_vocabulary(score: Score, vocabulary: Collection[str]) -> OutOfVocabulary:
    """Find the reference words that are not in a vocabulary.

    Parameters
    ----------
    score : Score
        Of words.
    vocabulary : collection of str
        The words that a system could know, such as those of its training set, written as in the score.

    Raises
    ------
    ConfigError
        If the score is of characters.
    """
    if score.unit != "word":
        raise ConfigError("a vocabulary is one of words; score words, not characters")
    known = frozenset(vocabulary)
    words: Counter[str] = Counter()
    hits: Counter[str] = Counter()
    for aligned in score.alignments:
        for operation, said, _ in aligned:
            if said is not None and operation != "I" and said not in known:
                words[said] += 1
                hits[said] += operation == "C"
    return OutOfVocabulary(words, hits, score.hits + score.substitutions + score.deletions, score.hits)


def read_vocabulary(path: Path | str, normalization: Callable[[str], str] | None = None) -> frozenset[str]:
    """Read the words of a word list or of any file of transcripts, such as a training set's manifest.

    Parameters
    ----------
    path : Path or str
    normalization : callable, optional
        What the scored texts went through, so that the words are written alike.

    Raises
    ------
    DataError
        As `asr.scoring.read_transcripts`.
    """
    from asr.scoring.formats import read_transcripts

    texts: Iterable[str] = read_transcripts(path).texts.values()
    if normalization is not None:
        texts = map(normalization, texts)
    words = frozenset(word for text in texts for word in text.split())
    if not words:
        raise DataError(f"{path}: has no word; give a word list or the transcripts of a training set")
    return words


@dataclass(frozen=True)
class Difference:
    """The reference words (or characters) that one of two systems recognised and the other did not.

    Attributes
    ----------
    only_a, only_b : Counter of word
    """

    only_a: Counter[str]
    only_b: Counter[str]

    def to_dict(self, top: int) -> dict[str, Any]:
        """Return the totals and the `top` most frequent words of each side, for JSON."""
        return {
            f"recognised_{name}": {
                "total": words.total(),
                "words": [{"word": word, "count": count} for word, count in words.most_common(top)],
            }
            for name, words in (("only_a", self.only_a), ("only_b", self.only_b))
        }


def difference(a: Score, b: Score) -> Difference:
    """Tell which reference words one of two systems gets right that the other does not.

    Parameters
    ----------
    a, b : Score
        Of the same utterances.
    """
    only_a: Counter[str] = Counter()
    only_b: Counter[str] = Counter()
    for index in np.flatnonzero((a.counts[:, 1:] | b.counts[:, 1:]).any(axis=1)).tolist():
        said_a, right_a = _recognised(a, index)
        said_b, right_b = _recognised(b, index)
        if said_a == said_b:
            for word, by_a, by_b in zip(said_a, right_a, right_b, strict=True):
                if by_a != by_b:
                    (only_a if by_a else only_b)[word] += 1
        else:
            # They took different alternatives of the reference, so positions mean nothing.
            hits_a = Counter(word for word, right in zip(said_a, right_a, strict=True) if right)
            hits_b = Counter(word for word, right in zip(said_b, right_b, strict=True) if right)
            only_a += hits_a - hits_b
            only_b += hits_b - hits_a
    return Difference(only_a, only_b)


def _recognised(score: Score, index: int) -> tuple[list[str], list[bool]]:
    """Return an utterance's reference words and which of them were recognised."""
    aligned = [(operation, said) for operation, said, _ in score.alignments[index] if operation != "I"]
    return [said or "" for _, said in aligned], [operation == "C" for operation, _ in aligned]
