"""lhotse's recordings, supervisions and cuts as plain dictionaries, to utterances and back.

An utterance is a supervision. What a supervision holds beyond an utterance's own fields is kept in `extra`:
``gender``, ``alignment``, ``custom`` key by key, and ``channel`` if the recording has several and the
supervision names one or some of them. Ids of cuts are bookkeeping of lhotse's own and are not kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from asr.data.dialects.base import UNKNOWN, Problems, Source, Target
from asr.data.dialects.media import channel_index, run_command
from asr.data.dialects.values import Names, seconds, shown
from asr.errors import AudioError, DataError
from asr.types import Utterance

Record = dict[str, Any]
# Seconds by which lhotse lets a supervision end after its recording (`lhotse.qa`).
_BEYOND = 1e-3
_OWN_KEYS = ("gender", "alignment")


def kind(record: Mapping[str, Any]) -> str:
    """Return "recording", "supervision", "cut" or ""."""
    if {"sources", "sampling_rate", "id"} <= record.keys():
        return "recording"
    if {"recording_id", "start", "duration", "id"} <= record.keys():
        return "supervision"
    if str(record.get("type", "")).endswith("Cut"):
        return "cut"
    return ""


def from_supervision(
    supervision: Record, recording: Record, audio: str, start: float = 0.0, custom: Record | None = None
) -> Utterance:
    """Make an utterance.

    Parameters
    ----------
    supervision, recording : dict
        As lhotse writes them.
    audio : str
        Path of the recording's file.
    start : float
        Of the cut that the supervision's times are relative to, seconds.
    custom : dict, optional
        Of that cut.

    Raises
    ------
    ValueError
        With the problem and its remedy.
    """
    offset = start + seconds(supervision.get("start"), "start", least=-start - 1e-9)
    extra = {**(custom or {}), **(supervision.get("custom") or {})}
    extra |= {key: supervision[key] for key in _OWN_KEYS if supervision.get(key) is not None}
    channels = recording.get("channel_ids") or _channels(recording)
    channel = supervision.get("channel", 0)
    if len(channels) > 1 and channel != channels:
        extra["channel"] = channel
    return Utterance(
        id=str(supervision["id"]),
        duration=seconds(supervision.get("duration"), "duration"),
        text=supervision.get("text"),
        audio_filepath=audio,
        # Sums of decimal numbers, without what binary numbers add to them.
        offset=max(round(offset, 9), 0.0),
        speaker=supervision.get("speaker"),
        lang=supervision.get("language"),
        extra=extra,
    )


def _channels(recording: Record) -> list[int]:
    return sorted({channel for source in recording["sources"] for channel in source.get("channels", [0])})


def audio_file(recording: Record, channel: object, source: Source, folder: Path) -> str:
    """Return the path of a recording's audio; a command's output becomes a file.

    Raises
    ------
    ValueError
    """
    if recording.get("transforms"):
        raise ValueError(
            f"recording {recording['id']} is changed when it is read ({shown(recording['transforms'])}); "
            "save the changed audio with lhotse's CutSet.save_audios and convert what it returns"
        )
    sources = recording["sources"]
    wanted = [channel] if isinstance(channel, int) else channel
    if len(sources) > 1:
        sources = [
            s for s in sources if set(wanted if isinstance(wanted, list) else []) <= set(s["channels"])
        ]
    if len(sources) != 1:
        raise ValueError(
            f"recording {recording['id']} has its channels in several files, of which the utterance wants "
            "more than one; give each supervision one channel"
        )
    kind, place = sources[0]["type"], sources[0]["source"]
    if kind == "file":
        return source.find(place, Path.cwd(), folder)
    if kind == "command":
        if not source.run_commands:
            raise ValueError(
                f"recording {recording['id']} is the output of the command {shown(place)}; look at it, and "
                "if you trust it give --run-commands"
            )
        if source.dry:
            return str(source.media.path(recording["id"], ".wav"))
        return source.media.save(recording["id"], run_command(place))
    raise ValueError(
        f"recording {recording['id']} is a {kind!r} source; save its audio into files with lhotse's "
        "CutSet.save_audios and convert what it returns"
    )


def from_pair(
    recordings: Mapping[str, Record],
    supervisions: Iterator[tuple[str, Record]],
    source: Source,
    folder: Path,
    problems: Problems,
) -> Iterator[Utterance]:
    """Yield the utterances of supervisions, which come with their ``file:line``."""
    files: dict[tuple[str, str], str] = {}
    for place, supervision in supervisions:
        with problems.at(place):
            if kind(supervision) != "supervision":
                raise ValueError(
                    f"{shown(supervision)} is no supervision; it lacks recording_id, start or duration"
                )
            recording = recordings.get(supervision["recording_id"])
            if recording is None:
                raise ValueError(f"no recording {supervision['recording_id']!r}; add it to the recordings")
            key = recording["id"], str(supervision.get("channel", 0))
            if key not in files:
                files[key] = audio_file(recording, supervision.get("channel", 0), source, folder)
            yield from_supervision(supervision, recording, files[key])


def from_recordings(recordings: Mapping[str, Record], source: Source, folder: Path) -> Iterator[Utterance]:
    """Yield an utterance without text for every recording."""
    for id, recording in recordings.items():
        audio = audio_file(recording, _channels(recording), source, folder)
        yield Utterance(id=id, duration=recording.get("duration", UNKNOWN), audio_filepath=audio)


def from_cut(cut: Record, audio: str) -> Iterator[Utterance]:
    """Yield the utterances of a cut: its supervisions, or the cut itself if it has none.

    Raises
    ------
    ValueError
    """
    check_cut(cut)
    start = seconds(cut.get("start"), "start")
    for supervision in cut.get("supervisions") or ():
        yield from_supervision(supervision, cut["recording"], audio, start, cut.get("custom"))
    if not cut.get("supervisions"):
        bare = {
            "id": cut["id"],
            "start": 0.0,
            "duration": cut.get("duration"),
            "channel": cut.get("channel", 0),
        }
        yield from_supervision(bare, cut["recording"], audio, start, cut.get("custom"))


def check_cut(cut: Record) -> None:
    """Raise ValueError unless the cut is a stretch of one recording."""
    if cut.get("type") not in ("MonoCut", "MultiCut"):
        raise ValueError(
            f"cut {cut.get('id')!r} is a {cut.get('type')}, which is mixed or padded when it is read; save "
            "its audio with lhotse's CutSet.save_audios and convert what it returns"
        )
    if not cut.get("recording"):
        raise ValueError(f"cut {cut['id']!r} has features and no recording; give cuts with recordings")


def to_records(utterances: Sequence[Utterance], target: Target) -> Iterator[tuple[Record, Record]]:
    """Yield the recording and the supervision of every utterance; equal files give the same recording.

    Raises
    ------
    AudioError
        A file cannot be read, since lhotse wants its rate and its number of samples.
    """
    target.headers.load(u.audio_filepath for u in utterances if u.audio_filepath)
    count: dict[str | None, int] = {}
    for utterance in utterances:
        count[utterance.audio_filepath] = count.get(utterance.audio_filepath, 0) + 1
    names = Names(ignore_case=False)
    recordings: dict[str, Record] = {}
    for u in utterances:
        path = u.audio_filepath
        if path is None:
            raise AudioError(
                f"{u.id}: has features and no audio; lhotse keeps features in archives of its own"
            )
        if path not in recordings:
            header = target.headers[path]
            channels = list(range(header.channels))
            recordings[path] = {
                # A file of one utterance is called after it.
                "id": names.take(u.id if count[path] == 1 else Path(path).stem),
                "sources": [{"type": "file", "channels": channels, "source": path}],
                "sampling_rate": header.sample_rate,
                "num_samples": header.num_samples,
                "duration": header.duration,
                "channel_ids": channels,
            }
        yield recordings[path], _supervision(u, recordings[path])


def _supervision(u: Utterance, recording: Record) -> Record:
    extra = dict(u.extra)
    channels = recording["channel_ids"]
    channel = extra.pop("channel", None)
    index = channel if isinstance(channel, list) else channel_index(channel)
    if index is None:
        index = channels if len(channels) > 1 else 0
    record = {
        "id": u.id,
        "recording_id": recording["id"],
        "start": u.offset,
        "duration": _within(u, recording["duration"]),
        "channel": index,
        "text": u.text,
        "language": u.lang,
        "speaker": u.speaker,
        **{key: extra.pop(key, None) for key in _OWN_KEYS},
        "custom": extra or None,
    }
    return {key: value for key, value in record.items() if value is not None}


def _within(u: Utterance, length: float) -> float:
    """Return the duration, or less where it goes beyond the recording, which lhotse does not allow."""
    if u.offset + u.duration <= length + _BEYOND:
        return u.duration
    if u.offset >= length:
        raise DataError(f"{u.id}: starts at {u.offset:g} s in a file of {length:.3f} s; correct the times")
    return round(length - u.offset, 9)


def to_cut(recording: Record, supervision: Record) -> Record:
    """Return the cut that is exactly a supervision's stretch."""
    several = isinstance(supervision["channel"], list)
    return {
        "id": supervision["id"],
        "start": supervision["start"],
        "duration": supervision["duration"],
        "channel": supervision["channel"],
        "supervisions": [{**supervision, "start": 0.0}],
        "recording": recording,
        "type": "MultiCut" if several else "MonoCut",
    }
