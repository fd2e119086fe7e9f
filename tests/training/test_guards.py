"""Before the first step: what cannot be trained is named, and looking leaves no trace."""

import copy
import math
import types

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from asr.data.dataset import SpeechDataset
from asr.data.sampler import BatchSampler
from asr.errors import DataError
from asr.text import CharacterTokenizer, Normalizer
from asr.training import guards
from asr.training.guards import rehearse, require_trainable
from asr.types import Utterance


class Notes(list):
    note = list.append


def write(folder, name, frames, text="ab", seconds=None, value=0.0):
    """Write features of 100 frames a second, and return the utterance."""
    array = np.random.default_rng(len(name)).standard_normal((frames, 20)).astype(np.float32)
    array[frames // 2, 3] += value
    np.save(folder / f"{name}.npy", array)
    return Utterance(name, seconds or frames / 100, text, features_filepath=str(folder / f"{name}.npy"))


@pytest.fixture
def recognizer(tiny_recognizer):
    return tiny_recognizer({"_target_": "asr.text.CharacterTokenizer", "characters": "ab"})


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"value": math.nan}, r"\(unreadable\), the first bad: .*bad\.npy: frame 20 holds NaN"),
        ({"value": math.inf}, r"\(unreadable\), the first bad: .*bad\.npy: frame 20 holds NaN or infinity"),
        ({"text": "abc"}, r"\(alphabet\), the first bad: .*'c'"),
        ({"frames": 10, "text": "abab" * 5}, r"\(too_long\), the first bad: .*CTC needs 20"),
        (
            {"frames": 10, "text": "abab" * 5, "seconds": 2.0},
            r"\(too_long\), the first bad: .*bad\.npy: 10 frames are too few for 20 tokens, but .* 2\.00 s",
        ),
    ],
)
def test_an_utterance_that_cannot_be_learnt_is_named(recognizer, tmp_path, bad, message):
    good = write(tmp_path, "good", 50)
    utterances = [good, write(tmp_path, "bad", **({"frames": 40} | bad))]
    with pytest.raises(DataError, match=message) as error:
        require_trainable(recognizer, utterances, [good], Notes())
    assert "\n" not in str(error.value)


def test_features_of_another_size_are_named(recognizer, tmp_path):
    utterance = write(tmp_path, "u", 30)
    np.save(tmp_path / "u.npy", np.zeros((30, 13), np.float32))
    with pytest.raises(DataError, match=r"the first u: .*13 coefficients a frame, the front end takes 20"):
        require_trainable(recognizer, [utterance], [utterance], Notes())


def test_a_large_set_is_read_as_training_goes_and_that_is_said(recognizer, tmp_path, monkeypatch):
    monkeypatch.setattr(guards, "READ_HOURS", 1e-4)
    good, bad, notes = write(tmp_path, "good", 50), write(tmp_path, "bad", 40, value=math.nan), Notes()
    require_trainable(recognizer, [good, bad], [good], notes)
    assert any("'asr check' reads them beforehand" in note for note in notes)


class Task(types.SimpleNamespace):
    """A network with batch normalisation and dropout; utterances whose loss can be spoilt by name."""

    def __init__(self, **losses):
        torch.manual_seed(0)
        whole = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1))
        super().__init__(whole=whole, model=whole, spoilt=losses)

    def largest(self, epoch):
        return {"a": torch.ones(4), "b": torch.arange(4.0), "c": -torch.ones(4)}

    def names(self, batch):
        return list(batch)

    def num_tokens(self, batch):
        return len(batch)

    def padding_of(self, batch):
        return 9.0, 12.0

    def losses(self, model, batch, epoch):
        found = model(torch.stack(list(batch.values())))[:, 0].square()
        if self.spoilt.get("memory"):
            raise torch.OutOfMemoryError("CUDA out of memory")
        spoilt = [self.spoilt.get(name, 0.0) for name in batch]
        found = found + torch.tensor(spoilt)
        if self.spoilt.get("gradient"):
            found = found + (model(torch.zeros(3, 4))[:, 0] * 0).sqrt()
        return found, {}


def run(task, notes=None):
    fabric = Fabric(accelerator="cpu", devices=1)
    model = fabric.setup_module(task.model)
    rehearse(fabric, task, model, 0, Notes() if notes is None else notes)


@pytest.mark.parametrize(
    ("spoilt", "message"),
    [
        ({}, None),
        ({"b": math.inf}, "^b: loss not finite before the first step, from fewer frames than the text needs"),
        ({"a": math.nan, "c": math.nan}, "^a, c: loss not finite before the first step, from NaN"),
        ({"gradient": True}, r"^a, b, c: gradient of 0\.weight not finite before the first step"),
        ({"memory": True}, None),
    ],
)
def test_a_rehearsal_leaves_no_trace_and_names_what_goes_wrong(spoilt, message):
    task = Task(**spoilt)
    task.whole[3].eval()
    task.whole[0].weight.grad = torch.full((4, 4), 7.0)
    before = copy.deepcopy(task.whole.state_dict())
    random, gradients = torch.get_rng_state(), [p.grad for p in task.whole.parameters()]
    if message is None:
        run(task)
    else:
        with pytest.raises(DataError, match=message):
            run(task)
    assert torch.equal(torch.get_rng_state(), random)
    for key, value in task.whole.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert all(p.grad is g for p, g in zip(task.whole.parameters(), gradients, strict=True))
    assert torch.equal(task.whole[0].weight.grad, torch.full((4, 4), 7.0))
    assert [part.training for part in task.whole] == [True, True, True, False]


def test_too_little_memory_for_the_largest_batch_is_said():
    notes = Notes()
    run(Task(memory=True), notes)
    assert len(notes) == 1
    assert "3 of 75% useful frames, does not fit into memory" in notes[0]


def test_the_largest_batch_of_real_tensors_is_rehearsed(recognizer, tmp_path):
    """Text that fits by the manifest's durations only: the loss is infinite, and named without a step."""
    utterances = [write(tmp_path, f"u{i}", 40 + i) for i in range(4)]
    utterances.append(write(tmp_path, "bad", 10, text="abab" * 5, seconds=0.44))
    dataset = SpeechDataset(utterances, Normalizer(), CharacterTokenizer("ab"), 8000, 20)
    sampler = BatchSampler([u.duration for u in utterances], batch_seconds=9, shuffle=True)
    from asr.models.ctc import ctc_loss

    class Speech(Task):
        def __init__(self):
            types.SimpleNamespace.__init__(self, whole=recognizer, model=recognizer.model)

        def largest(self, epoch):
            return dataset.batch(sampler.largest(epoch))

        def names(self, batch):
            return batch.ids

        def num_tokens(self, batch):
            return int(batch.target_lengths.sum())

        def losses(self, model, batch, epoch):
            log_probs, lengths = model(*recognizer.features(batch.inputs, batch.input_lengths))
            return ctc_loss(log_probs, lengths, batch.targets, batch.target_lengths), {}

    with pytest.raises(DataError, match=r"^bad: loss not finite before the first step, from fewer frames"):
        run(Speech())
