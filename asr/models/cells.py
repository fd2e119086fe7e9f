"""Recurrent cells as their equations read, every gate by its name: the reference for the fast encoder.

A cell is one layer in one direction. Its parameters have the names, shapes and row order of one layer of
`torch.nn.RNN`, `torch.nn.LSTM` and `torch.nn.GRU`, so that weights pass from one to the other unchanged
(`from_torch`, `Cell.load`, `Cell.store`). It goes frame by frame in Python and hands out what happens
inside (`Cell.trace`); training uses `asr.models.encoder`, which computes the same thing many times faster.

In the equations ``x`` is the input and ``h`` the state of the frame before, W is ``weight_ih`` and U
``weight_hh``; both biases are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Activation = Literal["sigmoid", "hard_sigmoid", "tanh", "relu", "leaky_relu", "softmax"]
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "hard_sigmoid": F.hardsigmoid,  # relu6(x + 3) / 6
    "tanh": torch.tanh,
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,  # slope 0.01 below zero
    "softmax": lambda x: torch.softmax(x, dim=-1),  # over the units of a gate
}
State = tuple[Tensor, ...]
"""What a cell carries from frame to frame: hidden (B, P) and, for an LSTM, cell (B, H)."""

Gates = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Trace:
    """What happened inside a cell.

    Attributes
    ----------
    output : Tensor, float, (B, T, P)
        The hidden states; zero beyond an utterance's length. P is H, or the projection's size.
    gates : dict of str to Tensor, float, (B, T, H)
        The value of each gate after its activation, by name (`Cell.INSIDE`); zero beyond the length.
    state : tuple of Tensor, float, (B, P) or (B, H)
        The state after each utterance's last frame, in the direction of reading.
    """

    output: Tensor
    gates: Gates
    state: State


class Cell(nn.Module):
    """A recurrent layer in one direction, frame by frame.

    Parameters
    ----------
    input_size, hidden_size : int
        Features per input frame, F; units, H.
    bias : bool
        Two bias vectors, ``bias_ih`` and ``bias_hh``, as `torch.nn` has them.
    gate_activation, candidate_activation : str
        One of ``sigmoid``, ``hard_sigmoid``, ``tanh``, ``relu``, ``leaky_relu``, ``softmax``.

    Attributes
    ----------
    GATES : tuple of str
        The blocks of H rows in the weights, from top to bottom.
    INSIDE : tuple of str
        What `trace` returns by name.
    weight_ih : Parameter, float32, (len(GATES) * H, F)
    weight_hh : Parameter, float32, (len(GATES) * H, P)
    bias_ih, bias_hh : Parameter or None, float32, (len(GATES) * H,)
    """

    GATES: tuple[str, ...]
    INSIDE: tuple[str, ...]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        bias: bool = True,
        gate_activation: Activation = "sigmoid",
        candidate_activation: Activation = "tanh",
        proj_size: int = 0,
    ) -> None:
        super().__init__()
        for name in (gate_activation, candidate_activation):
            if name not in ACTIVATIONS:
                raise ValueError(f"activation {name!r} is none of {', '.join(get_args(Activation))}")
        if min(input_size, hidden_size) < 1 or not 0 <= proj_size < hidden_size:
            raise ValueError(
                "input_size and hidden_size must be positive and proj_size below hidden_size, "
                f"found {input_size}, {hidden_size}, {proj_size}"
            )
        self.hidden_size = hidden_size
        self.output_size = proj_size or hidden_size
        self.gate = ACTIVATIONS[gate_activation]
        self.candidate = ACTIVATIONS[candidate_activation]
        rows = len(self.GATES) * hidden_size
        self.weight_ih = nn.Parameter(torch.empty(rows, input_size))
        self.weight_hh = nn.Parameter(torch.empty(rows, self.output_size))
        self.bias_ih = nn.Parameter(torch.empty(rows)) if bias else None
        self.bias_hh = nn.Parameter(torch.empty(rows)) if bias else None
        self.weight_hr = nn.Parameter(torch.empty(proj_size, hidden_size)) if proj_size else None
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(hidden_size**-0.5), hidden_size**-0.5)

    def step(self, inputs: Tensor, state: State) -> tuple[State, Gates]:
        """Advance by a frame: input products (B, len(GATES) * H) and state to the next state and gates."""
        raise TypeError(f"{type(self).__name__} has no equations")

    def forward(
        self, x: Tensor, lengths: Tensor | None = None, state: State | None = None, reverse: bool = False
    ) -> Tensor:
        """Return the hidden states (B, T, P); see `trace`."""
        return self.trace(x, lengths, state, reverse).output

    def trace(
        self, x: Tensor, lengths: Tensor | None = None, state: State | None = None, reverse: bool = False
    ) -> Trace:
        """Run over a padded batch and return all that happens inside.

        Parameters
        ----------
        x : Tensor, float, (B, T, F)
        lengths : Tensor, int64, (B,), optional
            Frames of each utterance; all T without it.
        state : tuple of Tensor, optional
            Where to start; zeros without it.
        reverse : bool
            Read every utterance from its own last frame to its first.

        Raises
        ------
        ValueError
            No frames, or lengths beyond T.
        """
        B, T, _ = x.shape
        if lengths is None:
            lengths = torch.full((B,), T, device=x.device)
        if T < 1 or int(lengths.max()) > T:
            raise ValueError(f"x has {T} frames and the longest length is {int(lengths.max())}")
        valid_BT = torch.arange(T, device=x.device) < lengths[:, None]
        inputs = self.input_products(x, valid_BT)
        state = self.initial_state(x) if state is None else state
        outputs = [x.new_empty(0)] * T
        gates: list[Gates] = [{}] * T
        for t in reversed(range(T)) if reverse else range(T):
            valid = valid_BT[:, t, None]
            advanced, values = self.step(inputs[:, t], state)
            # In the padding the state stands still: reading backwards it is still the initial one.
            state = tuple(torch.where(valid, new, old) for new, old in zip(advanced, state, strict=True))
            outputs[t] = advanced[0].masked_fill(~valid, 0)
            gates[t] = {name: value.masked_fill(~valid, 0) for name, value in values.items()}
        return Trace(
            torch.stack(outputs, dim=1),
            {name: torch.stack([frame[name] for frame in gates], dim=1) for name in self.INSIDE},
            state,
        )

    def input_products(self, x: Tensor, valid: Tensor) -> Tensor:
        """Return W x + b for all frames: (B, T, F) to (B, T, len(GATES) * H). `valid` is bool (B, T)."""
        return _products(x, self.weight_ih, self.bias_ih)

    def initial_state(self, x: Tensor) -> State:
        """Return zeros for a batch like x (B, ...)."""
        return (x.new_zeros(x.shape[0], self.output_size),)

    def by_gate(self, products: Tensor) -> Gates:
        """Split (B, len(GATES) * H) into the gates' (B, H)."""
        return dict(zip(self.GATES, products.chunk(len(self.GATES), dim=-1), strict=True))

    def recurrent_products(self, hidden: Tensor) -> Tensor:
        """Return U h + b: (B, P) to (B, len(GATES) * H)."""
        return _products(hidden, self.weight_hh, self.bias_hh)

    @torch.no_grad()
    def load(self, source: nn.Module | Mapping[str, Tensor], layer: int = 0, reverse: bool = False) -> None:
        """Copy weights from a module or state dict with the names of `torch.nn` (``weight_ih_l0_reverse``).

        A normalisation, which `torch.nn` does not have, is left as it is.

        Raises
        ------
        ValueError
            A weight is missing or has another shape.
        """
        tensors = source.state_dict() if isinstance(source, nn.Module) else source
        for own, name, tensor in self._pairs(tensors, layer, reverse):
            if own.shape != tensor.shape:
                raise ValueError(f"{name} is {tuple(tensor.shape)}, this cell has {tuple(own.shape)}")
            own.copy_(tensor)

    @torch.no_grad()
    def store(self, target: nn.Module, layer: int = 0, reverse: bool = False) -> None:
        """Copy this cell's weights into a module with the names of `torch.nn`.

        Raises
        ------
        ValueError
            A weight is missing there or has another shape.
        """
        for own, name, tensor in self._pairs(target.state_dict(), layer, reverse):
            if own.shape != tensor.shape:
                raise ValueError(f"{name} is {tuple(tensor.shape)}, this cell has {tuple(own.shape)}")
            tensor.copy_(own)

    def _pairs(
        self, tensors: Mapping[str, Tensor], layer: int, reverse: bool
    ) -> list[tuple[Tensor, str, Tensor]]:
        suffix = f"_l{layer}" + ("_reverse" if reverse else "")
        pairs: list[tuple[Tensor, str, Tensor]] = []
        for key, own in self.named_parameters(recurse=False):
            name = f"{key}{suffix}"
            if name not in tensors:
                raise ValueError(f"{name} is missing; there are {', '.join(tensors)}")
            pairs.append((own, name, tensors[name]))
        return pairs


