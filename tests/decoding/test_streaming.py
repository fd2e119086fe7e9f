"""Best-path decoding of a stream."""

import math

import pytest
import torch

from asr.decoding.confidence import Calibration, Logistic
from asr.decoding.greedy import GreedyDecoder
from asr.decoding.streaming import SETTLE_SECONDS, GreedyStream

SHIFT = 0.02
# Blank, a space of its own, letters; and word pieces that begin or end with a space.
PIECES = ("", " ", "a", "b", " c", "d ")
CALIBRATION = Calibration(Logistic(2.0, -1.0), Logistic(1.0, 0.0))


def random_log_probs(num_frames, seed):
    generator = torch.Generator().manual_seed(seed)
    # Blanks most of the time, as CTC has them, in runs that stay shorter than `SETTLE_SECONDS`.
    logits = 3 * torch.randn(num_frames, len(PIECES), generator=generator)
    logits[:, 0] += 3
    return logits.log_softmax(-1)


def one_hot(path):
    log_probs = torch.full((len(path), len(PIECES)), math.log(0.02))
    log_probs[range(len(path)), path] = math.log(0.9)
    return log_probs


def stream_words(log_probs, size, calibration=None):
    stream = GreedyStream(PIECES, SHIFT, calibration)
    words = [word for piece in log_probs.split(size) for word in stream.push(piece)]
    return words + stream.settle()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size", [1, 7, 400])
@pytest.mark.parametrize("calibration", [None, CALIBRATION], ids=["raw", "calibrated"])
def test_words_times_and_confidences_are_those_of_the_greedy_decoder(seed, size, calibration):
    log_probs = random_log_probs(400, seed)
    whole = GreedyDecoder(calibration)(log_probs[None], torch.tensor([400]), PIECES, SHIFT)[0]
    words = stream_words(log_probs, size, calibration)
    assert len(words) > 20
    assert [word.text for word in words] == [word.text for word in whole.words]
    for word, expected in zip(words, whole.words, strict=True):
        assert word.start == pytest.approx(expected.start)
        assert word.end == pytest.approx(expected.end)
        assert word.confidence == pytest.approx(expected.confidence, abs=1e-6)


def test_a_word_is_final_when_the_next_one_begins():
    stream = GreedyStream(PIECES, SHIFT)
    assert stream.push(one_hot([2, 0, 3, 1])) == []
    assert stream.partial == "ab"
    assert [word.text for word in stream.push(one_hot([2]))] == ["ab"]
    assert stream.partial == "a"


def test_a_word_is_final_soon_after_the_space_that_ends_it():
    stream = GreedyStream(PIECES, SHIFT)
    words = stream.push(one_hot([2, 1, *[0] * 4]))
    assert [(word.text, word.start, word.end) for word in words] == [("a", 0.0, pytest.approx(0.06))]
    assert stream.partial == ""


def test_a_word_is_final_after_a_long_run_of_blanks_and_letters_then_begin_another():
    run = math.ceil(SETTLE_SECONDS / SHIFT)
    stream = GreedyStream(PIECES, SHIFT)
    assert stream.push(one_hot([2, *[0] * (run - 1)])) == []
    assert [word.text for word in stream.push(one_hot([0]))] == ["a"]
    stream.push(one_hot([3]))
    assert [(word.text, word.start) for word in stream.settle()] == [("b", pytest.approx((run + 1) * SHIFT))]


def test_a_token_that_goes_on_after_its_word_was_given_out_is_not_heard_twice():
    stream = GreedyStream(PIECES, SHIFT)
    stream.push(one_hot([2, 2]))
    assert [word.text for word in stream.settle()] == ["a"]
    assert stream.push(one_hot([2, 2])) == []
    assert stream.settle() == []


def test_a_word_without_end_is_given_out():
    stream = GreedyStream(PIECES, SHIFT)
    words = stream.push(one_hot([2, 0, 3, 0] * 200))
    assert [len(word.text) for word in words] == [251]


def test_what_it_keeps_does_not_grow():
    stream = GreedyStream(PIECES, SHIFT)
    for seed in range(20):
        stream.push(random_log_probs(400, seed))
        assert len(stream._spans) < 100
