"""Alignments as files: Praat's TextGrid, NIST's CTM, JSON and SRT."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from asr.alignment.align import AlignedWord, TextAlignment
from asr.errors import DataError
from asr.files import atomic_write
from asr.segments import MAX_PAUSE, MAX_SEGMENT_CHARACTERS, MAX_SEGMENT_SECONDS
from asr.transcribe import TranscriptionResult
from asr.types import Segment, Word
from asr.writers import FORMATS as TRANSCRIPT_FORMATS
from asr.writers import WriterOptions

Interval = tuple[float, float, str]


def write_alignment(alignment: TextAlignment, stem_path: Path, formats: Sequence[str]) -> list[Path]:
    """Write an alignment once per format, each file whole or not at all.

    Parameters
    ----------
    stem_path : Path
        The output path without its suffix: ``out/talk`` gives ``out/talk.TextGrid``.
    formats : sequence of str
        Of `FORMATS`.

    Raises
    ------
    DataError
        A file cannot be written.
    """
    paths = [stem_path.with_name(f"{stem_path.name}.{name}") for name in formats]
    for path, name in zip(paths, formats, strict=True):
        write_text(path, FORMATS[name](alignment))
    return paths


def write_text(path: Path, content: str) -> None:
    """Write a UTF-8 file, whole or not at all.

    Raises
    ------
    DataError
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            temporary.write_text(content, encoding="utf-8", newline="\n")
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written ({error.strerror}); check the folder and the disk"
        ) from error


def textgrid(alignment: TextAlignment) -> str:
    """Return a TextGrid in Praat's long text format.

    Tiers: "words", "characters" (of models that spell with characters; else "tokens"), and where there are
    any, "not in text" with the speech that the transcript lacks and "not in audio" with a point for
    the words that were not found.
    """
    tokens = [token for word in alignment.words for token in word.tokens]
    spelling = "characters" if all(len(token.text) == 1 for token in tokens) else "tokens"
    tiers = [
        _interval_tier("words", alignment.duration, ((w.start, w.end, w.text) for w in alignment.words)),
        _interval_tier(spelling, alignment.duration, ((t.start, t.end, t.text) for t in tokens)),
    ]
    if alignment.extra:
        extra = ((e.start, e.end, e.text) for e in alignment.extra)
        tiers.append(_interval_tier("not in text", alignment.duration, extra))
    if alignment.missing:
        points: dict[str, str] = {}
        for word in alignment.missing:
            time = _seconds(word.time)
            points[time] = f"{points[time]} {word.text}" if time in points else word.text
        tiers.append(_point_tier("not in audio", alignment.duration, points))
    lines = [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        "xmin = 0 ",
        f"xmax = {_seconds(alignment.duration)} ",
        "tiers? <exists> ",
        f"size = {len(tiers)} ",
        "item []: ",
    ]
    for number, tier in enumerate(tiers, start=1):
        lines += [f"    item [{number}]:", *(f"        {line}" for line in tier)]
    return "\n".join(lines) + "\n"


def _interval_tier(name: str, duration: float, intervals: Iterable[Interval]) -> list[str]:
    filled = list(_without_gaps(intervals, duration))
    lines = [*_tier_head("IntervalTier", name, duration), f"intervals: size = {len(filled)} "]
    for number, (start, end, text) in enumerate(filled, start=1):
        lines += [
            f"intervals [{number}]:",
            f"    xmin = {start} ",
            f"    xmax = {end} ",
            f"    text = {_quoted(text)} ",
        ]
    return lines


def _point_tier(name: str, duration: float, points: Mapping[str, str]) -> list[str]:
    lines = [*_tier_head("TextTier", name, duration), f"points: size = {len(points)} "]
    for number, (time, text) in enumerate(points.items(), start=1):
        lines += [f"points [{number}]:", f"    number = {time} ", f"    mark = {_quoted(text)} "]
    return lines


