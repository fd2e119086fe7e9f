"""Data set and loader: the same batches whatever the workers, errors that name the utterance."""

import dataclasses
import signal
import subprocess
import sys
import time
from functools import partial

import numpy as np
import pytest
import soundfile
import torch

from asr.augment import SpeedPerturb
from asr.data import loader
from asr.data.dataset import SpeechDataset
from asr.data.loader import make_loader
from asr.data.sampler import BatchSampler
from asr.errors import AudioError, DataError
from asr.text import CharacterTokenizer, Normalizer
from asr.types import Utterance

RATE = 8000


@pytest.fixture(scope="module")
def utterances(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("audio"), np.random.default_rng(0)
    found = []
    for i, seconds in enumerate(rng.uniform(0.3, 1.5, 40)):
        path = folder / f"{i}.wav"
        soundfile.write(path, rng.uniform(-0.5, 0.5, round(seconds * RATE)), RATE)
        found.append(Utterance(f"u{i}", soundfile.info(path).duration, "ab ba"[: i % 5 + 1], str(path)))
    return found


def make_dataset(utterances, **options):
    speed = SpeedPerturb([0.8, 1.0, 1.2])
    options = {"transform": speed, "factor": speed.factor} | options
    return SpeechDataset(utterances, Normalizer(), CharacterTokenizer("ab"), RATE, 13, seed=3, **options)


def make_sampler(utterances, **options):
    return BatchSampler(
        [u.duration for u in utterances], batch_seconds=5, **({"shuffle": True, "seed": 3} | options)
    )


def same(left, right):
    return left.ids == right.ids and all(
        torch.equal(getattr(left, name), getattr(right, name))
        for name in ("inputs", "input_lengths", "targets", "target_lengths")
    )


def louder(batch, epoch):
    """Stands for the front end: depends on the epoch, and multiplies matrices."""
    features = batch.inputs[..., None] @ torch.full((1, 3), epoch + 0.3)
    return dataclasses.replace(batch, inputs=features, finished=True)


@pytest.mark.parametrize("num_workers", [1, 2])
@pytest.mark.parametrize("shared_from", [0, 1 << 16, 1 << 30], ids=["shared", "some shared", "by value"])
def test_workers_change_nothing_however_often_an_epoch_is_taken_up(
    utterances, num_workers, shared_from, monkeypatch
):
    monkeypatch.setattr(loader, "_SHARED_FROM", shared_from)
    dataset, sampler = make_dataset(utterances), make_sampler(utterances)
    alone = make_loader(dataset, sampler, finish=louder)
    helped = make_loader(dataset, make_sampler(utterances), finish=louder, num_workers=num_workers)
    for epoch, start in ((0, 0), (0, 3), (2, 0), (2, 5)):
        for one in (alone, helped):
            one.batch_sampler.set_position(epoch, start)
        expected, found = list(alone), list(helped)
        assert len(expected) == len(sampler.batches(epoch)) - start
        assert all(same(a, b) and b.finished for a, b in zip(expected, found, strict=True))
        raw = dataset.batch([(epoch, i) for i in sampler.batches(epoch)[start]])
        assert torch.equal(louder(raw, epoch).inputs, found[0].inputs)


def test_batches_read_ahead_are_not_counted_as_done(utterances):
    """What was taken from the loader says where it stands, not what its workers have read already."""
    dataset = make_dataset(utterances)
    batches = make_loader(dataset, make_sampler(utterances), num_workers=2)
    whole = list(batches)
    taken, iterator = [], iter(batches)
    for _ in range(3):
        taken.append(next(iterator))
    rest = make_loader(dataset, make_sampler(utterances), num_workers=2)
    rest.batch_sampler.set_position(0, len(taken))
    assert all(same(a, b) for a, b in zip(whole, [*taken, *rest], strict=True))


def test_lengths_of_an_epoch_are_known_before_anything_is_read(utterances):
    dataset = make_dataset(utterances)
    stretches = {epoch: dataset.stretch(epoch) for epoch in (0, 1)}
    assert not np.array_equal(stretches[0], stretches[1])
    for epoch, stretch in stretches.items():
        for index in range(0, len(utterances), 7):
            samples = len(dataset[epoch, index].inputs)
            assert samples == pytest.approx(utterances[index].duration * RATE * stretch[index], abs=1)
    assert set(make_dataset(utterances, transform=None, factor=None).stretch(0)) == {1.0}


def test_little_is_padding_once_speed_has_changed_lengths(utterances):
    many = [u for u in utterances for _ in range(10)]
    many = [Utterance(f"{i}", u.duration, u.text, u.audio_filepath) for i, u in enumerate(many)]
    dataset = make_dataset(many)

    def useful(stretch):
        batches = make_sampler(many, stretch=stretch).batches(1)
        lengths = np.array([u.duration for u in many]) * dataset.stretch(1)
        return lengths.sum() / sum(lengths[batch].max() * len(batch) for batch in batches)

    assert useful(dataset.stretch) > 0.95 > useful(None)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_utterance_that_cannot_be_read_is_named_in_one_line(utterances, tmp_path, num_workers):
    missing = Utterance("gone", 1.0, "ab", str(tmp_path / "gone.wav"))
    dataset = make_dataset([*utterances, missing])
    found = list(make_loader(dataset, make_sampler(dataset.utterances), num_workers=num_workers))
    [error] = [b for b in found if isinstance(b, AudioError)]
    assert str(error) == f"gone: {tmp_path / 'gone.wav'}: no such file; check the path"
    with pytest.raises(AudioError, match=r"^gone: "):
        dataset.batch([(0, 0), (0, len(utterances))])


@pytest.mark.parametrize("num_workers", [0, 1])
def test_what_the_front_end_says_comes_as_it_is(utterances, num_workers):
    found = list(
        make_loader(make_dataset(utterances), make_sampler(utterances), finish=fail, num_workers=num_workers)
    )
    assert {(type(error), str(error)) for error in found} == {(DataError, "no statistics")}


def fail(batch, epoch):
    raise DataError("no statistics")


def test_features_of_another_kind_are_named(tmp_path):
    np.save(tmp_path / "f.npy", np.zeros((20, 12), np.float32))
    utterance = Utterance("u", 0.2, "a", features_filepath=str(tmp_path / "f.npy"))
    with pytest.raises(DataError, match=r"^u: .*f\.npy: 12 coefficients a frame, the front end takes 13"):
        make_dataset([utterance]).batch([(0, 0)])


def test_where_speed_leaves_too_few_frames_an_utterance_stays_as_it_was(utterances):
    def fits(allowed, inputs, tokens):
        return len(inputs) >= allowed

    index = int(np.argmin(make_dataset(utterances).stretch(0)))
    samples = round(utterances[index].duration * RATE)
    for allowed, kept in ((1, False), (samples, True)):
        inputs = make_dataset(utterances, fits=partial(fits, allowed))[0, index].inputs
        assert (len(inputs) == samples) == kept


@pytest.mark.skipif(sys.platform != "linux", reason="needs to know a signal's sender")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_processes_leaves_the_workers_at_work(utterances, number):
    """Ctrl-C and scancel reach workers too; the training still needs the batches of its last step."""
    batches = make_loader(make_dataset(utterances), make_sampler(utterances), num_workers=2)
    iterator = iter(batches)
    found = [next(iterator), next(iterator)]  # one of each worker, so both have begun
    workers = list(iterator._workers)
    for worker in workers:  # from another process: the parent itself may end its workers
        subprocess.run(["kill", f"-{number.value}", str(worker.pid)], check=True)
    time.sleep(0.2)
    found += list(iterator)
    assert len(found) == len(batches)
    assert all(worker.is_alive() for worker in workers)
    for worker in workers:
        worker.terminate()
        worker.join(10)
        assert worker.exitcode == 0
