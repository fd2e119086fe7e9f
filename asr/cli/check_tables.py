"""What `asr check` found, as text and as JSON."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asr.data.checks.fix import Fixed
    from asr.data.checks.problems import Problem
    from asr.data.checks.run import SplitReport
    from asr.data.checks.suspect import Suspect

_MAX_SHOWN = 3


def to_json(
    reports: Sequence[SplitReport], suspects: Sequence[Suspect], fixed: Sequence[Fixed]
) -> dict[str, Any]:
    """Return all that was found, as JSON can hold it."""
    from asr.data.checks.problems import count_severities

    counts = count_severities(problem for report in reports for problem in report.problems)
    return {
        "manifests": [
            {
                "manifest": report.split.path,
                "utterances": len(report.split.utterances),
                "hours": report.hours,
                "speakers": report.num_speakers,
                "kinds": dict(Counter(problem.kind for problem in report.problems)),
                "measures": {name: _spread(values) for name, values in report.measures.items()},
                "problems": [asdict(problem) for problem in report.problems],
            }
            for report in reports
        ],
        "errors": counts["error"],
        "warnings": counts["warning"],
        "notices": counts["notice"],
        "utterances": sum(len(report.split.utterances) for report in reports),
        "suspects": [
            {
                "manifest": suspect.split.path,
                "line": suspect.split.lines[suspect.index],
                "id": suspect.utterance.id,
                "text": suspect.text,
                "recognized": suspect.recognized,
                "loss_per_token": round(suspect.loss, 4),
                "advantage_per_token": round(suspect.advantage, 4),
                "wer": suspect.wer if math.isfinite(suspect.wer) else None,
                "cer": suspect.cer if math.isfinite(suspect.cer) else None,
            }
            for suspect in suspects
        ],
        "fixed": [
            {
                "manifest": str(one.path),
                "kept": one.kept,
                "corrected": one.corrected,
                "left_out": one.left_out,
                "reasons": dict(one.reasons),
            }
            for one in fixed
        ],
    }


def _spread(values: Any) -> dict[str, Any] | None:
    """Return least, median and largest of a measure, and its histogram."""
    import numpy as np

    if not len(values):
        return None
    counts, edges = np.histogram(values, 24)
    return {
        "min": float(values.min()),
        "median": float(np.median(values)),
        "max": float(values.max()),
        "counts": counts.tolist(),
        "edges": edges.tolist(),
    }


def print_report(report: SplitReport) -> None:
    """Print a split's size, histograms, and each kind of problem with its first utterances."""
    from asr.data.checks.histogram import make_histogram, sparkline
    from asr.data.checks.problems import KINDS

    split = report.split
    print(
        f"{split.path}: {count(len(split.utterances), 'utterance')}, {report.hours:.2f} hours, "
        f"{count(report.num_speakers, 'speaker')}"
    )
    for measure in ("seconds", "letters_per_second"):
        histogram = make_histogram({"": report.measures[measure]})
        if histogram is not None and len(split.utterances) > 1:
            print(f"  {measure.replace('_per_', '/'):15} {sparkline(histogram, '')}")
    by_kind: dict[str, list[Problem]] = {}
    for problem in report.problems:
        by_kind.setdefault(problem.kind, []).append(problem)
    for kind, (severity, _) in KINDS.items():
        if found := by_kind.get(kind):
            print(f"  {severity:7}  {kind:16}  {len(found):6}")
            for problem in found[:_MAX_SHOWN]:
                print(f"    {_place(problem)}: {problem.message}")
            if len(found) > _MAX_SHOWN:
                print(f"    and {len(found) - _MAX_SHOWN} more")


def _place(problem: Problem) -> str:
    """Return the file of a problem, with the utterance and its line."""
    line = f"line {problem.line}" if problem.line else ""
    inside = ", ".join(filter(None, (problem.id, line)))
    return f"{problem.path} ({inside})" if inside else problem.path


def print_suspects(suspects: Sequence[Suspect]) -> None:
    """Print the texts that the model believes least."""
    if not suspects:
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("loss", "less", "CER", "utterance", "text", "recognised", title="texts by their loss")
    for suspect in suspects:
        row = (f"{suspect.loss:.2f}", f"{suspect.advantage:.2f}", f"{suspect.cer:.0%}")
        place = f"{suspect.utterance.id} ({suspect.split.name}, line {suspect.split.lines[suspect.index]})"
        table.add_row(*row, *map(_plain, (place, suspect.text, suspect.recognized)))
    Console().print(table)
    print("nats a token; less: by how much the model's own text beats it")


def _plain(text: str) -> Any:
    from rich.text import Text

    return Text(text)  # brackets of a transcript are no markup


def print_fixed(fixed: Sequence[Fixed], folder: Path) -> None:
    """Print what became of each manifest, and where the reasons are."""
    for one in fixed:
        why = ", ".join(f"{kind} {count}" for kind, count in one.reasons.most_common())
        print(
            f"{one.path}: {one.kept} kept ({one.corrected} corrected), {one.left_out} left out"
            + (f" ({why})" if why else "")
        )
    if fixed:
        print(f"reasons in {folder / 'left_out.jsonl'}, corrections in {folder / 'corrected.jsonl'}")


def count(number: int, noun: str) -> str:
    """Return a number and its noun."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
