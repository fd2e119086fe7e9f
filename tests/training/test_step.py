"""One step: what it is made of does not change what it comes to."""

import json
import os
import sys
from pathlib import Path
from typing import ClassVar

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from test_loop import Silent, make_config, make_corpus

import asr.training.speech as speech
from asr.errors import ConfigError, DataError
from asr.training.checkpoint import read_checkpoint
from asr.training.run import train


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("tones"))


def config_of(manifest, folder, norm=None, **trainer):
    """Without dropout, which draws for a batch as a whole."""
    config = make_config(manifest, folder, **trainer)
    config["model"]["encoder"]["dropout"] = 0.0
    if norm is not None:
        encoder = config["model"]["encoder"]
        config["model"]["encoder"] = encoder | {"cell": "ligru", "norm": norm}
    return config


def distance(a, b):
    """Return the largest relative distance of two checkpoints' values."""
    a, b = (read_checkpoint(folder)["model"] for folder in (a, b))
    pairs = [(a[key].double(), b[key].double()) for key in a]
    return max(((x - y).norm() / x.norm().clamp(min=1e-12)).item() for x, y in pairs)


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").open()]


class Scarce:
    """Lets memory run out for batches of more than some utterances, before or behind the forward pass."""

    def __init__(self, monkeypatch, limit, late):
        self.count = 0
        original = speech.SpeechTask.losses

        def losses(task, model, batch, epoch):
            enough = len(batch.ids) <= limit
            if not enough and not late:
                self.run_out()
            found, sums = original(task, model, batch, epoch)
            if not enough:
                found.register_hook(self.run_out)  # in the backward pass, some gradients being there already
            return found, sums

        monkeypatch.setattr(speech.SpeechTask, "losses", losses)

    def run_out(self, *_):
        self.count += 1
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_batch_that_does_not_fit_is_divided_and_the_step_is_the_same(
    manifest, tmp_path, monkeypatch, late, accumulate
):
    options = {"epochs": 2, "batch_seconds": 3.0, "accumulate": accumulate}
    train(config_of(manifest, tmp_path / "whole", **options), Silent())
    with monkeypatch.context() as patch:
        scarce = Scarce(patch, 2, late)
        train(config_of(manifest, tmp_path / "split", **options), Silent())
    assert distance(tmp_path / "whole", tmp_path / "split") < 1e-5
    found = sum(entry["split_batches"] for entry in metrics(tmp_path / "split"))
    assert scarce.count - 1 == found > 0  # once more before the first step
    assert sum(entry["split_batches"] for entry in metrics(tmp_path / "whole")) == 0


def test_an_utterance_that_does_not_fit_alone_is_named(manifest, tmp_path, monkeypatch):
    Scarce(monkeypatch, 0, late=False)
    with pytest.raises(DataError, match=r"^u\d: does not fit into memory even alone \(CUDA out of memory"):
        train(config_of(manifest, tmp_path), Silent())


def test_accumulated_batches_make_the_step_of_one_large_batch(manifest, tmp_path):
    # All utterances make one step an epoch, however they are cut into batches.
    train(config_of(manifest, tmp_path / "one", batch_seconds=100.0), Silent())
    train(config_of(manifest, tmp_path / "many", batch_seconds=1.0, accumulate=100), Silent())
    assert [entry["step"] for entry in metrics(tmp_path / "many")] == [1, 2]
    assert distance(tmp_path / "one", tmp_path / "many") < 1e-5


