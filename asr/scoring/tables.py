"""Transcripts as records with named fields: JSON lines, CSV and TSV."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from asr.errors import DataError
from asr.scoring.lines import Line, bad_line, shown

Role = Literal["ref", "hyp"]
Row = tuple[int, str, str, dict[str, Any]]
"""Line number, id, text, and the other fields."""

ID_COLUMNS = (
    *("id", "utt", "utt_id", "uttid", "utterance", "utterance_id", "key", "name"),
    *(
        "audio_filepath",
        "audio_path",
        "audio",
        "wav_filename",
        "wav",
        "path",
        "file",
        "filename",
        "file_name",
    ),
)
TEXT_COLUMNS = {
    "ref": (
        "text",
        "ref",
        "reference",
        "transcript",
        "transcription",
        "sentence",
        "normalized_text",
        "words",
    ),
    "hyp": ("pred_text", "hyp", "hypothesis", "prediction", "predicted", "pred", "predicted_text"),
}
_DELIMITERS = {"csv": ",;", "tsv": "\t"}
# Quotes have no meaning in TSV, where they are part of the text.
_QUOTING: dict[str, Literal[0, 3]] = {"csv": csv.QUOTE_MINIMAL, "tsv": csv.QUOTE_NONE}
_PATHS = ("audio_filepath", "features_filepath")
_TIMES = ("duration", "offset", "start", "end")


def read_jsonl(
    path: Path, lines: Sequence[Line], role: Role, id_field: str | None, text_field: str | None
) -> Iterator[Row]:
    """Read a JSON object a line: a manifest, NeMo's predictions, or the ``hyp.jsonl`` of `asr evaluate`."""
    objects = [(number, _json_object(path, number, line)) for number, line in lines]
    # One field for the whole file: falling back line by line would score references against themselves.
    predicted = role == "hyp" and any("pred_text" in fields for _, fields in objects)
    text_field = text_field or ("pred_text" if predicted else "text")
    folder = os.path.abspath(path.parent)
    for number, fields in objects:
        key = id_field or ("id" if "id" in fields or "audio_filepath" not in fields else "audio_filepath")
        id, text = fields.get(key), fields.get(text_field)
        if not isinstance(id, str | int) or isinstance(id, bool) or id == "":
            needed = f"`{id_field}`" if id_field else "`id` or `audio_filepath`"
            bad_line(path, number, _found(fields, key), f"each line needs a text as {needed}")
        if key == "audio_filepath" and fields.get("offset"):
            id = f"{id}@{fields['offset']}"
        if not isinstance(text, str):
            bad_line(
                path, number, _found(fields, text_field), f"each line needs its transcript as `{text_field}`"
            )
        for name in (key, "id", "text", "pred_text", text_field):
            if name != "audio_filepath":
                fields.pop(name, None)
        yield number, str(id), text, _with_absolute_paths(fields, folder)


