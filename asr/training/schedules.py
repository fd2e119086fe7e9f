"""Learning-rate schedules that a configuration can name.

A schedule maps the share of the training that is done to a share of the peak learning rate, so that it fits
whatever the number of epochs and the size of batches. Some also hear of the dev metric after every epoch.
"""

from __future__ import annotations

import inspect
import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch.optim import lr_scheduler

from asr.build import argument_problems


class Schedule(ABC):
    """A linear rise to the peak learning rate, and then what a subclass says.

    Parameters
    ----------
    warmup : float
        Share of the training over which the rate rises, from 0 to below 1.
    initial : float
        Where the rise begins, as a share of the peak.
    """

    def __init__(self, warmup: float = 0.0, initial: float = 0.0) -> None:
        if not 0 <= warmup < 1:
            raise ValueError(f"warmup is a share of the training from 0 to below 1, found {warmup}")
        _require_share("initial", initial)
        self.warmup, self.initial = warmup, initial
        self.metrics: list[float] = []

    def __call__(self, progress: float) -> float:
        """Return the rate as a share of the peak, when a share `progress` of the training is done."""
        if progress < self.warmup:
            return self.initial + (1 - self.initial) * progress / self.warmup
        return self.level((progress - self.warmup) / (1 - self.warmup))

    @abstractmethod
    def level(self, progress: float) -> float:
        """Return the share of the peak at a share `progress` of the time after the rise."""

    def end_epoch(self, metric: float) -> None:
        """Take note of a finished epoch's dev metric, of which less is better."""
        self.metrics.append(metric)

    def state_dict(self) -> dict[str, list[float]]:
        """Return what the schedule has heard, all that its future depends on."""
        return {"metrics": list(self.metrics)}

    def load_state_dict(self, state: Mapping[str, list[float]]) -> None:
        """Put a schedule that has not been used where the one stood that `state` is of."""
        for metric in state["metrics"]:
            self.end_epoch(metric)


class Constant(Schedule):
    """The peak learning rate throughout, after a linear rise over a share `warmup` of the training."""

    def __init__(self, warmup: float = 0.0) -> None:
        super().__init__(warmup)

    def level(self, progress: float) -> float:
        """Return 1."""
        return 1.0


class WarmupCosine(Schedule):
    """Linear rise to the peak learning rate, then half a cosine down (arXiv:1608.03983).

    Parameters
    ----------
    warmup : float
        Share of the training over which the rate rises.
    final : float
        Rate at the end, as a share of the peak.
    """

    def __init__(self, warmup: float = 0.05, final: float = 0.01) -> None:
        super().__init__(warmup)
        self.final = _require_share("final", final)

    def level(self, progress: float) -> float:
        """Return half a cosine from 1 to `final`."""
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * progress))


class OneCycle(Schedule):
    """One long rise from a share `initial` of the peak, then half a cosine down to next to nothing.

    Smith and Topin, arXiv:1708.07120; of the learning rate only, the momentum stays.

    Parameters
    ----------
    warmup : float
        Share of the training over which the rate rises.
    initial, final : float
        Rates at the beginning and at the end, as shares of the peak.
    """

    def __init__(self, warmup: float = 0.3, initial: float = 0.04, final: float = 4e-6) -> None:
        super().__init__(warmup, initial)
        self.final = _require_share("final", final)

    def level(self, progress: float) -> float:
        """Return half a cosine from 1 to `final`."""
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * progress))


class Noam(Schedule):
    """Linear rise, then down with the inverse square root of the step (arXiv:1706.03762, section 5.3).

    Parameters
    ----------
    warmup : float
        Share of the training over which the rate rises, above 0.
    """

    def __init__(self, warmup: float = 0.1) -> None:
        super().__init__(warmup)
        if not warmup:
            raise ValueError("warmup must be above 0: the rate falls as the root of warmup / progress")

    def level(self, progress: float) -> float:
        """Return the square root of the rise's share over the share done."""
        return math.sqrt(self.warmup / (self.warmup + progress * (1 - self.warmup)))


