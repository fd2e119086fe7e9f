import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from asr.data.manifest import Manifest, durations, read_manifest, write_manifest
from asr.errors import DataError
from asr.types import Utterance

GOOD = '{"audio_filepath": "a.wav", "duration": 1.5, "text": "one"}'


def manifest(folder: Path, *lines: str | bytes) -> Path:
    path = folder / "m.jsonl"
    path.write_bytes(b"\n".join(line.encode() if isinstance(line, str) else line for line in lines))
    return path


def test_fields_of_a_line(tmp_path):
    path = manifest(
        tmp_path,
        '{"audio_filepath": "sub/../a.wav", "duration": 2, "text": "Ünï", "id": "u1", "offset": 0.5,'
        ' "speaker": "s", "lang": "de", "snr": 12, "note": null}',
    )
    assert read_manifest(path, check_files=False) == [
        Utterance(
            id="u1",
            duration=2.0,
            text="Ünï",
            audio_filepath=str(tmp_path / "a.wav"),
            offset=0.5,
            speaker="s",
            lang="de",
            extra={"snr": 12, "note": None},
        )
    ]


def test_optional_fields_may_be_absent_or_null(tmp_path):
    path = manifest(
        tmp_path,
        '{"audio_filepath": "/x/a.wav", "duration": 1}',
        '{"audio_filepath": "/x/b.wav", "duration": 1, "text": null, "id": null, "speaker": null}',
    )
    assert read_manifest(path, check_files=False) == [
        Utterance(id=name, duration=1.0, audio_filepath=f"/x/{name}.wav") for name in "ab"
    ]


def test_bom_blank_lines_and_windows_line_ends_are_accepted(tmp_path):
    path = manifest(tmp_path, b"\xef\xbb\xbf" + GOOD.encode() + b"\r", "", "  ", GOOD, "")
    assert len(read_manifest(path, check_files=False)) == 2


def test_ids_are_made_from_file_names_and_are_unique(tmp_path):
    files = ["x/a.wav", "y/a.wav", "z/a.flac", "b.wav"]
    lines = [json.dumps({"audio_filepath": file, "duration": 1}) for file in files]
    lines.append('{"audio_filepath": "c.wav", "duration": 1, "id": "a-2"}')
    lines.append('{"features_filepath": "feats.1.ark:1234", "duration": 1}')
    ids = [u.id for u in read_manifest(manifest(tmp_path, *lines), check_files=False)]
    assert ids == ["a", "a-3", "a-4", "b", "a-2", "feats.1"]


def test_kaldi_feature_path_keeps_its_byte_offset(tmp_path):
    (tmp_path / "feats.ark").touch()
    path = manifest(tmp_path, '{"features_filepath": "feats.ark:99", "duration": 1}')
    assert read_manifest(path)[0].features_filepath == f"{tmp_path}/feats.ark:99"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'{"text": "\xff"}', "not UTF-8 (byte 0xff)"),
        ("a.wav one two", "not JSON ('a.wav one two')"),
        ('{"audio_filepath": ', "not JSON"),
        ("[1, 2]", "not a JSON object ([1, 2])"),
        ('{"duration": 1}', "no audio_filepath"),
        ('{"audio_filepath": null, "duration": 1}', "no audio_filepath"),
        ('{"audio_filepath": "", "duration": 1}', "audio_filepath is empty"),
        ('{"audio_filepath": 7, "duration": 1}', "audio_filepath is 7; it must be a string"),
        ('{"audio_filepath": "b.wav"}', "no duration"),
        ('{"audio_filepath": "b.wav", "duration": null}', "duration is None; it must be a number"),
        ('{"audio_filepath": "b.wav", "duration": "1.5"}', "duration is '1.5'; it must be a number"),
        ('{"audio_filepath": "b.wav", "duration": true}', "duration is True; it must be a number"),
        ('{"audio_filepath": "b.wav", "duration": 0}', "duration is 0; it must be a finite number"),
        ('{"audio_filepath": "b.wav", "duration": -1}', "duration is -1; it must be a finite number"),
        ('{"audio_filepath": "b.wav", "duration": NaN}', "duration is nan; it must be a finite number"),
        ('{"audio_filepath": "b.wav", "duration": 1e999}', "duration is inf; it must be a finite number"),
        ('{"audio_filepath": "b.wav", "duration": 1' + "0" * 400 + "}", "duration is 1000"),
        ('{"audio_filepath": "b.wav", "duration": 1, "offset": -0.1}', "offset is -0.1"),
        ('{"audio_filepath": "b.wav", "duration": 1, "text": ["a"]}', "text is ['a']; it must be a string"),
        ('{"audio_filepath": "b.wav", "duration": 1, "id": "u"}', "id 'u' is already used on line 1"),
    ],
)
def test_a_bad_line_is_named_by_file_and_number(tmp_path, line, problem):
    first = '{"audio_filepath": "a.wav", "duration": 1, "id": "u"}'
    path = manifest(tmp_path, first, "", line)
    with pytest.raises(DataError) as error:
        read_manifest(path, check_files=False)
    assert str(error.value).startswith(f"{path}:3: {problem}")
    assert "\n" not in str(error.value)


