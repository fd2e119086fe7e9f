"""NIST's STM: ``file channel speaker start end [<labels>] text``, stretches of long recordings.

The recordings are found by name: in ``--audio-dir`` or the STM's folder, below it, or in a folder beside it
(``sph/`` beside ``stm/``, as in TEDLIUM). A channel other than the first, or any of a recording with
several, is kept in `extra` as ``channel``, labels as ``labels``. The speaker ``unknown`` is none.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path

from asr.data.dialects.base import Dialect, Problems, Source, Target
from asr.data.dialects.files import head, text_file, text_lines
from asr.data.dialects.media import channel_index
from asr.data.dialects.values import SPACES, columns, end_time, is_audio, one_line, seconds, shown, span, word
from asr.errors import AudioError, DataError
from asr.scoring.timed import IGNORE
from asr.types import Utterance

_TIME = r"(?:\d+\.?\d*|\.\d+)"
_LINE = re.compile(rf"\S+[ \t]+\S+[ \t]+\S+[ \t]+({_TIME})[ \t]+({_TIME})(?:[ \t].*)?")
_LABELS = re.compile(r"<([^<>\s]*)>\s*")
_NOBODY = "unknown"


def _detect(path: Path) -> bool:
    lines = [
        line.rstrip("\r") for line in (head(path) if path.is_file() else "").split("\n")[:-1] or [head(path)]
    ]
    lines = [line.strip(SPACES) for line in lines if line.strip(SPACES) and not line.startswith(";;")]
    matches = [_LINE.fullmatch(line) for line in lines]
    return bool(matches) and all(m is not None and float(m[1]) <= float(m[2]) for m in matches)


def _read(path: Path, source: Source) -> Iterator[Utterance]:
    problems = Problems()
    recordings = _Recordings(path, source)
    ignored = 0
    for place, line in text_lines(path):
        if line.startswith(";;"):
            continue
        with problems.at(place):
            cells = columns(line, 6)
            if len(cells) < 5:
                raise ValueError(
                    f"{shown(line)} has {len(cells)} columns; write file channel speaker start end text"
                )
            file, channel, speaker, start, end = cells[:5]
            offset = seconds(start, "start")
            if seconds(end, "end") <= offset:
                raise ValueError(f"ends at {end}, not after its start at {start}; correct the times")
            text = cells[5] if len(cells) > 5 else ""
            labels = _LABELS.match(text)
            text = text[labels.end() :] if labels else text
            if IGNORE.lower() in text.lower():
                ignored += 1
                continue
            audio = "" if source.dry else recordings.find(file)
            extra: dict[str, object] = {"labels": labels[1].split(",")} if labels else {}
            if channel != "1" or source.dry or recordings.has_channels(audio):
                extra["channel"] = channel
            yield Utterance(
                id=f"{file}-{channel}-{offset:.3f}-{float(end):.3f}",
                duration=span(start, end),
                text=text,
                audio_filepath=audio,
                offset=offset,
                speaker=None if speaker == _NOBODY else speaker,
                extra=extra,
            )
    if ignored:
        source.notes.append(f"{ignored} segments are marked {IGNORE.lower()} and left out")
    problems.check()


class _Recordings:
    """The audio files that an STM may mean, by name."""

    def __init__(self, path: Path, source: Source) -> None:
        here = Path(os.path.abspath(path.parent))
        self._source = source
        self._places = [source.audio_dir] if source.audio_dir else [here, here.parent]
        self._found: list[dict[str, list[Path]] | None] = [None] * len(self._places)

    def find(self, name: str) -> str:
        """Return the path of a recording; raise ValueError if it is not there or in doubt."""
        for index, place in enumerate(self._places):
            found = self._found[index]
            if found is None:
                found = self._found[index] = self._list(place, deep=index == 0)
            files = found.get(name) or found.get(Path(name).stem if is_audio(name) else name, [])
            if len(files) > 1:
                raise ValueError(f"recording {name} may be {' or '.join(map(str, files))}; give --audio-dir")
            if files:
                return os.path.abspath(files[0])
        places = " and ".join(map(str, self._places))
        raise ValueError(f"no audio file is called {name} in {places}; give its folder with --audio-dir")

    def _list(self, folder: Path, deep: bool) -> dict[str, list[Path]]:
        pattern = "**/*" if deep else "*/*"  # beside the STM's folder no deeper than the next folders
        found: dict[str, list[Path]] = {}
        for file in sorted(folder.glob(pattern)):
            if is_audio(file) and file.is_file():
                found.setdefault(file.stem, []).append(file)
        return found

    def has_channels(self, audio: str) -> bool:
        """Tell whether a recording has several channels; one that cannot be read is told of later."""
        try:
            return self._source.headers[audio].channels > 1
        except AudioError:
            return False


def _write(path: Path, utterances: Sequence[Utterance], target: Target) -> Sequence[Utterance]:
    files: dict[str, str] = {}
    rows = []
    for u in utterances:
        assert u.audio_filepath is not None
        file = Path(u.audio_filepath).stem
        if re.search(r"\s", file) or file.startswith(";;"):
            raise DataError(f"{u.audio_filepath}: STM cannot hold a file name with spaces; rename it")
        if files.setdefault(file, u.audio_filepath) != u.audio_filepath:
            raise DataError(
                f"{u.audio_filepath}: {files[file]} has the same name, by which STM finds audio; rename one"
            )
        channel = u.extra.get("channel", "1")
        if not isinstance(channel, str):
            index = channel_index(channel)
            if index is None:
                raise DataError(f"{u.id}: channel is {shown(channel)}; STM holds one channel a line")
            channel = str(index + 1)
        labels = u.extra.get("labels")
        begin = f"<{','.join(map(str, labels))}> " if isinstance(labels, list) else ""
        start = format(Decimal(repr(u.offset)), "f")
        end = end_time(u.offset, u.duration)
        speaker = _NOBODY if u.speaker is None else word(u.speaker)
        rows.append((file, word(channel), u.offset, speaker, start, end, begin + one_line(u.text or ""), u))
    rows.sort(key=lambda row: row[:3])  # each channel by time, as sclite wants it
    with text_file(path) as out:
        for file, channel, _, speaker, start, end, text, _ in rows:
            out.write(f"{file} {channel} {speaker} {start} {end} {text}".rstrip(" ") + "\n")
    return [row[-1] for row in rows]


STM = Dialect(
    name="stm",
    title="NIST's STM",
    looks_for="lines of <file> <channel> <speaker> <start> <end> <text>",
    detect=_detect,
    read=_read,
    write=_write,
    holds=frozenset({"offset", "channel"}),
    suffixes=(".stm",),
)
