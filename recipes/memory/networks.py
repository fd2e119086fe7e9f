"""Cells, where their weights start, and many networks trained side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from tasks import Task
from torch import Tensor, nn

from asr.models.cells import GRU, LSTM, RNN, Cell


def as_torch(cell: Cell, lag: int) -> None:
    """Leave the weights as `torch.nn` draws them: uniform in +-1/sqrt(H), biases too."""


def orthogonal(cell: Cell, lag: int) -> None:
    """Make the recurrent matrix orthogonal (Saxe et al., arXiv:1312.6120)."""
    nn.init.orthogonal_(cell.weight_hh)


def identity(cell: Cell, lag: int) -> None:
    """Start from the identity (Le et al., arXiv:1504.00941)."""
    nn.init.eye_(cell.weight_hh)
    nn.init.normal_(cell.weight_ih, std=0.001)
    _zero_biases(cell)


def forget_bias_one(cell: Cell, lag: int) -> None:
    """Open the forget gate by a bias of 1 (Gers et al., 2000; Jozefowicz et al., 2015)."""
    _gate(cell, "forget").fill_(1.0)


def chrono(cell: Cell, lag: int) -> None:
    """Spread the units' memory over 1 to `lag` frames by the bias of the gate that keeps the state.

    Tallec & Ollivier (arXiv:1804.11188): forget bias log(U(1, lag - 1)) and input bias its negative; for a
    GRU the update gate.
    """
    keep = torch.empty(cell.hidden_size).uniform_(1, max(lag - 1, 1)).log()
    if isinstance(cell, LSTM):
        _gate(cell, "forget").copy_(keep)
        _gate(cell, "input").copy_(-keep)
    else:
        _gate(cell, "update").copy_(keep)


def _gate(cell: Cell, name: str) -> Tensor:
    """Return a gate's part of one bias after zeroing its part of the other."""
    assert cell.bias_ih is not None
    assert cell.bias_hh is not None
    block = cell.GATES.index(name)
    rows = slice(block * cell.hidden_size, (block + 1) * cell.hidden_size)
    cell.bias_hh.data[rows] = 0
    return cell.bias_ih.data[rows]


def _zero_biases(cell: Cell) -> None:
    for bias in (cell.bias_ih, cell.bias_hh):
        assert bias is not None
        nn.init.zeros_(bias)


@dataclass(frozen=True, slots=True)
class Variant:
    """A cell, its initial values, and the gradient norm that it is clipped to."""

    cell: str
    init: Callable[[Cell, int], None]
    clip: float

    @property
    def name(self) -> str:
        """What tables call it."""
        words = [self.cell.replace("_", " "), self.init.__name__.replace("_", " ")]
        return ", ".join([*words, f"clip {self.clip:g}" if math.isfinite(self.clip) else "no clip"])


CELLS: dict[str, Callable[[int, int], Cell]] = {
    "rnn": RNN,
    "relu_rnn": lambda input_size, hidden_size: RNN(input_size, hidden_size, candidate_activation="relu"),
    "lstm": LSTM,
    "gru": GRU,
}
# Chosen on short lags among 0.001, 0.003 and 0.01 (LSTM and GRU: 0.003 and 0.01).
LEARNING_RATES = {"rnn": 0.003, "relu_rnn": 0.003, "lstm": 0.01, "gru": 0.01}
VARIANTS = (
    *(Variant("rnn", init, clip) for init in (as_torch, orthogonal) for clip in (math.inf, 1.0)),
    *(Variant("relu_rnn", init, clip) for init in (orthogonal, identity) for clip in (math.inf, 1.0)),
    *(Variant("lstm", init, 1.0) for init in (as_torch, forget_bias_one, chrono)),
    *(Variant("gru", init, 1.0) for init in (as_torch, chrono)),
)


class Population(nn.Module):
    """Networks of one cell each, side by side: one matrix product for all costs little more than for one.

    Parameters
    ----------
    variants : sequence of Variant
        Of one cell; every one is there with every seed, M in all.
    seeds : sequence of int
    """

    def __init__(
        self, task: Task, lag: int, variants: Sequence[Variant], seeds: Sequence[int], hidden_size: int
    ) -> None:
        super().__init__()
        self.members = [(variant, seed) for variant in variants for seed in seeds]
        cells, heads = [], []
        for variant, seed in self.members:
            torch.manual_seed(seed)
            cell = CELLS[variant.cell](task.input_size, hidden_size)
            heads.append(nn.Linear(hidden_size, task.output_size))
            with torch.no_grad():
                variant.init(cell, lag)
            cells.append(cell)
        self.cell = cells[0]
        for key, _ in list(self.cell.named_parameters()):
            stacked = torch.stack([getattr(cell, key).data for cell in cells])
            # A bias of each model is added to all rows of its batch.
            setattr(self.cell, key, nn.Parameter(stacked[:, None] if stacked.ndim == 2 else stacked))
        self.head_weight = nn.Parameter(torch.stack([head.weight.data for head in heads]))
        self.head_bias = nn.Parameter(torch.stack([head.bias.data for head in heads])[:, None])

    def forward(self, x: Tensor) -> tuple[Tensor, list[tuple[Tensor, ...]]]:
        """Map (M, B, T, F) to the answers after the last frame (M, B, output_size) and the T states."""
        M, B, T, _ = x.shape
        inputs = self.cell.input_products(x.flatten(1, 2), torch.ones(M, B * T, dtype=torch.bool))
        sizes = (self.cell.output_size,) * (2 if isinstance(self.cell, LSTM) else 1)
        state = tuple(torch.zeros(M, B, size) for size in sizes)
        states = []
        for frame in inputs.view(M, B, T, -1).permute(2, 0, 1, 3).contiguous().unbind():
            state, _ = self.cell.step(frame, state)
            states.append(state)
        return torch.baddbmm(self.head_bias, state[0], self.head_weight.mT), states
