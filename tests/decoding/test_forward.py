"""Exact CTC scores are those of torch's CTC loss in float64."""

import math

import pytest
import torch
from torch.nn import functional as F

from asr.decoding import forward
from asr.decoding.forward import ctc_scores


def torch_ctc(log_probs, tokens):
    loss = F.ctc_loss(
        log_probs[:, None].double(),
        torch.tensor([tokens], dtype=torch.int64),
        torch.tensor([len(log_probs)]),
        torch.tensor([len(tokens)]),
        reduction="sum",
    )
    return -loss.item()


def draw(num_frames, size=5, sharpness=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (sharpness * torch.randn(num_frames, size, generator=generator)).log_softmax(dim=1)


SEQUENCES = [(), (1,), (1, 1), (1, 1, 2), (4, 3, 2, 1), (2, 2, 2, 2), (1, 2, 1, 2, 1, 2, 1)]


@pytest.fixture
def without_torch(monkeypatch):
    """See to it that the fast way computes everything, so that it is not torch beside itself."""

    def refuse(*args):
        raise AssertionError("fell back to torch")

    monkeypatch.setattr(forward, "_by_torch", refuse)


@pytest.mark.parametrize("sharpness", [0.0, 1.0, 10.0], ids=["even", "random", "peaky"])
@pytest.mark.parametrize("num_frames", [8, 9, 40, 41])
def test_scores_of_sequences_of_all_lengths_at_once(num_frames, sharpness, without_torch):
    log_probs = draw(num_frames, sharpness=sharpness, seed=num_frames)
    expected = [torch_ctc(log_probs, tokens) for tokens in SEQUENCES]
    assert ctc_scores(log_probs, SEQUENCES) == pytest.approx(expected, rel=1e-12, abs=1e-12)
    for tokens, score in zip(SEQUENCES, expected, strict=True):
        assert ctc_scores(log_probs, [tokens]) == pytest.approx([score], rel=1e-12, abs=1e-12)


def test_just_enough_frames_and_one_too_few():
    for tokens in SEQUENCES:
        needed = len(tokens) + sum(a == b for a, b in zip(tokens[1:], tokens, strict=False))
        for num_frames in (max(1, needed), needed + 1):
            log_probs = draw(num_frames, seed=needed)
            assert ctc_scores(log_probs, [tokens]) == pytest.approx([torch_ctc(log_probs, tokens)], rel=1e-12)
        if needed > 1:
            assert ctc_scores(draw(needed - 1), [tokens]) == [-math.inf]


@pytest.mark.parametrize("seed", range(4))
def test_improbable_sequences(seed):
    """Log-probabilities of -1000 and less, beside a probable one that must not suffer from them."""
    log_probs = draw(60, sharpness=60.0, seed=seed)
    likely = log_probs.argmax(dim=1).unique_consecutive().tolist()
    likely = tuple(token for token in likely if token)
    sequences = [likely, *SEQUENCES]
    expected = [torch_ctc(log_probs, tokens) for tokens in sequences]
    assert min(expected) < -1000 < expected[0]
    assert ctc_scores(log_probs, sequences) == pytest.approx(expected, rel=1e-12)


def test_a_path_that_underflows_before_it_wins():
    """One way loses 1e-400 in the first frames, the other 1e-600 in the last ones: the first one counts."""
    log_probs = torch.full((8, 3), -5000.0, dtype=torch.float64)
    log_probs[:, 0] = 0.0
    log_probs[1, 1] = -400 * math.log(10)
    log_probs[6, 1] = -600 * math.log(10)
    assert ctc_scores(log_probs, [(1,)]) == pytest.approx([torch_ctc(log_probs, (1,))], rel=1e-12)
    assert ctc_scores(log_probs, [(1,)]) == pytest.approx([-400 * math.log(10)], rel=1e-6)


def test_an_utterance_whose_probability_is_beyond_float64_needs_no_fallback(without_torch):
    log_probs = draw(400, size=20, sharpness=0.5, seed=3)
    tokens = tuple(1 + i % 19 for i in range(200))
    expected = torch_ctc(log_probs, tokens)
    assert expected < -745  # exp of it is zero
    assert ctc_scores(log_probs, [tokens]) == pytest.approx([expected], rel=1e-12)


def test_zero_probabilities():
    log_probs = draw(9).masked_fill(torch.eye(9, 5).bool(), -math.inf)
    expected = [torch_ctc(log_probs, tokens) for tokens in SEQUENCES]
    assert ctc_scores(log_probs, SEQUENCES) == pytest.approx(expected, rel=1e-12)
