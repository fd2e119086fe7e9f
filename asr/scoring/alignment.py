"""Align texts word by word or character by character.

By default errors are fewest and all kinds cost the same. Several alignments can have the fewest errors; which
one is taken decides how many of them are substitutions. Here it is rapidfuzz's, the engine of jiwer, so that
every count equals jiwer's. The other choice is NIST's (`asr.scoring.sclite`).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal, cast, overload

import numpy as np
from rapidfuzz.distance import Levenshtein

from asr.scoring import alternatives as wordings
from asr.scoring import sclite

Operation = Literal["C", "S", "D", "I"]
Alignment = list[tuple[Operation, str | None, str | None]]
Align = Literal["levenshtein", "sclite"]
Unit = Literal["word", "character"]

_LETTERS: dict[str, Operation] = {"equal": "C", "replace": "S", "delete": "D", "insert": "I"}
_EQUAL_COSTS = wordings.Costs(substitution=1, gap=1, optional=0, null=0)
_FIRST_ID = 0xE000  # past the surrogates


class Alignments(Sequence[Alignment]):
    """The alignments of many utterances; an element is made when it is asked for.

    Parameters
    ----------
    operations : sequence of str
        For each utterance its operations in order, a letter each: C correct, S substituted, D deleted,
        I inserted.
    references, hypotheses : sequence of str
        The texts.
    unit : {"word", "character"}
    paths : mapping of int to Path
        The words of those utterances in which the texts say them otherwise.
    """

    def __init__(
        self,
        operations: Sequence[str],
        references: Sequence[str],
        hypotheses: Sequence[str],
        unit: Unit,
        paths: Mapping[int, wordings.Path],
    ) -> None:
        self.operations = operations
        self._references = references
        self._hypotheses = hypotheses
        self._split = str.split if unit == "word" else list
        self._paths = paths

    def __len__(self) -> int:
        return len(self.operations)

    @overload
    def __getitem__(self, index: int) -> Alignment: ...
    @overload
    def __getitem__(self, index: slice) -> list[Alignment]: ...
    def __getitem__(self, index: int | slice) -> Alignment | list[Alignment]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        said, recognised = map(iter, self.words(index))
        return [
            (
                cast(Operation, letter),
                None if letter == "I" else next(said),
                None if letter == "D" else next(recognised),
            )
            for letter in self.operations[index]
        ]

    def words(self, index: int) -> tuple[list[str], list[str]]:
        """Return what the letters but I, and those but D, each take one of."""
        index = range(len(self))[index]
        if path := self._paths.get(index):
            return path.reference, path.hypothesis
        return self._split(self._references[index]), self._split(self._hypotheses[index])


@dataclass(frozen=True)
class Aligned:
    """Utterances, aligned.

    Attributes
    ----------
    references, hypotheses : tuple of str, length N
        The texts with single spaces between words; of alternatives, those that were taken.
    alignments : Alignments, length N
    counts : numpy.ndarray, int64, (N, 4)
        How many of C, S, D and I each utterance has.
    """

    references: tuple[str, ...]
    hypotheses: tuple[str, ...]
    alignments: Alignments
    counts: np.ndarray


def align_words(
    references: Mapping[str, str],
    hypotheses: Sequence[str],
    align: Align = "levenshtein",
    *,
    alternatives: bool = False,
    optional_words: bool = False,
) -> Aligned:
    """Align the words of utterances; for the parameters see `asr.scoring.score`.

    Parameters
    ----------
    references : mapping of id to text
    hypotheses : sequence of str
        In the same order.

    Raises
    ------
    DataError
        If braces are malformed, or an utterance is too long for sclite's costs.
    """
    ids = tuple(references)
    said = [text.split() for text in references.values()]
    recognised = [text.split() for text in hypotheses]
    read = sclite.plain_word if align == "sclite" else str
    costs = sclite.COSTS if align == "sclite" else _EQUAL_COSTS
    # Networks are slow, so they are only for texts with a choice.
    choice = re.compile("|".join([r"\{|(?:^| )@(?: |$)"] * alternatives + [r"(?:^| )\("] * optional_words))
    paths = {}
    for index, (x, y) in enumerate(zip(said, recognised, strict=True)) if choice.pattern else ():
        if not choice.search(" ".join(x + y)):
            continue
        said_wording, recognised_wording = (wordings.parse(w, ids[index], alternatives) for w in (x, y))
        path = wordings.best_path(said_wording, recognised_wording, costs, optional_words, read)
        paths[index] = path
        said[index], recognised[index] = path.scored, [word for word in path.hypothesis if word]
    if align == "sclite":
        said, recognised = sclite.plain_words(said), sclite.plain_words(recognised)
    operations = sclite.align_all(said, recognised) if align == "sclite" else _levenshtein(said, recognised)
    for index, path in paths.items():
        operations[index] = path.operations
    texts = tuple(map(" ".join, said)), tuple(map(" ".join, recognised))
    return Aligned(*texts, Alignments(operations, *texts, "word", paths), _count(operations))


def align_characters(
    references: Sequence[str], hypotheses: Sequence[str], align: Align = "levenshtein"
) -> Aligned:
    """Align the characters (code points) of texts; a space is one like any other."""
    if align == "sclite":
        operations = sclite.align_all(references, hypotheses)
    else:
        operations = [_letters(*texts) for texts in zip(references, hypotheses, strict=True)]
    texts = tuple(references), tuple(hypotheses)
    return Aligned(*texts, Alignments(operations, *texts, "character", {}), _count(operations))


def character_errors(references: Sequence[str], hypotheses: Sequence[str]) -> int:
    """Return the fewest character edits that make each reference its hypothesis, in all."""
    return sum(map(Levenshtein.distance, references, hypotheses))


def _levenshtein(references: Sequence[list[str]], hypotheses: Sequence[list[str]]) -> list[str]:
    # A character for each word is compared faster than the word, as far as there are code points.
    ids = count(_FIRST_ID)
    id_of: defaultdict[str, str] = defaultdict(lambda: chr(next(ids)))
    get = id_of.__getitem__
    try:
        return [
            _letters("".join(map(get, x)), "".join(map(get, y)))
            for x, y in zip(references, hypotheses, strict=True)
        ]
    except ValueError:
        return [_letters(x, y) for x, y in zip(references, hypotheses, strict=True)]


def _letters(reference: Sequence[str], hypothesis: Sequence[str]) -> str:
    opcodes: list[Any] = Levenshtein.opcodes(reference, hypothesis).as_list()
    return "".join([_LETTERS[tag] * max(i2 - i1, j2 - j1) for tag, i1, i2, j1, j2 in opcodes])


def _count(operations: Sequence[str]) -> np.ndarray:
    rows = [(o.count("C"), o.count("S"), o.count("D"), o.count("I")) for o in operations]
    return np.array(rows, dtype=np.int64)
