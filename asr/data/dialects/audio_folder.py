"""A folder of audio with a ``.txt`` or ``.lab`` of the same name beside each file, at any depth."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from asr.data.dialects.base import UNKNOWN, Dialect, Problems, Source, Target
from asr.data.dialects.files import read_transcript, text_file
from asr.data.dialects.values import Names, file_name, is_audio, one_line
from asr.types import Utterance

_SUFFIXES = (".txt", ".lab")
_LOOKED_AT = 2000  # audio files, before a folder is taken for one without transcripts


def _audio_files(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if is_audio(name) and not name.startswith("."):
                yield Path(root) / name


def _transcript(audio: Path) -> Path | None:
    found = [audio.with_suffix(suffix) for suffix in _SUFFIXES if audio.with_suffix(suffix).is_file()]
    if len(found) > 1:
        raise ValueError("has a .txt and a .lab; keep one of them")
    return found[0] if found else None


def _detect(path: Path) -> bool:
    if not path.is_dir():
        return False
    return any(
        audio.with_suffix(suffix).is_file()
        for audio in islice(_audio_files(path), _LOOKED_AT)
        for suffix in _SUFFIXES
    )


def _read(path: Path, source: Source) -> Iterator[Utterance]:
    problems, names = Problems(), Names(ignore_case=False)
    without = []
    for audio in _audio_files(path):
        with problems.at(audio):
            transcript = _transcript(audio)
            if transcript is None:
                without.append(audio)
            yield Utterance(
                id=names.take("-".join(audio.relative_to(path).with_suffix("").parts)),
                duration=UNKNOWN,
                text=None if transcript is None else read_transcript(transcript),
                audio_filepath=str(audio.absolute()),
            )
    if without:
        source.notes.append(
            f"{len(without)} audio files have no .txt or .lab beside them, the first {without[0]}"
        )
    problems.check()


def _write(path: Path, utterances: Sequence[Utterance], target: Target) -> Sequence[Utterance]:
    names = Names()
    named = [(names.take(file_name(utterance.id)), utterance) for utterance in utterances]
    # In the order in which the folder will be read.
    named.sort(key=lambda pair: pair[0] + target.suffix(pair[1]))
    for name, utterance in named:
        target.place(utterance, path / f"{name}{target.suffix(utterance)}")
        if utterance.text is not None:
            with text_file(path / f"{name}.txt") as file:
                file.write(one_line(utterance.text) + "\n")
    return [utterance for _, utterance in named]


AUDIO_FOLDER = Dialect(
    name="folder",
    title="a folder of audio with transcripts",
    looks_for="a folder of audio with a .txt or .lab of the same name beside it",
    detect=_detect,
    read=_read,
    write=_write,
    folder=True,
    own_audio=True,
    weak=True,
)