class Exponential(Schedule):
    """Every epoch at the rate of the one before divided by `anneal`.

    Deep Speech 2 divides by 1.2 (arXiv:1512.02595), deepspeech.pytorch by 1.1.

    Parameters
    ----------
    anneal : float
        At least 1.
    warmup : float
        Share of the training over which the rate rises.
    """

    def __init__(self, anneal: float = 1.1, warmup: float = 0.0) -> None:
        super().__init__(warmup)
        if not (anneal >= 1 and math.isfinite(anneal)):
            raise ValueError(f"anneal divides the rate after every epoch; it is at least 1, found {anneal}")
        self.anneal = anneal

    def level(self, progress: float) -> float:
        """Return the rate of the epoch under way."""
        return self.anneal ** -len(self.metrics)


class Plateau(Schedule):
    """Lowers the rate once the dev metric has not become better for some epochs.

    Parameters
    ----------
    factor : float
        From one rate to the next.
    patience : int
        Epochs without a better metric that are let pass; the one after them lowers the rate.
    threshold : float
        Better is what lies below the best metric by more than this share of it.
    final : float
        Lowest rate, as a share of the peak.
    warmup : float
        Share of the training over which the rate rises.
    """

    def __init__(
        self,
        factor: float = 0.5,
        patience: int = 2,
        threshold: float = 1e-4,
        final: float = 1e-3,
        warmup: float = 0.0,
    ) -> None:
        super().__init__(warmup)
        if not 0 < factor < 1:
            raise ValueError(f"factor must lie between 0 and 1, found {factor}")
        if patience < 0 or threshold < 0:
            raise ValueError(f"patience and threshold must be 0 or more, found {patience} and {threshold}")
        self.factor, self.patience, self.threshold = factor, patience, threshold
        self.final = _require_share("final", final)
        self.rate, self.best, self.bad_epochs = 1.0, math.inf, 0

    def level(self, progress: float) -> float:
        """Return the rate of the epoch under way."""
        return self.rate

    def end_epoch(self, metric: float) -> None:
        """Lower the rate if it is time; a metric that is no number is no better than any."""
        super().end_epoch(metric)
        if metric < self.best * (1 - self.threshold):
            self.best, self.bad_epochs = metric, 0
        else:
            self.bad_epochs += 1
        if self.bad_epochs > self.patience:
            self.rate, self.bad_epochs = max(self.rate * self.factor, self.final), 0


# The base class; those made of functions or of other schedules; one that stops with the last step.
_UNFIT = ("LRScheduler", "LambdaLR", "MultiplicativeLR", "SequentialLR", "ChainedScheduler", "OneCycleLR")


class TorchSchedule(Schedule):
    """Any schedule of `torch.optim.lr_scheduler` that plain numbers describe, stepped after every epoch.

    Parameters
    ----------
    name : str
        Its class: ``StepLR``, ``MultiStepLR``, ``CosineAnnealingWarmRestarts``, ...
    arguments : mapping, optional
        Its arguments, as PyTorch names them; times in epochs, rates as shares of the peak.
    warmup : float
        Share of the training over which the rate rises to the one of the epoch under way.
    """

    def __init__(self, name: str, arguments: Mapping[str, Any] | None = None, warmup: float = 0.0) -> None:
        super().__init__(warmup)
        classes = {
            key: value
            for key, value in vars(lr_scheduler).items()
            if inspect.isclass(value)
            and issubclass(value, lr_scheduler.LRScheduler)
            and not key.startswith("_")
            and key not in _UNFIT
        }
        if name not in classes:
            raise ValueError(f"name: {name!r} cannot be used; known: {', '.join(sorted(classes))}")
        arguments = dict(arguments or {})
        if own := [key for key in ("optimizer", "last_epoch") if key in arguments]:
            raise ValueError(f"arguments.{own[0]}: is not for the configuration")
        mistakes = argument_problems(classes[name], arguments, name, "arguments", supplied=("optimizer",))
        if mistakes:
            raise ValueError("; ".join(mistakes))
        # The schedule sets the rate of an optimiser of nothing, whose peak rate is 1.
        self._rates = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        self._schedule = classes[name](self._rates, **arguments)

    def level(self, progress: float) -> float:
        """Return the rate of the epoch under way."""
        return self._rates.param_groups[0]["lr"]

    def end_epoch(self, metric: float) -> None:
        """Move to the next epoch."""
        super().end_epoch(metric)
        with warnings.catch_warnings():  # it looks for a step of the optimiser of nothing
            warnings.simplefilter("ignore", UserWarning)
            if isinstance(self._schedule, lr_scheduler.ReduceLROnPlateau):
                self._schedule.step(metric)
            else:
                self._schedule.step()


def _require_share(name: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is a share of the peak rate from 0 to 1, found {value}")
    return value
