"""`asr pack`, as it is typed."""

import json

import numpy as np
import pytest
import soundfile

from asr.cli.main import main
from asr.cli.pack import parse_size
from asr.data.manifest import read_manifest
from asr.errors import ConfigError


@pytest.fixture
def manifest(tmp_path):
    samples = np.random.default_rng(0).uniform(-1, 1, 8000)
    soundfile.write(tmp_path / "a.wav", samples, 8000, subtype="PCM_24")
    lines = [
        {"id": f"u{i}", "audio_filepath": "a.wav", "offset": 0.1 * i, "duration": 0.1, "text": "one"}
        for i in range(9)
    ]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return str(tmp_path / "m.jsonl")


def test_what_was_done_is_printed_also_the_second_time(manifest, tmp_path, capsys):
    for _ in range(2):
        assert main(["pack", manifest, str(tmp_path / "out"), "--shard-utterances", "4", "--jobs", "1"]) == 0
        captured = capsys.readouterr()
        assert captured.err == ""
        first, *others = captured.out.splitlines()
        assert first.startswith(f"{tmp_path / 'out'}: 9 utterances of 0.00 h in 3 shards of ")
        assert others == [
            "9 utterances are parts of recordings and were cut out",
            "9 utterances had more than 16 bits a sample and were rounded to that",
        ]
    assert len(read_manifest(tmp_path / "out")) == 9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--shard-size", "much"], "--shard-size much: give a size such as 500MB"),
        (["--shard-utterances", "0"], "--shard-utterances 0: give 1 or more"),
        (["--jobs", "0"], "--jobs 0: give 1 or more"),
        (["--seed", "-1"], "--seed -1: give 0 or more"),
    ],
)
def test_bad_values_are_told_in_one_line(manifest, tmp_path, capsys, options, message):
    assert main(["pack", manifest, str(tmp_path / "out"), *options]) == 2
    assert capsys.readouterr().err == f"asr: error: {message}\n"


@pytest.mark.parametrize(
    ("text", "size"), [("500MB", 500_000_000), ("2G", 2 * 10**9), ("1.5kB", 1500), ("70000", 70000)]
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["0", "-5", "1e9", "5 PB", "1.5g"])
def test_what_is_no_size(text):
    with pytest.raises(ConfigError, match="give a size"):
        parse_size(text)
