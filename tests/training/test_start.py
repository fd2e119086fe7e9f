"""Starting from a trained model: what is taken, what is made anew, and that both are said."""

import copy
import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from asr import audio
from asr.data.manifest import write_manifest
from asr.errors import ConfigError, ModelError
from asr.model_file import load_model
from asr.recognizer import Recognizer
from asr.text import CharacterTokenizer
from asr.training.checkpoint import read_checkpoint
from asr.training.run import train
from asr.training.signals import TrainingInterrupted
from asr.training.start import choose_tokenizer, differences, start_from
from asr.types import Utterance

CHARACTERS = {"_target_": "asr.text.CharacterTokenizer"}


class Notes:
    """A monitor that keeps the notes."""

    def __init__(self):
        self.notes = []

    def note(self, message):
        self.notes.append(message)


def other(recognizer: Recognizer, *path_and_value) -> Recognizer:
    """Return a recogniser with other random weights and one setting changed."""
    config = copy.deepcopy(recognizer.config)
    if path_and_value:
        *path, key, value = path_and_value
        place = config
        for step in path:
            place = place[step]
        place[key] = value
    torch.manual_seed(7)
    return Recognizer.from_config(config)


@pytest.fixture
def trained(tiny_recognizer):
    return tiny_recognizer(CHARACTERS | {"characters": "abcd"})


def test_all_weights_are_taken_where_the_tokens_are_the_same(trained):
    fresh, monitor = other(trained), Notes()
    start_from(fresh, trained, "m.asr", monitor)
    for name, value in trained.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], value), name
    assert monitor.notes == ["starting from m.asr: all its weights are taken, its 6 tokens are kept"]


def test_the_output_layer_keeps_the_rows_of_tokens_that_stay(trained):
    fresh = other(trained, "tokenizer", CHARACTERS | {"characters": "xcay"})
    before = copy.deepcopy(fresh.model.head)
    monitor = Notes()
    start_from(fresh, trained, "m.asr", monitor)
    old, new = trained.tokenizer.pieces, fresh.tokenizer.pieces
    assert set(new) - set(old) == {"x", "y"}
    for row, piece in enumerate(new):
        source = trained.model.head if piece in old else before
        at = old.index(piece) if piece in old else row
        assert torch.equal(fresh.model.head.weight[row], source.weight[at])
        assert torch.equal(fresh.model.head.bias[row], source.bias[at])
    for part in ("subsampling", "encoder"):
        for ours, theirs in zip(
            getattr(fresh.model, part).parameters(), getattr(trained.model, part).parameters(), strict=True
        ):
            assert torch.equal(ours, theirs)
    assert monitor.notes == [
        "starting from m.asr: subsampling and encoder are taken, the output layer is rebuilt for 6 tokens; "
        "4 of them keep their weights, the blank among them; new: x y; gone: b d"
    ]


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("model", "encoder", "hidden_size"), 24, "model.encoder.hidden_size is 16 there and 24 here"),
        (("model", "encoder", "cell"), "gru", "model.encoder.cell is lstm there and gru here"),
        (("model", "encoder", "num_layers"), 2, "model.encoder.num_layers is 1 there and 2 here"),
        (("model", "subsampling", "kernel_sizes"), [3], r"kernel_sizes is \[5\] there and \[3\] here"),
        (("features", "extractor", "n_mels"), 30, "features.extractor.n_mels is 20 there and 30 here"),
        (
            ("model", "subsampling"),
            {"_target_": "asr.models.subsampling.NoSubsampling"},
            "model.subsampling._target_ is ConvSubsampling there and NoSubsampling here",
        ),
    ],
)
def test_another_network_is_refused_naming_the_settings_that_differ(trained, path, value, words):
    with pytest.raises(ModelError, match=f"init_from m.asr: .*{words}"):
        start_from(other(trained, *path, value), trained, "m.asr", Notes())


def test_settings_that_fit_the_weights_are_taken_and_said(trained):
    fresh, monitor = other(trained, "model", "subsampling", "strides", [3]), Notes()
    start_from(fresh, trained, "m.asr", monitor)
    assert monitor.notes[1] == (
        "m.asr was trained with other settings, which fit its weights: "
        "model.subsampling.strides is [2] there and [3] here"
    )


def test_defaults_that_are_left_out_and_dropout_are_no_differences(trained):
    fresh = other(trained, "model", "encoder", "dropout", 0.5)
    fresh.config["model"]["encoder"]["residual"] = False
    fresh.config["features"]["deltas"] = 0
    assert differences(trained.config, fresh.config) == []


def test_corpus_statistics_stay_with_the_front_end_that_they_are_of(trained):
    trained = other(trained, "features", "normalize", "corpus")
    trained.features.mean.fill_(3.0)
    trained.features.std.fill_(2.0)
    same, louder, monitor = other(trained), other(trained, "features", "extractor", "f_min", 50.0), Notes()
    start_from(same, trained, "m.asr", monitor)
    assert torch.equal(same.features.mean, trained.features.mean)
    assert monitor.notes[-1] == "the features are normalised by the statistics of m.asr"
    start_from(louder, trained, "m.asr", monitor)
    assert not louder.features.std.any()
    assert "computed anew" in monitor.notes[-1]


@pytest.mark.parametrize(
    ("config", "texts", "characters"),
    [
        (CHARACTERS, ["ab", "c a"], " abcd"),
        (CHARACTERS, ["abx"], " abx"),
        (CHARACTERS | {"characters": "ab"}, ["ab"], " ab"),
        ({"_target_": "asr.text.WordTokenizer"}, ["ab c"], None),
    ],
    ids=["the model's, which spell all", "new ones in the text", "given", "another kind"],
)
def test_tokens_are_the_model_s_where_nothing_says_otherwise(trained, config, texts, characters):
    found = choose_tokenizer(config, texts, trained)
    assert isinstance(found, CharacterTokenizer) == (characters is not None)
    if characters is not None:
        assert "".join(found.pieces) == characters


