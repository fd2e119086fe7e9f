"""A recurrent layer over a padded batch, in operators that exporters know.

ONNX has recurrent operators that take lengths. What they lack is written in terms of what they have:

- an LSTM's projection R (h = R u, u the unprojected state) goes into the recurrent weights: U h = (U R) u;
- a light GRU is a GRU with a ReLU candidate and a reset gate that is always one.

PyTorch's own kernels take none, so what reads backwards gets every utterance reversed within its own length.
They keep a dynamic number of frames only if the exporter does not look into them: operators of the same
signatures stand for them while it traces (`replace_stand_ins` puts them back). A light GRU is a scan.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from asr.models.layers import LiGRU, RecurrentLayer

State = tuple[Tensor, ...]
"""h and, for an LSTM, c: (directions, B, H)."""


class Recurrence(nn.Module):
    """Base of the ways to write a `RecurrentLayer`.

    Parameters
    ----------
    layer : RecurrentLayer
    """

    def __init__(self, layer: RecurrentLayer) -> None:
        super().__init__()
        self.kind = layer.kind
        self.directions = tuple(range(layer.num_directions))
        self.hidden_size = int(layer.rnn.hidden_size)
        self.num_states = len(layer.state_sizes)

    def run(
        self, x: Tensor, lengths: Tensor | None, directions: Sequence[int], state: State | None = None
    ) -> tuple[Tensor, State]:
        """Map (T, B, F) to (T, B, len(directions) P) and the last states.

        Parameters
        ----------
        lengths : Tensor, int64, (B,), optional
            Frames of each utterance. Without it all T are read.
        directions : sequence of int
            0 reads forwards, 1 backwards from an utterance's own last frame.
        state : tuple of Tensor, optional
            Where to start; zeros without it.
        """
        raise AssertionError

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Map (B, T, F) to (B, T, D P); what lies beyond the lengths has no meaning."""
        return self.run(x.transpose(0, 1), lengths, self.directions)[0].transpose(0, 1)

    def in_windows(self, x: Tensor, lengths: Tensor, chunk: int) -> Tensor:
        """Run both directions over windows, the forward one going on from the end of the chunk before.

        Parameters
        ----------
        x : Tensor, (B, K, S, F)
            K windows of a chunk and its right context each.
        lengths : Tensor, int64, (B, K)
            Frames in each window.
        chunk : int

        Returns
        -------
        Tensor, (B, K, S, 2 P)
        """
        from torch._higher_order_ops.scan import scan

        B, K = x.shape[:2]

        def step(state: State, window: Tensor) -> tuple[State, Tensor]:
            now, after = self.run(window[:chunk], None, (0,), state)
            later, _ = self.run(window[chunk:], None, (0,), after)
            return after, torch.cat([now, later])

        zeros = tuple(x.new_zeros(1, B, self.hidden_size) for _ in range(self.num_states))
        _, forward = scan(step, zeros, _copy(x.permute(1, 2, 0, 3)))
        backward, _ = self.run(_copy(x).flatten(0, 1).transpose(0, 1), lengths.flatten(), (1,))
        backward = backward.transpose(0, 1).unflatten(0, (B, K))
        return torch.cat([forward.permute(2, 0, 1, 3), backward], dim=3)


def rows(x: Tensor) -> Tensor:
    """Flatten all but the last axis without asking how large the axes are, which would fix them."""
    return _copy(x).flatten(0, -2)


def _copy(x: Tensor) -> Tensor:
    return x.clone(memory_format=torch.contiguous_format)


class RecurrenceKind(Protocol):
    """A sub-class of `Recurrence`."""

    def __call__(self, layer: RecurrentLayer) -> Recurrence:
        """Write a layer's weights that way."""
        ...


# ONNX name, order of PyTorch's gates in ONNX, activations.
_OPERATORS: dict[str, tuple[str, tuple[int, ...], tuple[str, ...]]] = {
    "lstm": ("LSTM", (0, 3, 1, 2), ("Sigmoid", "Tanh", "Tanh")),
    "gru": ("GRU", (1, 0, 2), ("Sigmoid", "Tanh")),
    "ligru": ("GRU", (0, 2, 1), ("Sigmoid", "Relu")),
    "rnn_tanh": ("RNN", (0,), ("Tanh",)),
    "rnn_relu": ("RNN", (0,), ("Relu",)),
}
_ALWAYS_OPEN = 100.0  # a gate's bias: its sigmoid is one


