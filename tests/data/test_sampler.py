"""Batches by seconds: every utterance once, within the budget, the same for the same seed and epoch."""

import numpy as np
import pytest

from asr.data.sampler import BatchSampler
from asr.errors import DataError

DURATIONS = np.random.default_rng(0).gamma(2.0, 1.5, 500) + 0.2


def make(durations=DURATIONS, *, batch_seconds=30, shuffle=True, **options):
    return BatchSampler(durations, batch_seconds=batch_seconds, shuffle=shuffle, **options)


def padded(batch, durations=DURATIONS):
    return durations[batch].max() * len(batch)


@pytest.mark.parametrize("order", ["shuffled", "sortagrad", "packed", None])
@pytest.mark.parametrize("epoch", [0, 3])
@pytest.mark.parametrize("num_replicas", [1, 4])
def test_every_utterance_comes_once_and_batches_keep_to_the_budget(order, epoch, num_replicas):
    options = {"order": order} if order else {"shuffle": False}
    batches = make(num_replicas=num_replicas, **options).batches(epoch)
    assert sorted(i for batch in batches for i in batch) == list(range(len(DURATIONS)))
    for batch in batches:
        assert padded(batch) <= 30 or len(batch) == num_replicas
        assert len(batch) >= num_replicas
        assert (np.diff(DURATIONS[batch]) <= 0).all()


def test_an_utterance_longer_than_the_budget_is_a_batch_of_its_own():
    assert make([1.0, 50.0, 1.0], batch_seconds=10, shuffle=False).batches(0) == [[1], [0, 2]]


def test_unshuffled_batches_run_from_long_to_short():
    order = [i for b in make(shuffle=False).batches(0) for i in b]
    assert (np.diff(DURATIONS[order]) <= 0).all()


def test_sortagrad_runs_from_short_to_long_in_the_first_epoch_only():
    def longest(epoch):
        return np.array([DURATIONS[batch].max() for batch in make(order="sortagrad").batches(epoch)])

    assert (np.diff(longest(0)) >= 0).all()
    assert not (np.diff(longest(1)) >= 0).all()
    assert make(order="sortagrad").batches(1) == make().batches(1)


@pytest.mark.parametrize("order", ["shuffled", "packed"])
@pytest.mark.parametrize("num_replicas", [1, 3])
def test_the_largest_batch_runs_first(order, num_replicas):
    for epoch in range(5):
        sampler = make(order=order, num_replicas=num_replicas)
        sizes = [padded(batch) for batch in sampler.batches(epoch)]
        assert sizes[0] == max(sizes)
        sampler.set_position(epoch)
        assert next(iter(sampler)) == sampler.largest(epoch)


def test_the_largest_batch_is_known_where_it_does_not_run_first():
    sampler = make(order="sortagrad")
    assert padded([index for _, index in sampler.largest(0)]) == max(map(padded, sampler.batches(0)))


def test_packing_repeats_its_batches_in_another_order():
    first, second = (make(order="packed").batches(epoch) for epoch in (0, 1))
    assert first != second
    assert sorted(first) == sorted(second)


def test_shuffling_brings_other_utterances_together_in_every_epoch():
    first, second = ({tuple(batch) for batch in make().batches(epoch)} for epoch in (0, 1))
    assert len(first & second) < 0.2 * len(first)


@pytest.mark.parametrize("order", ["shuffled", "sortagrad", "packed"])
def test_batches_depend_on_seed_and_epoch_only(order):
    sampler = make(order=order, seed=1)
    batches = [sampler.batches(epoch) for epoch in range(3)]
    assert [make(order=order, seed=1).batches(epoch) for epoch in (2, 1, 0)] == batches[::-1]
    assert batches[1] != batches[2]
    assert batches[1] != make(order=order, seed=2).batches(1)


@pytest.mark.parametrize("num_replicas", [1, 2])
def test_an_epoch_taken_up_in_the_middle_goes_on_with_the_very_next_batch(num_replicas):
    sampler = make(num_replicas=num_replicas)
    sampler.set_position(4)
    whole = list(sampler)
    sampler.set_position(4, start=7)
    assert list(sampler) == whole[7:]
    assert len(sampler) == len(whole) - 7


def test_a_position_set_later_does_not_disturb_an_epoch_under_way():
    sampler = make()
    sampler.set_position(4)
    whole = list(sampler)
    under_way = iter(sampler)
    next(under_way)
    sampler.set_position(5)
    assert list(under_way) == whole[1:]


@pytest.mark.parametrize("num_replicas", [2, 3, 8])
@pytest.mark.parametrize("order", ["shuffled", "sortagrad", "packed"])
def test_devices_share_each_batch_in_equally_many_steps(num_replicas, order):
    durations = np.append(DURATIONS, [40.0, 60.0])  # longer than the budget
    samplers = [
        make(durations, order=order, num_replicas=num_replicas, rank=rank) for rank in range(num_replicas)
    ]
    for epoch in (0, 1):
        for sampler in samplers:
            sampler.set_position(epoch)
        steps = list(zip(*samplers, strict=True))
        assert len(steps) == len(samplers[0])
        for batch, shares in zip(samplers[0].batches(epoch), steps, strict=True):
            assert sorted(index for share in shares for _, index in share) == sorted(batch)
            assert max(map(len, shares)) - min(map(len, shares)) <= 1
            assert min(map(len, shares)) >= 1


def test_two_devices_get_the_batches_of_one_where_none_is_of_a_single_utterance():
    assert min(map(len, make().batches(1))) > 1
    assert make(num_replicas=2).batches(1) == make().batches(1)


@pytest.mark.parametrize(
    ("durations", "num_replicas", "expected"),
    [
        ([9, 8, 7, 6, 1], 2, [[0, 1], [2, 3, 4]]),  # one left over, too few to give: the last two are one
        ([3, 3, 3, 2], 2, [[0, 1], [2, 3]]),  # one left over, one given
        ([1, 1, 1], 3, [[0, 1, 2]]),
    ],
)
def test_small_batches_are_filled_from_their_neighbours(durations, num_replicas, expected):
    assert make(durations, batch_seconds=10, shuffle=False, num_replicas=num_replicas).batches(0) == expected


def test_fewer_utterances_than_devices_are_refused():
    with pytest.raises(DataError, match="2 utterances cannot be shared among 3 devices"):
        make([1.0, 2.0], num_replicas=3)


@pytest.mark.parametrize("num_replicas", [1, 2, 4])
def test_little_of_a_shuffled_batch_is_padding(num_replicas):
    assert make(num_replicas=num_replicas).useful_share() > 0.95


def test_speeds_of_the_epoch_count():
    speeds = [np.random.default_rng(epoch).choice([0.9, 1.0, 1.1], len(DURATIONS)) for epoch in (0, 1)]
    sampler = make(stretch=lambda epoch: 1 / speeds[epoch])
    for epoch in (0, 1):
        lengths = DURATIONS / speeds[epoch]
        sizes = [padded(batch, lengths) for batch in sampler.batches(epoch)]
        assert max(sizes) <= 30
        assert lengths.sum() / sum(sizes) == pytest.approx(sampler.useful_share(epoch))
        assert sampler.useful_share(epoch) > 0.95


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_seconds": 0}, "batch_seconds"),
        ({"order": "longest"}, "order must be one of shuffled"),
        ({"num_replicas": 2, "rank": 2}, "rank must lie from 0 to 1"),
    ],
)
def test_values_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)
