"""Language models as the beam search asks them: one symbol at a time, in natural logarithms."""

from __future__ import annotations

import contextlib
import gzip
import math
import os
import re
import sys
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, Literal, Protocol, cast

import torch
from flashlight.lib.text.decoder.kenlm import KenLM
from flashlight.lib.text.dictionary import Dictionary
from torch import Tensor

from asr.errors import DataError
from asr.lm.rnn import BOUNDARY, RnnLm, unpack_language_model
from asr.lm.units import RESERVED, SPACE, SPLITTERS, UNK

Unit = Literal["word", "character", "piece"]

_LN10 = math.log(10)
_SENTENCEPIECE_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
_KENLM_MAGIC = b"mmap lm http://kheafield.com/code"
_GZIP_MAGIC = b"\x1f\x8b"
_HEAD = 4096

MIN_ORDER, MAX_ORDER = 2, 6
"""Of the n-gram models that KenLM reads, as flashlight-text builds it."""
_NO_UNKNOWN = -98.0
"""log10: KenLM gives -100 to ``<unk>`` in a model without it, and closed vocabularies write -99."""


class Scorer(Protocol):
    """A language model that is asked for one symbol after another.

    Attributes
    ----------
    unit : {"word", "character", "piece"}
        What a symbol is. The space between words is `SPACE` among characters.
    vocabulary : list of str
        The symbols, ``<s>``, ``</s>`` and ``<unk>`` left out.
    knows_unknown : bool
        Whether other symbols have a probability worth the name.
    """

    unit: Unit
    vocabulary: list[str]
    knows_unknown: bool

    def start(self) -> Any:
        """Return the state at the start of a sentence."""

    def score(self, state: Any, symbol: str) -> tuple[Any, float]:
        """Return the state after a symbol, and the natural logarithm of the symbol's probability."""

    def finish(self, state: Any) -> float:
        """Return the natural logarithm of the probability that the sentence ends here."""

    def unigram(self, symbol: str) -> float:
        """Return the natural logarithm of a symbol's probability without any history; 0.0 if not known."""

    def score_texts(self, texts: Sequence[str]) -> list[float]:
        """Return the natural logarithm of each sentence's probability, its end included."""


class NgramScorer:
    """An n-gram model, read by KenLM.

    Parameters
    ----------
    content : bytes
        An ARPA file, plain or gzipped, or a KenLM binary with its vocabulary.
    unit : {"word", "character", "piece"}, optional
        By default characters if every symbol is one and one of them is `SPACE`, else words.

    Raises
    ------
    DataError
        If KenLM cannot read it.
    """

    def __init__(self, content: bytes, unit: Unit | None = None) -> None:
        content = _decompress(content)
        self.vocabulary = (
            _binary_vocabulary(content) if content.startswith(_KENLM_MAGIC) else _arpa_vocabulary(content)
        )
        self.unit: Unit = unit or guess_unit(self.vocabulary)
        self._ids = {word: i for i, word in enumerate([UNK, *self.vocabulary])}
        with tempfile.NamedTemporaryFile(suffix=".arpa") as file:
            file.write(content)
            file.flush()
            try:
                with _silent_stderr():
                    self._lm = KenLM(file.name, Dictionary(list(self._ids)))
            except RuntimeError as error:
                # The first line is a place in KenLM's source, the second says what is wrong.
                reason = str(error).replace(file.name, "it").splitlines()[:2][-1].split(". ")[0]
                raise DataError(
                    f"the language model cannot be read ({reason}); KenLM reads orders {MIN_ORDER} to "
                    f"{MAX_ORDER}; make it anew with 'asr lm train'"
                ) from error
        self.knows_unknown = self.unigram(UNK) > _LN10 * _NO_UNKNOWN

    def start(self) -> Any:
        """Return the state after ``<s>``."""
        return self._lm.start(False)

    def score(self, state: Any, symbol: str) -> tuple[Any, float]:
        """Score a symbol; one outside the vocabulary counts as ``<unk>``."""
        after, log10 = self._lm.score(state, self._ids.get(symbol, 0))
        return after, _LN10 * log10

    def finish(self, state: Any) -> float:
        """Score ``</s>``."""
        return _LN10 * self._lm.finish(state)[1]

    @cached_property
    def _no_history(self) -> Any:
        return self._lm.start(True)

    def unigram(self, symbol: str) -> float:
        """Score a symbol without history."""
        return self.score(self._no_history, symbol)[1]

    def score_texts(self, texts: Sequence[str]) -> list[float]:
        """Score sentences. Raises `DataError` for a model of pieces, which words alone do not determine."""
        if self.unit == "piece":
            raise DataError("an n-gram model of pieces cannot rescore; use it with --lm, or one of words")
        found = []
        for text in texts:
            state, total = self.start(), 0.0
            for symbol in SPLITTERS[self.unit](text):
                state, score = self.score(state, symbol)
                total += score
            found.append(total + self.finish(state))
        return found


