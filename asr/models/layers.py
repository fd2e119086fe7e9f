"""One recurrent layer over packed rows, and what stands between layers.

Which kernel runs a layer is decided here and nowhere else: on a GPU cuDNN, on a CPU the LSTM of oneDNN and
`asr.models.recurrence` for all other cells. All use the same weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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

Kernel = Callable[[Tensor, State], Sequence[Tensor]]
"""One direction over a padded batch: (T, B, F) and a state to (T, B, P) and the next state."""


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
        # For the CPU oneDNN has a kernel of this cell alone.
        self.fused = cell == "lstm" and not proj_size and torch.backends.mkldnn.is_available()
        self.kernels: list[Kernel] = []  # of each direction, in place of what runs them otherwise
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
        flipped = packing.reverse(x)
        zeros = self.initial_state(len(packing.lengths), x, num_directions=1)
        backward, _ = self._recur(flipped, packing, self._weights()[1:], zeros, direction=1)
        return torch.cat([torch.cat([now, later]), packing.reverse(backward)], dim=1), state

    def initial_state(self, batch_size: int, like: Tensor, num_directions: int | None = None) -> State:
        """Return zeros, one or two tensors (D, B, ...)."""
        weight = self.rnn.weight_hh_l0
        count = num_directions or self.num_directions
        return tuple(weight.new_zeros(count, batch_size, size) for size in self.state_sizes)

    def direction_weights(self, direction: int) -> Sequence[Tensor | None]:
        """Return w_ih, w_hh, b_ih, b_hh and, of an LSTM with projection, w_hr; a light GRU's w_ih is None."""
        return self._weights()[direction]

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
        elif self.kernels:
            return self._over_padding(x, packing, self.kernels[direction : direction + len(weights)], state)
        elif self.fused and not x.is_cuda:
            if packing.is_full and len(weights) == 2:
                return self._without_padding(x, packing, weights, state)
            kernels = [partial(self._fused_lstm, list(group)) for group in weights]
            return self._over_padding(x, packing, kernels, state)
        return recurrence(self.kind, x, packing, weights, state)

    def _fused_lstm(self, weights: list[Any], x: Tensor, state: State) -> Sequence[Tensor]:
        lstm: Any = torch._VF.lstm  # typed for tuples and lists only
        # has_biases, num_layers, dropout, train, bidirectional, batch_first
        return lstm(x, state, weights, True, 1, 0.0, self.training, len(state[0]) == 2, False)

    def _without_padding(
        self, x: Tensor, packing: Packing, weights: Sequence[Sequence[Tensor | None]], state: State
    ) -> tuple[Tensor, State]:
        """Run both directions of utterances of one length, which need not be turned round for it."""
        frames, first = x.unflatten(0, (packing.num_steps, -1)), tuple(s[:, packing.order] for s in state)
        y, *last = self._fused_lstm([w for group in weights for w in group], frames, first)
        back = packing.order.argsort()
        return y.flatten(0, 1), tuple(s[:, back] for s in last)

    def _over_padding(
        self, x: Tensor, packing: Packing, kernels: Sequence[Kernel], state: State
    ) -> tuple[Tensor, State]:
        """Run kernels over padded parts of the batch, each direction from an utterance's own first frame."""
        outputs, last = [], []
        sizes = [steps * size for steps, size in packing.parts]
        for d, kernel in enumerate(kernels):
            frames, done = packing.lay(x, backwards=d == 1), []
            now = [s[d : d + 1, packing.order] for s in state]
            for part, shape in zip(frames.split(sizes), packing.parts, strict=True):
                y, *after = kernel(part.unflatten(0, shape), tuple(s[:, : shape[1]] for s in now))
                done.append(y.flatten(0, 1))
                now = [torch.cat([a, s[:, shape[1] :]], dim=1) for a, s in zip(after, now, strict=True)]
            outputs.append(packing.take(torch.cat(done), backwards=d == 1))
            last.append([s[:, packing.order.argsort()] for s in now])
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