def _products(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return W x + b; a stack of weights (M, rows, F) goes with a stack of inputs (M, B, F)."""
    return x @ weight.mT if bias is None else x @ weight.mT + bias


class RNN(Cell):
    """The simple recurrent network of Elman (1990).

    h = f(W x + U h), f the candidate activation: tanh, or ReLU as in Le et al. (arXiv:1504.00941).
    """

    GATES = ("candidate",)
    INSIDE = ("hidden",)

    def step(self, inputs: Tensor, state: State) -> tuple[State, Gates]:
        """Advance by a frame; see `Cell.step`."""
        hidden = self.candidate(inputs + self.recurrent_products(state[0]))
        return (hidden,), {"hidden": hidden}


class LSTM(Cell):
    """Long short-term memory with a forget gate (Gers et al., 2000), optionally with a projection.

    ::

        input     i = g(Wi x + Ui h)        cell    c = f * c + i * a
        forget    f = g(Wf x + Uf h)        hidden  h = o * k(c)
        candidate a = k(Wa x + Ua h)
        output    o = g(Wo x + Uo h)        with a projection (Sak et al., arXiv:1402.1128): h = R h

    g is the gate activation (sigmoid), k the candidate activation (tanh). In a trace ``hidden`` is h before
    the projection, the output is h after it.

    Parameters
    ----------
    proj_size : int
        Units of the projection, P; 0 for none.
    """

    GATES = ("input", "forget", "candidate", "output")
    INSIDE = ("input", "forget", "candidate", "output", "cell", "hidden")

    def step(self, inputs: Tensor, state: State) -> tuple[State, Gates]:
        """Advance by a frame; see `Cell.step`."""
        hidden, cell = state
        products = self.by_gate(inputs + self.recurrent_products(hidden))
        input_ = self.gate(products["input"])
        forget = self.gate(products["forget"])
        candidate = self.candidate(products["candidate"])
        output = self.gate(products["output"])
        cell = forget * cell + input_ * candidate
        unprojected = output * self.candidate(cell)
        hidden = unprojected if self.weight_hr is None else _products(unprojected, self.weight_hr)
        values = (input_, forget, candidate, output, cell, unprojected)
        return (hidden, cell), dict(zip(self.INSIDE, values, strict=True))

    def initial_state(self, x: Tensor) -> State:
        """Return zeros for a batch like x (B, ...)."""
        return x.new_zeros(x.shape[0], self.output_size), x.new_zeros(x.shape[0], self.hidden_size)


class GRU(Cell):
    """Gated recurrent unit (Cho et al., arXiv:1406.1078), in the variant of `torch.nn.GRU` and cuDNN.

    ::

        reset     r = g(Wr x + Ur h)        hidden  h = (1 - z) * a + z * h
        update    z = g(Wz x + Uz h)
        candidate a = k(Wa x + r * (Ua h))

    The reset gate scales the product Ua h, its bias included; in the paper it scales h itself, and z and
    1 - z are the other way round.
    """

    GATES = ("reset", "update", "candidate")
    INSIDE = ("reset", "update", "candidate", "hidden")

    def step(self, inputs: Tensor, state: State) -> tuple[State, Gates]:
        """Advance by a frame; see `Cell.step`."""
        (hidden,) = state
        x, h = self.by_gate(inputs), self.by_gate(self.recurrent_products(hidden))
        reset = self.gate(x["reset"] + h["reset"])
        update = self.gate(x["update"] + h["update"])
        candidate = self.candidate(x["candidate"] + reset * h["candidate"])
        hidden = (1 - update) * candidate + update * hidden
        return (hidden,), dict(zip(self.INSIDE, (reset, update, candidate, hidden), strict=True))


class LiGRU(Cell):
    """Light gated recurrent unit (Ravanelli et al., arXiv:1803.10225): no reset gate, ReLU candidate.

    ::

        update    z = g(N(Wz x) + Uz h)     hidden  h = z * h + (1 - z) * a
        candidate a = k(N(Wa x) + Ua h)

    Parameters
    ----------
    norm : {"none", "layer", "batch"}
        N. ``batch`` is the paper's: each unit of each gate over all frames of the batch that are not
        padding. While training, an utterance's output then depends on what it is batched with, as with
        any batch norm; in evaluation running means are used and it does not. ``layer`` normalises each
        frame over the units of both gates, and ``none`` leaves the products as they are: with these an
        utterance's output never depends on the batch. With a normalisation there are no biases, because
        it has its own.
    """

    GATES = ("update", "candidate")
    INSIDE = ("update", "candidate", "hidden")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        norm: Literal["none", "layer", "batch"] = "none",
        gate_activation: Activation = "sigmoid",
        candidate_activation: Activation = "relu",
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            bias=norm == "none",
            gate_activation=gate_activation,
            candidate_activation=candidate_activation,
        )
        norms = {"none": nn.Identity, "layer": nn.LayerNorm, "batch": nn.BatchNorm1d}
        if norm not in norms:
            raise ValueError(f"norm {norm!r} is none of {', '.join(norms)}")
        self.norm = norms[norm](2 * hidden_size)

    def input_products(self, x: Tensor, valid: Tensor) -> Tensor:
        """Return N(W x) for all frames; see `Cell.input_products`."""
        products = super().input_products(x, valid)
        normalized = torch.zeros_like(products)
        normalized[valid] = self.norm(products[valid])
        return normalized

    def step(self, inputs: Tensor, state: State) -> tuple[State, Gates]:
        """Advance by a frame; see `Cell.step`."""
        (hidden,) = state
        products = self.by_gate(inputs + self.recurrent_products(hidden))
        update = self.gate(products["update"])
        candidate = self.candidate(products["candidate"])
        hidden = update * hidden + (1 - update) * candidate
        return (hidden,), dict(zip(self.INSIDE, (update, candidate, hidden), strict=True))


CELLS: dict[str, type[Cell]] = {"rnn": RNN, "lstm": LSTM, "gru": GRU, "ligru": LiGRU}


def from_torch(rnn: nn.RNNBase, layer: int = 0, reverse: bool = False) -> Cell:
    """Make the cell of one layer and direction of an `nn.RNN`, `nn.LSTM` or `nn.GRU`, weights included.

    The weights are copied, to the same device and type; `Cell.store` takes them back.
    """
    if not isinstance(rnn, nn.RNN | nn.LSTM | nn.GRU):
        raise TypeError(f"{type(rnn).__name__} is none of nn.RNN, nn.LSTM, nn.GRU")
    width = rnn.input_size if layer == 0 else (rnn.proj_size or rnn.hidden_size) * (1 + rnn.bidirectional)
    cell: Cell
    if isinstance(rnn, nn.LSTM):
        cell = LSTM(width, rnn.hidden_size, bias=rnn.bias, proj_size=rnn.proj_size)
    elif isinstance(rnn, nn.GRU):
        cell = GRU(width, rnn.hidden_size, bias=rnn.bias)
    else:
        nonlinearity: Activation = "relu" if rnn.nonlinearity == "relu" else "tanh"
        cell = RNN(width, rnn.hidden_size, bias=rnn.bias, candidate_activation=nonlinearity)
    cell.to(rnn.weight_ih_l0)  # type: ignore[arg-type]  # its device and type
    cell.load(rnn, layer, reverse)
    return cell
