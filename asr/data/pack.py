"""Write a manifest's audio into tar shards, which `asr.data.shards`, WebDataset and NeMo read.

The folder gets ``audio_0.tar``, ``audio_1.tar``, ... with ``key.wav`` (or another kind), ``key.txt`` and
``key.json`` of each utterance, ``manifest.jsonl`` (the index: a manifest that names the members' places),
NeMo's ``tarred_audio_manifest.json``, and ``pack.json`` (what was packed, and how).

Each shard is written whole or not at all, and the index last of all; until then a folder ``.unfinished``
keeps the records of the shards that are done, so that an interrupted packing goes on and is never taken for a
whole one.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import multiprocessing
import os
import re
import shutil
import signal
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from asr import audio
from asr.data.manifest import durations, to_record
from asr.data.shards import INDEX_NAME, NEMO_NAME, UNFINISHED_NAME
from asr.errors import AsrError, ConfigError, DataError
from asr.files import UNFINISHED, atomic_write
from asr.storage import is_remote, local_copy, locked, parse_part, read_part
from asr.types import Utterance

Format = Literal["keep", "flac", "wav"]

PLAN_NAME = "pack.json"
_MAGIC = {
    b"RIFF": ".wav",
    b"fLaC": ".flac",
    b"OggS": ".ogg",
    b"ID3": ".mp3",
    b"\xff": ".mp3",
    b"NIST": ".sph",
}
# FLAC takes about this share of 16-bit samples.
_FLAC_SHARE = 0.55
# Bytes of tar headers, text and JSON of an utterance.
_OVERHEAD = 3072
# Audio may go on after its utterance by rounding; beyond this it is cut.
_SLACK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Packed:
    """What a packing has made.

    Attributes
    ----------
    shards, utterances : int
    seconds : float
        Of audio.
    num_bytes : int
        Of the tar files.
    cut : int
        Utterances that are a part of their recording, of which only that part was taken.
    rounded : int
        Utterances whose samples had to be rounded to 16 bits.
    """

    shards: int = 0
    utterances: int = 0
    seconds: float = 0.0
    num_bytes: int = 0
    cut: int = 0
    rounded: int = 0


def pack(
    utterances: Sequence[Utterance],
    folder: Path,
    *,
    shard_bytes: int = 500_000_000,
    shard_utterances: int | None = None,
    format: Format = "keep",
    seed: int | None = 1,
    jobs: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Packed:
    """Write shards, or those that an interrupted packing has left to do.

    Parameters
    ----------
    utterances : sequence of Utterance
        Of audio.
    folder : Path
        Made if there is none.
    shard_bytes : int
        About how large a shard becomes, bytes.
    shard_utterances : int, optional
        How many utterances it has instead.
    format : {"keep", "flac", "wav"}
        "keep" copies files as they are; utterances that are a part of a file become WAV if it is one, else
        FLAC. "flac" and "wav" encode 16 bits, at each recording's own rate and with its own channels.
    seed : int, optional
        Utterances are spread over the shards at random; None keeps their order.
    jobs : int
        Processes.
    progress : callable
        Takes how many utterances are done, and of how many.

    Raises
    ------
    ConfigError
        The folder holds shards of other utterances or settings.
    AsrError
        An utterance cannot be packed.
    OSError
        The disk is full or the folder cannot be written.
    """
    if not utterances:
        raise DataError("no utterances to pack")
    sizes = _sizes(utterances, format)
    order = np.arange(len(utterances))
    if seed is not None:
        order = np.random.default_rng(seed).permutation(len(utterances))
    shards = _divide(order, sizes, shard_bytes, shard_utterances)
    plan = {"format": format, "seed": seed, "digest": _digest(utterances, shards)}
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".lock"):
        found = _begin(folder, plan)
        if found is None:
            _write_all(utterances, shards, sizes, folder, format, jobs, progress)
            found = _end(folder, plan, len(shards))
    progress(found.utterances, found.utterances)
    return found


def _begin(folder: Path, plan: dict[str, Any]) -> Packed | None:
    """Return what is packed there already; else make the folder ready."""
    try:
        there = json.loads((folder / PLAN_NAME).read_text())
    except FileNotFoundError:
        there = None
        if (folder / INDEX_NAME).exists() or next(folder.glob("*.tar"), None):
            raise ConfigError(
                f"{folder}: holds shards or a manifest already; choose another folder"
            ) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{folder / PLAN_NAME}: cannot be read ({error}); choose another folder") from error
    if there is not None and there.get("plan") != plan:
        raise ConfigError(
            f"{folder}: holds shards of other utterances or with other settings; choose another folder, or "
            "delete it"
        )
    if there is not None and "made" in there:
        return Packed(**there["made"])
    (folder / UNFINISHED_NAME).mkdir(exist_ok=True)
    for path in [*folder.glob(UNFINISHED), *(folder / UNFINISHED_NAME).glob(UNFINISHED)]:
        path.unlink(missing_ok=True)
    _write_json(folder / PLAN_NAME, {"plan": plan})
    return None


def _write_all(
    utterances: Sequence[Utterance],
    shards: list[np.ndarray],
    sizes: np.ndarray,
    folder: Path,
    format: Format,
    jobs: int,
    progress: Callable[[int, int], None],
) -> None:
    """Write the shards that are not there yet."""
    todo = [n for n in range(len(shards)) if not _mark(folder, n).exists()]
    needed, free = sum(int(sizes[shards[n]].sum()) for n in todo), shutil.disk_usage(folder).free
    if needed > free:
        raise ConfigError(
            f"{folder}: about {needed / 1e9:.1f} GB are to be written, {free / 1e9:.1f} GB are free; make "
            "room, or "
            "choose another disk or format"
        )
    done = len(utterances) - sum(len(shards[n]) for n in todo)
    progress(done, len(utterances))
    for count in _work(utterances, shards, todo, folder, format, jobs):
        done += count
        progress(done, len(utterances))


def _end(folder: Path, plan: dict[str, Any], num_shards: int) -> Packed:
    """Write index and manifest of all shards, and note that all is done."""
    unfinished = folder / UNFINISHED_NAME
    for name in (NEMO_NAME, INDEX_NAME):
        with atomic_write(folder / name) as path, path.open("wb") as target:
            for number in range(num_shards):
                with _lines(folder, number, name).open("rb") as lines:
                    shutil.copyfileobj(lines, target)
    marks = [json.loads(_mark(folder, number).read_text()) for number in range(num_shards)]
    made: dict[str, Any] = {key: sum(mark[key] for mark in marks) for key in marks[0]} | {
        "shards": num_shards
    }
    _write_json(folder / PLAN_NAME, {"plan": plan, "made": made})
    shutil.rmtree(unfinished)
    return Packed(**made)


def _lines(folder: Path, number: int, name: str) -> Path:
    return folder / UNFINISHED_NAME / f"{number}-{name}"


def _mark(folder: Path, number: int) -> Path:
    """Return the file that says that a shard and its lines are written."""
    return folder / UNFINISHED_NAME / f"{number}.json"


def _work(
    utterances: Sequence[Utterance],
    shards: list[np.ndarray],
    todo: list[int],
    folder: Path,
    format: Format,
    jobs: int,
) -> Iterator[int]:
    """Write shards in several processes; yield the number of utterances of each that is done."""
    if jobs <= 1 or len(todo) <= 1:
        for number in todo:
            _write_shard(utterances, shards[number], number, folder, format)
            yield len(shards[number])
        return
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(jobs, context, initializer=_take, initargs=(utterances, os.getpid())) as pool:
        waiting = {
            pool.submit(_write_shard, None, shards[n], n, folder, format): len(shards[n]) for n in todo
        }
        try:
            while waiting:
                ready, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in ready:
                    count = waiting.pop(future)
                    future.result()
                    yield count
        except BrokenProcessPool as error:
            raise AsrError(
                f"{folder}: a process that packed was killed, perhaps for want of memory; run the same "
                "command "
                "again with fewer --jobs, and it goes on"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


_utterances: Sequence[Utterance] = ()
"""In a worker process: what is packed."""


def _take(utterances: Sequence[Utterance], parent: int) -> None:
    """Make a worker process ready; it ends with the process that started it, even if that is killed."""
    global _utterances
    _utterances = utterances
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _write_shard(
    utterances: Sequence[Utterance] | None, indices: np.ndarray, number: int, folder: Path, format: Format
) -> None:
    """Write one tar file, then its lines of index and NeMo's manifest, then the mark that it is done."""
    chosen = _utterances if utterances is None else utterances
    name = f"audio_{number}.tar"
    index: list[dict[str, Any]] = []
    nemo: list[dict[str, Any]] = []
    made = {"utterances": len(indices), "seconds": 0.0, "num_bytes": 0, "cut": 0, "rounded": 0}
    with atomic_write(folder / name) as temporary:
        with tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as tar:
            for i in indices.tolist():
                utterance = chosen[i]
                sound, key = _sound(utterance, format), _key(utterance.id)
                record = to_record(utterance, folder) | {"duration": sound.duration}
                for field in ("audio_filepath", "offset", "shard_id"):
                    record.pop(field, None)
                offset = _add(tar, f"{key}{sound.suffix}", sound.content)
                if utterance.text is not None:
                    _add(tar, f"{key}.txt", utterance.text.encode())
                _add(tar, f"{key}.json", json.dumps(record, ensure_ascii=False).encode())
                index.append({"audio_filepath": f"{name}:{offset}:{len(sound.content)}"} | record)
                nemo.append(
                    {"audio_filepath": f"{key}{sound.suffix}", "text": "", "shard_id": number} | record
                )
                nemo[-1]["shard_id"] = number
                made["seconds"] += sound.duration
                made["cut"] += sound.cut
                made["rounded"] += sound.rounded
        made["num_bytes"] = temporary.stat().st_size
    for kind, records in ((NEMO_NAME, nemo), (INDEX_NAME, index)):
        with atomic_write(_lines(folder, number, kind)) as path, path.open("w", encoding="utf-8") as file:
            for record in records:
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
    _write_json(_mark(folder, number), made)


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
        content, suffix = (b"", "") if cut and format != "keep" else _file(path)
        if not cut and suffix and format in ("keep", suffix[1:]):
            return _Sound(content, suffix, utterance.duration)
        kind: Literal["wav", "flac"] = format if format != "keep" else "wav" if suffix == ".wav" else "flac"
        samples, rate = audio.load_channels(path, utterance.offset, utterance.duration if cut else None)
    except AsrError as error:
        raise type(error)(f"{utterance.id}: {error}") from error
    steps = samples * 32768
    rounded = bool((steps != np.rint(steps)).any())
    duration = len(samples) / rate if cut else utterance.duration
    return _Sound(audio.encode(samples, rate, kind), f".{kind}", duration, cut, rounded)


