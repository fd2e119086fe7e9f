"""Word errors on dev over all settings of a search: which is best, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

NUM_FOLDS = 5


@dataclass(frozen=True, slots=True)
class Setting:
    """A point of the search."""

    lm_weight: float
    word_bonus: float
    rescore_weight: float = 0.0


@dataclass(frozen=True)
class Surface:
    """Word errors on the dev set over all settings, from the pool.

    Attributes
    ----------
    lm_weights, word_bonuses, rescore_weights : tuple of float
        The axes L, W and R.
    errors : int64 array (N, L, W, R)
        Of each utterance.
    """

    lm_weights: tuple[float, ...]
    word_bonuses: tuple[float, ...]
    rescore_weights: tuple[float, ...]
    errors: np.ndarray

    def best(self, utterances: np.ndarray | slice = slice(None)) -> tuple[int, int, int]:
        """Return the indices of the setting with the fewest errors among its neighbours and itself.

        A dip that one utterance makes is no valley: each setting counts with those beside it, half as much.
        Of equals, the one with the smaller weights.
        """
        total = _smooth(self.errors[utterances].sum(axis=0).astype(float))
        found = np.unravel_index(int(np.argmin(np.round(total, 6))), total.shape)
        return int(found[0]), int(found[1]), int(found[2])

    def setting(self, index: tuple[int, int, int]) -> Setting:
        """Return the setting at an index."""
        i, j, k = index
        return Setting(self.lm_weights[i], self.word_bonuses[j], self.rescore_weights[k])


def cross_validate(surface: Surface, groups: Sequence[str]) -> np.ndarray:
    """Return the errors of each utterance, int64 (N,), at the setting that is best without its part.

    Parameters
    ----------
    surface : Surface
    groups : sequence of str, length N
        Utterances of a group are in the same one of `NUM_FOLDS` parts.
    """
    names = sorted(set(groups))
    fold_of = {name: i % min(NUM_FOLDS, len(names)) for i, name in enumerate(names)}
    folds = np.array([fold_of[group] for group in groups])
    errors = np.zeros(len(groups), dtype=np.int64)
    for fold in np.unique(folds):
        inside = folds == fold
        index = surface.best(~inside) if len(names) > 1 else surface.best()
        errors[inside] = surface.errors[inside][:, *index]
    return errors


def paired_gain(
    baseline: np.ndarray, errors: np.ndarray, num_words: Sequence[int], samples: int = 2000, seed: int = 0
) -> tuple[float, tuple[float, float]]:
    """Return how much lower the word error rate is than the baseline's, in points, and its 95% interval.

    The interval is a bootstrap over utterances with the differences paired (Bisani and Ney, ICASSP 2004).
    """
    difference, words = np.asarray(baseline) - np.asarray(errors), np.asarray(num_words)
    generator = np.random.default_rng(seed)
    drawn = generator.integers(len(words), size=(samples, len(words)))
    totals = words[drawn].sum(axis=1)
    valid = totals > 0
    gains = 100 * difference[drawn].sum(axis=1)[valid] / totals[valid]
    low, high = np.quantile(gains, [0.025, 0.975])
    return float(100 * difference.sum() / words.sum()), (float(low), float(high))


def _smooth(values: np.ndarray) -> np.ndarray:
    """Weigh each value 1 and its neighbours along each axis 1/2; borders repeat."""
    for axis in range(values.ndim):
        size = values.shape[axis]
        ahead = values.take(np.minimum(np.arange(size) + 1, size - 1), axis)
        behind = values.take(np.maximum(np.arange(size) - 1, 0), axis)
        values = (values + 0.5 * (ahead + behind)) / 2
    return values