def _tier_head(kind: str, name: str, duration: float) -> list[str]:
    return [f'class = "{kind}" ', f'name = "{name}" ', "xmin = 0 ", f"xmax = {_seconds(duration)} "]


def _without_gaps(intervals: Iterable[Interval], duration: float) -> Iterator[tuple[str, str, str]]:
    """Fill the gaps: in a tier, each interval begins where the one before ends."""
    at = _seconds(0.0)
    for start, end, text in intervals:
        begin, stop = _seconds(start), _seconds(end)
        if begin != at:
            yield at, begin, ""
        if stop != begin:
            yield begin, stop, text
        at = stop
    if at != _seconds(duration):
        yield at, _seconds(duration), ""


def _seconds(time: float) -> str:
    return f"{time:.6f}".rstrip("0").rstrip(".")


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def ctm(alignment: TextAlignment) -> str:
    """Return a line a word: ``<id> 1 <start> <duration> <word> <confidence>``.

    White space in the id becomes ``_``.
    """
    name = "_".join(alignment.id.split())
    return "".join(
        f"{name} 1 {word.start:.3f} {word.end - word.start:.3f} {word.text} {word.confidence:.4f}\n"
        for word in alignment.words
    )


def to_json(alignment: TextAlignment) -> str:
    """Return everything as JSON, times in seconds, with the names that transcripts have."""

    def times(item: AlignedWord | object) -> dict[str, float]:
        return {key: round(getattr(item, key), 3) for key in ("start", "end")}

    content = {
        "id": alignment.id,
        "duration": round(alignment.duration, 3),
        "words": [
            {
                "word": word.text,
                **times(word),
                "probability": round(word.confidence, 4),
                "line": word.line + 1,
                "characters": [
                    {"text": t.text, **times(t), "probability": round(t.confidence, 4)} for t in word.tokens
                ],
            }
            for word in alignment.words
        ],
        "missing": [
            {"word": word.text, "line": word.line + 1, "after": round(word.time, 3), "reason": word.reason}
            for word in alignment.missing
        ],
        "extra": [{**times(extra), "text": extra.text} for extra in alignment.extra],
        "unknown": dict(alignment.unknown),
    }
    return json.dumps(content, ensure_ascii=False, indent=2) + "\n"


def srt(alignment: TextAlignment) -> str:
    """Return subtitles: a line of the transcript each, long ones split at pauses."""
    segments = tuple(
        Segment(
            start=words[0].start,
            end=words[-1].end,
            text=" ".join(word.text for word in words),
            words=tuple(Word(word.text, word.start, word.end, word.confidence) for word in words),
            tokens=(),
            avg_logprob=0.0,
        )
        for words in _cues(alignment.words)
    )
    result = TranscriptionResult(Path(alignment.id), alignment.duration, "", segments)
    return TRANSCRIPT_FORMATS["srt"](result, WriterOptions())


def _cues(words: Sequence[AlignedWord]) -> Iterator[list[AlignedWord]]:
    lines: dict[int, list[AlignedWord]] = {}
    for word in words:
        lines.setdefault(word.line, []).append(word)
    for line in lines.values():
        if _fits(line):
            yield line
            continue
        cue: list[AlignedWord] = []
        for word in line:
            if cue and (word.start - cue[-1].end > MAX_PAUSE or not _fits([*cue, word])):
                yield cue
                cue = []
            cue.append(word)
        yield cue


def _fits(words: Sequence[AlignedWord]) -> bool:
    characters = sum(len(word.text) for word in words) + len(words) - 1
    seconds = words[-1].end - words[0].start
    return characters <= MAX_SEGMENT_CHARACTERS and seconds <= MAX_SEGMENT_SECONDS


FORMATS: Mapping[str, Callable[[TextAlignment], str]] = {
    "TextGrid": textgrid,
    "ctm": ctm,
    "json": to_json,
    "srt": srt,
}
