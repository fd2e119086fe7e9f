"""Calibration of confidence and the figures that judge it."""

import json

import numpy as np
import pytest

from asr.build import build
from asr.decoding.confidence import (
    Calibration,
    Logistic,
    calibrate,
    fit_logistic,
    reliability,
    utterance_outcomes,
    word_outcomes,
)
from asr.errors import DataError
from asr.types import Hypothesis, Word


def hypothesis(text, *confidences, confidence=0.5):
    words = tuple(Word(w, 0.0, 1.0, c, (1,)) for w, c in zip(text.split(), confidences, strict=True))
    return Hypothesis(text, words, (), 0.0, confidence)


def simulated(n, slope=0.5, intercept=-1.0, seed=0):
    """Raw confidences, near 1 as a CTC model's, and outcomes of the given calibration."""
    rng = np.random.default_rng(seed)
    raw = 1 / (1 + np.exp(-rng.normal(5, 3, n)))
    return raw.tolist(), [rng.random() < Logistic(slope, intercept)(p) for p in raw]


def test_the_fit_finds_the_calibration_that_made_the_outcomes():
    fitted = fit_logistic(*simulated(20_000))
    assert fitted.slope == pytest.approx(0.5, abs=0.03)
    assert fitted.intercept == pytest.approx(-1.0, abs=0.1)


def test_the_fit_is_platts_maximum_likelihood():
    # scipy.optimize.minimize (BFGS) of Platt's regularised loss on these outcomes.
    raw, correct = [0.6, 0.7, 0.8, 0.9, 0.95, 0.99], [False, True, False, True, True, True]
    from scipy.optimize import minimize

    x = np.log(np.array(raw) / (1 - np.array(raw)))
    target = np.where(correct, 5 / 6, 1 / 4)
    result = minimize(lambda w: np.sum(np.logaddexp(0, w[0] * x + w[1]) - target * (w[0] * x + w[1])), [0, 0])
    fitted = fit_logistic(raw, correct)
    assert [fitted.slope, fitted.intercept] == pytest.approx(result.x, abs=1e-3)


def test_calibration_lowers_the_error_on_other_data():
    fitted = fit_logistic(*simulated(600))
    raw, correct = simulated(4000, seed=1)
    before, after = reliability(raw, correct), reliability([fitted(p) for p in raw], correct)
    assert before.ece > 0.1
    assert after.ece < 0.03
    assert after.log_loss < before.log_loss
    assert after.auc == pytest.approx(before.auc, abs=1e-3)


@pytest.mark.parametrize("outcome", [True, False])
def test_outcomes_that_are_all_alike_leave_a_doubt(outcome):
    calibrated = fit_logistic([0.9, 0.99, 0.999], [outcome] * 3)(0.99)
    assert (0.5 < calibrated < 1) if outcome else (0 < calibrated < 0.5)


def test_confidence_that_misleads_is_replaced_by_the_mean():
    fitted = fit_logistic([0.99, 0.99, 0.6, 0.6], [False, False, True, True])
    assert fitted.slope == 0
    assert fitted(0.99) == fitted(0.1) == pytest.approx(0.5)


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_certainty_stays_finite(p):
    assert 0 < Logistic(1.0, 0.0)(p) < 1


def test_a_slope_below_zero_is_refused():
    with pytest.raises(ValueError, match="slope"):
        Logistic(-1.0, 0.0)


def test_reliability_of_a_case_worked_by_hand():
    # Bin 0.2-0.3: confidence 0.2, half right: off by 0.3. Bin 0.9-1.0: 0.95, all right: off by 0.05.
    result = reliability([0.2, 0.2, 0.9, 1.0], [True, False, True, True])
    assert [(b.count, b.confidence, b.accuracy) for b in result.bins] == [
        (2, pytest.approx(0.2), 0.5),
        (2, pytest.approx(0.95), 1.0),
    ]
    assert result.ece == pytest.approx((2 * 0.3 + 2 * 0.05) / 4)
    assert result.auc == pytest.approx(2.5 / 3)  # of 3 pairs two are in order and one is tied


def test_words_are_right_where_the_scoring_alignment_says_so():
    references = ["the cat sat", "one two"]
    hypotheses = [hypothesis("the bat sat down", 0.9, 0.4, 0.8, 0.3), hypothesis("two", 0.7)]
    confidences, correct = word_outcomes(references, hypotheses)
    assert confidences == [0.9, 0.4, 0.8, 0.3, 0.7]
    assert correct == [True, False, True, False, True]
    assert utterance_outcomes(references, hypotheses) == ([0.5, 0.5], [False, False])


def test_a_calibration_travels_as_plain_numbers():
    calibration = calibrate(["a b", "c"], [hypothesis("a x", 0.9, 0.4), hypothesis("c", 0.8)])
    config = json.loads(json.dumps(calibration.to_config()))
    assert build(config, Calibration) == calibration


def test_nothing_recognised_cannot_be_calibrated():
    with pytest.raises(DataError, match="no word was recognised"):
        calibrate(["a"], [hypothesis("")])
