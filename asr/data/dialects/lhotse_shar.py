"""lhotse's Shar folders: ``cuts.000000.jsonl.gz`` beside ``recording.000000.tar``; lhotse writes them."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

from asr.data.dialects.base import Dialect, Problems, Source, Target
from asr.data.dialects.files import json_lines
from asr.data.dialects.lhotse import is_shar
from asr.data.dialects.lhotse_records import from_cut, to_cut, to_records
from asr.data.dialects.values import shown
from asr.errors import DataError
from asr.types import Utterance

_SHARD_SIZE = 1000  # cuts; lhotse's default


def _read(path: Path, source: Source) -> Iterator[Utterance]:
    problems = Problems()
    shards = sorted(path.glob("cuts.*.jsonl*"))
    for done, shard in enumerate(shards, start=1):
        archive = path / f"recording.{shard.name.split('.')[1]}.tar"
        audio = _extract(archive, source)
        for place, cut in json_lines(shard, problems):
            with problems.at(place):
                if cut["id"] not in audio:
                    raise ValueError(
                        f"no audio of cut {cut['id']!r} in {archive.name}; copy both files again"
                    )
                for utterance in from_cut(cut, audio[cut["id"]]):
                    # What Shar keeps is the cut's own audio, from its start on.
                    yield replace(utterance, offset=max(round(utterance.offset - cut["start"], 9), 0.0))
        source.headers.progress("extracting shards", done, len(shards))
    problems.check()


def _extract(archive: Path, source: Source) -> dict[str, str]:
    """Write the audio of a shard into files; return their paths by cut."""
    found: dict[str, str] = {}
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                stem, _, suffix = member.name.rpartition(".")
                if not member.isfile() or suffix in ("json", "nodata"):
                    continue
                if source.dry:
                    found[stem] = str(source.media.path(stem, f".{suffix}"))
                    continue
                data = tar.extractfile(member)
                assert data is not None
                found[stem] = source.media.save(stem, data.read())
    except (OSError, tarfile.TarError, EOFError) as error:
        raise DataError(f"{archive}: cannot be read ({error}); copy it again") from error
    except ValueError as error:
        raise DataError(f"{archive}: {error}") from error
    return found


def _write(path: Path, utterances: Sequence[Utterance], target: Target) -> Sequence[Utterance]:
    try:
        from lhotse import CutSet
        from lhotse.serialization import deserialize_item
    except ImportError as error:
        raise DataError(
            "lhotse-shar: lhotse writes these folders and is not installed; pip install 'asr[lhotse]'"
        ) from error
    several = [u.id for u in utterances if isinstance(u.extra.get("channel"), list)]
    if several:
        raise DataError(f"{several[0]}: channels {shown(several)} of a recording; Shar holds one or all")
    cuts = CutSet.from_cuts(
        deserialize_item(deepcopy(to_cut(*pair))) for pair in to_records(utterances, target)
    )
    cuts.to_shar(path, fields={"recording": "flac"}, shard_size=_SHARD_SIZE, verbose=False)
    return utterances


LHOTSE_SHAR = Dialect(
    name="lhotse-shar",
    title="a Shar folder of lhotse",
    looks_for="a folder with cuts.*.jsonl.gz and recording.*.tar",
    detect=is_shar,
    read=_read,
    write=_write,
    holds=frozenset({"offset", "channel"}),
    folder=True,
    own_audio=True,
)
