"""Tar shards: the utterances of WebDataset and NeMo tar files, found where they lie.

A set of shards is read through its index, which is a manifest like any other: in place of an audio file each
line names the part of a tar file that holds the audio, ``audio_0.tar:1536:32044`` (`asr.storage`). So all
that reads manifests reads shards, the sampler keeps its exactness (which batch comes next follows from seed,
epoch and position, whatever the workers and however often a training was killed), and a member is had by one
read at a known place. What makes the reading sequential is the order in which utterances are asked for: the
sampler shuffles the shards, and then only the utterances of a few consecutive ones with each other
(`asr.data.sampler.BatchSampler`), and the next ones are read ahead. Remote shards are copied whole to a local
folder of bounded size first.

`asr pack` writes the index beside its shards (``manifest.jsonl``). For shards that others wrote it is made in
one sequential pass and kept in the cache folder until a shard changes. Three layouts are known:

- a folder that `asr pack` has written, or the ``manifest.jsonl`` in it;
- NeMo's ``tarred_audio_manifest.json`` with ``audio_N.tar`` beside it or one folder above;
- WebDataset: ``key.wav`` (or another kind of audio), ``key.txt`` and ``key.json`` one after the other, where
  JSON may have the fields of a manifest; a ``.tar``, a pattern such as ``speech-{000..127}.tar``, or a folder
  of them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from asr import audio
from asr.errors import AudioError, DataError
from asr.files import atomic_write
from asr.storage import (
    Part,
    cache_folder,
    expand,
    is_remote,
    join,
    list_folder,
    local_copy,
    locked,
    natural_order,
    parse_part,
    version,
)

INDEX_NAME = "manifest.jsonl"
NEMO_NAME = "tarred_audio_manifest.json"
UNFINISHED_NAME = ".unfinished"
"""Folder beside the shards while `asr pack` has not written all of them."""

_LAYOUT = 1
"""Goes up when what an index says of the same shards changes."""
# A member may be shorter than its JSON says by rounding.
_SLACK_SECONDS = 0.05


def find_index(path: str) -> tuple[Path, str, str]:
    """Return the manifest that a path, an address or a pattern stands for, made first if there is none.

    Returns
    -------
    file : Path
        On this machine.
    folder : str
        What paths in it are relative to.
    name : str
        What messages call it.

    Raises
    ------
    DataError
        A shard cannot be read, is broken or is missing, or the shards are not all written.
    """
    path = _address(path)
    names = list_folder(path)
    if names is not None:
        if UNFINISHED_NAME in names:
            raise DataError(
                f"{path}: not all shards are written; run the same 'asr pack' again, which goes on"
            )
        chosen = next((name for name in (INDEX_NAME, NEMO_NAME) if name in names), None)
        if chosen is None:
            folder = path if is_remote(path) else os.path.abspath(path)
            tars = natural_order(join(folder, name) for name in names if name.endswith(".tar"))
            if not tars:
                raise DataError(
                    f"{path}: a folder without {INDEX_NAME} and .tar files; name a manifest in it, or make "
                    "one with 'asr convert'"
                )
            return _index(tars, _webdataset_lines), "", path
        path = join(path, chosen)
    elif path.endswith(".tar"):
        pattern = path if is_remote(path) else os.path.abspath(path)
        return _index(expand(pattern), _webdataset_lines), "", path
    elif path.endswith((".tar.gz", ".tgz")):
        raise DataError(f"{path}: compressed tar files cannot be read in places; gunzip it first")
    file = local_copy(path) if is_remote(path) else Path(path)
    folder = path.rpartition("/")[0] if is_remote(path) else os.path.dirname(os.path.abspath(path))
    if _is_of_nemo(file, folder):
        return _index([path], _nemo_lines), "", path
    return file, folder, path


def _address(path: str) -> str:
    """Put back the slash that an address loses on its way through a `Path`."""
    found = re.match(r"([a-z][a-z0-9+.-]+):/(?!/)", path)
    return f"{found[1]}://{path[found.end() :]}" if found and not os.path.exists(found[1] + ":") else path


def _index(files: list[str], lines: Any) -> Path:
    """Return the index of these files from the cache folder, or make it there."""
    sources = [*files, *(_nemo_tars(files[0]) if lines is _nemo_lines else [])]
    digest = hashlib.sha256(
        repr([_LAYOUT, [(file, version(file)) for file in sources]]).encode()
    ).hexdigest()[:32]
    path = cache_folder() / "indexes" / f"{digest}.jsonl"
    with locked(path.with_suffix(".lock")):
        if not path.exists():
            try:
                with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as index:
                    for record in lines(files):
                        index.write(json.dumps(record, ensure_ascii=False) + "\n" if record else "\n")
            except OSError as error:
                raise DataError(
                    f"{path}: cannot write the index of {files[0]} ({error.strerror}); make room, or set "
                    "ASR_CACHE to another folder"
                ) from error
    return path


def members(file: str) -> Iterator[tuple[str, Part]]:
    """Yield name and place of each regular file in a tar file.

    Raises
    ------
    DataError
        It cannot be read, is no tar file, or ends too early: every writer puts a mark at the end.
    """
    local = str(local_copy(file)) if is_remote(file) else file
    try:
        size = os.path.getsize(local)
        with tarfile.open(local, "r:") as tar:
            end = 0
            for member in tar:
                end = member.offset_data + -(-member.size // 512) * 512
                if member.offset_data + member.size > size:
                    raise _broken(file, f"ends in the middle of {member.name}")
                if member.isreg():
                    yield member.name, Part(file, member.offset_data, member.size)
                tar.members = []  # type: ignore[attr-defined]  # they would be kept
            assert tar.fileobj is not None
            tar.fileobj.seek(end)
            if tar.fileobj.read(512) != bytes(512):
                raise _broken(file, f"no mark of its end after byte {end}")
    except tarfile.TarError as error:
        raise _broken(file, str(error)) from error
    except OSError as error:
        raise DataError(f"{file}: this shard cannot be read ({error.strerror}); check the path") from error


def _broken(file: str, detail: str) -> DataError:
    return DataError(f"{file}: broken or cut off as a tar file ({detail}); copy or make it again")


def _webdataset_lines(files: list[str]) -> Iterator[dict[str, Any]]:
    """Yield a manifest's record for each sample of WebDataset shards."""
    taken: dict[str, int] = {}
    for file in files:
        none = True
        for key, parts in _samples(file):
            none = False
            yield _record(file, key, parts, taken)
        if none:
            raise DataError(f"{file}: an empty shard; make it again or leave it out")


