"""Speech as a task: frames are made where there are processors to spare, and are the same everywhere."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from test_loop import Silent, make_config, make_corpus

from asr.cli.config import config_problems
from asr.data.manifest import read_manifest
from asr.errors import ConfigError
from asr.training.run import make_augmentation, make_recognizer
from asr.training.speech import SpeechTask

STRONG = {
    "room": {"_target_": "asr.augment.Reverberate", "probability": 0.5},
    "noise": {"_target_": "asr.augment.AddNoise", "probability": 0.5},
    "vocal_tract": {"_target_": "asr.augment.VocalTractPerturb", "probability": 0.8},
    "time_warp": {"_target_": "asr.augment.TimeWarp", "probability": 0.5},
}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("tones"), count=20)


def make_task(manifest, tmp_path, num_workers):
    config = make_config(manifest, tmp_path)
    config["augment"] |= STRONG
    train = read_manifest(manifest)
    torch.manual_seed(0)
    recognizer = make_recognizer(config, train)
    augmentation = make_augmentation(config, recognizer, train, Silent())
    return SpeechTask(
        recognizer, train, [], batch_seconds=3.0, num_workers=num_workers, augmentation=augmentation, seed=1
    )


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_batch_has_its_frames_when_it_comes_and_they_are_those_of_what_was_read(
    manifest, tmp_path, num_workers
):
    task = make_task(manifest, tmp_path, num_workers)
    for epoch in (0, 3):
        batches, count = task.batches(epoch, 0, pin_memory=False)
        batches = list(batches)
        assert len(batches) == count
        assert all(batch.finished and batch.inputs.ndim == 3 for batch in batches)
        read = task.largest(epoch)  # comes first
        assert read.ids == batches[0].ids
        assert not read.finished
        assert torch.equal(task.make_frames(read, epoch).inputs, batches[0].inputs)
        task.model.eval()
        losses = [task.losses(task.model, batch, epoch)[0] for batch in (read, batches[0])]
        assert torch.equal(*losses)
    task.close()


def test_the_halves_of_a_batch_have_frames_too(manifest, tmp_path):
    task = make_task(manifest, tmp_path, 0)
    batch = next(iter(task.batches(0, 0, pin_memory=False)[0]))
    halves = task.split(batch)
    assert [name for half in halves for name in half.ids] == list(batch.ids)
    for half in halves:
        assert half.finished
        assert half.inputs.shape[1] == half.input_lengths.max()
    task.model.eval()
    whole = task.losses(task.model, batch, 0)[0]
    parts = torch.cat([task.losses(task.model, half, 0)[0] for half in halves])
    assert torch.allclose(whole, parts, rtol=1e-5)


def test_a_delay_penalty_is_of_spaces_alone(manifest, tmp_path):
    config, train = make_config(manifest, tmp_path), read_manifest(manifest)
    losses = []
    for penalty in (0.0, 0.1):
        torch.manual_seed(0)
        recognizer = make_recognizer(config, train)
        augmentation = make_augmentation(config, recognizer, train, Silent())
        settings = {"batch_seconds": 3.0, "num_workers": 0, "augmentation": augmentation, "seed": 1}
        task = SpeechTask(recognizer, train, [], **settings, delay_penalty=penalty)
        task.model.eval()
        batch = task.largest(0)
        losses.append(task.losses(task.model, batch, 0)[0])
    spaces = torch.tensor([" " in text for text in batch.texts])
    assert spaces.any()
    assert not spaces.all()
    assert torch.equal(losses[1] > losses[0] + 0.05, spaces)


@pytest.mark.parametrize("kind", ["WordTokenizer", "BpeTokenizer"])
def test_a_delay_penalty_is_refused_without_spaces_of_their_own(kind, manifest, tmp_path):
    config = make_config(manifest, tmp_path) | {"delay_penalty": 0.1}
    config["tokenizer"] = {"_target_": f"asr.text.{kind}"}
    if kind == "BpeTokenizer":
        config["tokenizer"]["vocabulary_size"] = 12
    assert any("take tokenizer=characters" in problem for problem in config_problems(config))
    train = read_manifest(manifest)
    recognizer = make_recognizer(config, train)
    augmentation = make_augmentation(config, recognizer, train, Silent())
    settings = {"batch_seconds": 3.0, "num_workers": 0, "augmentation": augmentation, "seed": 1}
    with pytest.raises(ConfigError, match="no space of their own"):
        SpeechTask(recognizer, train, [], **settings, delay_penalty=0.1)
