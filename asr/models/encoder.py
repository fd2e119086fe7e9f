"""Stacked recurrent layers whose result does not depend on what an utterance is batched with.

The layers work on packed rows (see `asr.models.packing`): padding is not masked, it is not there, or only
behind an utterance's last frame, where nothing that is kept comes from. What mixes frames (time reduction,
look-ahead) lays the rows out again, with zeros behind every utterance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asr.models.layers import CellName, LookAhead, Norm, RecurrentLayer, State, make_norm
from asr.models.packing import Packing


@dataclass
class EncoderState:
    """Where a stream of chunks stands; see `RecurrentEncoder.stream`.

    Attributes
    ----------
    layers : list of State
        Of each recurrent layer.
    pending : list of Tensor
        Frames (B, n, F) that wait for later ones: in front of each layer, and of the look-ahead.
    """

    layers: list[State] = field(default_factory=list)
    pending: list[Tensor | None] = field(default_factory=list)


class RecurrentEncoder(nn.Module):
    """A stack of recurrent layers.

    Each layer: recurrence, directions joined, projection, normalisation, dropout, residual; then the time
    reduction in front of the next one.

    Parameters
    ----------
    input_size : int
        Features per frame, F.
    cell : {"lstm", "gru", "rnn", "rnn_relu", "ligru"}
    hidden_size : int
        Units per layer and direction.
    num_layers : int
    bidirectional : bool
    dropout : float
        Probability of zeroing an output of any layer while training.
    dropout_kind : {"element", "variational"}
        Whether each frame draws the outputs that are zeroed, or an utterance does for all of its frames (Gal
        and Ghahramani, arXiv:1512.05287, of the connections between layers).
    norm : {"layer", "batch", "none"}
        Of every layer's output; of a light GRU's products with its input instead. Batch statistics are
        over all frames but padding.
    directions : {"concat", "sum"}
        How the outputs of the two directions are joined.
    proj_size : int
        Values that an LSTM's output is projected to inside the recurrence, as in `torch.nn.LSTM`.
    projection : int
        Values that every layer's joined output is mapped to by a matrix; 0 for none.
    residual : bool
        Add a layer's input to its output where both have the same size.
    reductions : sequence of int
        By how much time is reduced in front of each layer after the first, by putting so many frames side
        by side (a pyramid: Chan et al., arXiv:1508.01211); empty for not at all.
    lookahead : int
        Frames of future that a convolution after the last layer sees; for one direction only.
    chunk, right_context : int
        Run both directions in chunks of so many frames, the backward one over so many frames more: the
        latency-controlled BLSTM of Zhang et al., arXiv:1510.08983. 0: over whole utterances.

    Attributes
    ----------
    output_size : int
        Features per output frame.
    factor : int
        Input frames per output frame.
    """

    def __init__(
        self,
        input_size: int,
        cell: CellName = "lstm",
        hidden_size: int = 256,
        num_layers: int = 3,
        bidirectional: bool = True,
        dropout: float = 0.2,
        norm: Norm = "layer",
        directions: Literal["concat", "sum"] = "concat",
        proj_size: int = 0,
        projection: int = 0,
        residual: bool = False,
        reductions: Sequence[int] = (),
        lookahead: int = 0,
        chunk: int = 0,
        right_context: int = 0,
        dropout_kind: Literal["element", "variational"] = "element",
    ) -> None:
        super().__init__()
        sizes = {"proj_size": proj_size, "projection": projection, "lookahead": lookahead, "chunk": chunk}
        if hidden_size < 1 or num_layers < 1 or not 0 <= dropout < 1:
            raise ValueError(
                "hidden_size and num_layers must be positive and dropout in [0, 1), "
                f"found {hidden_size}, {num_layers}, {dropout}"
            )
        for name, value in (sizes | {"right_context": right_context}).items():
            if value < 0:
                raise ValueError(f"{name} must not be negative, found {value}")
        if proj_size and (cell != "lstm" or proj_size >= hidden_size):
            raise ValueError("proj_size is for cell lstm, and smaller than hidden_size")
        reductions = tuple(reductions) or (1,) * (num_layers - 1)
        if len(reductions) != num_layers - 1 or min(reductions, default=1) < 1:
            raise ValueError(
                f"reductions: expected {num_layers - 1} positive factors, one a layer after the first, "
                f"found {list(reductions)}"
            )
        if lookahead and bidirectional:
            raise ValueError("lookahead is for one direction; two see the whole future")
        if (chunk or right_context) and (not bidirectional or not chunk or max(reductions, default=1) > 1):
            raise ValueError("chunk and right_context are for two directions without reductions")
        self.reductions = (1, *reductions)
        self.sum_directions = directions == "sum" and bidirectional
        self.residual, self.chunk, self.right_context = residual, chunk, right_context
        self.layers, self.norms, self.projections = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        self.factor = 1
        for reduction in self.reductions:
            self.factor *= reduction
            layer = RecurrentLayer(cell, input_size * reduction, hidden_size, bidirectional, proj_size, norm)
            joined = layer.output_size // (2 if self.sum_directions else 1)
            input_size = projection or joined
            self.layers.append(layer)
            self.projections.append(nn.Linear(joined, projection) if projection else nn.Identity())
            self.norms.append(make_norm("none" if cell == "ligru" else norm, input_size))
        self.dropout = nn.Dropout(dropout)
        self.dropout_kind = dropout_kind
        self.lookahead = LookAhead(input_size, lookahead) if lookahead else None
        self.output_size = input_size

    @property
    def bidirectional(self) -> bool:
        """Whether there are two directions."""
        return self._layer(0).num_directions == 2

    def output_length(self, length: int) -> int:
        """Return the number of output frames for `length` input frames."""
        for reduction in self.reductions:
            length = -(-length // reduction)
        return length

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, T, F) to (B, T', output_size), zero beyond the new lengths, int64 (B,)."""
        packing = Packing.of(lengths)
        rows = packing.pack(x)
        masks = self._draw_masks(len(lengths), x)
        if self.chunk:
            rows = self._in_chunks(rows, packing, masks)
        else:
            for index, reduction in enumerate(self.reductions):
                if reduction > 1:
                    frames = packing.unpack(rows, -(-packing.num_steps // reduction) * reduction)
                    packing = Packing.of(-(-packing.lengths // reduction))
                    rows = packing.pack(_side_by_side(frames, reduction))
                rows = self.finish(
                    index, rows, self._layer(index)(rows, packing), _of_rows(masks, index, packing)
                )
        num_steps = self.output_length(x.shape[1])
        if self.lookahead is not None:
            frames = packing.unpack(rows, num_steps + self.lookahead.context)
            rows = packing.pack(self.lookahead(frames))
        return packing.unpack(rows, num_steps), packing.lengths

    def stream(
        self, x: Tensor, state: EncoderState | None = None, *, final: bool = False
    ) -> tuple[Tensor, EncoderState]:
        """Take the next frames of a stream and return the outputs that they settle.

        Chunk by chunk the outputs are those of `forward` over everything at once.

        Parameters
        ----------
        x : Tensor, float, (B, T, F)
            Any number of frames, also 0.
        state : EncoderState, optional
            As the last call returned it; None at the start.
        final : bool
            No more will come.

        Returns
        -------
        y : Tensor, (B, T', output_size)
        state : EncoderState

        Raises
        ------
        ValueError
            If the encoder needs the whole utterance: two directions, and no chunks.
        """
        if self.bidirectional and not self.chunk:
            raise ValueError(
                "a bidirectional encoder needs the whole utterance; train with bidirectional: false or chunk"
            )
        if state is None:
            state = EncoderState(
                [cast(RecurrentLayer, m).initial_state(len(x), x, num_directions=1) for m in self.layers],
                [None] * (len(self.layers) + 1),
            )
        layers, pending = list(state.layers), list(state.pending)
        if self.chunk:
            x = _after(pending[0], x)
            outputs = [x.new_zeros(len(x), 0, self.output_size)]
            while x.shape[1] >= self.chunk + self.right_context or (final and x.shape[1]):
                window = x[:, : self.chunk + self.right_context]
                packing = _full_packing(window)
                rows, layers = self._window(packing.pack(window), packing, layers)
                outputs.append(packing.unpack(rows)[:, : self.chunk])
                x = x[:, self.chunk :]
            pending[0] = x
            return torch.cat(outputs, dim=1), EncoderState(layers, pending)
        for index, reduction in enumerate(self.reductions):
            x = _after(pending[index], x)
            whole = x.shape[1] // reduction * reduction
            if final and whole < x.shape[1]:
                x = F.pad(x, (0, 0, 0, reduction - x.shape[1] % reduction))
                whole = x.shape[1]
            pending[index], x = x[:, whole:], _side_by_side(x[:, :whole], reduction)
            packing = _full_packing(x)
            rows = packing.pack(x)
            y, layers[index] = self._layer(index).advance(rows, packing, layers[index])
            x = packing.unpack(self.finish(index, rows, y))
        if self.lookahead is not None:
            context = self.lookahead.context
            x = _after(pending[-1], x)
            if final:
                x = F.pad(x, (0, 0, 0, context))
            pending[-1] = x[:, max(0, x.shape[1] - context) :]
            x = self.lookahead(x) if x.shape[1] > context else x[:, :0]
        return x, EncoderState(layers, pending)

    def _layer(self, index: int) -> RecurrentLayer:
        return cast(RecurrentLayer, self.layers[index])

    def _draw_masks(self, batch_size: int, like: Tensor) -> list[Tensor] | None:
        """Draw by what each layer's outputs of an utterance are multiplied, (B, F); None if frames do so."""
        if self.dropout_kind == "element" or not self.training:
            return None
        # The last layer's size is every layer's.
        return [self.dropout(like.new_ones(batch_size, self.output_size)) for _ in self.layers]

    def finish(
        self,
        index: int,
        x: Tensor,
        y: Tensor,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Join, project, normalise and drop a layer's outputs (N, ...), and add its input.

        `mask` (N, F) is what they are multiplied with in place of dropout.
        """
        if self.sum_directions:
            forward, backward = y.chunk(2, dim=1)
            y = forward + backward
        y = self.norms[index](self.projections[index](y))
        y = self.dropout(y) if mask is None else y * mask.to(y.dtype)
        return x + y if self.residual and x.shape == y.shape else y

    def _in_chunks(self, rows: Tensor, packing: Packing, masks: list[Tensor] | None) -> Tensor:
        """Run over whole utterances as `stream` does over a stream: (N, F) to (N, output_size)."""
        batch_size = len(packing.lengths)
        layers = [
            cast(RecurrentLayer, m).initial_state(batch_size, rows, num_directions=1) for m in self.layers
        ]
        outputs = [rows.new_zeros(0, self.output_size)]
        for start in range(0, packing.num_steps, self.chunk):
            stop = min(start + self.chunk + self.right_context, packing.num_steps)
            window = packing.slice(start, stop)
            first = packing.rows_before(start)
            inputs = rows[first : first + window.rows_before(stop - start)]
            y, layers = self._window(inputs, window, layers, masks)
            outputs.append(y[: window.rows_before(self.chunk)])
        return torch.cat(outputs)

    def _window(
        self, rows: Tensor, packing: Packing, states: list[State], masks: list[Tensor] | None = None
    ) -> tuple[Tensor, list[State]]:
        """Run all layers over a chunk and its right context."""
        following = []
        for index, state in enumerate(states):
            y, state = self._layer(index).advance_with_context(rows, packing, self.chunk, state)
            rows = self.finish(index, rows, y, _of_rows(masks, index, packing))
            following.append(state)
        return rows, following


def _of_rows(masks: list[Tensor] | None, index: int, packing: Packing) -> Tensor | None:
    """Return a layer's mask of every row (N, F), from those of every utterance (B, F)."""
    return None if masks is None else masks[index][packing.utterances]


def _side_by_side(x: Tensor, count: int) -> Tensor:
    """Put `count` frames side by side: (B, T, F) to (B, T / count, count F)."""
    return x.unflatten(1, (-1, count)).flatten(2) if x.shape[1] else x.repeat(1, 1, count)


def _after(pending: Tensor | None, x: Tensor) -> Tensor:
    return x if pending is None else torch.cat([pending, x], dim=1)


def _full_packing(x: Tensor) -> Packing:
    return Packing.of(torch.full((len(x),), x.shape[1], device=x.device))
