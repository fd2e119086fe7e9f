"""One self-contained HTML page of a check: what was found, with the audio to listen to, and histograms."""

from __future__ import annotations

import base64
import html
import mimetypes
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

from asr.data.checks.histogram import MEASURES, draw, make_histogram
from asr.data.checks.problems import KINDS, Problem
from asr.data.checks.run import SplitReport
from asr.data.checks.splits import Split
from asr.data.checks.suspect import Suspect
from asr.scoring.page import fill_page
from asr.types import Utterance

MOST = 50
"""Rows in a table; the page of a large corpus must still open."""

# Audio files of up to so many bytes are put into the page, up to so many in all; the others are linked.
_CLIP_BYTES, _PAGE_BYTES = 300_000, 6_000_000
_UNHEARD = {"unreadable", "silent"}
# What browsers play.
_PLAYED = {".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".m4a", ".mp4", ".aac", ".webm"}


class _Players:
    """Makes audio players, and puts short clips into the page as long as there is room."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.room = _PAGE_BYTES

    def player(self, utterance: Utterance) -> str:
        path = utterance.audio_filepath
        if path is None or Path(path).suffix.lower() not in _PLAYED or not os.path.isfile(path):
            return ""
        if utterance.offset == 0 and os.path.getsize(path) <= min(_CLIP_BYTES, self.room):
            content = Path(path).read_bytes()
            self.room -= len(content)
            kind = mimetypes.guess_type(path)[0] or "audio/wav"
            source = f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
        else:
            source = quote(os.path.relpath(path, self.folder))
            end = utterance.offset + utterance.duration
            source += f"#t={utterance.offset:g},{end:g}"
        return f'<audio controls preload="none" src="{html.escape(source)}"></audio>'


def make_check_page(
    reports: Sequence[SplitReport],
    folder: Path,
    suspects: Sequence[Suspect] = (),
    unchecked: Sequence[str] = (),
) -> str:
    """Make the page; it is one file and loads nothing from a network.

    Parameters
    ----------
    reports : sequence of SplitReport
    folder : Path
        Where the page will be; audio that is not put into it is linked from there.
    suspects : sequence of Suspect
        The first ones of all, those with the most doubtful text first.
    unchecked : sequence of str
        Sentences on what was not looked at.

    Returns
    -------
    str
        HTML. Write it as UTF-8 with ``errors="backslashreplace"``.
    """
    players = _Players(folder.absolute())
    problems = [problem for report in reports for problem in report.problems]
    sections = [
        ("kinds", "What was found", _kinds(reports, problems)),
        ("lengths", "Histograms", _histograms(reports)),
        ("suspects", "Texts that the model does not believe", _suspects(suspects, players)),
    ]
    sections += [
        (kind, f"{kind}: {KINDS[kind][1]}", content) for kind, content in _tables(reports, problems, players)
    ]
    shown = [(id, title, content) for id, title, content in sections if content]
    names = ", ".join(report.split.name for report in reports)
    title = f"Data check: {names}"
    body = [
        f'<header id="top"><h1 dir="auto">{_text(title)}</h1><p id="about">{_about(reports)}</p>',
        *(f'<p class="note">{_text(sentence)}</p>' for sentence in unchecked),
        f"</header><main>{_cards(problems)}",
        '<nav aria-label="Sections">',
        # The kinds have their links in the table.
        *(f'<a href="#{id}">{_text(title)}</a>' for id, title, _ in shown if id not in KINDS),
        "</nav>",
        *(
            f'<section id="{id}"><h2>{_badge(id)}{_text(title)}</h2>{content}</section>'
            for id, title, content in shown
        ),
        "</main>",
    ]
    style = (Path(__file__).with_name("assets") / "check.css").read_text(encoding="utf-8")
    return fill_page(title, "\n".join(body), style)


def _about(reports: Sequence[SplitReport]) -> str:
    return " · ".join(
        f"{_text(report.split.name)}: {len(report.split.utterances):,} utterances, {report.hours:.2f} hours, "
        f"{report.num_speakers:,} speaker{'' if report.num_speakers == 1 else 's'}"
        for report in reports
    )


def _cards(problems: Sequence[Problem]) -> str:
    by_severity = Counter(problem.severity for problem in problems)
    verdict = (
        "not fit to train on"
        if by_severity["error"]
        else "fit, with losses"
        if by_severity["warning"]
        else "fit"
    )
    cards = [f'<div class="card"><span>This data is</span><b>{verdict}</b></div>']
    for severity in ("error", "warning", "notice"):
        cards.append(f'<div class="card"><span>{severity}s</span><b>{by_severity[severity]:,}</b></div>')
    return f'<section class="cards check" aria-label="Verdict">{"".join(cards)}</section>'


def _kinds(reports: Sequence[SplitReport], problems: Sequence[Problem]) -> str:
    if not problems:
        return "<p>Nothing.</p>"
    counts = Counter((problem.kind, problem.manifest) for problem in problems)
    head = "".join(f'<th scope="col">{_text(report.split.name)}</th>' for report in reports)
    rows = []
    for kind, (_, what) in KINDS.items():
        of_kind = [counts[kind, report.split.path] for report in reports]
        if any(of_kind):
            cells = "".join(f"<td>{count or '–'}</td>" for count in of_kind)
            rows.append(
                f'<tr><td>{_badge(kind)}<a href="#{kind}">{kind}</a></td>{cells}'
                f'<td class="text">{_text(what)}</td></tr>'
            )
    return (
        f'<div class="scroll kinds"><table><thead><tr><th scope="col">kind</th>{head}'
        f'<th class="text" scope="col">what it is</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _histograms(reports: Sequence[SplitReport]) -> str:
    figures = []
    for measure, title in MEASURES.items():
        histogram = make_histogram({r.split.name: r.measures[measure] for r in reports})
        if histogram is not None:
            figures += [draw(histogram, title, name, min(i, 2)) for i, name in enumerate(histogram.counts)]
    return f'<div class="charts">{"".join(figures)}</div>' if figures else ""


def _suspects(suspects: Sequence[Suspect], players: _Players) -> str:
    rows = []
    for suspect in suspects[:MOST]:
        utterance = suspect.split.utterances[suspect.index]
        rows.append(
            f'<tr><td class="number">{suspect.loss:.2f}</td><td class="number">{suspect.advantage:.2f}</td>'
            f'<td class="number">{suspect.cer:.0%}</td><td dir="auto">{_text(suspect.text)}</td>'
            f'<td dir="auto">{_text(suspect.recognized)}</td>'
            f'<td class="place">{_place(suspect.split, suspect.index)}{players.player(utterance)}</td></tr>'
        )
    if not rows:
        return ""
    return (
        '<p class="note">The highest losses first. Listen: the text is wrong, or the model is.</p>'
        + _table(
            ("loss, nats a token", "less for the model's own", "CER", "text", "recognised", "utterance"), rows
        )
    )


def _tables(
    reports: Sequence[SplitReport], problems: Sequence[Problem], players: _Players
) -> Iterator[tuple[str, str]]:
    """Yield each kind that was found and the table of its first problems."""
    splits = {report.split.path: report.split for report in reports}
    index_of_line = {path: {line: i for i, line in enumerate(split.lines)} for path, split in splits.items()}
    by_kind: dict[str, list[Problem]] = {}
    for problem in problems:
        by_kind.setdefault(problem.kind, []).append(problem)
    for kind in KINDS:
        found = by_kind.get(kind, [])
        if not found:
            continue
        rows = []
        for problem in found[:MOST]:
            split = splits[problem.manifest]
            i = index_of_line[problem.manifest].get(problem.line)
            place = _line(problem) if i is None else _place(split, i)
            player = "" if i is None or kind in _UNHEARD else players.player(split.utterances[i])
            rows.append(
                f'<tr><td class="place">{place}</td><td dir="auto">{_text(problem.message)}</td>'
                f"<td>{player}</td></tr>"
            )
        more = f'<p class="note">The first {MOST} of {len(found):,}.</p>' if len(found) > MOST else ""
        yield kind, more + _table(("utterance", "problem", "audio"), rows)


def _place(split: Split, index: int) -> str:
    utterance = split.utterances[index]
    path = utterance.features_filepath or utterance.audio_filepath or ""
    return f"<b>{_text(utterance.id)}</b>{_text(split.name)}, line {split.lines[index]}<br>{_text(path)}"


def _line(problem: Problem) -> str:
    where = f", line {problem.line}" if problem.line else ""
    return f"<b>{_text(problem.id)}</b>{_text(problem.manifest)}{where}"


def _table(head: Sequence[str], rows: Iterable[str]) -> str:
    cells = "".join(f'<th scope="col" class="text">{_text(name)}</th>' for name in head)
    return (
        f'<div class="scroll list" tabindex="0"><table><thead><tr>{cells}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _badge(kind: str) -> str:
    return f'<span class="badge {KINDS[kind][0]}">{KINDS[kind][0]}</span> ' if kind in KINDS else ""


def _text(text: str) -> str:
    return html.escape(text)
