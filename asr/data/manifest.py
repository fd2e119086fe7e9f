"""Manifests: JSON lines, one utterance a line, with NeMo's field names.

Fields: ``duration`` (seconds) and ``audio_filepath`` or ``features_filepath`` are required; ``text``,
``id``, ``offset`` (seconds), ``speaker`` and ``lang`` are optional. Paths are absolute or relative to the
manifest's folder. Any other field is kept in `Utterance.extra`.
"""

from __future__ import annotations

import codecs
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from asr.errors import DataError
from asr.files import atomic_write
from asr.types import Utterance

_STRINGS = ("id", "audio_filepath", "features_filepath", "text", "speaker", "lang")
_NUMBERS = ("duration", "offset")
_MAX_SHOWN = 3


def read_manifest(path: Path | str, *, check_files: bool = True) -> list[Utterance]:
    """Read and validate a manifest.

    Parameters
    ----------
    path : Path or str
        A UTF-8 file of JSON objects, one a line. Blank lines and a byte-order mark are skipped.
    check_files : bool
        Whether every audio or feature file must exist.

    Returns
    -------
    list of Utterance
        In the file's order, with absolute paths. An utterance without an id is called after its file:
        ``stem``, or ``stem-2``, ``stem-3``, ... where that is taken.

    Raises
    ------
    DataError
        If the file cannot be read or is empty, or any line is bad: the message names the first few
        as ``file:line``, with the count of the others.
    """
    path = Path(path)
    try:
        lines = path.read_bytes().removeprefix(codecs.BOM_UTF8).split(b"\n")
    except OSError as error:
        raise DataError(
            f"{path}: cannot read this manifest ({error.strerror}); check the path, or make it with "
            f"`asr prepare`"
        ) from error
    folder = Path(os.path.abspath(path.parent))

    utterances: dict[int, Utterance] = {}
    line_of_id: dict[str, int] = {}
    problems = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            utterance = _parse(line, folder)
            first = line_of_id.setdefault(utterance.id, number) if utterance.id else number
            if first != number:
                raise ValueError(
                    f"id {_shown(utterance.id)} is already used on line {first}; make ids unique"
                )
            utterances[number] = utterance
        except ValueError as error:
            problems.append(f"{path}:{number}: {error}")
    if problems:
        more = len(problems) - _MAX_SHOWN
        tail = f"; and {more} more bad line{'s' if more > 1 else ''}" if more > 0 else ""
        raise DataError("; ".join(problems[:_MAX_SHOWN]) + tail)
    if not utterances:
        raise DataError(f"{path}: no utterances in this manifest; it needs one JSON object a line")
    if check_files:
        _check_files(path, utterances)
    return list(_with_ids(utterances.values(), set(line_of_id)))


def write_manifest(path: Path | str, utterances: Iterable[Utterance]) -> None:
    """Write a manifest, whole or not at all.

    Parameters
    ----------
    path : Path or str
        Its folder is made if there is none.
    utterances : iterable of Utterance
        Their files are written relative to the manifest's folder if they lie inside it, so that a corpus
        can be moved with its manifests, else absolute.

    Raises
    ------
    DataError
        If the file cannot be written.
    """
    path = Path(path)
    folder = Path(os.path.abspath(path.parent))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
            for utterance in utterances:
                file.write(json.dumps(to_record(utterance, folder), ensure_ascii=False) + "\n")
    except OSError as error:
        raise DataError(
            f"{path}: cannot write this manifest ({error.strerror}); choose a folder that you can write to"
        ) from error


