"""What a training reports: ``metrics.jsonl`` and TensorBoard."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from asr.files import atomic_write


class Monitor(Protocol):
    """Shows a training to whoever watches; the command line has one with progress bars."""

    def start_epoch(self, epoch: int, num_epochs: int, seconds: float, done: float) -> None:
        """Begin an epoch of `seconds` of audio, of which `done` are behind already."""

    def step(self, *, loss: float, lr: float, seconds: float) -> None:
        """Report a step: its loss a token, learning rate, and seconds of audio."""

    def end_epoch(self, metrics: dict[str, Any]) -> None:
        """Report the metrics of a finished epoch."""

    def note(self, message: str) -> None:
        """Report something out of the ordinary."""


class MetricsLog:
    """Writes every epoch's metrics to ``metrics.jsonl`` and to TensorBoard.

    The file is written anew from the history each time, so it never disagrees with the checkpoint.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._board: Any = None

    def write(self, history: Sequence[dict[str, Any]]) -> None:
        """Write the whole history and add its last entry to TensorBoard."""
        with atomic_write(self.folder / "metrics.jsonl") as path:
            path.write_text("".join(json.dumps(_finite(entry)) + "\n" for entry in history))
        if self._board is None:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(self.folder / "tensorboard"))
        entry = history[-1]
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
