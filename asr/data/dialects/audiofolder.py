"""Hugging Face's audiofolder: audio files and ``metadata.csv`` or ``metadata.jsonl`` with ``file_name``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from asr.data.dialects.base import Dialect, Problems, Source, Target
from asr.data.dialects.columns import known_columns, to_columns
from asr.data.dialects.files import csv_header, csv_table, first_json, json_lines, write_json_lines
from asr.data.dialects.values import Names, file_name
from asr.types import Utterance

_NAMES = ("metadata.jsonl", "metadata.csv")


def _metadata(folder: Path) -> Path | None:
    for name in _NAMES:
        path = folder / name
        if path.is_file() and "file_name" in (
            csv_header(path) if path.suffix == ".csv" else first_json(path)
        ):
            return path
    return None


def _read(path: Path, source: Source) -> Iterator[Utterance]:
    metadata = _metadata(path)
    assert metadata is not None
    problems = Problems()
    rows: Iterator[tuple[str, dict[str, Any]]]
    rows = csv_table(metadata, problems) if metadata.suffix == ".csv" else json_lines(metadata, problems)
    for place, row in rows:
        with problems.at(place):
            file = row.pop("file_name", None)
            if not isinstance(file, str) or not file:
                raise ValueError("file_name is missing; write the path of the audio below this folder")
            if metadata.suffix == ".csv":  # which cannot say that a value is not there
                row = {key: cell for key, cell in row.items() if cell}
            yield known_columns(row, source.find(file, path))
    problems.check()


def _write(path: Path, utterances: Sequence[Utterance], target: Target) -> Sequence[Utterance]:
    names = Names()
    records = []
    for utterance in utterances:
        file = f"{names.take(file_name(utterance.id))}{target.suffix(utterance)}"
        target.place(utterance, path / file)
        records.append({"file_name": file, **to_columns(utterance)})
    # All lines have all columns, or pyarrow would not make one table of them.
    keys = list(dict.fromkeys(key for record in records for key in record))
    write_json_lines(path / "metadata.jsonl", ({key: record.get(key) for key in keys} for record in records))
    return utterances


AUDIOFOLDER = Dialect(
    name="audiofolder",
    title="a Hugging Face audiofolder",
    looks_for="a folder with metadata.csv or metadata.jsonl that has file_name",
    detect=lambda path: path.is_dir() and _metadata(path) is not None,
    read=_read,
    write=_write,
    folder=True,
    own_audio=True,
)
