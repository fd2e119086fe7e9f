"""Batches by seconds: every utterance once, within the budget, the same for the same seed and epoch."""

import numpy as np
import pytest

from asr.data.sampler import BatchSampler

DURATIONS = np.random.default_rng(0).gamma(2.0, 1.5, 500) + 0.2


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("epoch", [0, 3])
def test_every_utterance_comes_once_and_batches_keep_to_the_budget(shuffle, epoch):
    batches = BatchSampler(DURATIONS, batch_seconds=30, shuffle=shuffle).batches(epoch)
    assert sorted(i for batch in batches for i in batch) == list(range(len(DURATIONS)))
    for batch in batches:
        assert DURATIONS[batch].max() * len(batch) <= 30 or len(batch) == 1


def test_an_utterance_longer_than_the_budget_is_a_batch_of_its_own():
    batches = BatchSampler([1.0, 50.0, 1.0], batch_seconds=10, shuffle=False).batches(0)
    assert batches == [[1], [0, 2]]


def test_unshuffled_batches_run_from_long_to_short():
    order = [i for b in BatchSampler(DURATIONS, batch_seconds=30, shuffle=False).batches(0) for i in b]
    assert (np.diff(DURATIONS[order]) <= 0).all()


def test_batches_depend_on_seed_and_epoch_only():
    def batches(seed, epoch):
        return BatchSampler(DURATIONS, batch_seconds=30, shuffle=True, seed=seed).batches(epoch)

    assert batches(1, 2) == batches(1, 2)
    assert batches(1, 2) != batches(1, 3)
    assert batches(1, 2) != batches(2, 2)


def test_an_epoch_taken_up_in_the_middle_goes_on_with_the_very_next_batch():
    sampler = BatchSampler(DURATIONS, batch_seconds=30, shuffle=True)
    sampler.set_position(4)
    whole = list(sampler)
    sampler.set_position(4, start=7)
    assert list(sampler) == whole[7:]
    assert len(sampler) == len(whole) - 7


def test_little_of_a_shuffled_batch_is_padding():
    assert BatchSampler(DURATIONS, batch_seconds=30, shuffle=True).useful_share() > 0.9


def test_a_budget_must_be_positive():
    with pytest.raises(ValueError, match="batch_seconds"):
        BatchSampler(DURATIONS, batch_seconds=0, shuffle=True)