def _parse(line: bytes, folder: Path) -> Utterance:
    """Read one line; raise ValueError with the problem and its remedy. A missing id is left empty."""
    try:
        fields = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 (byte 0x{line[error.start]:02x}); convert the file to UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON ({_shown(line.decode())}); write one JSON object a line") from error
    if not isinstance(fields, dict):
        raise ValueError(f"not a JSON object ({_shown(fields)}); write one JSON object a line")

    fields = {key: value for key, value in fields.items() if value is not None or key not in _STRINGS}
    for key in _STRINGS:
        if key in fields and not isinstance(fields[key], str):
            raise ValueError(f"{key} is {_shown(fields[key])}; it must be a string")
        if key in fields and any("\ud800" <= character <= "\udfff" for character in fields[key]):
            raise ValueError(f"{key} has half of a surrogate pair; write the whole character")
    for key in ("id", "audio_filepath", "features_filepath"):
        if fields.get(key) == "":
            raise ValueError(f"{key} is empty; give it a value or leave it out")
    if "audio_filepath" not in fields and "features_filepath" not in fields:
        raise ValueError("no audio_filepath; add the path of the audio (or features_filepath)")
    if "duration" not in fields:
        raise ValueError("no duration; add the utterance's length in seconds")
    for key in _NUMBERS:
        value = fields.get(key, 0.0)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{key} is {_shown(value)}; it must be a number of seconds")
        if not 0 <= value <= sys.float_info.max or (key == "duration" and value == 0):
            least = "above 0" if key == "duration" else "0 or more"
            raise ValueError(f"{key} is {_shown(value)}; it must be a finite number of seconds, {least}")

    return Utterance(
        id=fields.pop("id", ""),
        duration=float(fields.pop("duration")),
        text=fields.pop("text", None),
        audio_filepath=_absolute(fields.pop("audio_filepath", None), folder),
        offset=float(fields.pop("offset", 0.0)),
        speaker=fields.pop("speaker", None),
        lang=fields.pop("lang", None),
        features_filepath=_absolute(fields.pop("features_filepath", None), folder),
        extra=fields,
    )


def _with_ids(utterances: Iterable[Utterance], taken: set[str]) -> Iterator[Utterance]:
    """Name the utterances that have no id after their files, avoiding the ids in `taken`."""
    count: dict[str, int] = {}
    for utterance in utterances:
        if not utterance.id:
            stem = _file(utterance).stem
            name = stem
            while name in taken:
                count[stem] = count.get(stem, 1) + 1
                name = f"{stem}-{count[stem]}"
            taken.add(name)
            utterance = replace(utterance, id=name)
        yield utterance


def _check_files(path: Path, utterances: Mapping[int, Utterance]) -> None:
    line_of_file: dict[Path, int] = {}
    for number, utterance in utterances.items():
        line_of_file.setdefault(_file(utterance), number)
    missing = {file: number for file, number in line_of_file.items() if not file.is_file()}
    if missing:
        file, number = next(iter(missing.items()))
        raise DataError(
            f"{path}:{number}: {len(missing)} of {len(line_of_file)} files do not exist, first {file}; "
            f"correct the paths (relative ones start at the manifest's folder) or restore the files"
        )


def _file(utterance: Utterance) -> Path:
    """Return the file that the utterance is read from, without a Kaldi archive's byte offset."""
    if utterance.features_filepath is not None:
        return Path(re.sub(r":\d+$", "", utterance.features_filepath))
    assert utterance.audio_filepath is not None
    return Path(utterance.audio_filepath)


def to_record(utterance: Utterance, folder: Path) -> dict[str, Any]:
    """Return the utterance as a manifest line's fields, those without a value left out."""
    fields: dict[str, Any] = {
        "id": utterance.id,
        "audio_filepath": _relative(utterance.audio_filepath, folder),
        "features_filepath": _relative(utterance.features_filepath, folder),
        "offset": utterance.offset or None,
        "duration": utterance.duration,
        "text": utterance.text,
        "speaker": utterance.speaker,
        "lang": utterance.lang,
    }
    return {key: value for key, value in fields.items() if value is not None} | dict(utterance.extra)


def _absolute(file: str | None, folder: Path) -> str | None:
    return None if file is None else os.path.normpath(folder / file)


def _relative(file: str | None, folder: Path) -> str | None:
    if file is None:
        return None
    absolute = Path(os.path.abspath(file))
    return str(absolute.relative_to(folder) if absolute.is_relative_to(folder) else absolute)


def _shown(value: object) -> str:
    """Return a value as one short line."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
