"""Counting n-grams in memory that grows with the number of distinct ones, not with the text.

Text is read in blocks. Each block becomes an array of word ids, its n-grams integers that sort as the
n-grams do; equal ones are counted by sorting, and sorted runs are merged whenever two have about the same
length, so that every n-gram is moved a logarithmic number of times.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from asr.errors import DataError
from asr.lm.units import RESERVED, SPECIAL, SPLITTERS, Unit

BOS_ID, EOS_ID, UNK_ID = range(len(SPECIAL))
LINES_PER_BLOCK = 100_000
_RESERVED_ID = -1

Keys = tuple[np.ndarray, ...]


@dataclass
class NgramCounts:
    """The distinct n-grams of one order, sorted.

    Attributes
    ----------
    columns : list of int64 arrays (M,)
        Ids of the first, second, ... word. Before the first word of a sentence stand `BOS_ID` throughout,
        so that n-grams at the start may begin with several.
    counts : int64 array (M,)
    words : list of str
        What each id stands for; the first are `asr.lm.units.SPECIAL`.
    num_sentences, num_words, num_blank : int
        What was read; blank lines are no sentences.
    """

    columns: list[np.ndarray]
    counts: np.ndarray
    words: list[str]
    num_sentences: int = 0
    num_words: int = 0
    num_blank: int = 0


def count_ngrams(
    lines: Iterable[str], order: int, unit: Unit = "word", vocabulary: Iterable[str] | None = None
) -> NgramCounts:
    """Count the n-grams of one order, sentence starts and ends among them.

    Parameters
    ----------
    lines : iterable of str
        One sentence a line.
    vocabulary : iterable of str, optional
        Words outside it are counted as ``<unk>``. By default all words are known.

    Raises
    ------
    DataError
        If a word is one of ``<s> </s> <unk>``, naming the line; or if there is no text at all.
    """
    ids: dict[str, int] = defaultdict(lambda: len(ids) + len(SPECIAL) - len(RESERVED))
    ids.update(dict.fromkeys(RESERVED, _RESERVED_ID))
    if vocabulary is not None:
        for word in dict.fromkeys(vocabulary):
            ids[word]  # makes an id
    found = NgramCounts([], np.empty(0, np.int64), [])
    runs = _Runs(order)
    padding = [BOS_ID] * (order - 1)
    split = SPLITTERS[unit]
    lines, done = iter(lines), 0
    while block := list(islice(lines, LINES_PER_BLOCK)):
        stream: list[int] = []
        for number, line in enumerate(block, start=done + 1):
            try:
                words = split(line)
            except DataError as error:
                raise DataError(f"line {number}: {error}") from error
            if not words:
                found.num_blank += 1
                continue
            stream += padding
            if vocabulary is None:
                stream += map(ids.__getitem__, words)
            else:
                stream += [ids.get(word, UNK_ID) for word in words]
            stream.append(EOS_ID)
            found.num_words += len(words)
            found.num_sentences += 1
        numbers = np.array(stream, dtype=np.int64)
        if (numbers == _RESERVED_ID).any():
            _refuse_reserved(block, done)
        runs.add(numbers, highest=len(ids) + len(SPECIAL) - len(RESERVED) - 1)
        done += len(block)
    if not found.num_sentences:
        raise DataError("there is no text to train a language model on: every line is blank")
    found.columns, found.counts = runs.result()
    found.words = [*SPECIAL, *(word for word in ids if word not in RESERVED)]
    return found


def _refuse_reserved(block: Sequence[str], done: int) -> None:
    number, word = next(
        (i, word) for i, line in enumerate(block, start=done + 1) for word in line.split() if word in RESERVED
    )
    raise DataError(f"line {number}: {word!r} has a meaning of its own in language models; remove it")


def pack(columns: Sequence[np.ndarray], bits: int) -> Keys:
    """Put columns of ids below ``2 ** bits`` into as few uint64 arrays as hold them, the first on top."""
    per_key = 64 // bits
    keys = []
    for start in range(0, len(columns), per_key):
        key = columns[start].astype(np.uint64)
        for column in columns[start + 1 : start + per_key]:
            key = (key << np.uint64(bits)) | column.astype(np.uint64)
        keys.append(key)
    return tuple(keys)


def unpack(keys: Keys, bits: int, num_columns: int) -> list[np.ndarray]:
    """Undo `pack`."""
    per_key = 64 // bits
    mask = np.uint64((1 << bits) - 1)
    columns = []
    for i, key in enumerate(keys):
        in_key = min(per_key, num_columns - i * per_key)
        columns += [
            ((key >> np.uint64(bits * (in_key - 1 - j))) & mask).astype(np.int64) for j in range(in_key)
        ]
    return columns


def bits_for(highest: int) -> int:
    """Return the widest field in which as many ids up to `highest` share 64 bits as can."""
    return 64 // (64 // max(1, highest.bit_length()))


def sort_keys(keys: Keys) -> np.ndarray:
    """Return the indices that sort packed n-grams, equal ones in the order they come."""
    return np.argsort(keys[0], kind="stable") if len(keys) == 1 else np.lexsort(keys[::-1])


def first_of_each(keys: Keys) -> np.ndarray:
    """Return where each distinct n-gram of a sorted sequence starts."""
    changed = np.ones(len(keys[0]), dtype=bool)
    changed[1:] = False
    for key in keys:
        changed[1:] |= key[1:] != key[:-1]
    return np.flatnonzero(changed)


@dataclass
class _Runs:
    """Sorted runs of distinct n-grams with their counts, the longest first."""

    order: int
    bits: int = 8
    runs: list[tuple[Keys, np.ndarray]] = field(default_factory=list)

    def add(self, stream: np.ndarray, highest: int) -> None:
        """Count the n-grams of a stream of ids in which padding precedes every sentence."""
        if highest >> self.bits:
            wider = bits_for(highest)
            self.runs = [
                (pack(unpack(keys, self.bits, self.order), wider), counts) for keys, counts in self.runs
            ]
            self.bits = wider
        size = len(stream) - self.order + 1
        ends = stream[self.order - 1 :] != BOS_ID
        keys = pack([stream[i : i + size][ends] for i in range(self.order)], self.bits)
        self.runs.append(_collapse(keys, np.ones(len(keys[0]), dtype=np.int64)))
        while len(self.runs) > 1 and 2 * len(self.runs[-1][1]) > len(self.runs[-2][1]):
            self._merge()

    def result(self) -> tuple[list[np.ndarray], np.ndarray]:
        """Return the columns and counts of all distinct n-grams, sorted."""
        while len(self.runs) > 1:
            self._merge()
        keys, counts = self.runs.pop()
        return unpack(keys, self.bits, self.order), counts

    def _merge(self) -> None:
        (keys_b, counts_b), (keys_a, counts_a) = self.runs.pop(), self.runs.pop()
        keys = tuple(np.concatenate(pair) for pair in zip(keys_a, keys_b, strict=True))
        self.runs.append(_collapse(keys, np.concatenate([counts_a, counts_b])))


def _collapse(keys: Keys, counts: np.ndarray) -> tuple[Keys, np.ndarray]:
    order = sort_keys(keys)
    keys = tuple(key[order] for key in keys)
    starts = first_of_each(keys)
    return tuple(key[starts] for key in keys), np.add.reduceat(counts[order], starts)
