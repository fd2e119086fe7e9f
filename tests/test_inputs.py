from pathlib import Path

import pytest

from asr.errors import ConfigError, DataError
from asr.inputs import find_audio, parse_clip_timestamps


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


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("in/*.wav", [("in/a.wav", "a"), ("in/b.wav", "b")]),
        ("in/**/*.wav", [("in/a.wav", "a"), ("in/b.wav", "b"), ("in/x/a.wav", "x/a")]),
        ("in/*/a.wav", [("in/x/a.wav", "x/a")]),
        ("in/[a]*", [("in/a.wav", "a")]),
    ],
)
def test_patterns_are_expanded_and_keep_the_folders_below_them(tmp_path, pattern, found):
    touch(tmp_path, "in/a.wav", "in/b.wav", "in/x/a.wav")
    assert find(tmp_path, pattern) == found


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(tmp_path):
    touch(tmp_path, "a[1].wav", "a1.wav")
    assert find(tmp_path, "a[1].wav") == [("a[1].wav", "a[1]")]


def test_a_pattern_without_matches_is_named(tmp_path):
    with pytest.raises(DataError, match=r"\*\.wav: no file is like this; check the pattern"):
        find(tmp_path, "*.wav")


def test_standard_input_has_a_name():
    assert find_audio([Path("-")]) == [(Path("-"), Path("stdin"))]
