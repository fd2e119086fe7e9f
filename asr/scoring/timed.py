"""NIST's time marks: words (ctm) and segments (stm) of the channels of recordings.

The formats are those of sclite (SCTK, ``doc/infmts.htm``). A channel is named by its file and its channel
label; lines of different channels may come in any order, those of one channel by time.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from asr.scoring.lines import Line, bad_line, shown

Channel = tuple[str, str]
"""File and channel label; both empty where a format names neither."""

# Rounded to 1/100 s, a start and a duration may together be this far off.
MAX_OVERLAP = 0.05
IGNORE = "IGNORE_TIME_SEGMENT_IN_SCORING"
ALT_BEGIN, ALT, ALT_END = "<ALT_BEGIN>", "<ALT>", "<ALT_END>"
_MARKS = {mark.lower(): mark for mark in (ALT_BEGIN, ALT, ALT_END)}
_LABELS = re.compile(r"<[^<>\s]*>")


class TimedWord(NamedTuple):
    """A line of a ctm: a word or, with `mark`, one of the three tags around alternatives.

    Attributes
    ----------
    start, duration : float
        Seconds; 0 for a tag.
    text : str
    confidence : float or None
    mark : bool
        Whether it is a tag.
    alternate : bool
        Whether it is a tag or a word of an alternative.
    """

    start: float
    duration: float
    text: str
    confidence: float | None = None
    mark: bool = False
    alternate: bool = False

    @property
    def end(self) -> float:
        """Seconds."""
        return self.start + self.duration

    @property
    def middle(self) -> float:
        """Seconds."""
        return self.start + self.duration / 2


@dataclass(frozen=True)
class Segment:
    """A stretch of a channel and what was said in it.

    Attributes
    ----------
    channel : tuple of two str
        File and channel label.
    start, end : float
        Seconds.
    text : str
    fields : dict
        What else the file says of it.
    ignored : bool
        Whether nothing in it is to be scored.
    """

    channel: Channel
    start: float
    end: float
    text: str
    fields: dict[str, Any] = field(default_factory=dict)
    ignored: bool = False

    @property
    def id(self) -> str:
        """Channel and times, so that it does not depend on what else is in the file."""
        return "-".join([part for part in self.channel if part] + [f"{self.start:.3f}", f"{self.end:.3f}"])


def read_ctm(path: Path, lines: Sequence[Line]) -> dict[Channel, list[TimedWord]]:
    """Read ``file channel start duration word [confidence]`` lines; ``;`` starts a comment line.

    Raises
    ------
    DataError
        If a line is malformed, goes back in time or overlaps the one before by more than `MAX_OVERLAP`, or
        alternatives are not closed.
    """
    words: dict[Channel, list[TimedWord]] = {}
    last: dict[Channel, tuple[TimedWord, int]] = {}
    open_at: dict[Channel, int] = {}
    for number, line in lines:
        cells = line.split()
        if line.startswith(";") or not cells:
            continue
        if not 5 <= len(cells) <= 8:
            bad_line(
                path,
                number,
                f"has {len(cells)} columns: {shown(line)}",
                "write `file channel start duration word [confidence]`",
            )
        channel = (cells[0], cells[1])
        mark = _MARKS.get(cells[4].lower())
        if mark is not None:
            if (mark == ALT_BEGIN) == (channel in open_at):
                problem = "within alternatives" if mark == ALT_BEGIN else f"without {ALT_BEGIN}"
                bad_line(path, number, f"{mark} {problem}", f"write {ALT_BEGIN}, {ALT} and {ALT_END} in turn")
            if mark == ALT_BEGIN:
                open_at[channel] = number
            elif mark == ALT_END:
                del open_at[channel]
            # What follows a tag may start over: every alternative begins at the same time.
            words.setdefault(channel, []).append(TimedWord(0.0, 0.0, mark, mark=True, alternate=True))
            continue
        start, duration = _seconds(path, number, cells[2]), _seconds(path, number, cells[3])
        confidence = None if len(cells) < 6 else _float(cells[5])
        if len(cells) > 5 and confidence is None and cells[5].upper() != "NA":
            bad_line(path, number, f"confidence is {shown(cells[5])}", "write a number, or leave it out")
        alternate = channel in open_at
        word = TimedWord(start, duration, cells[4], confidence, False, alternate)
        if not alternate:
            before = last.get(channel)
            # The first comparison, which is quick, is enough for almost every word.
            if before is not None and start < before[0].start + before[0].duration:
                _check_order(path, number, start, *before, "word")
            last[channel] = word, number
        found = words.get(channel)
        if found is None:
            words[channel] = [word]
        else:
            found.append(word)
    for channel, number in open_at.items():
        bad_line(path, number, f"{ALT_BEGIN} of {channel} is never closed", f"add {ALT_END}")
    return words


def read_stm(path: Path, lines: Sequence[Line]) -> list[Segment]:
    """Read ``file channel speaker start end [<label,...>] text`` lines; ``;;`` starts a comment line.

    A segment's fields are ``file``, ``channel``, ``speaker``, ``start``, ``end``, ``duration`` (seconds),
    ``labels`` (a list of str) if there are any, and ``sclite_id``, by which sclite's reports call it.

    Raises
    ------
    DataError
        If a line is malformed, or a segment goes back in time or overlaps the one before in its channel by
        more than `MAX_OVERLAP`.
    """
    segments: list[Segment] = []
    last: dict[Channel, tuple[Segment, int]] = {}
    count: dict[str, int] = {}
    for number, line in lines:
        cells = line.split(maxsplit=5)
        if line.startswith(";;") or not cells:
            continue
        if len(cells) < 5:
            bad_line(
                path,
                number,
                f"has {len(cells)} columns: {shown(line)}",
                "write `file channel speaker start end text`",
            )
        file, label, speaker = cells[:3]
        start, end = _seconds(path, number, cells[3]), _seconds(path, number, cells[4])
        if end < start:
            bad_line(path, number, f"ends at {cells[4]}, before it starts at {cells[3]}", "correct the times")
        text = cells[5].strip() if len(cells) > 5 else ""
        fields: dict[str, Any] = {"speaker": speaker, "file": file, "channel": label}
        fields |= {"start": start, "end": end, "duration": round(end - start, 6)}
        labels = _LABELS.match(text)
        if labels:
            fields["labels"] = labels[0][1:-1].split(",")
            text = text[labels.end() :].lstrip()
        ignored = IGNORE.lower() in text.lower()
        if not ignored:
            check_alternatives(path, number, text)
            fields["sclite_id"] = f"{speaker}-{count.get(speaker, 0):03d}"
            count[speaker] = count.get(speaker, 0) + 1
        segment = Segment((file, label), start, end, text, fields, ignored)
        if segment.channel in last:
            _check_order(path, number, start, *last[segment.channel], "segment")
            if segment.id == last[segment.channel][0].id:
                bad_line(path, number, f"the same segment as on line {last[segment.channel][1]}", "keep one")
        last[segment.channel] = segment, number
        segments.append(segment)
    return segments


def check_alternatives(path: Path | str, number: int, text: str) -> None:
    """Raise DataError unless the braces of ``{ a / b / @ }`` are balanced."""
    if "{" not in text and "}" not in text:
        return
    depth = 0
    for character in text:
        depth += (character == "{") - (character == "}")
        if depth < 0:
            break
    if depth:
        bad_line(
            path,
            number,
            f"braces of alternatives are not balanced: {shown(text)}",
            "write `{ a / b }`",
        )


def words_text(words: Sequence[TimedWord]) -> str:
    """Join words; alternatives become ``{ a / b / @ }``, where ``@`` stands for nothing."""
    parts: list[str] = []
    for word in words:
        if not word.mark:
            parts.append(word.text)
            continue
        # An alternative without words means that nothing was said.
        if word.text != ALT_BEGIN and parts[-1] in ("{", "/"):
            parts.append("@")
        parts.append({ALT_BEGIN: "{", ALT: "/", ALT_END: "}"}[word.text])
    return " ".join(parts)


def units(words: Sequence[TimedWord]) -> Iterator[tuple[float, Sequence[TimedWord]]]:
    """Split words into single words and whole groups of alternatives, with the latest middle in each."""
    group: list[TimedWord] = []
    for word in words:
        if not word.alternate:
            yield word.start + word.duration / 2, (word,)
            continue
        group.append(word)
        if word.text == ALT_END:
            yield max((word.middle for word in group if not word.mark), default=0.0), group
            group = []


def _check_order(
    path: Path, number: int, start: float, before: TimedWord | Segment, line: int, what: str
) -> None:
    if start < before.start:
        bad_line(
            path,
            number,
            f"this {what} starts at {start:g}, before the one on line {line} at {before.start:g}",
            "sort each channel by time",
        )
    if start < before.end - MAX_OVERLAP - 1e-6:
        bad_line(
            path,
            number,
            f"this {what} starts at {start:g}, before the one on line {line} ends at {before.end:g}",
            "correct the times, or give speakers that overlap a channel each",
        )


def _seconds(path: Path, number: int, cell: str) -> float:
    value = _float(cell)
    if value is None or not 0 <= value < math.inf:
        bad_line(path, number, f"time is {shown(cell)}", "write a number of seconds, 0 or more")
    return value


def _float(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None
