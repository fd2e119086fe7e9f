"""NIST's rules for rewriting transcripts (glm files), as SCTK's ``csrfilt.sh`` applies them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal, NamedTuple

from asr.errors import DataError
from asr.scoring.lines import bad_line, read_lines, shown

_SECTION = re.compile(r';;\s+INPUT_DEPENDENT_APPLICATION\s*=\s*"([^"]*)"')
_QUOTED = re.compile(r"\"([^\"]*)\"|'([^']*)'")
_ROLES = {"ref": ("ref", "stm"), "hyp": ("hyp", "ctm")}


class _Rule(NamedTuple):
    pattern: str
    output: str
    left: str
    right: str


@dataclass(frozen=True)
class GlobalMap:
    """The rules of a glm file for references or for hypotheses.

    A rule is ``A => B`` or ``A => B / C __ D``: the characters ``A``, after ``C`` and before ``D``, become
    ``B``. Any of them may stand in square brackets or double quotes, which keep their spaces. The text is
    read from left to right; the first rule that fits a place is applied to what the text was before.

    Attributes
    ----------
    path : str
    role : {"ref", "hyp"}
        Sections headed ``;; INPUT_DEPENDENT_APPLICATION = "regex"`` are read if the expression fits the role
        or its usual file format (stm, ctm), or neither role's.
    depends_on_role : bool
    """

    path: str
    role: Literal["ref", "hyp"]
    depends_on_role: bool
    _rules: tuple[_Rule, ...]
    _search: re.Pattern[str]
    _by_group: tuple[str, ...]

    @classmethod
    def read(cls, path: Path | str, role: Literal["ref", "hyp"] = "ref") -> GlobalMap:
        """Read a glm file.

        Raises
        ------
        DataError
            If the file cannot be read or a line is no rule; the message names it.
        """
        path = Path(path)
        rules: list[_Rule] = []
        case_sensitive = applies = True
        depends = False
        lines = read_lines(path)
        # The first word of the file says what starts a comment, in it and everywhere.
        comment = lines[0][1].split()[0] if lines and lines[0][1].split() else ";;"
        for number, line in lines:
            section = _SECTION.match(line)
            if section:
                applies, one_sided = _applies(path, number, section[1], role)
                depends = depends or one_sided
                continue
            content = line.split(comment)[0].rstrip() if number > 1 else ""
            if not content.strip():
                continue
            if content.startswith("*"):
                value = _QUOTED.search(content)
                if value is None:
                    bad_line(
                        path, number, f"no value in quotes: {shown(line)}", 'write `* keyword = "value"`'
                    )
                if "CASE_SENSITIVE" in content.upper():
                    case_sensitive = (value[1] or value[2] or "").upper() in ("T", "TRUE", "YES")
            elif applies:
                rules.append(_parse(path, number, content))
        if not rules:
            raise DataError(f"{path}: has no rule for this side; write `A => B`, one a line")
        search, by_group = _compile(rules, case_sensitive)
        return cls(str(path), role, depends, tuple(rules), search, by_group)

    def __call__(self, text: str) -> str:
        """Apply the rules, and put single spaces between words."""
        # csrfilt.sh puts two spaces at the ends; a rule that takes one away can so still see the other.
        text = f"  {' '.join(text.split())}  ".replace("(", "( ").replace(")", " )")
        text = self._search.sub(lambda match: self._by_group[(match.lastindex or 0) - 1], text)
        # "(a b)" may be left out word by word.
        parenthesised = re.compile(r"(\(\s+[^()\s]+\s+)([^()\s]+)")
        while parenthesised.search(text):
            text = parenthesised.sub(r"\1) ( \2", text)
        return " ".join(re.sub(r"\s+\)", ")", re.sub(r"\(\s+", "(", text)).split())


def _applies(path: Path, number: int, expression: str, role: str) -> tuple[bool, bool]:
    """Return whether a section is for the role, and whether it is for one role only."""
    try:
        pattern = re.compile(expression.lower())
    except re.error as error:
        raise DataError(f"{path}:{number}: {shown(expression)} is no regular expression ({error})") from error
    fits = {side: any(pattern.search(name) for name in names) for side, names in _ROLES.items()}
    if fits["ref"] == fits["hyp"]:
        return True, False
    return fits[role], True


def _parse(path: Path, number: int, line: str) -> _Rule:
    source, arrow, rest = line.partition("=>")
    if not arrow:
        bad_line(path, number, f"no `=>` in {shown(line)}", "write `A => B` or `A => B / C __ D`")
    left = right = ""
    slash = rest.rfind("/")
    # A slash between brackets separates alternatives.
    if slash >= 0 and not (
        "]" in rest[slash:] and ("[" not in rest[slash:] or rest.index("]", slash) < rest.index("[", slash))
    ):
        rest, context = rest[:slash], rest[slash + 1 :]
        if "_" in context:
            before, _, after = context.partition("_")
            left, right = _unquoted(before), _unquoted(after.lstrip("_"))
    pattern = _unquoted(source)
    if not pattern:
        bad_line(path, number, f"nothing before `=>` in {shown(line)}", "write what is to be replaced")
    return _Rule(pattern, _unquoted(rest), left, right)


def _unquoted(field: str) -> str:
    field = field.strip()
    if len(field) > 1 and (field[0], field[-1]) in (("[", "]"), ('"', '"')):
        return field[1:-1]
    return field


def _compile(rules: Iterable[_Rule], case_sensitive: bool) -> tuple[re.Pattern[str], tuple[str, ...]]:
    """Return one pattern that finds the place and the rule, and the output of each of its groups.

    Rules compete only with those that begin with the same character, so they are grouped by it, which spares
    trying each rule at each place; the order within a group is that of the file.
    """
    groups: dict[str, list[_Rule]] = {}
    for rule in rules:
        groups.setdefault(rule.pattern[0] if case_sensitive else rule.pattern[0].casefold(), []).append(rule)
    outputs: list[str] = []

    def alternatives(members: list[_Rule]) -> Iterator[str]:
        for left, same in groupby(members, key=lambda rule: rule.left):
            inner = []
            for rule in same:
                outputs.append(rule.output)
                ahead = f"(?={re.escape(rule.right)})" if rule.right else ""
                inner.append(f"({re.escape(rule.pattern)}){ahead}")
            behind = f"(?<={re.escape(left)})" if left else ""
            yield f"{behind}(?:{'|'.join(inner)})"

    whole = "|".join(
        f"(?={re.escape(first)})(?:{'|'.join(alternatives(members))})" for first, members in groups.items()
    )
    return re.compile(whole, 0 if case_sensitive else re.IGNORECASE), tuple(outputs)
