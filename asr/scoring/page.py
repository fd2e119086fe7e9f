"""One self-contained HTML page of a report: it works from a file, without a network.

The parts are in ``assets/``: ``page.html`` is any page, ``scores.html`` what a report has on one. The data is
compact JSON, which ``assets/model.js`` describes and decodes.
"""

from __future__ import annotations

import base64
import html
import json
import math
import mimetypes
import os
import re
from collections.abc import Iterator, Mapping
from itertools import combinations, groupby
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from asr.scoring.breakdown import Grouping, group_by
from asr.scoring.report import Report
from asr.scoring.wer import Score

MOST = 200  # rows in a table of frequent errors or words

_SCRIPTS = ("model.js", "format.js", "tables.js", "filters.js", "list.js", "audio.js", "main.js")
_TOP = """\
<noscript><p>This page needs JavaScript. It loads nothing from the network.</p></noscript>
<header id="top">
  <h1 dir="auto"></h1>
  <p id="about"></p>
</header>
<main>
<section id="headline" aria-label="Scores"></section>
"""
_LABELS = {"duration": "duration (s)", "reference_length": "reference length"}


def make_page(
    report: Report,
    *,
    title: str | None = None,
    paths: Mapping[str, str] | None = None,
    folder: Path | str = ".",
    embed_bytes: int = 0,
) -> tuple[str, list[str]]:
    """Make the page.

    Audio that the fields name (`audio_filepath`, with `offset` and `duration`) can be played. A browser
    lets a page that was opened from a file play other files, but not read them, which the spectrogram
    needs; so the spectrogram asks for the folder unless the audio is embedded.

    Parameters
    ----------
    report : Report
        Of two systems or more for a comparison.
    title : str, optional
    paths : mapping of system name to str, optional
        Where each system's transcripts came from, to be shown.
    folder : Path or str
        Where the page will be; audio is linked relative to it.
    embed_bytes : int
        Embed audio files of up to so many bytes in all, those of the utterances with the most errors first.

    Returns
    -------
    page : str
        Write it as UTF-8 with ``errors="backslashreplace"``: a lone surrogate then is a JSON escape.
    warnings : list of str
        What could not be embedded.
    """
    title = title or f"{'Comparison' if len(report.scores) > 1 else 'Scores'}: {', '.join(report.scores)}"
    scores, warnings = _scores(report, title, paths or {}, folder, embed_bytes, top=True)
    return fill_page(title, f"{_TOP}{scores}</main>"), warnings


def make_fragment(report: Report, *, folder: Path | str, embed_bytes: int = 0) -> tuple[str, list[str]]:
    """Make what a report has on a page of something else: breakdowns, frequent errors, utterances, player.

    A page holds one, in an element of its own. Parameters and results are as for `make_page`.
    """
    return _scores(report, "", {}, folder, embed_bytes, top=False)


def fill_page(title: str, body: str, style: str = "") -> str:
    """Return a page that loads nothing from a network.

    Parameters
    ----------
    title : str
        Text.
    body, style : str
        HTML, and CSS in addition to that of scores.
    """
    parts = {"TITLE": html.escape(title), "STYLE": f"{read_asset('page.css')}{style}", "BODY": body}
    return _fill(read_asset("page.html"), parts)


def read_asset(name: str) -> str:
    """Return a file of ``assets/``."""
    return (Path(__file__).with_name("assets") / name).read_text(encoding="utf-8")


def _fill(template: str, parts: Mapping[str, str]) -> str:
    """Put parts in place of ``@NAME@``; what looks like it within a part stays."""
    return re.sub(r"@([A-Z]+)@", lambda match: parts[match[1]], template)


