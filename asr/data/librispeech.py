"""LibriSpeech's layout: ``<subset>/<speaker>/<chapter>/`` with recordings and a transcript.

The recordings are ``<speaker>-<chapter>-<number>.flac``, the transcript ``<speaker>-<chapter>.trans.txt``.
LibriSpeech, mini LibriSpeech and what others cut from them have it.
"""

from __future__ import annotations

from pathlib import Path

from asr.data.headers import durations
from asr.data.partial import Note, Progress
from asr.errors import DataError
from asr.types import Utterance


def read_subset(
    folder: Path, *, progress: Progress | None = None, note: Note | None = None
) -> list[Utterance]:
    """Return the utterances of a subset, in the order of speakers, chapters and numbers.

    Parameters
    ----------
    folder : Path
        Such as ``LibriSpeech/dev-clean``. ``SPEAKERS.TXT`` beside it tells the speakers' sex, which becomes
        the field ``sex`` ("F" or "M"); without it there is no such field.
    progress : callable, optional
        Called with the recordings whose length is known and those in all.
    note : callable, optional
        Told of recordings without a transcript and transcripts without words, which are left out.

    Raises
    ------
    DataError
        A transcript is damaged or has no recording, or there are none.
    AudioError
        A recording cannot be read.
    """
    sexes = _read_sexes(folder.parent / "SPEAKERS.TXT")
    texts: dict[Path, str] = {}
    wordless = []
    for path in sorted(folder.glob("*/*/*.trans.txt")):
        for number, line in enumerate(_lines(path), start=1):
            name, _, text = line.strip().partition(" ")
            recording = path.parent / f"{name}.flac"
            if name.rpartition("-")[0] != path.name.removesuffix(".trans.txt"):
                raise DataError(f"{path}:{number}: {name!r} is no utterance of this chapter; fetch it again")
            if not recording.is_file():
                raise DataError(f"{path}:{number}: there is no {recording.name}; unpack the archive again")
            if text.strip():
                texts[recording] = text
            else:
                wordless.append(recording)
    if not texts:
        raise DataError(f"{folder}: no */*/*.trans.txt inside; give LibriSpeech's folder, or its archive")
    recordings = set(folder.glob("*/*/*.flac"))
    silent = sorted(recordings - texts.keys() - set(wordless))
    for what, found in (("recordings without a transcript", silent), ("transcripts without words", wordless)):
        if found and note is not None:
            note(f"{folder.name}: {len(found)} {what} left out, the first {found[0].stem}")
    return [
        Utterance(
            id=path.stem,
            duration=seconds,
            text=texts[path],
            audio_filepath=str(path.absolute()),
            speaker=path.parts[-3],
            lang="en",
            extra={"sex": sexes[path.parts[-3]]} if path.parts[-3] in sexes else {},
        )
        for path, seconds in zip(texts, durations(list(texts), progress=progress), strict=True)
    ]


def _read_sexes(path: Path) -> dict[str, str]:
    """Read ``id | sex | subset | minutes | name``, comments behind semicolons."""
    if not path.is_file():
        return {}
    rows = (line.split("|") for line in _lines(path) if not line.startswith(";"))
    return {row[0].strip(): row[1].strip() for row in rows if len(row) > 1}


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); unpack the archive again") from error
