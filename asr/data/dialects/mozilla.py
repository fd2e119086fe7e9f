"""Mozilla DeepSpeech's and Coqui's CSV: ``wav_filename,wav_filesize,transcript``."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from asr.data.dialects.base import UNKNOWN, Dialect, Problems, Source, Target
from asr.data.dialects.files import csv_header, csv_table, text_file
from asr.types import Utterance

_COLUMNS = ("wav_filename", "wav_filesize", "transcript")


def _detect(path: Path) -> bool:
    return path.is_file() and {"wav_filename", "transcript"} <= set(csv_header(path))


def _read(path: Path, source: Source) -> Iterator[Utterance]:
    problems = Problems()
    for place, row in csv_table(path, problems):
        with problems.at(place):
            if not row["wav_filename"]:
                raise ValueError("wav_filename is empty; write the path of the audio")
            yield Utterance(
                id="",
                duration=UNKNOWN,
                text=row["transcript"],
                audio_filepath=source.find(row["wav_filename"], path.parent, Path.cwd()),
                extra={key: cell for key, cell in row.items() if key not in _COLUMNS},
            )
    problems.check()


def _write(path: Path, utterances: Sequence[Utterance], target: Target) -> Sequence[Utterance]:
    problems = Problems()
    rows = []
    for utterance in utterances:
        assert utterance.audio_filepath is not None
        try:
            size = os.path.getsize(utterance.audio_filepath)
        except OSError:
            problems.add(
                utterance.audio_filepath, "does not exist, and the CSV has its size; correct the path"
            )
        else:
            rows.append((utterance.audio_filepath, size, utterance.text or ""))
    problems.check()
    with text_file(path) as file:
        csv.writer(file, lineterminator="\n").writerows([_COLUMNS, *rows])
    return utterances


MOZILLA = Dialect(
    name="mozilla",
    title="Mozilla DeepSpeech's CSV",
    looks_for="CSV with the columns wav_filename and transcript",
    detect=_detect,
    read=_read,
    write=_write,
)
