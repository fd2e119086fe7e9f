"""Subtitles, SRT and WebVTT, and Whisper's TSV: texts with a start and an end."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from asr.scoring.lines import Line, bad_line, shown
from asr.scoring.timed import Segment

_CLOCK = r"(?:(\d+):)?(\d{1,2}):(\d{2})[.,](\d{1,3})"
ARROW = re.compile(rf"\s*{_CLOCK}\s*-->\s*{_CLOCK}(?:\s.*)?")
_VOICE = re.compile(r"<v(?:\.[^\s>]*)?\s+([^>]*)>")
_TAG = re.compile(r"</?(?:[biuvc]|font|ruby|rt|lang)(?:[.\s][^>]*)?>|<[\d:.]+>|\{\\[^}]*\}", re.IGNORECASE)
_UNDERLINE = re.compile(r"<u>", re.IGNORECASE)
TSV_HEADER = ["start", "end", "text"]


def read_subtitles(path: Path, lines: Sequence[Line], *, webvtt: bool) -> list[Segment]:
    """Read SRT or, with `webvtt`, WebVTT. Formatting is left out, line breaks become spaces.

    A WebVTT voice (``<v Ann>``) is the segment's field ``speaker``.

    Raises
    ------
    DataError
        If a line of times is malformed or goes back in time, or the file repeats each subtitle to highlight
        its words one by one.
    """
    segments: list[Segment] = []
    underlined = False
    for number, arrow, body in _blocks(path, lines, webvtt):
        clock = ARROW.fullmatch(arrow)
        if clock is None:
            bad_line(path, number, f"times are {shown(arrow)}", "write `HH:MM:SS,mmm --> HH:MM:SS,mmm`")
        start, end = _clock(clock.groups()[:4]), _clock(clock.groups()[4:])
        if end < start:
            bad_line(path, number, "ends before it starts", "correct the times")
        if segments and start < segments[-1].start:
            bad_line(path, number, f"starts at {start:g}, before the one above it", "sort the file by time")
        raw = " ".join(body)
        voice = _VOICE.search(raw)
        text = _TAG.sub("", raw)
        text = " ".join((html.unescape(text) if webvtt else text).split())
        if segments and text and text == segments[-1].text and (underlined or _UNDERLINE.search(raw)):
            bad_line(
                path,
                number,
                "repeats the subtitle before it to highlight another word",
                "write the subtitles without highlighted words",
            )
        underlined = _UNDERLINE.search(raw) is not None
        fields: dict[str, Any] = {"start": start, "end": end, "duration": round(end - start, 6)}
        if voice:
            fields["speaker"] = voice[1].strip()
        segments.append(Segment(("", ""), start, end, text, fields))
    return segments


def read_whisper_tsv(path: Path, lines: Sequence[Line]) -> list[Segment]:
    """Read Whisper's TSV: ``start end text`` with tabs, in milliseconds, after a header line."""
    segments: list[Segment] = []
    for number, line in [line for line in lines if line[1].strip()][1:]:
        cells = line.split("\t", 2)
        if len(cells) < 3 or not (cells[0].isdigit() and cells[1].isdigit()):
            bad_line(path, number, f"is {shown(line)}", "write `start end text` with tabs, in milliseconds")
        start, end = int(cells[0]) / 1000, int(cells[1]) / 1000
        if end < start or (segments and start < segments[-1].start):
            bad_line(path, number, f"starts at {start:g}, ends at {end:g}", "sort the file by time")
        fields = {"start": start, "end": end, "duration": round(end - start, 6)}
        segments.append(Segment(("", ""), start, end, cells[2].strip(), fields))
    return segments


def _blocks(path: Path, lines: Sequence[Line], webvtt: bool) -> Iterator[tuple[int, str, list[str]]]:
    """Split at blank lines; give each subtitle's line number, its line of times, and its text."""
    block: list[Line] = []
    for number, line in [*lines, (len(lines) + 1, "")]:
        if line.strip():
            block.append((number, line))
            continue
        if block:
            first = block[0][1].strip()
            timed = next((i for i, (_, text) in enumerate(block[:2]) if "-->" in text), None)
            if timed is not None:
                yield block[timed][0], block[timed][1], [text for _, text in block[timed + 1 :]]
            elif not (webvtt and re.match(r"(WEBVTT|NOTE|STYLE|REGION)\b", first)):
                bad_line(
                    path,
                    block[0][0],
                    f"no times with {shown(first)}",
                    "give it its `HH:MM:SS,mmm --> HH:MM:SS,mmm`, or remove blank lines within a subtitle",
                )
        block = []


def _clock(groups: Sequence[str | None]) -> float:
    hours, minutes, seconds, fraction = (group or "0" for group in groups)
    return int(hours) * 3600 + int(minutes) * 60 + int(seconds) + int(fraction.ljust(3, "0")) / 1000