def _scores(
    report: Report, title: str, paths: Mapping[str, str], folder: Path | str, embed_bytes: int, *, top: bool
) -> tuple[str, list[str]]:
    audio, audio_of, warnings = _audio(report, Path(folder).absolute(), embed_bytes)
    baseline = report.baseline
    durations = [_number(fields.get("duration")) for fields in baseline.fields]
    data = {
        "title": title,
        "top": top,
        "reference": report.reference,
        "normalization": list(baseline.normalization),
        "align": baseline.align,
        "alternatives": baseline.alternatives,
        "optional_words": baseline.optional_words,
        "unit": baseline.unit,
        "separator": " " if baseline.unit == "word" else "\n",
        "interval_by": report.interval_by,
        "systems": [_system(report, name, paths.get(name, name)) for name in report.scores],
        "comparisons": _comparisons(report),
        "fields": [_field(report, grouping) for grouping in _groupings(report)],
        "unseen": _unseen(report),
        "durations": durations if any(value is not None for value in durations) else None,
        "audio": audio,
        "folder": f"file://{quote(str(Path(folder).absolute()))}/" if audio else None,
        "utterances": list(_utterances(report, audio_of)),
    }
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # Within a script element only "<" can end it or begin a comment.
    parts = {"DATA": text.replace("<", "\\u003c"), "SCRIPT": "\n".join(map(read_asset, _SCRIPTS))}
    return _fill(read_asset("scores.html"), parts), warnings


def _system(report: Report, name: str, path: str) -> dict[str, Any]:
    score, errors = report.scores[name], report.errors(name)
    kinds = {
        "S": [[*pair, count] for pair, count in errors.substitutions.most_common(MOST)],
        "D": [list(pair) for pair in errors.deletions.most_common(MOST)],
        "I": [list(pair) for pair in errors.insertions.most_common(MOST)],
    }
    distinct = {"S": len(errors.substitutions), "D": len(errors.deletions), "I": len(errors.insertions)}
    return {
        "name": name,
        "path": path,
        "remarks": report.remarks(name),
        "rates": {rate: _finite(getattr(score, rate)) for rate in ("wer", "cer", "ser", "mer", "wil")},
        "interval": [_finite(bound) for bound in report.intervals[name]],
        "totals": score.counts.sum(axis=0).tolist(),
        "errors": {kind: {"most": most, "distinct": distinct[kind]} for kind, most in kinds.items()},
    }


def _comparisons(report: Report) -> list[dict[str, Any]]:
    found = []
    names = list(report.scores)
    for (a, name_a), (b, name_b) in combinations(enumerate(names), 2):
        between = report.difference(name_a, name_b)
        found.append(
            {
                "a": a,
                "b": b,
                "sentence": report.comparison(name_a, name_b).sentence,
                "words_a": {"total": between.only_a.total(), "most": between.only_a.most_common(MOST)},
                "words_b": {"total": between.only_b.total(), "most": between.only_b.most_common(MOST)},
            }
        )
    return found


def _groupings(report: Report) -> list[Grouping]:
    """Return the asked-for groupings, with speaker and duration if they are known, and the length."""
    fields = {"speaker", "duration"} & {name for fields in report.baseline.fields for name in fields}
    asked = {grouping.field for grouping in report.groupings}
    standard = [name for name in ("speaker", "duration") if name in fields] + ["reference_length"]
    added = [group_by(report.baseline, name) for name in standard if name not in asked]
    return [g for g in (*report.groupings, *added) if len(g.names) > 1 or g.field in asked]


def _field(report: Report, grouping: Grouping) -> dict[str, Any]:
    groups = [grouping.split(score) for score in report.scores.values()]
    label = _LABELS.get(grouping.field, grouping.field)
    if grouping.field == "reference_length":
        label += f" ({report.baseline.unit}s)"
    return {
        "name": grouping.field,
        "label": label,
        "ordered": grouping.binned,
        "shown": not grouping.binned,
        "groups": grouping.names,
        "members": grouping.members.tolist(),
        "sizes": [group.num_sentences for group in groups[0]],
        "counts": [[[g.hits, g.substitutions, g.deletions, g.insertions] for g in row] for row in groups],
    }


