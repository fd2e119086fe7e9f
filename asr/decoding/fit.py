"""Do the parts of a decoder fit together: the model's tokens, the language model, lexicon and hotwords?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from asr.decoding.scorers import symbol_of
from asr.errors import DataError
from asr.lm.alphabet import compare_alphabet

if TYPE_CHECKING:
    from asr.decoding.beam import BeamDecoder


def compare(decoder: BeamDecoder, pieces: Sequence[str]) -> list[str]:
    """See whether language model, lexicon and tokens speak of the same words.

    Returns
    -------
    list of str
        What is unusual, one line each.

    Raises
    ------
    DataError
        If the tokens spell no word of the language model or lexicon, or these share no word.
    """
    scorer, lexicon = decoder.scorer, decoder.lexicon
    notes = []
    refused = scorer is not None and scorer.unit == "word" and not scorer.knows_unknown
    if refused and decoder.unknown_words == "spell":
        notes.append(
            "the language model gives unknown words no probability, so they are in effect refused; to have "
            "them spelled, use a model with <unk>, such as 'asr lm train' makes without --closed"
        )
    if "lexicon" in decoder.assets and lexicon is not None:
        words = lexicon.vocabulary
        unspellable = lexicon.unspellable(pieces)
        if len(unspellable) == len(words):
            raise DataError(
                f"no word of the lexicon can be spelled with the model's tokens, such as {words[0]!r}; "
                "bring it to the model's alphabet and case"
            )
        if unspellable:
            notes.append(
                f"{len(unspellable)} of the lexicon's {len(words)} words cannot be spelled with the "
                f"model's tokens and will never be recognised, such as {unspellable[0]!r}"
            )
        if scorer is not None and scorer.unit == "word":
            known = set(scorer.vocabulary)
            missing = [word for word in words if word not in known]
            if len(missing) == len(words):
                raise DataError(
                    f"the language model has no word of the lexicon, such as {words[0]!r}; bring both to "
                    "the same spelling and case"
                )
            if missing:
                notes.append(
                    f"{len(missing)} of the lexicon's {len(words)} words are unknown to the language "
                    f"model, such as {missing[0]!r}"
                )
    elif scorer is not None and scorer.unit == "piece":
        lacking = sorted(set(map(symbol_of, pieces[1:])) - set(scorer.vocabulary))
        if lacking:
            raise DataError(
                f"the language model lacks {len(lacking)} of the model's {len(pieces) - 1} tokens, such "
                f"as {lacking[0]!r}; train it on text in these tokens"
            )
    elif scorer is not None:
        for problem in compare_alphabet(scorer.vocabulary, pieces):
            if problem.severity == "error":
                raise DataError(problem.message)
            notes.append(problem.message)
    return notes


def check_hotword(decoder: BeamDecoder, hotword: str, pieces: Sequence[str]) -> None:
    """Raise `DataError` if a hotword cannot be written."""
    if not hotword:
        raise DataError("a hotword is empty; leave it out")
    if not can_spell(hotword, pieces):
        known = set("".join(pieces))
        bad = [char for char in hotword if char not in known]
        reason = f"has {bad[0]!r}, which the model has no token for" if bad else "is not made of its tokens"
        raise DataError(
            f"hotword {hotword!r} cannot be spelled: it {reason}; write it in the model's alphabet and case"
        )
    if decoder.unknown_words == "refuse" and decoder.lexicon is not None:
        words = set(decoder.lexicon.vocabulary)
        outside = [word for word in hotword.split() if word not in words]
        if outside:
            raise DataError(
                f"hotword {hotword!r}: {outside[0]!r} is outside the lexicon, and words outside it are "
                "refused; add it to the lexicon or set unknown_words=spell"
            )


def can_spell(text: str, pieces: Sequence[str]) -> bool:
    """Tell whether pieces joined together spell a text, with or without a space before it."""
    available = set(pieces[1:])
    longest = max(map(len, available))

    def spells(string: str) -> bool:
        reached = {0}
        for end in range(1, len(string) + 1):
            starts = range(max(0, end - longest), end)
            if any(start in reached and string[start:end] in available for start in starts):
                reached.add(end)
        return len(string) in reached

    return spells(text) or spells(" " + text)
