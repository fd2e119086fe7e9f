"""Write English numbers in digits.

The result is that of Whisper's ``EnglishNumberNormalizer`` (Radford et al., "Robust Speech Recognition via
Large-Scale Weak Supervision", 2022, appendix C): "two hundred million dollars" becomes ``$200000000``, "nine
one one" ``911``, "nineteen fifties" ``1950s``, "twenty first" ``21st``, "minus five" ``-5``; a single "one"
stays a word. Where Whisper leaves "ninth" as it is, this writes 9th, and where it loses a "point" that no
digit follows, this keeps it.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Literal, NamedTuple

_Kind = Literal["zero", "unit", "teen", "ten", "scale"]


class _Word(NamedTuple):
    kind: _Kind
    value: int
    suffix: str


_UNITS = "one two three four five six seven eight nine"
_TEENS = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_SCALE_NAMES = """
thousand million billion trillion quadrillion quintillion sextillion septillion octillion nonillion decillion
"""


def _vocabulary() -> dict[str, _Word]:
    units = _UNITS.split()
    teens = _TEENS.split()
    tens = _TENS.split()
    scales = _SCALE_NAMES.split()
    numbers: dict[str, tuple[_Kind, int]] = dict.fromkeys(("o", "oh", "zero"), ("zero", 0))
    numbers |= {name: ("unit", value) for value, name in enumerate(units, start=1)}
    numbers |= {name: ("teen", value) for value, name in enumerate(teens, start=10)}
    numbers |= {name: ("ten", 10 * value) for value, name in enumerate(tens, start=2)}
    numbers["hundred"] = ("scale", 100)
    numbers |= {name: ("scale", 1000**power) for power, name in enumerate(scales, start=1)}

    irregular = {"one": "first", "two": "second", "three": "third", "five": "fifth", "twelve": "twelfth"}
    ending = {"one": "st", "two": "nd", "three": "rd"}
    words = {name: _Word(kind, value, "") for name, (kind, value) in numbers.items()}
    words["zeroth"] = _Word("unit", 0, "th")
    for name, (kind, value) in numbers.items():
        if kind == "zero":
            continue
        stem = name.removesuffix("y") + "ie" if kind == "ten" else name
        words[stem + ("es" if name == "six" else "s")] = _Word(kind, value, "s")
        ordinal = irregular.get(name) or stem.removesuffix("e" if name == "nine" else "t") + "th"
        words[ordinal] = _Word(kind, value, ending.get(name, "th"))
    return words


_WORDS = _vocabulary()
_SIGNS = {"minus": "-", "negative": "-", "plus": "+", "positive": "+"}
_CURRENCIES = {
    **dict.fromkeys(("pound", "pounds"), "£"),
    **dict.fromkeys(("euro", "euros"), "€"),
    **dict.fromkeys(("dollar", "dollars"), "$"),
    **dict.fromkeys(("cent", "cents"), "¢"),
}
_REPEATS = {"double": 2, "triple": 3}
_SCALES = {name for name, word in _WORDS.items() if word.kind == "scale" and not word.suffix}
_NUMERIC = {*_WORDS, *_SIGNS, *_CURRENCIES, *_REPEATS, "and", "point", "per", "percent"}
_DIGITS = re.compile(r"([-+$£€¢]?)(\d+(?:\.\d+)?)")
_DIGIT_STARTS = frozenset("-+$£€¢0123456789")
_ANY_DIGIT = re.compile(r"\d")
_AND_A_HALF = re.compile(r"\b(\w+)\s+and\s+a\s+half\b")
_HALF_A = re.compile(rf"\b(?:a\s+half\s+|half\s+(?:a\s+)?)({'|'.join(sorted(_SCALES))})\b")
_CENTS = re.compile(r"([€£$])(\d+) (?:and )?¢(\d{1,2})\b")
_ONLY_CENTS = re.compile(r"[€£$]0\.(\d{1,2})\b")
_ONE = re.compile(r"\b1(s?)\b")


def numerals(text: str) -> str:
    """Write the numbers of an English text in digits.

    Parameters
    ----------
    text : str
        In lower case, without punctuation except within numbers.

    Returns
    -------
    str
        Words with single spaces between.

    Examples
    --------
    >>> numerals("two dollars and seventy cents on july third twenty twenty")
    '$2.70 on july 3rd 2020'
    """
    if _ANY_DIGIT.search(text) is None and _NUMERIC.isdisjoint(text.split()):
        return " ".join(text.split())
    text = _AND_A_HALF.sub(
        lambda m: f"{m[1]} point five" if m[1] in _WORDS and not _WORDS[m[1]].suffix else m[0], text
    )
    text = _HALF_A.sub(r"0.5 \1", text)
    text = re.sub(r"([a-z])(\d)", r"\1 \2", text)
    text = re.sub(r"(\d)([a-z])", r"\1 \2", text)
    text = re.sub(r"(\d)\s+(st|nd|rd|th|s)\b", r"\1\2", text)
    text = " ".join(_Reader(text.split()).read())
    text = _CENTS.sub(lambda m: f"{m[1]}{m[2]}.{int(m[3]):02d}", text)
    text = _ONLY_CENTS.sub(lambda m: f"¢{int(m[1])}", text)
    return _ONE.sub(r"one\1", text)


class _Reader:
    """Collects the words of one number at a time.

    Digits that were said one by one, and decimals, are kept as a string: adding to them is writing behind.
    """

    def __init__(self, words: list[str]) -> None:
        self.words = words
        self.done: list[str] = []
        self.value: int | str | None = None
        self.prefix = ""

    def read(self) -> list[str]:
        position = 0
        while position < len(self.words):
            word = self.words[position]
            if (
                self.value is None
                and not self.prefix
                and word not in _NUMERIC
                and word[0] not in _DIGIT_STARTS
            ):
                self.done.append(word)
                position += 1
            else:
                position += self._take(position)
        self._finish()
        return self.done

    def _finish(self, suffix: str = "") -> None:
        """End the number, if there is one."""
        if self.value is not None:
            self.done.append(f"{self.prefix}{self.value}{suffix}")
            self.value, self.prefix = None, ""

    def _say(self, word: str) -> None:
        """Write a word that is no part of a number."""
        self._finish()
        self.done.append(self.prefix + word)
        self.prefix = ""

    def _take(self, position: int) -> int:
        """Read the word there; return the number of words read."""
        word = self.words[position]
        before = self.words[position - 1] if position else ""
        after = self.words[position + 1] if position + 1 < len(self.words) else ""
        number = after in _NUMERIC or (after[:1].isdigit() and bool(_DIGITS.fullmatch(after)))
        digits = _DIGITS.fullmatch(word)
        if digits:
            self._add_digits(*digits.groups())
        elif word in _WORDS:
            self._add(_WORDS[word], _WORDS.get(before))
        elif word in _SIGNS and number:
            self._finish()
            self.prefix = _SIGNS[word]
        elif word in _CURRENCIES and self.value is not None:
            self.prefix = _CURRENCIES[word]
            self._finish()
        elif word == "percent" and self.value is not None:
            self._finish("%")
        elif word == "per" and after == "cent" and self.value is not None:
            self._finish("%")
            return 2
        elif word == "and" and number and before in _SCALES:
            pass
        elif (
            word in _REPEATS and after in _WORDS and _WORDS[after].kind != "ten" and self._repeat(word, after)
        ):
            return 2
        elif word == "point" and (_is_decimal(after) or (number and after[:1].isdigit())):
            self.value = f"{self.value or ''}."
        else:
            self._say(word)
        return 1

    def _add_digits(self, sign: str, digits: str) -> None:
        if isinstance(self.value, str) and self.value.endswith("."):
            self.value += sign + digits
            return
        self._finish()
        self.prefix = sign or self.prefix
        self.value = int(digits) if "." not in digits else digits

    def _repeat(self, word: str, after: str) -> bool:
        """Read "double seven"; False if the second word is no digit."""
        number = _WORDS[after]
        if number.kind not in ("zero", "unit", "teen") or number.suffix:
            return False
        self.value = str(self.value or "") + str(number.value) * _REPEATS[word]
        return True

    def _add(self, word: _Word, before: _Word | None) -> None:
        """Add a number word to the number so far."""
        value = self.value
        if word.kind == "zero":
            self.value = f"{value or ''}0"
        elif word.kind == "scale":
            self._multiply(word.value)
        elif value is None:
            self.value = word.value
        else:
            plain = before if before is not None and not before.suffix else None
            after_unit = plain is not None and plain.kind in ("unit", "teen")
            room = 10 if word.kind == "unit" else 100
            if isinstance(value, int) and value % room == 0 and not after_unit:
                self.value = value + word.value
            elif word.kind == "unit" and plain is not None and plain.kind == "ten" and isinstance(value, str):
                # "nineteen ninety nine": the last digit of 1990 was not said.
                self.value = value[:-1] + str(word.value)
            else:
                self.value = f"{value}{word.value}"
        if word.suffix:
            self._finish(word.suffix)

    def _multiply(self, scale: int) -> None:
        value = self.value
        if value is None:
            self.value = scale
        elif isinstance(value, int) and value:
            self.value = value // 1000 * 1000 + value % 1000 * scale
        else:
            product = Fraction(value) * scale if _DIGITS.fullmatch(str(value)) else None
            if product is not None and product.denominator == 1:
                self.value = product.numerator
            else:
                self._finish()
                self.value = scale


def _is_decimal(word: str) -> bool:
    return word in _WORDS and not _WORDS[word].suffix and _WORDS[word].kind != "scale"
