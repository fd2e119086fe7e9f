import math
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from asr.errors import ConfigError, DataError
from asr.transcribe import find_audio, parse_clip_timestamps, split_segments, transcribe_files
from asr.types import Hypothesis, Word

RATE = 16000


@pytest.fixture(scope="module")
def recognizer(tiny_recognizer):
    words = {"_target_": "asr.text.WordTokenizer", "words": ["one", "two", "three", "four"]}
    return tiny_recognizer(words, sample_rate=RATE)


def speech(seconds, seed=0, rate=RATE):
    rng = np.random.default_rng(seed)
    n = round(seconds * rate)
    return 0.2 * rng.standard_normal(n) * np.sin(2 * np.pi * np.arange(n) / rate) ** 2


def transcribe(recognizer, files, **options):
    """Return what came out, in the order it came: results and (path, message) of errors."""
    out = []
    transcribe_files(
        recognizer,
        files,
        on_result=out.append,
        on_error=lambda path, error: out.append((path, str(error))),
        **options,
    )
    return out


def write(folder, name, seconds=1.0, seed=0):
    sf.write(folder / name, speech(seconds, seed), RATE)
    return folder / name


def test_results_come_in_the_order_of_the_files_whatever_the_batches(tmp_path, recognizer):
    lengths = [1.3, 0.4, 1.9, 0.2, 1.1, 0.7, 1.6]
    files = [write(tmp_path, f"{i}.wav", seconds, i) for i, seconds in enumerate(lengths)]
    alone = [transcribe(recognizer, [file])[0] for file in files]
    assert [result.path for result in alone] == files
    assert len({result.text for result in alone}) > 3
    for batch_seconds in (0.1, 2.0, 1000.0):
        together = transcribe(recognizer, files, batch_seconds=batch_seconds)
        assert [result.path for result in together] == files
        assert [result.text for result in together] == [result.text for result in alone]
        for a, b in zip(alone, together, strict=True):
            assert [(s.start, s.end, s.tokens) for s in a.segments] == [
                (s.start, s.end, s.tokens) for s in b.segments
            ]
            assert [s.avg_logprob for s in a.segments] == pytest.approx(
                [s.avg_logprob for s in b.segments], abs=1e-4
            )


def test_batches_hold_no_more_than_asked_for_padding_included(tmp_path, recognizer, monkeypatch):
    lengths = [1.0, 0.5, 0.5, 0.5, 1.5, 0.5]
    files = [write(tmp_path, f"{i}.wav", seconds) for i, seconds in enumerate(lengths)]
    sizes = []
    real = recognizer.recognize_audio

    def watch(waveforms):
        sizes.append([len(w) / RATE for w in waveforms])
        return real(waveforms)

    monkeypatch.setattr(recognizer, "recognize_audio", watch)
    transcribe(recognizer, files, batch_seconds=2.0)
    assert sizes == [[0.5, 0.5, 0.5, 0.5], [1.0], [1.5]]


def test_broken_files_do_not_stop_the_others(tmp_path, recognizer):
    good = [write(tmp_path, f"good{i}.wav", 0.5 + 0.1 * i, i) for i in range(5)]
    nan = speech(0.5)
    nan[100] = np.nan
    broken = []
    for i in range(20):
        path = tmp_path / f"broken{i}.wav"
        match i % 5:
            case 0:
                path.touch()
            case 1:
                path.write_text("not audio at all\n" * 50)
            case 2:
                sf.write(path, nan, RATE, subtype="FLOAT")
            case 3:
                path.write_bytes(write(tmp_path, "whole.wav").read_bytes()[:-100])
            case 4:
                pass
        broken.append(path)
    files = [*broken[:10], *good, *broken[10:]]
    out = transcribe(recognizer, files)
    assert [item[0] if isinstance(item, tuple) else item.path for item in out] == files
    assert [item.text for item in out if not isinstance(item, tuple)] == [
        transcribe(recognizer, [file])[0].text for file in good
    ]
    errors = dict(item for item in out if isinstance(item, tuple))
    assert list(errors) == broken
    assert all(message.startswith(f"{path}: ") and "\n" not in message for path, message in errors.items())


@pytest.mark.parametrize("error", [ConfigError("no such thing; do another"), torch.OutOfMemoryError("full")])
def test_a_batch_that_fails_is_tried_file_by_file(tmp_path, recognizer, monkeypatch, error):
    files = [write(tmp_path, f"{i}.wav", 0.5 + 0.1 * i) for i in range(4)]
    real = recognizer.recognize_audio

    def fail(waveforms):
        if any(len(w) == round(0.7 * RATE) for w in waveforms):
            raise error
        return real(waveforms)

    monkeypatch.setattr(recognizer, "recognize_audio", fail)
    out = transcribe(recognizer, files)
    assert [isinstance(item, tuple) for item in out] == [False, False, True, False]
    assert out[2][1].startswith(f"{files[2]}: ")


