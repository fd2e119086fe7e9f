"""There and back through every dialect: what it holds is identical, what it does not hold is told."""

import re
from pathlib import Path

import numpy as np
import pytest

from asr import audio
from asr.data.convert import convert
from asr.data.dialects import DIALECTS, find_dialect
from asr.data.manifest import read_manifest
from asr.errors import DataError

# Fields of `whole` that each dialect changes or loses; all others have to be identical.
LOST = {
    "manifest": set(),
    "kaldi": {"snr", "tags"},
    "lhotse": set(),
    "lhotse-cuts": set(),
    "lhotse-shar": set(),
    "deepspeech.pytorch": {"speaker", "lang", "note", "snr", "tags"},
    "deepspeech.pytorch-csv": {"speaker", "lang", "note", "snr", "tags"},
    "speechbrain": set(),
    "speechbrain-csv": {"snr", "tags"},
    "mozilla": {"id", "speaker", "lang", "note", "snr", "tags"},
    "audiofolder": set(),
    "datasets": {"tags"},  # lists of texts and objects at once
    "folder": {"speaker", "lang", "note", "snr", "tags"},
}
OPTIONAL = {"lhotse-shar": "lhotse", "datasets": "pyarrow"}


def there_and_back(dialect, utterances, manifest_of, tmp_path):
    if dialect in OPTIONAL:
        pytest.importorskip(OPTIONAL[dialect])
    there = tmp_path / "there, and back"
    done = convert(manifest_of(utterances), there, write_as=dialect)
    assert find_dialect(there).name == dialect
    convert(there, tmp_path / "back.jsonl")
    return done, {u.id: u for u in read_manifest(tmp_path / "back.jsonl")}


def differing(before, after):
    fields = {
        name
        for name in ("id", "text", "speaker", "lang", "offset", "duration")
        if getattr(before, name) != getattr(after, name)
    }
    return fields | {key for key, value in before.extra.items() if after.extra.get(key) != value}


def told(notes):
    return {match[1] for note in notes if (match := re.search(r"utterances (?:lose|change) (\S+),", note))}


@pytest.mark.parametrize("dialect", LOST)
def test_whole_files(dialect, whole, manifest_of, tmp_path):
    utterances = whole
    if dialect == "kaldi":  # whose text cannot hold spaces around it, and whose files are sorted
        utterances = sorted(whole, key=lambda u: u.id)
    done, back = there_and_back(dialect, utterances, manifest_of, tmp_path)
    lost = set()
    named = list(back.values())
    for index, before in enumerate(utterances):
        after = back.get(before.id) or named[index]
        lost |= differing(before, after)
        if DIALECTS[dialect].own_audio:
            original = audio.load(before.audio_filepath, sample_rate=16000).samples
            kept = audio.load(after.audio_filepath, sample_rate=16000).samples
            np.testing.assert_array_equal(kept, original)
        else:
            assert after.audio_filepath == before.audio_filepath
    assert lost == LOST[dialect]
    assert told(done.notes) == lost, done.notes
    assert len(back) == len(utterances)


HOLD_STRETCHES = sorted(name for name, dialect in DIALECTS.items() if "offset" in dialect.holds)


@pytest.mark.parametrize("dialect", HOLD_STRETCHES)
def test_stretches_of_recordings(dialect, stretches, manifest_of, tmp_path):
    if dialect == "lhotse-shar":
        pytest.importorskip("lhotse")
    if dialect == "stm":
        there = tmp_path / "x.stm"
        done = convert(manifest_of(stretches), there, write_as=dialect)
        convert(there, tmp_path / "back.jsonl", audio_dir=Path(stretches[0].audio_filepath).parent)
        back = {u.id: u for u in read_manifest(tmp_path / "back.jsonl")}
    else:
        done, back = there_and_back(dialect, stretches, manifest_of, tmp_path)
    assert set(back) == {u.id for u in stretches}
    for before in stretches:
        after = back[before.id]
        if dialect == "lhotse-shar":  # keeps the stretch alone, to the sample
            assert after.offset == 0
            assert after.duration == pytest.approx(before.duration, abs=1 / 16000)
            assert (after.text, after.speaker) == (before.text, before.speaker)
        else:
            assert differing(before, after) == set()
            assert after.audio_filepath == before.audio_filepath
    assert dialect == "lhotse-shar" or told(done.notes) == set(), done.notes


@pytest.mark.parametrize("dialect", sorted(set(DIALECTS) - set(HOLD_STRETCHES)))
def test_what_cannot_hold_stretches_refuses_them_or_cuts_them(dialect, stretches, manifest_of, tmp_path):
    if dialect in OPTIONAL:
        pytest.importorskip(OPTIONAL[dialect])
    source = manifest_of(stretches)
    with pytest.raises(DataError, match=r"cannot hold 6 utterances that are parts .* --cut"):
        convert(source, tmp_path / "no", write_as=dialect)
    assert not (tmp_path / "no").exists()
    done = convert(source, tmp_path / "cut", write_as=dialect, cut_parts=True)
    assert done.cut == 6
    convert(tmp_path / "cut", tmp_path / "back.jsonl")
    back = read_manifest(tmp_path / "back.jsonl")
    order = {u.text: u for u in back}
    for before in stretches:
        after = order[before.text]
        expected = audio.load(
            before.audio_filepath, sample_rate=16000, offset=before.offset, duration=before.duration
        ).samples
        np.testing.assert_array_equal(audio.load(after.audio_filepath, sample_rate=16000).samples, expected)


def test_every_dialect_is_in_these_tests():
    assert set(LOST) | {"stm"} == set(DIALECTS)
