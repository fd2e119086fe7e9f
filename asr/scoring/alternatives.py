"""Texts that allow several wordings: ``{ um / uh / @ }`` and optionally deletable ``(uh)``.

A text is read into a network of words, and of all paths through the networks of the reference and the
hypothesis the one that costs least is scored, as NIST's sclite does (SCTK, ``doc/infmts.htm``). ``@`` stands
for no word; groups may be nested.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from asr.errors import DataError

# What `@` is read as: no word is empty.
_NULL = ""
_GROUP = re.compile(r"(?:^|\s)\{[^{}]*[/{].*\}")
# A slash separates wordings inside braces, and is a character like any other outside.
_OUTSIDE = re.compile(r"\s*([{}]|[^\s{}]+)")
_INSIDE = re.compile(r"\s*([{}/]|[^\s{}/]+)")

Wording = list["str | Group"]


class Group(NamedTuple):
    """The wordings of a group in braces, at least one."""

    wordings: list[Wording]


class Costs(NamedTuple):
    """What an edit costs: a substitution, a deletion or insertion, one of an optional word, one of ``@``."""

    substitution: float
    gap: float
    optional: float
    null: float


class Path(NamedTuple):
    """The least costly way through two networks.

    Attributes
    ----------
    operations : str
        A letter an edit: C, S, D or I.
    reference, hypothesis : list of str
        A word for each letter but I, or but D. It is empty where the other side's word is optional and was
        left out, which counts as correct.
    scored : list of str
        The reference's words, without parentheses and without the optional ones that were left out.
    """

    operations: str
    reference: list[str]
    hypothesis: list[str]
    scored: list[str]


@dataclass
class _Network:
    """Words, and for each the places of those that may come right before it; place 0 is the start."""

    read: Callable[[str], str]
    words: list[str] = field(default_factory=lambda: [""])
    before: list[list[int]] = field(default_factory=lambda: [[]])
    last: list[int] = field(default_factory=lambda: [0])

    def add(self, wording: Wording, before: list[int]) -> list[int]:
        """Append a wording after the places `before`; return where it may end.

        The order of the places decides between ways of equal cost; it is sclite's.
        """
        for item in wording:
            if isinstance(item, str):
                self.words.append(self.read(item) if item else _NULL)
                self.before.append(before)
                before = [len(self.words) - 1]
            else:
                before = [place for choice in item.wordings for place in self.add(choice, before)]
        return before


def has_group(text: str) -> bool:
    """Tell whether a text seems to hold a group, with a slash or another group in it."""
    return "{" in text and _GROUP.search(text) is not None


def parse(words: list[str], id: str, alternatives: bool = True) -> Wording:
    """Read the groups among words.

    Parameters
    ----------
    id : str
        The utterance, for an error.
    alternatives : bool
        If not, braces and `@` are words.

    Raises
    ------
    DataError
        If braces do not match, stand inside a word, or hold nothing.
    """
    if not alternatives:
        return [*words]
    text = " ".join(words)
    # The wordings being read, innermost last; groups[k] are those already complete in the brace around it.
    wordings: list[Wording] = [[]]
    groups: list[list[Wording]] = []
    position = 0
    while match := (_INSIDE if groups else _OUTSIDE).match(text, position):
        token, position = match[1], match.end()
        if token == "{":
            if match.start(1) and not re.match(r"[\s{}/]", text[match.start(1) - 1]):
                raise _error(id, text, "a brace inside a word")
            wordings.append([])
            groups.append([])
        elif token == "}" or (token == "/" and groups):
            if not groups:
                raise _error(id, text, "a closing brace without an opening one")
            if wordings[-1]:
                groups[-1].append(wordings[-1])
            wordings[-1] = []
            if token == "}":
                wordings.pop()
                if not groups[-1]:
                    raise _error(id, text, "a group without a word")
                wordings[-1].append(Group(groups.pop()))
        else:
            wordings[-1].append(_NULL if token == "@" else token)
    if groups:
        raise _error(id, text, "an opening brace without a closing one")
    return wordings[0]


def best_path(
    reference: Wording, hypothesis: Wording, costs: Costs, optional: bool, read: Callable[[str], str] = str
) -> Path:
    """Find the least costly path.

    Parameters
    ----------
    optional : bool
        Whether a word in parentheses may be left out.
    read : callable
        Applied to every word before.
    """
    said, recognised = _Network(read), _Network(read)
    said.last = said.add(reference, [0])
    recognised.last = recognised.add(hypothesis, [0])
    return _trace(said, recognised, _fill(said, recognised, costs, optional), optional)


_Cell = tuple[int, int]


def _fill(a: _Network, b: _Network, costs: Costs, optional: bool) -> tuple[list[array], list[list[_Cell]]]:
    """Compute the cost of reaching each pair of words, and the pair before it on the least costly way.

    Ties are broken as by sclite: the first of the places before; a substitution before an insertion before a
    deletion. The sums of costs are rounded to 32 bits as there, which decides between some ways with ``@``.
    """
    drop_a = [_gap(word, costs, optional) for word in a.words]
    drop_b = [_gap(word, costs, optional) for word in b.words]
    plain_a = [_plain(word, optional) for word in a.words]
    plain_b = [_plain(word, optional) for word in b.words]
    rounded = array("f", (0.0, 0.0, 0.0))
    cost: list[array] = []
    back: list[list[_Cell]] = []
    for i, before_i in enumerate(a.before):
        row = array("f", bytes(4 * len(b.words)))
        cost.append(row)
        back.append([(-1, -1)] * len(b.words))
        for j, before_j in enumerate(b.before):
            ways = []
            if i and j:
                p, q = min(((p, q) for p in before_i for q in before_j), key=lambda pq: cost[pq[0]][pq[1]])
                change = 0.0 if plain_a[i] == plain_b[j] else costs.substitution
                if not (a.words[i] and b.words[j]):
                    change = costs.substitution + costs.gap  # a null takes no one's place
                rounded[0] = cost[p][q] + change
                ways.append((rounded[0], (p, q)))
            if j:
                q = min(before_j, key=row.__getitem__)
                rounded[1] = row[q] + drop_b[j]
                ways.append((rounded[1], (i, q)))
            if i:
                p = min(before_i, key=lambda p: cost[p][j])
                rounded[2] = cost[p][j] + drop_a[i]
                ways.append((rounded[2], (p, j)))
            if ways:
                row[j], back[i][j] = min(ways, key=lambda way: way[0])
    return cost, back


def _trace(a: _Network, b: _Network, filled: tuple[list[array], list[list[_Cell]]], optional: bool) -> Path:
    cost, back = filled
    i, j = min(((p, q) for p in a.last for q in b.last), key=lambda pq: cost[pq[0]][pq[1]])
    operations, said, recognised, scored = [], [], [], []
    while i or j:
        before_i, before_j = back[i][j]
        x = a.words[i] if before_i != i else None
        y = b.words[j] if before_j != j else None
        i, j = before_i, before_j
        if not x and not y:
            continue
        if x is not None and y is not None:
            operation = "C" if _plain(x, optional) == _plain(y, optional) else "S"
        elif optional and _is_optional(x or y or ""):
            operation, x, y = "C", x or "", y or ""
        else:
            operation = "D" if y is None else "I"
        operations.append(operation)
        if x is not None:
            said.append(x)
            if y != "" and (word := _plain(x, optional)):
                scored.append(word)
        if y is not None:
            recognised.append(y)
    return Path("".join(operations[::-1]), said[::-1], recognised[::-1], scored[::-1])


def _is_optional(word: str) -> bool:
    return len(word) > 1 and word[0] == "(" and word[-1] == ")"


def _plain(word: str, optional: bool) -> str:
    return word[1:-1] if optional and _is_optional(word) else word


def _gap(word: str, costs: Costs, optional: bool) -> float:
    if not word:
        return costs.null
    return costs.optional if optional and _is_optional(word) else costs.gap


def _error(id: str, text: str, problem: str) -> DataError:
    shown = text if len(text) <= 60 else text[:57] + "..."
    return DataError(
        f"utterance {id!r}: {problem} in {shown!r}; write alternatives as {{ a / b c / @ }}, or score "
        f"braces as words"
    )
