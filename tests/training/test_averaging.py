"""Averages of weights."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from test_loop import Silent, make_config, make_corpus

from asr.container import read_tensors
from asr.training.averaging import BestEpochs, Ema, mean_weights, swapped
from asr.training.checkpoint import read_checkpoint
from asr.training.run import train


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("tones"))


def test_moving_average_is_that_of_torch():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    ema = Ema(0.5)
    ema.start(model)
    ema._steps = 1000  # beyond the first steps, in which the decay rises
    reference = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.5), use_buffers=True
    )
    reference.update_parameters(model)  # the first call copies
    for _ in range(5):
        with torch.no_grad():
            for value in model.state_dict().values():
                value.add_(torch.randn(value.shape).to(value.dtype))
        ema.update()
        reference.update_parameters(model)
    expected = reference.module.state_dict()
    for key, value in ema.weights().items():
        torch.testing.assert_close(value, expected[key])


def test_first_steps_are_soon_forgotten():
    model = nn.Linear(1, 1)
    ema = Ema(0.9999)
    ema.start(model)
    with torch.no_grad():
        model.weight.fill_(5.0)
    for _ in range(100):
        ema.update()
    assert ema.weights()["weight"].item() == pytest.approx(5.0, abs=0.01)


def test_state_goes_through_a_checkpoint():
    model = nn.Linear(2, 2)
    ema, other = Ema(), Ema()
    ema.start(model)
    with torch.no_grad():
        model.weight.mul_(2)
    ema.update()
    other.start(model)
    other.load_state_dict(ema.state_dict())
    ema.update()
    other.update()
    assert all(torch.equal(value, other.weights()[key]) for key, value in ema.weights().items())


def test_mean_of_equal_weights_is_what_they_are():
    state = {"a": torch.randn(100), "count": torch.tensor(3)}
    mean = mean_weights([state] * 7)
    assert torch.equal(mean["a"], state["a"])
    assert mean["count"] == 3
    pair = mean_weights([{"a": torch.tensor([1.0])}, {"a": torch.tensor([4.0])}])
    assert pair["a"].item() == 2.5


def test_swapped_weights_are_given_back_even_after_an_error():
    model = nn.Linear(2, 2)
    before = {key: value.clone() for key, value in model.state_dict().items()}

    def fail():
        with swapped(model, {"bias": torch.ones(2)}):
            assert model.bias.tolist() == [1, 1]
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize(("make", "value"), [(Ema, 0.0), (Ema, 1.0), (BestEpochs, 1)])
def test_values_without_meaning_are_refused(make, value):
    with pytest.raises(ValueError, match=str(value)):
        make(value)


def test_moving_average_is_what_is_saved(manifest, tmp_path):
    average = {"_target_": "asr.training.averaging.Ema", "decay": 0.9}
    train(make_config(manifest, tmp_path, epochs=1, average=average), Silent())
    content = read_checkpoint(tmp_path)
    saved = read_tensors(tmp_path / "model.asr")
    for key, value in content["average"]["average"].items():
        assert torch.equal(saved[f"model.{key}"], value)
        if value.numel() > 1:
            assert not torch.equal(value, content["model"][f"model.{key}"])


@pytest.mark.parametrize("better", [True, False])
def test_average_of_the_best_epochs_is_taken_if_better(manifest, tmp_path, monkeypatch, better):
    import asr.training.speech as speech

    states = {}

    def validate(task):
        epoch = len(states) + 1
        states[epoch] = {k: v.clone() for k, v in task.model.state_dict().items()}
        wer = {1: 0.5, 2: 0.3, 3: 0.4, 4: 0.6}.get(epoch, 0.2 if better else 0.35)
        return {"dev_loss": 1.0, "dev_wer": wer, "dev_cer": wer}

    monkeypatch.setattr(speech.SpeechTask, "validate", validate)
    average = {"_target_": "asr.training.averaging.BestEpochs", "count": 2}
    monitor = Silent()
    train(make_config(manifest, tmp_path, epochs=4, average=average), monitor)
    state = read_checkpoint(tmp_path)["state"]
    expected = mean_weights([states[2], states[3]]) if better else states[2]
    saved = read_tensors(tmp_path / "model.asr")
    assert all(torch.equal(saved[f"model.{key}"], value) for key, value in expected.items())
    assert state["best"].get("averaged_epochs") == ([2, 3] if better else None)
    (note,) = (note for note in monitor.notes if "average" in note)
    assert note.startswith(f"the average of epochs 2, 3 has dev_wer {'0.2000' if better else '0.3500'}")
    assert note.endswith("the average is taken" if better else "epoch 2 is taken")
    assert not (tmp_path / "best").exists()
