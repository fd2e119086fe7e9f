"""English spellings: contractions, titles, hesitations, and British words as Americans write them."""

from __future__ import annotations

import re
from collections.abc import Callable

from asr.scoring.numerals import numerals
from asr.scoring.spelling import ae_stems, spellings

FILLERS = frozenset(["uh", "um", "uhm", "er", "erm", "ah", "eh", "hm", "hmm", "mm", "mmm", "mhm"])
# Those that Whisper's normaliser leaves out.
_WHISPER_FILLERS = frozenset(["hmm", "mm", "mhm", "mmm", "uh", "um"])

_WHOLE = {
    "won't": "will not",
    "can't": "can not",
    "let's": "let us",
    "ain't": "aint",
    "y'all": "you all",
    "wanna": "want to",
    "gotta": "got to",
    "gonna": "going to",
    "i'ma": "i am going to",
    "imma": "i am going to",
    "woulda": "would have",
    "coulda": "could have",
    "shoulda": "should have",
    "ma'am": "madam",
}
_TITLES = {
    "mr": "mister",
    "mrs": "missus",
    "st": "saint",
    "dr": "doctor",
    "prof": "professor",
    "capt": "captain",
    "gov": "governor",
    "ald": "alderman",
    "gen": "general",
    "sen": "senator",
    "rep": "representative",
    "pres": "president",
    "rev": "reverend",
    "hon": "honorable",
    "asst": "assistant",
    "assoc": "associate",
    "lt": "lieutenant",
    "col": "colonel",
    "jr": "junior",
    "sr": "senior",
    "esq": "esquire",
}
# In this order: the participle tells what 'd and 's stand for.
_PARTICIPLES = (
    (re.compile(r"'d (been|gone|done)\b"), r" had \1"),
    (re.compile(r"'s (been|gone|got)\b"), r" has \1"),
)
_ENDINGS = {
    "n't": " not",
    "'re": " are",
    "'s": " is",
    "'d": " would",
    "'ll": " will",
    "'t": " not",
    "'ve": " have",
    "'m": " am",
}
_ENDING = re.compile(rf"(?:{'|'.join(_ENDINGS)})\b")
_LETTERS = re.compile(r"\b[a-z]+\b")
_WORD = re.compile(r"\b[a-z]+(?:'[a-z]+)?\b")


def americanize(text: str) -> str:
    """Spell British words as Americans do.

    Examples
    --------
    >>> americanize("the colour of the theatre's programme")
    "the color of the theater's program"
    """
    table = spellings()
    text = _replace_words(text, table.get)
    if "ae" in text or "oe" in text:
        text = ae_stems().sub(lambda match: match[0].replace("ae", "e").replace("oe", "e"), text)
    return text


def expand_contractions(text: str) -> str:
    """Write contractions out: "don't" as "do not", "she's been" as "she has been", "'s" else as "is".

    A possessive is taken for a contraction, as Whisper's normaliser does; being the same on both sides, it
    costs nothing.
    """
    text = _replace_words(text, _WHOLE.get, keep_apostrophe=True)
    if "'" in text:
        for pattern, replacement in _PARTICIPLES:
            text = pattern.sub(replacement, text)
        text = _ENDING.sub(lambda match: _ENDINGS[match[0]], text)
    return text


def remove_fillers(text: str) -> str:
    """Leave out hesitations such as "um"."""
    return " ".join(word for word in text.split() if word.strip(",.?!").casefold() not in FILLERS)


def whisper_english(text: str, plain: Callable[[str], str]) -> str:
    """Normalise as Whisper's ``EnglishTextNormalizer`` does.

    Parameters
    ----------
    text : str
    plain : callable
        Removes accents, symbols and punctuation other than those of numbers.

    Returns
    -------
    str
        In lower case; without what stands in brackets, hesitations, punctuation and accents; with
        contractions and titles written out, numbers in digits, and American spellings.
    """
    text = text.lower().replace("’", "'")
    text = re.sub(r"[<\[][^>\]]*[>\]]", "", text)
    text = re.sub(r"\([^)]+\)", "", text)
    text = _replace_words(text, lambda word: "" if word in _WHISPER_FILLERS else None)
    text = re.sub(r"\s+'", "'", text)
    text = _replace_words(text, _TITLES.get)
    text = expand_contractions(text)
    text = re.sub(r"(\d),(\d)", r"\1\2", text)
    text = re.sub(r"\.([^0-9]|$)", r" \1", text)
    text = americanize(numerals(plain(text)))
    text = re.sub(r"[.$¢€£]([^0-9])", r" \1", text)
    text = re.sub(r"([^0-9])%", r"\1 ", text)
    return " ".join(text.split())


def _replace_words(
    text: str, replacement: Callable[[str], str | None], *, keep_apostrophe: bool = False
) -> str:
    """Replace whole words; with `keep_apostrophe` "let's" is one word, else "let" and "s" are two."""

    def replaced(match: re.Match[str]) -> str:
        new = replacement(match[0])
        return match[0] if new is None else new

    return (_WORD if keep_apostrophe else _LETTERS).sub(replaced, text)