def _samples(file: str) -> Iterator[tuple[str, dict[str, Part]]]:
    """Yield each sample's key and its members by suffix, as WebDataset groups them."""
    key, parts = "", dict[str, Part]()
    for name, part in members(file):
        folder, _, base = name.rpartition("/")
        stem, _, suffix = base.partition(".")
        own = f"{folder}/{stem}" if folder else stem
        if not stem:  # a hidden file
            continue
        if own != key:
            if parts:
                yield key, parts
            key, parts = own, {}
        parts[suffix.lower()] = part
    if parts:
        yield key, parts


def _record(file: str, key: str, parts: dict[str, Part], taken: dict[str, int]) -> dict[str, Any]:
    record: dict[str, Any] = {}
    if "json" in parts:
        try:
            record = json.loads(_content(parts["json"]))
        except ValueError as error:
            raise DataError(f"{file}: {key}.json is not JSON ({error}); make this shard again") from error
        if not isinstance(record, dict):
            raise DataError(f"{file}: {key}.json holds no JSON object; make this shard again")
    if "txt" in parts:
        try:
            record["text"] = _content(parts["txt"]).decode("utf-8").strip("\r\n")
        except UnicodeDecodeError as error:
            raise DataError(f"{file}: {key}.txt is not UTF-8; make this shard again") from error
    sound = next((part for suffix, part in parts.items() if _is_audio(suffix)), None)
    if sound is None:
        raise DataError(
            f"{file}: {key} has no audio, only {', '.join(f'.{suffix}' for suffix in parts)}; make this "
            "shard again"
        )
    record.pop("features_filepath", None)
    record["audio_filepath"] = str(sound)
    duration, offset = record.get("duration"), record.get("offset") or 0
    if not isinstance(duration, int | float) or not isinstance(offset, int | float) or offset:
        try:
            whole = audio.info(str(sound)).duration
        except AudioError as error:
            raise DataError(f"{file}: {key}: {str(error).removeprefix(f'{sound}: ')}") from error
        if not isinstance(duration, int | float):
            record["duration"] = whole
        # An offset in the recording that the member was cut from.
        elif isinstance(offset, int | float) and offset + duration > whole + _SLACK_SECONDS:
            del record["offset"]
    record["id"] = _free(str(record.get("id") or key), taken)
    return record


