"""Intervals cover as often as they say."""

import dataclasses
import math

import numpy as np
import pytest

from asr.errors import DataError
from asr.scoring import confidence_interval, score


def _score_of(errors, sizes, fields=None):
    """Make a score of utterances with so many deletions of so many words."""
    references = {str(i): " ".join("a" * size) for i, size in enumerate(sizes)}
    hypotheses = {
        str(i): " ".join("a" * (size - wrong))
        for i, (wrong, size) in enumerate(zip(errors, sizes, strict=True))
    }
    return score(references, hypotheses, fields={str(i): f for i, f in enumerate(fields or [])})


def test_interval_has_the_width_of_the_normal_approximation():
    # One word an utterance: errors are Bernoulli, so the 95% interval is p +- 1.96 sqrt(p (1 - p) / n).
    n, p = 2000, 0.1
    low, high = confidence_interval(_score_of([int(i % 10 == 0) for i in range(n)], [1] * n), samples=4000)
    half = 1.96 * math.sqrt(p * (1 - p) / n)
    assert (low, high) == pytest.approx((p - half, p + half), abs=0.1 * half)


def test_interval_is_reproducible_and_grows_with_its_level():
    result = _score_of([1, 0, 2, 0, 1, 3, 1, 0], [4, 5, 6, 3, 4, 5, 6, 7])
    assert confidence_interval(result) == confidence_interval(result)
    assert confidence_interval(result, seed=1) != confidence_interval(result)
    (low, high), (lower, higher) = (confidence_interval(result, level=level) for level in (0.5, 0.95))
    assert lower < low < result.wer < high < higher


@pytest.mark.parametrize(
    ("erroneous", "expected"),
    # Clopper and Pearson's interval of 0, 1 and 3 of 20 (tables of R's binom.test), 5 words an utterance.
    [(0, (0, 0.16843)), (1, (0.00127, 0.24873)), (3, (0.03207, 0.37893))],
)
def test_few_errors_have_the_exact_binomial_interval(erroneous, expected):
    result = _score_of([1] * erroneous + [0] * (20 - erroneous), [5] * 20)
    assert confidence_interval(result) == pytest.approx([bound / 5 for bound in expected], abs=1e-5)


def test_interval_is_not_defined_for_one_utterance_or_without_words():
    assert all(math.isnan(bound) for bound in confidence_interval(score(["a"], ["b"])))
    assert all(math.isnan(bound) for bound in confidence_interval(score(["", ""], ["b", "c"])))


def test_interval_by_speaker_is_wider_where_a_speaker_has_the_errors():
    speakers = [{"speaker": index // 10} for index in range(100)]
    errors = [3 if index // 10 in (2, 5, 6, 8) else int(index % 10 == 0) for index in range(100)]
    result = _score_of(errors, [6] * 100, speakers)
    (low, high), (lower, higher) = (confidence_interval(result, by=by) for by in ("utterance", "speaker"))
    assert higher - lower > 2 * (high - low)


def test_a_field_that_an_utterance_lacks_is_named():
    result = _score_of([1, 0], [2, 2], [{"speaker": "x", "room": 1}, {"room": 2}])
    with pytest.raises(DataError, match=r"utterance '1' has no field 'speaker' to draw by; its fields: room"):
        confidence_interval(result, by="speaker")


def _sample(generator, count, kind):
    """Draw the errors and words of a test set: overdispersed, as errors of real recognisers are."""
    alpha, beta, longest = {"AN4": (0.25, 3.6, 12), "hard": (0.6, 1.4, 25)}[kind]
    words = generator.integers(1, longest, count)
    errors = generator.binomial(words, generator.beta(alpha, beta, count))
    return errors, words


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["AN4", "hard"])
@pytest.mark.parametrize("count", [130, 1000])
def test_the_interval_covers_the_truth_in_93_to_97_percent_of_1000_test_sets(kind, count):
    generator = np.random.default_rng(11)
    errors, words = _sample(generator, 2_000_000, kind)
    truth = errors.sum() / words.sum()
    blank = _score_of([0], [1])
    covered = 0
    for seed in range(1000):
        errors, words = _sample(generator, count, kind)
        counts = np.stack([words - errors, 0 * errors, errors, 0 * errors], axis=1)
        low, high = confidence_interval(dataclasses.replace(blank, counts=counts), seed=seed)
        covered += low <= truth <= high
    assert 930 <= covered <= 970


@pytest.mark.slow
def test_the_interval_by_speaker_covers_too():
    generator = np.random.default_rng(12)

    def sample(num_speakers):
        speakers = np.repeat(np.arange(num_speakers), generator.integers(6, 14, num_speakers))
        words = generator.integers(1, 12, len(speakers))
        rates = generator.beta(1.2, 14, num_speakers)[speakers]
        return generator.binomial(words, rates), words, speakers

    errors, words, _ = sample(60_000)
    truth, blank, covered = errors.sum() / words.sum(), _score_of([0], [1]), 0
    for seed in range(1000):
        errors, words, speakers = sample(20)
        counts = np.stack([words - errors, 0 * errors, errors, 0 * errors], axis=1)
        drawn = dataclasses.replace(
            blank,
            ids=tuple(map(str, range(len(words)))),
            fields=tuple({"speaker": int(speaker)} for speaker in speakers),
            counts=counts,
        )
        low, high = confidence_interval(drawn, seed=seed, by="speaker")
        covered += low <= truth <= high
    assert 930 <= covered <= 970


@pytest.mark.filterwarnings("error")
def test_draws_without_reference_words_are_left_out():
    result = score(["", "", "", "", "", "a b"], ["x", "y", "x y", "z", "", "a c"])
    low, high = confidence_interval(result)
    assert 0 <= low < high
    assert math.isfinite(high)


def test_equal_rates_everywhere_leave_no_doubt():
    assert confidence_interval(score(["a"] * 9, ["b"] * 9)) == (1.0, 1.0)
