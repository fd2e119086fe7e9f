"""Words, names and times as the formats of dialects want them."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from pathlib import Path

from asr.audio import AUDIO_SUFFIXES

SPACES = " \t\r\n\f\v"
_UNSAFE = re.compile(r"[/\\\0\n\r]")
_MAX_NAME = 200  # bytes; most file systems take 255


def word(text: str) -> str:
    """Return a text as one word, as formats of columns want it."""
    return re.sub(r"\s+", "_", text.strip()) or "_"


def one_line(text: str) -> str:
    """Return a text on one line, without spaces around it."""
    return re.sub(r"[\r\n]+", " ", text).strip(SPACES)


def columns(line: str, count: int) -> list[str]:
    """Split a line at spaces into at most `count` cells; the last is the rest of the line.

    Only ASCII's spaces part words, as in Kaldi and sclite: no-break and ideographic spaces are in them.
    """
    return re.split(f"[{SPACES}]+", line.strip(SPACES), maxsplit=count - 1)


def file_name(id: str) -> str:
    """Return an id as the name of a file, without a suffix."""
    name = _UNSAFE.sub("_", id).lstrip(".") or "_"
    return name.encode()[:_MAX_NAME].decode(errors="ignore")


class Names:
    """Gives out names that are unique.

    Parameters
    ----------
    ignore_case : bool
        Whether names that differ in case only count as equal, as some disks have it.
    """

    def __init__(self, ignore_case: bool = True) -> None:
        self._key = str.casefold if ignore_case else str
        self._taken: set[str] = set()
        self._count: dict[str, int] = {}

    def take(self, wanted: str) -> str:
        """Return the name, or ``name-2``, ``name-3``, ... where it is taken."""
        name = wanted
        while self._key(name) in self._taken:
            self._count[wanted] = self._count.get(wanted, 1) + 1
            name = f"{wanted}-{self._count[wanted]}"
        self._taken.add(self._key(name))
        return name


def is_audio(name: str | Path) -> bool:
    """Tell by the suffix whether a file is audio."""
    return Path(name).suffix.lower() in AUDIO_SUFFIXES


def seconds(value: object, what: str, least: float = 0.0) -> float:
    """Return a time; raise ValueError, with the remedy, if it is none."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool) or not (math.isfinite(number) and number >= least):
        raise ValueError(f"{what} is {value!r}; write a number of seconds, {least:g} or more")
    return number


def end_time(offset: float, duration: float) -> str:
    """Return ``offset + duration`` as the decimal number that `span` turns back into the very duration."""
    return format(Decimal(repr(offset)) + Decimal(repr(duration)), "f")


def span(start: str, end: str) -> float:
    """Return the seconds from one decimal number to another, without binary rounding."""
    return float(Decimal(end) - Decimal(start))


def shown(value: object) -> str:
    """Return a value as one short line."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
