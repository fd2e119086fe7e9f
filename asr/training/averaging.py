"""Averages of weights over steps or over epochs, which often recognise better than any one of them.

The running statistics of batch normalisation are averaged as the weights are: they are means themselves, and
those of averaged weights would need a pass over the training data. Whether an average is any good is measured
on dev in either case.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Averaging:
    """No average: the weights of the last step are validated, those of the best epoch saved.

    Attributes
    ----------
    keep : int
        Of how many epochs, the best ones on dev, the weights are kept until training ends.
    """

    keep = 1

    def start(self, model: nn.Module) -> None:
        """Begin with the weights that a model has, on their device."""

    def update(self) -> None:
        """Take in the weights after a step of the optimiser."""

    def weights(self) -> Mapping[str, Tensor] | None:
        """Return what to validate and save in place of the model's own values, if anything."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must hold."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""


class Ema(Averaging):
    """Exponential moving average of the weights over steps; it is what is validated and saved.

    After n steps the average moves by ``1 - min(decay, (1 + n) / (10 + n))`` towards the weights, so that the
    first, random ones are soon forgotten (as ``num_updates`` does in TensorFlow's
    ``tf.train.ExponentialMovingAverage``).

    Parameters
    ----------
    decay : float
        Weight of the past in a step, from 0 to 1; 0.999 averages over about the last thousand steps.
    """

    def __init__(self, decay: float = 0.999) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"decay must lie between 0 and 1, found {decay}")
        self.decay = decay

    def start(self, model: nn.Module) -> None:
        """Begin with the weights that a model has."""
        self._live = {k: v for k, v in model.state_dict().items() if v.is_floating_point()}
        self._average = {k: v.clone() for k, v in self._live.items()}
        self._steps = 0

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the weights."""
        self._steps += 1
        decay = min(self.decay, (1 + self._steps) / (10 + self._steps))
        torch._foreach_lerp_(list(self._average.values()), list(self._live.values()), 1 - decay)

    def weights(self) -> Mapping[str, Tensor]:
        """Return the average."""
        return self._average

    def state_dict(self) -> dict[str, Any]:
        """Return the average and the number of steps in it."""
        return {"steps": self._steps, "average": self._average}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._steps = state["steps"]
        copy_weights(self._average, state["average"])


class BestEpochs(Averaging):
    """Plain average of the weights of the best epochs on dev, taken at the end if it is better there.

    Parameters
    ----------
    count : int
        Epochs to average.
    """

    def __init__(self, count: int = 5) -> None:
        if count < 2:
            raise ValueError(f"count must be 2 or more, found {count}")
        self.keep = count


def mean_weights(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Average the floating-point values of state dicts; counters are those of the first.

    Sums are in float64, so that values that are equal in all stay what they are.
    """
    mean = dict(states[0])
    for key, value in mean.items():
        if value.is_floating_point():
            total = torch.stack([state[key].double() for state in states]).sum(0)
            mean[key] = (total / len(states)).to(value.dtype)
    return mean


@torch.no_grad()
def copy_weights(target: Mapping[str, Tensor], source: Mapping[str, Tensor]) -> None:
    """Copy values into tensors of the same names, where they lie."""
    for key, value in source.items():
        target[key].copy_(value)


@contextlib.contextmanager
def swapped(model: nn.Module, weights: Mapping[str, Tensor] | None) -> Iterator[None]:
    """Give a model other values, and its own back afterwards; None leaves it as it is."""
    live = model.state_dict()
    own = {key: live[key].clone() for key in weights or ()}
    try:
        copy_weights(live, weights or {})
        yield
    finally:
        copy_weights(live, own)
