"""Best-path decoding: merged repeats, word times, confidence."""

import math

import pytest
import torch

from asr.decoding.greedy import GreedyDecoder

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


def test_words_have_the_time_of_their_first_and_last_token():
    words = decode([0, 2, 2, 3, 0, 1, 0, 3, 3, 0]).words
    assert [(w.text, w.start, w.end) for w in words] == [
        ("ab", pytest.approx(0.02), pytest.approx(0.08)),
        ("b", pytest.approx(0.14), pytest.approx(0.18)),
    ]


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
