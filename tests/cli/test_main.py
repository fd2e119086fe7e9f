"""The program as a person runs it: the whole path, its speed to answer, its errors in one line."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from asr.cli.config import load_config
from asr.cli.main import main

ASR = [sys.executable, "-m", "asr.cli.main"]
TINY = [
    "num_train=16",
    "num_dev=4",
    "num_test=6",
    "trainer.epochs=2",
    "trainer.accelerator=cpu",
    "model.encoder.hidden_size=16",
    "model.encoder.num_layers=1",
    "model.subsampling.channels=16",
]


def asr(*arguments, cwd, **environment):
    return subprocess.run(
        [*ASR, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder outside the clone in which a tiny recipe has been run."""
    folder = tmp_path_factory.mktemp("run")
    result = asr("run", "recipes/digits/blstm.yaml", "output_dir=out", *TINY, cwd=folder)
    assert result.returncode == 0, result.stderr
    return folder, result


def test_run_leaves_what_it_promises(finished):
    folder, result = finished
    out = folder / "out"
    names = ("model.asr", "metrics.jsonl", "journal.jsonl", "config.yaml", "report.html")
    names += ("test/hyp.jsonl", "test/wer.json")
    assert all((out / name).is_file() for name in names)
    wer = json.loads((out / "test" / "wer.json").read_text())
    assert {"wer", "cer", "num_words", "substitutions", "deletions", "insertions", "hits"} <= wer.keys()
    assert wer["num_words"] == wer["hits"] + wer["substitutions"] + wer["deletions"]
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 2
    assert "WER" in result.stdout
    assert "Traceback" not in result.stderr


def test_a_second_run_does_nothing_again(finished):
    folder, _ = finished
    before = (folder / "out" / "model.asr").stat().st_mtime_ns
    started = time.monotonic()
    result = asr("run", "recipes/digits/blstm.yaml", "output_dir=out", *TINY, cwd=folder)
    assert result.returncode == 0, result.stderr
    assert (folder / "out" / "model.asr").stat().st_mtime_ns == before
    assert time.monotonic() - started < 60


def test_evaluate_transcribe_and_score_agree(finished):
    folder, _ = finished
    result = asr(
        "evaluate", "out/model.asr", "data/digits/test.jsonl", "--output-dir", "again", "--json", cwd=folder
    )
    assert result.returncode == 0, result.stderr
    first = [json.loads(line) for line in (folder / "out/test/hyp.jsonl").open()]
    again = [json.loads(line) for line in (folder / "again/hyp.jsonl").open()]
    assert [line["pred_text"] for line in first] == [line["pred_text"] for line in again]

    files = [folder / "out" / "test" / line["audio_filepath"] for line in again]
    assert all(file.is_file() for file in files)
    result = asr("transcribe", *files, "--model", "out/model.asr", "-o", "text", "-f", "json", cwd=folder)
    assert result.returncode == 0, result.stderr
    transcribed = {p.stem: json.loads(p.read_text())["text"] for p in (folder / "text").glob("*.json")}
    assert transcribed == {Path(line["audio_filepath"]).stem: line["pred_text"] for line in again}

    result = asr("score", "again/hyp.jsonl", "again/hyp.jsonl", "--json", cwd=folder)
    ours = json.loads((folder / "again/wer.json").read_text())
    scored = json.loads(result.stdout)
    assert {key: scored[key] for key in ours} == ours


