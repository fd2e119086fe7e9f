"""Does a language model speak of the same alphabet as an acoustic model?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from asr.lm.units import SPACE

_MAX_SHOWN = 3
_CASES: tuple[tuple[str, Callable[[str], str]], ...] = (("lower", str.lower), ("upper", str.upper))


@dataclass(frozen=True)
class AlphabetProblem:
    """Words of a language model that an acoustic model cannot spell.

    Attributes
    ----------
    severity : {"error", "warning"}
        "error" if it can spell none of them, so that the two cannot work together.
    message : str
        One line, with the remedy.
    """

    severity: Literal["error", "warning"]
    message: str


def compare_alphabet(lm_vocabulary: Iterable[str], pieces: Sequence[str]) -> list[AlphabetProblem]:
    """List what keeps a language model from an acoustic model's tokens; nothing if all words can be spelled.

    Parameters
    ----------
    lm_vocabulary : iterable of str
        `NgramModel.vocabulary`: words, or characters with `asr.lm.units.SPACE` for the space.
    pieces : sequence of str
        `asr.text.Tokenizer.pieces` of the acoustic model.
    """
    vocabulary = [word for word in lm_vocabulary if word != SPACE]
    spells = _speller(pieces)
    bad = [word for word in vocabulary if not spells(word)]
    if not bad:
        return []
    examples = ", ".join(map(repr, bad[:_MAX_SHOWN])) + (", ..." if len(bad) > _MAX_SHOWN else "")
    found = f"{len(bad)} of the language model's {len(vocabulary)} words cannot be spelled ({examples})"
    for case, change in _CASES:
        if 2 * sum(spells(change(word)) for word in bad) > len(bad):
            remedy = f"the model writes {case} case: train the language model on text in {case} case"
            break
    else:
        remedy = "train the language model with --model, on text in the model's alphabet"
    if len(bad) == len(vocabulary):
        return [AlphabetProblem("error", f"{found}; {remedy}")]
    return [AlphabetProblem("warning", f"{found} and will never be recognised; {remedy}")]


def _speller(pieces: Sequence[str]) -> Callable[[str], bool]:
    """Return a function that tells whether pieces spell a word, one by one or as a whole."""
    whole = {piece.strip() for piece in pieces}
    characters = {piece for piece in pieces if len(piece) == 1}
    return lambda word: word in whole or characters.issuperset(word)
