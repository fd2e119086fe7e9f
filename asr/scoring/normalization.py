"""Normalisation of texts before scoring, as named steps in the order given.

Alternatives ``{ a / b / @ }`` in a text are normalised wording by wording and stay alternatives.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from asr.errors import ConfigError, DataError
from asr.scoring.characters import (
    LANGUAGES,
    accents,
    brackets,
    characters,
    lower,
    punctuation,
    symbols,
    upper,
    whisper_plain,
)
from asr.scoring.english import americanize, expand_contractions, remove_fillers, whisper_english
from asr.scoring.glm import GlobalMap
from asr.scoring.lines import bad_line, read_lines, shown
from asr.scoring.numerals import numerals

Step = Callable[[str], str]

STEPS = {
    "lower": "lower case; lower:tr, lower:az, lower:lt by the rules of a language",
    "upper": "upper case; upper:tr and upper:az likewise",
    "punctuation": "punctuation becomes a space; an apostrophe within a word stays, written '",
    "symbols": "symbols and emoji become a space",
    "brackets": "what stands in [], <> or () is left out",
    "nfc": "Unicode form NFC",
    "nfkc": "Unicode form NFKC: also full width, ligatures and other variants",
    "accents": "accents of Latin, Greek and Cyrillic letters are left out",
    "characters": "Chinese, Japanese, Thai, Lao, Khmer and Burmese one character a word",
    "contractions": "English, after lower: don't, he's, gonna as do not, he is, going to",
    "numbers": "English, after lower: number words in digits, as Whisper's normaliser writes them",
    "british": "English, after lower: British spellings as American ones",
    "fillers": "English, after lower: uh, um, er, hmm and the like are left out",
    "english": "English: all that Whisper's normaliser does",
    "glm:FILE": "NIST's rewriting rules, as SCTK's csrfilt.sh applies them",
    "rewrite:FILE": "words or phrases by others: two columns with a tab between",
}


@dataclass(frozen=True)
class Normalization:
    """Named steps, one after the other; normalising ends with single spaces between words.

    Attributes
    ----------
    names : tuple of str
        The steps, to be printed with the score.
    hypothesis : Normalization
        The same for hypotheses; another one only where a glm file has rules for one side.

    Examples
    --------
    >>> make_normalization(["lower", "punctuation"])("Don’t { Stop! / go. }")
    "don't { stop / go }"
    """

    names: tuple[str, ...]
    _steps: tuple[Step, ...] = field(repr=False)
    _hypothesis: Normalization | None = field(default=None, repr=False)

    def __call__(self, text: str) -> str:
        """Return the normalised text."""
        for step in self._steps:
            text = step(text)
        return " ".join(text.split())

    @property
    def hypothesis(self) -> Normalization:
        """The normalisation of hypotheses."""
        return self._hypothesis or self


def make_normalization(steps: Sequence[str], *, optional_words: bool = False) -> Normalization:
    """Build a normalisation.

    Parameters
    ----------
    steps : sequence of str
        Names of `STEPS`, in the order to apply. Case and punctuation count for some: ``contractions``,
        ``numbers``, ``british`` and ``fillers`` expect lower case, and ``numbers`` no punctuation but that of
        numbers.
    optional_words : bool
        Whether ``(word)`` marks a word that may be left out, as in sclite's transcripts: then the word is
        normalised and keeps its parentheses, which otherwise are punctuation like any other.

    Raises
    ------
    ConfigError
        If a step is unknown.
    DataError
        If its file cannot be used.
    """
    sides = [_side(steps, role, optional_words) for role in ("ref", "hyp")]
    hypothesis = None
    if sides[0][1]:
        hypothesis = Normalization(tuple(steps), sides[1][0])
    return Normalization(tuple(steps), sides[0][0], hypothesis)


def _side(
    steps: Sequence[str], role: Literal["ref", "hyp"], optional_words: bool
) -> tuple[tuple[Step, ...], bool]:
    """Return the steps for references or hypotheses, and whether the two differ."""
    made: list[Step] = []
    differ = False
    for name in steps:
        kind, colon, argument = name.partition(":")
        if kind == "glm" and argument:
            rules = GlobalMap.read(argument, role)
            differ = differ or rules.depends_on_role
            made.append(rules)
            continue
        step: Step | None = None
        if kind == "rewrite" and argument:
            step = _read_rewrite(Path(argument))
        elif kind in _CASES and (kind, argument) in LANGUAGES:
            step = partial(_CASES[kind], language=argument)
        elif not colon:
            step = _PLAIN.get(kind)
        if step is None:
            raise ConfigError(f"normalisation step {name!r} is unknown; choose from {', '.join(STEPS)}")
        made.append(_by_wording(step, optional_words))
    return tuple(made), differ


def _by_wording(step: Step, optional_words: bool) -> Step:
    """Apply a step outside alternatives, to each of them, and within parentheses of optional words."""

    def plain(text: str) -> str:
        if not optional_words or "(" not in text:
            return step(text)
        parts = []
        for part in re.split(r"((?<!\S)\([^()]+\)(?!\S))", text):
            if part.startswith("(") and part.endswith(")"):
                parts += [f"({word})" for word in step(part[1:-1]).split()]
            else:
                parts.append(step(part))
        return " ".join(parts)

    def apply(text: str) -> str:
        if "{" not in text:
            return plain(text)
        parts = _wordings(text)
        return plain(text) if parts is None else _joined(parts, plain)

    return apply


def _wordings(text: str) -> list[str] | None:
    """Split at braces, and at slashes between them; None if the braces are not balanced."""
    parts, depth = [""], 0
    for character in text:
        if character == "{":
            depth += 1
        elif character == "}":
            depth -= 1
        if depth < 0:
            return None
        if character in "{}" or (character == "/" and depth):
            parts += [character, ""]
        else:
            parts[-1] += character
    return parts if depth == 0 else None


def _joined(parts: Sequence[str], step: Step) -> str:
    """Normalise the texts among marks; a wording that comes out empty is ``@``, "nothing"."""
    words: list[str] = []
    opened = ""
    for part in parts:
        if part in ("{", "}", "/"):
            if opened in ("{", "/") and part in ("}", "/"):
                words.append("@")
            words.append(part)
            opened = part
            continue
        text = part.strip()
        text = text if text in ("", "@") else step(text).strip()
        if text:
            words.append(text)
            opened = ""
    return " ".join(words)


def _read_rewrite(path: Path) -> Step:
    """Read ``from<TAB>to`` lines; ``#`` starts a comment line, and an empty second column deletes."""
    table: dict[str, str] = {}
    for number, line in read_lines(path):
        if not line.strip() or line.startswith("#"):
            continue
        cells = line.split("\t")
        key = " ".join(cells[0].split())
        if len(cells) != 2 or not key:
            bad_line(path, number, f"is {shown(line)}", "write two columns with a tab between")
        if key in table:
            bad_line(path, number, f"{key!r} is there already", "keep one line for it")
        table[key] = " ".join(cells[1].split())
    if not table:
        raise DataError(f"{path}: has no line to rewrite by; write two columns with a tab between")
    longest = max(len(key.split()) for key in table)

    def rewrite(text: str) -> str:
        words = text.split()
        parts: list[str] = []
        position = 0
        while position < len(words):
            for length in range(min(longest, len(words) - position), 0, -1):
                found = table.get(" ".join(words[position : position + length]))
                if found is not None:
                    parts.append(found)
                    break
            else:
                parts.append(words[position])
            position += length
        return " ".join(parts)

    return rewrite


_CASES: dict[str, Callable[..., str]] = {"lower": lower, "upper": upper}
_PLAIN: dict[str, Step] = {
    "lower": lower,
    "upper": upper,
    "punctuation": punctuation,
    "symbols": symbols,
    "brackets": brackets,
    "nfc": partial(unicodedata.normalize, "NFC"),
    "nfkc": partial(unicodedata.normalize, "NFKC"),
    "accents": accents,
    "characters": characters,
    "contractions": expand_contractions,
    "numbers": numerals,
    "british": americanize,
    "fillers": remove_fillers,
    "english": lambda text: whisper_english(text, whisper_plain),
}