def test_audio_longer_than_training_is_noted(tmp_path, recognizer):
    (result,) = transcribe(recognizer, [write(tmp_path, "a.wav", 3.0)])
    assert result.notes == (
        "3 s in one piece, the model was trained on up to 2 s; accuracy may suffer; "
        "cut it with --clip_timestamps",
    )
    (result,) = transcribe(recognizer, [write(tmp_path, "a.wav", 2.0)])
    assert result.notes == ()


def test_more_than_half_an_hour_is_refused_before_it_is_read(tmp_path, recognizer):
    path = tmp_path / "long.wav"
    sf.write(path, np.zeros(1801 * 100, dtype=np.int16), 100)
    ((_, message),) = transcribe(recognizer, [path])
    assert message == (
        f"{path}: 1801 s in one piece, at most 1800 s can be recognised; cut it, for example with "
        "--clip_timestamps 0,1800,1800,3600,..."
    )


def test_clips_are_recognised_each_on_its_own(tmp_path, recognizer):
    samples = speech(3.0)
    sf.write(tmp_path / "all.wav", samples, RATE)
    sf.write(tmp_path / "first.wav", samples[: RATE // 2], RATE)
    sf.write(tmp_path / "last.wav", samples[2 * RATE :], RATE)
    (whole,) = transcribe(recognizer, [tmp_path / "all.wav"], clips=((0.0, 0.5), (2.0, None)))
    first, last = transcribe(recognizer, [tmp_path / "first.wav", tmp_path / "last.wav"])
    assert whole.text == f"{first.text} {last.text}"
    words = [word for segment in whole.segments for word in segment.words]
    alone = [word for result in (first, last) for segment in result.segments for word in segment.words]
    assert [w.text for w in words] == [w.text for w in alone]
    shift = [0.0] * sum(len(s.words) for s in first.segments) + [2.0] * sum(
        len(s.words) for s in last.segments
    )
    assert [w.start for w in words] == pytest.approx([w.start + s for w, s in zip(alone, shift, strict=True)])


def test_a_clip_beyond_the_end_is_an_error(tmp_path, recognizer):
    path = write(tmp_path, "a.wav")
    ((_, message),) = transcribe(recognizer, [path], clips=((0.0, 0.5), (7.0, 8.0)))
    assert message == f"{path}: offset 7 s is beyond its end at 1.000 s; correct the offset"


@pytest.mark.parametrize(
    ("text", "clips"),
    [
        ("0", ((0.0, None),)),
        ("1.5,2", ((1.5, 2.0),)),
        ("0,10,10,20,30", ((0.0, 10.0), (10.0, 20.0), (30.0, None))),
    ],
)
def test_clip_timestamps(text, clips):
    assert parse_clip_timestamps(text) == clips


@pytest.mark.parametrize("text", ["", "a", "1,", "2,1", "1,1", "0,5,3,8", "-1,2", "nan", "0,inf"])
def test_clip_timestamps_that_make_no_sense(text):
    with pytest.raises(ConfigError, match="--clip_timestamps"):
        parse_clip_timestamps(text)


PIECES = ("", " ", "a", "b", "c")


def spell(*words):
    """A hypothesis in characters a, b, c of (text, start, end) words."""
    text = " ".join(word for word, _, _ in words)
    made = []
    for i, (word, start, end) in enumerate(words):
        tokens = tuple(PIECES.index(c) for c in (" " if i else "") + word)
        made.append(Word(word, start, end, 0.5, tokens))
    return Hypothesis(text, tuple(made), tuple(PIECES.index(c) for c in text), -1.0, 0.5)


def test_segments_end_at_pauses():
    segments = split_segments(spell(("a", 1.0, 1.2), ("b", 2.0, 2.2), ("cab", 3.1, 3.4)), 5.0)
    assert [(s.start, s.end, s.text) for s in segments] == [(1.0, 2.2, "a b"), (3.1, 3.4, "cab")]
    assert [s.tokens for s in segments] == [(2, 1, 3), (1, 4, 2, 3)]
    assert [s.avg_logprob for s in segments] == pytest.approx([math.log(0.5)] * 2)


def test_segments_end_before_they_are_too_long():
    slow = split_segments(spell(*(("a", i, i + 0.9) for i in range(100))), 100.0)
    assert [len(s.words) for s in slow] == [30, 30, 30, 10]
    assert all(s.end - s.start <= 30.0 for s in slow)
    fast = split_segments(spell(*(("abcabcabc", 0.1 * i, 0.1 * i + 0.1) for i in range(20))), 2.0)
    assert [len(s.text) for s in fast] == [79, 79, 39]
    giant = split_segments(spell(("a", 0.0, 0.1), ("b" * 100, 0.1, 0.2), ("c", 0.2, 0.3)), 1.0)
    assert [len(s.text) for s in giant] == [1, 100, 1]


def test_segments_lose_no_word_and_no_token():
    rng = np.random.default_rng(0)
    starts = np.cumsum(rng.exponential(0.6, 300))
    said = spell(*(("".join(rng.choice([*"abc"], 5)), t, t + 0.1) for t in starts))
    segments = split_segments(said, starts[-1] + 1)
    assert len(segments) > 20
    assert " ".join(s.text for s in segments) == said.text
    assert tuple(token for s in segments for token in s.tokens) == said.tokens
    assert [w.text for s in segments for w in s.words] == [w.text for w in said.words]


def test_times_stay_inside_the_audio_and_in_order():
    said = spell(("a", 0.5, 1.0), ("b", 0.8, 1.5), ("c", 1.4, 2.5))
    (segment,) = split_segments(said, 2.0, offset=10.0)
    assert [(w.start, w.end) for w in segment.words] == [(10.5, 11.0), (11.0, 11.5), (11.5, 12.0)]


def test_no_words_give_no_segments():
    assert split_segments(Hypothesis("", (), (), -1.0, 1.0), 1.0) == ()
    assert split_segments(Hypothesis("", (), (1,), -1.0, 1.0), 1.0) == ()


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def find(folder, *names, recursive=False):
    found = find_audio([folder / name for name in names], recursive)
    return [(str(file.relative_to(folder)), str(stem)) for file, stem in found]


def test_folders_are_searched_and_their_structure_kept(tmp_path):
    touch(tmp_path, "in/b.wav", "in/a.MP3", "in/notes.txt", "in/x/y/c.flac", "in/.hidden.wav", "in/.h/d.wav")
    assert find(tmp_path, "in") == [("in/a.MP3", "a"), ("in/b.wav", "b")]
    assert find(tmp_path, "in", recursive=True)[2:] == [("in/x/y/c.flac", "x/y/c")]


def test_files_are_taken_as_they_are_and_once(tmp_path):
    touch(tmp_path, "in/a.wav", "in/odd.xyz")
    assert find(tmp_path, "in/odd.xyz", "missing.wav") == [("in/odd.xyz", "odd"), ("missing.wav", "missing")]
    assert find(tmp_path, "in/a.wav", "in", "in/../in/a.wav") == [("in/a.wav", "a")]


@pytest.mark.parametrize(
    ("files", "arguments", "stems"),
    [
        (["a.wav", "a.flac"], ["a.wav", "a.flac"], ["a.wav", "a.flac"]),
        (["x/a.wav", "y/a.wav"], ["x/a.wav", "y/a.wav"], ["x/a", "y/a"]),
        (["x/a.wav", "y/a.wav"], ["x", "y"], ["x/a", "y/a"]),
        (["x/a.wav", "x/a.flac", "y/a.wav"], ["x", "y"], ["x/a.flac", "x/a.wav", "y/a.wav"]),
        (["x/a.wav", "x/y/a.wav"], ["x"], ["a", "y/a"]),
        (["x/a.wav", "y/A.wav"], ["x", "y"], ["x/a", "y/A"]),
        # A new name that another file already has.
        (["a.wav", "a.flac", "a.wav.wav"], ["a.wav", "a.flac", "a.wav.wav"], ["a.wav", "a.flac", "a.wav-2"]),
    ],
)
def test_output_names_never_collide(tmp_path, files, arguments, stems):
    touch(tmp_path, *files)
    found = find(tmp_path, *arguments, recursive=True)
    assert [stem for _, stem in found] == stems
    assert len({stem.casefold() for _, stem in found}) == len(files)
    assert not any(Path(stem).is_absolute() or ".." in Path(stem).parts for _, stem in found)


def test_a_folder_without_audio_is_named(tmp_path):
    touch(tmp_path, "in/deep/a.wav")
    with pytest.raises(DataError, match="in: no audio files in this folder; use --recursive"):
        find(tmp_path, "in")
