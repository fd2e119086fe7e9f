"""Which settings a sweep tries: all of a grid, or what Optuna proposes from the results so far."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from asr.errors import ConfigError

Values = dict[str, str]
"""A setting a key, as they stand in an override ``key=value``."""


@dataclass(frozen=True)
class Axis:
    """A setting that a sweep varies.

    Attributes
    ----------
    key : str
        As in an override, perhaps with a leading ``+``.
    choices : tuple of str
        Its values; empty for an interval.
    low, high : float
        Ends of the interval.
    log, integer : bool
        Whether the interval is searched on a logarithmic scale; whether in whole numbers.
    """

    key: str
    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    integer: bool = False

    def admits(self, value: str) -> bool:
        """Tell whether a value lies on the axis."""
        return value in self.choices if self.choices else self.low <= float(value) <= self.high


class Search(Protocol):
    """Proposes settings, and hears of results."""

    def propose(self) -> Values | None:
        """Return settings that have not been tried, None if there are no more."""

    def tell(self, values: Values, error_rate: float | None) -> None:
        """Report the dev word error rate of settings, None if there is none: they failed, or go on."""


class Grid:
    """Every combination of the axes' choices, the last axis changing fastest."""

    def __init__(self, axes: Sequence[Axis]) -> None:
        self._known: list[Values] = []
        self._rest = iter(grid(axes))

    def propose(self) -> Values | None:
        """Return the next combination."""
        return next((values for values in self._rest if values not in self._known), None)

    def tell(self, values: Values, error_rate: float | None) -> None:
        """Leave these settings out."""
        self._known.append(values)


def grid(axes: Sequence[Axis]) -> Iterator[Values]:
    """Yield every combination of the axes' choices, each once."""
    keys = [axis.key for axis in axes]
    for values in itertools.product(*(dict.fromkeys(axis.choices) for axis in axes)):
        yield dict(zip(keys, values, strict=True))


class OptunaSearch:
    """Optuna's tree-structured Parzen estimator (Bergstra et al., NeurIPS 2011).

    Parameters
    ----------
    axes : sequence of Axis
    trials : int
        How many settings are tried in all.
    seed : int
    known : iterable of (settings, word error rate or None)
        What has been tried before.

    Raises
    ------
    ConfigError
        If Optuna is not installed.
    """

    def __init__(
        self,
        axes: Sequence[Axis],
        trials: int,
        seed: int,
        known: Iterable[tuple[Values, float | None]] = (),
    ) -> None:
        try:
            import optuna
        except ImportError as error:
            raise ConfigError("a search over an interval needs Optuna: pip install 'asr[sweep]'") from error
        self._optuna, self._axes, self._trials = optuna, axes, trials
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._spaces: dict[str, Any] = {}
        for axis in axes:
            if axis.choices:
                self._spaces[axis.key] = optuna.distributions.CategoricalDistribution(axis.choices)
            elif axis.integer:
                self._spaces[axis.key] = optuna.distributions.IntDistribution(
                    int(axis.low), int(axis.high), log=axis.log
                )
            else:
                self._spaces[axis.key] = optuna.distributions.FloatDistribution(
                    axis.low, axis.high, log=axis.log
                )
        known = list(known)
        # A sweep that is started again does not draw the same numbers again.
        sampler = optuna.samplers.TPESampler(seed=seed + len(known))
        self._study = optuna.create_study(direction="minimize", sampler=sampler)
        self._tried: dict[tuple[str, ...], float | None] = {}
        self._open: dict[tuple[str, ...], Any] = {}
        for values, error_rate in known:
            self.tell(values, error_rate)

    def propose(self) -> Values | None:
        """Return what promises most, given the results so far and what is under way."""
        if len(self._tried) >= self._trials:
            return None
        for _ in range(100):  # a small space is soon known in full
            trial = self._study.ask(self._spaces)
            values = {axis.key: _written(axis, trial.params[axis.key]) for axis in self._axes}
            name = tuple(values.values())
            if name not in self._tried:
                self._tried[name], self._open[name] = None, trial
                return values
            self._close(trial, self._tried[name])
        return None

    def tell(self, values: Values, error_rate: float | None) -> None:
        """Report a result."""
        name = tuple(values[axis.key] for axis in self._axes)
        self._tried[name] = error_rate
        trial = self._open.pop(name, None)
        if trial is not None:
            self._close(trial, error_rate)
        elif error_rate is not None:
            parameters = {axis.key: _parameter(axis, values[axis.key]) for axis in self._axes}
            with contextlib.suppress(ValueError):  # it lies outside an interval that is narrower now
                self._study.add_trial(
                    self._optuna.trial.create_trial(
                        params=parameters, distributions=self._spaces, value=error_rate
                    )
                )

    def _close(self, trial: Any, error_rate: float | None) -> None:
        if error_rate is None:
            self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)
        else:
            self._study.tell(trial, error_rate)


def make_search(
    axes: Sequence[Axis],
    trials: int | None,
    seed: int,
    known: Sequence[tuple[Values, float | None]] = (),
) -> Search:
    """Return a grid where all can be tried, else a search for so many trials.

    Raises
    ------
    ConfigError
        If there is an interval and no number of trials, or Optuna is needed and not installed.
    """
    endless = [axis.key for axis in axes if not axis.choices]
    if endless and trials is None:
        raise ConfigError(
            f"{endless[0]}: an interval has no end of values; say how many to try with --trials N"
        )
    if trials is None or (not endless and math.prod(len(set(axis.choices)) for axis in axes) <= trials):
        search: Search = Grid(axes)
        for values, error_rate in known:
            search.tell(values, error_rate)
        return search
    return OptunaSearch(axes, trials, seed, known)


def _written(axis: Axis, value: Any) -> str:
    """Write a proposed value with four digits, within its interval."""
    if axis.choices or axis.integer:
        return str(value)
    return repr(min(max(float(f"{value:.4g}"), axis.low), axis.high))


def _parameter(axis: Axis, value: str) -> Any:
    return value if axis.choices else int(value) if axis.integer else float(value)
