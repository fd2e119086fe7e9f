"""``asr transcribe --stream``."""

import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

from asr.cli import live
from asr.cli.main import main
from asr.model_file import save_model
from asr.recognizer import Recognizer
from asr.types import Segment, Word

RATE = 8000


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    import torch

    torch.manual_seed(3)
    recognizer = Recognizer.from_config(
        {
            "features": {
                "_target_": "asr.features.FrontEnd",
                "extractor": {"_target_": "asr.features.LogMel", "sample_rate": RATE, "n_mels": 20},
                "normalize": "none",
            },
            "model": {
                "subsampling": {"_target_": "asr.models.subsampling.StackSubsampling", "factor": 2},
                "encoder": {
                    "_target_": "asr.models.encoder.RecurrentEncoder",
                    "hidden_size": 16,
                    "num_layers": 1,
                    "bidirectional": False,
                },
            },
            "tokenizer": {"_target_": "asr.text.WordTokenizer", "words": ["one", "two", "three", "four"]},
            "text": {"_target_": "asr.text.Normalizer"},
            "decoder": {"_target_": "asr.decoding.greedy.GreedyDecoder"},
        }
    )
    recognizer.model.head.weight.data *= 20
    path = tmp_path_factory.mktemp("model") / "model.asr"
    save_model(path, recognizer, {})
    return path


@pytest.fixture(scope="module")
def samples():
    rng = np.random.default_rng(0)
    return np.concatenate([rng.uniform(0, 0.15) * rng.standard_normal(1000) for _ in range(24)])


def pcm(samples, kind="<i2"):
    return (np.round(samples * 32767) if kind == "<i2" else samples).astype(kind).tobytes()


@pytest.fixture
def run(model, tmp_path, monkeypatch, capsys):
    """Run the command on bytes in standard input; return its exit status, output and errors."""

    def run(data, *options):
        path = tmp_path / "input"
        path.write_bytes(data)
        with open(path) as file:
            monkeypatch.setattr(sys, "stdin", file)
            status = main(["transcribe", "--stream", "-", "--model", str(model), *options])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def test_formats_rates_and_channels_of_a_pipe_give_the_same_words(run, samples):
    status, text, errors = run(pcm(samples))
    assert status == 0
    assert text.split()
    assert "the model streams" in errors
    as_floats = run(pcm(np.round(samples * 32767) / 32768, "<f4"), "--stream-format", "f32le")
    assert as_floats[:2] == (0, text)
    stereo = np.repeat(samples[:, None], 2, axis=1)
    assert run(pcm(stereo), "--stream_channels", "2")[:2] == (0, text)


def test_json_has_every_change_a_line_and_the_words_of_the_text(run, samples):
    _, text, _ = run(pcm(samples), "-f", "txt")
    status, output, _ = run(pcm(samples), "-f", "json")
    lines = [json.loads(line) for line in output.splitlines()]
    assert status == 0
    assert [w["word"] for line in lines for w in line.get("words", [])] == text.split()
    assert [s["text"] for line in lines for s in line.get("segments", [])] == text.splitlines()
    assert [s["id"] for line in lines for s in line.get("segments", [])] == list(
        range(len(text.splitlines()))
    )
    assert lines[-1] == {"type": "done", "duration": len(samples) / RATE}
    assert set(lines[0]) == {"type", "words", "partial", "segments"}


@pytest.mark.parametrize("num_samples", [1, 300])
def test_a_few_samples_are_enough(run, num_samples):
    status, _, errors = run(bytes(2 * num_samples))
    assert status == 0
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("data", "options", "said"),
    [
        (b"", (), "not a sample came"),
        (b"x", (), "1 bytes at the end are no whole sample of s16le in 1 channels and were left out"),
        (b"RIFF\x00\x00\x00\x00WAVE", (), "is a WAV file, not raw PCM; send raw samples"),
        (b"\x00\x00", ("--stream-rate", "0"), "sample rate 0 Hz: cannot be"),
        (b"\x00\x00", ("--stream-channels", "0"), "--stream_channels 0: cannot be"),
        (b"\x00\x00", ("-f", "srt"), "--stream prints txt or json"),
        (b"\x00\x00", ("a.wav",), "--stream takes no files, found a.wav"),
        (b"\x00\x00\xc0\x7f", ("--stream-format", "f32le"), "sample 0 (at 0.000 s) is nan"),
    ],
)
def test_what_cannot_be_a_stream_is_said_in_a_line(run, data, options, said):
    status, _, errors = run(data, *options)
    assert status == 2
    assert said in errors
    assert "Traceback" not in errors