def _is_audio(suffix: str) -> bool:
    return "." + suffix.rpartition(".")[2] in audio.AUDIO_SUFFIXES


def _content(part: Part) -> bytes:
    local = local_copy(part.file) if is_remote(part.file) else part.file
    with open(local, "rb") as file:
        file.seek(part.offset)
        return file.read(part.length)


def _free(name: str, taken: dict[str, int]) -> str:
    """Return the name, numbered if it is taken."""
    number = taken[name] = taken.get(name, 0) + 1
    return name if number == 1 else _free(f"{name}-{number}", taken)


def _is_of_nemo(file: Path, folder: str) -> bool:
    """Tell whether a manifest names members of NeMo's tar files: its first line has a shard's number."""
    with contextlib.suppress(OSError, ValueError), file.open("rb") as lines:
        first = json.loads(lines.readline())
        path = first.get("audio_filepath") if isinstance(first, dict) and "shard_id" in first else None
        return isinstance(path, str) and parse_part(path) is None and not os.path.isfile(join(folder, path))
    return False


def _nemo_records(path: str) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Yield number and fields of each line; None for a blank one."""
    file = local_copy(path) if is_remote(path) else Path(path)
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                fields = json.loads(line) if line.strip() else None
            except ValueError as error:
                raise DataError(
                    f"{path}:{number}: not JSON in UTF-8 ({error}); write one JSON object a line"
                ) from error
            if fields is not None and not (
                isinstance(fields, dict)
                and isinstance(fields.get("shard_id"), int)
                and isinstance(fields.get("audio_filepath"), str)
            ):
                raise DataError(
                    f"{path}:{number}: no audio_filepath with the shard_id of its tar file; "
                    "NeMo's tarred manifests have both on every line"
                )
            yield number, fields


def _nemo_tars(path: str) -> list[str]:
    """List the tar files that a manifest of NeMo names.

    Raises
    ------
    DataError
        One is missing.
    """
    first_line: dict[int, int] = {}
    for number, fields in _nemo_records(path):
        if fields is not None:
            first_line.setdefault(fields["shard_id"], number)
    return [_nemo_tar(path, shard, number) for shard, number in sorted(first_line.items())]


def _nemo_tar(path: str, shard: int, number: int) -> str:
    folder = path.rpartition("/")[0] if is_remote(path) else os.path.dirname(os.path.abspath(path))
    names = [join(folder, f"{above}audio_{shard}.tar") for above in ("", "../")]
    if is_remote(path):
        return names[0]
    found = next((name for name in names if os.path.isfile(name)), None)
    if found is None:
        raise DataError(f"{path}:{number}: shard audio_{shard}.tar is not beside it; copy it there")
    return found


def _nemo_lines(files: list[str]) -> Iterator[dict[str, Any] | None]:
    """Yield a record for each line of a manifest of NeMo, so that line numbers stay."""
    [path] = files
    taken: dict[str, int] = {}
    known: dict[int, dict[str, Part]] = {}
    for number, fields in _nemo_records(path):
        if fields is None:
            yield None
            continue
        shard, name = fields["shard_id"], fields["audio_filepath"]
        if shard not in known:
            known[shard] = dict(members(_nemo_tar(path, shard, number)))
        # Further segments of one recording are called so; the tar file has it once.
        part = known[shard].get(name) or known[shard].get(re.sub(r"-sub\d+(?=\.[^.]*$)", "", name))
        if part is None:
            raise DataError(f"{path}:{number}: {name} is not in audio_{shard}.tar; make the shards again")
        name = fields.get("id") or os.path.splitext(os.path.basename(name))[0]
        yield fields | {"audio_filepath": str(part), "id": _free(str(name), taken)}
