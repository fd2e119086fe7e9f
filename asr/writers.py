"""Transcripts as files: plain text, SRT and WebVTT subtitles, TSV and JSON, with Whisper's names."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.errors import DataError
from asr.files import atomic_write
from asr.types import Segment, Word

if TYPE_CHECKING:
    from asr.transcribe import TranscriptionResult

# With lines counted across segments, a silence this long still ends a subtitle (as in Whisper).
_SUBTITLE_PAUSE = 3.0


@dataclass(frozen=True, slots=True)
class WriterOptions:
    """How transcripts are laid out.

    Attributes
    ----------
    word_timestamps : bool
        Put the words with their times into JSON.
    highlight_words : bool
        Underline each word in SRT and VTT while it is spoken.
    max_line_width : int, optional
        Characters in a line of a subtitle; a longer word gets a line of its own.
    max_line_count : int, optional
        Lines in a subtitle. Together with `max_line_width`, subtitles run across segments.
    max_words_per_line : int, optional
        Words in a line of a subtitle.
    """

    word_timestamps: bool = True
    highlight_words: bool = False
    max_line_width: int | None = None
    max_line_count: int | None = None
    max_words_per_line: int | None = None


def write_outputs(
    result: TranscriptionResult,
    stem_path: Path,
    formats: Sequence[str],
    *,
    options: WriterOptions | None = None,
) -> list[Path]:
    """Write a transcript once per format, each file whole or not at all.

    Parameters
    ----------
    result : TranscriptionResult
    stem_path : Path
        The output path without its suffix: ``out/talk`` gives ``out/talk.srt``. Its folder is made.
    formats : sequence of str
        Of `FORMATS`.
    options : WriterOptions, optional

    Returns
    -------
    list of Path
        One per format, in order.

    Raises
    ------
    DataError
        A file cannot be written.
    """
    paths = []
    for name in formats:
        # The stem may hold dots of its own, which `with_suffix` would cut.
        path = stem_path.with_name(f"{stem_path.name}.{name}")
        content = FORMATS[name](result, options or WriterOptions())
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as temporary:
                # In JSON, the backslash escape of an undecodable file name is still valid.
                temporary.write_text(content, encoding="utf-8", errors="backslashreplace", newline="\n")
        except OSError as error:
            raise DataError(
                f"{path}: cannot be written ({error.strerror}); check the folder and the disk"
            ) from error
        paths.append(path)
    return paths


def format_timestamp(milliseconds: int, *, hours: bool = False, marker: str = ".") -> str:
    """Return ``[HH:]MM:SS.mmm``; hours are shown from the first hour on, or always.

    Examples
    --------
    >>> format_timestamp(61_500), format_timestamp(61_500, hours=True, marker=",")
    ('01:01.500', '00:01:01,500')
    """
    seconds, milliseconds = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hour, minutes = divmod(minutes, 60)
    prefix = f"{hour:02d}:" if hours or hour else ""
    return f"{prefix}{minutes:02d}:{seconds:02d}{marker}{milliseconds:03d}"


def to_milliseconds(seconds: float) -> int:
    """Round a time to integer milliseconds, the resolution of subtitles."""
    return round(seconds * 1000)


def _txt(result: TranscriptionResult, options: WriterOptions) -> str:
    return "".join(f"{segment.text}\n" for segment in result.segments)


def _tsv(result: TranscriptionResult, options: WriterOptions) -> str:
    rows = [
        f"{to_milliseconds(s.start)}\t{to_milliseconds(s.end)}\t{s.text.replace(chr(9), ' ')}\n"
        for s in result.segments
    ]
    return "".join(["start\tend\ttext\n", *rows])


def _srt(result: TranscriptionResult, options: WriterOptions) -> str:
    def time(milliseconds: int) -> str:
        return format_timestamp(milliseconds, hours=True, marker=",")

    cues = _cues(result.segments, options, lambda text: text.replace("-->", "->"))
    return "".join(
        f"{number}\n{time(start)} --> {time(end)}\n{text}\n\n"
        for number, (start, end, text) in enumerate(cues, start=1)
    )


def _vtt(result: TranscriptionResult, options: WriterOptions) -> str:
    cues = _cues(result.segments, options, lambda text: html.escape(text, quote=False))
    body = [f"{format_timestamp(start)} --> {format_timestamp(end)}\n{text}\n\n" for start, end, text in cues]
    return "".join(["WEBVTT\n\n", *body])


def _json(result: TranscriptionResult, options: WriterOptions) -> str:
    def segment(number: int, segment: Segment) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "id": number,
            "start": to_milliseconds(segment.start) / 1000,
            "end": to_milliseconds(segment.end) / 1000,
            "text": segment.text,
            "tokens": list(segment.tokens),
            "avg_logprob": round(segment.avg_logprob, 4),
        }
        if options.word_timestamps:
            fields["words"] = [
                {
                    "word": word.text,
                    "start": to_milliseconds(word.start) / 1000,
                    "end": to_milliseconds(word.end) / 1000,
                    "probability": round(word.confidence, 4),
                }
                for word in segment.words
            ]
        return fields

    content = {
        "text": result.text,
        "segments": [segment(number, s) for number, s in enumerate(result.segments)],
        "language": result.language,
        "audio": str(result.path),
        "duration": to_milliseconds(result.duration) / 1000,
    }
    return json.dumps(content, ensure_ascii=False, indent=2) + "\n"


FORMATS: Mapping[str, Callable[[TranscriptionResult, WriterOptions], str]] = {
    "txt": _txt,
    "vtt": _vtt,
    "srt": _srt,
    "tsv": _tsv,
    "json": _json,
}


def _cues(
    segments: Sequence[Segment], options: WriterOptions, escape: Callable[[str], str]
) -> Iterator[tuple[int, int, str]]:
    """Yield subtitles as (start ms, end ms, text), none empty in time, backward or overlapping."""
    earliest = 0
    for start, end, text in _timed_texts(segments, options, escape):
        begin = max(to_milliseconds(start), earliest)
        earliest = max(to_milliseconds(end), begin + 1)
        yield begin, earliest, text


def _timed_texts(
    segments: Sequence[Segment], options: WriterOptions, escape: Callable[[str], str]
) -> Iterator[tuple[float, float, str]]:
    splits = (options.max_line_width, options.max_line_count, options.max_words_per_line)
    if not options.highlight_words and not any(splits):
        for segment in segments:
            yield segment.start, segment.end, escape(segment.text)
        return
    for lines in _layout(segments, options):
        words = [word for line in lines for word in line]
        if not options.highlight_words:
            yield words[0].start, words[-1].end, _join(lines, escape)
            continue
        last = words[0].start
        for word in words:
            if to_milliseconds(word.start) > to_milliseconds(last):
                yield last, word.start, _join(lines, escape)
            yield word.start, word.end, _join(lines, escape, underlined=word)
            last = word.end


def _layout(segments: Sequence[Segment], options: WriterOptions) -> Iterator[list[list[Word]]]:
    """Yield subtitles as lists of lines of words."""
    width = options.max_line_width
    max_words = options.max_words_per_line
    max_lines = options.max_line_count or (None if width else 1)
    across_segments = bool(width and options.max_line_count)
    lines: list[list[Word]] = []
    for segment in segments:
        for position, word in enumerate(segment.words):
            if lines:
                line = lines[-1]
                pause = across_segments and word.start - line[-1].end > _SUBTITLE_PAUSE
                segment_ends = position == 0 and not across_segments
                length = sum(len(w.text) + 1 for w in line) + len(word.text)
                full = bool(width and length > width) or bool(max_words and len(line) >= max_words)
                if pause or segment_ends or (full and len(lines) == max_lines):
                    yield lines
                    lines = []
                elif not full:
                    line.append(word)
                    continue
            lines.append([word])
    if lines:
        yield lines


def _join(lines: list[list[Word]], escape: Callable[[str], str], underlined: Word | None = None) -> str:
    return "\n".join(
        " ".join(f"<u>{escape(w.text)}</u>" if w is underlined else escape(w.text) for w in line)
        for line in lines
    )
