"""What `asr score` prints on the terminal."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from asr.scoring.breakdown import Grouping
    from asr.scoring.report import Report
    from asr.scoring.wer import Score

MOST_GROUPS = 30
MOST_UNSEEN = 10

_RATE = {"word": "WER", "character": "CER"}


def print_report(report: Report, *, top: int = 0, worst: int = 0) -> None:
    """Print the numbers, the breakdowns, the most frequent errors and the worst utterances.

    Parameters
    ----------
    report : Report
    top, worst : int
        Number of most frequent errors of each kind, and of worst utterances.
    """
    from asr.scoring.confusions import worst_utterances

    several = len(report.scores) > 1
    if several:
        _print_systems(report)
    else:
        _print_score(report)
    for grouping in report.groupings:
        _print_grouping(report, grouping)
    for name in report.scores:
        of = f" of {name}" if several else ""
        if top:
            _print_errors(report, name, of, top)
        if report.out_of_vocabulary is not None:
            _print_unseen(report, name, of, top or MOST_UNSEEN)
    for name, score in report.scores.items():
        indices = worst_utterances(score, worst)
        if indices:
            print(f"\nUtterances{f' of {name}' if several else ''} with the most errors\n")
        for index in indices:
            print(aligned(score, index))


def aligned(score: Score, index: int, name: str = "") -> str:
    """Show one utterance as sclite's `pra` report does, with stars for a word that is not there."""
    from rich.cells import cell_len

    # Of ASCII a letter is a column, and 50,000 utterances are shown in half the time.
    wide = len if (score.references[index] + score.hypotheses[index]).isascii() else cell_len
    columns: list[tuple[str, str, str]] = []
    for operation, said, recognised in score.alignments[index]:
        stars = "*" * wide(said or recognised or "")
        row = (_visible(said or stars), _visible(recognised or stars))
        columns.append((*row, "" if operation == "C" else operation))
    widths = [max(wide(column[0]), wide(column[1])) for column in columns]
    rows = [
        " ".join(
            column[row] + " " * (width - wide(column[row]))
            for column, width in zip(columns, widths, strict=True)
        ).rstrip()
        for row in range(3)
    ]
    counts = " ".join(map(str, score.counts[index].tolist()))
    return (
        f"id: ({score.ids[index]}){f' {name}' if name else ''}\nScores: (#C #S #D #I) {counts}\n"
        f"REF:  {rows[0]}\nHYP:  {rows[1]}\nEval: {rows[2]}\n"
    )


