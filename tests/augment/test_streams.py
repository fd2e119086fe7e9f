"""Draws depend on seed, epoch, utterance and purpose alone."""

import zlib

import numpy as np
import pytest

from asr.augment.streams import applies, check_range, stream, utterance_rng


def test_draws_depend_on_seed_epoch_utterance_and_purpose_alone():
    def draw(*key):
        return utterance_rng(*key).random()

    assert draw(1, 2, "a") == draw(1, 2, "a")
    assert len({draw(1, 2, "a"), draw(2, 2, "a"), draw(1, 3, "a"), draw(1, 2, "b"), draw(1, 2, "a", 1)}) == 5


def test_a_stream_is_that_of_the_purpose_whatever_was_drawn_before():
    rng = utterance_rng(1, 2, "a")
    rng.random(7)
    assert stream(rng, 3).random() == utterance_rng(1, 2, "a", 3).random()


def test_a_probability_is_the_share_of_utterances():
    share = np.mean([applies(0.3, utterance_rng(0, 0, str(i))) for i in range(2000)])
    assert share == pytest.approx(0.3, abs=0.04)
    assert not applies(0.0, np.random.default_rng(0))
    assert applies(1.0, np.random.default_rng(0))


@pytest.mark.parametrize("values", [[1], [2, 1], [0, 3], [-1, 1], [1, 1.5, 2]])
def test_a_range_is_two_numbers_in_order_and_in_bounds(values):
    with pytest.raises(ValueError, match=r"x must be two numbers, the smaller first, between 0 and 2"):
        check_range("x", values, 0, 2)


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1, 2**32, 2**70])
def test_generators_are_those_that_numpy_makes_of_the_four_numbers(seed):
    expected = np.random.default_rng([seed, 2, zlib.crc32(b"a"), 3])
    rng = utterance_rng(seed, 2, "a")
    for found in (utterance_rng(seed, 2, "a", 3), stream(rng, 3)):
        assert found.bit_generator.state == expected.bit_generator.state
