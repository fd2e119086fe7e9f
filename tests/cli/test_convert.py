"""`asr convert` and `asr prepare lhotse:` as a user runs them, on real recordings."""

import json
import random
import tarfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from threading import Thread

import numpy as np
import pytest

from asr import audio
from asr.cli.main import main
from asr.data.feature_files import read_features
from asr.data.manifest import read_manifest
from asr.features import Mfcc, SphinxMfcc


@pytest.fixture(scope="module")
def an4(archive, tmp_path_factory):
    """Return the folder of the AN4 sample."""
    folder = tmp_path_factory.mktemp("an4")
    with tarfile.open(archive("an4_wav_sample.tar.gz")) as tar:
        tar.extractall(folder, filter="data")
    return folder / "an4_wav_sample"


@pytest.fixture(scope="module")
def digits(archive, tmp_path_factory):
    """Return a function from a digit and a speaker to a recording, float32 at 8 kHz."""
    folder = tmp_path_factory.mktemp("fsdd")
    with tarfile.open(archive("free-spoken-digit-dataset-1.0.10.tar.gz")) as tar:
        members = [m for m in tar.getmembers() if m.name.endswith("_theo_0.wav")]
        tar.extractall(folder, members, filter="data")
    files = {path.name[0]: path for path in folder.rglob("*.wav")}
    return lambda digit: audio.load(files[str(digit)], sample_rate=8000).samples


def test_nemo_manifests_of_an4_there_and_back(an4, tmp_path, capsys):
    assert main(["convert", str(an4 / "an4_train.json"), str(tmp_path / "m.jsonl")]) == 0
    out = capsys.readouterr().out
    assert out.startswith("30 utterances, 0.02 hours, unknown speakers: ")
    assert "(read as manifest)" in out
    lines = [json.loads(line) for line in (an4 / "an4_train.json").read_text().splitlines()]
    read = read_manifest(tmp_path / "m.jsonl")
    assert [(u.text, u.duration) for u in read] == [(x["text"], x["duration"]) for x in lines]
    assert [u.audio_filepath for u in read] == [str(an4 / x["audio_filepath"]) for x in lines]

    assert main(["convert", str(tmp_path / "m.jsonl"), str(tmp_path / "kaldi"), "--to", "espnet"]) == 0
    assert main(["convert", str(tmp_path / "kaldi"), str(tmp_path / "again.jsonl")]) == 0
    assert sorted(read, key=lambda u: u.id) == read_manifest(tmp_path / "again.jsonl")


def test_the_kaldi_folder_of_an4_holds_kaldi_features(an4, tmp_path, capsys):
    assert main(["convert", str(an4 / "kaldi_an4"), str(tmp_path / "m.jsonl")]) == 0
    assert "features of 13 values a frame, of a kind that" in capsys.readouterr().err
    utterances = {u.id: u for u in read_manifest(tmp_path / "m.jsonl")}
    assert len(utterances) == 20
    frames = read_features(utterances["fcaw-an409-b"].features_filepath)
    assert utterances["fcaw-an409-b"].text == "GO"
    # The same utterance is there as audio: the features are Kaldi's standard MFCC, but for its random
    # dither, and not those of Sphinx.
    import torch

    samples = audio.load(an4 / "test/an4/wav/an409-fcaw-b.wav", sample_rate=16000).samples
    kaldi = Mfcc()(torch.from_numpy(samples)[None])[0].numpy()
    sphinx = SphinxMfcc()(torch.from_numpy(samples)[None])[0].numpy()
    assert kaldi.shape == frames.shape
    assert np.abs(kaldi - frames).mean() < 0.3
    assert np.abs(sphinx[: len(frames)] - frames).mean() > 10


def test_kaldi_features_go_there_and_back(an4, tmp_path):
    source = str(tmp_path / "m.jsonl")
    assert main(["convert", str(an4 / "kaldi_an4"), source]) == 0
    assert main(["convert", source, str(tmp_path / "kaldi"), "--to", "kaldi"]) == 0
    assert main(["convert", str(tmp_path / "kaldi"), str(tmp_path / "again.jsonl")]) == 0
    assert read_manifest(source) == read_manifest(tmp_path / "again.jsonl")
    assert main(["convert", source, str(tmp_path / "x.csv"), "--to", "mozilla"]) == 2


def test_features_of_another_size_are_refused(an4, tmp_path, capsys, tiny_recognizer):
    from asr.model_file import save_model

    tokenizer = {"_target_": "asr.text.CharacterTokenizer", "characters": "ABCDEFGHIJKLMNOPQRSTUVWXYZ "}
    save_model(tmp_path / "model.asr", tiny_recognizer(tokenizer, sample_rate=16000), {})
    assert main(["convert", str(an4 / "kaldi_an4"), str(tmp_path / "m.jsonl")]) == 0
    capsys.readouterr()
    arguments = [
        "evaluate",
        str(tmp_path / "model.asr"),
        str(tmp_path / "m.jsonl"),
        "-o",
        str(tmp_path / "out"),
    ]
    assert main(arguments) in (1, 2)
    assert "13 coefficients a frame, the front end takes 20" in capsys.readouterr().err


