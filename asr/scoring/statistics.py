"""Whether one system is better than another on the same utterances."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import zip_longest
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from asr.errors import DataError
from asr.scoring.bootstrap import binomial_cdf, bootstrap, clusters

if TYPE_CHECKING:
    from asr.scoring.wer import Score

_GOOD_WORDS = 2


@dataclass(frozen=True)
class MatchedPairs:
    """The matched-pair sentence-segment word error test (Gillick and Cox, ICASSP 1989).

    Utterances are cut, as by NIST's ``sc_stats``, into segments that both systems end with two correct words,
    so that errors in one do not bear on the next; the test is whether the mean difference of errors in a
    segment is zero. On the same alignments the figures are those of ``sc_stats``.

    Attributes
    ----------
    num_segments : int
        Segments in which at least one system has an error.
    mean, deviation : float
        Of the difference of errors in a segment, first minus second.
    z : float
        Mean over its standard error; 0 without a difference.
    p : float
        Two-sided, normal.
    """

    num_segments: int
    mean: float
    deviation: float
    z: float
    p: float


@dataclass(frozen=True)
class McNemar:
    """McNemar's test on the number of utterances without error, exact (binomial) and two-sided.

    ``sc_stats`` does the same, but adds the binomial wrongly where more than 20 utterances differ: for 10
    against 11 it prints p = 0.016 (SCTK 1.3) where it is 1.

    Attributes
    ----------
    only_a, only_b : int
        Utterances that only the first, only the second system has right.
    both, neither : int
    p : float
    """

    only_a: int
    only_b: int
    both: int
    neither: int
    p: float


@dataclass(frozen=True)
class PairedBootstrap:
    """The difference of the error rates, over draws of the same utterances from both systems.

    Attributes
    ----------
    difference : float
        First minus second, a fraction.
    low, high : float
        Its interval, symmetric, so that it leaves out zero where `p` is below one minus its level. Infinite
        where the systems differ in too few utterances to tell.
    p : float
        Two-sided: how often a draw is as far from the observed difference as that is from zero, both measured
        in standard errors.
    """

    difference: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Comparison:
    """Two systems on the same utterances.

    Attributes
    ----------
    a, b : float
        Error rates.
    unit : {"word", "character"}
    level : float
        Of the interval; the tests reject at one minus it.
    mapsswe : MatchedPairs
    mcnemar : McNemar
    bootstrap : PairedBootstrap
    names : tuple of two str
        What the systems are called in the sentence.
    """

    a: float
    b: float
    unit: str
    level: float
    mapsswe: MatchedPairs
    mcnemar: McNemar
    bootstrap: PairedBootstrap
    names: tuple[str, str]

    @property
    def sentence(self) -> str:
        """Say in plain words what the tests mean."""
        a, b = self.names
        if math.isnan(self.bootstrap.p):
            return f"{a} and {b} cannot be compared: there are too few utterances, or no reference words."
        rate, alpha = "WER" if self.unit == "word" else "CER", 1 - self.level
        tests = f"matched-pair p {_shown(self.mapsswe.p)}, bootstrap p {_shown(self.bootstrap.p)}"
        rejections = [test.p < alpha for test in (self.mapsswe, self.bootstrap)]
        if self.a == self.b:
            facts = f"{a} and {b} have the same {rate}, {self.a:.2%}."
        else:
            low, high = (100 * bound for bound in (self.bootstrap.low, self.bootstrap.high))
            interval = f" ({self.level:.0%} interval {low:+.2f} to {high:+.2f})" if math.isfinite(low) else ""
            facts = (
                f"{a} has {self.a:.2%} {rate}, {b} {self.b:.2%}: {100 * (self.a - self.b):+.2f} "
                f"points{interval}."
            )
        if all(rejections):
            better = a if self.a < self.b else b
            verdict = f"Chance alone seldom makes such a difference ({tests}): {better} is better here."
        elif not any(rejections):
            verdict = f"Chance alone often makes such a difference ({tests}): neither is shown to be better."
        else:
            verdict = f"The tests do not agree ({tests}): take neither to be shown better."
        return (
            f"{facts} {verdict} {a} alone has {self.mcnemar.only_a} utterances right, {b} alone "
            f"{self.mcnemar.only_b} (McNemar p {_shown(self.mcnemar.p)})."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return all of it, for JSON; null stands for what is not finite."""
        return _finite(asdict(self)) | {"sentence": self.sentence}