def test_a_broken_file_does_not_stop_an_evaluation(finished):
    folder, _ = finished
    lines = [json.loads(line) for line in (folder / "data/digits/test.jsonl").open()]
    (folder / "broken.wav").write_bytes(b"RIFF not audio")
    for line in lines:
        line["audio_filepath"] = str(folder / "data/digits" / line["audio_filepath"])
    lines[1]["audio_filepath"] = str(folder / "broken.wav")
    (folder / "some.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = asr("evaluate", "out/model.asr", "some.jsonl", "--output-dir", "some", cwd=folder)
    assert result.returncode == 1
    assert "broken.wav" in result.stderr
    assert result.stderr.strip().splitlines()[-1].startswith("1 utterances could not be read")
    assert len((folder / "some/hyp.jsonl").read_text().splitlines()) == len(lines) - 1


def test_info_describes_the_model(finished):
    folder, _ = finished
    result = asr("info", "out/model.asr", cwd=folder)
    assert "digits-blstm" in result.stdout
    assert "16000 Hz" in result.stdout
    assert json.loads(asr("info", "out/model.asr", "--json", cwd=folder).stdout)["info"]["run"]["seed"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "recipes/none/blstm.yaml"], "recipes/none/blstm.yaml: no such recipe"),
        (["train", "recipes/digits"], "is a folder; give one of its YAML files"),
        (["train", "recipes/digits/blstm.yaml", "trainer.epoch=3"], "epoch"),
        (
            ["train", "recipes/digits/blstm.yaml", "trainer.epochs=many"],
            "trainer.epochs: expected int, found 'many'",
        ),
        (["train", "recipes/digits/blstm.yaml", "model=transformer"], "transformer"),
        (["train", "recipes/digits/blstm.yaml", "+colour=red"], "colour: unknown"),
        (["train", "recipes/digits/blstm.yaml", "+trainer.colour=red"], "trainer.colour"),
        (["train", "recipes/digits/blstm.yaml", "seed=one"], "seed: expected int, found 'one'"),
        (["train", "recipes/digits/blstm.yaml", "not=an (override"], "not=an (override: cannot be read"),
        (["train", "recipes/digits/blstm.yaml", "seed=-1"], "seed: must be 0 or more, found -1"),
        (["train", "recipes/digits/blstm.yaml", "trainer.accelerator=foo"], "one of auto, cpu, cuda"),
        (["train", "recipes/digits/blstm.yaml", "num_train=few"], "num_train: expected int, found 'few'"),
        (["train", "recipes/digits/blstm.yaml", "data=3"], "data"),
        (["train", "recipes/digits/blstm.yaml", "model=3"], "Config group override must be a string"),
        (["train", "recipes/digits/blstm.yaml", "data.train=5"], "data.train: expected a path, found 5"),
        (["prepare", "recipes/digits", "num_train=few"], "num_train: expected int, found 'few'"),
        (["prepare", "--output-dir", "o", "recipes/fsdd", "speaker=me"], "speaker: 'me' is none of"),
        (["prepare", "recipes/fsdd", "--output-dir", "o", "speaker=me"], "speaker: 'me' is none of"),
        (["train", "recipes/digits/blstm.yaml", "output_dir=/proc/none"], "output_dir /proc/none: cannot be"),
        (["train", "recipes/digits/blstm.yaml", "data.train=none.jsonl", "output_dir=o"], "none.jsonl"),
        (["evaluate", "none.asr", "none.jsonl"], "none.asr: no such model file"),
        (["prepare", "recipes/digits", "size=3"], "size=3: not an option"),
        (["info", "none.asr"], "none.asr: no such model file"),
        (["check", "none.jsonl"], "none.jsonl"),
        (["score", "none.trn", "none.trn"], "none.trn"),
        (["transcribe", "none.wav", "--model", "none.asr"], "none"),
    ],
)
def test_a_mistake_is_one_line_without_a_traceback(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) != 0
    captured = capsys.readouterr()
    assert message in captured.err + captured.out
    assert len([line for line in captured.err.splitlines() if line.startswith("asr: ")]) <= 1


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("trainer.batch_seconds=0", "batch_seconds must be positive"),
        ("trainer.num_workers=-1", "num_workers must be 0 or more"),
        ("optimizer.betas=[0.9]", "betas are two numbers"),
        ("optimizer.lr=0", "lr must be positive"),
        ("augment.spec.frequency_width=-1", "masks and widths must be 0 or more"),
        ("augment.speed.factors=[0.001]", "speed factors must lie between"),
        ("scheduler.final=-5", "final is a share of the peak rate"),
    ],
)
def test_a_value_out_of_range_is_one_line(finished, setting, message, monkeypatch, capsys):
    folder, _ = finished
    monkeypatch.chdir(folder)
    assert main(["train", "recipes/digits/blstm.yaml", "output_dir=range", *TINY, setting]) == 2
    assert message in capsys.readouterr().err
    assert not (folder / "range" / "model.asr").exists()


def test_a_folder_of_the_same_name_does_not_hide_a_recipe(tmp_path, monkeypatch):
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits" / "prepare.py").write_text("raise SystemExit('the wrong file')")
    monkeypatch.chdir(tmp_path)
    assert load_config("recipes/digits/blstm.yaml")["data"]["recipe"] == "digits"


def test_a_missing_file_does_not_stop_an_evaluation(finished, monkeypatch, capsys):
    folder, _ = finished
    monkeypatch.chdir(folder)
    lines = [json.loads(line) for line in (folder / "data/digits/test.jsonl").open()]
    for line in lines:
        line["audio_filepath"] = str(folder / "data/digits" / line["audio_filepath"])
    lines[0]["audio_filepath"] = "gone.wav"
    lines[1]["duration"] = 100.0
    lines[2]["text"] = "forty two"
    (folder / "gone.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["evaluate", "out/model.asr", "gone.jsonl", "--output-dir", "gone"]) == 1
    error = capsys.readouterr().err
    assert "gone.wav: no such file" in error
    assert "1 gone utterances (duration)" in error
    assert "1 gone utterances (alphabet)" in error
    assert "could not be read" in error.splitlines()[-1]


def test_several_mistakes_in_a_configuration_are_listed_together(tmp_path, monkeypatch, capsys):
    (tmp_path / "bad.yaml").write_text(
        "defaults: [base, features: logmel, augment: none, tokenizer: characters, model: blstm, "
        "optimizer: adamw, scheduler: warmup_cosine, trainer: default, decoder: greedy, _self_]\n"
        "name: bad\n"
        "data: {recipe: null, dir: ., train: a, dev: b}\n"
        "features: {extractor: {n_mel: 40}}\n"
        "model: {encoder: {hidden_size: large}}\n"
    )
    monkeypatch.chdir(tmp_path)
    assert main(["train", "bad.yaml"]) == 2
    error = capsys.readouterr().err
    assert "n_mel" in error
    assert "did you mean 'n_mels'" in error
    assert "model.encoder.hidden_size: expected int, found 'large'" in error
    assert len(error.strip().splitlines()) == 1


@pytest.mark.parametrize("arguments", [[], ["run"], ["train"], ["transcribe"], ["score"], ["info"]])
def test_help_is_quick_and_loads_nothing_heavy(arguments):
    code = (
        "import sys, runpy; sys.argv = ['asr', *sys.argv[1:], '--help']\n"
        "try: runpy.run_module('asr.cli.main', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print('HEAVY', {'torch', 'numpy', 'rich', 'hydra', 'librosa', 'yaml'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert "HEAVY set()" in result.stdout
    assert "examples:" in result.stdout


def test_an_interrupted_training_says_how_to_go_on_and_does(tmp_path):
    command = ["run", "recipes/digits/blstm.yaml", "output_dir=out", *TINY, "trainer.epochs=100"]
    process = subprocess.Popen(
        [*ASR, *command], cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    checkpoint = tmp_path / "out" / "checkpoint.pt"
    deadline = time.monotonic() + 240
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.terminate()
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Go on with:\n  asr run recipes/digits/blstm.yaml output_dir=out" in stderr
    assert "Traceback" not in stderr
