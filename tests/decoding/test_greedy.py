"""Best-path decoding: merged repeats, word times, confidence."""

import math

import pytest
import torch

from asr.decoding.confidence import Calibration, Logistic
from asr.decoding.greedy import GreedyDecoder
from asr.decoding.timing import time_words

CHARACTERS = ("", " ", "a", "b")


def log_probs_of(path, vocabulary=4, probability=0.9):
    rest = math.log((1 - probability) / (vocabulary - 1))
    frames = torch.full((1, len(path), vocabulary), rest)
    for t, token in enumerate(path):
        frames[0, t, token] = math.log(probability)
    return frames


def decode(path, pieces=CHARACTERS, length=None):
    log_probs = log_probs_of(path, len(pieces))
    return GreedyDecoder()(log_probs, torch.tensor([length or len(path)]), pieces, 0.02)[0]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ([2, 2, 3, 3], "ab"),
        ([2, 0, 2], "aa"),
        ([0, 0, 0], ""),
        ([1, 2, 1, 0, 1, 3, 1], "a  b"),
        ([2, 1, 3], "a b"),
    ],
)
def test_merges_repeats_and_drops_blanks(path, text):
    assert decode(path).text == text


def test_words_have_the_times_of_the_forced_alignment_of_their_text():
    path = [0, 2, 2, 3, 0, 1, 0, 3, 3, 0]
    hypothesis = decode(path)
    assert [(w.text, w.start) for w in hypothesis.words] == [
        ("ab", pytest.approx(0.02)),
        ("b", pytest.approx(0.14)),
    ]
    forced = time_words(log_probs_of(path)[0], hypothesis.tokens, CHARACTERS, 0.02)
    for word, other in zip(hypothesis.words, forced, strict=True):
        assert (word.text, word.tokens) == (other.text, other.tokens)
        assert (word.start, word.end) == (other.start, other.end)
        assert word.confidence == pytest.approx(other.confidence)


def test_a_calibration_changes_confidences_and_nothing_else():
    calibration = Calibration(Logistic(0.5, 0.0), Logistic(0.0, 1.0))
    path = [2, 2, 0, 3]
    raw = decode(path)
    (calibrated,) = GreedyDecoder(calibration)(log_probs_of(path), torch.tensor([4]), CHARACTERS, 0.02)
    assert calibrated.words[0].confidence == pytest.approx(0.75)  # odds 9 to the power of a half
    assert calibrated.confidence == pytest.approx(1 / (1 + math.exp(-1)))
    assert (calibrated.text, calibrated.log_prob) == (raw.text, raw.log_prob)


def test_words_of_word_and_subword_pieces_part_at_spaces():
    pieces = ("", " one", " two", "ty")
    assert [w.text for w in decode([1, 0, 2, 3, 1], pieces).words] == ["one", "twoty", "one"]
    assert decode([1, 0, 2, 3, 1], pieces).text == "one twoty one"


def test_words_have_their_tokens_and_the_spaces_before_them():
    assert [w.tokens for w in decode([2, 0, 1, 3, 1, 2]).words] == [(2,), (1, 3), (1, 2)]
    assert [w.tokens for w in decode([1, 0, 2, 3], ("", " one", " two", "ty")).words] == [(1,), (2, 3)]


def test_confidence_is_the_mean_peak_probability_and_the_score_that_of_the_path():
    hypothesis = decode([2, 2, 0, 3])
    assert hypothesis.confidence == pytest.approx(0.9)
    assert hypothesis.words[0].confidence == pytest.approx(0.9)
    assert hypothesis.log_prob == pytest.approx(4 * math.log(0.9), rel=1e-5)
    assert hypothesis.tokens == (2, 3)


def test_frames_beyond_the_length_are_not_read():
    assert decode([2, 0, 3, 3], length=2).text == "a"
