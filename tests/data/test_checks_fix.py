"""Cleaned manifests: what is corrected, what is left out, and that both are listed."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.data.checks.fix import write_fixed
from asr.data.checks.run import Needs, check_splits
from asr.data.checks.splits import read_splits
from asr.data.manifest import read_manifest
from asr.errors import ConfigError, DataError
from asr.text import CharacterTokenizer

RATE = 8000


@pytest.fixture
def corpus(tmp_path):
    """Return a function that writes manifests of utterances of one second, with what is changed in them."""
    folder = tmp_path / "corpus"
    folder.mkdir()

    def write(**manifests):
        for number, (name, changes) in enumerate(manifests.items()):
            lines = []
            for i, change in enumerate(changes):
                if isinstance(change, str):
                    lines.append(change)
                    continue
                path = folder / f"{name}{i}.wav"
                rng = np.random.default_rng(100 * number + i)
                soundfile.write(path, 0.1 * rng.standard_normal(RATE), RATE)
                fields = {"id": f"{name}{i}", "audio_filepath": path.name, "duration": 1, "text": "one two"}
                lines.append(json.dumps(fields | change))
            (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return [str(folder / f"{name}.jsonl") for name in manifests]

    return write


def fix(paths, folder, needs=None, drop=()):
    needs = needs or Needs()
    return write_fixed(check_splits(read_splits(paths), needs), Path(folder), needs, drop)


def lines(path):
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def test_errors_are_left_out_with_their_reasons_and_warnings_kept(corpus, tmp_path):
    paths = corpus(
        train=[
            {"speaker": "ann", "note": "kept"},
            "not JSON",
            {"text": ""},
            {"audio_filepath": "gone.wav"},
            {"text": "one 2"},
        ]
    )
    before = Path(paths[0]).read_bytes()
    [fixed] = fix(paths, tmp_path / "clean")
    assert (fixed.kept, fixed.corrected, fixed.left_out) == (2, 0, 3)
    assert fixed.reasons == {"manifest": 1, "no_text": 1, "unreadable": 1}
    kept = read_manifest(fixed.path)
    assert [u.id for u in kept] == ["train0", "train4"]
    assert (kept[0].speaker, dict(kept[0].extra)) == ("ann", {"note": "kept"})
    out = lines(tmp_path / "clean" / "left_out.jsonl")
    assert [(line["line"], line["id"], line["kinds"]) for line in out] == [
        (2, "", ["manifest"]),
        (3, "train2", ["no_text"]),
        (4, "train3", ["unreadable"]),
    ]
    assert out[2]["reasons"] == ["no such file; check the path"]
    assert out[2]["utterance"]["audio_filepath"] == "gone.wav"
    assert Path(paths[0]).read_bytes() == before


def test_warnings_are_left_out_when_they_are_named(corpus, tmp_path):
    [fixed] = fix(
        corpus(train=[{}, {"text": "one 2"}, {"text": "<b>one</b>"}]), tmp_path / "c", drop=["digits"]
    )
    assert [u.id for u in read_manifest(fixed.path)] == ["train0", "train2"]
    assert fixed.reasons == {"digits": 1}


@pytest.mark.parametrize(
    ("change", "field", "value"),
    [
        ({"text": " one \N{ZERO WIDTH SPACE} two"}, "text", "one two"),
        ({"text": "cafe\N{COMBINING ACUTE ACCENT}"}, "text", "café"),
        ({"duration": 2.5}, "duration", 1.0),
        ({"duration": 0.92}, "duration", 1.0),
    ],
)
def test_what_is_safe_is_corrected_and_listed(corpus, tmp_path, change, field, value):
    [fixed] = fix(corpus(train=[{}, change]), tmp_path / "clean")
    assert (fixed.kept, fixed.corrected, fixed.left_out) == (2, 1, 0)
    assert getattr(read_manifest(fixed.path)[1], field) == value
    [line] = lines(tmp_path / "clean" / "corrected.jsonl")
    assert (line["id"], line["line"], line["field"], line["to"]) == ("train1", 2, field, value)
    assert line["from"] == change[field]


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        # 45 letters in a second: the file has lost its end, not the manifest its way.
        ([{"duration": 3, "text": "one two three four five six seven eight nine ten eleven"}], ["train0"]),
        # A stretch of a recording that others share.
        ([{"audio_filepath": "train0.wav", "offset": 0.5}], ["train0"]),
        # Half of the file is used, which may be meant so.
        ([{"duration": 0.5}], ["train0", "train1"]),
    ],
)
def test_a_duration_that_may_be_right_is_not_touched(corpus, tmp_path, changes, kept):
    [fixed] = fix(corpus(train=[{}, *changes]), tmp_path / "clean")
    assert fixed.corrected == 0
    assert [u.id for u in read_manifest(fixed.path)] == kept


def test_what_does_not_fit_into_the_corrected_duration_is_left_out(corpus, tmp_path):
    needs = Needs(tokenizer=CharacterTokenizer("enotw"), output_length=lambda seconds: int(5 * seconds))
    paths = corpus(train=[{"text": "one"}, {"duration": 3}])
    [fixed] = fix(paths, tmp_path / "clean", needs)
    assert fixed.reasons == {"too_long": 1}


def test_a_copy_leaves_training_not_test(corpus, tmp_path):
    paths = corpus(test=[{}, {}], train=[{"audio_filepath": "test0.wav"}, {}])
    test, train = fix(paths, tmp_path / "clean")
    assert (test.kept, train.kept) == (2, 1)
    assert train.reasons == {"leak": 1}


def test_the_result_passes_the_check(corpus, tmp_path):
    paths = corpus(
        train=[
            {},
            {"text": None},
            {"audio_filepath": "train0.wav", "text": "two"},
            {"audio_filepath": "x"},
            {},
            "[",
            {"text": "one\ttwo"},
        ],
        test=[{}, {"duration": 9}, {"id": "test0"}, {"audio_filepath": "train4.wav"}],
    )
    fixed = fix(paths, tmp_path / "clean")
    reports = check_splits(read_splits([str(one.path) for one in fixed]))
    assert [p for r in reports for p in r.problems if p.severity == "error"] == []
    assert [one.kept for one in fixed] == [1, 3]


def test_the_manifests_that_are_given_are_never_overwritten(corpus, tmp_path):
    paths = corpus(train=[{}])
    with pytest.raises(ConfigError, match=r"would overwrite .*train\.jsonl; choose another folder"):
        fix(paths, Path(paths[0]).parent)
    link = tmp_path / "link"
    link.symlink_to(Path(paths[0]).parent)
    with pytest.raises(ConfigError, match="would overwrite"):
        fix(paths, link)


def test_two_manifests_of_one_name_are_refused(corpus, tmp_path):
    [path] = corpus(train=[{}])
    other = tmp_path / "train.jsonl"
    other.write_text(Path(path).read_text().replace("train0.wav", path.replace("train.jsonl", "train0.wav")))
    with pytest.raises(ConfigError, match=r"two manifests are called train\.jsonl"):
        fix([path, str(other)], tmp_path / "clean")


def test_a_manifest_of_which_nothing_is_left_is_refused(corpus, tmp_path):
    with pytest.raises(DataError, match=r"train\.jsonl: nothing would be left of this manifest \(no_text\)"):
        fix(corpus(train=[{"text": ""}]), tmp_path / "clean")
