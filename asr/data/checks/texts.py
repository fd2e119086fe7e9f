"""What a transcript's characters tell: markup, wrong decoding, look-alikes, invisible characters."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import cache

# Whole transcripts that programs and people leave where a text is missing. Not "null", "none" and "unknown",
# which people say ("null" is German for zero); "nan" is what pandas makes of an empty cell.
_PLACEHOLDERS = frozenset(
    {"n/a", "#n/a", "nan", "<na>", "tbd", "todo", "xxx", "undefined", "no transcript", "transcript"}
)
_MARKUP = re.compile(
    r"</?\w[^<>]*>"  # tags: <unk>, </i>
    r"|&(?:#\d+|#x[0-9a-fA-F]+|[A-Za-z]+);"  # entities: &amp;
    r"|[\[\]{}()<>]"  # brackets: [noise], (laughs)
    r"|\\[nrtu\"']"  # escapes written out: \n
    r"|https?://|[|*_~^]"
)
# Letters of the alphabets that share shapes; the others are told apart at a glance.
_SCRIPTS = ("LATIN", "CYRILLIC", "GREEK")
_LOOKALIKES = frozenset(
    "аеорсухіјѕһԁАВЕЗКМНОРСТУХІЈЅ"  # Cyrillic
    "οαινυΑΒΕΖΗΙΚΜΝΟΡΤΥΧ"  # Greek
)
_WORD = re.compile(r"[^\W\d_]+")
# Joiners that Arabic and Indic spelling needs.
_JOINERS = "\u200c\u200d"


def check_text(text: str) -> Iterator[tuple[str, str]]:
    """Yield what is suspicious in a transcript as it stands in the manifest: a kind and a message."""
    if (
        text.strip().casefold().strip("[]<>(){}.") in _PLACEHOLDERS
        or text.strip().casefold() in _PLACEHOLDERS
    ):
        yield "placeholder", f"{shortened(text)} stands for a missing text; add the transcript or drop it"
    if found := [character for character in text if character.isdigit()]:
        yield "digits", f"{found[0]!r} in {shortened(text)}; write numbers as the words that were said"
    if match := _MARKUP.search(text):
        yield "markup", f"{match[0]!r} in {shortened(text)}; take markup out of the text"
    if text.isascii() and text.isprintable():
        if text != " ".join(text.split()):
            yield (
                "whitespace",
                f"{shortened(text)} has white space that is no single space; --fix corrects it",
            )
        return
    if word := _mixed_word(text):
        yield "mixed_scripts", f"{_named(word)} in {shortened(text)}; write the word in one alphabet"
    if hidden := _invisible(text):
        names = ", ".join(dict.fromkeys(f"U+{ord(character):04X}" for character in hidden))
        yield "invisible", f"{names} in {shortened(text)}; --fix takes it out"
    if "\N{REPLACEMENT CHARACTER}" in text:
        yield "mojibake", f"{shortened(text)} has lost characters (U+FFFD); restore it from its source"
    elif (decoded := _decoded_again(text)) is not None:
        yield "mojibake", f"{shortened(text)} is UTF-8 read as Latin-1; it says {shortened(decoded)}"
    if unicodedata.normalize("NFC", text) != text:
        yield "unicode_form", f"{shortened(text)} is not in form NFC; --fix corrects it"
    if text != " ".join(text.split()):
        yield "whitespace", f"{shortened(text)} has white space that is no single space; --fix corrects it"


def clean_text(text: str) -> str:
    """Return a transcript in form NFC, without invisible characters, with single spaces between words."""
    hidden = set(_invisible(text))
    text = "".join(character for character in text if character not in hidden)
    return " ".join(unicodedata.normalize("NFC", text).split())


def count_letters(text: str) -> int:
    """Count the letters and digits, as which combining marks are no letters of their own."""
    return sum(map(str.isalnum, text))


def shortened(text: str) -> str:
    """Return a text in quotes, invisible characters escaped, at most 60 characters of it."""
    return repr(text if len(text) <= 60 else text[:57] + "...")


@cache
def _script(character: str) -> str:
    """Return which of `_SCRIPTS` a letter is of, else nothing."""
    name = unicodedata.name(character, "")
    return next((script for script in _SCRIPTS if name.startswith(script)), "")


def _mixed_word(text: str) -> str | None:
    """Return a word of several alphabets, or one of look-alikes alone in a text of another alphabet."""
    words = _WORD.findall(text)
    scripts = [{_script(character) for character in word} - {""} for word in words]
    for word, found in zip(words, scripts, strict=True):
        if len(found) > 1:
            return word
    for position, (word, found) in enumerate(zip(words, scripts, strict=True)):
        others = set().union(*scripts[:position], *scripts[position + 1 :])
        if found and found != {"LATIN"} and set(word) <= _LOOKALIKES and others == {"LATIN"}:
            return word
    return None


def _named(word: str) -> str:
    """Return a word with the letters of its rarer alphabet named."""
    scripts = [_script(character) for character in word]
    rare = min(set(scripts) - {""}, key=scripts.count)
    letters = sorted({character for character in word if _script(character) == rare})
    return f"{word!r} with {rare.capitalize()} {', '.join(f'{c} (U+{ord(c):04X})' for c in letters)}"


def _invisible(text: str) -> list[str]:
    """Return the characters that show nothing: control, format, private use and unassigned ones."""
    return [
        character
        for character in text
        if unicodedata.category(character) in ("Cc", "Cf", "Co", "Cn")
        and not character.isspace()
        and not (character in _JOINERS and not _is_western(text))
    ]


def _is_western(text: str) -> bool:
    return all(_script(character) or not character.isalpha() for character in text)


def _decoded_again(text: str) -> str | None:
    """Return what UTF-8 bytes say that were read as Windows-1252 or Latin-1; None if they were not."""
    for encoding in ("cp1252", "latin-1"):
        try:
            decoded = text.encode(encoding).decode("utf-8")
        except UnicodeError:
            continue
        if decoded != text:
            return decoded
    return None
