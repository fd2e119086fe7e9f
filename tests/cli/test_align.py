"""The command ``asr align``."""

import argparse
import json

import numpy as np
import pytest
import soundfile as sf

from asr.cli import align
from asr.errors import AsrError, ConfigError, DataError
from asr.model_file import save_model

RATE = 8000


@pytest.fixture(scope="module")
def model(tiny_recognizer, tmp_path_factory):
    characters = {"_target_": "asr.text.CharacterTokenizer", "characters": " abcde"}
    path = tmp_path_factory.mktemp("model") / "model.asr"
    save_model(path, tiny_recognizer(characters, sample_rate=RATE), {})
    return path


@pytest.fixture
def run(model, tmp_path, capsys):
    def run(*argv):
        parser = argparse.ArgumentParser()
        align.add_parser(parser.add_subparsers())
        args = parser.parse_args(
            ["align", "--model", str(model), "-o", str(tmp_path / "out"), *map(str, argv)]
        )
        status = args.run(args)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def talk(tmp_path):
    sf.write(tmp_path / "my talk.wav", 0.1 * np.random.default_rng(0).standard_normal(2 * RATE), RATE)
    (tmp_path / "talk.txt").write_text("ab cab\nZ deé\n")
    return tmp_path / "my talk.wav", tmp_path / "talk.txt"


def written(tmp_path):
    return sorted(path.name for path in (tmp_path / "out").iterdir())


def test_a_recording_and_its_text_give_all_formats(run, talk, tmp_path):
    status, printed, said = run(*talk)
    assert status == 1
    assert written(tmp_path) == [f"my talk.{name}" for name in ("TextGrid", "ctm", "json", "srt")]
    content = json.loads((tmp_path / "out/my talk.json").read_text())
    words = [w["word"] for w in content["words"]] + [m["word"] for m in content["missing"]]
    assert sorted(words) == sorted(["ab", "cab", "Z", "deé"])
    assert f"{len(content['words'])} of 4 words aligned in 2.0 s" in printed
    assert "the model has no token for 'z' (1), 'é' (1)" in said
    assert "cannot be spelled: 'Z', line 2" in said


def test_formats_are_chosen_in_any_case(run, talk, tmp_path):
    run(*talk, "-f", "textgrid,srt")
    assert written(tmp_path) == ["my talk.TextGrid", "my talk.srt"]


def test_a_manifest_gives_a_file_an_utterance_and_one_ctm(run, talk, tmp_path):
    lines = [
        {"id": "x/1", "audio_filepath": "my talk.wav", "duration": 1.0, "text": "ab"},
        {"id": "x2", "audio_filepath": "my talk.wav", "duration": 1.0, "offset": 1.0, "text": "cab"},
        {"id": "gone", "audio_filepath": "gone.wav", "duration": 1.0, "text": "cab"},
    ]
    (tmp_path / "set.jsonl").write_text("\n".join(map(json.dumps, lines)))
    status, printed, said = run(tmp_path / "set.jsonl", "-f", "ctm,json")
    assert status == 1
    assert printed.startswith("2 utterances aligned")
    assert "1 failed" in printed
    assert "gone.wav" in said
    assert written(tmp_path) == ["set.ctm", "x2.json", "x_1.json"]
    ids = [line.split()[0] for line in (tmp_path / "out/set.ctm").read_text().splitlines()]
    assert ids == sorted(ids)
    assert set(ids) <= {"x/1", "x2"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "talk.txt: the transcript is empty"),
        (b"caf\xe9", "talk.txt: not UTF-8 .byte 0xe9 at 3."),
        (b"123", "no word that the model can spell"),
    ],
)
def test_a_bad_transcript_is_named_with_its_remedy(run, talk, text, message):
    talk[1].write_bytes(text)
    with pytest.raises(DataError, match=message):
        run(*talk)


def test_missing_arguments_and_files_are_named(run, talk, tmp_path):
    with pytest.raises(ConfigError, match=r"asr align AUDIO TEXT"):
        run(talk[0])
    with pytest.raises(DataError, match=r"none\.txt: cannot read this transcript"):
        run(talk[0], tmp_path / "none.txt")
    with pytest.raises(AsrError, match=r"none\.wav"):
        run(tmp_path / "none.wav", talk[1])
    (tmp_path / "set.jsonl").write_text(json.dumps({"audio_filepath": "my talk.wav", "duration": 1.0}))
    with pytest.raises(DataError, match="1 utterances have no text to align"):
        run(tmp_path / "set.jsonl")


def test_an_unknown_format_lists_the_known(run, talk, capsys):
    with pytest.raises(SystemExit):
        run(*talk, "-f", "praat")
    assert "choose from TextGrid, ctm, json, srt, all" in capsys.readouterr().err
