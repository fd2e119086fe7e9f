"""The words that a decoder may write, and how the model's tokens spell them."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Self

from asr.errors import DataError

_SENTENCEPIECE_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
_BOUNDARY_TOKENS = ("|", "<space>", _SENTENCEPIECE_SPACE)
_LAST = "\U0010ffff"

Node = tuple[int, int]
"""The spellings that start with some string: first index and index after the last."""


class Lexicon:
    """Words and their spellings, kept as one sorted list in which every prefix is a range.

    Parameters
    ----------
    spellings : mapping of str to iterable of str
        The words that each spelling stands for. A spelling is what the model's tokens join up to for the
        word alone: the word itself for a model of characters or subwords, ``"K AE T"`` for one of phones.

    Raises
    ------
    DataError
        If there is none.
    """

    def __init__(self, spellings: Mapping[str, Iterable[str]]) -> None:
        self.spellings = sorted(spellings)
        self.words = [tuple(dict.fromkeys(spellings[spelling])) for spelling in self.spellings]
        if not self.spellings:
            raise DataError("the lexicon has no words; give at least one")

    @classmethod
    def from_words(cls, words: Iterable[str]) -> Self:
        """Make a lexicon of words that are spelled as they are written."""
        return cls({word: [word] for word in words})

    @classmethod
    def from_text(cls, content: str, name: str, pieces: Sequence[str]) -> Self:
        """Read a lexicon's text, one ``word<TAB or space>token token ...`` a line.

        A word may have several lines, one for each spelling. A line of a word alone spells it as it is
        written. Tokens are written as the model has them, without the space that marks the start of a word;
        ``|`` at the end, which flashlight's lexicons have, means nothing.

        Raises
        ------
        DataError
            Naming the line with a token or character that the model lacks.
        """
        known = {piece.strip(" ") for piece in pieces} - {""}
        characters = set("".join(pieces))
        spaced = _spells_words(pieces)
        spellings: dict[str, list[str]] = defaultdict(list)
        for number, line in enumerate(content.splitlines(), start=1):
            word, *tokens = line.split() or [""]
            if not word:
                continue
            tokens = [token.removeprefix(_SENTENCEPIECE_SPACE) or token for token in tokens]
            while tokens and tokens[-1] in _BOUNDARY_TOKENS:
                tokens.pop()
            unknown = [t for t in tokens if t not in known] or (
                [] if tokens else sorted(set(word) - characters)
            )
            if unknown:
                raise DataError(
                    f"{name}:{number}: {word!r} is spelled with {unknown[0]!r}, which is none of the model's "
                    f"tokens; they are {_listing(sorted(known))}"
                )
            joined = (" " if spaced else "").join(tokens) if tokens else word
            spellings[joined].append(word)
        if not spellings:
            raise DataError(f"{name}: no words in it; a line is a word and its tokens")
        return cls(spellings)

    def to_text(self) -> str:
        """Return the lexicon as lines of ``word<TAB>spelling``, for `from_stored`."""
        lines = (
            f"{word}\t{spelling}\n"
            for spelling, words in zip(self.spellings, self.words, strict=True)
            for word in words
        )
        return "".join(lines)

    @classmethod
    def from_stored(cls, content: str) -> Self:
        """Read what `to_text` wrote."""
        spellings: dict[str, list[str]] = defaultdict(list)
        for line in content.splitlines():
            word, _, spelling = line.partition("\t")
            spellings[spelling].append(word)
        return cls(spellings)

    @cached_property
    def vocabulary(self) -> list[str]:
        """All words, sorted."""
        return sorted({word for words in self.words for word in words})

    @cached_property
    def is_plain(self) -> bool:
        """Whether every word is spelled as it is written."""
        return all(words == (spelling,) for spelling, words in zip(self.spellings, self.words, strict=True))

    @property
    def root(self) -> Node:
        """The node of the empty prefix."""
        return 0, len(self.spellings)

    def descend(self, node: Node, prefix: str) -> Node:
        """Return the node of a prefix below that of a shorter one; an empty range if there is none."""
        low = bisect_left(self.spellings, prefix, *node)
        return low, bisect_left(self.spellings, prefix + _LAST, low, node[1])

    def words_at(self, node: Node, spelling: str) -> tuple[str, ...]:
        """Return the words with exactly this spelling, given the node of it."""
        low, high = node
        return self.words[low] if low < high and self.spellings[low] == spelling else ()

    def unspellable(self, pieces: Sequence[str]) -> list[str]:
        """Return the words none of whose spellings the model's pieces can write."""
        characters = set("".join(pieces)) | {" "}
        spellable = {
            word
            for spelling, words in zip(self.spellings, self.words, strict=True)
            if characters.issuperset(spelling)
            for word in words
        }
        return [word for word in self.vocabulary if word not in spellable]


def _spells_words(pieces: Sequence[str]) -> bool:
    """Tell whether each token is written apart from the others, as phones and whole words are."""
    return all(piece.startswith(" ") and piece.strip() for piece in pieces[1:])


def _listing(names: Sequence[str]) -> str:
    shown = " ".join(names[:20])
    return shown + (f" and {len(names) - 20} more" if len(names) > 20 else "")
