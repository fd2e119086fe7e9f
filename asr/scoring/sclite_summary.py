"""The tables of NIST's sclite: ``.sys`` in percent and ``.raw`` in counts, a row a speaker."""

from __future__ import annotations

import math
import operator
import statistics
from collections.abc import Mapping, Sequence
from functools import reduce

import numpy as np

_PAGE_WIDTH = 80

# Table rows: a name, the number of sentences and words, C S D I errors, sentences with an error.
_HEADINGS = [" SPKR", " # Snt", "# Wrd", "Corr", " Sub", " Del", " Ins", " Err", "S.Err"]
_NO_WORDS = """
* No Reference words for this/these speaker(s).  Word counts supplied
  rather than percents.
# No Reference words for this/these speaker(s).  NCE not computable.
+ Speaker(s) with no reference data is ignored
"""


def summary(title: str, counts: np.ndarray, speakers: Mapping[str, list[int]], *, raw: bool) -> str:
    """Make the table by speaker, in counts or percent.

    Parameters
    ----------
    counts : numpy.ndarray, int64, (N, 4)
        Hits, substitutions, deletions and insertions in each utterance.
    speakers : mapping of str to list of int
        The utterances of each.
    """
    totals = []
    for indices in speakers.values():
        c, s, d, i = counts[indices].sum(axis=0).tolist()
        wrong = int(counts[indices, 1:].any(axis=1).sum())
        totals.append([len(indices), c + s + d, c, s, d, i, s + d + i, wrong])
    rows, columns = [], []
    silent = 0
    for speaker, total in zip(speakers, totals, strict=True):
        num_sentences, num_words, *words, wrong = total
        sentence_error = wrong if raw else percent(wrong, num_sentences)
        if raw or num_words:
            values = words if raw else [percent(count, num_words) for count in words]
            cells = [_number(value, 0 if raw else 1) for value in values]
            columns.append([num_sentences, num_words, *values, sentence_error])
        else:
            cells = [f"{count:5d}*" for count in words]
            columns.append([num_sentences, num_words, *[math.nan] * len(words), sentence_error])
            silent += 1
        cells.append(_number(sentence_error, 0 if raw else 1))
        rows.append([f" {speaker} ", f"{num_sentences:5d}", f"{num_words:5d}", *cells])
    sums = [sum(column) for column in zip(*totals, strict=True)]
    if raw:
        rows.append([" Sum", f"{sums[0]:5d}", f"{sums[1]:5d}", *(_number(value, 0) for value in sums[2:])])
    else:
        values = [percent(value, sums[1]) for value in sums[2:-1]] + [percent(sums[-1], sums[0])]
        rows.append([" Sum/Avg", f"{sums[0]:5d}", f"{sums[1]:5d}", *(_number(value, 1) for value in values)])
    for label, function in ((" Mean ", _mean), (" S.D. ", _deviation), ("Median", statistics.median)):
        cells = [label]
        for number, column in enumerate(zip(*columns, strict=True)):
            known = [value for value in column if not math.isnan(value)]
            value = function(known) if known else 0.0
            cells.append(_number(value, 1, "+" if silent and 2 <= number < 7 else " "))
        rows.append(cells)
    table = _table(title, rows, num_speakers=len(totals))
    heading = "SYSTEM SUMMARY PERCENTAGES by SPEAKER"
    return f"\n\n\n{heading.center(_PAGE_WIDTH - 1)} \n\n{table}{_NO_WORDS if silent else ''}"


def _table(title: str, rows: list[list[str]], num_speakers: int) -> str:
    """Lay out as sclite's report generator: the title over all columns, the page centred."""
    cells = [_HEADINGS, *rows]
    widths = [max(num_bytes(row[column]) for row in cells) for column in range(len(_HEADINGS))]
    inside = sum(widths) + len(widths) - 1
    width = max(inside, num_bytes(title))
    # A longer title widens the columns evenly.
    edges = [round((width - inside) / len(widths) * (number + 1)) for number in range(len(widths) - 1)]
    edges.append(width - inside)
    added = [edge - before for edge, before in zip(edges, [0, *edges], strict=False)]
    margin = " " * max(0, (_PAGE_WIDTH - width - 2) // 2)

    def line(values: Sequence[str], left: bool, fill: str = " ", bars: str = "|  ") -> str:
        parts = []
        for number, (value, text_width, more) in enumerate(zip(values, widths, added, strict=True)):
            padding = " " * (text_width - num_bytes(value))
            before = "" if left and number == 0 else padding[: len(padding) // 2]
            text = before + value + padding[len(before) :]
            parts.append(fill * (more // 2) + text + fill * (more - more // 2))
        return f"{margin}|{parts[0]}|{parts[1]} {parts[2]}|{' '.join(parts[3:])}|"

    def rule(dash: str, cross: str) -> str:
        spans = [wide + more for wide, more in zip(widths, added, strict=True)]
        parts = [
            dash * spans[0],
            dash * (spans[1] + 1 + spans[2]),
            dash * (sum(spans[3:]) + len(spans[3:]) - 1),
        ]
        return f"{margin}|{cross.join(parts)}|"

    space = width - num_bytes(title)
    lines = [f"{margin},{'-' * width}.", f"{margin}|{' ' * (space // 2)}{title}{' ' * (space - space // 2)}|"]
    lines += [rule("-", "-"), line(_HEADINGS, left=True)]
    for row in rows[:num_speakers]:
        lines += [rule("-", "+"), line(row, left=True)]
    lines += [rule("=", "="), line(rows[num_speakers], left=True), rule("=", "=")]
    lines += [line(row, left=False) for row in rows[num_speakers + 1 :]]
    lines.append(f"{margin}`{'-' * width}'")
    return "\n".join(lines) + "\n"


def _mean(values: Sequence[float]) -> float:
    # One after the other, as sclite: a more exact sum can fall on the other side of a half.
    return reduce(operator.add, values, 0.0) / len(values)


def _deviation(values: Sequence[float]) -> float:
    mean = _mean(values)
    squares = reduce(operator.add, [(value - mean) ** 2 for value in values], 0.0)
    return math.sqrt(squares / (len(values) - 1)) if squares else 0.0


def _number(value: float, digits: int, mark: str = " ") -> str:
    return f"{rounded(value, digits):5.{digits}f}{mark}"


def percent(part: int, whole: int) -> float:
    """Return a share in percent, 0 of nothing."""
    # Divided first, as sclite does: the last bit decides how a half is rounded.
    return part / whole * 100 if whole else 0.0


def rounded(value: float, digits: int) -> float:
    """Round halves up, as sclite does."""
    return math.floor(value * 10**digits + 0.5) / 10**digits


def num_bytes(text: str) -> int:
    """Return how many bytes a text has, which sclite takes for columns."""
    return len(text) if text.isascii() else len(text.encode())
