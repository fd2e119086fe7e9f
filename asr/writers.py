"""Transcripts as files: plain text, SRT and WebVTT subtitles, TSV and JSON, with Whisper's names."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
# A pause, seconds, than which none is a better place for a break.
_LONG_PAUSE = 0.6


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


def remove_leftovers(stem_paths: Iterable[Path]) -> None:
    """Remove what a killed run has left of outputs that it was writing."""
    stems = list(stem_paths)
    wanted = {stem.with_name(f"{stem.name}.{name}") for stem in stems for name in FORMATS}
    for folder in {stem.parent for stem in stems}:
        for temporary in folder.glob(".*.tmp"):
            name = temporary.name.removeprefix(".").removesuffix(".tmp").rpartition(".")[0]
            if temporary.with_name(name) in wanted:
                temporary.unlink(missing_ok=True)


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
    page = _Page(options)
    if not (options.max_line_width and options.max_line_count):
        for segment in segments:
            yield from page.subtitles(segment.words)
        return
    run: list[Word] = []
    for word in (word for segment in segments for word in segment.words):
        if run and word.start - run[-1].end > _SUBTITLE_PAUSE:
            yield from page.subtitles(run)
            run = []
        run.append(word)
    yield from page.subtitles(run)


class _Page:
    """Breaks words into subtitles, and those into lines: where the speaker pauses, and evenly filled.

    The breaks are those of least cost over all that could be made, as in Knuth and Plass, "Breaking
    paragraphs into lines" (1981).
    """

    def __init__(self, options: WriterOptions) -> None:
        self.width = options.max_line_width or 10**9
        self.max_words = options.max_words_per_line or 10**9
        limited = options.max_line_width or options.max_words_per_line
        self.max_lines = options.max_line_count or (None if options.max_line_width or not limited else 1)

    def subtitles(self, words: Sequence[Word]) -> list[list[list[Word]]]:
        """Return subtitles as lists of lines."""
        if not words:
            return []
        if self.max_lines is None:
            return [self._lines(words)]
        # The least cost of what follows each word, and where the subtitle that begins there ends.
        costs = [0.0] * (len(words) + 1)
        ends = [0] * len(words)
        for begin in reversed(range(len(words))):
            candidates = []
            for end in range(begin + 1, len(words) + 1):
                if end > begin + 1 and self._num_lines(words[begin:end]) > self.max_lines:
                    break
                pause = words[end].start - words[end - 1].end if end < len(words) else _LONG_PAUSE
                candidates.append((1 - _pause_bonus(pause) + costs[end], -end))
            costs[begin], negative = min(candidates)
            ends[begin] = -negative
        found, begin = [], 0
        while begin < len(words):
            found.append(self._lines(words[begin : ends[begin]]))
            begin = ends[begin]
        return found

    def _num_lines(self, words: Sequence[Word]) -> int:
        """Return how many lines words need at least."""
        lines, length, count = 1, 0, 0
        for word in words:
            longer = length + len(word.text) + (1 if count else 0)
            if count and (longer > self.width or count >= self.max_words):
                lines, length, count = lines + 1, len(word.text), 1
            else:
                length, count = longer, count + 1
        return lines

    def _lines(self, words: Sequence[Word]) -> list[list[Word]]:
        """Return as few lines as possible, of like length and rather broken at pauses."""
        num_lines = self._num_lines(words)
        mean = (sum(len(word.text) + 1 for word in words) - 1) / num_lines
        # The least cost of words up to each one in so many lines, and where the last of those begins.
        best: dict[int, tuple[float, tuple[int, ...]]] = {0: (0.0, ())}
        for _ in range(num_lines):
            longer: dict[int, tuple[float, tuple[int, ...]]] = {}
            for begin, (cost, breaks) in best.items():
                length = -1
                for end in range(begin + 1, len(words) + 1):
                    length += len(words[end - 1].text) + 1
                    if end > begin + 1 and (length > self.width or end - begin > self.max_words):
                        break
                    pause = words[end].start - words[end - 1].end if end < len(words) else 0.0
                    total = cost + (length / mean - 1) ** 2 - 0.2 * _pause_bonus(pause)
                    if end not in longer or total < longer[end][0]:
                        longer[end] = (total, (*breaks, end))
            best = longer
        begin = 0
        lines = []
        for end in best[len(words)][1]:
            lines.append(list(words[begin:end]))
            begin = end
        return lines


def _pause_bonus(pause: float) -> float:
    """Return how much better it is to break at a pause of so many seconds than at none, 0 to 0.9."""
    return 0.9 * min(max(pause, 0.0) / _LONG_PAUSE, 1.0)


def _join(lines: list[list[Word]], escape: Callable[[str], str], underlined: Word | None = None) -> str:
    return "\n".join(
        " ".join(f"<u>{escape(w.text)}</u>" if w is underlined else escape(w.text) for w in line)
        for line in lines
    )
