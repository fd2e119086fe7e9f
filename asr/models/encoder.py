"""Stacked recurrent layers whose result does not depend on what an utterance is batched with.

The layers work on packed rows (see `asr.models.packing`): padding is not masked, it is not there. What
mixes frames (time reduction, look-ahead) lays the rows out again, with zeros behind every utterance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence

from asr.models.packing import Packing
from asr.models.recurrence import recurrence

CellName = Literal["lstm", "gru", "rnn", "rnn_relu", "ligru"]
Norm = Literal["layer", "batch", "none"]
State = tuple[Tensor, ...]
"""What a layer carries from frame to frame: h (1, B, P) and, for an LSTM, c (1, B, H), float."""

_SMALL_STEP = 3000  # values of a state in a batch (B H), where both ways were measured to be equally fast


class LiGRU(nn.Module):
    """Parameters of a light GRU layer, named as those of `torch.nn.GRU`; see `asr.models.cells.LiGRU`.

    Parameters
    ----------
    input_size, hidden_size : int
    bidirectional : bool
    norm : {"none", "layer", "batch"}
        How the products with the input are normalised. Batch statistics are over all frames but padding.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        bidirectional: bool = False,
        norm: Norm = "layer",
    ) -> None:
        super().__init__()
        self.hidden_size, self.bidirectional = hidden_size, bidirectional
        self.suffixes = ("", "_reverse")[: 1 + bidirectional]
        bound = hidden_size**-0.5
        for suffix in self.suffixes:
            for name, *shape in (
                ("weight_ih_l0", 2 * hidden_size, input_size),
                ("weight_hh_l0", 2 * hidden_size, hidden_size),
                *(
                    (("bias_ih_l0", 2 * hidden_size), ("bias_hh_l0", 2 * hidden_size))
                    if norm == "none"
                    else ()
                ),
            ):
                values = torch.empty(*shape).uniform_(-bound, bound)
                self.register_parameter(f"{name}{suffix}", nn.Parameter(values))
            self.add_module(f"norm{suffix}", make_norm(norm, 2 * hidden_size))

    def products(self, x: Tensor) -> Tensor:
        """Map rows (N, F) to the normalised products of all directions, (N, D 2 H)."""
        return torch.cat(
            [
                self.get_submodule(f"norm{s}")(F.linear(x, self.get_parameter(f"weight_ih_l0{s}")))
                for s in self.suffixes
            ],
            dim=1,
        )

    def weights(self) -> list[list[Tensor | None]]:
        """Return what the recurrence needs of each direction."""
        names = ("weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        return [[None, *(getattr(self, f"{name}{s}", None) for name in names)] for s in self.suffixes]


class RowBatchNorm(nn.BatchNorm1d):
    """Batch normalisation over rows (N, F), all of which are frames; a single row takes the running means."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, F)."""
        if self.training and len(x) > 1:
            return super().forward(x)
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


def make_norm(name: str, size: int) -> nn.Module:
    """Make the normalisation "none", "layer" (arXiv:1607.06450) or "batch" (arXiv:1502.03167) of rows."""
    kinds: dict[str, type[nn.Module]] = {"none": nn.Identity, "layer": nn.LayerNorm, "batch": RowBatchNorm}
    return kinds[name](size)


class RecurrentLayer(nn.Module):
    """One recurrent layer over packed rows, in one or two directions.

    Parameters
    ----------
    cell : {"lstm", "gru", "rnn", "rnn_relu", "ligru"}
        Equations and initial values as in `torch.nn.LSTM`, `torch.nn.GRU` and `torch.nn.RNN`, whose
        parameters these are; a light GRU as in `LiGRU`.
    input_size, hidden_size : int
        Features per input frame; units per direction.
    bidirectional : bool
    proj_size : int
        Values that an LSTM's output is projected to (arXiv:1402.1128); 0 for none.
    norm : {"none", "layer", "batch"}
        Of a light GRU's products with its input; other cells have none.

    Attributes
    ----------
    output_size : int
        Values a frame, of both directions together.
    """

    def __init__(
        self,
        cell: CellName,
        input_size: int,
        hidden_size: int,
        bidirectional: bool,
        proj_size: int = 0,
        norm: Norm = "layer",
    ) -> None:
        super().__init__()
        kinds: dict[str, Callable[..., nn.Module]] = {
            "lstm": partial(nn.LSTM, proj_size=proj_size),
            "gru": nn.GRU,
            "rnn": nn.RNN,
            "rnn_relu": partial(nn.RNN, nonlinearity="relu"),
            "ligru": partial(LiGRU, norm=norm),
        }
        self.rnn: Any = kinds[cell](input_size, hidden_size, bidirectional=bidirectional)
        self.kind = "rnn_tanh" if cell == "rnn" else cell
        self.fused = cell == "lstm" and not proj_size  # PyTorch has a fast kernel of it for the CPU
        self.state_sizes = (proj_size or hidden_size, hidden_size)[: 2 if cell == "lstm" else 1]
        self.num_directions = 2 if bidirectional else 1
        self.output_size = self.num_directions * (proj_size or hidden_size)

    def forward(self, x: Tensor, packing: Packing) -> Tensor:
        """Map rows (N, F) to (N, output_size), every utterance from a zero state."""
        if packing.num_steps == 0:
            return x.new_zeros(0, self.output_size)
        if x.is_cuda and isinstance(self.rnn, nn.RNNBase):  # cuDNN takes packed rows as they are
            sizes = torch.tensor(packing.batch_sizes)
            return cast(PackedSequence, self.rnn(PackedSequence(x, sizes))[0]).data
        return self._recur(x, packing, self._weights(), self.initial_state(len(packing.lengths), x))[0]

    def advance(self, x: Tensor, packing: Packing, state: State) -> tuple[Tensor, State]:
        """Go on in the forward direction: rows (N, F) and a state to rows (N, P) and the next state.

        The next state of an utterance that has ended has no meaning.
        """
        if packing.num_steps == 0:
            return x.new_zeros(0, self.state_sizes[0]), state
        return self._recur(x, packing, self._weights()[:1], state)

    def advance_with_context(
        self, x: Tensor, packing: Packing, chunk: int, state: State
    ) -> tuple[Tensor, State]:
        """Run both directions over a chunk and the frames behind it that serve as its future.

        The forward direction goes on from `state`; the next state is that of the chunk's last frame, not
        of the context's. The backward direction begins at the end of the context.

        Parameters
        ----------
        x : Tensor, (N, F)
        packing : Packing
            Of the chunk and its context.
        chunk : int
            Frames of the chunk.
        """
        split = packing.rows_before(chunk)
        now, state = self.advance(x[:split], packing.slice(0, chunk), state)
        later, _ = self.advance(x[split:], packing.slice(chunk, packing.num_steps), state)
        flipped = x[packing.reversal]
        zeros = self.initial_state(len(packing.lengths), x, num_directions=1)
        backward, _ = self._recur(flipped, packing, self._weights()[1:], zeros, direction=1)
        return torch.cat([torch.cat([now, later]), backward[packing.reversal]], dim=1), state

    def initial_state(self, batch_size: int, like: Tensor, num_directions: int | None = None) -> State:
        """Return zeros, one or two tensors (D, B, ...)."""
        weight = self.rnn.weight_hh_l0
        count = num_directions or self.num_directions
        return tuple(weight.new_zeros(count, batch_size, size) for size in self.state_sizes)

    def _weights(self) -> list[Sequence[Tensor | None]]:
        if isinstance(self.rnn, LiGRU):
            return list(self.rnn.weights())
        flat = cast(list[Tensor], self.rnn._flat_weights)
        size = len(flat) // self.num_directions
        return [flat[d * size : (d + 1) * size] for d in range(self.num_directions)]

    def _recur(
        self,
        x: Tensor,
        packing: Packing,
        weights: Sequence[Sequence[Tensor | None]],
        state: State,
        direction: int = 0,
    ) -> tuple[Tensor, State]:
        if isinstance(self.rnn, LiGRU):
            x = self.rnn.products(x)
            if len(weights) < self.num_directions:
                x = x.chunk(2, dim=1)[direction]
        elif self.fused and not x.is_cuda and len(packing.lengths) * self.rnn.hidden_size < _SMALL_STEP:
            # Where steps are small, what Python adds to each outweighs the padding that a fused kernel reads.
            return self._fused_lstm(x, packing, weights, state)
        return recurrence(self.kind, x, packing, weights, state)

    def _fused_lstm(
        self, x: Tensor, packing: Packing, weights: Sequence[Any], state: State
    ) -> tuple[Tensor, State]:
        """Run PyTorch's kernel over the padded batch, each direction from an utterance's own first frame."""
        outputs, last = [], []
        for d, group in enumerate(weights):
            rows = x if d == 0 else x[packing.reversal]
            first = (state[0][d : d + 1], state[1][d : d + 1])
            # has_biases, num_layers, dropout, train, bidirectional, batch_first
            settings = (True, 1, 0.0, self.training, False, True)
            y, *after = torch._VF.lstm(packing.unpack(rows), first, group, *settings)
            y = packing.pack(y)
            outputs.append(y if d == 0 else y[packing.reversal])
            last.append(after)
        return torch.cat(outputs, dim=1), tuple(torch.cat(tensors) for tensors in zip(*last, strict=True))


class LookAhead(nn.Module):
    """A look-ahead (row) convolution: each feature's weighted sum over a frame and the next ones.

    Gives a one-directional network a little future (Wang et al., arXiv:1609.03193 section 3; Amodei et al.,
    arXiv:1512.02595 section 3.7).

    Parameters
    ----------
    size : int
        Features per frame, F.
    context : int
        Frames to look ahead.
    """

    def __init__(self, size: int, context: int) -> None:
        super().__init__()
        self.context = context
        # begins as the frame itself, so that nothing is mixed before it is learnt
        weight = torch.zeros(size, 1, context + 1)
        weight[:, :, 0] = 1
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T + context, F) to (B, T, F)."""
        return F.conv1d(x.transpose(1, 2), self.weight, groups=x.shape[2]).transpose(1, 2)


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
        if self.chunk:
            rows = self._in_chunks(rows, packing)
        else:
            for index, reduction in enumerate(self.reductions):
                if reduction > 1:
                    frames = packing.unpack(rows, -(-packing.num_steps // reduction) * reduction)
                    packing = Packing.of(-(-packing.lengths // reduction))
                    rows = packing.pack(_side_by_side(frames, reduction))
                rows = self._finish(index, rows, self._layer(index)(rows, packing))
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
            x = packing.unpack(self._finish(index, rows, y))
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

    def _finish(self, index: int, x: Tensor, y: Tensor) -> Tensor:
        """Join, project, normalise and drop a layer's outputs (N, ...), and add its input."""
        if self.sum_directions:
            forward, backward = y.chunk(2, dim=1)
            y = forward + backward
        y = self.dropout(self.norms[index](self.projections[index](y)))
        return x + y if self.residual and x.shape == y.shape else y

    def _in_chunks(self, rows: Tensor, packing: Packing) -> Tensor:
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
            y, layers = self._window(rows[first : first + window.rows_before(stop - start)], window, layers)
            outputs.append(y[: window.rows_before(self.chunk)])
        return torch.cat(outputs)

    def _window(self, rows: Tensor, packing: Packing, states: list[State]) -> tuple[Tensor, list[State]]:
        """Run all layers over a chunk and its right context."""
        following = []
        for index, state in enumerate(states):
            y, state = self._layer(index).advance_with_context(rows, packing, self.chunk, state)
            rows = self._finish(index, rows, y)
            following.append(state)
        return rows, following


def _side_by_side(x: Tensor, count: int) -> Tensor:
    """Put `count` frames side by side: (B, T, F) to (B, T / count, count F)."""
    return x.unflatten(1, (-1, count)).flatten(2) if x.shape[1] else x.repeat(1, 1, count)


def _after(pending: Tensor | None, x: Tensor) -> Tensor:
    return x if pending is None else torch.cat([pending, x], dim=1)


def _full_packing(x: Tensor) -> Packing:
    return Packing.of(torch.full((len(x),), x.shape[1], device=x.device))
