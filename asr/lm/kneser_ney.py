"""Modified Kneser-Ney smoothing with interpolation.

S. F. Chen and J. Goodman, "An empirical study of smoothing techniques for language modeling", Harvard
TR-10-98 (1998), section 3 and equations 26 and 27, with the conventions of KenLM's lmplz (K. Heafield et
al., "Scalable modified Kneser-Ney language model estimation", ACL 2013): n-grams that begin with ``<s>``
keep their counts in the lower orders, unigrams are interpolated with the uniform distribution over the
vocabulary, ``<unk>`` among it, and pruned n-grams leave their whole counts to the back-off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from asr.errors import ConfigError
from asr.lm.counts import (
    BOS_ID,
    UNK_ID,
    NgramCounts,
    bits_for,
    count_ngrams,
    first_of_each,
    pack,
    sort_keys,
)
from asr.lm.ngram import ZERO, Level, NgramModel
from asr.lm.units import SPECIAL, Unit

FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)
"""Taken for an order whose counts of counts do not give discounts, as lmplz's ``--discount_fallback``."""


def train_ngram(
    lines: Iterable[str],
    order: int,
    *,
    unit: Unit = "word",
    prune: Sequence[int] = (),
    vocabulary: Iterable[str] | None = None,
    limit: int | None = None,
    closed: bool = False,
    note: Callable[[str], None] = lambda message: None,
) -> NgramModel:
    """Train an n-gram model.

    Parameters
    ----------
    lines : iterable of str
        Normalised text, one sentence a line; read once. Blank lines are no sentences.
    order : int
        The largest number of words in an n-gram.
    unit : {"word", "character"}
    prune : sequence of int
        For each order from 1, the largest count of n-grams to leave out; the last goes for the orders above,
        too. The first must be 0 (`limit` leaves out words), and none may be lower than the one before.
    vocabulary : iterable of str, optional
        The words that the model knows, whether they are in the text or not. By default the text's.
    limit : int, optional
        Keep only so many of the most frequent words.
    closed : bool
        Give words outside the vocabulary no probability: n-grams with ``<unk>`` are left out, and
        ``<unk>`` itself is written as log10 probability -99. Otherwise what `vocabulary` and `limit` leave
        out is counted as ``<unk>``, which has a share of the probability in any case.
    note : callable
        Told in words what is out of the ordinary.

    Raises
    ------
    DataError
        If there is no text, or a line has ``<s>``, ``</s>`` or ``<unk>``.
    ConfigError
        If an option is out of range.
    """
    if order < 1:
        raise ConfigError(f"order: must be 1 or more, found {order}")
    if limit is not None and limit < 1:
        raise ConfigError(f"limit: must be 1 or more, found {limit}")
    thresholds = prune_thresholds(prune, order)
    counts = count_ngrams(lines, order, unit, vocabulary)
    if counts.num_blank:
        note(f"{counts.num_blank} blank lines left out")
    _sort_vocabulary(counts, limit)
    num_oov = int(counts.counts[counts.columns[-1] == UNK_ID].sum())
    if num_oov:
        note(f"{num_oov} of {counts.num_words} words are outside the vocabulary and count as <unk>")
    estimator = _Estimator(counts.words, closed, note)
    for n, grams in enumerate(_all_orders(counts), start=1):
        estimator.add_order(n, grams, thresholds[n - 1])
    return NgramModel(counts.words, estimator.levels)


def prune_thresholds(prune: Sequence[int], order: int) -> list[int]:
    """Return a threshold for every order.

    Raises
    ------
    ConfigError
        If they are negative, fall, are too many, or drop words.
    """
    thresholds = [*prune, *[prune[-1] if prune else 0] * (order - len(prune))]
    if len(prune) > order or thresholds != sorted(thresholds) or thresholds[0] != 0:
        raise ConfigError(
            f"prune: expected up to {order} counts that begin with 0 and do not fall, as 0 0 1, found "
            f"{' '.join(map(str, prune))}; to leave out rare words use limit"
        )
    return thresholds