def read_table(
    path: Path,
    lines: Sequence[Line],
    role: Role,
    id_field: str | None,
    text_field: str | None,
    *,
    fmt: Literal["csv", "tsv"],
) -> Iterator[Row]:
    """Read CSV or TSV with a header line of column names."""
    header_line = next((number for number, line in lines if line.strip()), None)
    if header_line is None:
        return
    body = [line + "\n" for number, line in lines if number >= header_line]
    header = table_header(body[0].rstrip("\n"), fmt)
    delimiter = next((d for d in _DELIMITERS[fmt] if d in body[0]), _DELIMITERS[fmt][0])
    id_column = _column(path, header_line, header, id_field, ID_COLUMNS, "id", "--id-field")
    names = TEXT_COLUMNS["ref"]
    if role == "hyp" and not set(TEXT_COLUMNS["hyp"]).isdisjoint(name.lower() for name in header):
        names = TEXT_COLUMNS["hyp"]
    option = "--text-field" if role == "ref" else "--hyp-field"
    text_column = _column(path, header_line, header, text_field, names, "text", option, unique=True)
    rest = [
        (index, name)
        for index, name in enumerate(header)
        if index not in (id_column, text_column)
        and name.lower() not in (*TEXT_COLUMNS["ref"], *TEXT_COLUMNS["hyp"])
    ]
    if header[id_column] in _PATHS:
        rest.append((id_column, header[id_column]))
    folder = os.path.abspath(path.parent)
    reader = csv.reader(body, delimiter=delimiter, quoting=_QUOTING[fmt], strict=True)
    next(reader)
    following, width = header_line + 1, len(header)
    try:
        for cells in reader:
            number, following = following, header_line + reader.line_num
            if not cells or cells == [""]:
                continue
            if len(cells) != width:
                bad_line(
                    path,
                    number,
                    f"has {len(cells)} columns, but the header has {width}",
                    f"quote a text that holds {delimiter!r}" if fmt == "csv" else "add or remove tabs",
                )
            id = cells[id_column]
            if not id:
                bad_line(path, number, f"column `{header[id_column]}` is empty", "give each line an id")
            fields = {name: _value(path, number, name, cells[index]) for index, name in rest if cells[index]}
            yield number, id, cells[text_column], _with_absolute_paths(fields, folder)
    except csv.Error as error:
        raise DataError(
            f"{path}:{header_line + reader.line_num - 1}: not CSV ({error}); close the quotes, or write a "
            f"quote within a text twice"
        ) from error


def table_header(line: str, fmt: str) -> list[str]:
    """Return the column names in the first line of a table."""
    delimiter = next((d for d in _DELIMITERS[fmt] if d in line), _DELIMITERS[fmt][0])
    return [name.strip() for name in next(csv.reader([line], delimiter=delimiter, quoting=_QUOTING[fmt]))]


def _column(
    path: Path,
    line: int,
    header: Sequence[str],
    chosen: str | None,
    names: Sequence[str],
    what: str,
    option: str,
    *,
    unique: bool = False,
) -> int:
    """Return the index of the column that was chosen, or else of the first with a usual name."""
    columns = ", ".join(header)
    if chosen is not None:
        if chosen not in header:
            bad_line(path, line, f"no column `{chosen}`", f"the columns are: {columns}")
        return header.index(chosen)
    lower = [name.lower() for name in header]
    found = [name for name in names if name in lower]
    if not found:
        bad_line(path, line, f"which column is the {what}? ({columns})", f"name it with {option}")
    if unique and len(found) > 1:
        bad_line(
            path, line, f"which column is the {what}: {' or '.join(found)}?", f"choose one with {option}"
        )
    return lower.index(found[0])


def _json_object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        problem = getattr(error, "msg", str(error))
        raise DataError(
            f"{path}:{number}: not JSON ({problem}): {shown(line)}; write one object a line, or name "
            f"another --format"
        ) from error
    if not isinstance(fields, dict):
        bad_line(path, number, f"not a JSON object: {shown(line)}", "write one object a line")
    if "\\ud" in line.lower() and any(
        "\ud800" <= character <= "\udfff" for character in json.dumps(fields, ensure_ascii=False)
    ):
        bad_line(path, number, "has half of a surrogate pair", "write the whole character")
    return fields


def _with_absolute_paths(fields: dict[str, Any], folder: str) -> dict[str, Any]:
    for name in _PATHS:
        if isinstance(fields.get(name), str):
            fields[name] = os.path.normpath(os.path.join(folder, fields[name]))
    return fields


def _value(path: Path, number: int, name: str, cell: str) -> str | float:
    """Return a cell as it is, since ``007`` may name a speaker; only times are numbers."""
    if name not in _TIMES:
        return cell
    try:
        return float(cell)
    except ValueError:
        bad_line(path, number, f"{name} is {shown(cell)}", "write a number of seconds")


def _found(fields: Mapping[str, Any], key: str) -> str:
    return f"`{key}` is {shown(json.dumps(fields[key]))}" if key in fields else f"`{key}` is missing"
