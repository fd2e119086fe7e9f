"""What an n-gram model counts: the words of a line, or its characters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from asr.errors import DataError

Unit = Literal["word", "character"]

SPACE = "|"
"""Stands for the space between words among characters, as in flashlight's lexicons: ARPA has no spaces."""

BOS, EOS, UNK = "<s>", "</s>", "<unk>"
SPECIAL = (BOS, EOS, UNK)
RESERVED = frozenset({*SPECIAL, "<UNK>"})  # KenLM reads the last as <unk> too


def split_words(line: str) -> list[str]:
    """Return the words of a line."""
    return line.split()


def split_characters(line: str) -> list[str]:
    """Return the characters of a line, runs of white space as one `SPACE`.

    Raises
    ------
    DataError
        If the line has a `SPACE` of its own.
    """
    if SPACE in line:
        raise DataError(f"{SPACE!r} stands for the space between words; remove it from the text")
    return list(SPACE.join(line.split()))


SPLITTERS: dict[Unit, Callable[[str], list[str]]] = {"word": split_words, "character": split_characters}
