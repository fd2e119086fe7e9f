"""Audio on its way between dialects: headers read in parallel, and files made of what has none."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from asr import audio
from asr.audio.frames import open_frames
from asr.errors import AudioError, DataError
from asr.files import atomic_write
from asr.types import Utterance

Progress = Callable[[str, int, int], object]
"""Called with what is being done, how many are done and how many there are."""

_KINDS = {
    b"RIFF": ".wav",
    b"RIFX": ".wav",
    b"RF64": ".wav",
    b"fLaC": ".flac",
    b"OggS": ".ogg",
    b"NIST": ".sph",
    b"ID3": ".mp3",
    b"\xff\xfb": ".mp3",
    b"\xff\xf3": ".mp3",
    b"\xff\xf2": ".mp3",
    b"FORM": ".aiff",
    b".snd": ".au",
}
_BLOCK = 1 << 18
_CHANNEL_LETTERS = {"A": 0, "B": 1}


def in_parallel(
    work: Callable[[Any], Any], items: Sequence[Any], label: str, progress: Progress
) -> list[Any]:
    """Return ``[work(item) for item in items]``, done in threads, since it waits for disks and decoders."""
    results = []
    with ThreadPoolExecutor(min(32, 4 * (os.cpu_count() or 1))) as pool:
        try:
            for done, result in enumerate(pool.map(work, items), start=1):
                results.append(result)
                progress(label, done, len(items))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return results


class Headers:
    """The headers of audio files, each read once.

    Parameters
    ----------
    progress : callable
    """

    def __init__(self, progress: Progress = lambda *_: None) -> None:
        self.progress = progress
        self._known: dict[str, audio.AudioInfo | AudioError] = {}

    def load(self, paths: Iterable[str]) -> None:
        """Read the headers of many files at a time."""
        wanted = [path for path in dict.fromkeys(paths) if path not in self._known]
        found = in_parallel(_try_info, wanted, "reading audio headers", self.progress)
        self._known.update(zip(wanted, found, strict=True))

    def __getitem__(self, path: str) -> audio.AudioInfo:
        if path not in self._known:
            self._known[path] = _try_info(path)
        found = self._known[path]
        if isinstance(found, AudioError):
            raise found
        return found


def _try_info(path: str) -> audio.AudioInfo | AudioError:
    try:
        return audio.info(path)
    except AudioError as error:
        return error


class Media:
    """Audio files that are made because the data have none: their folder is made with the first.

    Parameters
    ----------
    folder : Path or None
        None if nothing is to be made: names are given, files are not.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def path(self, name: str, suffix: str) -> Path:
        """Return the path of the file for `name`."""
        from asr.data.dialects.values import file_name

        folder = self.folder or Path(os.sep)
        if self.folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        return folder.absolute() / f"{file_name(name)}{suffix}"

    def save(self, name: str, data: bytes) -> str:
        """Keep an encoded audio file's bytes; return the path.

        Raises
        ------
        ValueError
            They are of no known kind.
        """
        suffix = next((s for start, s in _KINDS.items() if data.startswith(start)), None)
        if suffix is None and data[4:8] == b"ftyp":
            suffix = ".m4a"
        if suffix is None:
            raise ValueError(f"{len(data)} bytes that begin with {data[:4]!r} are no audio; check the data")
        path = self.path(name, suffix)
        if self.folder is not None:
            with atomic_write(path) as temporary:
                temporary.write_bytes(data)
        return str(path)


def run_command(command: str) -> bytes:
    """Return what a shell command writes.

    Raises
    ------
    ValueError
        It fails or writes nothing.
    """
    done = subprocess.run(command, shell=True, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode or not done.stdout:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        problem = f"ended with status {done.returncode}" if done.returncode else "wrote nothing"
        raise ValueError(f"the command {problem}{f' ({last})' if last else ''}: {command}; run it by hand")
    return done.stdout


def channel_index(channel: object) -> int | None:
    """Return the number from 0 of a channel that is named by it (int), or as NIST's files do: A, B, 1, 2."""
    if isinstance(channel, bool):
        return None
    if isinstance(channel, int):
        return channel
    if isinstance(channel, str):
        if channel.isdigit() and int(channel) > 0:
            return int(channel) - 1
        return _CHANNEL_LETTERS.get(channel.upper())
    return None


def cut(utterance: Utterance, path: Path) -> float:
    """Write the stretch and channel of an utterance as 16-bit WAV at its own rate; return its seconds.

    Raises
    ------
    AudioError
        It is not there, or the recording cannot be read.
    """
    assert utterance.audio_filepath is not None
    name = utterance.audio_filepath
    channel = channel_index(utterance.extra.get("channel"))
    with open_frames(name, 0, name) as frames:
        first = round(utterance.offset * frames.rate)
        stop = first + round(utterance.duration * frames.rate)
        samples = np.concatenate(list(frames.blocks(first, stop, _BLOCK)))
        if channel is not None and frames.channels > 1:
            if channel >= frames.channels:
                raise AudioError(
                    f"{name}: has {frames.channels} channels, {utterance.id} wants number {channel} from 0; "
                    "correct the channel"
                )
            samples = samples[:, channel]
        with atomic_write(path) as temporary:
            # The writer chooses the format by the suffix, which a temporary name does not have.
            whole = temporary.with_name(temporary.name + ".wav")
            try:
                audio.save(whole, samples, frames.rate)
                os.replace(whole, temporary)
            finally:
                whole.unlink(missing_ok=True)
        return len(samples) / frames.rate


def copy(source: str, path: Path) -> None:
    """Copy an audio file.

    Raises
    ------
    DataError
    """
    try:
        with atomic_write(path) as temporary:
            shutil.copyfile(source, temporary)
    except OSError as error:
        raise DataError(f"{source}: cannot be copied to {path} ({error.strerror}); check both") from error