@pytest.mark.parametrize(
    ("clip_by", "clip", "largest"), [("norm", 1e-3, 1e-3), ("value", 1e-4, None), ("norm", None, None)]
)
def test_clipping(manifest, tmp_path, clip_by, clip, largest, monkeypatch):
    seen = []
    original = torch.optim.SGD.step

    def step(self, *args, **kwargs):
        gradients = [p.grad.flatten() for group in self.param_groups for p in group["params"]]
        seen.append(torch.cat(gradients))
        return original(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    config = config_of(manifest, tmp_path, epochs=1, clip_by=clip_by, gradient_clip=clip)
    config["optimizer"] = {"_target_": "asr.training.optimization.sgd", "lr": 1e-3}
    train(config, Silent())
    norm = sum(gradient.norm().item() for gradient in seen) / len(seen)
    before = metrics(tmp_path)[0]["grad_norm"]
    if clip is None:
        assert norm == pytest.approx(before, rel=1e-5)
    elif clip_by == "norm":
        assert norm == pytest.approx(largest, rel=1e-4)
        assert before > 10 * largest
    else:
        assert max(gradient.abs().max().item() for gradient in seen) == pytest.approx(clip)


def test_a_skipped_step_leaves_no_trace_even_in_batch_normalisation(manifest, tmp_path, monkeypatch):
    original = speech.SpeechTask.losses

    def losses(task, model, batch, epoch):
        found, sums = original(task, model, batch, epoch)
        if task.recognizer.training or epoch == 0:
            found = found * torch.tensor([float("inf")] + [1.0] * (len(batch.ids) - 1))
        return found, sums

    monkeypatch.setattr("asr.training.loop.rehearse", lambda *_: None)
    config = config_of(manifest, tmp_path / "run", epochs=1, norm="batch", save_every_minutes=1e-6)
    start = {}

    class Watching(Silent):
        def step(self, **report):
            weights = read_checkpoint(tmp_path / "run")
            if weights is not None:
                start.setdefault("model", weights["model"])

    monkeypatch.setattr(speech.SpeechTask, "losses", losses)
    monitor = Watching()
    train(config, monitor)
    end = read_checkpoint(tmp_path / "run")["model"]
    assert any("norm" in key and "running_mean" in key for key in end)
    assert all(torch.equal(end[key], value) for key, value in start["model"].items())
    entry = metrics(tmp_path / "run")[0]
    assert entry["skipped_steps"] == entry["step"] > 1
    assert all("loss not finite for u" in note for note in monitor.notes if "skipped" in note)


def test_float16_needs_a_gpu(manifest, tmp_path):
    with pytest.raises(ConfigError, match=r"trainer\.precision: 16-mixed needs a CUDA device"):
        train(config_of(manifest, tmp_path, precision="16-mixed"), Silent())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["16-mixed", "bf16-mixed", "32-true"])
def test_learns_on_a_gpu_in_every_precision(manifest, tmp_path, precision):
    config = config_of(manifest, tmp_path, precision=precision, accelerator="cuda", epochs=40)
    train(config, Silent())
    entries = metrics(tmp_path)
    assert entries[-1]["train_loss"] < 0.5 * entries[0]["train_loss"]
    assert entries[-1]["peak_memory_mib"] > 0
    content = read_checkpoint(tmp_path)
    assert ("scale" in content["precision"]) == (precision == "16-mixed")
    assert content["random"][0]["cuda"] is not None


def test_what_is_reported_of_an_epoch(manifest, tmp_path):
    class Watching(Silent):
        def step(self, *, loss, lr, seconds, running):
            self.running = running

    monitor = Watching()
    train(config_of(manifest, tmp_path), monitor)
    entry = metrics(tmp_path)[-1]
    shares = ("blank_rate", "waiting_share", "useful_share")
    assert all(0 <= entry[name] <= 1 for name in shares)
    assert entry["useful_share"] > 0.7
    assert entry["peak_memory_mib"] > 50
    assert entry["grad_norm"] > 0
    assert {*shares, "grad_norm", "audio_seconds_per_second", "peak_memory_mib"} <= monitor.running.keys()


def test_training_ends_once_no_epoch_is_better(manifest, tmp_path):
    config = config_of(manifest, tmp_path, epochs=50, patience=2)
    config["optimizer"]["lr"] = 1e-12
    monitor = Silent()
    train(config, monitor)
    state = read_checkpoint(tmp_path)["state"]
    assert state["epoch"] == state["best"]["epoch"] + 2 < 50
    assert state["finished"]
    assert any("in 2 epochs: stopped" in note for note in monitor.notes)
    again = Silent()
    train(config, again)
    assert any("holds the finished training" in note for note in again.notes)


def resident_mib():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize("num_workers", [0, 2])
def test_memory_is_flat_over_50_epochs(manifest, tmp_path, num_workers):
    class Watching(Silent):
        sizes: ClassVar[list[float]] = []

        def end_epoch(self, metrics):
            self.sizes.append(resident_mib())

    monitor = Watching()
    monitor.sizes.clear()
    train(config_of(manifest, tmp_path, epochs=50, num_workers=num_workers), monitor)
    assert len(monitor.sizes) == 50
    assert max(monitor.sizes[1:]) < 1.02 * monitor.sizes[0]
