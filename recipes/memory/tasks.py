"""The two tasks: numbers to add and a symbol to recall, far apart.

Each is drawn as ``(generator, batch size, lag) -> inputs float32 (B, T, F), targets``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

NUM_SYMBOLS = 8


def adding_problem(rng: torch.Generator, batch_size: int, lag: int) -> tuple[Tensor, Tensor]:
    """Return numbers with two of them marked, float32 (B, lag, 2), and the sum of these two, float32 (B,).

    Hochreiter & Schmidhuber (1997), section 5.4, in the form of Le et al. (arXiv:1504.00941): numbers
    uniform in [0, 1], one mark in each half. Always answering 1 has a mean square error of 1/6.
    """
    values = torch.rand(batch_size, lag, generator=rng)
    first = torch.randint(lag // 2, (batch_size, 1), generator=rng)
    second = torch.randint(lag // 2, lag, (batch_size, 1), generator=rng)
    marks = torch.zeros(batch_size, lag).scatter_(1, torch.cat([first, second], 1), 1.0)
    return torch.stack([values, marks], 2), (values * marks).sum(1)


def delayed_copy(rng: torch.Generator, batch_size: int, lag: int) -> tuple[Tensor, Tensor]:
    """Return a symbol followed by silence and a cue, float32 (B, lag + 1, 9), and the symbol, int64 (B,).

    The first frame shows one of eight symbols, the last one, `lag` frames later, asks for it. Guessing is
    wrong in 7 cases of 8.
    """
    symbols = torch.randint(NUM_SYMBOLS, (batch_size,), generator=rng)
    x = torch.zeros(batch_size, lag + 1, NUM_SYMBOLS + 1)
    x[torch.arange(batch_size), 0, symbols] = 1
    x[:, -1, NUM_SYMBOLS] = 1
    return x, symbols


@dataclass(frozen=True, slots=True)
class Task:
    """A task, how an answer is scored, the error below which it counts as solved, and how long to try."""

    draw: Callable[[torch.Generator, int, int], tuple[Tensor, Tensor]]
    input_size: int
    output_size: int
    error_name: str
    chance: float
    solved: float
    max_updates: int

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each answer, (M, B), for outputs (M, B, output_size)."""
        if self.output_size == 1:
            return (outputs.squeeze(2) - targets).square()
        return F.cross_entropy(outputs.flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)

    def errors(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean error of each model, (M,)."""
        if self.output_size == 1:
            return self.losses(outputs, targets).mean(1)
        return (outputs.argmax(2) != targets).float().mean(1)


TASKS = {
    "adding": Task(adding_problem, 2, 1, "mean square error", 1 / 6, 0.01, 600),
    "copy": Task(delayed_copy, NUM_SYMBOLS + 1, NUM_SYMBOLS, "error rate", 7 / 8, 0.01, 300),
}