class RnnScorer:
    """A recurrent language model. Each sequence of symbols is computed once.

    Parameters
    ----------
    content : bytes
        A file that `asr.lm.rnn.save_language_model` wrote.
    """

    def __init__(self, content: bytes) -> None:
        self._lm = unpack_language_model(content, "the language model")
        self.unit = cast(Unit, self._lm.unit)
        write = {"word": str.strip, "character": lambda p: SPACE if p == " " else p, "piece": symbol_of}
        symbols = [write[self.unit](piece) for piece in self._lm.tokenizer.pieces]
        self.vocabulary = symbols[1:]
        self.knows_unknown = True
        self._ids = {symbol: i for i, symbol in enumerate(symbols) if i}

    def start(self) -> _RnnState:
        """Return the state after the sentence's start has been read."""
        return _RnnState(self._lm, None, BOUNDARY)

    def score(self, state: _RnnState, symbol: str) -> tuple[_RnnState, float]:
        """Score a symbol; one outside the vocabulary is the model's own unknown."""
        number = self._ids.get(symbol, self._lm.unknown_id)
        after = state.after.get(number)
        if after is None:
            after = state.after[number] = _RnnState(self._lm, state, number)
        return after, state.log_probs[number]

    def finish(self, state: _RnnState) -> float:
        """Score the sentence's end."""
        return state.log_probs[BOUNDARY]

    def unigram(self, symbol: str) -> float:
        """Return 0.0: there are no probabilities without history."""
        return 0.0

    def score_texts(self, texts: Sequence[str]) -> list[float]:
        """Score whole sentences at once."""
        return self._lm.score_texts(texts)


class _RnnState:
    """What a recurrent model has read; computed when it is first asked what comes next."""

    __slots__ = ("_lm", "_log_probs", "_number", "_parent", "_state", "after")

    def __init__(self, lm: RnnLm, parent: _RnnState | None, number: int) -> None:
        self._lm, self._parent, self._number = lm, parent, number
        self._state: Tensor | None = None
        self._log_probs: list[float] | None = None
        self.after: dict[int, _RnnState] = {}

    @property
    def log_probs(self) -> list[float]:
        if self._log_probs is None:
            before = self._lm.start() if self._parent is None else self._parent.state
            rows, self._state = self._lm.step(before, torch.tensor([self._number]))
            self._log_probs = rows[0].tolist()
        return self._log_probs

    @property
    def state(self) -> Tensor:
        assert self.log_probs
        assert self._state is not None
        return self._state


def symbol_of(piece: str) -> str:
    """Return how a language model of tokens writes a piece: spaces as SentencePiece's sign."""
    return piece.replace(" ", _SENTENCEPIECE_SPACE)


def load_scorer(content: bytes, unit: Unit | None = None) -> Scorer:
    """Make a scorer of a language model's file: ARPA, KenLM binary or our own recurrent model.

    Parameters
    ----------
    unit : {"word", "character", "piece"}, optional
        Of an n-gram model; a recurrent model knows its own.

    Raises
    ------
    DataError, ModelError
        If it cannot be read.
    """
    if not is_arpa(content) and not content.startswith(_KENLM_MAGIC) and b"__metadata__" in content[:_HEAD]:
        return RnnScorer(content)
    return NgramScorer(content, unit)


def is_arpa(content: bytes) -> bool:
    """Tell whether a file is ARPA text, plain or gzipped."""
    return content.startswith(_GZIP_MAGIC) or b"\\data\\" in content[:_HEAD]


def guess_unit(vocabulary: Sequence[str]) -> Unit:
    """Tell the unit from the symbols of a model."""
    return "character" if SPACE in vocabulary and all(len(word) == 1 for word in vocabulary) else "word"


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """Keep KenLM's progress bar, which it draws from C++, off the terminal."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _decompress(content: bytes) -> bytes:
    if not content.startswith(_GZIP_MAGIC):
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"the language model's gzip is damaged ({error}); copy it again") from error


def _arpa_vocabulary(content: bytes) -> list[str]:
    """Return the words of an ARPA file's unigrams; `asr.lm.arpa.read_arpa` checks the whole file."""
    section = re.search(rb"^\\1-grams:[^\n]*\n(.*?)^\\", content, re.DOTALL | re.MULTILINE)
    if section is None:
        raise DataError(
            "the language model has no section \\1-grams: and is no KenLM binary; "
            "give an ARPA file or make one with 'asr lm train'"
        )
    lines = section[1].decode("utf-8", "replace").splitlines()
    words = [fields[1] for fields in (line.split() for line in lines) if len(fields) > 1]
    return [word for word in words if word not in RESERVED]


def _binary_vocabulary(content: bytes) -> list[str]:
    """Return the words of a KenLM binary, which stand at its end, each ended by a zero byte."""
    start = content.rfind(b"<unk>\0")
    if start < 0:
        raise DataError(
            "the KenLM binary has no vocabulary in it; build it without '-i', or give the ARPA file"
        )
    words = content[start:].decode("utf-8", "replace").split("\0")
    return [word for word in words if word and word not in RESERVED]