def test_missing_audio_is_said_and_is_status_1(tmp_path, capsys):
    (tmp_path / "x.json").write_text('{"audio_filepath": "gone.wav", "duration": 1.0, "text": "a"}\n')
    assert main(["convert", str(tmp_path / "x.json"), str(tmp_path / "m.jsonl")]) == 1
    captured = capsys.readouterr()
    assert f"1 of 1 files do not exist, the first {tmp_path / 'gone.wav'}" in captured.err
    assert len(read_manifest(tmp_path / "m.jsonl", check_files=False)) == 1


def test_losses_are_said_in_words(an4, tmp_path, capsys):
    lines = [json.loads(line) for line in (an4 / "an4_val.json").read_text().splitlines()]
    source = an4 / "with_speakers.json"
    source.write_text(
        "".join(json.dumps(x | {"speaker": "s", "id": f"u{i}"}) + "\n" for i, x in enumerate(lines))
    )
    assert main(["convert", str(source), str(tmp_path / "m.csv"), "--to", "mozilla"]) == 0
    err = capsys.readouterr().err
    assert "asr: mozilla: 10 utterances lose speaker, the first 's' of u0\n" in err
    assert "asr: mozilla: 10 utterances change id, the first 'u0' to 'an443-mmxg-b'\n" in err


@pytest.fixture(scope="module")
def yesno(digits, tmp_path_factory):
    """Return a folder laid out as the corpus yesno is, of digits in place of Hebrew."""
    folder = tmp_path_factory.mktemp("corpus") / "waves_yesno"
    folder.mkdir()
    for answers in random.Random(0).sample(list(product("01", repeat=8)), 60):
        audio.save(folder / f"{'_'.join(answers)}.wav", np.concatenate([digits(a) for a in answers]), 8000)
    return folder


def test_a_corpus_that_lhotse_knows(yesno, tmp_path, capsys):
    pytest.importorskip("lhotse")
    out = tmp_path / "data"
    assert main(["prepare", "lhotse:yesno", "--archive", str(yesno), "--output-dir", str(out)]) == 0
    assert f"{out}/train.jsonl: 30 utterances" in capsys.readouterr().out
    for name in ("train", "test"):
        for u in read_manifest(out / f"{name}.jsonl"):
            assert u.text == " ".join({"0": "NO", "1": "YES"}[answer] for answer in u.id.split("_"))
            assert u.duration == audio.info(u.audio_filepath).duration


def test_a_corpus_that_lhotse_downloads(yesno, tmp_path, capsys):
    pytest.importorskip("lhotse")
    with tarfile.open(tmp_path / "waves_yesno.tar.gz", "w:gz") as tar:
        tar.add(yesno, "waves_yesno")
    with ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=tmp_path)
    ) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"url=http://127.0.0.1:{server.server_port}/waves_yesno.tar.gz"
        status = main(["prepare", "lhotse:yesno", url, "--output-dir", str(tmp_path / "data")])
        server.shutdown()
    assert status == 0
    assert "lhotse downloads yesno into" in capsys.readouterr().err
    assert len(read_manifest(tmp_path / "data" / "test.jsonl")) == 30


def test_a_corpus_without_splits(digits, tmp_path):
    pytest.importorskip("lhotse")
    corpus = tmp_path / "LJSpeech-1.1"
    (corpus / "wavs").mkdir(parents=True)
    for i in range(3):
        audio.save(corpus / "wavs" / f"LJ001-000{i}.wav", digits(i), 8000)
    (corpus / "metadata.csv").write_text("".join(f"LJ001-000{i}|No. {i}|number {i}\n" for i in range(3)))
    out = tmp_path / "data"
    assert main(["prepare", "lhotse:ljspeech", "--archive", str(corpus), "--output-dir", str(out)]) == 0
    (first, *others) = read_manifest(out / "ljspeech.jsonl")
    assert (first.id, first.text, first.extra["normalized_text"]) == ("LJ001-0000", "No. 0", "number 0")
    assert len(others) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lhotse:yesnoo"], "lhotse knows no such corpus; did you mean yesno"),
        (["lhotse:yesno", "--archive", "nowhere"], "nowhere: no such folder"),
        (
            ["lhotse:yesno", "--archive", ".", "ulr=x"],
            "not an option of lhotse:yesno; did you mean url?",
        ),
        (["lhotse:yesno", "--archive", "."], "prepare_yesno failed (AssertionError"),
        (["lhotse:cslu_kids"], "lhotse cannot download it; give the folder of your copy with --archive"),
    ],
)
def test_what_lhotse_cannot_prepare(tmp_path, capsys, monkeypatch, arguments, message):
    pytest.importorskip("lhotse")
    monkeypatch.chdir(tmp_path)
    assert main(["prepare", *arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in error


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        ("lhotse", ["prepare", "lhotse:yesno"], "pip install 'asr[lhotse]'"),
        ("lhotse", ["convert", "m.jsonl", "x", "--to", "lhotse-shar"], "pip install 'asr[lhotse]'"),
        ("pyarrow", ["convert", "m.jsonl", "x", "--to", "datasets"], "pip install pyarrow"),
    ],
)
def test_missing_libraries_are_named(tmp_path, capsys, monkeypatch, module, arguments, message):
    import sys

    monkeypatch.chdir(tmp_path)
    audio.save(tmp_path / "a.wav", np.zeros(800, np.float32), 8000)
    (tmp_path / "m.jsonl").write_text('{"audio_filepath": "a.wav", "duration": 0.1, "text": "a"}\n')
    monkeypatch.setitem(sys.modules, module, None)
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.wav", "m.jsonl"]
