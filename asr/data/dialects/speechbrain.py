"""SpeechBrain's JSON and CSV.

JSON is ``{id: {"wav": path, "duration": seconds, "words": text, "spk_id": speaker, ...}}``; a stretch is
``"wav": {"file": path, "start": sample, "stop": sample}``. CSV has the columns ``ID, duration, wav, wrd,
spk_id, ...``, a stretch ``start`` and ``stop`` in samples. Placeholders such as ``{data_root}`` (JSON) and
``$data_root`` (CSV) at the start of a path stand for ``--audio-dir``, else for the file's own folder. Samples
of any rate are not seconds: ``offset`` beside them, which SpeechBrain passes over, keeps those exactly.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from asr.data.dialects.base import UNKNOWN, Dialect, Problems, Source, Target
from asr.data.dialects.files import csv_header, csv_table, head, read_json, text_file
from asr.data.dialects.values import seconds, shown
from asr.errors import DataError
from asr.types import Utterance

_TEXT_KEYS = ("words", "wrd", "transcript", "transcription", "text", "char")
_DURATION_KEYS = ("duration", "length")
_SPEAKER_KEYS = ("spk_id", "speaker", "spk")
_LANGUAGE_KEYS = ("lang", "language", "locale")
_TIME_KEYS = ("start", "stop", "offset")
_PLACEHOLDER = re.compile(r"(?:\{\w+\}|\$\w+)/*")
_VARIABLE = re.compile(r"\$[\w.]+")


def _detect(path: Path) -> bool:
    start = head(path) if path.is_file() else ""
    return bool(re.match(r'\s*\{\s*"(?:[^"\\]|\\.)*"\s*:\s*\{', start)) and bool(
        re.search(r'"wav"\s*:', start)
    )


def _read(path: Path, source: Source) -> Iterator[Utterance]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise DataError(f'{path}: is no JSON object; write {{id: {{"wav": ..., "words": ...}}, ...}}')
    problems = Problems()
    for id, fields in content.items():
        with problems.at(f"{path}: {id}"):
            if not isinstance(fields, dict):
                raise ValueError(f"is {shown(fields)}; write an object with wav, duration and words")
            # Braces are doubled, since SpeechBrain formats every text with its replacements.
            fields = {key: _unescaped(value) for key, value in fields.items() if value is not None}
            wav = fields.get("wav")
            if isinstance(wav, dict):
                times = {key: wav[key] for key in ("start", "stop") if key in wav}
                fields |= {"wav": wav.get("file")} | times
            yield _utterance(id, fields, path, source)
    problems.check()


def _unescaped(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _unescaped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_unescaped(item) for item in value]
    return value.replace("{{", "{").replace("}}", "}") if isinstance(value, str) else value


def _escaped(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _escaped(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_escaped(item) for item in value]
    return value.replace("{", "{{").replace("}", "}}") if isinstance(value, str) else value


def _utterance(id: str, fields: Mapping[str, Any], path: Path, source: Source) -> Utterance:
    def first(keys: Sequence[str]) -> tuple[str | None, Any]:
        return next(((key, fields[key]) for key in keys if key in fields), (None, None))

    wav = fields.get("wav")
    if not isinstance(wav, str) or not wav:
        raise ValueError(f"wav is {shown(wav)}; write the path of one audio file")
    audio = source.find(_PLACEHOLDER.sub("", wav, count=1) if _PLACEHOLDER.match(wav) else wav, path.parent)
    text_key, text = first(_TEXT_KEYS)
    duration_key, duration = first(_DURATION_KEYS)
    speaker_key, speaker = first(_SPEAKER_KEYS)
    language_key, language = first(_LANGUAGE_KEYS)
    offset, length = 0.0, UNKNOWN
    if "start" in fields:
        rate = source.headers[audio].sample_rate
        start = seconds(fields["start"], "start (in samples)")
        offset = start / rate
        exact = fields.get("offset")
        if exact is not None and abs(seconds(exact, "offset") - offset) <= 1 / rate:
            offset = float(exact)
        if fields.get("stop") is not None:
            length = (seconds(fields["stop"], "stop (in samples)", least=start + 1) - start) / rate
    if duration is not None:
        length = seconds(duration, "duration")
    used = {"wav", text_key, duration_key, speaker_key, language_key, *_TIME_KEYS}
    return Utterance(
        id=id,
        duration=length if length else math.nan,
        text=" ".join(map(str, text)) if isinstance(text, list) else text,
        audio_filepath=audio,
        offset=offset,
        speaker=None if speaker is None else str(speaker),
        lang=None if language is None else str(language),
        extra={key: value for key, value in fields.items() if key not in used},
    )


def _times(utterance: Utterance, target: Target) -> dict[str, Any]:
    if utterance.id not in target.parts:
        return {}
    assert utterance.audio_filepath is not None
    rate = target.headers[utterance.audio_filepath].sample_rate
    start = round(utterance.offset * rate)
    stop = round((utterance.offset + utterance.duration) * rate)
    return {"start": start, "stop": stop, "offset": utterance.offset}


def _write(path: Path, utterances: Sequence[Utterance], target: Target) -> Sequence[Utterance]:
    # SpeechBrain takes the keys of the first entry for those of all, and keeps "id" for itself.
    keys = list(dict.fromkeys(key for u in utterances for key in u.extra))
    content = {}
    for u in utterances:
        wav: Any = u.audio_filepath
        times = _times(u, target)
        offset = times.pop("offset", 0.0)
        if times:
            wav = {"file": wav, **times}
        content[u.id] = {
            "wav": _escaped(wav),
            "duration": u.duration,
            "words": _escaped(u.text),
            "spk_id": _escaped(u.speaker),
            "lang": _escaped(u.lang),
            **{key: _escaped(u.extra.get(key)) for key in keys},
            **({"offset": offset} if target.parts else {}),
        }
    with text_file(path) as file:
        json.dump(content, file, ensure_ascii=False, indent=1)
    return utterances


def _detect_csv(path: Path) -> bool:
    return path.is_file() and {"ID", "wav"} <= set(csv_header(path))


def _read_csv(path: Path, source: Source) -> Iterator[Utterance]:
    problems = Problems()
    seen: set[str] = set()
    for place, row in csv_table(path, problems):
        with problems.at(place):
            if row["ID"] in seen:
                raise ValueError(f"ID {row['ID']!r} is there twice; make IDs unique")
            seen.add(row["ID"])
            # SpeechBrain's reader passes over spaces after commas; what is empty is not known.
            cells = {key: cell if key in _TEXT_KEYS else cell.strip() for key, cell in row.items()}
            fields = {key: cell for key, cell in cells.items() if key in _TEXT_KEYS or cell}
            yield _utterance(row["ID"].strip(), {k: v for k, v in fields.items() if k != "ID"}, path, source)
    problems.check()


def _write_csv(path: Path, utterances: Sequence[Utterance], target: Target) -> Sequence[Utterance]:
    keys = list(dict.fromkeys(key for u in utterances for key in u.extra))
    columns = ["ID", "duration", "wav"]
    columns += ["start", "stop", "offset"] if target.parts else []
    optional = {"spk_id": "speaker", "lang": "lang", "wrd": "text"}
    optional = {
        name: field
        for name, field in optional.items()
        if any(getattr(u, field) is not None for u in utterances)
    }
    variables = 0
    with text_file(path) as file:
        # Everything is quoted, since SpeechBrain would drop spaces that begin a cell.
        writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
        writer.writerow([*columns, *optional, *keys])
        for u in utterances:
            times = _times(u, target).values() if target.parts else ()
            padded = list(times) or ["", "", ""] if target.parts else []
            cells = [getattr(u, field) for field in optional.values()] + [u.extra.get(key) for key in keys]
            row = [u.id, u.duration, u.audio_filepath, *padded, *map(_cell, cells)]
            variables += any(_VARIABLE.search(str(cell)) for cell in row)
            writer.writerow(row)
    if variables:
        target.notes.append(
            f"{variables} utterances have a $, which SpeechBrain takes for a placeholder in CSV"
        )
    return utterances


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


_HOLDS = frozenset({"offset"})
SPEECHBRAIN = Dialect(
    name="speechbrain",
    title="SpeechBrain's JSON",
    looks_for='JSON of {id: {"wav": ...}}',
    detect=_detect,
    read=_read,
    write=_write,
    holds=_HOLDS,
)
SPEECHBRAIN_CSV = Dialect(
    name="speechbrain-csv",
    title="SpeechBrain's CSV",
    looks_for="CSV with the columns ID and wav",
    detect=_detect_csv,
    read=_read_csv,
    write=_write_csv,
    holds=_HOLDS,
)