class OnnxRecurrence(Recurrence):
    """A layer as an ONNX recurrent operator, which is there for exporters only and computes nothing.

    https://onnx.ai/onnx/operators/onnx__LSTM.html, onnx__GRU.html, onnx__RNN.html
    """

    w: Tensor
    r: Tensor
    b: Tensor

    def __init__(self, layer: RecurrentLayer) -> None:
        super().__init__(layer)
        self.operator, order, self.activations = _OPERATORS[layer.kind]
        rnn = layer.rnn
        groups = [_weights(layer, d) for d in self.directions]
        self.products = rnn if isinstance(rnn, LiGRU) else None
        if isinstance(rnn, LiGRU):
            groups = [_as_gru(self.hidden_size, *group) for group in groups]
        self.projections = nn.ParameterList()
        if len(groups[0]) > 4:
            self.projections += [group[4] for group in groups]
            groups = [[w, u @ r, *biases] for w, u, *biases, r in groups]
        arranged = [
            [torch.cat([t.detach().chunk(len(order))[gate] for gate in order]) for t in group]
            for group in groups
        ]
        self.register_buffer("w", torch.stack([g[0] for g in arranged]), persistent=False)
        self.register_buffer("r", torch.stack([g[1] for g in arranged]), persistent=False)
        self.register_buffer("b", torch.stack([torch.cat(g[2:]) for g in arranged]), persistent=False)

    def run(
        self, x: Tensor, lengths: Tensor | None, directions: Sequence[int], state: State | None = None
    ) -> tuple[Tensor, State]:
        """See `Recurrence.run`."""
        T, B = x.shape[:2]
        if self.products is not None:  # each direction has its own input
            products = self.products.products(rows(x)).unflatten(0, (T, B))
            inputs = products.chunk(len(self.directions), dim=2)
            results = [self._operate(inputs[d], lengths, (d,), state) for d in directions]
            return torch.cat([y for y, _ in results], dim=2), results[-1][1]
        return self._operate(x, lengths, directions, state)

    def _operate(
        self, x: Tensor, lengths: Tensor | None, directions: Sequence[int], state: State | None
    ) -> tuple[Tensor, State]:
        T, B = x.shape[:2]
        own = slice(directions[0], directions[-1] + 1)
        names = ("forward", "reverse") if len(directions) == 1 else ("bidirectional",)
        attributes: dict[str, Any] = {
            "hidden_size": self.hidden_size,
            "direction": names[directions[0]],
            "activations": list(self.activations) * len(directions),
        }
        if self.operator == "GRU":
            attributes["linear_before_reset"] = 1
        sizes: list[Any] = [(len(directions), B, self.hidden_size)] * self.num_states
        y, *last = torch.onnx.ops.symbolic_multi_out(
            self.operator,
            (
                x,
                self.w[own],
                self.r[own],
                self.b[own],
                None if lengths is None else lengths.clamp(min=1).int(),
                *(state or ()),
            ),
            attributes,
            dtypes=[torch.float32] * (1 + self.num_states),
            shapes=[(T, len(directions), B, self.hidden_size), *sizes],
        )
        if len(self.projections):
            weights = torch.stack([self.projections[d] for d in directions])
            y = y @ weights.mT
        return y.transpose(1, 2).flatten(2), tuple(last)


def _weights(layer: RecurrentLayer, direction: int) -> list[Tensor]:
    return [w for w in layer.direction_weights(direction) if w is not None]


def _as_gru(hidden_size: int, w_hh: Tensor, *biases: Tensor) -> list[Tensor]:
    """Write a light GRU, update and candidate, as a GRU: update, candidate, reset.

    Its input are the products W x, normalised, so the weights of the input only put them in place.
    """
    zeros = w_hh.new_zeros(hidden_size, hidden_size)
    b_ih, b_hh = biases or [w_hh.new_zeros(2 * hidden_size)] * 2
    return [
        torch.cat([torch.eye(2 * hidden_size), torch.cat([zeros, zeros], dim=1)]),
        torch.cat([w_hh, zeros]),
        torch.cat([b_ih, w_hh.new_full((hidden_size,), _ALWAYS_OPEN)]),
        torch.cat([b_hh, w_hh.new_zeros(hidden_size)]),
    ]