def test_what_was_heard_before_a_broken_sample_is_printed(run, samples):
    data = pcm(samples, "<f4")
    status, text, errors = run(data + b"\x00\x00\xc0\x7f", "--stream-format", "f32le")
    assert status == 2
    assert "is nan" in errors
    # The second of two reads was broken.
    expected = run(data[: 1 << 16], "--stream-format", "f32le")[1]
    assert text == expected != ""


def test_without_sounddevice_the_remedy_is_a_line(model, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    assert main(["transcribe", "--stream", "mic", "--model", str(model)]) == 2
    assert "pip install sounddevice, or pipe: arecord" in capsys.readouterr().err


def test_a_microphone_is_recorded_at_its_own_rate_until_it_is_stopped(
    run, model, samples, monkeypatch, capsys
):
    """With a stand-in for the package, which needs a sound card."""
    expected = run(pcm(samples, "<f4"), "--stream-format", "f32le")[1]

    class Stream:
        def __init__(self, *, samplerate, channels, device, dtype, callback):
            assert (samplerate, channels, device, dtype) == (RATE, 1, None, "float32")
            self.callback = callback

        def __enter__(self):
            for block in np.split(samples.astype(np.float32), 8):
                self.callback(block[:, None], len(block), None, SimpleNamespace(input_overflow=False))
            signal.setitimer(signal.ITIMER_REAL, 1.5)

        def __exit__(self, *_):
            pass

    class PortAudioError(Exception):
        pass

    def check_input_settings(**options):
        raise PortAudioError("Invalid sample rate")

    package = SimpleNamespace(
        InputStream=Stream,
        PortAudioError=PortAudioError,
        check_input_settings=check_input_settings,
        query_devices=lambda *_: {"default_samplerate": float(RATE)},
    )
    monkeypatch.setitem(sys.modules, "sounddevice", package)
    before = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        assert main(["transcribe", "--stream", "mic", "--model", str(model)]) == 0
    finally:
        signal.signal(signal.SIGALRM, before)
    assert capsys.readouterr().out == expected


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_stream_with_what_was_heard(model, samples, run, number):
    command = [sys.executable, "-m", "asr.cli.main", "transcribe", "--stream", "-", "--model", str(model)]
    process = subprocess.Popen(
        [*command, "-f", "json"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdin.write(pcm(samples))
    process.stdin.flush()
    process.stdout.readline()  # the stream has begun
    time.sleep(1)
    process.send_signal(number)
    output = process.stdout.read()
    assert process.wait(timeout=60) == 0
    assert json.loads(output.splitlines()[-1])["type"] == "done"
    assert process.stderr.read().decode().count("\n") == 1


def test_a_reader_that_goes_away_ends_it_quietly(model, samples):
    command = [sys.executable, "-m", "asr.cli.main", "transcribe", "--stream", "-", "--model", str(model)]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, input=pcm(samples), stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr


def word(text, start):
    return Word(text, start, start + 0.2, 0.9, (1,))


def segment(*words):
    return Segment(words[0].start, words[-1].end, " ".join(w.text for w in words), words, (1,), -0.1)


def test_a_terminal_line_is_written_again_and_never_wraps(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "20")
    screen = live._Terminal()
    one, two, three = word("one", 0.0), word("two", 0.5), word("three", 3.0)
    update = SimpleNamespace(final=(one, two), partial="thr", segments=())
    screen.show(update)
    assert capsys.readouterr().out == "\r\x1b[Kone two \x1b[2mthr\x1b[0m"
    screen.show(SimpleNamespace(final=(three,), partial="", segments=(segment(one, two),)))
    assert capsys.readouterr().out == "\r\x1b[Kone two\nthree"
    screen.show(SimpleNamespace(final=(), partial="a" * 40, segments=()))
    assert capsys.readouterr().out == f"\r\x1b[K\x1b[2m…{'a' * 18}\x1b[0m"
