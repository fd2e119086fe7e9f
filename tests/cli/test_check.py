import argparse
import json

import numpy as np
import pytest
import soundfile

from asr.cli import check
from asr.model_file import save_model

RATE = 8000


@pytest.fixture
def run(capsys):
    def run(*argv: object) -> tuple[int, str]:
        parser = argparse.ArgumentParser()
        check.add_parser(parser.add_subparsers())
        args = parser.parse_args(["check", *map(str, argv)])
        return args.run(args), capsys.readouterr().out

    return run


@pytest.fixture
def corpus(tmp_path):
    """Two sound utterances of two speakers, 1 s each, in good.jsonl; bad.jsonl has what is wrong as well."""
    soundfile.write(tmp_path / "a.wav", np.full(RATE, 0.1), RATE)
    soundfile.write(tmp_path / "quiet.wav", np.zeros(RATE), RATE)
    (tmp_path / "empty.wav").touch()
    good = [
        {"audio_filepath": "a.wav", "duration": 1, "text": "one", "speaker": "s"},
        {"audio_filepath": "a.wav", "duration": 1, "text": "two", "speaker": "t"},
    ]
    bad = [
        *({"audio_filepath": f"missing{i}.wav", "duration": 1, "text": "one"} for i in range(5)),
        {"audio_filepath": "empty.wav", "duration": 1, "text": "one"},
        {"audio_filepath": "quiet.wav", "duration": 1, "text": "one"},
        {"audio_filepath": "a.wav", "duration": 1, "text": "öne"},
        {"audio_filepath": "a.wav", "duration": 1, "text": "one " * 10},
    ]
    for name, lines in {"good": good, "bad": good + bad}.items():
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "broken.jsonl").write_text("no manifest")
    return tmp_path


@pytest.fixture
def model(tiny_recognizer, tmp_path):
    """A model that spells e, n, o, t and w and has about 25 frames a second."""
    path = tmp_path / "model.asr"
    letters = {"_target_": "asr.text.CharacterTokenizer", "characters": "enotw"}
    save_model(path, tiny_recognizer(letters, sample_rate=RATE, stride=4), {})
    return path


def test_sound_data_exits_0(run, corpus, model):
    status, out = run(corpus / "good.jsonl", "--model", model)
    assert status == 0
    assert out.splitlines() == [
        f"{corpus}/good.jsonl: 2 utterances, 0.00 hours, 2 speakers",
        "0 errors, 0 warnings in 2 utterances",
    ]


def test_problems_are_counted_by_kind_with_their_first_files(run, corpus, model):
    status, out = run(corpus / "good.jsonl", corpus / "bad.jsonl", "--model", model)
    assert status == 1
    lines = out.splitlines()
    counts = {tuple(line.split()) for line in lines if line.startswith("  ") and line.split()[-1].isdigit()}
    assert counts == {
        ("error", "alphabet", "1"),
        ("error", "too_long", "1"),
        ("error", "unreadable", "6"),
        ("warning", "silent", "1"),
    }
    assert sum("missing" in line for line in lines) == 3
    assert "    and 3 more" in lines
    assert any("'ö'" in line for line in lines)
    assert lines[-1] == "8 errors, 1 warning in 13 utterances"


def test_json_lists_every_problem(run, corpus, model):
    status, out = run(corpus / "bad.jsonl", "--json", "--model", model)
    report = json.loads(out)
    assert status == 1
    assert (report["errors"], report["warnings"], report["utterances"]) == (8, 1, 11)
    [manifest] = report["manifests"]
    assert manifest["hours"] == pytest.approx(11 / 3600)
    assert manifest["speakers"] == 2
    assert len(manifest["problems"]) == 9
    assert manifest["problems"][0]["path"] == f"{corpus}/missing0.wav"
    assert manifest["problems"][0].keys() == {"id", "path", "kind", "message", "severity"}


def test_without_audio_or_model_it_says_what_was_not_checked(run, corpus):
    status, out = run(corpus / "bad.jsonl", "--no-audio")
    assert status == 0
    assert "audio not read" in out
    assert "alphabet and length of the text not checked" in out


def test_a_broken_manifest_does_not_hide_the_others(run, corpus):
    status, out = run(corpus / "broken.jsonl", corpus / "nowhere.jsonl", corpus / "good.jsonl", "--json")
    report = json.loads(out)
    assert status == 1
    assert [manifest["utterances"] for manifest in report["manifests"]] == [0, 0, 2]
    assert [manifest["problems"][0]["kind"] for manifest in report["manifests"][:2]] == ["manifest"] * 2
    assert "broken.jsonl:1: not JSON" in report["manifests"][0]["problems"][0]["message"]
