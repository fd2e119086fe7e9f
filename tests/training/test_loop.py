"""Training on real tensors: it overfits, resumes exactly, stops when it must and says why."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from asr import audio
from asr.data.manifest import read_manifest, write_manifest
from asr.errors import ConfigError, DataError, ModelError
from asr.evaluation import evaluate
from asr.model_file import load_model
from asr.training.checkpoint import read_checkpoint
from asr.training.run import train
from asr.types import Utterance

RATE = 8000


class Silent:
    """A monitor that keeps the notes."""

    def __init__(self):
        self.notes = []

    def start_epoch(self, epoch, num_epochs, seconds, done):
        self.epoch = epoch

    def step(self, *, loss, lr, seconds, running):
        self.loss = loss

    def end_epoch(self, metrics):
        self.metrics = metrics

    def note(self, message):
        self.notes.append(message)


def make_corpus(folder: Path, count: int = 8) -> Path:
    """Write utterances in which every letter is a tone of its own, 0.12 s long."""
    rng = np.random.default_rng(0)
    t = np.arange(int(0.12 * RATE)) / RATE
    utterances = []
    for i in range(count):
        text = "".join(rng.choice(list("abcd "), rng.integers(3, 7))).strip() or "a"
        text = " ".join(text.split())
        tones = [0.0 if c == " " else 400 + 500 * "abcd".index(c) for c in text]
        wave = np.concatenate([0.3 * np.sin(2 * np.pi * f * t) for f in tones])
        wave = wave + 0.003 * rng.standard_normal(len(wave))
        path = folder / "audio" / f"{i}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        audio.save(path, wave.astype(np.float32), RATE)
        utterances.append(Utterance(f"u{i}", len(wave) / RATE, text, audio_filepath=str(path)))
    write_manifest(folder / "all.jsonl", utterances)
    return folder / "all.jsonl"


def make_config(manifest: Path, output_dir: Path, **trainer) -> dict:
    return {
        "name": "tones",
        "seed": 1,
        "output_dir": str(output_dir),
        "data": {"recipe": None, "train": str(manifest), "dev": str(manifest), "test": {}},
        "text": {"_target_": "asr.text.Normalizer"},
        "tokenizer": {"_target_": "asr.text.CharacterTokenizer"},
        "features": {
            "_target_": "asr.features.FrontEnd",
            "extractor": {"_target_": "asr.features.LogMel", "sample_rate": RATE, "n_mels": 20},
        },
        "augment": {
            "speed": {"_target_": "asr.augment.SpeedPerturb"},
            "spec": {"_target_": "asr.augment.SpecAugment", "time_width": 4, "frequency_width": 3},
        },
        "model": {
            "subsampling": {"_target_": "asr.models.subsampling.ConvSubsampling", "channels": 24},
            "encoder": {
                "_target_": "asr.models.encoder.RecurrentEncoder",
                "hidden_size": 24,
                "num_layers": 1,
                "dropout": 0.1,
            },
        },
        "optimizer": {"_target_": "asr.training.optimization.adamw", "lr": 0.01},
        "scheduler": {"_target_": "asr.training.schedules.WarmupCosine"},
        "trainer": {
            "_target_": "asr.training.loop.Trainer",
            "epochs": 2,
            "batch_seconds": 2.0,
            "precision": "32-true",
            "accelerator": "cpu",
        }
        | trainer,
        "decoder": {"_target_": "asr.decoding.greedy.GreedyDecoder"},
    }


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("tones"))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(folder)["model"]


def test_overfits_a_handful_of_utterances(manifest, tmp_path):
    config = make_config(manifest, tmp_path, epochs=60) | {"augment": {"speed": None, "spec": None}}
    recognizer = train(config, Silent())
    score = evaluate(recognizer, read_manifest(manifest)).score
    assert score.cer == 0, f"a model that cannot learn 8 utterances by heart: {score}"
    history = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert len(history) == 60
    assert history[-1]["train_loss"] < 0.2 * history[0]["train_loss"]
    assert {"dev_wer", "dev_cer", "lr", "audio_seconds_per_second"} <= history[0].keys()
    assert any((tmp_path / "tensorboard").iterdir())


def test_validation_evaluation_and_transcription_give_the_same_text(manifest, tmp_path):
    monitor = Silent()
    trained = train(make_config(manifest, tmp_path, epochs=12), monitor)
    utterances = read_manifest(manifest)
    best = trained.config and read_checkpoint(tmp_path)["state"]["best"]
    evaluation = evaluate(load_model(tmp_path / "model.asr", device="cpu"), utterances, tmp_path / "test")
    assert evaluation.score.wer == best["dev_wer"]
    evaluated = [json.loads(line)["pred_text"] for line in (tmp_path / "test/hyp.jsonl").open()]
    for utterance, text in zip(utterances, evaluated, strict=True):
        waveform = audio.load(utterance.audio_filepath, sample_rate=RATE).samples
        assert trained.recognize_audio([waveform])[0].text == text
    assert len(set(evaluated)) > 1


class StopAfter(Silent):
    """Sends the process a signal after a number of steps."""

    def __init__(self, steps, number):
        super().__init__()
        self.steps, self.number = steps, number

    def step(self, **report):
        self.steps -= 1
        if self.steps == 0:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize(("steps", "number"), [(2, signal.SIGINT), (7, signal.SIGTERM), (12, signal.SIGINT)])
def test_resumed_training_ends_with_the_same_weights_bit_for_bit(manifest, tmp_path, steps, number):
    from asr.training.signals import TrainingInterrupted

    train(make_config(manifest, tmp_path / "whole", epochs=3, batch_seconds=1.0), Silent())
    config = make_config(manifest, tmp_path / "cut", epochs=3, batch_seconds=1.0)
    with pytest.raises(TrainingInterrupted):
        train(config, StopAfter(steps, number))
    monitor = Silent()
    train(config, monitor)
    assert any("going on from epoch" in note for note in monitor.notes)
    whole, cut = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert whole.keys() == cut.keys()
    assert all(torch.equal(whole[key], cut[key]) for key in whole)

    def losses(folder):
        lines = (tmp_path / folder / "metrics.jsonl").read_text().splitlines()
        return [(e["epoch"], e["train_loss"], e["dev_loss"]) for e in map(json.loads, lines)]

    assert losses("whole") == losses("cut")


def test_a_killed_training_resumes_from_its_last_checkpoint(manifest, tmp_path):
    config = make_config(manifest, tmp_path / "killed", epochs=30)
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[2]); from test_loop import Silent, train;"
        "train(json.loads(sys.argv[1]), Silent())"
    )
    process = subprocess.Popen([sys.executable, "-c", code, json.dumps(config), str(Path(__file__).parent)])
    checkpoint = tmp_path / "killed" / "checkpoint.pt"
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert read_checkpoint(tmp_path / "killed")["state"]["epoch"] >= 1
    train(config, Silent())
    train(make_config(manifest, tmp_path / "whole", epochs=30), Silent())
    killed, whole = weights(tmp_path / "killed"), weights(tmp_path / "whole")
    assert all(torch.equal(killed[key], whole[key]) for key in whole)


def test_a_finished_training_is_not_done_again(manifest, tmp_path):
    config = make_config(manifest, tmp_path)
    train(config, Silent())
    before = (tmp_path / "model.asr").read_bytes()
    train(config, Silent())
    assert (tmp_path / "model.asr").read_bytes() == before


def test_other_settings_are_not_mixed_into_a_training_under_way(manifest, tmp_path):
    train(make_config(manifest, tmp_path), Silent())
    with pytest.raises(ConfigError, match=r"other settings for seed; choose another output_dir"):
        train(make_config(manifest, tmp_path) | {"seed": 2}, Silent())


def test_other_data_are_not_mixed_into_a_training_under_way(manifest, tmp_path):
    write_manifest(tmp_path / "m.jsonl", read_manifest(manifest))
    config = make_config(tmp_path / "m.jsonl", tmp_path / "run")
    train(config, Silent())
    utterances = read_manifest(manifest)
    write_manifest(tmp_path / "m.jsonl", [*utterances[1:], utterances[0]])
    with pytest.raises(ConfigError, match=r"other settings for training_data"):
        train(config, Silent())


def test_a_refused_training_leaves_the_old_one_as_it_was(manifest, tmp_path):
    train(make_config(manifest, tmp_path), Silent())
    before = (tmp_path / "config.yaml").read_text()
    with pytest.raises(ConfigError):
        train(make_config(manifest, tmp_path) | {"seed": 2}, Silent())
    assert (tmp_path / "config.yaml").read_text() == before


def test_workers_change_nothing_and_their_errors_are_one_line(manifest, tmp_path):
    train(make_config(manifest, tmp_path / "none"), Silent())
    train(make_config(manifest, tmp_path / "two", num_workers=2), Silent())
    none, two = weights(tmp_path / "none"), weights(tmp_path / "two")
    assert all(torch.equal(none[key], two[key]) for key in none)

    nan = np.zeros(4000, np.float32)
    nan[7] = np.nan
    soundfile.write(tmp_path / "nan.wav", nan, RATE, subtype="FLOAT")
    bad = Utterance("bad", 0.5, "ab", audio_filepath=str(tmp_path / "nan.wav"))
    write_manifest(tmp_path / "bad.jsonl", [*read_manifest(manifest), bad])
    for workers in (0, 1):
        with pytest.raises(DataError, match=r"the first bad: .*nan\.wav: sample 7 ") as error:
            train(
                make_config(tmp_path / "bad.jsonl", tmp_path / f"r{workers}", num_workers=workers), Silent()
            )
        assert "Traceback" not in str(error.value)


@pytest.mark.parametrize("split", ["train", "dev"])
def test_utterances_without_a_transcript_are_refused(manifest, tmp_path, split):
    utterances = read_manifest(manifest)
    mute = Utterance("mute", utterances[0].duration, None, audio_filepath=utterances[0].audio_filepath)
    write_manifest(tmp_path / "mute.jsonl", [*utterances, mute])
    config = make_config(manifest, tmp_path / "run")
    config["data"][split] = str(tmp_path / "mute.jsonl")
    with pytest.raises(DataError, match="1 utterances have no text, the first is mute"):
        train(config, Silent())


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut"])
def test_a_damaged_checkpoint_is_named(manifest, tmp_path, content):
    (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(ModelError, match=r"checkpoint\.pt: not a checkpoint of this program, or damaged"):
        train(make_config(manifest, tmp_path), Silent())


def test_an_output_folder_that_cannot_be_written_is_named(manifest, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"output_dir .* cannot be written"):
        train(make_config(manifest, tmp_path / "file" / "run"), Silent())


def test_text_too_long_for_its_frames_is_named_before_training(manifest, tmp_path):
    utterances = read_manifest(manifest)
    long = Utterance("long", 0.12, "abcd" * 20, audio_filepath=utterances[0].audio_filepath)
    write_manifest(tmp_path / "bad.jsonl", [*utterances, long])
    with pytest.raises(DataError, match=r"1 training utterances \(too_long\), the first long: .*CTC needs"):
        train(make_config(tmp_path / "bad.jsonl", tmp_path / "run"), Silent())


def test_a_duration_that_the_file_contradicts_is_named_before_training(manifest, tmp_path):
    utterances = read_manifest(manifest)
    wrong = Utterance("wrong", 99.0, "ab", audio_filepath=utterances[0].audio_filepath)
    write_manifest(tmp_path / "bad.jsonl", [*utterances, wrong])
    with pytest.raises(DataError, match=r"the first wrong: the file ends at .* the utterance at 99\.00 s"):
        train(make_config(tmp_path / "bad.jsonl", tmp_path / "run"), Silent())


def test_a_broken_training_file_is_named_before_training(manifest, tmp_path):
    utterances = read_manifest(manifest)
    (tmp_path / "broken.wav").write_bytes(b"RIFF....")
    broken = Utterance("broken", 1.0, "ab", audio_filepath=str(tmp_path / "broken.wav"))
    write_manifest(tmp_path / "bad.jsonl", [*utterances, broken])
    with pytest.raises(DataError, match=r"the first broken: "):
        train(make_config(tmp_path / "bad.jsonl", tmp_path / "run"), Silent())


def test_audio_that_will_be_resampled_or_mixed_down_is_noted(manifest, tmp_path):
    utterances = read_manifest(manifest)
    stereo = np.random.default_rng(0).uniform(-0.1, 0.1, (16000, 2))
    audio.save(tmp_path / "stereo.wav", stereo, 16000)
    extra = Utterance("extra", 1.0, "ab", audio_filepath=str(tmp_path / "stereo.wav"))
    write_manifest(tmp_path / "more.jsonl", [*utterances, extra])
    monitor = Silent()
    train(make_config(tmp_path / "more.jsonl", tmp_path / "run", epochs=1), monitor)
    notes = " ".join(monitor.notes)
    assert "the first extra: 16000 Hz will be resampled" in notes
    assert "the first extra: 2 channels will be mixed into one" in notes


def test_dev_text_outside_the_alphabet_is_noted_and_scored_as_an_error(manifest, tmp_path):
    utterances = read_manifest(manifest)
    strange = Utterance("strange", utterances[0].duration, "xyz", audio_filepath=utterances[0].audio_filepath)
    write_manifest(tmp_path / "dev.jsonl", [*utterances, strange])
    config = make_config(manifest, tmp_path / "run")
    config["data"]["dev"] = str(tmp_path / "dev.jsonl")
    monitor = Silent()
    train(config, monitor)
    assert any("strange" in note and "x" in note for note in monitor.notes)
    assert monitor.metrics["dev_wer"] > 0


def test_a_training_that_only_gives_nan_stops_and_names_the_utterances(manifest, tmp_path):
    config = make_config(manifest, tmp_path, max_skipped_steps=3)
    config["optimizer"]["lr"] = 1e30
    monitor = Silent()
    with pytest.raises(DataError, match=r"3 steps in a row had no finite loss.*lower optimizer\.lr"):
        train(config, monitor)
    assert any("skipped: loss not finite for u" in note for note in monitor.notes)


def test_corpus_normalisation_is_fitted_on_the_training_set_and_kept_in_the_model(manifest, tmp_path):
    config = make_config(manifest, tmp_path, epochs=1)
    config["features"]["normalize"] = "corpus"
    train(config, Silent())
    recognizer = load_model(tmp_path / "model.asr", device="cpu")
    frames = []
    for utterance in read_manifest(manifest):
        samples = torch.from_numpy(audio.load(utterance.audio_filepath, sample_rate=RATE).samples)
        frames.append(recognizer.features(samples[None], torch.tensor([len(samples)]))[0][0])
    everything = torch.cat(frames)
    assert everything.mean(0).abs().max() < 1e-2
    assert (everything.std(0) - 1).abs().max() < 1e-2
