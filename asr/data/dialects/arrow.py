"""Datasets that Hugging Face's ``save_to_disk`` left: Arrow files that hold the audio. Needs pyarrow."""

from __future__ import annotations

import datetime
import decimal
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from asr import audio
from asr.data.dialects.base import Dialect, Problems, Source, Target
from asr.data.dialects.columns import known_columns, to_columns
from asr.data.dialects.files import read_json, text_file
from asr.data.dialects.values import Names, file_name, shown
from asr.errors import DataError
from asr.files import atomic_write
from asr.types import Utterance

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS = 64  # a batch of the file that is written; its audio is in memory


def _detect(path: Path) -> bool:
    return (path / "dataset_dict.json").is_file() or all(
        (path / name).is_file() for name in ("dataset_info.json", "state.json")
    )


def _pyarrow(path: Path) -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise DataError(
            f"{path}: is a folder of Arrow files; reading and writing it needs `pip install pyarrow`"
        ) from error
    return pyarrow


def _read(path: Path, source: Source) -> Iterator[Utterance]:
    if (path / "dataset_dict.json").is_file():
        splits = read_json(path / "dataset_dict.json").get("splits") or []
        raise DataError(f"{path}: holds several splits; name one: {', '.join(str(path / s) for s in splits)}")
    features = read_json(path / "dataset_info.json").get("features") or {}
    column = _audio_column(path, features)
    names = {key: kind["names"] for key, kind in features.items() if kind.get("_type") == "ClassLabel"}
    problems, files = Problems(), Names()
    for number, row in enumerate(_rows(path), start=1):
        with problems.at(f"{path}: row {number}"):
            sound = row.pop(column) or {}
            row = {key: _plain(value, names.get(key)) for key, value in row.items()}
            name = Path(sound.get("path") or "").stem or str(row.get("id") or number)
            yield known_columns(row, _file(sound, files.take(file_name(name)), source))
    problems.check()


def _plain(value: Any, labels: Sequence[str] | None) -> Any:
    """Return a value as JSON holds it: a class by its name, a date as text."""
    if labels and isinstance(value, int) and 0 <= value < len(labels):
        return labels[value]
    return str(value) if isinstance(value, datetime.date | datetime.time | decimal.Decimal) else value


def _audio_column(path: Path, features: Mapping[str, Any]) -> str:
    columns = [
        key for key, kind in features.items() if isinstance(kind, dict) and kind.get("_type") == "Audio"
    ]
    if not columns and isinstance(features.get("audio"), dict):
        columns = ["audio"]  # decoded: {"array": ..., "sampling_rate": ...}
    if len(columns) != 1:
        found = f"audio in {', '.join(columns)}" if columns else f"no audio among {', '.join(features)}"
        raise DataError(f"{path}: has {found}; save a dataset with one Audio column")
    return columns[0]


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    pa = _pyarrow(path)
    for entry in read_json(path / "state.json")["_data_files"]:
        file = path / entry["filename"]
        try:
            with pa.memory_map(str(file)) as mapped, pa.ipc.open_stream(mapped) as batches:
                for batch in batches:
                    for start in range(0, batch.num_rows, _ROWS):
                        yield from batch.slice(start, _ROWS).to_pylist()
        except (OSError, pa.ArrowInvalid) as error:
            raise DataError(f"{file}: cannot be read ({error}); save the dataset again") from error


def _file(sound: Mapping[str, Any], name: str, source: Source) -> str:
    """Return the file of a row's audio: made from the bytes that the row holds, or the one it names."""
    if isinstance(sound.get("bytes"), bytes):
        return source.media.save(name, sound["bytes"])
    if sound.get("array") is not None and sound.get("sampling_rate"):
        path = source.media.path(name, ".wav")
        if not source.dry:
            samples = np.asarray(sound["array"], dtype=np.float32)
            audio.save(path, samples, int(sound["sampling_rate"]))
        return str(path)
    if isinstance(sound.get("path"), str):
        return source.find(sound["path"], Path.cwd())
    raise ValueError(f"audio is {shown(sound)}; save the dataset with its audio")


def _write(path: Path, utterances: Sequence[Utterance], target: Target) -> Sequence[Utterance]:
    pa = _pyarrow(path)
    rows = [to_columns(utterance) for utterance in utterances]
    keys = list(dict.fromkeys(key for row in rows for key in row))
    arrays = {key: _array(pa, [row.get(key) for row in rows]) for key in keys}
    names = Names()
    files = [f"{names.take(file_name(u.id))}{target.suffix(u)}" for u in utterances]
    sound = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    features = {"audio": {"_type": "Audio"}} | {key: _feature(array.type) for key, array in arrays.items()}
    schema = pa.schema(
        {"audio": sound} | {key: array.type for key, array in arrays.items()},
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    data = path / "data-00000-of-00001.arrow"
    with (
        atomic_write(data) as temporary,
        pa.OSFile(str(temporary), "wb") as out,
        pa.ipc.new_stream(out, schema) as writer,
    ):
        for start in range(0, len(rows), _ROWS):
            stop = min(start + _ROWS, len(rows))
            sounds = [
                {"bytes": _bytes(utterances[i], path / files[i], target), "path": files[i]}
                for i in range(start, stop)
            ]
            columns = [pa.array(sounds, sound), *(array[start:stop] for array in arrays.values())]
            writer.write_batch(pa.record_batch(columns, schema=schema))
    _write_json(
        path / "dataset_info.json", {"citation": "", "description": "", "features": features, "license": ""}
    )
    state: dict[str, Any] = {
        "_data_files": [{"filename": data.name}],
        "_fingerprint": "asr",
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    _write_json(path / "state.json", state)
    return utterances


def _array(pa: Any, values: list[Any]) -> pa.Array:
    """Return a column; values of different types, of which Arrow holds one, become JSON."""
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        return pa.array(
            [None if value is None else json.dumps(value, ensure_ascii=False) for value in values]
        )


def _bytes(utterance: Utterance, scratch: Path, target: Target) -> bytes:
    target.place(utterance, scratch)
    try:
        return scratch.read_bytes()
    finally:
        scratch.unlink()


def _feature(kind: pa.DataType) -> Any:
    """Return how `datasets` calls a type of Arrow's."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return {kind.field(i).name: _feature(kind.field(i).type) for i in range(kind.num_fields)}
    if pa.types.is_list(kind):
        return {"_type": "List", "feature": _feature(kind.value_type)}
    names = {"double": "float64", "float": "float32"}
    return {"_type": "Value", "dtype": names.get(str(kind), str(kind))}


def _write_json(path: Path, content: Any) -> None:
    with text_file(path) as file:
        json.dump(content, file, indent=2)


ARROW = Dialect(
    name="datasets",
    title="a dataset of Hugging Face's save_to_disk",
    looks_for="a folder with dataset_info.json and state.json",
    detect=_detect,
    read=_read,
    write=_write,
    folder=True,
    own_audio=True,
)
