"""Stacked recurrent layers whose result does not depend on what an utterance is batched with.

In a padded batch the backward direction must start at each utterance's own last frame. Packing does
that, and is what cuDNN wants; on a CPU packed sequences run step by step and cost several times the
time. There each direction runs over the padded batch as a one-directional layer instead, the backward
one reading every utterance reversed within its own length. Both ways use the same weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from asr.models.gru import gru
from asr.models.subsampling import mask_padding

CELLS: dict[str, Callable[..., nn.RNNBase]] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


def reverse_within_length(x: Tensor, lengths: Tensor) -> Tensor:
    """Reverse each utterance of x (B, T, F) within its own length; padding stays where it is."""
    steps = torch.arange(x.shape[1], device=x.device)
    reversed_steps = lengths[:, None] - 1 - steps
    index = torch.where(reversed_steps >= 0, reversed_steps, steps)
    return x.gather(1, index.unsqueeze(2).expand_as(x))


class RecurrentLayer(nn.Module):
    """One recurrent layer over a padded batch, in one or two directions.

    Parameters
    ----------
    cell : {"lstm", "gru", "rnn"}
    input_size, hidden_size : int
        Features per input frame; units per direction.
    bidirectional : bool
        The outputs of both directions are concatenated.

    Notes
    -----
    Equations and initial values as in `torch.nn.LSTM`, `torch.nn.GRU` and `torch.nn.RNN`, whose
    parameters these are.
    """

    def __init__(
        self,
        cell: Literal["lstm", "gru", "rnn"],
        input_size: int,
        hidden_size: int,
        bidirectional: bool,
    ) -> None:
        super().__init__()
        self.rnn: nn.RNNBase = CELLS[cell](
            input_size, hidden_size, batch_first=True, bidirectional=bidirectional
        )
        self.output_size = hidden_size * (2 if bidirectional else 1)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Map (B, T, F) to (B, T, output_size), zero beyond `lengths` (B,) int64."""
        if x.is_cuda:
            packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
            y, _ = pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=x.shape[1])
            return y
        weights = cast(list[Tensor], self.rnn._flat_weights)
        per_direction = len(weights) // (2 if self.rnn.bidirectional else 1)
        y = self._one_direction(x, weights[:per_direction])
        if self.rnn.bidirectional:
            backward = self._one_direction(reverse_within_length(x, lengths), weights[per_direction:])
            y = torch.cat([y, reverse_within_length(backward, lengths)], dim=2)
        return mask_padding(y, lengths)

    def _one_direction(self, x: Tensor, weights: list[Tensor]) -> Tensor:
        if isinstance(self.rnn, nn.GRU):
            return gru(x, *weights)
        state = x.new_zeros(1, x.shape[0], self.rnn.hidden_size)
        # has_biases, num_layers, dropout, train, bidirectional, batch_first
        settings = (True, 1, 0.0, self.training, False, True)
        if isinstance(self.rnn, nn.LSTM):
            return torch._VF.lstm(x, (state, state), weights, *settings)[0]
        return torch._VF.rnn_tanh(x, state, weights, *settings)[0]


class RecurrentEncoder(nn.Module):
    """A stack of recurrent layers with dropout and layer normalisation between them.

    Parameters
    ----------
    input_size : int
        Features per frame, F.
    cell : {"lstm", "gru", "rnn"}
    hidden_size : int
        Units per layer and direction.
    num_layers : int
    bidirectional : bool
    dropout : float
        Probability of zeroing an output of any layer while training.
    layer_norm : bool
        Normalise every layer's output over its features (arXiv:1607.06450).

    Attributes
    ----------
    output_size : int
        Features per output frame.
    """

    def __init__(
        self,
        input_size: int,
        cell: Literal["lstm", "gru", "rnn"] = "lstm",
        hidden_size: int = 256,
        num_layers: int = 3,
        bidirectional: bool = True,
        dropout: float = 0.2,
        layer_norm: bool = True,
    ) -> None:
        super().__init__()
        if hidden_size < 1 or num_layers < 1 or not 0 <= dropout < 1:
            raise ValueError(
                "hidden_size and num_layers must be positive and dropout in [0, 1), "
                f"found {hidden_size}, {num_layers}, {dropout}"
            )
        self.layers, self.norms = nn.ModuleList(), nn.ModuleList()
        for _ in range(num_layers):
            layer = RecurrentLayer(cell, input_size, hidden_size, bidirectional)
            input_size = layer.output_size
            self.layers.append(layer)
            self.norms.append(nn.LayerNorm(input_size) if layer_norm else nn.Identity())
        self.dropout = nn.Dropout(dropout)
        self.output_size = input_size

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, T, F) to (B, T, output_size); the int64 lengths (B,) stay as they are."""
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = self.dropout(norm(layer(x, lengths)))
        return x, lengths
