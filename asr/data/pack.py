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
import json
import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from asr import audio
from asr.data.manifest import durations
from asr.data.shard_writer import Format, lines_path, mark_path, write_json, write_shard
from asr.data.shards import INDEX_NAME, NEMO_NAME, UNFINISHED_NAME
from asr.errors import AsrError, ConfigError, DataError
from asr.files import UNFINISHED, atomic_write
from asr.storage import is_remote, locked, parse_part
from asr.types import Utterance

PLAN_NAME = "pack.json"
# FLAC takes about this share of 16-bit samples.
_FLAC_SHARE = 0.55
# Bytes of tar headers, text and JSON of an utterance.
_OVERHEAD = 3072


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
        shutil.rmtree(folder / UNFINISHED_NAME, ignore_errors=True)  # as one that was killed at the very end
        return Packed(**there["made"])
    (folder / UNFINISHED_NAME).mkdir(exist_ok=True)
    for path in [*folder.glob(UNFINISHED), *(folder / UNFINISHED_NAME).glob(UNFINISHED)]:
        path.unlink(missing_ok=True)
    write_json(folder / PLAN_NAME, {"plan": plan})
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
    todo = [n for n in range(len(shards)) if not mark_path(folder, n).exists()]
    needed, free = sum(int(sizes[shards[n]].sum()) for n in todo), shutil.disk_usage(folder).free
    if needed > free:
        raise ConfigError(
            f"{folder}: about {needed / 1e9:.1f} GB are to be written, {free / 1e9:.1f} GB are free; make "
            "room, or choose another disk or format"
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
                with lines_path(folder, number, name).open("rb") as lines:
                    shutil.copyfileobj(lines, target)
    marks = [json.loads(mark_path(folder, number).read_text()) for number in range(num_shards)]
    made: dict[str, Any] = {key: sum(mark[key] for mark in marks) for key in marks[0]} | {
        "shards": num_shards
    }
    write_json(folder / PLAN_NAME, {"plan": plan, "made": made})
    shutil.rmtree(unfinished)
    return Packed(**made)


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
            write_shard(map(utterances.__getitem__, shards[number].tolist()), number, folder, format)
            yield len(shards[number])
        return
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(jobs, context, initializer=_take, initargs=(utterances, os.getpid())) as pool:
        waiting = {pool.submit(_write, shards[n], n, folder, format): len(shards[n]) for n in todo}
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
                "command again with fewer --jobs, and it goes on"
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


def _write(indices: np.ndarray, number: int, folder: Path, format: Format) -> None:
    write_shard(map(_utterances.__getitem__, indices.tolist()), number, folder, format)


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
