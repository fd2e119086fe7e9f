"""What the training loop must know of a thing that is trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn


class Task(Protocol):
    """A model with its data, its loss, and what makes one epoch better than another.

    What is drawn at random must depend on the seed, the epoch and the example only, or come from the
    generators that checkpoints hold (`asr.training.checkpoint.random_state`); so that a training that is
    resumed goes on as if never stopped.

    Attributes
    ----------
    whole : nn.Module
        All that a checkpoint keeps.
    model : nn.Module
        The part of it that learns, or the same.
    description : str
        The training data in words.
    size : float
        An epoch's size, in the unit of `size_of`.
    speed : str
        What `size_of` a second is called in the metrics.
    criterion : str
        The dev metric that decides first which epoch is best; less is better.
    remedy : str
        What to do when losses are not finite.
    """

    whole: nn.Module
    model: nn.Module
    description: str
    size: float
    speed: str
    criterion: str
    remedy: str

    def share(self, num_replicas: int, rank: int) -> None:
        """From now on give only this process's share of every batch."""

    def batches(self, epoch: int, start: int, *, pin_memory: bool) -> tuple[Iterable[Any], int]:
        """Return an epoch's batches from the one with index `start`, and how many they are.

        Raises
        ------
        AsrError
            While iterating, if an example cannot be read.
        """

    def largest(self, epoch: int) -> Any:
        """Return this process's share of the largest batch of an epoch."""

    def size_of(self, batch: Any) -> float:
        """Return a batch's size without padding: seconds of audio, or tokens of text."""

    def padding_of(self, batch: Any) -> tuple[float, float]:
        """Return a batch's frames, samples or tokens, without padding and with it."""

    def num_tokens(self, batch: Any) -> int:
        """Return the number of tokens to be learnt, by which losses are divided."""

    def names(self, batch: Any) -> Sequence[str]:
        """Return what the batch's B examples are called."""

    def split(self, batch: Any) -> Sequence[Any]:
        """Divide a batch in two, or return it alone if it has one example."""

    def losses(self, model: nn.Module, batch: Any, epoch: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Return each example's loss (B,), summed over its tokens, and sums of other things to report.

        Parameters
        ----------
        model : nn.Module
            `model`, wrapped for the device and the precision.
        """

    def close(self) -> None:
        """End the processes that read data, if there are any."""

    def validate(self) -> dict[str, float]:
        """Return the metrics of the dev set, their names beginning with ``dev_``."""

    def rank(self, entry: Mapping[str, Any]) -> tuple[float, ...]:
        """Return by what epochs are ordered, the best first, from the metrics of one."""

    def save(self, path: Path, info: Mapping[str, Any]) -> None:
        """Write the one-file model."""
