"""Packed rows against torch's PackedSequence."""

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence

from asr.models.packing import Packing

LENGTHS = [[3], [4, 4], [1, 5, 3], [2, 0, 7, 7, 1], [0, 0]]


@pytest.mark.parametrize("lengths", LENGTHS)
def test_packs_and_unpacks_with_zeros_behind(lengths):
    packing = Packing.of(torch.tensor(lengths))
    x = torch.randn(len(lengths), 9, 2)
    y = packing.unpack(packing.pack(x), 9)
    for b, length in enumerate(lengths):
        assert torch.equal(y[b, :length], x[b, :length])
        assert not y[b, length:].any()


@pytest.mark.parametrize("lengths", LENGTHS[:3])
def test_order_is_that_of_a_packed_sequence(lengths):
    x = torch.randn(len(lengths), max(lengths), 2)
    packing = Packing.of(torch.tensor(lengths))
    reference = pack_padded_sequence(x, torch.tensor(lengths), batch_first=True, enforce_sorted=False)
    assert list(packing.batch_sizes) == reference.batch_sizes.tolist()
    assert torch.equal(packing.pack(x), reference.data)


@pytest.mark.parametrize("lengths", LENGTHS)
def test_reverses_each_utterance_within_its_own_length(lengths):
    packing = Packing.of(torch.tensor(lengths))
    x = torch.randn(len(lengths), max(lengths), 1)
    y = packing.unpack(packing.pack(x)[packing.reversal])
    for b, length in enumerate(lengths):
        assert torch.equal(y[b, :length], x[b, :length].flip(0))


@pytest.mark.parametrize("lengths", LENGTHS)
def test_knows_the_frame_before_and_the_last_one(lengths):
    packing = Packing.of(torch.tensor(lengths))
    # frame t of utterance b is 100 b + t + 1, and its initial row 100 b
    x = (100 * torch.arange(len(lengths))[:, None] + torch.arange(max(lengths)) + 1).unsqueeze(2)
    rows = packing.pack(x)[:, 0]
    with_initial = torch.cat([100 * packing.order, rows])
    assert torch.equal(with_initial[packing.previous], rows - 1)
    assert with_initial[packing.last].tolist() == [100 * b + length for b, length in enumerate(lengths)]


def test_a_slice_of_time_is_a_stretch_of_rows():
    packing = Packing.of(torch.tensor([6, 2, 9]))
    x = torch.randn(3, 9, 2)
    part = packing.slice(3, 7)
    rows = packing.pack(x)[packing.rows_before(3) : packing.rows_before(7)]
    assert part.lengths.tolist() == [3, 0, 4]
    assert torch.equal(part.unpack(rows)[2], x[2, 3:7])
    assert torch.equal(part.unpack(rows)[0, :3], x[0, 3:6])


@pytest.mark.parametrize("lengths", LENGTHS)
def test_knows_the_utterance_of_every_row(lengths):
    lengths = torch.tensor(lengths)
    names = torch.arange(len(lengths))[:, None, None].expand(-1, int(lengths.max()) if len(lengths) else 0, 1)
    packing = Packing.of(lengths)
    assert torch.equal(packing.utterances, packing.pack(names)[:, 0])
    stretch = packing.slice(1, 3)
    first = packing.rows_before(1)
    assert torch.equal(stretch.utterances, packing.utterances[first : first + len(stretch.utterances)])


@pytest.mark.parametrize("overhead", [0, 4, 1000])
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("lengths", [*LENGTHS, [9, 8, 8, 3, 1, 2, 9]])
def test_parts_hold_every_row_once_in_order_of_time(lengths, backwards, overhead, monkeypatch):
    monkeypatch.setattr("asr.models.packing._PART", overhead)
    packing = Packing.of(torch.tensor(lengths))
    x = torch.randn(len(lengths), max(lengths), 3, requires_grad=True)
    rows = packing.pack(x)
    frames = packing.lay(rows, backwards=backwards)
    assert len(frames) == sum(steps * size for steps, size in packing.parts)
    assert torch.equal(packing.take(frames, backwards=backwards), rows)
    padding = len(frames) - len(rows)
    assert padding <= overhead * len(packing.parts)
    sequences = [x[b, :length].flip(0) if backwards else x[b, :length] for b, length in enumerate(lengths)]
    time = 0
    for part, (steps, size) in zip(
        frames.split([steps * size for steps, size in packing.parts]), packing.parts, strict=True
    ):
        assert size == packing.batch_sizes[time]
        for column, b in enumerate(packing.order[:size].tolist()):
            expected = sequences[b][time : time + steps]
            got = part.unflatten(0, (steps, size))[:, column]
            assert torch.equal(got[: len(expected)], expected)
            assert not got[len(expected) :].any()
        time += steps
    assert time == packing.num_steps
    weights = torch.randn_like(rows)
    (gradient,) = torch.autograd.grad((packing.take(frames, backwards=backwards) * weights).sum(), x)
    assert torch.equal(packing.pack(gradient), weights)
