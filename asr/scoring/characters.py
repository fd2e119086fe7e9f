"""Normalisation of characters: case, punctuation, accents and word breaks in any script."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

_TURKIC = str.maketrans({"I": "ı", "İ": "i"})
_TURKIC_UPPER = str.maketrans({"i": "İ", "ı": "I"})
LANGUAGES = {("lower", "tr"), ("lower", "az"), ("lower", "lt"), ("upper", "tr"), ("upper", "az")}
# Unicode's Lithuanian rule: a dot above that only shows under an accent is not part of the spelling.
_LITHUANIAN = str.maketrans({"Ì": "i\u0307\u0300", "Í": "i\u0307\u0301", "Ĩ": "i\u0307\u0303"})


def lower(text: str, language: str = "") -> str:
    """Return lower case; with a language by its rules: i with and without dot in tr and az, accents in lt."""
    if language in ("tr", "az"):
        text = unicodedata.normalize("NFC", text).translate(_TURKIC)
    elif language == "lt":
        text = unicodedata.normalize("NFC", text).translate(_LITHUANIAN)
    return text.lower()


def upper(text: str, language: str = "") -> str:
    """Return upper case; with tr or az, i becomes İ."""
    if language:
        text = unicodedata.normalize("NFC", text).translate(_TURKIC_UPPER)
    return text.upper()


# Marks of the direction of writing and of hyphenation, which nobody sees or says. The joiners U+200C and
# U+200D are letters' business in Persian and in Indian scripts.
_INVISIBLE = dict.fromkeys(map(ord, "\u00ad\u200b\u200e\u200f\u061c\u2060\ufeff"), None) | dict.fromkeys(
    [*range(0x202A, 0x202F), *range(0x2066, 0x206A)], None
)
_APOSTROPHE = "\ue000"
_INNER_APOSTROPHE = re.compile(r"(?<=[^\W_])['’](?=[^\W_])")


class _ByCategory(dict[int, int | str | None]):
    """A table for `str.translate` that replaces some classes of characters by a space, made as it is used."""

    def __init__(self, classes: str, removed: Iterable[int] = ()) -> None:
        super().__init__(_INVISIBLE | dict.fromkeys(removed))
        self.classes = classes

    def __missing__(self, code: int) -> int | str:
        replaced = unicodedata.category(chr(code))[0] in self.classes
        self[code] = " " if replaced else code
        return " " if replaced else code


_PUNCTUATION = _ByCategory("P")
# The marks that make an emoji, a keycap or a flag of a character go too.
_SYMBOLS = _ByCategory("S", [0xFE0E, 0xFE0F, 0x20E3, *range(0xE0020, 0xE0080)])


def punctuation(text: str) -> str:
    """Replace punctuation by spaces, but keep an apostrophe within a word, written ``'``."""
    if "'" in text or "’" in text:
        text = _INNER_APOSTROPHE.sub(_APOSTROPHE, text)
    return text.translate(_PUNCTUATION).replace(_APOSTROPHE, "'")


def symbols(text: str) -> str:
    """Replace symbols by spaces, emoji with all their parts."""
    cleaned = text.translate(_SYMBOLS)
    # A joiner between letters is theirs; one that an emoji leaves behind stands alone.
    return cleaned if cleaned == text else re.sub(r"(?<!\S)\u200d+(?!\S)", "", cleaned)


def brackets(text: str) -> str:
    """Leave out what stands in brackets, with them."""
    return re.sub(r"\[[^\]]*\]|<[^>]*>|\([^)]*\)", " ", text)


_BARE = str.maketrans(
    {
        **{"œ": "oe", "Œ": "OE", "æ": "ae", "Æ": "AE", "ß": "ss", "ẞ": "SS", "þ": "th", "Þ": "TH"},
        **{"ø": "o", "Ø": "O", "đ": "d", "Đ": "D", "ð": "d", "Ð": "D", "ł": "l", "Ł": "L"},
    }
)
_ACCENTS = re.compile("[\u0300-\u036f]")


def accents(text: str) -> str:
    """Leave out the accents of Latin, Greek and Cyrillic letters, and write œ, ø, ß and the like plainly."""
    # Only this block: elsewhere (Arabic, Indian, Japanese) a mark makes another letter or vowel.
    bare = _ACCENTS.sub("", unicodedata.normalize("NFD", text.translate(_BARE)))
    return unicodedata.normalize("NFC", bare)


# Han, kana, bopomofo, and the scripts of South-East Asia that are written without spaces.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fff\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303c"
    "\u3041-\u3096\u309d-\u30fa\u30fc-\u312f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\uff66-\uff9d\U00020000-\U0003ffff"
)
_UNSPACED_CHARACTER = re.compile(f"[{_UNSPACED}]")


def characters(text: str) -> str:
    """Put spaces between the characters of scripts that are written without."""
    if _UNSPACED_CHARACTER.search(text) is None:
        return text
    parts: list[str] = []
    for character in unicodedata.normalize("NFC", text):
        # A vowel sign, tone mark or variation selector belongs to the character before it.
        if unicodedata.category(character)[0] != "M" and _UNSPACED_CHARACTER.match(character):
            parts.append(f" {character}")
        elif parts and parts[-1].startswith(" ") and unicodedata.category(character)[0] == "M":
            parts[-1] += character
        else:
            if parts and parts[-1].startswith(" ") and not character.isspace():
                parts.append(" ")
            parts.append(character)
    return " ".join("".join(parts).split())


_WHISPER_KEEPS = ".%$¢€£"


class _WhisperTable(dict[int, int | str | None]):
    """Accents go, symbols and punctuation but those of numbers become spaces."""

    def __missing__(self, code: int) -> int | str | None:
        character = chr(code)
        category = unicodedata.category(character)
        result: int | str | None = code
        if character not in _WHISPER_KEEPS:
            if category == "Mn":
                result = None
            elif category[0] in "MSP":
                result = " "
        self[code] = result
        return result


_WHISPER = _WhisperTable()


def whisper_plain(text: str) -> str:
    """Leave out accents, and replace symbols and punctuation other than those of numbers by spaces."""
    return unicodedata.normalize("NFKD", text).translate(_BARE).translate(_WHISPER)
