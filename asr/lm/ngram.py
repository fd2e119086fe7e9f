"""N-gram language models: what they are in memory, and the probability of text under them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np

from asr.errors import DataError
from asr.lm.counts import BOS_ID, EOS_ID, UNK_ID
from asr.lm.perplexity import Perplexity
from asr.lm.units import RESERVED, SPACE, SPECIAL, SPLITTERS, Unit

ZERO = -99.0
"""What ARPA files write for the logarithm of 0."""

_LINES_PER_BLOCK = 20_000


@dataclass(frozen=True)
class Level:
    """The n-grams of one order.

    Attributes
    ----------
    keys : int64 array (M,)
        ``prefix * V + word``, rising, where `prefix` is the index of the first words among the n-grams of
        the order below, `word` the id of the last word, and V the number of words.
    log10_prob : float64 array (M,)
    backoff : float64 array (M,)
        log10 of the weight of the lower order after this n-gram; 0 throughout the highest order.
    """

    keys: np.ndarray
    log10_prob: np.ndarray
    backoff: np.ndarray

    def find(self, keys: np.ndarray) -> np.ndarray:
        """Return the index of each key, -1 for what is not there."""
        if not len(self.keys):
            return np.full(len(keys), -1)
        at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[at] == keys, at, -1)


class NgramModel:
    """A back-off n-gram model.

    Parameters
    ----------
    words : sequence of str, length V
        The first three are ``<s>``, ``</s>`` and ``<unk>``.
    levels : sequence of Level
        Order 1 first; its keys are 0, 1, ... V - 1.
    """

    def __init__(self, words: Sequence[str], levels: Sequence[Level]) -> None:
        assert tuple(words[: len(SPECIAL)]) == SPECIAL
        assert len(levels[0].keys) == len(words)
        self.words = list(words)
        self.levels = list(levels)

    @property
    def order(self) -> int:
        """The largest number of words in an n-gram."""
        return len(self.levels)

    @property
    def vocabulary(self) -> list[str]:
        """The words without ``<s>``, ``</s>`` and ``<unk>``."""
        return self.words[len(SPECIAL) :]

    @property
    def counts(self) -> list[int]:
        """The number of n-grams of each order."""
        return [len(level.keys) for level in self.levels]

    @cached_property
    def unit(self) -> Unit:
        """ "character" if every word is one character and one of them stands for the space, else "word"."""
        characters = SPACE in self.vocabulary and all(len(word) == 1 for word in self.vocabulary)
        return "character" if characters else "word"

    @cached_property
    def ids(self) -> dict[str, int]:
        """The id of each word."""
        return {word: i for i, word in enumerate(self.words)}

    def columns(self, order: int, rows: slice = slice(None)) -> list[np.ndarray]:
        """Return the word ids of n-grams, an int64 array for each position."""
        keys, found = self.levels[order - 1].keys[rows], []
        for n in range(order, 1, -1):
            prefixes, last = np.divmod(keys, len(self.words))
            found.append(last)
            keys = self.levels[n - 2].keys[prefixes]
        return [keys, *found[::-1]]

    def log10_probs(self, words: Sequence[str], *, bos: bool = True, eos: bool = True) -> np.ndarray:
        """Return log10 of each word's probability after the ones before it, float64.

        Parameters
        ----------
        words : sequence of str
            Those outside the vocabulary count as ``<unk>``.
        bos : bool
            Whether the words start a sentence.
        eos : bool
            Whether the probability of the sentence's end comes last.
        """
        ids = [self.ids.get(word, UNK_ID) if word not in RESERVED else UNK_ID for word in words]
        stream = np.array([BOS_ID] * bos + ids + [EOS_ID] * eos, dtype=np.int64)
        return self._score(stream)[int(bos) :]

    def log10_prob(self, words: Sequence[str], *, bos: bool = True, eos: bool = True) -> float:
        """Return the sum of `log10_probs`."""
        return float(self.log10_probs(words, bos=bos, eos=eos).sum())

    def perplexity(self, lines: Iterable[str], unit: Unit | None = None) -> Perplexity:
        """Return the perplexity of a text, one sentence a line; blank lines are no sentences.

        Parameters
        ----------
        unit : {"word", "character"}, optional
            How lines are split; by default the model's `unit`.

        Raises
        ------
        DataError
            If there is no text.
        """
        unit = unit or self.unit
        split, ids = SPLITTERS[unit], {w: i for w, i in self.ids.items() if w not in RESERVED}
        num_sentences = num_words = num_text_words = num_oov = 0
        total = of_oov = 0.0
        lines = iter(lines)
        while block := list(islice(lines, _LINES_PER_BLOCK)):
            stream: list[int] = []
            for line in block:
                words = split(line)
                if not words:
                    continue
                stream.append(BOS_ID)
                stream += [ids.get(word, UNK_ID) for word in words]
                stream.append(EOS_ID)
                num_sentences += 1
                num_words += len(words)
                num_text_words += len(line.split())
            numbers = np.array(stream, dtype=np.int64)
            scores = self._score(numbers)
            unknown = numbers == UNK_ID
            num_oov += int(unknown.sum())
            total += float(scores[numbers != BOS_ID].sum())
            of_oov += float(scores[unknown].sum())
        if not num_sentences:
            raise DataError("there is no text to score: every line is blank")
        return Perplexity(unit, num_sentences, num_words, num_oov, total, of_oov, num_text_words)

    def sample(
        self, num_sentences: int, *, seed: int = 0, temperature: float = 1.0, max_tokens: int = 200
    ) -> list[str]:
        """Write sentences.

        Parameters
        ----------
        seed : int
            The same seed gives the same sentences.
        temperature : float
            Logarithms of probabilities are divided by it: below 1 likely sentences become likelier; 0 takes
            the best word always.
        max_tokens : int
            Where a sentence is cut that has not ended by then.
        """
        rng = np.random.default_rng(seed)
        sentences = []
        for _ in range(num_sentences):
            ids: list[int] = []
            while len(ids) < max_tokens:
                log10 = self._next_log10_probs([BOS_ID, *ids])
                log10[[BOS_ID, UNK_ID]] = -np.inf  # there is no way to write them
                if temperature == 0:
                    chosen = int(log10.argmax())
                else:
                    probs = 10 ** ((log10 - log10.max()) / temperature)
                    chosen = int(rng.choice(len(probs), p=probs / probs.sum()))
                if chosen == EOS_ID:
                    break
                ids.append(chosen)
            words = [self.words[i] for i in ids]
            sentences.append(
                "".join(words).replace(SPACE, " ") if self.unit == "character" else " ".join(words)
            )
        return sentences

    def _next_log10_probs(self, history: Sequence[int]) -> np.ndarray:
        """Return log10 of the probability of every word after a history, float64 (V,)."""
        log10 = self.levels[0].log10_prob.copy()
        for length in range(1, min(len(history), self.order - 1) + 1):
            at = history[-length]
            for level, word in zip(self.levels[1:length], history[len(history) - length + 1 :], strict=True):
                at = int(level.find(np.array([at * len(self.words) + word]))[0]) if at >= 0 else -1
            if at < 0:
                continue
            log10 += self.levels[length - 1].backoff[at]
            level = self.levels[length]
            first, last = np.searchsorted(level.keys, [at * len(self.words), (at + 1) * len(self.words)])
            log10[level.keys[first:last] % len(self.words)] = level.log10_prob[first:last]
        return log10

    def write(self, path: Path | str) -> None:
        """Write the model as ARPA text; gzipped if the name ends in ``.gz``."""
        from asr.lm.arpa import write_arpa

        write_arpa(path, self)

    def _score(self, stream: np.ndarray) -> np.ndarray:
        """Return log10 of the probability of each id after those before it back to the last ``<s>``.

        The longest n-gram that ends there counts, plus the back-off weights of the longer histories.
        """
        at = stream  # the index of the n-gram that ends at each place, -1 if the model has none
        scores = self.levels[0].log10_prob[stream]
        for lower, level in zip(self.levels, self.levels[1:], strict=False):
            history = np.full(len(stream), -1)
            history[1:] = at[:-1]
            history[stream == BOS_ID] = -1
            places = np.flatnonzero(history >= 0)
            history = history[places]
            found = level.find(history * len(self.words) + stream[places])
            scores[places] += lower.backoff[history]
            scores[places[found >= 0]] = level.log10_prob[found[found >= 0]]
            at = np.full(len(stream), -1)
            at[places] = found
        return scores
