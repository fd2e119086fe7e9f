"""Confidence that means what it says: calibrated on a dev set, and the figures that show it.

The raw confidence of a word is the mean probability of its tokens, each at its peak. CTC models are too sure
of themselves, so on a dev set the log-odds of the raw value are mapped to those of the share of words that
were right: Platt scaling (Platt 1999, "Probabilistic outputs for support vector machines"). Its two numbers
travel in the model file with the decoder.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from asr.build import TARGET
from asr.errors import DataError
from asr.scoring import align
from asr.types import Hypothesis

# Probabilities are kept this far from 0 and 1, where log-odds are infinite.
_EDGE = 1e-6


@dataclass(frozen=True)
class Logistic:
    """A raw confidence p mapped to ``sigmoid(slope * log(p / (1 - p)) + intercept)``.

    Parameters
    ----------
    slope : float
        0 or more, so that no order is turned round.
    intercept : float
    """

    slope: float
    intercept: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.intercept) and 0 <= self.slope < math.inf):
            raise ValueError(
                f"slope {self.slope}, intercept {self.intercept}: must be finite, the slope not negative"
            )

    def __call__(self, confidence: float) -> float:
        """Return the calibrated probability in [0, 1]."""
        return float(_sigmoid(self.slope * _log_odds(np.float64(confidence)) + self.intercept))


@dataclass(frozen=True)
class Calibration:
    """What a decoder's confidences are worth on unseen speech.

    Parameters
    ----------
    words : Logistic
        To the probability that a word is right.
    utterances : Logistic
        To the probability that the whole text is right.
    """

    words: Logistic
    utterances: Logistic

    def to_config(self) -> dict[str, Any]:
        """Return a JSON-able configuration from which `asr.build.build` makes this calibration again."""
        parts = {name: {TARGET: f"{__name__}.Logistic", **values} for name, values in asdict(self).items()}
        return {TARGET: f"{__name__}.Calibration", **parts}


def calibrate(references: Sequence[str], hypotheses: Sequence[Hypothesis]) -> Calibration:
    """Fit a calibration on a dev set.

    Parameters
    ----------
    references : sequence of str, length N
        Normalised transcripts.
    hypotheses : sequence of Hypothesis, length N
        By the decoder that the calibration is for, itself without one.

    Raises
    ------
    DataError
        If no word was recognised.
    """
    confidences, correct = word_outcomes(references, hypotheses)
    if not confidences:
        raise DataError("no word was recognised to calibrate the confidence on; give a dev set with speech")
    return Calibration(
        words=fit_logistic(confidences, correct),
        utterances=fit_logistic(*utterance_outcomes(references, hypotheses)),
    )


def word_outcomes(
    references: Sequence[str], hypotheses: Sequence[Hypothesis]
) -> tuple[list[float], list[bool]]:
    """Return the confidence of every recognised word, and whether the scoring alignment calls it correct."""
    confidences: list[float] = []
    correct: list[bool] = []
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        confidences += [word.confidence for word in hypothesis.words]
        correct += [
            operation == "C" for operation, _, _ in align(reference, hypothesis.text) if operation != "D"
        ]
    assert len(confidences) == len(correct)
    return confidences, correct


def utterance_outcomes(
    references: Sequence[str], hypotheses: Sequence[Hypothesis]
) -> tuple[list[float], list[bool]]:
    """Return the confidence of every hypothesis, and whether its words are the reference's."""
    confidences = [hypothesis.confidence for hypothesis in hypotheses]
    pairs = zip(references, hypotheses, strict=True)
    return confidences, [reference.split() == hypothesis.text.split() for reference, hypothesis in pairs]