_LIBRARY = torch.library.Library("asr_export", "DEF")
_FLAGS = "bool has_biases, int num_layers, float dropout, bool train, bool bidirectional, bool batch_first"
_STAND_INS: dict[Any, Any] = {}


def _stand_in(name: str, hx: str, results: int) -> None:
    """Define an operator with the signature of `aten.<name>.input` for one layer in one direction."""
    outputs = ", ".join(["Tensor"] * results)
    _LIBRARY.define(f"{name}(Tensor input, {hx} hx, Tensor[] params, {_FLAGS}) -> ({outputs})")

    def shapes(x: Tensor, hx: Any, params: Sequence[Tensor], *flags: Any) -> tuple[Tensor, ...]:
        states = [hx] if isinstance(hx, Tensor) else hx
        y = x.new_empty(x.shape[0], x.shape[1], states[0].shape[2])
        return y, *(torch.empty_like(state) for state in states)

    torch.library.register_fake(f"asr_export::{name}", shapes, lib=_LIBRARY)
    _STAND_INS[getattr(torch.ops.asr_export, name).default] = getattr(torch.ops.aten, name).input


_stand_in("lstm", "Tensor[]", 3)
for _name in ("gru", "rnn_tanh", "rnn_relu"):
    _stand_in(_name, "Tensor", 2)


def replace_stand_ins(program: ExportedProgram) -> None:
    """Put PyTorch's operators where others stood for them."""
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                node.target = _STAND_INS.get(node.target, node.target)
            module.recompile()


class AtenRecurrence(Recurrence):
    """A layer as PyTorch's operators, a direction at a time, only to be traced; see `replace_stand_ins`."""

    def __init__(self, layer: RecurrentLayer) -> None:
        super().__init__(layer)
        self.products = layer.rnn if isinstance(layer.rnn, LiGRU) else None
        self.state_sizes = layer.state_sizes
        self.weights = nn.ModuleList(nn.ParameterList(_weights(layer, d)) for d in self.directions)

    def run(
        self, x: Tensor, lengths: Tensor | None, directions: Sequence[int], state: State | None = None
    ) -> tuple[Tensor, State]:
        """See `Recurrence.run`."""
        T, B = x.shape[:2]
        inputs = [x] * len(self.directions)
        if self.products is not None:
            products = self.products.products(rows(x)).unflatten(0, (T, B))
            inputs = list(products.chunk(len(self.directions), dim=2))
        outputs = []
        for d in directions:
            frames = inputs[d]
            if d == 1:
                assert lengths is not None
                steps = torch.arange(T, device=x.device)[:, None]
                mirror = torch.where(steps < lengths, lengths - 1 - steps, steps).unsqueeze(2)
                frames = frames.gather(0, mirror.expand(-1, -1, frames.shape[2]))
            first = state or tuple(x.new_zeros(1, B, size) for size in self.state_sizes)
            y, last = self._direction(frames, list(self.weights[d]), first)  # type: ignore[call-overload]
            outputs.append(y if d == 0 else y.gather(0, mirror.expand(-1, -1, y.shape[2])))
        return torch.cat(outputs, dim=2), last

    def _direction(self, x: Tensor, weights: list[Tensor], state: State) -> tuple[Tensor, State]:
        if self.products is not None:
            return _scan_ligru(x, weights, state)
        flags = (True, 1, 0.0, False, False, False)
        operator = getattr(torch.ops.asr_export, self.kind)
        y, *last = operator(x, list(state) if self.kind == "lstm" else state[0], weights, *flags)
        return y, tuple(last)


def _scan_ligru(x: Tensor, weights: list[Tensor], state: State) -> tuple[Tensor, State]:
    from torch._higher_order_ops.scan import scan

    w_hh, *biases = weights
    for bias in biases:
        x = x + bias

    def step(h: Tensor, products: Tensor) -> tuple[Tensor, Tensor]:
        update, candidate = (products + h @ w_hh.mT).chunk(2, dim=1)
        h = torch.lerp(candidate.relu(), h, update.sigmoid())
        return h, h.clone()

    last, y = scan(step, state[0][0], _copy(x))
    return y, (last.unsqueeze(0),)