def compare(
    a: Score,
    b: Score,
    *,
    level: float = 0.95,
    samples: int = 10_000,
    seed: int = 0,
    by: str = "utterance",
    names: tuple[str, str] = ("the first", "the second"),
) -> Comparison:
    """Test whether two systems differ on the same utterances.

    Parameters
    ----------
    a, b : Score
        Of the same references, scored in the same way.
    level : float
        Of the interval of the difference.
    samples, seed, by
        Of the paired bootstrap, as in `asr.scoring.confidence_interval`.
    names : tuple of two str
        What to call the systems.

    Raises
    ------
    DataError
        If the scores are not of the same utterances and references, or were made in different ways.
    """
    for what in ("ids", "unit", "align", "normalization", "alternatives", "optional_words"):
        if getattr(a, what) != getattr(b, what):
            raise DataError(
                f"{names[0]} and {names[1]} differ in {what}; score both on the same utterances "
                f"with the same options"
            )
    if not (a.alternatives or a.optional_words) and a.references != b.references:
        index = next(
            i for i, pair in enumerate(zip(a.references, b.references, strict=True)) if pair[0] != pair[1]
        )
        raise DataError(
            f"{names[0]} and {names[1]} have different references, first for {a.ids[index]!r}; score "
            f"both against the same"
        )
    return Comparison(
        a=a.error_rate,
        b=b.error_rate,
        unit=a.unit,
        level=level,
        mapsswe=_matched_pairs(a, b),
        mcnemar=_mcnemar(a, b),
        bootstrap=_paired_bootstrap(np.hstack([clusters(a, by), clusters(b, by)]), level, samples, seed),
        names=names,
    )


def segment_errors(first: str, second: str) -> list[tuple[int, int]]:
    """Cut an utterance into segments with errors.

    Parameters
    ----------
    first, second : str
        The operations of two systems against the same reference, a letter each of C, S, D and I.

    Returns
    -------
    list of (errors of the first, errors of the second)
    """
    segments = []
    errors, good = [0, 0], 0
    # The lengths differ where the two took different alternatives.
    for (extra_a, a), (extra_b, b) in zip_longest(_by_word(first), _by_word(second), fillvalue=(0, "")):
        errors[0] += extra_a + (a == "S" or a == "D")
        errors[1] += extra_b + (b == "S" or b == "D")
        if a != "C" or b != "C":
            good = 0
        elif extra_a or extra_b:
            good = 1
        else:
            good += 1
        if good >= _GOOD_WORDS and any(errors):
            segments.append((errors[0], errors[1]))
            errors = [0, 0]
    if any(errors):
        segments.append((errors[0], errors[1]))
    return segments


def _by_word(operations: str) -> Iterator[tuple[int, str]]:
    """Yield for each reference word the insertions before it and its letter, and last those after it."""
    insertions = 0
    for letter in operations:
        if letter == "I":
            insertions += 1
        else:
            yield insertions, letter
            insertions = 0
    yield insertions, ""


def _matched_pairs(a: Score, b: Score) -> MatchedPairs:
    differences = np.array(
        [
            errors_a - errors_b
            for first, second in zip(a.alignments.operations, b.alignments.operations, strict=True)
            for errors_a, errors_b in segment_errors(first, second)
        ],
        dtype=np.float64,
    )
    if len(differences) < 2 or not differences.any():
        return MatchedPairs(len(differences), 0.0, 0.0, 0.0, 1.0)
    mean, deviation = float(differences.mean()), float(differences.std(ddof=1))
    # Equal differences in all segments leave no doubt.
    z = mean / (deviation / math.sqrt(len(differences))) if deviation else math.copysign(math.inf, mean)
    return MatchedPairs(len(differences), mean, deviation, z, 2 * NormalDist().cdf(-abs(z)))


def _mcnemar(a: Score, b: Score) -> McNemar:
    right_a, right_b = (~score.counts[:, 1:].any(axis=1) for score in (a, b))
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    return McNemar(
        only_a=only_a,
        only_b=only_b,
        both=int((right_a & right_b).sum()),
        neither=int((~right_a & ~right_b).sum()),
        p=min(1.0, 2 * binomial_cdf(min(only_a, only_b), only_a + only_b, 0.5)),
    )


def _paired_bootstrap(counts: np.ndarray, level: float, samples: int, seed: int) -> PairedBootstrap:
    """Compare two systems.

    Parameters
    ----------
    counts : numpy.ndarray, float64, (N, 4)
        Errors and reference length of the first and of the second system in each utterance or group of them.
    """
    if len(counts) < 2 or not counts[:, 1].any() or not counts[:, 3].any():
        return PairedBootstrap(math.nan, math.nan, math.nan, math.nan)
    difference, deviation, drawn = bootstrap(counts, samples, seed)
    if not deviation:
        return PairedBootstrap(difference, difference, difference, float(not difference))
    distances = np.abs(drawn)
    p = (1 + np.count_nonzero(distances >= abs(difference) / deviation)) / (1 + len(drawn))
    half = float(np.quantile(distances, level, method="higher")) * deviation
    return PairedBootstrap(difference, difference - half, difference + half, float(p))


def _shown(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
