"""Files to augment with: found, checked before the training, and read in bounded memory."""

import json

import numpy as np
import pytest

from asr import audio
from asr.augment import AddNoise, Reverberate, clips
from asr.augment.clips import Clips
from asr.errors import DataError

RATE = 8000


def write(path, seconds=1.0, rate=RATE, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    audio.save(path, np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * rate)), rate)
    return path


def opened(files):
    found = Clips(files)
    found.open()
    return found


def test_a_folder_a_manifest_and_a_list_are_found(tmp_path):
    a, b = write(tmp_path / "noise/a.wav"), write(tmp_path / "noise/deep/b.flac")
    (tmp_path / "noise/readme.txt").write_text("no audio")
    lines = [{"audio_filepath": "noise/a.wav", "offset": 0.25, "duration": 0.5}, {"audio_filepath": str(b)}]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    assert [c.path for c in opened(str(tmp_path / "noise")).clips] == [a, b]
    assert [(c.path, c.offset, c.duration) for c in opened(str(tmp_path / "m.jsonl")).clips] == [
        (a, 0.25, 0.5),
        (b, 0.0, 1.0),
    ]
    assert len(opened([str(a), str(tmp_path / "m.jsonl")]).clips) == 3


def test_a_clip_is_read_at_the_rate_asked_for_and_from_the_drawn_place_on(tmp_path):
    path = write(tmp_path / "a.wav", seconds=2.0)
    whole = audio.load(path, sample_rate=RATE).samples
    found = opened(str(path))
    starts = set()
    for seed in range(20):
        part = found.excerpt(500, RATE, np.random.default_rng(seed))
        places = np.flatnonzero(whole == part[0])
        starts.add(next(i for i in places if np.array_equal(whole[i : i + 500], part)))
    assert len(starts) == 20
    assert len(found.excerpt(500, 11025, np.random.default_rng(0))) == 500


def test_a_short_clip_is_repeated(tmp_path):
    path = write(tmp_path / "a.wav", seconds=0.1)
    part = opened(str(path)).excerpt(2000, RATE, np.random.default_rng(3))
    np.testing.assert_array_equal(part[:800], part[800:1600])
    assert np.ptp(part) > 0.5


def test_of_a_long_clip_only_a_stretch_is_read_and_memory_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(clips, "_MAX_CACHED_SECONDS", 1.5)
    monkeypatch.setattr(clips, "_CACHE_BYTES", 4 * 2 * RATE)
    for i in range(5):
        write(tmp_path / f"{i}.wav", seed=i)
    write(tmp_path / "long.wav", seconds=10.0)
    found = opened(str(tmp_path))
    for seed in range(40):
        assert len(found.excerpt(3000, RATE, np.random.default_rng(seed))) == 3000
        assert sum(kept.nbytes for kept in found._cache.values()) <= 4 * 2 * RATE


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: (p / "e").mkdir() or p / "e", r"e: no audio files in it"),
        (lambda p: p / "none.wav", r"none\.wav: no such file"),
        (lambda p: p / "none", r"none: no such file"),
        (lambda p: (p / "bad.wav").write_bytes(b"RIFF....") and p / "bad.wav", r"bad\.wav: "),
        (
            lambda p: (p / "m.jsonl").write_text('{"a": 1}\n') and p / "m.jsonl",
            r"m\.jsonl:1: no audio_filepath",
        ),
        (lambda p: (p / "m.jsonl").write_text("\n") and p / "m.jsonl", r"m\.jsonl: no audio files in it"),
    ],
)
def test_what_cannot_be_used_is_named_in_one_line(make, message, tmp_path):
    for kind in (AddNoise, Reverberate):
        if (tmp_path / "e").exists():
            (tmp_path / "e").rmdir()
        with pytest.raises(DataError, match=message) as caught:
            kind(files=str(make(tmp_path))).open()
        assert "\n" not in str(caught.value)


def test_silent_files_are_named_and_counted(tmp_path):
    for i in range(5):
        audio.save(tmp_path / f"{i}.wav", np.zeros(RATE), RATE)
    with pytest.raises(DataError, match=r"0\.wav: silent: .*; .*2\.wav: silent: .*; and 2 more"):
        AddNoise(files=str(tmp_path)).open()


def test_noise_may_be_stereo_but_a_room_response_not(tmp_path):
    audio.save(tmp_path / "s.wav", np.random.default_rng(0).uniform(-0.5, 0.5, (RATE, 2)), RATE)
    AddNoise(files=str(tmp_path)).open()
    with pytest.raises(DataError, match=r"s\.wav: 2 channels; a room impulse response has one"):
        Reverberate(files=str(tmp_path)).open()
