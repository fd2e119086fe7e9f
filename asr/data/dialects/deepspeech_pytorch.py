"""deepspeech.pytorch's manifests: JSON with ``root_path`` and ``samples``, and the older CSV ``wav,txt``.

A transcript is a text file of its own; an utterance is called after it.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from asr.data.dialects.base import UNKNOWN, Dialect, Problems, Source, Target
from asr.data.dialects.files import csv_header, csv_rows, head, read_json, read_transcript, text_file
from asr.data.dialects.values import Names, file_name, is_audio, one_line, shown
from asr.errors import DataError
from asr.types import Utterance


def _detect(path: Path) -> bool:
    start = head(path) if path.is_file() else ""
    return start.lstrip().startswith("{") and bool(re.search(r'"samples"\s*:\s*\[', start))


def _read(path: Path, source: Source) -> Iterator[Utterance]:
    content = read_json(path)
    samples = content.get("samples") if isinstance(content, dict) else None
    if not isinstance(samples, list):
        raise DataError(f'{path}: has no list of samples; write {{"root_path": ..., "samples": [...]}}')
    root = str(content.get("root_path") or ".")
    folders = (path.parent / root, Path.cwd() / root)
    problems = Problems()
    for number, sample in enumerate(samples, start=1):
        with problems.at(f"{path}: sample {number}"):
            if not isinstance(sample, dict) or not {"wav_path", "transcript_path"} <= sample.keys():
                raise ValueError(f'{shown(sample)}; write {{"wav_path": ..., "transcript_path": ...}}')
            yield _utterance(sample["wav_path"], sample["transcript_path"], source, folders)
    problems.check()


def _utterance(audio: str, transcript: str, source: Source, folders: Sequence[Path]) -> Utterance:
    text = Path(source.find(transcript, *folders))
    if not text.is_file():
        raise ValueError(f"transcript {text} does not exist; correct root_path or give --audio-dir")
    return Utterance(
        id=text.stem,
        duration=UNKNOWN,
        text=read_transcript(text),
        audio_filepath=source.find(audio, *folders),
    )


def _detect_csv(path: Path) -> bool:
    cells = csv_header(path) if path.is_file() else []
    return len(cells) == 2 and is_audio(cells[0]) and cells[1].endswith(".txt")


def _read_csv(path: Path, source: Source) -> Iterator[Utterance]:
    problems = Problems()
    for place, cells in csv_rows(path):
        with problems.at(place):
            if len(cells) != 2:
                raise ValueError(f"{len(cells)} cells; write <audio>,<transcript file>, with commas quoted")
            yield _utterance(cells[0], cells[1], source, (path.parent, Path.cwd()))
    problems.check()


def _pairs(path: Path, utterances: Sequence[Utterance]) -> Iterator[tuple[str, str]]:
    """Write the transcripts beside the manifest; yield audio and transcript files."""
    folder = (path.parent / f"{path.stem}_txt").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    names = Names()
    for utterance in utterances:
        assert utterance.audio_filepath is not None
        transcript = folder / f"{names.take(file_name(utterance.id))}.txt"
        with text_file(transcript) as file:
            file.write(one_line(utterance.text or "") + "\n")
        yield utterance.audio_filepath, str(transcript)


def _write(path: Path, utterances: Sequence[Utterance], target: Target) -> Sequence[Utterance]:
    samples = [{"wav_path": audio, "transcript_path": text} for audio, text in _pairs(path, utterances)]
    with text_file(path) as file:
        json.dump({"root_path": str(path.parent.absolute()), "samples": samples}, file, ensure_ascii=False)
    return utterances


def _write_csv(path: Path, utterances: Sequence[Utterance], target: Target) -> Sequence[Utterance]:
    pairs = list(_pairs(path, utterances))
    with text_file(path) as file:
        csv.writer(file, lineterminator="\n").writerows(pairs)
    return utterances


DEEPSPEECH = Dialect(
    name="deepspeech.pytorch",
    title="deepspeech.pytorch's manifest",
    looks_for='JSON with "root_path" and "samples"',
    detect=_detect,
    read=_read,
    write=_write,
)
DEEPSPEECH_CSV = Dialect(
    name="deepspeech.pytorch-csv",
    title="deepspeech.pytorch's older manifest",
    looks_for="lines of <audio file>,<.txt file>",
    detect=_detect_csv,
    read=_read_csv,
    write=_write_csv,
)
