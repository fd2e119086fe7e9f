"""The load generator of ``bench.py serve``, for some seconds."""

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from asr.model_file import save_model

BENCH = Path(__file__).parents[2] / "scripts" / "bench.py"


@pytest.mark.slow
def test_clients_that_misbehave_get_their_codes_and_the_others_their_texts(recognizer, archive, tmp_path):
    model = tmp_path / "model.asr"
    save_model(model, recognizer, {})
    with tarfile.open(archive("an4_wav_sample.tar.gz")) as speech:
        speech.extractall(tmp_path, filter="data")
    files = sorted(tmp_path.rglob("*.wav"))[:10]
    command = [sys.executable, BENCH, "serve", model, *files, "--clients", "25", "--minutes", "0.3", "--json"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=240)
    report = json.loads(result.stdout)
    assert report["unexpected"] == {}
    assert report["wrong_texts"] == 0
    assert report["exit"] == 0
    # Every kind of client was there, and has been answered.
    assert set(report["codes"]) == set(report["clients"])
    assert report["codes"]["short"]["200"] > 20
    assert report["codes"]["live"]["done"] >= 2
