"""Bring the texts of two files under common ids: those of the files or, where both have times, by time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from asr.errors import DataError
from asr.scoring.formats import Transcripts
from asr.scoring.segmentation import Assigned, align_cues, assign_words, cut_at_pauses
from asr.scoring.timed import Channel, Segment, TimedWord, words_text


class Division(NamedTuple):
    """Texts of both sides under common ids, not yet paired.

    Attributes
    ----------
    references, hypotheses : mapping of id to text
    fields, hyp_fields : mapping of id to dict
        What the two files say besides the texts.
    notes : tuple of str
        What was not taken as it stands in the files.
    """

    references: Mapping[str, str]
    hypotheses: Mapping[str, str]
    fields: Mapping[str, dict[str, Any]]
    hyp_fields: Mapping[str, dict[str, Any]]
    notes: tuple[str, ...] = ()


def divide(said: Transcripts, recognised: Sequence[Transcripts]) -> list[Division]:
    """Bring each system's texts under the ids of the reference, or of the chunks it is cut into.

    Raises
    ------
    DataError
        If the formats cannot be compared, or the channels of a recording have other names.
    """
    if said.format == "ctm" and any(file.format != "ctm" for file in recognised):
        other = next(file for file in recognised if file.format != "ctm")
        raise DataError(
            f"{said.path}: a ctm reference can only score ctm, not {other.path} ({other.format}); write the "
            f"reference as stm"
        )
    if said.words:
        return _by_pauses(said, recognised)
    return [
        _by_segments(said, file)
        if said.segments and (file.words or file.segments)
        else Division(said.texts, file.texts, said.fields, file.fields)
        for file in recognised
    ]


def _by_segments(said: Transcripts, recognised: Transcripts) -> Division:
    """Divide timed words or subtitles among the segments of the reference."""
    channels: dict[Channel, list[Segment]] = {}
    for segment in said.segments:
        channels.setdefault(segment.channel, []).append(segment)
    words: dict[Channel, list[TimedWord]] = recognised.words
    cues: dict[Channel, list[Segment]] = {}
    for cue in (segment for segment in recognised.segments if not segment.ignored):
        cues.setdefault(cue.channel, []).append(cue)
    of_one = _same_recording(said, channels, recognised, list(words or cues))
    texts: dict[str, str] = {}
    ignored, outside = 0, []
    for channel, segments in channels.items():
        source = of_one.get(channel)
        if source is None:
            continue
        assigned: Assigned
        if words:
            assigned = assign_words(segments, words[source])
        else:
            assigned = align_cues(segments, cues[source])
        ignored += assigned.ignored
        outside += assigned.outside
        texts |= {
            segment.id: text
            for segment, text in zip(segments, assigned.texts, strict=True)
            if not segment.ignored
        }
    sources = set(of_one.values())
    extra = {"-".join(key): "" for key in words or cues if key not in sources}
    notes = []
    excluded = sum(segment.ignored for segment in said.segments)
    if excluded:
        notes.append(f"segments marked to be ignored: {excluded}, with {ignored} recognised words")
    if outside:
        notes.append(
            f"recognised words in no segment, counted in the next one of the channel, or the last: "
            f"{len(outside)} (first {', '.join(map(repr, outside[:3]))})"
        )
    return Division(said.texts, texts | extra, said.fields, {}, tuple(notes))


def _same_recording(
    said: Transcripts, channels: Mapping[Channel, object], recognised: Transcripts, found: Sequence[Channel]
) -> dict[Channel, Channel]:
    """Map channels of the reference to those of the hypothesis. Subtitles name none; they are of one."""
    unnamed = ("", "")
    if list(channels) == [unnamed] or list(found) == [unnamed]:
        if len(channels) == 1 and len(found) == 1:
            return {next(iter(channels)): found[0]}
        many, single = (found, said) if list(channels) == [unnamed] else (list(channels), recognised)
        stem = Path(single.path).stem
        named = [channel for channel in many if channel[0] == stem]
        if len(named) != 1:
            other = recognised if single is said else said
            raise DataError(
                f"{single.path}: is of one channel, but {other.path} has {len(many)} "
                f"{first_few([' '.join(channel) for channel in many])}; score one recording at a time, or "
                f"name the subtitles after theirs"
            )
        return {unnamed: named[0]} if single is said else {named[0]: unnamed}
    _check_channels(said, list(channels), recognised, found)
    known = set(found)
    return {channel: channel for channel in channels if channel in known}


def _check_channels(
    said: Transcripts, channels: Sequence[Channel], recognised: Transcripts, found: Sequence[Channel]
) -> None:
    """Raise DataError if a recording is in both files under other channel labels."""
    labels: dict[str, tuple[list[str], list[str]]] = {}
    for side, keys in enumerate((channels, found)):
        for file, label in keys:
            labels.setdefault(file, ([], []))[side].append(label)
    for file, (expected, actual) in labels.items():
        if expected and actual and not set(expected) & set(actual):
            raise DataError(
                f"{recognised.path}: recording {file!r} has channel {', '.join(actual)}, but in {said.path} "
                f"it has {', '.join(expected)}; give channels the same labels"
            )


def _by_pauses(said: Transcripts, recognised: Sequence[Transcripts]) -> list[Division]:
    """Cut ctm references and hypotheses where all pause, into chunks that sclite's ids name."""
    references: dict[str, str] = {}
    fields: dict[str, dict[str, Any]] = {}
    hypotheses: list[dict[str, str]] = [{} for _ in recognised]
    for file in recognised:
        _check_channels(said, list(said.words), file, list(file.words))
    for (file_name, label), words in said.words.items():
        cuts = [
            cut_at_pauses(words, file.words[file_name, label])
            for file in recognised
            if (file_name, label) in file.words
        ] or [[(len(words), 0)]]
        if len(cuts) > 1:
            # A system's own cuts would give each its own utterances, which could not be compared.
            shared = set.intersection(*({r for r, _ in found} for found in cuts))
            cuts = [[(r, h) for r, h in dict(found).items() if r in shared] for found in cuts]
        start = 0
        for number, (end, _) in enumerate(cuts[0]):
            id = f"{file_name}-{label}-{number:04d}"
            part = [word for word in words[start:end] if not word.mark]
            references[id] = words_text(words[start:end])
            fields[id] = {"file": file_name, "channel": label, "speaker": f"{file_name}-{label}"}
            if part:
                first, last = part[0].start, max(word.end for word in part)
                fields[id] |= {"start": first, "end": last, "duration": round(last - first, 6)}
            start = end
        present = iter(cuts)
        for texts, file in zip(hypotheses, recognised, strict=True):
            if (file_name, label) in file.words:
                start = 0
                for number, (_, end) in enumerate(next(present)):
                    id = f"{file_name}-{label}-{number:04d}"
                    texts[id] = words_text(file.words[file_name, label][start:end])
                    start = end
    for texts, file in zip(hypotheses, recognised, strict=True):
        texts |= {"-".join(key): "" for key in file.words if key not in said.words}
    return [Division(references, texts, fields, {}) for texts in hypotheses]


def first_few(ids: Sequence[str]) -> str:
    """Return the first ids for a message."""
    return f"(first {', '.join(map(repr, ids[:3]))})"
