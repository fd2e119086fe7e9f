import json
import struct
import subprocess
import sys

import numpy as np
import pytest
import soundfile as sf

from asr.cli.main import main
from asr.model_file import load_model, save_model

RATE = 8000


@pytest.fixture(scope="module")
def model(tiny_recognizer, tmp_path_factory):
    words = {"_target_": "asr.text.WordTokenizer", "words": ["one", "two", "three", "four"]}
    path = tmp_path_factory.mktemp("model") / "model.asr"
    save_model(path, tiny_recognizer(words, sample_rate=RATE, cell="lstm"), {})
    return path


@pytest.fixture
def calls(tmp_path):
    """A folder with two recordings and a manifest."""
    rng = np.random.default_rng(0)
    lines = []
    for name, seconds in (("a.wav", 1.0), ("b.wav", 0.5)):
        path = tmp_path / "calls" / name
        path.parent.mkdir(exist_ok=True)
        sf.write(path, 0.1 * rng.standard_normal(int(seconds * RATE)), RATE)
        lines.append(json.dumps({"audio_filepath": name, "duration": seconds, "text": "two one"}))
    (tmp_path / "calls" / "test.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path / "calls"


@pytest.fixture
def run(model, tmp_path, capsys):
    """Run ``asr inspect`` on paths and options; return its exit status, what it printed and said."""

    def run(*argv):
        status = main(["inspect", *map(str, argv), "--model", str(model), "-o", str(tmp_path / "out")])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def png_size(path):
    """Return width and height; the PNG specification (W3C), section 11.2.2."""
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    return struct.unpack(">II", content[16:24])


def test_gates_come_as_picture_and_arrays(run, calls, tmp_path, model):
    status, printed, said = run("gates", calls / "a.wav")
    assert (status, said) == (0, "")
    assert printed.startswith(f"{tmp_path / 'out' / 'a.layer1-forward.png'}: LSTM, ")
    assert min(png_size(tmp_path / "out" / "a.layer1-forward.png")) > 500
    arrays = np.load(tmp_path / "out" / "a.layer1-forward.npz")
    frames = load_model(model).output_length(1.0)
    for gate in ("input", "forget", "candidate", "output", "cell", "hidden"):
        assert arrays[gate].shape == (frames, 16)
        assert np.abs(arrays[gate]).max() > 0
    assert arrays["log_probs"].shape[0] == len(arrays["times"]) == frames
    assert arrays["times"][1] == pytest.approx(0.02)
    np.testing.assert_allclose(np.exp(arrays["log_probs"]).sum(1), 1, atol=1e-5)
    assert len(arrays["words"]) == len(arrays["word_starts"]) == len(arrays["word_ends"]) > 0
    # The LSTM's last equation ties the arrays together.
    np.testing.assert_allclose(arrays["hidden"], arrays["output"] * np.tanh(arrays["cell"]), atol=1e-6)


def test_layers_directions_gates_and_units_are_chosen(run, calls, tmp_path):
    chosen = ["--layer", "all", "--direction", "both", "--gates", "cell,forget", "--units", "3,0-1"]
    assert run("gates", calls, *chosen)[0] == 0
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert names == [
        f"{f}.layer1-{d}.{e}" for f in "ab" for d in ("backward", "forward") for e in ("npz", "png")
    ]
    arrays = np.load(tmp_path / "out" / "b.layer1-backward.npz")
    assert arrays["units"].tolist() == [3, 0, 1]
    assert arrays["cell"].shape[1] == arrays["forget"].shape[1] == 3
    assert "input" not in arrays


def test_a_file_that_cannot_be_read_does_not_stop_the_others(run, calls, tmp_path):
    (calls / "c.wav").write_bytes(b"")
    status, _, said = run("gates", calls)
    assert status == 1
    assert said == f"asr: {calls / 'c.wav'}: empty file (0 bytes); record or copy it again\n"
    assert (tmp_path / "out" / "b.layer1-forward.png").exists()


@pytest.mark.parametrize("given", ["manifest", "audio", "audio with text"])
def test_gradients_come_as_table_picture_and_arrays(run, calls, tmp_path, given):
    argv = {
        "manifest": [calls / "test.jsonl"],
        "audio": [calls / "a.wav", calls / "b.wav"],
        "audio with text": [calls / "a.wav", "--text", "one one"],
    }[given]
    status, printed, said = run("gradients", *argv)
    assert (status, said) == (0, "")
    assert "backward" in printed
    assert min(png_size(tmp_path / "out" / "gradients.png")) > 400
    report = json.loads((tmp_path / "out" / "gradients.json").read_text())
    assert report["utterances"] == (1 if given == "audio with text" else 2)
    assert report["mean_loss"] > 0
    arrays = np.load(tmp_path / "out" / "gradients.npz")
    assert sorted(arrays) == [
        f"layer1_{d}_{part}" for d in ("backward", "forward") for part in ("cell", "hidden", "state")
    ]
    for layer in report["layers"]:
        curve = arrays[f"layer1_{layer['direction']}_state"]
        np.testing.assert_allclose(layer["curve"], curve, rtol=1e-3)
        assert layer["cell"] == "LSTM"
        assert layer["largest"] == pytest.approx(curve.max())
        assert layer["seconds"]["50%"] <= layer["seconds"]["10%"]


def test_json_is_printed_alone(run, calls, tmp_path):
    status, printed, said = run(
        "gradients", calls / "test.jsonl", "--json", "--max-utterances", 1, "--max-frames", 5
    )
    assert status == 0
    assert said == "1 of 2 utterances; see --max-utterances\n"
    report = json.loads(printed)
    assert report == json.loads((tmp_path / "out" / "gradients.json").read_text())
    assert [len(layer["curve"]) for layer in report["layers"]] == [6, 6]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["gates", "a.wav", "--layer", "2"], "--layer 2: the model has layers 1 to 1; or say last or all"),
        (["gates", "a.wav", "--gates", "reset"], "--gates reset: the model's LSTM has input, forget"),
        (["gates", "a.wav", "--units", "14-16"], "--units 16: the layer has units 0 to 15"),
        (["gradients", "test.jsonl", "a.wav"], "test.jsonl: a manifest stands alone"),
        (["gradients", "a.wav", "b.wav", "--text", "one"], "--text: goes with one audio file, found 2"),
        (["gradients", "a.wav", "--text", "five"], "a.wav: 'five' cannot be spelled with the model's tokens"),
        (["gradients", "a.wav", "--text", "one " * 99], "a.wav: 99 tokens do not fit 49 output frames"),
        (["gradients", "none.wav"], "none.wav: no such file"),
    ],
)
def test_mistakes_are_named(run, calls, monkeypatch, argv, message):
    monkeypatch.chdir(calls)
    status, _, said = run(*argv)
    assert status == 2
    assert message in said
    assert said.splitlines()[-1].startswith("asr: error: ")


@pytest.mark.parametrize("value", ["x", "3-", "-2", "", "3-1", "1,,2"])
def test_units_that_are_none_are_refused(run, calls, capsys, value):
    with pytest.raises(SystemExit, match="2"):
        run("gates", calls / "a.wav", f"--units={value}")
    assert "is not like 0-7,12" in capsys.readouterr().err


def test_help_has_examples_and_loads_nothing_heavy():
    code = (
        "import argparse, sys; from asr.cli import inspect; p = argparse.ArgumentParser(); "
        "s = p.add_subparsers(); inspect.add_parser(s); print(s.choices['inspect'].format_help()); "
        "sys.exit(any(m in sys.modules for m in ('torch', 'numpy', 'matplotlib', 'rich')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "asr inspect gates talk.wav --model model.asr" in done.stdout