def _print_score(report: Report) -> None:
    from rich.table import Table

    score = report.baseline
    low, high = report.intervals[report.baseline_name]
    drawn = "" if report.interval_by == "utterance" else f", drawn by {report.interval_by}"
    names = {
        "word": ("Word error rate (WER)", _rate(score.wer)),
        "character": ("Character error rate (CER)", _rate(score.cer)),
    }
    first, second = names.pop(score.unit), *names.values()
    rows = [
        first,
        (f"95% interval{drawn}", _interval(low, high)),
        ("Substitutions", f"{score.substitutions:,}"),
        ("Deletions", f"{score.deletions:,}"),
        ("Insertions", f"{score.insertions:,}"),
        ("Correct", f"{score.hits:,}"),
        (f"Reference {score.unit}s", f"{score.hits + score.substitutions + score.deletions:,}"),
        second,
        ("Sentence error rate (SER)", _rate(score.ser)),
        ("Match error rate (MER)", _rate(score.mer)),
        (f"{score.unit.capitalize()} information lost (WIL)", _rate(score.wil)),
        ("Utterances", f"{score.num_sentences:,}"),
        *(tuple(fact.split(": ", 1)) for fact in _method(score)),
    ]
    table = Table(show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    for name, value in rows:
        table.add_row(name, value)
    _console().print(table)


def _print_systems(report: Report) -> None:
    unit = report.baseline.unit
    other = "character" if unit == "word" else "word"
    rows = []
    for name, score in report.scores.items():
        rates = {"word": _rate(score.wer), "character": _rate(score.cer)}
        counts = (score.substitutions, score.deletions, score.insertions)
        interval = _interval(*report.intervals[name])
        rows.append((name, rates[unit], interval, *map(_count, counts), rates[other], _rate(score.ser)))
    heads = ("system", _RATE[unit], "95% interval", "sub", "del", "ins", _RATE[other], "SER")
    _print_table("", heads, rows)
    score = report.baseline
    length = score.hits + score.substitutions + score.deletions
    facts = [
        f"{_count(length)} reference {unit}s in {_count(score.num_sentences)} utterances",
        *_method(score),
    ]
    if report.interval_by != "utterance":
        facts.append(f"intervals drawn by {report.interval_by}")
    texts = ["; ".join(facts)]
    texts += [report.comparison(report.baseline_name, name).sentence for name in list(report.scores)[1:]]
    console = _console()
    for text in texts:
        console.print(text, "", sep="\n", soft_wrap=not console.is_terminal)


def _method(score: Score) -> list[str]:
    """Say how texts were changed and aligned."""
    facts = [f"Normalisation: {', '.join(score.normalization) or 'none'}"]
    if score.align != "levenshtein":
        facts.append(f"Alignment: {score.align}")
    if score.alternatives:
        facts.append("Alternatives: the best of each")
    if score.optional_words:
        facts.append("Words in parentheses: optional")
    return facts


def _print_grouping(report: Report, grouping: Grouping) -> None:
    several, unit = len(report.scores) > 1, report.baseline.unit
    splits = [grouping.split(score) for score in report.scores.values()]
    order = list(range(len(grouping.names)))
    if not grouping.binned:
        order.sort(key=lambda g: -splits[0][g].error_rate)
    rows = []
    for g in order[:MOST_GROUPS]:
        first = splits[0][g]
        counts = () if several else (first.substitutions, first.deletions, first.insertions)
        rates = [_rate(split[g].error_rate) for split in splits]
        rows.append((first.name, *rates, *map(_count, (first.num_sentences, first.length, *counts))))
    names = tuple(report.scores) if several else (_RATE[unit],)
    kinds = () if several else ("sub", "del", "ins")
    heads = (grouping.field, *names, "utterances", f"{unit}s", *kinds)
    _print_table(f"By {grouping.field}", heads, rows)
    if len(order) > MOST_GROUPS:
        print(f"and {len(order) - MOST_GROUPS} more; --json, --csv and --html have all")


def _print_errors(report: Report, name: str, of: str, top: int) -> None:
    errors = report.errors(name)
    substitutions = [
        (f"{_visible(said)} → {_visible(recognised)}", count)
        for (said, recognised), count in errors.substitutions.most_common(top)
    ]
    columns = (substitutions, errors.deletions.most_common(top), errors.insertions.most_common(top))
    rows = []
    for index in range(max(map(len, columns))):
        row: list[str] = []
        for column in columns:
            word, count = column[index] if index < len(column) else ("", None)
            row += (_visible(word), "" if count is None else _count(count))
        rows.append(row)
    heads = ("substitution", "times", "deletion", "times", "insertion", "times")
    _print_table(f"Most frequent errors{of}", heads, rows, texts=(0, 2, 4))


def _print_unseen(report: Report, name: str, of: str, top: int) -> None:
    unseen = report.out_of_vocabulary[name]  # type: ignore[index]
    total = unseen.words.total()
    print(
        f"\nOut of vocabulary{of}: {_count(total)} of {_count(unseen.num_words)} reference words "
        f"({unseen.rate:.2%})",
        end="",
    )
    if not total:
        return print(".")
    print(f"; {unseen.error_rate:.2%} of them were missed", end="")
    seen = "." if math.isnan(unseen.seen_error_rate) else f", {unseen.seen_error_rate:.2%} of the others."
    print(seen)
    rows = [(word, _count(n), _count(unseen.hits[word])) for word, n in unseen.words.most_common(top)]
    _print_table("", ("unseen word", "times", "correct"), rows)


def _print_table(
    title: str, heads: Sequence[str], rows: Iterable[Sequence[str]], texts: Sequence[int] = (0,)
) -> None:
    from rich.table import Table

    table = Table(*heads, title=title or None, title_justify="left")
    for index, column in enumerate(table.columns):
        column.justify = "left" if index in texts else "right"
        column.overflow = "fold"
    for row in rows:
        table.add_row(*row)
    _console().print(table)


def _console() -> Console:
    from rich.console import Console

    # Words of a transcript, such as "[noise]", are not markup.
    # A file or a pipe has no width that a table would have to fit.
    return Console(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else 200)


def _visible(token: str) -> str:
    """Show the space, which is a character like others where characters are scored."""
    return "␣" if token == " " else token


def _interval(low: float, high: float) -> str:
    return "not defined" if math.isnan(low) else f"{_rate(low)} to {_rate(high)}"


def _rate(rate: float) -> str:
    return f"{rate:.2%}" if math.isfinite(rate) else "infinite: no reference words"


def _count(number: int) -> str:
    return f"{number:,}"
