"""Lines of a manifest: from JSON to an `Utterance` and back, and what is wrong with one."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from asr.storage import file_of, is_remote, join
from asr.types import Utterance

_STRINGS = ("id", "audio_filepath", "features_filepath", "text", "speaker", "lang")
_NUMBERS = ("duration", "offset")
_NAMES = ("id", "audio_filepath", "features_filepath")
_SURROGATE = re.compile("[\ud800-\udfff]")


def read_fields(line: bytes) -> dict[str, Any]:
    """Read and check one line; fields without a value are left out.

    Raises
    ------
    ValueError
        What is wrong with it, and the remedy.
    """
    try:
        fields = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 (byte 0x{line[error.start]:02x}); convert the file to UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"not JSON ({shown(line.decode().rstrip(chr(10)))}); write one JSON object a line"
        ) from error
    if not isinstance(fields, dict):
        raise ValueError(f"not a JSON object ({shown(fields)}); write one JSON object a line")

    for key in _STRINGS:
        value = fields.get(key)
        if value is None:
            fields.pop(key, None)
        elif not isinstance(value, str):
            raise ValueError(f"{key} is {shown(value)}; it must be a string")
        elif not value.isascii() and _SURROGATE.search(value):
            raise ValueError(f"{key} has half of a surrogate pair; write the whole character")
        elif not value and key in _NAMES:
            raise ValueError(f"{key} is empty; give it a value or leave it out")
    if "audio_filepath" not in fields and "features_filepath" not in fields:
        raise ValueError("no audio_filepath; add the path of the audio (or features_filepath)")
    if "duration" not in fields:
        raise ValueError("no duration; add the utterance's length in seconds")
    for key in _NUMBERS:
        value = fields.get(key, 0.0)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{key} is {shown(value)}; it must be a number of seconds")
        if not 0 <= value <= sys.float_info.max or (key == "duration" and value == 0):
            least = "above 0" if key == "duration" else "0 or more"
            raise ValueError(f"{key} is {shown(value)}; it must be a finite number of seconds, {least}")
    return fields


def parse_line(line: bytes, folder: Path | str) -> Utterance:
    """Return a line's utterance, with an empty id if it has none.

    Parameters
    ----------
    folder : Path or str
        What its paths are relative to.

    Raises
    ------
    ValueError
        What is wrong with the line, and the remedy.
    """
    return make_utterance({"id": ""} | read_fields(line), str(folder))


def make_utterance(fields: dict[str, Any], folder: str) -> Utterance:
    """Return what a line's fields, which it takes, and its id say."""
    return Utterance(
        id=fields.pop("id"),
        duration=float(fields.pop("duration")),
        text=fields.pop("text", None),
        audio_filepath=_absolute(fields.pop("audio_filepath", None), folder),
        offset=float(fields.pop("offset", 0.0)),
        speaker=fields.pop("speaker", None),
        lang=fields.pop("lang", None),
        features_filepath=_absolute(fields.pop("features_filepath", None), folder),
        extra=fields,
    )


def file_stem(fields: Mapping[str, Any]) -> str:
    """Return the name of the file that an utterance is read from, without folder, suffix and place in it."""
    if "features_filepath" in fields:
        return os.path.splitext(os.path.basename(re.sub(r"(:\d+)+$", "", fields["features_filepath"])))[0]
    return os.path.splitext(os.path.basename(file_of(fields["audio_filepath"]).rstrip("/")))[0]


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


def _absolute(file: str | None, folder: str) -> str | None:
    return None if file is None else join(folder, file)


def _relative(file: str | None, folder: Path) -> str | None:
    if file is None or is_remote(file):
        return file
    absolute = Path(os.path.abspath(file))
    return str(absolute.relative_to(folder) if absolute.is_relative_to(folder) else absolute)


def shown(value: object) -> str:
    """Return a value as one short line."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
