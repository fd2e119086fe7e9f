"""Convert data between dialects: read, complete, cut where asked, write, and see what the target lost."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from asr.data.dialects import dialect_for, find_dialect, get_dialect
from asr.data.dialects.base import Dialect, Problems, Source, Target, stretches
from asr.data.dialects.files import new_folder
from asr.data.dialects.media import Headers, Media, Progress, channel_index, cut, in_parallel
from asr.data.dialects.values import Names, file_name, shown
from asr.errors import AudioError, ConfigError, DataError
from asr.types import Utterance

# Times are told as changed from this much on, seconds.
_SAME_TIME = 1e-6
_COMPARED = ("id", "text", "speaker", "lang", "offset", "duration", "features_filepath")
_FIELDS = (*_COMPARED, "audio_filepath")


@dataclass(frozen=True)
class Converted:
    """What a conversion did.

    Attributes
    ----------
    read_as, written_as : Dialect
    utterances : int
    seconds : float
        Of speech.
    speakers : int
    cut : int
        Utterances that were written as audio files of their own.
    notes : tuple of str
        What the user should know: what was passed over, what the target does not hold.
    missing : int
        Audio and feature files that do not exist.
    """

    read_as: Dialect
    written_as: Dialect
    utterances: int
    seconds: float
    speakers: int
    cut: int
    notes: tuple[str, ...]
    missing: int


def convert(
    source: Path,
    target: Path,
    *,
    read_as: str | None = None,
    write_as: str | None = None,
    audio_dir: Path | None = None,
    run_commands: bool = False,
    cut_parts: bool = False,
    features: bool = False,
    progress: Progress = lambda *_: None,
) -> Converted:
    """Convert one set of utterances.

    Parameters
    ----------
    source, target : Path
        A file or folder each. A target that is a file is replaced; a folder must be new or empty.
    read_as, write_as : str, optional
        Names of dialects; by default what the source's content and the target's name tell.
    audio_dir : Path, optional
        Where relative audio paths of the source start, and where an STM's recordings are.
    run_commands : bool
        Run the commands that the source gives for audio (Kaldi's pipes). What they write goes into the
        folder ``<target>_audio``, like audio that is inside the source's own files.
    cut_parts : bool
        Write utterances that are a stretch or a channel of a longer recording as audio files, into the
        folder ``<target>_cut`` or, for a dialect that contains its audio, into the target.
    features : bool
        Take precomputed features where the source has audio as well.
    progress : callable

    Raises
    ------
    ConfigError, DataError, AudioError
        What cannot be converted; nothing appears under the target's name then.
    """
    reader = get_dialect(read_as) if read_as else find_dialect(source)
    writer = get_dialect(write_as) if write_as else dialect_for(target)
    _check_paths(source, target, writer, audio_dir)
    headers = Headers(progress)
    base = re.sub(r"(\.(jsonl|json|csv|stm))?(\.gz)?$", "", target.name)
    data = Source(headers, Media(target.with_name(f"{base}_audio")), audio_dir, run_commands, features)
    utterances = complete(reader.read(source, data), headers, str(source))

    channels = _channels(utterances, headers)
    num_cut = 0
    if cut_parts:
        parts = stretches(utterances, headers) | channels
        num_cut = len(parts)
        if not writer.own_audio:
            utterances = _cut(utterances, parts, Media(target.with_name(f"{base}_cut")), progress)
            channels = frozenset()
    else:
        _refuse(utterances, writer, headers, channels)
    notes = [*data.notes, *write(target, utterances, writer, headers, channels)]
    files = {file for u in utterances if (file := _file(u))}
    missing = sorted(file for file in files if not os.path.exists(file))
    if missing:
        notes.append(f"{len(missing)} of {len(files)} files do not exist, the first {missing[0]}")
    return Converted(
        read_as=reader,
        written_as=writer,
        utterances=len(utterances),
        seconds=math.fsum(u.duration for u in utterances),
        speakers=len({u.speaker for u in utterances if u.speaker is not None}),
        cut=num_cut,
        notes=tuple(notes),
        missing=len(missing),
    )


def complete(utterances: Iterable[Utterance], headers: Headers, name: str) -> list[Utterance]:
    """Give utterances what their dialect leaves open: ids, after their files, and durations, from headers.

    Parameters
    ----------
    name : str
        Of the data, for messages.

    Raises
    ------
    DataError
        There are none, an id is there twice, a duration cannot be found, or a value cannot be written.
    """
    problems = Problems()
    found = list(_named(utterances, problems))
    if not found:
        raise DataError(f"{name}: no utterances in it; check that it is the whole of the data")
    headers.load(u.audio_filepath for u in found if math.isnan(u.duration) and u.audio_filepath)
    for index, utterance in enumerate(found):
        with problems.at(f"{name}: {utterance.id}"):
            if math.isnan(utterance.duration):
                utterance = _with_duration(utterance, headers)
            if not utterance.duration > 0:
                raise ValueError(f"duration is {utterance.duration} s; leave the utterance out")
            found[index] = _checked(utterance)
    problems.check()
    return found


def write(
    path: Path,
    utterances: Sequence[Utterance],
    dialect: Dialect,
    headers: Headers,
    channels: frozenset[str] = frozenset(),
) -> list[str]:
    """Write utterances in a dialect and read them back; return what its reader has to be told.

    Parameters
    ----------
    channels : frozenset of str
        Ids of the utterances that are one channel of a recording with several.

    Raises
    ------
    DataError, AudioError
    """
    target = Target(utterances, headers, channels)
    if dialect.folder:
        with new_folder(path) as folder:
            written = dialect.write(folder, utterances, target)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        written = dialect.write(path, utterances, target)
    return target.notes + losses(path, written, dialect)


def losses(path: Path, written: Sequence[Utterance], dialect: Dialect) -> list[str]:
    """Read what was written and say in words how many utterances lost or changed what."""
    with_features = any(u.features_filepath for u in written)
    source = Source(Headers(), Media(None), features=with_features)
    count: dict[tuple[str, str], int] = {}
    first: dict[tuple[str, str], str] = {}
    back = _named(dialect.read(path, source), Problems())
    for before, after in zip(written, back, strict=True):
        for field, old, new in _differences(
            before, after, paths=not (dialect.own_audio or not after.audio_filepath)
        ):
            verb = "lose" if new is None else "change"
            key = (verb, field)
            count[key] = count.get(key, 0) + 1
            first.setdefault(
                key, f"{shown(old)} of {before.id}" if new is None else f"{shown(old)} to {shown(new)}"
            )
    return [
        f"{dialect.name}: {number} utterances {verb} {field}, the first {first[verb, field]}"
        for (verb, field), number in count.items()
    ]


def _differences(before: Utterance, after: Utterance, paths: bool) -> Iterator[tuple[str, Any, Any]]:
    """Yield field, old and new value of what was written otherwise than it is read."""
    for field in _FIELDS if paths else _COMPARED:
        old, new = getattr(before, field), getattr(after, field)
        if isinstance(old, float):
            # A dialect that does not state the duration has that of the file.
            if not math.isnan(new) and abs(new - old) > _SAME_TIME:
                yield field, old, new
        elif (old is not None and old != new) or (old is None and new):
            yield field, old, new
    for key, old in before.extra.items():
        new = after.extra.get(key)
        if key == "channel" and channel_index(old) is not None and channel_index(old) == channel_index(new):
            continue
        if old is not None and old != new:
            yield key, old, new


def _check_paths(source: Path, target: Path, writer: Dialect, audio_dir: Path | None) -> None:
    if not source.exists():
        raise DataError(f"{source}: no such file or folder; check the path")
    if audio_dir is not None and not audio_dir.is_dir():
        raise ConfigError(f"--audio-dir {audio_dir}: no such folder; check the path")
    if writer.folder and target.is_dir() and any(target.iterdir()):
        raise DataError(f"{target}: is there already and not empty; choose another folder or remove it")
    if writer.folder and target.is_file():
        raise DataError(f"{target}: is a file, and {writer.name} writes a folder; choose another name")
    if not writer.folder and target.is_dir():
        raise DataError(f"{target}: is a folder, and {writer.name} writes a file; give the file's name")


def _named(utterances: Iterable[Utterance], problems: Problems) -> Iterator[Utterance]:
    """Name the utterances that have no id after their files."""
    names = Names(ignore_case=False)
    for utterance in utterances:
        id = utterance.id or Path(_file(utterance)).stem
        name = names.take(id)
        if utterance.id and name != id:
            problems.add(_file(utterance), f"id {id!r} is there twice; make ids unique")
        yield utterance if utterance.id else replace(utterance, id=name)


def _file(utterance: Utterance) -> str:
    """Return the file that an utterance is read from, without a Kaldi archive's byte offset."""
    if utterance.features_filepath is not None:
        return re.sub(r":\d+$", "", utterance.features_filepath)
    return utterance.audio_filepath or ""


def _with_duration(utterance: Utterance, headers: Headers) -> Utterance:
    try:
        length = headers[utterance.audio_filepath or ""].duration
    except AudioError as error:
        raise ValueError(str(error)) from error
    if utterance.offset >= length:
        raise ValueError(f"starts at {utterance.offset:g} s in a file of {length:.3f} s; correct the times")
    return replace(utterance, duration=length - utterance.offset)


def _checked(utterance: Utterance) -> Utterance:
    """Return the utterance with extra fields that no other field hides; raise ValueError if no UTF-8."""
    fields = [utterance.id, _file(utterance), utterance.text, utterance.speaker, utterance.lang]
    for text in (*filter(None, fields), json.dumps(dict(utterance.extra), ensure_ascii=False)):
        with contextlib.suppress(UnicodeEncodeError):
            text.encode()
            continue
        raise ValueError(f"{shown(text)} is not Unicode; rename the file or write the whole character")
    if utterance.extra.keys() & set(_FIELDS):
        extra = {f"{key}_" if key in _FIELDS else key: value for key, value in utterance.extra.items()}
        utterance = replace(utterance, extra=extra)
    return utterance


def _channels(utterances: Sequence[Utterance], headers: Headers) -> frozenset[str]:
    """Return the ids of the utterances that are one channel of a recording with several."""
    named = [u for u in utterances if u.audio_filepath and channel_index(u.extra.get("channel")) is not None]
    headers.load(u.audio_filepath for u in named if u.audio_filepath)
    found = set()
    for utterance in named:
        with contextlib.suppress(AudioError):
            if headers[utterance.audio_filepath or ""].channels > 1:
                found.add(utterance.id)
    return frozenset(found)


def _refuse(
    utterances: Sequence[Utterance], writer: Dialect, headers: Headers, channels: frozenset[str]
) -> None:
    """Raise DataError if the target cannot say which part of a file an utterance is."""
    without = [u for u in utterances if u.audio_filepath is None and "features" not in writer.holds]
    if without:
        raise DataError(
            f"{without[0].id}: {len(without)} utterances have features and no audio, which {writer.name} "
            "cannot hold; convert to manifest or kaldi, or from a source with audio"
        )
    parts = frozenset() if "offset" in writer.holds else stretches(utterances, headers)
    parts |= frozenset() if "channel" in writer.holds else channels
    if parts:
        first = next(u for u in utterances if u.id in parts)
        what = f"{first.audio_filepath} from {first.offset:g} s for {first.duration:g} s"
        if first.id in channels:
            what = f"channel {first.extra['channel']} of {what}"
        raise DataError(
            f"{writer.name} cannot hold {len(parts)} utterances that are parts of recordings, the first "
            f"{first.id} ({what}); --cut writes each as an audio file"
        )


def _cut(
    utterances: Sequence[Utterance], parts: frozenset[str], media: Media, progress: Progress
) -> list[Utterance]:
    names = Names()
    wanted = [(u, media.path(names.take(file_name(u.id)), ".wav")) for u in utterances if u.id in parts]

    def work(item: tuple[Utterance, Path]) -> Utterance:
        utterance, path = item
        length = cut(utterance, path)
        extra = {key: value for key, value in utterance.extra.items() if key != "channel"}
        return replace(utterance, audio_filepath=str(path), offset=0.0, duration=length, extra=extra)

    done = {u.id: u for u in in_parallel(work, wanted, "cutting audio", progress)}
    return [done.get(u.id, u) for u in utterances]