def fit_logistic(confidences: Sequence[float], correct: Sequence[bool]) -> Logistic:
    """Fit Platt scaling by Newton's method; with his targets, which keep few outcomes from certainty.

    Parameters
    ----------
    confidences : sequence of float, length N
        Probabilities.
    correct : sequence of bool, length N
    """
    outcome = np.asarray(correct, dtype=bool)
    num_right = outcome.sum()
    num_wrong = len(outcome) - num_right
    target = np.where(outcome, (num_right + 1) / (num_right + 2), 1 / (num_wrong + 2))
    x = np.stack([_log_odds(np.asarray(confidences, dtype=np.float64)), np.ones(len(outcome))], axis=1)

    def loss(weights: np.ndarray) -> float:
        return float(np.sum(np.logaddexp(0, x @ weights) - target * (x @ weights)))

    constant = np.array([0.0, _log_odds(target.mean())])
    weights = constant
    for _ in range(100):
        p = _sigmoid(x @ weights)
        hessian = (x * (p * (1 - p))[:, None]).T @ x + 1e-9 * np.eye(2)
        step = np.linalg.solve(hessian, x.T @ (p - target))
        while loss(weights - step) > loss(weights) and np.abs(step).max() > 1e-9:
            step = step / 2
        weights = weights - step
        if np.abs(step).max() < 1e-9:
            break
    # Confidence that says nothing, or the reverse of the truth, is worth its mean.
    slope, intercept = weights if weights[0] > 0 else constant
    return Logistic(float(slope), float(intercept))


@dataclass(frozen=True)
class Bin:
    """The confidences in [low, high): how many, their mean, and the share that was correct."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Reliability:
    """How well confidences match outcomes.

    Attributes
    ----------
    bins : tuple of Bin
        Those that are not empty.
    ece : float
        Expected calibration error: mean of ``|accuracy - confidence|`` over the bins, weighted by count
        (Naeini et al. 2015; Guo et al. 2017).
    log_loss : float
        Mean negative log-likelihood of the outcomes, nats.
    auc : float
        Probability that a correct one has the higher confidence of two; not a number if all outcomes agree.
    """

    bins: tuple[Bin, ...]
    ece: float
    log_loss: float
    auc: float


def reliability(confidences: Sequence[float], correct: Sequence[bool], num_bins: int = 10) -> Reliability:
    """Compare confidences with outcomes in bins of equal width.

    Parameters
    ----------
    confidences : sequence of float, length N
        Probabilities, at least one.
    correct : sequence of bool, length N

    Examples
    --------
    >>> round(reliability([0.9, 0.9, 0.2, 0.2], [True, True, False, True]).ece, 3)
    0.2
    """
    p, outcome = np.asarray(confidences, dtype=np.float64), np.asarray(correct, dtype=bool)
    assert len(p) == len(outcome) > 0
    index = np.minimum((p * num_bins).astype(int), num_bins - 1)
    bins = tuple(
        Bin(
            b / num_bins,
            (b + 1) / num_bins,
            int((index == b).sum()),
            float(p[index == b].mean()),
            float(outcome[index == b].mean()),
        )
        for b in np.unique(index).tolist()
    )
    inside = np.clip(p, _EDGE, 1 - _EDGE)
    return Reliability(
        bins=bins,
        ece=sum(b.count * abs(b.accuracy - b.confidence) for b in bins) / len(p),
        log_loss=float(-np.log(np.where(outcome, inside, 1 - inside)).mean()),
        auc=_auc(p, outcome),
    )


def _auc(p: np.ndarray, outcome: np.ndarray) -> float:
    """Mann-Whitney's U as a fraction, ties counted half."""
    right, wrong = np.sort(p[outcome]), p[~outcome]
    if not len(right) or not len(wrong):
        return math.nan
    below = len(right) - np.searchsorted(right, wrong, side="right")
    ties = np.searchsorted(right, wrong, side="right") - np.searchsorted(right, wrong, side="left")
    return float((below + ties / 2).sum() / (len(right) * len(wrong)))


def _log_odds(p: Any) -> Any:
    p = np.clip(p, _EDGE, 1 - _EDGE)
    return np.log(p / (1 - p))


def _sigmoid(x: Any) -> Any:
    return 0.5 * (1 + np.tanh(x / 2))
