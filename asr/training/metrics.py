"""What a training reports: ``metrics.jsonl`` and TensorBoard."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from asr.files import atomic_write
from asr.training.memory import peak_memory
from asr.training.step import StepResult


class Monitor(Protocol):
    """Shows a training to whoever watches; the command line has one with progress bars."""

    def start_epoch(self, epoch: int, num_epochs: int, seconds: float, done: float) -> None:
        """Begin an epoch of `seconds` of audio, of which `done` are behind already."""

    def step(self, *, loss: float, lr: float, seconds: float, running: Mapping[str, float]) -> None:
        """Report a step.

        Parameters
        ----------
        loss : float
            Of the epoch so far, a token.
        lr : float
            Learning rate.
        seconds : float
            Audio in the step.
        running : mapping
            The epoch's metrics so far, see `Totals.metrics`.
        """

    def end_epoch(self, metrics: dict[str, Any]) -> None:
        """Report the metrics of a finished epoch."""

    def note(self, message: str) -> None:
        """Report something out of the ordinary."""


class Silence:
    """The monitor of the processes that do not print."""

    def start_epoch(self, epoch: int, num_epochs: int, seconds: float, done: float) -> None:
        """Say nothing."""

    def step(self, *, loss: float, lr: float, seconds: float, running: Mapping[str, float]) -> None:
        """Say nothing."""

    def end_epoch(self, metrics: dict[str, Any]) -> None:
        """Say nothing."""

    def note(self, message: str) -> None:
        """Say nothing."""


class Totals:
    """Sums over an epoch, and what follows from them.

    Parameters
    ----------
    sums : dict
        Those of the epoch so far, which are added to in place; empty at its start.
    speed : str
        Name of what was trained on, a second; see `asr.training.task.Task`.
    """

    def __init__(self, sums: dict[str, float], speed: str) -> None:
        self.sums, self.speed = sums, speed

    def add(self, result: StepResult, seconds: float, waiting: float) -> None:
        """Take in a step that took so many seconds in all, some of them waiting for data."""
        added = {
            "steps": not result.flaw,
            "skipped": bool(result.flaw) and not result.overflow,
            "overflows": result.overflow,
            "splits": result.splits,
            "grad_norm": result.grad_norm,
            "seconds": seconds,
            "waiting": waiting,
            **result.sizes,
            **result.sums,
        }
        for name, value in added.items():
            self.sums[name] = self.sums.get(name, 0) + value

    def metrics(self) -> dict[str, float]:
        """Return the epoch's metrics so far."""
        found = {
            "train_loss": self._ratio("loss", "tokens"),
            "grad_norm": self._ratio("grad_norm", "steps"),
            "skipped_steps": int(self.sums.get("skipped", 0)),
            "overflowed_steps": int(self.sums.get("overflows", 0)),
            "split_batches": int(self.sums.get("splits", 0)),
            "seconds": self.sums.get("seconds", 0.0),
            "waiting_share": self._ratio("waiting", "seconds"),
            "useful_share": self._ratio("useful", "padded"),
            self.speed: self._ratio("size", "seconds"),
            "peak_memory_mib": peak_memory(),
        }
        if "frames" in self.sums:
            found["blank_rate"] = self._ratio("blank_frames", "frames")
        return found

    def _ratio(self, of: str, to: str) -> float:
        return self.sums.get(of, 0.0) / (self.sums.get(to) or 1.0)


class MetricsLog:
    """Writes every epoch's metrics to ``metrics.jsonl`` and to TensorBoard.

    The file is written anew from the history each time, so it never disagrees with the checkpoint.
    """

    def __init__(self, folder: Path) -> None:
        # Imported before the first epoch, so that its peak of memory has this in it like all others.
        from torch.utils.tensorboard import SummaryWriter

        self.folder, self._writer = folder, SummaryWriter
        self._board: Any = None

    def write(self, history: Sequence[dict[str, Any]]) -> None:
        """Write the whole history."""
        with atomic_write(self.folder / "metrics.jsonl") as path:
            path.write_text("".join(json.dumps(_finite(entry)) + "\n" for entry in history))

    def show(self, entry: Mapping[str, Any]) -> None:
        """Add an epoch to TensorBoard."""
        if self._board is None:
            # What an earlier process wrote of this epoch and later ones was lost when it stopped.
            self._board = self._writer(str(self.folder / "tensorboard"), purge_step=entry["epoch"])
        for name, value in entry.items():
            if isinstance(value, (int, float)) and name != "epoch" and math.isfinite(value):
                self._board.add_scalar(name, value, entry["epoch"])
        self._board.flush()

    def close(self) -> None:
        """Close the TensorBoard file."""
        if self._board is not None:
            self._board.close()


def _finite(entry: dict[str, Any]) -> dict[str, Any]:
    """Replace what JSON has no number for, such as the infinite loss of a text that does not fit."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in entry.items()}
