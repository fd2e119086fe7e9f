"""lhotse's files: recordings with supervisions, and cuts, as JSON lines (``.gz`` or not). Needs no lhotse."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from asr.data.dialects.base import Dialect, Problems, Source, Target
from asr.data.dialects.files import first_json, json_lines, write_json_lines
from asr.data.dialects.lhotse_records import (
    Record,
    audio_file,
    check_cut,
    from_cut,
    from_pair,
    from_recordings,
    kind,
    to_cut,
    to_records,
)
from asr.errors import DataError
from asr.types import Utterance


def _files(folder: Path) -> dict[str, list[Path]]:
    """Return the folder's files of lhotse by what they hold."""
    found: dict[str, list[Path]] = {"recording": [], "supervision": [], "cut": []}
    for path in sorted(folder.glob("*.jsonl*")):
        of = kind(first_json(path))
        if of:
            found[of].append(path)
    return found


def is_shar(folder: Path) -> bool:
    """Tell whether a folder holds Shar shards."""
    return folder.is_dir() and any(folder.glob("recording.*.tar")) and any(folder.glob("cuts.*.jsonl*"))


def _detect(path: Path) -> bool:
    if path.is_file():
        return kind(first_json(path)) in ("recording", "supervision")
    found = {} if is_shar(path) or not path.is_dir() else _files(path)
    return bool(found.get("recording"))


def _read(path: Path, source: Source) -> Iterator[Utterance]:
    problems = Problems()
    recordings_file, supervisions_file = _pair(path)
    recordings: dict[str, Record] = {}
    for place, record in json_lines(recordings_file, problems):
        if kind(record) == "recording":
            recordings[record["id"]] = record
        else:
            problems.add(place, "is no recording; it lacks id, sources or sampling_rate")
    if supervisions_file is None:
        source.notes.append(f"{recordings_file}: no supervisions beside it, so the utterances have no text")
        yield from from_recordings(recordings, source, recordings_file.parent)
    else:
        lines = json_lines(supervisions_file, problems)
        yield from from_pair(recordings, lines, source, recordings_file.parent, problems)
    problems.check()


def _pair(path: Path) -> tuple[Path, Path | None]:
    """Return the files of recordings and of supervisions."""
    if path.is_dir():
        found = _files(path)
        if len(found["recording"]) > 1 or len(found["supervision"]) > 1 or found["cut"]:
            names = ", ".join(file.name for files in found.values() for file in files)
            raise DataError(f"{path}: holds {names}; name one of the files of supervisions or of cuts")
        return found["recording"][0], next(iter(found["supervision"]), None)
    of = kind(first_json(path))
    other = {"recording": "supervision", "supervision": "recording"}.get(of, "")
    # By lhotse's custom the two differ in this word: librispeech_recordings_dev.jsonl.gz.
    twin = path.with_name(path.name.replace(f"{of}s", f"{other}s"))
    if twin == path or not twin.is_file():
        twins = _files(path.parent)[other] if other else []
        if len(twins) != 1 and of != "recording":
            raise DataError(f"{path}: its recordings are not beside it; put {twin.name} there")
        twin = twins[0] if len(twins) == 1 else path
    if of == "recording":
        return path, None if twin == path else twin
    return twin, path


def _write(path: Path, utterances: Sequence[Utterance], target: Target) -> Sequence[Utterance]:
    pairs = list(to_records(utterances, target))
    recordings = {recording["id"]: recording for recording, _ in pairs}
    write_json_lines(path / "recordings.jsonl.gz", recordings.values())
    write_json_lines(path / "supervisions.jsonl.gz", (supervision for _, supervision in pairs))
    return utterances


def _detect_cuts(path: Path) -> bool:
    if path.is_file():
        return kind(first_json(path)) == "cut"
    found = {} if is_shar(path) or not path.is_dir() else _files(path)
    return bool(found.get("cut")) and not found["recording"]


def _read_cuts(path: Path, source: Source) -> Iterator[Utterance]:
    if path.is_dir():
        files = _files(path)["cut"]
        if len(files) > 1:
            raise DataError(f"{path}: holds {', '.join(file.name for file in files)}; name one of them")
        path = files[0]
    problems = Problems()
    files_of: dict[str, str] = {}
    for place, cut in json_lines(path, problems):
        with problems.at(place):
            check_cut(cut)
            recording, channel = cut["recording"], cut.get("channel", 0)
            key = f"{recording['id']} {channel}"
            if key not in files_of:
                files_of[key] = audio_file(recording, channel, source, path.parent)
            yield from from_cut(cut, files_of[key])
    problems.check()


def _write_cuts(path: Path, utterances: Sequence[Utterance], target: Target) -> Sequence[Utterance]:
    write_json_lines(path, (to_cut(*pair) for pair in to_records(utterances, target)))
    return utterances


_HOLDS = frozenset({"offset", "channel"})
LHOTSE = Dialect(
    name="lhotse",
    title="lhotse's recordings and supervisions",
    looks_for="lhotse's recordings.jsonl(.gz) and supervisions.jsonl(.gz), in a folder",
    detect=_detect,
    read=_read,
    write=_write,
    holds=_HOLDS,
    folder=True,
)
LHOTSE_CUTS = Dialect(
    name="lhotse-cuts",
    title="lhotse's cuts",
    looks_for="lhotse's cuts as JSON lines",
    detect=_detect_cuts,
    read=_read_cuts,
    write=_write_cuts,
    holds=_HOLDS,
)
