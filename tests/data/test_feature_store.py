"""The feature store: the features that would be computed, once, and of no other front end or utterances."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from asr.build import build
from asr.data.collate import pad
from asr.data.dataset import read_inputs
from asr.data.feature_store import store_features
from asr.data.manifest import read_manifest
from asr.errors import AsrError, ConfigError, DataError

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
import test_loop
from corpora import RATE, make_corpus

EXTRACTOR = {"_target_": "asr.features.LogMel", "sample_rate": RATE, "n_mels": 20}


@pytest.fixture(scope="module")
def utterances(tmp_path_factory):
    return read_manifest(make_corpus(tmp_path_factory.mktemp("corpus")))


def store(utterances, folder, config=EXTRACTOR, **options):
    return store_features(utterances, build(config), config, folder, "train", **options)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("normalize", ["none", "utterance"])
def test_the_model_reads_from_it_what_it_would_compute(utterances, tmp_path, num_workers, normalize):
    front_end = build({"_target_": "asr.features.FrontEnd", "extractor": EXTRACTOR, "normalize": normalize})
    stored = store(utterances, tmp_path, num_workers=num_workers)
    assert [replace(u, features_filepath=None) for u in stored] == utterances
    assert stored[3:5] == [stored[3], stored[4]]
    waveforms, frames = ([read_inputs(u, RATE, 20) for u in some] for some in (utterances, stored))
    expected, lengths = front_end(*pad(waveforms))
    found, found_lengths = front_end(*pad(frames))
    assert torch.equal(found_lengths, lengths)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=2e-6)


def test_it_is_computed_once(utterances, tmp_path, monkeypatch):
    notes = []
    first = store(utterances, tmp_path, note=notes.append)
    assert len(notes) == 1
    assert "computing the features of 12 utterances once" in notes[0]
    monkeypatch.setattr("asr.data.feature_store.read_inputs", None)
    assert list(store(utterances, tmp_path, note=notes.append)) == list(first)
    assert len(notes) == 1


def test_another_front_end_or_other_utterances_are_refused(utterances, tmp_path):
    store(utterances, tmp_path)
    with pytest.raises(ConfigError, match=r"extractor\.n_mels is 20 there and 24 here.*or delete this one$"):
        store(utterances, tmp_path, EXTRACTOR | {"n_mels": 24})
    with pytest.raises(ConfigError, match=r"of other utterances than the train manifest has now"):
        store(utterances[1:], tmp_path)


def test_an_utterance_that_cannot_be_read_is_named_and_leaves_no_store(utterances, tmp_path):
    with pytest.raises(AsrError, match=r"^gone: .*no such file"):
        store([*utterances, replace(utterances[0], id="gone", audio_filepath="/nowhere.wav")], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".train.lock"]


def test_a_store_that_is_cut_off_is_refused(utterances, tmp_path):
    store(utterances, tmp_path / "a")
    content = (tmp_path / "a" / "train.f32").read_bytes()
    for name, harmed in (("b", content[:-80]), ("c", content[:-81]), ("d", b"")):
        (tmp_path / name).mkdir()
        for path in (tmp_path / "a").glob("train.*"):
            (tmp_path / name / path.name).write_bytes(path.read_bytes())
        (tmp_path / name / "train.f32").write_bytes(harmed)
        with pytest.raises(DataError, match=r"train\.f32: .*delete"):
            store(utterances, tmp_path / name)


def test_training_from_it_learns_what_training_on_the_fly_does(tmp_path):
    manifest = test_loop.make_corpus(tmp_path)
    for name, folder in (("fly", None), ("stored", str(tmp_path / "store"))):
        config = test_loop.make_config(manifest, tmp_path / name, epochs=3)
        config["augment"] = {"speed": None, "spec": config["augment"]["spec"]}
        config["data"]["feature_store"] = folder
        test_loop.train(config, test_loop.Silent())
    fly, stored = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").open()]
        for name in ("fly", "stored")
    )
    for a, b in zip(fly, stored, strict=True):
        assert b["train_loss"] == pytest.approx(a["train_loss"], rel=1e-3)
    assert {path.name for path in (tmp_path / "store").glob("[a-z]*")} == {
        f"{name}.{kind}" for name in ("train", "dev") for kind in ("f32", "json", "ends.npy")
    }


def test_training_says_what_it_does_to_augmentation(tmp_path):
    manifest, monitor = test_loop.make_corpus(tmp_path), test_loop.Silent()
    config = test_loop.make_config(manifest, tmp_path / "out", epochs=1)
    config["data"]["feature_store"] = str(tmp_path / "store")
    test_loop.train(config, monitor)
    assert any("augment.speed changes the tempo of stored features" in note for note in monitor.notes)
    config["augment"]["volume"] = {"_target_": "asr.augment.Volume", "probability": 1.0}
    config["output_dir"] = str(tmp_path / "other")
    with pytest.raises(ConfigError, match=r"^augment\.volume: changes waveforms"):
        test_loop.train(config, monitor)