def _sort_vocabulary(counts: NgramCounts, limit: int | None) -> None:
    """Number the words alphabetically, and make all but the `limit` most frequent ones ``<unk>``."""
    words = counts.words
    kept = np.array(range(len(SPECIAL), len(words)))
    if limit is not None and limit < len(kept):
        frequency = np.zeros(len(words), dtype=np.int64)
        np.add.at(frequency, counts.columns[-1], counts.counts)
        kept = np.array(sorted(kept, key=lambda i: (-frequency[i], words[i]))[:limit])
    kept = np.array(sorted(kept, key=words.__getitem__), dtype=np.int64)
    new_ids = np.full(len(words), UNK_ID)
    new_ids[: len(SPECIAL)] = range(len(SPECIAL))
    new_ids[kept] = np.arange(len(kept)) + len(SPECIAL)
    counts.words = [*SPECIAL, *(words[i] for i in kept)]
    columns = [new_ids[column] for column in counts.columns]
    keys = pack(columns, bits_for(len(counts.words) - 1))
    order = sort_keys(keys)
    starts = first_of_each(tuple(key[order] for key in keys))
    counts.columns = [column[order][starts] for column in columns]
    counts.counts = np.add.reduceat(counts.counts[order], starts)


@dataclass(frozen=True)
class _Grams:
    """The distinct n-grams of one order, sorted; `counts` is how often each occurs in the text.

    `adjusted` is what Kneser-Ney counts: before how many different words the n-gram occurs, or `counts`
    for the highest order and for what begins with ``<s>``, before which there is nothing.
    """

    columns: list[np.ndarray]
    counts: np.ndarray
    adjusted: np.ndarray


def _all_orders(counts: NgramCounts) -> list[_Grams]:
    """Return the n-grams of all orders, 1 first, from those of the highest."""
    columns, raw, adjusted = counts.columns, counts.counts, counts.counts
    bits = bits_for(len(counts.words) - 1)
    found = []
    while True:
        # Of the n-grams at the start of a sentence, those with more than one <s> are padding.
        real = slice(None) if len(columns) == 1 else (columns[0] != BOS_ID) | (columns[1] != BOS_ID)
        found.append(_Grams([column[real] for column in columns], raw[real], adjusted[real]))
        if len(columns) == 1:
            return found[::-1]
        keys = pack(columns[1:], bits)
        order = sort_keys(keys)
        starts = first_of_each(tuple(key[order] for key in keys))
        distinct = np.diff(starts, append=len(order))
        columns = [column[order[starts]] for column in columns[1:]]
        raw = np.add.reduceat(raw[order], starts)
        adjusted = np.where(columns[0] == BOS_ID, raw, distinct)


