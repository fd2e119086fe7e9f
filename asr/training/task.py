"""What the training loop must know of a thing that is trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn


class Task(Protocol):
    """A model with its data, its loss, and what makes one epoch better than another.

    What is drawn at random must depend on the seed, the epoch and the example only, or come from torch's
    own generator, which checkpoints hold; so that a training that is resumed goes on as if never stopped.

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
    remedy : str
        What to do when losses are not finite.
    """

    whole: nn.Module
    model: nn.Module
    description: str
    size: float
    speed: str
    remedy: str

    def batches(self, epoch: int, start: int, *, pin_memory: bool) -> tuple[Iterable[Any], int]:
        """Return an epoch's batches from the one with index `start`, and how many they are.

        Raises
        ------
        AsrError
            While iterating, if an example cannot be read.
        """

    def size_of(self, batch: Any) -> float:
        """Return a batch's size without padding: seconds of audio, or tokens of text."""

    def names(self, batch: Any) -> Sequence[str]:
        """Return what the batch's B examples are called."""

    def losses(self, model: nn.Module, batch: Any, epoch: int) -> tuple[Tensor, int]:
        """Return each example's loss (B,), summed over its tokens, and the number of tokens in the batch.

        Parameters
        ----------
        model : nn.Module
            `model`, wrapped for the device and the precision.
        """

    def validate(self) -> dict[str, float]:
        """Return the metrics of the dev set, their names beginning with ``dev_``."""

    def rank(self, entry: Mapping[str, Any]) -> tuple[float, ...]:
        """Return by what epochs are ordered, the best first, from the metrics of one."""

    def save(self, path: Path, info: Mapping[str, Any]) -> None:
        """Write the one-file model."""
