"""Kaldi's and ESPnet's data folders: ``wav.scp``, ``segments``, ``text``, ``utt2spk``, ``utt2dur``, ...

A recording in ``wav.scp`` is a path (the rest of the line, with its spaces), ``archive.ark:offset`` of a
WAV, or a shell command that ends in ``|``. An utterance whose speaker is its own id has none, which is how
Kaldi's recipes say that. ``utt2lang`` is the language; any other ``utt2<name>`` is kept in `extra` by name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr.data.dialects.base import UNKNOWN, Dialect, Problems, Source, Target
from asr.data.dialects.files import text_file, text_lines
from asr.data.dialects.media import in_parallel, run_command
from asr.data.dialects.values import SPACES, Names, columns, end_time, one_line, seconds, shown, span, word
from asr.data.feature_files import read_features, read_scp
from asr.errors import DataError
from asr.types import Utterance

_ARCHIVED = re.compile(r"(.+\.ark):(\d+)")
_FRAME_SHIFT = 0.01  # seconds; Kaldi's default
_KNOWN = {"utt2spk", "utt2dur", "utt2lang"}
# What follows from the other files, or says nothing of single utterances.
_PASSED_OVER = {"spk2utt", "utt2num_frames", "frame_shift", "reco2dur", "cmvn.scp", "vad.scp"}


@dataclass(frozen=True)
class _Part:
    """A line of ``segments``."""

    place: str
    recording: str
    offset: float
    duration: float


def _detect(path: Path) -> bool:
    return any((path / name).is_file() for name in ("wav.scp", "feats.scp"))


def _read(path: Path, source: Source) -> Iterator[Utterance]:
    problems = Problems()
    texts = _column(path / "text", problems, empty="")
    tables = {
        file.name: _column(file, problems)
        for file in sorted(path.glob("utt2*"))
        if file.name not in _PASSED_OVER
    }
    speakers, languages = tables.get("utt2spk", {}), tables.get("utt2lang", {})
    extras = {name.removeprefix("utt2"): found for name, found in tables.items() if name not in _KNOWN}
    durations = {}
    for id, (place, cell) in tables.get("utt2dur", {}).items():
        with problems.at(place):
            durations[id] = seconds(cell, "duration")
    others = sorted(f.name for f in path.iterdir() if f.is_file() and not _is_read(f.name))
    if others:
        source.notes.append(f"{path}: not read: {', '.join(others)}")

    def known(id: str) -> dict[str, Any]:
        speaker = speakers.get(id, ("", id))[1]
        return {
            "id": id,
            "text": one_line(texts[id][1]) if id in texts else None,
            "speaker": None if speaker == id else speaker,
            "lang": languages[id][1] if id in languages else None,
            "extra": {name: found[id][1] for name, found in extras.items() if id in found},
        }

    has_audio, has_features = (path / "wav.scp").is_file(), (path / "feats.scp").is_file()
    if has_features and (source.features or not has_audio):
        places = read_scp(path / "feats.scp")
        for id, features in places.items():
            frames = None if id in durations else len(read_features(features))
            duration = durations[id] if frames is None else frames * _FRAME_SHIFT
            yield Utterance(duration=duration, features_filepath=features, **known(id))
        ids = set(places)
        size = read_features(next(iter(places.values()))).shape[1]
        source.notes.append(
            f"features of {size} values a frame, of a kind that {path} does not say: a model takes the kind "
            "that it was trained on (features=mfcc and fbank are Kaldi's)"
        )
    else:
        if has_features:
            source.notes.append(
                f"{path}: feats.scp is not taken, since wav.scp is there (--features takes it)"
            )
        recordings = _recordings(path, source, problems)
        parts = _segments(path / "segments", recordings, problems)
        if not (path / "segments").is_file():
            parts = {id: _Part("", id, 0.0, durations.get(id, UNKNOWN)) for id in recordings}
        for id, part in parts.items():
            yield Utterance(
                duration=part.duration,
                audio_filepath=recordings[part.recording],
                offset=part.offset,
                **known(id),
            )
        ids = set(parts)
    lost = [place for id, (place, _) in texts.items() if id not in ids]
    if lost:
        source.notes.append(f"{len(lost)} lines of text have no audio and are left out, the first {lost[0]}")
    problems.check()


def _is_read(name: str) -> bool:
    return name in {"wav.scp", "feats.scp", "segments", "text"} | _PASSED_OVER or (
        name.startswith("utt2") or name.startswith(".") or name.endswith(".ark")
    )


def _column(path: Path, problems: Problems, empty: str | None = None) -> dict[str, tuple[str, str]]:
    """Read ``<id> <rest of the line>``: id -> ``file:line`` and the rest; {} if there is no such file."""
    found: dict[str, tuple[str, str]] = {}
    for place, line in text_lines(path) if path.is_file() else ():
        id, *rest = columns(line, 2)
        if not rest and empty is None:
            problems.add(place, f"{shown(line)} has one column; write `{id} <value>`")
        elif id in found:
            problems.add(place, f"{id} is already on {found[id][0]}; keep one of the lines")
        else:
            found[id] = place, rest[0] if rest else empty or ""
    return found


def _recordings(path: Path, source: Source, problems: Problems) -> dict[str, str]:
    """Return the audio file of every recording; commands are run and archives unpacked here."""
    lines = _column(path / "wav.scp", problems)
    commands = [place for place, value in lines.values() if value.endswith("|")]
    if commands and not source.run_commands:
        raise DataError(
            f"{commands[0]}: {len(commands)} of {len(lines)} recordings are the output of a command, such as "
            f"{shown(next(v for _, v in lines.values() if v.endswith('|')))}; look at them, and if you trust "
            "them give --run-commands"
        )
    folders = (Path.cwd(), path, path.parent, path.parent.parent)

    def file_of(item: tuple[str, tuple[str, str]]) -> str | ValueError:
        id, (_, value) = item
        try:
            if value.endswith("|"):
                if source.dry:
                    return str(source.media.path(id, ".wav"))
                return source.media.save(id, run_command(value[:-1]))
            archived = _ARCHIVED.fullmatch(value)
            if archived:
                archive = source.find(archived[1], *folders)
                return source.media.save(id, _wav_in(archive, int(archived[2])))
            return source.find(value, *folders)
        except (ValueError, OSError) as error:
            return ValueError(f"{error}")

    # Only what takes long is worth threads and a bar.
    slow = commands or any(_ARCHIVED.fullmatch(value) for _, value in lines.values())
    files: list[str | ValueError]
    if slow:
        files = in_parallel(file_of, list(lines.items()), "fetching audio", source.headers.progress)
    else:
        files = [file_of(item) for item in lines.items()]
    found: dict[str, str] = {}
    for (id, (place, _)), file in zip(lines.items(), files, strict=True):
        if isinstance(file, ValueError):
            problems.add(place, file)
            found[id] = ""
        else:
            found[id] = file
    return found


def _wav_in(archive: str, offset: int) -> bytes:
    """Return the WAV file at a byte of an archive; its header says how long it is."""
    with open(archive, "rb") as file:
        file.seek(offset)
        start = file.read(8)
        if start[:4] != b"RIFF":
            raise ValueError(
                f"no WAV file is at byte {offset} of {archive}; write audio files, as ESPnet's "
                "format_wav_scp.sh does with --audio-format wav"
            )
        return start + file.read(int.from_bytes(start[4:], "little"))


def _segments(path: Path, recordings: Mapping[str, str], problems: Problems) -> dict[str, _Part]:
    parts: dict[str, _Part] = {}
    for place, line in text_lines(path) if path.is_file() else ():
        cells = columns(line, 5)
        with problems.at(place):
            if len(cells) != 4:
                raise ValueError(
                    f"{shown(line)} has {len(cells)} columns; write <id> <recording> <start> <end>"
                )
            id, recording, start, end = cells
            offset = seconds(start, "start")
            to_the_end = end.startswith("-")  # extract-segments takes a negative end for the recording's
            if not to_the_end and seconds(end, "end") <= offset:
                raise ValueError(f"ends at {end}, not after its start at {start}; correct the times")
            if recording not in recordings:
                raise ValueError(f"recording {recording} is not in wav.scp; add it there")
            if id in parts:
                raise ValueError(f"{id} is already on {parts[id].place}; keep one of the lines")
            parts[id] = _Part(place, recording, offset, UNKNOWN if to_the_end else span(start, end))
    return parts


def _write(path: Path, utterances: Sequence[Utterance], target: Target) -> Sequence[Utterance]:
    ids, names = {}, Names(ignore_case=False)
    for utterance in utterances:
        ids[utterance.id] = names.take(word(utterance.id))
    # Kaldi wants every file sorted as the C locale sorts, which for UTF-8 is the order of code points.
    utterances = sorted(utterances, key=lambda utterance: ids[utterance.id])

    def table(name: str, value: Callable[[Utterance], str | None]) -> None:
        rows = [(ids[u.id], value(u)) for u in utterances]
        _write_table(path / name, [(id, cell) for id, cell in rows if cell is not None])

    if any(utterance.features_filepath for utterance in utterances):
        _write_features(path, utterances, ids)
    if all(utterance.audio_filepath for utterance in utterances):
        _write_audio(path, utterances, ids, target)
    table("text", lambda u: None if u.text is None else one_line(u.text))
    table("utt2dur", lambda u: repr(u.duration))
    table("utt2lang", lambda u: None if u.lang is None else word(u.lang))
    speakers = {u.id: ids[u.id] if u.speaker is None else word(u.speaker) for u in utterances}
    table("utt2spk", lambda u: speakers[u.id])
    members: dict[str, list[str]] = {}
    for u in utterances:
        members.setdefault(speakers[u.id], []).append(ids[u.id])
    _write_table(path / "spk2utt", sorted((speaker, " ".join(found)) for speaker, found in members.items()))
    for key in sorted({key for u in utterances for key in u.extra}):
        if re.fullmatch(r"\w+", key) and f"utt2{key}" not in _KNOWN | _PASSED_OVER:
            table(f"utt2{key}", lambda u, key=key: _extra_cell(u.extra.get(key)))  # type: ignore[misc]
    by_speaker = sorted(utterances, key=lambda u: (speakers[u.id], ids[u.id]))
    if [u.id for u in by_speaker] != [u.id for u in utterances]:
        target.notes.append(
            "speakers do not begin the utterances' ids: Kaldi's scripts want --no-spk-sort, or such ids"
        )
    without = sum(u.text is None for u in utterances)
    if without:
        target.notes.append(f"{without} utterances have no text; utils/fix_data_dir.sh would take them out")
    return utterances


def _write_features(path: Path, utterances: Sequence[Utterance], ids: Mapping[str, str]) -> None:
    for utterance in utterances:
        if not re.search(r"\.ark:\d+$", utterance.features_filepath or ""):
            raise DataError(
                f"{utterance.id}: {utterance.features_filepath or 'no features'}; Kaldi reads features from "
                "archives (<path>.ark:<offset>) only, of all utterances or of none"
            )
    _write_table(path / "feats.scp", [(ids[u.id], u.features_filepath) for u in utterances])


def _write_audio(path: Path, utterances: Sequence[Utterance], ids: Mapping[str, str], target: Target) -> None:
    for utterance in utterances:
        name = utterance.audio_filepath or ""
        if name != name.strip(SPACES) or "\n" in name or name.endswith("|"):
            raise DataError(
                f"{utterance.id}: the path {name!r} begins or ends as wav.scp cannot hold; rename the file"
            )
    if not target.parts:
        _write_table(path / "wav.scp", [(ids[u.id], u.audio_filepath) for u in utterances])
        return
    names = Names(ignore_case=False)
    recordings: dict[str, str] = {}
    for u in utterances:
        assert u.audio_filepath is not None
        if u.audio_filepath not in recordings:
            recordings[u.audio_filepath] = names.take(word(Path(u.audio_filepath).stem))
    _write_table(path / "wav.scp", sorted((name, file) for file, name in recordings.items()))
    lines = [
        (ids[u.id], f"{recordings[u.audio_filepath or '']} {u.offset!r} {end_time(u.offset, u.duration)}")
        for u in utterances
    ]
    _write_table(path / "segments", lines)


def _extra_cell(value: object) -> str | None:
    """Return what a table can hold of a value: texts of one line."""
    if value is None:
        return None
    cell = one_line(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    return cell or None


def _write_table(path: Path, rows: Sequence[tuple[str, str | None]]) -> None:
    if not rows:
        return
    with text_file(path) as file:
        for id, cell in rows:
            file.write(f"{id} {cell}".rstrip(" ") + "\n")


KALDI = Dialect(
    name="kaldi",
    title="a Kaldi or ESPnet folder",
    looks_for="a folder with wav.scp or feats.scp",
    detect=_detect,
    read=_read,
    write=_write,
    holds=frozenset({"offset", "features"}),
    folder=True,
)