def _file(path: str) -> tuple[bytes, str]:
    """Return the content of an audio file and its suffix; no suffix if its kind is not known."""
    part = parse_part(path)
    if part is not None and not os.path.exists(path):
        content = read_part(part)
        known = (suffix for magic, suffix in _MAGIC.items() if content.startswith(magic))
        return content, next(known, "")
    content = (local_copy(path) if is_remote(path) else Path(path)).read_bytes()
    suffix = os.path.splitext(path)[1].lower()
    return content, suffix if suffix in audio.AUDIO_SUFFIXES else ""


def _sizes(utterances: Sequence[Utterance], format: Format) -> np.ndarray:
    """Estimate the bytes that each utterance will take, int64."""
    seconds = durations(utterances)
    first = utterances[0]
    rate = audio.info(first.audio_filepath).sample_rate if first.audio_filepath else 16000
    share = _FLAC_SHARE if format == "flac" else 1.0
    sizes = (seconds * (2 * rate * share)).astype(np.int64)
    if format == "keep":
        for i, utterance in enumerate(utterances):
            path = utterance.audio_filepath or ""
            part = parse_part(path)
            if part is not None:
                sizes[i] = part.length
            elif utterance.offset == 0 and not is_remote(path):
                with contextlib.suppress(OSError):  # reading it says what is wrong
                    sizes[i] = os.path.getsize(path)
    return sizes + _OVERHEAD


def _divide(
    order: np.ndarray, sizes: np.ndarray, shard_bytes: int, shard_utterances: int | None
) -> list[np.ndarray]:
    """Return the indices of each shard's utterances."""
    if shard_utterances is not None:
        return np.split(order, range(shard_utterances, len(order), shard_utterances))
    before = np.cumsum(sizes[order]) - sizes[order]
    return np.split(order, np.flatnonzero(np.diff(before // shard_bytes)) + 1)


def _digest(utterances: Sequence[Utterance], shards: list[np.ndarray]) -> str:
    digest = hashlib.sha256(repr([len(shard) for shard in shards]).encode())
    for u in utterances:
        digest.update(
            repr((u.id, u.audio_filepath, u.offset, u.duration, u.text, u.speaker, u.lang)).encode()
        )
    return digest.hexdigest()


def _write_json(path: Path, value: dict[str, Any]) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
