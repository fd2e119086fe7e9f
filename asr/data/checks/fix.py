"""Cleaned manifests: corrected where that is safe, without what cannot be used; both are listed."""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from asr.data.checks.problems import Problem
from asr.data.checks.run import Needs, SplitReport
from asr.data.checks.texts import clean_text, count_letters
from asr.data.checks.utterances import check_spelling
from asr.data.manifest import to_record, write_manifest
from asr.errors import ConfigError, DataError
from asr.files import atomic_write, make_folder
from asr.types import Utterance

LEFT_OUT, CORRECTED = "left_out.jsonl", "corrected.jsonl"

_OF_TEXT = frozenset({"invisible", "unicode_form", "whitespace"})
# A duration is corrected to the file's if the text can be said in that time (fast English has 20 letters a
# second), or, where the file is longer, if it is by so little that the text is of all of it.
_FASTEST = 20.0
_LONGER_RATIO = 0.1


@dataclass(frozen=True, slots=True)
class Fixed:
    """What became of a manifest.

    Attributes
    ----------
    path : Path
        The cleaned manifest.
    kept, corrected, left_out : int
        Lines.
    reasons : Counter
        Lines left out by kind of problem; a line may have several.
    """

    path: Path
    kept: int
    corrected: int
    left_out: int
    reasons: Counter[str]


def write_fixed(
    reports: Sequence[SplitReport], folder: Path, needs: Needs, drop: Collection[str] = ()
) -> list[Fixed]:
    """Write a cleaned manifest for each split, and the lists of what was left out and corrected.

    Lines with errors are left out, and those with warnings of the kinds `drop`. Corrected are durations that
    are not the file's, Unicode's form, white space and invisible characters. What is written passes the
    check, but for letters of an alphabet learnt from the training split that only lines left out had.

    Parameters
    ----------
    folder : Path
        For the manifests, under their names, ``left_out.jsonl`` and ``corrected.jsonl``.

    Raises
    ------
    ConfigError
        If two manifests have one name, or one would be overwritten.
    DataError
        If nothing is left of a manifest, or a file cannot be written.
    """
    targets = _targets([report.split.path for report in reports], folder)
    make_folder(folder, "--fix")
    results, left_out, corrected = [], [], []
    for report, target in zip(reports, targets, strict=True):
        kept, out, changes, reasons = _fix(report, needs, set(drop))
        if not kept:
            raise DataError(
                f"{report.split.path}: nothing would be left of this manifest "
                f"({', '.join(kind for kind, _ in reasons.most_common(3))}); correct its cause first"
            )
        write_manifest(target, kept)
        left_out += out
        corrected += changes
        results.append(Fixed(target, len(kept), len({c["line"] for c in changes}), len(out), reasons))
    _write_lines(folder / LEFT_OUT, left_out)
    _write_lines(folder / CORRECTED, corrected)
    return results


def _targets(paths: Sequence[str], folder: Path) -> list[Path]:
    inputs = {os.path.realpath(path) for path in paths}
    targets = [folder / Path(path).name for path in paths]
    for path, target in zip(paths, targets, strict=True):
        if targets.count(target) > 1:
            raise ConfigError(f"--fix {folder}: two manifests are called {target.name}; fix them one by one")
        if os.path.realpath(target) in inputs:
            raise ConfigError(f"--fix {folder}: would overwrite {path}; choose another folder")
    return targets


def _fix(
    report: SplitReport, needs: Needs, drop: set[str]
) -> tuple[list[Utterance], list[dict[str, Any]], list[dict[str, Any]], Counter[str]]:
    split = report.split
    problems: dict[int, list[Problem]] = defaultdict(list)
    for problem in report.problems:
        if problem.line:
            problems[problem.line].append(problem)
    users = Counter(u.audio_filepath for u in split.utterances)
    folder = Path(os.path.abspath(Path(split.path).parent))
    utterances = dict(zip(split.lines, split.utterances, strict=True))
    kept, left_out, corrected = [], [], []
    reasons: Counter[str] = Counter()
    for line in sorted(utterances.keys() | problems.keys()):
        utterance = utterances.get(line)
        place = {"manifest": split.path, "line": line}
        solved: set[str] = set()
        if utterance is not None:
            seconds = report.seconds_of_file.get(line)
            changed, solved = _correct(utterance, problems[line], seconds, users)
            faults = [p for p in problems[line] if p.kind not in solved]
            if changed != utterance:
                faults = [p for p in faults if p.kind not in ("alphabet", "too_long", "no_text")]
                faults += check_spelling(changed, needs.normalizer, needs.tokenizer, needs.output_length)
        else:
            faults = problems[line]
        grounds = [p for p in faults if p.severity == "error" or p.kind in drop]
        if utterance is None or grounds:
            reasons.update({p.kind for p in grounds})
            record = {} if utterance is None else to_record(utterance, folder)
            left_out.append(
                place
                | {"id": (utterance.id if utterance else grounds[0].id), "kinds": [p.kind for p in grounds]}
                | {"reasons": [p.message for p in grounds], "utterance": record or None}
            )
            continue
        kept.append(changed)
        for name in ("duration", "text"):
            before, after = getattr(utterance, name), getattr(changed, name)
            if before != after:
                corrected.append(place | {"id": utterance.id, "field": name, "from": before, "to": after})
    return kept, left_out, corrected, reasons


def _correct(
    utterance: Utterance,
    problems: Sequence[Problem],
    seconds: float | None,
    users: Mapping[str | None, int],
) -> tuple[Utterance, set[str]]:
    """Return the utterance corrected, and which kinds of problems that solves."""
    kinds = {problem.kind for problem in problems}
    solved = kinds & _OF_TEXT
    if solved and utterance.text is not None:
        utterance = replace(utterance, text=clean_text(utterance.text))
    is_sole = utterance.offset == 0 and users[utterance.audio_filepath] == 1
    if seconds and kinds & {"duration", "longer_file"} and (is_sole or utterance.features_filepath):
        fits = count_letters(utterance.text or "") <= _FASTEST * seconds
        is_near = seconds <= (1 + _LONGER_RATIO) * utterance.duration
        if ("duration" in kinds and fits) or ("longer_file" in kinds and is_near):
            utterance = replace(utterance, duration=round(seconds, 6))
            # Letters a second were counted over the wrong duration.
            solved |= {"duration", "longer_file", "text_rate"}
    return utterance, solved


def _write_lines(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
