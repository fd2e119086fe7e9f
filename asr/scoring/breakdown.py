"""The errors of a score by speaker, by duration, by reference length or by any other field of a manifest."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from asr.errors import ConfigError
from asr.scoring.wer import Score

LENGTH = "reference_length"
NONE = "(none)"

_MOST_VALUES = 12  # a number with more different values than this is put into bins
_EDGES = {"duration": (0, 1, 2, 5, 10, 15, 20, 30, 60), LENGTH: (0, 1, 2, 4, 7, 11, 16, 21, 31, 51, 101)}


@dataclass(frozen=True)
class Group:
    """The utterances of one group and their errors, in the unit of the score.

    Attributes
    ----------
    name : str
    num_sentences : int
        Utterances.
    hits, substitutions, deletions, insertions : int
    """

    name: str
    num_sentences: int
    hits: int
    substitutions: int
    deletions: int
    insertions: int

    @property
    def length(self) -> int:
        """Words (or characters) of the references."""
        return self.hits + self.substitutions + self.deletions

    @property
    def error_rate(self) -> float:
        """(S + D + I) / reference length, a fraction; infinite for errors without a reference."""
        errors = self.substitutions + self.deletions + self.insertions
        return errors / self.length if self.length else math.inf if errors else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the group for JSON; null stands for a rate that is not finite."""
        return {
            "name": self.name,
            "error_rate": self.error_rate if math.isfinite(self.error_rate) else None,
            "num_sentences": self.num_sentences,
            "length": self.length,
            "substitutions": self.substitutions,
            "deletions": self.deletions,
            "insertions": self.insertions,
            "hits": self.hits,
        }


@dataclass(frozen=True)
class Grouping:
    """Utterances divided by a field.

    Attributes
    ----------
    field : str
    names : tuple of str, length G
        Bins in rising order, or values in natural order; "(none)" is last.
    members : numpy.ndarray, int64, (N,)
        Each utterance's group, as an index into `names`.
    binned : bool
        Whether the groups are ranges of a number.
    """

    field: str
    names: tuple[str, ...]
    members: np.ndarray
    binned: bool

    def split(self, score: Score) -> tuple[Group, ...]:
        """Return the groups' counts, in the order of `names`."""
        counts = np.zeros((len(self.names), 4), dtype=np.int64)
        np.add.at(counts, self.members, score.counts)
        sizes = np.bincount(self.members, minlength=len(self.names)).tolist()
        return tuple(
            Group(name, size, *row)
            for name, size, row in zip(self.names, sizes, counts.tolist(), strict=True)
        )


def group_by(score: Score, field: str) -> Grouping:
    """Divide the utterances by a field.

    Parameters
    ----------
    score : Score
    field : str
        A field of the manifest, or "reference_length" (words, or characters where these are scored). Numbers
        with more than 12 different values are put into bins, by default by fifths of the utterances.
        ``field:1,2,5`` gives the bins' edges (a bin holds its lower edge and not its upper), ``field:each``
        keeps every value apart.

    Raises
    ------
    ConfigError
        If no utterance has the field, it holds lists or objects, or the edges cannot be used.
    """
    field, option = _option(field)
    values = _values(score, field)
    numbers = None if option == "each" else _numbers(field, values, needed=option is not None)
    if numbers is not None and option is not None:
        edges = _parse_edges(field, option)
    elif numbers is not None:
        edges = _default_edges(score, field, [n for n in numbers if n is not None])
    else:
        keys = [NONE if value is None else _shown(value) for value in values]
        names = tuple(sorted(set(keys), key=_natural))
        index = {name: i for i, name in enumerate(names)}
        return Grouping(field, names, np.array([index[key] for key in keys], dtype=np.int64), False)
    bins = [len(edges) + 1 if number is None else bisect_right(edges, number) for number in numbers]
    # Seconds may be whole by chance; other numbers that all are whole are counts.
    whole = all(float(n).is_integer() for n in (*edges, *(n for n in numbers if n is not None)))
    integers = whole and field != "duration"
    used = sorted(set(bins))
    place = {bin: i for i, bin in enumerate(used)}
    names = tuple(_bin_name(edges, bin, integers) for bin in used)
    return Grouping(field, names, np.array([place[bin] for bin in bins], dtype=np.int64), True)


def _option(field: str) -> tuple[str, str | None]:
    name, colon, option = field.rpartition(":")
    if colon and (option == "each" or re.fullmatch(r"[\d.,eE+\-\s]+", option)):
        return name, option
    return field, None


def _values(score: Score, field: str) -> list[Any]:
    values = [fields.get(field) for fields in score.fields]
    if all(value is None for value in values):
        if field == LENGTH:
            return score.counts[:, :3].sum(axis=1).tolist()
        known = sorted(
            {name for fields in score.fields for name, value in fields.items() if _is_single(value)}
        )
        raise ConfigError(
            f"field {field!r} is not known of any utterance; choose one of {', '.join([*known, LENGTH])}"
        )
    odd = next((value for value in values if value is not None and not _is_single(value)), None)
    if odd is not None:
        raise ConfigError(f"field {field!r} holds {type(odd).__name__}s; choose one with a text or a number")
    return values


def _is_single(value: Any) -> bool:
    return isinstance(value, str | int | float)


def _numbers(field: str, values: Sequence[Any], needed: bool) -> list[float | None] | None:
    """Return the values as numbers, or None if they are not numbers or too few different ones to bin."""
    numbers: list[float | None] = []
    for value in values:
        try:
            number = None if value is None or value == "" else float(value)
        except ValueError:
            number = math.nan
        if number is not None and (isinstance(value, bool) or not math.isfinite(number)):
            if needed:
                raise ConfigError(f"field {field!r} cannot be put into bins: {value!r} is not a number")
            return None
        numbers.append(number)
    # A speaker's number is a name.
    many = len(set(numbers)) > _MOST_VALUES and field != "speaker"
    return numbers if needed or many or field in _EDGES else None


def _parse_edges(field: str, text: str) -> tuple[float, ...]:
    try:
        edges = tuple(float(part) for part in text.split(","))
    except ValueError:
        edges = ()
    if not edges or any(low >= high for low, high in pairwise(edges)):
        raise ConfigError(f"{field}:{text}: expected rising numbers such as {field}:1,2,5")
    return edges


def _default_edges(score: Score, field: str, numbers: list[float]) -> tuple[float, ...]:
    if field in _EDGES:
        scale = 5 if field == LENGTH and score.unit == "character" else 1
        return tuple(scale * edge for edge in _EDGES[field])
    fifths = np.quantile(numbers, [0.2, 0.4, 0.6, 0.8], method="higher").tolist()
    return tuple(sorted({edge if float(edge).is_integer() else float(f"{edge:.3g}") for edge in fifths}))


def _bin_name(edges: Sequence[float], bin: int, integers: bool) -> str:
    if bin == len(edges) + 1:
        return NONE
    if bin == 0:
        return f"below {_shown(edges[0])}"
    low = _shown(edges[bin - 1])
    if bin == len(edges):
        return f"{low} and more"
    if not integers:
        return f"{low} to {_shown(edges[bin])}"
    last = _shown(edges[bin] - 1)
    return low if low == last else f"{low}-{last}"


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else f"{value:g}"
    return NONE if value == "" else str(value)


def _natural(name: str) -> tuple[Any, ...]:
    """Sort "s2" before "s10", and "(none)" last."""
    return name == NONE, [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]
