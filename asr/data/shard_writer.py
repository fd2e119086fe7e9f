"""Write one tar shard: audio, text and JSON of each utterance, and its lines of the manifests."""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from asr import audio
from asr.data.lines import to_record
from asr.data.shards import INDEX_NAME, NEMO_NAME, UNFINISHED_NAME
from asr.errors import AsrError, DataError
from asr.files import atomic_write
from asr.storage import is_remote, local_copy, parse_part, read_part
from asr.types import Utterance

Format = Literal["keep", "flac", "wav"]
_MAGIC = {
    b"RIFF": ".wav",
    b"fLaC": ".flac",
    b"OggS": ".ogg",
    b"ID3": ".mp3",
    b"\xff": ".mp3",
    b"NIST": ".sph",
}
# Audio may go on after its utterance by rounding; beyond this it is cut.
_SLACK_SECONDS = 0.05


def write_shard(utterances: Iterable[Utterance], number: int, folder: Path, format: Format) -> None:
    """Write one tar file, then its lines of index and NeMo's manifest, then the mark that it is done.

    Parameters
    ----------
    utterances : iterable of Utterance
        Of audio.
    number : int
        Of the shard.
    folder : Path
        With a folder `UNFINISHED_NAME` for the lines and the mark.
    format : {"keep", "flac", "wav"}
        See `asr.data.pack.pack`.

    Raises
    ------
    AsrError
        An utterance cannot be packed.
    OSError
        The disk is full or the folder cannot be written.
    """
    name = f"audio_{number}.tar"
    index: list[dict[str, Any]] = []
    nemo: list[dict[str, Any]] = []
    made = {"utterances": 0, "seconds": 0.0, "num_bytes": 0, "cut": 0, "rounded": 0}
    with atomic_write(folder / name) as temporary:
        with tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as tar:
            for utterance in utterances:
                sound, key = _sound(utterance, format), _key(utterance.id)
                record = to_record(utterance, folder) | {"duration": sound.duration}
                for field in ("audio_filepath", "offset", "shard_id"):
                    record.pop(field, None)
                offset = _add(tar, f"{key}{sound.suffix}", sound.content)
                if utterance.text is not None:
                    _add(tar, f"{key}.txt", utterance.text.encode())
                _add(tar, f"{key}.json", json.dumps(record, ensure_ascii=False).encode())
                index.append({"audio_filepath": f"{name}:{offset}:{len(sound.content)}"} | record)
                named = {"audio_filepath": f"{key}{sound.suffix}", "text": ""}
                nemo.append(named | record | {"shard_id": number})
                made["utterances"] += 1
                made["seconds"] += sound.duration
                made["cut"] += sound.cut
                made["rounded"] += sound.rounded
        made["num_bytes"] = temporary.stat().st_size
    for kind, records in ((NEMO_NAME, nemo), (INDEX_NAME, index)):
        with atomic_write(lines_path(folder, number, kind)) as path, path.open("w", encoding="utf-8") as file:
            for record in records:
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
    write_json(mark_path(folder, number), made)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> int:
    """Add a member; return the byte at which its content begins."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), 0o644
    tar.addfile(info, io.BytesIO(content))
    return tar.offset - -(-len(content) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _key(name: str) -> str:
    """Return an id as a member's name: WebDataset ends it at the first period, and it is in no folder."""
    return re.sub(r"[%./\\\s\x00-\x1f]", lambda found: f"%{ord(found[0]):02X}", name)


class _Sound(NamedTuple):
    """The audio of one utterance as it goes into a shard."""

    content: bytes
    suffix: str
    duration: float
    cut: bool = False
    rounded: bool = False


def _sound(utterance: Utterance, format: Format) -> _Sound:
    """Read what is packed of an utterance."""
    path = utterance.audio_filepath
    if path is None or utterance.features_filepath is not None:
        raise DataError(
            f"{utterance.id}: has features_filepath; only audio is packed, leave the features as they are"
        )
    try:
        whole_seconds = audio.info(path).duration
        cut = utterance.offset > 0 or utterance.duration < whole_seconds - _SLACK_SECONDS
        suffix = _suffix(path)
        if not cut and suffix and format in ("keep", suffix[1:]):
            return _Sound(_content(path), suffix, utterance.duration)
        kind: Literal["wav", "flac"] = format if format != "keep" else "wav" if suffix == ".wav" else "flac"
        samples, rate = audio.load_channels(path, utterance.offset, utterance.duration if cut else None)
    except AsrError as error:
        raise type(error)(f"{utterance.id}: {error}") from error
    steps = samples * 32768
    rounded = bool((steps != np.rint(steps)).any())
    duration = len(samples) / rate if cut else utterance.duration
    return _Sound(audio.encode(samples, rate, kind), f".{kind}", duration, cut, rounded)


def _suffix(path: str) -> str:
    """Return the suffix of a recording's kind; an empty one if that is not known."""
    part = parse_part(path)
    if part is not None:
        head = read_part(part._replace(length=min(4, part.length)))
        return next((suffix for magic, suffix in _MAGIC.items() if head.startswith(magic)), "")
    suffix = os.path.splitext(path)[1].lower()
    return suffix if suffix in audio.AUDIO_SUFFIXES else ""


def _content(path: str) -> bytes:
    part = parse_part(path)
    if part is not None:
        return read_part(part)
    return (local_copy(path) if is_remote(path) else Path(path)).read_bytes()


def lines_path(folder: Path, number: int, name: str) -> Path:
    """Return the file with a shard's lines of a manifest."""
    return folder / UNFINISHED_NAME / f"{number}-{name}"


def mark_path(folder: Path, number: int) -> Path:
    """Return the file that says that a shard and its lines are written."""
    return folder / UNFINISHED_NAME / f"{number}.json"


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON object, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
