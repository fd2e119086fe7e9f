"""Digits cut out of AN4: sound made of cepstra, and where it is cut."""

import importlib.util
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import signal

from asr import audio
from asr.cli.main import main
from asr.data.manifest import read_manifest
from asr.features import SphinxMfcc

FOLDER = Path(__file__).parents[2] / "recipes" / "fsdd"


@pytest.fixture(scope="module")
def voices():
    """The module voices.py."""
    spec = importlib.util.spec_from_file_location("fsdd_voices", FOLDER / "voices.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_vocoded_speech_has_the_spectrum_of_the_speech(voices, archive, tmp_path):
    with tarfile.open(archive("an4_wav_sample.tar.gz")) as tar:
        tar.extractall(tmp_path, filter="data")
    paths = sorted((tmp_path / "an4_wav_sample").rglob("*.wav"))[:10]
    assert paths
    vocoder = voices.Vocoder()
    for path in paths:
        samples = audio.load(path, sample_rate=16000).samples
        cepstra = SphinxMfcc()(torch.as_tensor(samples)[None])[0]
        made = vocoder(cepstra.numpy().reshape(-1, 13).astype(np.float64), np.random.default_rng(0))
        assert made.dtype == np.float32
        assert len(made) / 8000 == pytest.approx(len(samples) / 16000, abs=0.05)
        (a, b) = (bands(x) for x in (audio.load(path, sample_rate=8000).samples, made))
        n = min(len(a), len(b))
        assert np.corrcoef(a[:n].ravel(), b[:n].ravel())[0, 1] > 0.9, path.name


def bands(samples):
    """Levels in 12 bands up to 4 kHz every 10 ms, nepers."""
    _, _, spectrum = signal.stft(samples, 8000, nperseg=200, noverlap=120)
    power = np.abs(spectrum[:96]) ** 2
    return np.log(power.reshape(12, 8, -1).mean(axis=1) + 1e-9).T


def test_a_pitch_differs_from_the_next(voices):
    cepstra = np.zeros((50, 13))
    cepstra[:, 0] = 5.0
    first, second = (voices.Vocoder()(cepstra, np.random.default_rng(seed)) for seed in (0, 1))
    again = voices.Vocoder()(cepstra, np.random.default_rng(0))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, second)


@pytest.mark.slow
def test_digits_are_cut_where_a_model_of_the_corpus_hears_them(voices, tmp_path):
    run = tmp_path / "run"
    settings = [f"data.dir={tmp_path / 'data'}", f"output_dir={run}"]
    assert main(["run", "recipes/digits/blstm.yaml", *settings]) == 0
    rows = voices.cut(run, tmp_path / "cut")
    assert rows == read_manifest(tmp_path / "cut" / "digits.jsonl")
    utterances = [u for s in ("train", "dev") for u in read_manifest(tmp_path / "data" / f"{s}.jsonl")]
    spoken = sum(len(u.text.split()) for u in utterances)
    assert 0.9 * spoken < len(rows) <= spoken
    assert all(0.2 <= row.duration < 1.5 for row in rows)
    assert {row.text for row in rows} == set(voices.DIGITS)


def test_what_is_no_run_is_named(voices, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["voices.py", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        voices.main()
    assert ended.value.code == 2
    assert "no model.asr there; give a finished run" in capsys.readouterr().err