def _unseen(report: Report) -> list[dict[str, Any]] | None:
    if report.out_of_vocabulary is None:
        return None
    return [
        {
            "totals": {
                "words": unseen.words.total(),
                "all": unseen.num_words,
                "errors": unseen.words.total() - unseen.hits.total(),
                "seen_errors": unseen.num_words
                - unseen.words.total()
                - unseen.num_hits
                + unseen.hits.total(),
            },
            "most": [[word, count, unseen.hits[word]] for word, count in unseen.words.most_common(MOST)],
        }
        for unseen in report.out_of_vocabulary.values()
    ]


def _utterances(report: Report, audio_of: list[Any]) -> Iterator[list[Any]]:
    scores = list(report.scores.values())
    separator = " " if report.baseline.unit == "word" else "\n"
    for index, id in enumerate(report.baseline.ids):
        utterance: list[Any] = [id, "", audio_of[index]]
        for place, score in enumerate(scores):
            said, entry = _entry(score, index, separator)
            if place == 0:
                utterance[1] = said
            elif said != utterance[1]:
                entry = [*(entry or _entry(score, index, separator, whole=True)[1]), said]
            utterance.append(entry)
        yield utterance


def _entry(score: Score, index: int, separator: str, whole: bool = False) -> tuple[str, Any]:
    """Return the reference's tokens and what `assets/model.js` calls a system; `whole` is never 0."""
    aligned = score.alignments[index]
    said = separator.join(reference or "" for operation, reference, _ in aligned if operation != "I")
    letters = [
        "c" if operation == "C" and reference != recognised else operation
        for operation, reference, recognised in aligned
    ]
    if not whole and all(letter == "C" for letter in letters):
        return said, 0
    other = [a[2] or "" for letter, a in zip(letters, aligned, strict=True) if letter in "SIc"]
    runs = ((letter, len(list(run))) for letter, run in groupby(letters))
    operations = "".join(letter if count == 1 else f"{letter}{count}" for letter, count in runs)
    return said, [operations, separator.join(other)]


def _audio(
    report: Report, folder: Path, embed_bytes: int
) -> tuple[list[dict[str, str]], list[Any], list[str]]:
    """Return the audio files, each utterance's [file, offset, duration or None] or 0, and warnings."""
    paths: dict[str, int] = {}
    audio_of: list[Any] = []
    for fields in report.baseline.fields:
        path = fields.get("audio_filepath")
        if not isinstance(path, str) or not path:
            audio_of.append(0)
            continue
        offset = _number(fields.get("offset")) or 0.0
        duration = _number(fields.get("duration"))
        audio_of.append([paths.setdefault(path, len(paths)), offset, duration])
    files: list[dict[str, str]] = [{"path": os.path.relpath(path, folder)} for path in paths]
    warnings: list[str] = []
    if embed_bytes:
        _embed(report, list(paths), audio_of, files, embed_bytes, warnings)
    return files, audio_of, warnings


def _embed(
    report: Report,
    paths: list[str],
    audio_of: list[Any],
    files: list[dict[str, str]],
    limit: int,
    warnings: list[str],
) -> None:
    errors = sum(score.counts[:, 1:].sum(axis=1) for score in report.scores.values())
    used, skipped, unread = 0, 0, []
    done: set[int] = set()
    for index in np.argsort(-np.asarray(errors), kind="stable").tolist():
        if audio_of[index] == 0 or audio_of[index][0] in done:
            continue
        file = audio_of[index][0]
        done.add(file)
        try:
            size = os.path.getsize(paths[file])
            if used + size > limit:
                skipped += 1
                continue
            data = Path(paths[file]).read_bytes()
        except OSError as error:
            unread.append(f"{paths[file]} ({error.strerror})")
            continue
        used += size
        kind = mimetypes.guess_type(paths[file])[0] or "audio/wav"
        files[file] |= {"base64": base64.b64encode(data).decode("ascii"), "type": kind}
    if skipped:
        warnings.append(
            f"{skipped} of {len(paths)} audio files are linked, not embedded, to keep the page as small as "
            f"asked for"
        )
    if unread:
        warnings.append(f"{len(unread)} audio files cannot be read, the first is {unread[0]}")


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
