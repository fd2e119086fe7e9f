"""A transcript as it is written, and the tokens that a model spells its words with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from asr.decoding.timing import group_tokens
from asr.text import Normalizer, Tokenizer


@dataclass(frozen=True, slots=True)
class SpelledWord:
    """A word of a transcript.

    Attributes
    ----------
    text : str
        As written.
    line : int
        Its line of the transcript, from 0.
    tokens : tuple of int
        Empty if nothing of it can be spelled.
    """

    text: str
    line: int
    tokens: tuple[int, ...]


def spell(
    text: str, normalizer: Normalizer, tokenizer: Tokenizer
) -> tuple[list[SpelledWord], Mapping[str, int]]:
    """Spell a transcript word by word.

    Characters without a token are left out of their word; with a tokenizer of words, unknown words are left
    unspelled. What the normaliser makes of a word counts: ``twenty-one`` may be two words to the model.

    Returns
    -------
    words : list of SpelledWord
    unknown : mapping of str to int
        Characters (or words) that have no token, and how often each comes.
    """
    written: list[tuple[str, int]] = []
    spoken: list[str] = []  # what the model has to spell, and for each its place in `written`
    places: list[int] = []
    unknown: Counter[str] = Counter()
    for number, line in enumerate(text.splitlines()):
        for word in line.split():
            for part in normalizer(word).split():
                lacking = tokenizer.unknown(part)
                if part in lacking:
                    unknown[part] += 1
                    continue
                unknown.update(char for char in part if char in lacking)
                part = "".join(char for char in part if char not in lacking)
                if part:
                    spoken.append(part)
                    places.append(len(written))
            written.append((word, number))
    tokens = tokenizer.encode(" ".join(spoken))
    groups = group_tokens(tokens, tokenizer.pieces)
    assert len(groups) == len(places)
    spelled: list[list[int]] = [[] for _ in written]
    for place, (_, positions) in zip(places, groups, strict=True):
        spelled[place] += [tokens[position] for position in positions]
    words = [SpelledWord(word, line, tuple(ids)) for (word, line), ids in zip(written, spelled, strict=True)]
    return words, unknown