def test_all_bad_lines_are_counted(tmp_path):
    path = manifest(tmp_path, "x1", GOOD, "x2", "x3", "x4", "x5")
    with pytest.raises(DataError, match=r":1: .*:3: .*:4: .*; and 2 more bad lines$"):
        read_manifest(path, check_files=False)


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_empty_manifest(tmp_path, content):
    with pytest.raises(DataError, match=r"m\.jsonl: no utterances"):
        read_manifest(manifest(tmp_path, content))


def test_manifest_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.jsonl: cannot read this manifest \(No such file"):
        read_manifest(tmp_path / "nowhere.jsonl")


def test_missing_files_are_counted_and_the_first_is_named(tmp_path):
    (tmp_path / "a.wav").touch()
    lines = [json.dumps({"audio_filepath": f"{name}.wav", "duration": 1}) for name in "abc"]
    path = manifest(tmp_path, *lines)
    with pytest.raises(DataError, match=rf"m\.jsonl:2: 2 of 3 files do not exist, first {tmp_path}/b\.wav"):
        read_manifest(path)


def test_what_is_written_is_read_back(tmp_path):
    utterances = [
        Utterance("u1", 1.25, "zwölf", str(tmp_path / "wav" / "a.wav"), 0.5, "s", "de", extra={"snr": 3}),
        Utterance("u2", 2.0, None, "/elsewhere/b.wav"),
        Utterance("u3", 2.0, "", features_filepath=str(tmp_path / "f.ark:12")),
    ]
    path = tmp_path / "new" / ".." / "m.jsonl"
    write_manifest(path, utterances)
    assert read_manifest(path, check_files=False) == utterances
    assert [json.loads(line) for line in path.read_text("utf-8").splitlines()] == [
        {
            "id": "u1",
            "audio_filepath": "wav/a.wav",
            "offset": 0.5,
            "duration": 1.25,
            "text": "zwölf",
            "speaker": "s",
            "lang": "de",
            "snr": 3,
        },
        {"id": "u2", "audio_filepath": "/elsewhere/b.wav", "duration": 2.0},
        {"id": "u3", "features_filepath": "f.ark:12", "duration": 2.0, "text": ""},
    ]


def test_a_manifest_is_written_whole_or_not_at_all(tmp_path):
    def broken():
        yield Utterance("u1", 1.0, audio_filepath="/x/a.wav")
        raise RuntimeError

    path = tmp_path / "m.jsonl"
    path.write_text("old")
    with pytest.raises(RuntimeError):
        write_manifest(path, broken())
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot write this manifest"):
        write_manifest(tmp_path / "file" / "m.jsonl", [])


def test_an_opened_manifest_gives_what_reading_it_gives(tmp_path):
    lines = [
        b"\xef\xbb\xbf" + GOOD.encode() + b"\r",
        "",
        '{"audio_filepath": "b/a.wav", "duration": 2.25, "offset": 0.5, "note": "\\u00e4"}',
        '{"features_filepath": "f.ark:12", "duration": 3, "id": "ü"}',
        "   ",
        '{"audio_filepath": "c/a.wav", "duration": 1}',
    ]
    path = manifest(tmp_path, *lines)
    found, read = Manifest(path, check_files=False), read_manifest(path, check_files=False)
    assert [u.id for u in read] == ["a", "a-2", "ü", "a-3"]
    assert list(found) == read == [found[i] for i in range(4)] == list(found[:])
    assert found[-1] == read[-1]
    assert found[1:3] == read[1:3]
    with pytest.raises(IndexError):
        found[4]
    assert found.durations.tolist() == durations(read).tolist() == [1.5, 2.25, 3.0, 1.0]
    assert list(pickle.loads(pickle.dumps(found))) == read
    assert found.shards is None


def test_utterances_of_small_manifests_are_kept_those_of_large_ones_parsed_again(tmp_path, monkeypatch):
    path = manifest(tmp_path, GOOD, '{"audio_filepath": "b.wav", "duration": 1}')
    small = Manifest(path, check_files=False)
    assert small[1] is small[1]
    monkeypatch.setattr("asr.data.manifest._SMALL", 1)
    large = Manifest(path, check_files=False)
    assert large[1] == small[1]
    assert large[1] is not large[1]


def test_a_line_that_changed_after_it_was_read_is_told(tmp_path):
    path = manifest(tmp_path, GOOD, GOOD)
    found = Manifest(path, check_files=False)
    path.write_bytes(b"x" * path.stat().st_size)
    with pytest.raises(DataError, match=r"m\.jsonl: has changed since it was opened"):
        found[1]


def test_addresses_and_parts_of_files_stay_what_they_are(tmp_path):
    paths = ["s3://bucket/a.flac", "x/../y.tar:512:99", "https://host/a.tar:5:6", str(tmp_path / "z.wav")]
    path = manifest(tmp_path, *(json.dumps({"audio_filepath": p, "duration": 1, "id": p}) for p in paths))
    found = read_manifest(path, check_files=False)
    assert [u.audio_filepath for u in found] == [paths[0], f"{tmp_path}/y.tar:512:99", *paths[2:]]
    write_manifest(path, found)
    assert read_manifest(path, check_files=False) == found
    with pytest.raises(DataError, match=r"m\.jsonl:2: 2 of 4 files do not exist, first .*/y\.tar;"):
        read_manifest(path)


MILLION = """
import json, resource, sys
import numpy as np
from asr.data.manifest import Manifest
from asr.data.sampler import BatchSampler

path, count = sys.argv[1], 1_000_000
with open(path, "w") as file:
    for i in range(count):
        text = f"number {i} " * 9
        fields = {"audio_filepath": f"a/{i % 7}/{i // 7}.wav", "duration": 1 + i % 13, "text": text}
        if i % 2:
            fields["id"] = f"u{i}"
        file.write(json.dumps(fields) + "\\n")
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()
found = Manifest(path, check_files=False)
batches = BatchSampler(found.durations, batch_seconds=600, shuffle=True).batches(0)
assert sorted(i for batch in batches for i in batch) == list(range(count))
for i in (0, 1, 500_001, count - 1):
    assert found[i].text == f"number {i} " * 9 and found[i].duration == 1 + i % 13
    assert i % 2 == 0 or found[i].id == f"u{i}"
assert found[14].id == "2" and found[16].id == "2-2"
print(before, peak())
with open(path, "a") as file:
    file.write(json.dumps({"audio_filepath": "b.wav", "duration": 1, "id": "u77"}))
try:
    Manifest(path, check_files=False)
except Exception as error:
    print(error)
"""


@pytest.mark.slow
def test_a_million_lines_are_opened_in_little_memory(tmp_path):
    path = tmp_path / "m.jsonl"
    result = subprocess.run([sys.executable, "-c", MILLION, str(path)], capture_output=True, text=True)
    memory, error = result.stdout.splitlines()
    _, peak = map(int, memory.split())
    assert peak < 2000, f"{peak} MB"
    assert error == f"{path}:1000001: id 'u77' is already used on line 78; make ids unique"
