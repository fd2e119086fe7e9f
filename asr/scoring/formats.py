"""Read transcripts of any common format as a mapping from utterance id to text.

===========  ===========================================================================================
``jsonl``    A JSON object a line: a manifest, NeMo's predictions, or the ``hyp.jsonl`` of `asr evaluate`
``trn``      sclite's ``words (utterance_id)``; ``;;`` starts a comment line
``kaldi``    Kaldi's ``text``: ``utterance_id words``; speakers from ``utt2spk`` in the same folder
``ctm``      NIST's ``file channel start duration word [confidence]``
``stm``      NIST's ``file channel speaker start end [<labels>] text``
``csv``      Comma- or semicolon-separated columns, named in the first line
``tsv``      The same with tabs and without quotes; or Whisper's ``start end text``
``srt``      SubRip subtitles
``vtt``      WebVTT subtitles
``plain``    An utterance a line; its id is the line's number
===========  ===========================================================================================
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from asr.errors import ConfigError, DataError
from asr.scoring.lines import Line, bad_line, read_lines, shown
from asr.scoring.subtitles import ARROW, TSV_HEADER, read_subtitles, read_whisper_tsv
from asr.scoring.tables import ID_COLUMNS, TEXT_COLUMNS, Role, Row, read_jsonl, read_table, table_header
from asr.scoring.timed import (
    IGNORE,
    Channel,
    Segment,
    TimedWord,
    check_alternatives,
    read_ctm,
    read_stm,
    words_text,
)

Format = Literal["auto", "jsonl", "trn", "kaldi", "ctm", "stm", "csv", "tsv", "srt", "vtt", "plain"]

NAMED_FIELDS = ("jsonl", "csv", "tsv")

_TRN = re.compile(r"(.*?)\s*\(([^()\s]+)\)\s*", re.DOTALL)
_JSON_START = re.compile(r"\s*(\{\s*(\"|$)|\[\s*(\{|$))")
_TIME = r"(?:\d+\.?\d*|\.\d+)(?:[eE]-?\d+)?"
_CTM = re.compile(
    rf"\S+\s+\S+\s+(?:{_TIME}\s+{_TIME}|\*\s+\*)\s+\S+(?:\s+(?:-?{_TIME}|NA)(?:\s+\S+){{0,2}})?\s*"
)
_STM = re.compile(rf"\S+\s+\S+\s+\S+\s+{_TIME}\s+{_TIME}(?:\s.*)?")
_STM_ONLY = re.compile(rf"\d\s+(<[^\s>]*,[^\s>]*>|{IGNORE})", re.IGNORECASE)
# Lines looked at to tell the format; enough to be sure, few enough to be quick.
_SAMPLE = 1000


@dataclass(frozen=True)
class Transcripts:
    """The texts of a file.

    Attributes
    ----------
    path : str
    format : str
        One of `Format`, never "auto".
    texts : dict of str to str
        By utterance id, in the file's order. Segments that an stm excludes from scoring are not there.
    fields : dict of str to dict
        By utterance id, what the file says besides the text: ``speaker``, ``duration``, ``offset``,
        ``start``, ``end`` (seconds), ``audio_filepath`` (absolute), and whatever else a manifest or table
        holds.
    words : dict of (file, channel) to list of TimedWord
        Of a ctm.
    segments : list of Segment
        Of an stm or subtitles.
    """

    path: str
    format: str
    texts: dict[str, str]
    fields: dict[str, dict[str, Any]]
    words: dict[Channel, list[TimedWord]] = field(default_factory=dict, repr=False)
    segments: list[Segment] = field(default_factory=list, repr=False)


def read_transcripts(
    path: Path | str,
    fmt: str = "auto",
    *,
    role: Role = "ref",
    id_field: str | None = None,
    text_field: str | None = None,
) -> Transcripts:
    """Read a file of transcripts.

    Parameters
    ----------
    path : Path or str
        UTF-8; a byte-order mark is skipped, and so are blank lines unless the format is plain.
    fmt : str
        One of `Format`; "auto" tells it from the content and, where that is in doubt, from the file's suffix.
    role : {"ref", "hyp"}
        Which field of a JSON line or table is meant where the file holds both: that of a reference is
        ``text`` (in tables also ``reference``, ``transcript``, ``sentence``, ...), that of a hypothesis
        ``pred_text`` (in tables also ``hyp``, ``prediction``, ...), or the former if there is none.
    id_field, text_field : str, optional
        JSON key or column that holds the id or the text. `id_field` is for those formats that have named
        fields; the ids of the others are where they are.

    Returns
    -------
    Transcripts
        The id of a JSON line is its ``id``, or else its ``audio_filepath``, with ``@offset`` if it starts
        later than the file; that of a segment its file, channel, start and end; that of a ctm its file and
        channel.

    Raises
    ------
    ConfigError
        If the format is unknown.
    DataError
        If the file cannot be read, is empty or not text, its format cannot be told, a line is malformed, or
        an id is there twice; the message names the file and the line.

    Examples
    --------
    >>> read_transcripts("test/text").texts  # doctest: +SKIP
    {'spk1-utt1': 'good morning', 'spk1-utt2': 'good evening'}
    """
    path = Path(path)
    if fmt not in get_args(Format):
        raise ConfigError(f"format {fmt!r} is unknown; choose one of {', '.join(get_args(Format))}")
    lines = read_lines(path)
    if fmt == "auto":
        fmt = _detect(path, lines, id_field, text_field)
    if fmt not in NAMED_FIELDS and text_field:
        raise DataError(
            f"{path}: has no field {text_field!r}, since its format is {fmt}; only jsonl, csv and tsv have "
            f"named fields"
        )
    words: dict[Channel, list[TimedWord]] = {}
    segments: list[Segment] = []
    if fmt == "ctm":
        words = read_ctm(path, lines)
        texts = {f"{file}-{channel}": words_text(found) for (file, channel), found in words.items()}
        fields = {f"{key[0]}-{key[1]}": {"file": key[0], "channel": key[1]} for key in words}
    elif fmt in ("stm", "srt", "vtt") or _is_whisper_tsv(fmt, lines):
        if fmt == "stm":
            segments = read_stm(path, lines)
        elif fmt == "tsv":
            segments = read_whisper_tsv(path, lines)
        else:
            segments = read_subtitles(path, lines, webvtt=fmt == "vtt")
        texts = {segment.id: segment.text for segment in segments if not segment.ignored}
        fields = {segment.id: segment.fields for segment in segments if not segment.ignored}
    else:
        texts, fields = _collect(path, fmt, _rows(path, fmt, lines, role, id_field, text_field))
    if not texts:
        raise DataError(f"{path}: has no transcript; give a file with at least one")
    return Transcripts(str(path), fmt, texts, fields, words, segments)


def _rows(
    path: Path, fmt: str, lines: list[Line], role: Role, id_field: str | None, text_field: str | None
) -> Iterator[Row]:
    if fmt == "csv" or fmt == "tsv":
        return read_table(path, lines, role, id_field, text_field, fmt="csv" if fmt == "csv" else "tsv")
    if fmt == "plain":
        return ((number, str(number), line, {}) for number, line in lines)
    filled = [(number, line) for number, line in lines if line.strip()]
    if fmt == "jsonl":
        return read_jsonl(path, filled, role, id_field, text_field)
    return _trn(path, filled) if fmt == "trn" else _kaldi(path, filled)


def _collect(path: Path, fmt: str, rows: Iterator[Row]) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    texts: dict[str, str] = {}
    fields: dict[str, dict[str, Any]] = {}
    line_of: dict[str, int] = {}
    for number, id, text, others in rows:
        if id in texts:
            bad_line(
                path,
                number,
                f"id {id!r} is already used on line {line_of[id]}",
                f"make ids unique, or name another --format than {fmt}",
            )
        texts[id], fields[id], line_of[id] = text, others, number
    return texts, fields


def _trn(path: Path, lines: Sequence[Line]) -> Iterator[Row]:
    for number, line in lines:
        if line.startswith(";;"):
            continue
        match = _TRN.fullmatch(line)
        if match is None:
            bad_line(
                path,
                number,
                f"does not end in `(utterance_id)`: {shown(line)}",
                "add it, or name another --format",
            )
        text, id = match.groups()
        check_alternatives(path, number, text)
        # sclite's speaker of an utterance: what comes before the first - or _ of its id.
        yield number, id, text.strip(), {"speaker": re.split("[-_]", id, maxsplit=1)[0]}


def _kaldi(path: Path, lines: Sequence[Line]) -> Iterator[Row]:
    speakers = path.with_name("utt2spk")
    speaker_of: dict[str, str] = {}
    if speakers.is_file():
        for number, line in read_lines(speakers):
            cells = line.split()
            if len(cells) != 2 and cells:
                bad_line(speakers, number, f"is {shown(line)}", "write `utterance_id speaker`")
            if cells:
                speaker_of[cells[0]] = cells[1]
    for number, line in lines:
        id, *text = line.split(maxsplit=1)
        yield number, id, "".join(text), {"speaker": speaker_of[id]} if id in speaker_of else {}


def _detect(path: Path, lines: Sequence[Line], id_field: str | None, text_field: str | None) -> str:
    """Tell the format; raise DataError rather than count ids as words, or words as ids."""
    filled = [line for _, line in lines if line.strip()][:_SAMPLE]
    if not filled:
        return "plain"
    if filled[0].startswith("WEBVTT"):
        return "vtt"
    if any(ARROW.fullmatch(line) for line in filled[:2]):
        return "srt"
    if _JSON_START.match(filled[0]):
        return "jsonl"
    table = _table(filled[0], [name for name in (id_field, text_field) if name])
    if table:
        return table
    content = [line for line in filled if not line.startswith(";;")]
    if not content:
        return "plain"
    if 2 * sum(_TRN.fullmatch(line) is not None for line in content) > len(content):
        return "trn"
    suffix = path.suffix[1:].lower()
    named = {"json": "jsonl"}.get(suffix, suffix)
    timed = [fmt for fmt, pattern in (("ctm", _CTM), ("stm", _STM)) if all(map(pattern.fullmatch, content))]
    if timed:
        if "stm" in timed and any(_STM_ONLY.search(line) for line in content):
            return "stm"
        # Numbers may be words ("u1 1 2 3 4"), but seldom with a decimal point.
        numbers = {"ctm": slice(2, 4), "stm": slice(3, 5)}
        decimal = [f for f in timed if any("." in cell for c in content for cell in c.split()[numbers[f]])]
        if len(decimal) == 1:
            return decimal[0]
        if named in timed:
            return named
        raise DataError(
            f"{path}: cannot tell whether the numbers in each line, such as {shown(content[0])}, are times "
            f"or words; name the --format, {', '.join(timed)}, kaldi or plain"
        )
    # A single bad line hides a format that the file's name gives away; its reader will name that line.
    if named in ("ctm", "stm"):
        return named
    words = [line.split() for line in filled]
    firsts = [line_words[0] for line_words in words]
    is_text = any(len(line_words) > 1 for line_words in words)
    ids = all("_" in first or _is_mixed(first) for first in firsts) and (len(firsts) > 1 or "_" in firsts[0])
    if ids and is_text:
        return "kaldi"
    if named in ("jsonl", "trn", "csv", "tsv", "srt", "vtt"):
        return named
    if ids or (
        is_text and all(re.search(r"[\d_-]", first) for first in firsts) and len(set(firsts)) == len(firsts)
    ):
        raise DataError(
            f"{path}: cannot tell whether the first word of each line, such as {firsts[0]!r}, is an id; "
            f"name the --format, kaldi or plain"
        )
    return "plain"


def _table(header: str, chosen: Sequence[str]) -> str | None:
    """Return "csv" or "tsv" if the line names columns of a table of transcripts."""
    texts = {*TEXT_COLUMNS["ref"], *TEXT_COLUMNS["hyp"]}
    for fmt, delimiters in (("tsv", "\t"), ("csv", ",;")):
        if any(delimiter in header for delimiter in delimiters):
            names = table_header(header, fmt)
            lower = {name.lower() for name in names}
            known = lower & texts and lower & {*ID_COLUMNS, "start"}
            if known or (chosen and set(chosen) <= set(names)):
                return fmt
    return None


def _is_whisper_tsv(fmt: str, lines: Sequence[Line]) -> bool:
    first = next((line for _, line in lines if line.strip()), "")
    return fmt == "tsv" and table_header(first, fmt) == TSV_HEADER


def _is_mixed(token: str) -> bool:
    """Tell whether digits and other characters meet, as in most utterance ids and few words."""
    return bool(re.search(r"\d", token) and re.search(r"\D", token))
