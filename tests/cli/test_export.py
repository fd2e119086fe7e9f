"""`asr export` as a user calls it."""

import json

import pytest

from asr.cli.main import main

TOKENS = {"_target_": "asr.text.CharacterTokenizer", "characters": list("abcdefgh")}


@pytest.fixture
def model(tiny_recognizer, tmp_path):
    from asr.model_file import save_model

    save_model(tmp_path / "model.asr", tiny_recognizer(TOKENS), {})
    return tmp_path / "model.asr"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-o", "{folder}/model.bin"], "give --format onnx or pt2"),
        (["-o", "{folder}/model.onnx", "--input", "features"], "give --verify MANIFEST"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(options, message, model, tmp_path, capsys):
    assert main(["export", str(model), *(o.format(folder=tmp_path) for o in options)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.slow
def test_a_table_shows_that_the_exported_model_says_the_same(model, tmp_path, capsys):
    import soundfile
    import torch

    pytest.importorskip("onnxscript")
    soundfile.write(tmp_path / "a.wav", 0.1 * torch.randn(8000).numpy(), 8000)
    line = {"audio_filepath": "a.wav", "duration": 1.0, "text": "abc"}
    (tmp_path / "test.jsonl").write_text(json.dumps(line) + "\n")
    output = tmp_path / "model.onnx"
    verify = ["--verify", str(tmp_path / "test.jsonl")]
    assert main(["export", str(model), "-o", str(output), "--int8", *verify]) == 0
    table = capsys.readouterr().out
    assert output.exists()
    rows = {row.split("│")[1].strip(): row.split("│")[3].strip() for row in table.splitlines() if "│" in row}
    assert rows["PyTorch"] == rows["ONNX"] != ""
    assert "ONNX int8" in rows