RATE = 8000


class Watch(Notes):
    """A monitor that sends the process a signal after a number of steps."""

    def __init__(self, steps=None):
        super().__init__()
        self.steps = steps

    def start_epoch(self, *arguments):
        pass

    def step(self, **numbers):
        if self.steps is not None:
            self.steps -= 1
            if self.steps == 0:
                os.kill(os.getpid(), signal.SIGINT)

    def end_epoch(self, metrics):
        pass


def make_manifest(folder: Path, texts: list[str]) -> Path:
    rng = np.random.default_rng(0)
    utterances = []
    for i, text in enumerate(texts):
        path = folder / f"{i}.wav"
        audio.save(path, 0.1 * rng.standard_normal(RATE // 2).astype(np.float32), RATE)
        utterances.append(Utterance(f"u{i}", 0.5, text, audio_filepath=str(path)))
    write_manifest(folder / "all.jsonl", utterances)
    return folder / "all.jsonl"


@pytest.fixture(scope="module")
def trained_on_ab(tmp_path_factory):
    """A manifest of utterances with the letters b and c, and a model trained on one with a and b."""
    folder = tmp_path_factory.mktemp("start")
    (folder / "ab").mkdir()
    train(make_config(make_manifest(folder / "ab", ["ab", "ba", "a b", "bab"]), folder / "model"), Watch())
    return make_manifest(folder, ["bc", "cb", "c b", "bcb", "bbc"]), folder / "model" / "model.asr"


def make_config(manifest: Path, output_dir: Path, **changes) -> dict:
    return {
        "name": "start",
        "seed": 1,
        "output_dir": str(output_dir),
        "data": {"recipe": None, "train": str(manifest), "dev": str(manifest), "test": {}},
        "text": {"_target_": "asr.text.Normalizer"},
        "tokenizer": {"_target_": "asr.text.CharacterTokenizer"},
        "features": {
            "_target_": "asr.features.FrontEnd",
            "extractor": {"_target_": "asr.features.LogMel", "sample_rate": RATE, "n_mels": 20},
            "normalize": "corpus",
        },
        "augment": {},
        "model": {
            "subsampling": {
                "_target_": "asr.models.subsampling.ConvSubsampling",
                "channels": 8,
                "kernel_sizes": [5],
                "strides": [2],
            },
            "encoder": {
                "_target_": "asr.models.encoder.RecurrentEncoder",
                "hidden_size": 8,
                "num_layers": 2,
                "norm": "batch",
                "dropout_kind": "variational",
            },
        },
        "optimizer": {"_target_": "asr.training.optimization.adamw", "lr": 0.01},
        "scheduler": {"_target_": "asr.training.schedules.Constant"},
        "trainer": {
            "_target_": "asr.training.loop.Trainer",
            "epochs": 1,
            "batch_seconds": 1.0,
            "precision": "32-true",
            "accelerator": "cpu",
        },
        "decoder": {"_target_": "asr.decoding.greedy.GreedyDecoder"},
    } | changes


def test_a_training_from_a_model_resumes_exactly_even_without_that_model(trained_on_ab, tmp_path):
    manifest, model = trained_on_ab
    start = tmp_path / "start.asr"

    def config(folder):
        made = make_config(
            manifest,
            tmp_path / folder,
            init_from=str(start),
            freeze=["encoder.0"],
            optimizer={
                "_target_": "asr.training.optimization.torch_optimizer",
                "name": "NAdam",
                "lr": 0.02,
                "lr_scales": {"subsampling": 0.1},
            },
            scheduler={
                "_target_": "asr.training.schedules.Plateau",
                "factor": 0.5,
                "patience": 0,
                "threshold": 0.9,
            },
        )
        made["trainer"]["epochs"] = 4
        return made

    shutil.copy(model, start)
    whole, parted = Watch(), Watch(steps=5)
    train(config("whole"), whole)
    with pytest.raises(TrainingInterrupted):
        train(config("parted"), parted)
    start.unlink()
    train(config("parted"), Watch(steps=None))
    checkpoints = [read_checkpoint(tmp_path / name)["model"] for name in ("whole", "parted")]
    for name, value in checkpoints[0].items():
        assert torch.equal(checkpoints[1][name], value), name

    before = load_model(model, "cpu").state_dict()
    frozen = ("model.encoder.layers.0.", "model.encoder.norms.0.", "features.")
    for name, value in checkpoints[0].items():
        if not name.startswith("model.head."):
            assert torch.equal(value, before[name]) == name.startswith(frozen), name
    assert any("the output layer is rebuilt for 4 tokens; 3 of them keep" in note for note in whole.notes)
    rates = [json.loads(line)["lr"] for line in (tmp_path / "whole" / "metrics.jsonl").open()]
    assert rates == [json.loads(line)["lr"] for line in (tmp_path / "parted" / "metrics.jsonl").open()]
    assert rates[0] > rates[-1], "the plateau never came"


def test_the_model_to_start_from_is_one_of_the_settings_of_a_run(trained_on_ab, tmp_path):
    manifest, model = trained_on_ab
    config = make_config(manifest, tmp_path / "run", init_from=str(model))
    train(config, Watch())
    with pytest.raises(ConfigError, match="other settings for init_from"):
        train(config | {"init_from": "other.asr"}, Watch())


def test_a_model_that_is_not_there_is_named(trained_on_ab, tmp_path):
    config = make_config(trained_on_ab[0], tmp_path / "run", init_from="nowhere.asr")
    with pytest.raises(ModelError, match=r"nowhere.asr: no such"):
        train(config, Watch())
