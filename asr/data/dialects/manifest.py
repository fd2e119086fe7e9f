"""The toolkit's own manifest, which is NeMo's with more fields; predictions (``pred_text``) are kept."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from asr.data.dialects.base import Dialect, Source, Target
from asr.data.dialects.files import first_json
from asr.data.manifest import read_manifest, write_manifest
from asr.types import Utterance


def _detect(path: Path) -> bool:
    return path.is_file() and not first_json(path).keys().isdisjoint({"audio_filepath", "features_filepath"})


def _read(path: Path, source: Source) -> Iterator[Utterance]:
    folder = os.path.abspath(path.parent)
    for utterance in read_manifest(path, check_files=False):
        audio = utterance.audio_filepath
        if source.audio_dir is not None and audio is not None and not os.path.exists(audio):
            audio = os.path.abspath(source.audio_dir / os.path.relpath(audio, folder))
            utterance = replace(utterance, audio_filepath=audio)
        yield utterance


def _write(path: Path, utterances: Sequence[Utterance], target: Target) -> Sequence[Utterance]:
    write_manifest(path, utterances)
    if target.channels:
        first = next(u for u in utterances if u.id in target.channels)
        target.notes.append(
            f"{len(target.channels)} utterances are one channel of a recording with several, the first "
            f"{first.id}: this toolkit reads all channels mixed; --cut writes each as a file"
        )
    return utterances


MANIFEST = Dialect(
    name="manifest",
    title="NeMo's or this toolkit's manifest",
    looks_for="JSON lines with audio_filepath or features_filepath",
    detect=_detect,
    read=_read,
    write=_write,
    holds=frozenset({"offset", "features", "channel"}),
    suffixes=(".jsonl", ".json"),
)