class _Estimator:
    """Turns counts into probabilities, order by order from 1.

    Attributes
    ----------
    levels : list of Level
        Orders done so far.
    """

    def __init__(self, words: Sequence[str], closed: bool, note: Callable[[str], None]) -> None:
        self.levels: list[Level] = []
        self._size = len(words)
        self._closed = closed
        self._note = note
        # Of the highest order done: each n-gram's probability, and its index without the first word among
        # the n-grams of the order below.
        self._probs = np.empty(0)
        self._suffixes = np.empty(0, np.int64)

    def add_order(self, n: int, grams: _Grams, threshold: int) -> None:
        """Estimate the n-grams of the next order."""
        if self._closed:
            known = np.logical_and.reduce([column != UNK_ID for column in grams.columns])
            grams = _Grams([c[known] for c in grams.columns], grams.counts[known], grams.adjusted[known])
        if not len(grams.counts):
            self._note(f"order {n}: the text has no {n}-grams")
            self.levels.append(Level(np.empty(0, np.int64), np.empty(0), np.empty(0)))
            return
        discounts = self._discounts(n, grams.adjusted)
        if n == 1:
            self._add_unigrams(grams, discounts)
        else:
            self._add_higher(grams, discounts, grams.counts > threshold)

    def _add_unigrams(self, grams: _Grams, discounts: np.ndarray) -> None:
        adjusted = np.zeros(self._size)
        adjusted[grams.columns[0]] = grams.adjusted
        outcomes = np.ones(self._size, dtype=bool)
        outcomes[BOS_ID] = False
        outcomes[UNK_ID] = not self._closed
        discount = discounts[np.minimum(adjusted, 3).astype(np.int64)]
        total = adjusted.sum()
        probs = (adjusted - discount) / total + discount.sum() / total / outcomes.sum()
        self._probs = np.where(outcomes, probs, 0.0)
        self._suffixes = np.zeros(self._size, dtype=np.int64)
        self.levels.append(Level(np.arange(self._size), _log10(self._probs), np.zeros(self._size)))

    def _add_higher(self, grams: _Grams, discounts: np.ndarray, keep: np.ndarray) -> None:
        history = first_of_each(tuple(grams.columns[:-1]))
        group = np.zeros(len(keep), dtype=np.int64)
        group[history[1:]] = 1
        group = np.cumsum(group)
        adjusted = grams.adjusted.astype(np.float64)
        discount = np.where(keep, discounts[np.minimum(grams.adjusted, 3)], adjusted)
        total = np.add.reduceat(adjusted, history)
        backoff = np.add.reduceat(discount, history) / total

        has_kept = np.logical_or.reduceat(keep, history)
        prefix = np.full(len(history), -1)
        prefix[has_kept] = self._find([column[history[has_kept]] for column in grams.columns[:-1]])
        self.levels[-1].backoff[prefix[has_kept]] = _log10(backoff[has_kept])

        group, last = group[keep], grams.columns[-1][keep]
        lower = self.levels[-1]
        prefixes = prefix[group]
        suffixes = last if len(grams.columns) == 2 else self._find_suffixes(prefixes, last)
        probs = (adjusted - discount)[keep] / total[group] + backoff[group] * self._probs[suffixes]
        keys = prefixes * self._size + last
        assert len(lower.keys) * self._size < 2**63, "too many n-grams for 64-bit keys"
        self.levels.append(Level(keys, _log10(probs), np.zeros(len(keys))))
        self._probs, self._suffixes = probs, suffixes

    def _find_suffixes(self, prefixes: np.ndarray, last: np.ndarray) -> np.ndarray:
        found = self.levels[-1].find(self._suffixes[prefixes] * self._size + last)
        assert (found >= 0).all(), "an n-gram without its lower order"
        return found

    def _find(self, columns: Sequence[np.ndarray]) -> np.ndarray:
        """Return the index of n-grams that are there."""
        at = columns[0]
        for level, column in zip(self.levels[1:], columns[1:], strict=True):
            at = level.find(at * self._size + column)
        assert (at >= 0).all(), "an n-gram without its history"
        return at

    def _discounts(self, n: int, adjusted: np.ndarray) -> np.ndarray:
        """Return what is taken off counts of 0, 1, 2, and 3 or more (equation 26)."""
        t1, t2, t3, t4 = (int((adjusted == k).sum()) for k in (1, 2, 3, 4))
        if t1 and t2 and t3:
            y = t1 / (t1 + 2 * t2)
            found = [1 - 2 * y * t2 / t1, 2 - 3 * y * t3 / t2, 3 - 4 * y * t4 / t3]
            if all(0 <= d <= k for k, d in enumerate(found, start=1)):
                return np.array([0.0, *found])
        self._note(
            f"order {n}: too few {n}-grams to estimate discounts from; took "
            f"{', '.join(map(str, FALLBACK_DISCOUNTS))}"
        )
        return np.array([0.0, *FALLBACK_DISCOUNTS])


def _log10(probs: np.ndarray) -> np.ndarray:
    """Return logarithms of at most 0, `ZERO` for those of 0."""
    return np.log10(np.clip(probs, 10.0**ZERO, 1.0))
