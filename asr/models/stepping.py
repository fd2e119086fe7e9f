"""How each kind of recurrent cell steps through packed rows, forwards and backwards.

The autograd function that runs them is in `asr.models.recurrence`.

PyTorch's sigmoid on a CPU is six times as fast as its tanh, and tanh(a) = 2 sigmoid(2 a) - 1. So the rows
of the weights that feed a tanh are doubled, and what is kept of it is a sigmoid.

Legend: D directions, N rows, B utterances, F input features, G gates times H units, P values of a state
(H, unless an LSTM has a projection).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from asr.models.packing import Packing
from asr.models.timesteps import Product, StepsBack, before, steps

_sigmoid_backward = torch.ops.aten.sigmoid_backward  # (gradient, sigmoid) -> gradient * sigmoid * (1 - it)


@dataclass(slots=True)
class Weights:
    """Weights of all directions, rows arranged and scaled as a cell wants them, products in the low type."""

    ih: Tensor | None  # (D, G, F)
    hh: Tensor  # (D, G, P)
    hr: Tensor | None  # (D, P, H)
    bias: Tensor  # (D, G), full precision, what is added to the products with the input
    bias_hh: Tensor | None  # (D, H), what a GRU adds to the candidate's product with the state


@dataclass(slots=True)
class Pass:
    """One pass of a cell through time, and what it leaves for the way back.

    Attributes
    ----------
    gates : Tensor, (D, N, G)
        Products with the input; become what the way back needs.
    hidden : Tensor, low type, (D, B + N, P)
        Begins with the first state; the rest is written.
    kept : sequence of Tensor
        What else the way back needs; the first is c (D, B + N, H) if the cell has one.
    """

    gates: Tensor
    hidden: Tensor
    w: Weights
    packing: Packing
    kept: Sequence[Tensor] = ()


class Cell:
    """How one kind of cell steps forwards and backwards.

    Attributes
    ----------
    num_states : int
        h, or h and c.
    input_rows, hidden_rows : tuple of (gate, factor)
        In which order and by what scaled the gates stand in the products.
    """

    num_states = 1
    input_rows: tuple[tuple[int, float], ...]
    hidden_rows: tuple[tuple[int, float], ...]

    def prepare(self, weights: Sequence[Sequence[Tensor | None]], low: torch.dtype) -> Weights:
        """Arrange the weights of each direction, in `torch.nn`'s layout, with products in the type `low`."""
        w_ih, w_hh, b_ih, b_hh = (self._stack(weights, i) for i in range(4))
        assert w_hh is not None
        bias = self._arrange(w_hh.new_zeros(w_hh.shape[:2]) if b_ih is None else b_ih, self.input_rows)
        rest = None
        if b_hh is not None:
            bias, rest = self._add_bias_hh(bias, b_hh)
        w_hr = self._stack(weights, 4) if len(weights[0]) > 4 else None
        return Weights(
            None if w_ih is None else self._arrange(w_ih, self.input_rows).to(low),
            self._arrange(w_hh, self.hidden_rows).to(low),
            None if w_hr is None else w_hr.to(low),
            bias,
            rest,
        )

    def _add_bias_hh(self, bias: Tensor, b_hh: Tensor) -> tuple[Tensor, Tensor | None]:
        return bias + self._arrange(b_hh, self.hidden_rows), None

    @staticmethod
    def _stack(weights: Sequence[Sequence[Tensor | None]], index: int) -> Tensor | None:
        chosen = [group[index] for group in weights]
        return None if chosen[0] is None else torch.stack([w.detach() for w in chosen if w is not None])

    @staticmethod
    def _arrange(w: Tensor, rows: tuple[tuple[int, float], ...]) -> Tensor:
        """Order and scale the gates of (D, G, ...)."""
        gates = w.chunk(len(rows), dim=1)
        return torch.cat([gates[gate] if factor == 1 else gates[gate] * factor for gate, factor in rows], 1)

    @staticmethod
    def restore(gradient: Tensor, rows: tuple[tuple[int, float], ...]) -> Tensor:
        """Take the gradient of arranged weights (G, ...) of one direction back to that of the weights."""
        gates = gradient.chunk(len(rows))
        return torch.cat([gates[i] * rows[i][1] for i in sorted(range(len(rows)), key=lambda i: rows[i][0])])

    def forward(self, run: Pass, first: Sequence[Tensor]) -> None:
        """Step through time.

        Parameters
        ----------
        first : sequence of Tensor
            First states (D, B, ...), in the order of the packing.
        """
        raise AssertionError

    def backward(
        self, run: Pass, d_hidden: Tensor, d_last: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, list[Tensor], Tensor | None]:
        """Step back through time.

        Parameters
        ----------
        d_hidden : Tensor, (D, B + N, P)
            Gradient of `run.hidden`; becomes complete.
        d_last : sequence of Tensor
            Gradients of the last states but h, in the order of the packing.

        Returns
        -------
        d_inputs, d_products : Tensor, low type, (D, N, G)
            Gradients of the products with the input and with the state.
        d_first : list of Tensor
            Gradients of the first states but h.
        d_hr : Tensor or None
            Gradient of the projection (D, P, H).
        """
        raise AssertionError


class _Lstm(Cell):
    """Long short-term memory. What is kept of a candidate a is sigmoid(2 a); of a cell state c, q = 2 c."""

    num_states = 2
    input_rows = hidden_rows = ((0, 1), (1, 1), (2, 2), (3, 1))  # input, forget, candidate, output

    def forward(self, run: Pass, first: Sequence[Tensor]) -> None:
        gates, hidden, w, packing = run.gates, run.hidden, run.w, run.packing
        D, N, G = gates.shape
        B, H = len(packing.lengths), G // 4
        q = gates.new_empty(D, B + N, H)
        torch.mul(first[1], 2, out=q[:, :B])
        unprojected = hidden.new_empty(D, N, H) if w.hr is not None else hidden[:, B:]
        recurrent = Product(w.hh.mT, B, gates.dtype)
        project = None if w.hr is None else w.hr.mT
        scratch = gates.new_empty(D, B, H)
        minus_one, minus_two = gates.new_tensor(-1.0), gates.new_tensor(-2.0)
        for gates_t, i, f, s, o, q_before, q_t, h_before, u_t, h_t in zip(
            steps(gates, packing),
            *(steps(g, packing) for g in gates.split(H, dim=2)),
            before(q, packing),
            steps(q[:, B:], packing),
            before(hidden, packing),
            steps(unprojected, packing),
            steps(hidden[:, B:], packing),
            strict=True,
        ):
            recurrent.add_to(gates_t, h_before)
            gates_t.sigmoid_()
            value = scratch[:, : gates_t.shape[1]]
            torch.add(minus_two, s, alpha=4, out=value)  # twice the candidate
            torch.mul(f, q_before, out=q_t)
            q_t.addcmul_(i, value)
            torch.sigmoid(q_t, out=value)
            torch.add(minus_one, value, alpha=2, out=value)  # tanh(c)
            torch.mul(o, value, out=u_t)
            if project is not None:
                torch.bmm(u_t, project, out=h_t)
        run.kept = (q,) if project is None else (q, unprojected)

    def backward(
        self, run: Pass, d_hidden: Tensor, d_last: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, list[Tensor], Tensor | None]:
        gates, w, packing = run.gates, run.w, run.packing
        B, G = len(packing.lengths), gates.shape[2]
        H, q = G // 4, run.kept[0]
        back = StepsBack(d_hidden, w.hh, packing, num_gates=4)
        carry = d_last[0] / 2  # the gradient of q that comes from the step after
        unproject = None if w.hr is None else Product(w.hr, B, gates.dtype)
        forget = steps(gates[:, :, H : 2 * H], packing)
        for block in back.blocks():
            i, _, s, o = gates[:, block.rows].split(H, dim=2)
            sigmoid_q = torch.sigmoid(q[:, B:][:, block.rows])
            factors = torch.empty_like(gates[:, block.rows])
            to_i, to_f, to_s, to_o = factors.split(H, dim=2)
            torch.mul(s, 4, out=to_i).sub_(2)
            to_f.copy_(packing.of_frame_before(q, block.rows))
            torch.mul(i, 4, out=to_s)
            torch.mul(sigmoid_q, 2, out=to_o).sub_(1)
            factors = _sigmoid_backward(factors, gates[:, block.rows])
            to_q = block.split(_sigmoid_backward(o * 2, sigmoid_q))
            for t, to_gates in block.latest_first(factors.unflatten(2, (4, H))):
                d_h = back.d_hidden[t] if unproject is None else unproject(back.d_hidden[t].to(w.hh.dtype))
                d_q = carry[:, : d_h.shape[1]]
                d_q.addcmul_(d_h, to_q[t - block.times.start])
                d = back.at[t]
                torch.mul(to_gates[:, :, :3], d_q.unsqueeze(2), out=d[:, :, :3])
                torch.mul(to_gates[:, :, 3], d_h, out=d[:, :, 3])
                d_q.mul_(forget[t])
                back.carry(t)
        d_hr = None
        if w.hr is not None:
            d_hr = d_hidden[:, B:].to(w.hr.dtype).mT @ run.kept[1]
        return back.gradient, back.gradient, [carry * 2], d_hr


class _Gru(Cell):
    """Gated recurrent unit. What is kept of a candidate a is sigmoid(2 a), and of U h + b its double."""

    input_rows = ((2, 2), (0, 1), (1, 1))  # candidate, reset, update
    hidden_rows = ((0, 1), (1, 1), (2, 2))  # reset, update, candidate

    def _add_bias_hh(self, bias: Tensor, b_hh: Tensor) -> tuple[Tensor, Tensor | None]:
        H = bias.shape[1] // 3
        arranged = self._arrange(b_hh, self.hidden_rows)
        return torch.cat([bias[:, :H], bias[:, H:] + arranged[:, : 2 * H]], dim=1), arranged[:, 2 * H :]

    def forward(self, run: Pass, first: Sequence[Tensor]) -> None:
        gates, hidden, w, packing = run.gates, run.hidden, run.w, run.packing
        D, N, G = gates.shape
        B, H = len(packing.lengths), G // 3
        recurrent = Product(w.hh.mT, B, gates.dtype)
        assert w.bias_hh is not None
        bias = w.bias_hh.unsqueeze(1)
        products = gates.new_empty(D, N, H)  # of the candidate with the state
        scratch = gates.new_empty(D, B, H)
        minus_one = gates.new_tensor(-1.0)
        state = None if hidden.dtype == gates.dtype else first[0].clone()  # stays in full precision
        for s, reset_update, reset, update, product, h_before, h_t in zip(
            steps(gates[:, :, :H], packing),
            steps(gates[:, :, H:], packing),
            steps(gates[:, :, H : 2 * H], packing),
            steps(gates[:, :, 2 * H :], packing),
            steps(products, packing),
            before(hidden, packing),
            steps(hidden[:, B:], packing),
            strict=True,
        ):
            n = s.shape[1]
            of_reset_update, of_candidate = recurrent(h_before).split((2 * H, H), dim=2)
            reset_update.add_(of_reset_update).sigmoid_()
            torch.add(of_candidate, bias, out=product)
            s.addcmul_(reset, product).sigmoid_()
            candidate = torch.add(minus_one, s, alpha=2, out=scratch[:, :n])
            if state is None:
                torch.lerp(candidate, h_before, update, out=h_t)
            else:
                h = state[:, :n]
                h_t.copy_(torch.lerp(candidate, h, update, out=h))
        run.kept = (products,)

    def backward(
        self, run: Pass, d_hidden: Tensor, d_last: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, list[Tensor], Tensor | None]:
        gates, hidden, w, packing = run.gates, run.hidden, run.w, run.packing
        H, products = gates.shape[2] // 3, run.kept[0]
        # candidate, reset, update, candidate's product: the first three are the gradients of the products
        # with the input, the last three of those with the state
        back = StepsBack(d_hidden, w.hh, packing, num_gates=4, products_from=1)
        update_t = steps(gates[:, :, 2 * H :], packing)
        for block in back.blocks():
            s, reset, update = gates[:, block.rows].split(H, dim=2)
            factors = gates.new_empty(*s.shape[:2], 4, H)
            to_candidate, to_reset, to_update, to_product = factors.unbind(2)
            to_candidate.copy_(_sigmoid_backward(2 - 2 * update, s))
            torch.mul(to_candidate, _sigmoid_backward(products[:, block.rows], reset), out=to_reset)
            to_update.copy_(
                _sigmoid_backward(packing.of_frame_before(hidden, block.rows) + 1 - 2 * s, update)
            )
            torch.mul(to_candidate, reset, out=to_product)
            for t, to_all in block.latest_first(factors):
                torch.mul(to_all, back.d_each[t], out=back.at[t])
                back.d_before[t].addcmul_(back.d_hidden[t], update_t[t])
                back.carry(t)
        return back.gradient[:, :, : 3 * H], back.gradient[:, :, H:], [], None


class _LiGru(Cell):
    """Light gated recurrent unit: update and ReLU candidate."""

    input_rows = hidden_rows = ((0, 1), (1, 1))

    def forward(self, run: Pass, first: Sequence[Tensor]) -> None:
        gates, hidden, w, packing = run.gates, run.hidden, run.w, run.packing
        B, H = len(packing.lengths), gates.shape[2] // 2
        recurrent = Product(w.hh.mT, B, gates.dtype)
        state = None if hidden.dtype == gates.dtype else first[0].clone()  # stays in full precision
        for gates_t, h_before, h_t in zip(
            steps(gates, packing), before(hidden, packing), steps(hidden[:, B:], packing), strict=True
        ):
            recurrent.add_to(gates_t, h_before)
            update, candidate = gates_t[:, :, :H].sigmoid_(), gates_t[:, :, H:].relu_()
            if state is None:
                torch.lerp(candidate, h_before, update, out=h_t)
            else:
                h = state[:, : gates_t.shape[1]]
                h_t.copy_(torch.lerp(candidate, h, update, out=h))

    def backward(
        self, run: Pass, d_hidden: Tensor, d_last: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, list[Tensor], Tensor | None]:
        gates, hidden, w, packing = run.gates, run.hidden, run.w, run.packing
        H = gates.shape[2] // 2
        back = StepsBack(d_hidden, w.hh, packing, num_gates=2)
        update_t = steps(gates[:, :, :H], packing)
        for block in back.blocks():
            update, candidate = gates[:, block.rows].split(H, dim=2)
            to_update = _sigmoid_backward(packing.of_frame_before(hidden, block.rows) - candidate, update)
            factors = torch.stack([to_update, (1 - update) * (candidate > 0)], dim=2)
            for t, to_gates in block.latest_first(factors):
                torch.mul(to_gates, back.d_each[t], out=back.at[t])
                back.d_before[t].addcmul_(back.d_hidden[t], update_t[t])
                back.carry(t)
        return back.gradient, back.gradient, [], None


class _Rnn(Cell):
    """Plain recurrence with tanh, of which a sigmoid is kept, or ReLU."""

    def __init__(self, relu: bool) -> None:
        self.relu = relu
        self.input_rows = self.hidden_rows = ((0, 1 if relu else 2),)

    def forward(self, run: Pass, first: Sequence[Tensor]) -> None:
        gates, hidden, w, packing = run.gates, run.hidden, run.w, run.packing
        B = len(packing.lengths)
        recurrent = Product(w.hh.mT, B, gates.dtype)
        minus_one = gates.new_tensor(-1.0)
        for a, h_before, h_t in zip(
            steps(gates, packing), before(hidden, packing), steps(hidden[:, B:], packing), strict=True
        ):
            recurrent.add_to(a, h_before)
            if self.relu:
                h_t.copy_(a.relu_())
            else:
                torch.add(minus_one, a.sigmoid_(), alpha=2, out=h_t)

    def backward(
        self, run: Pass, d_hidden: Tensor, d_last: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, list[Tensor], Tensor | None]:
        gates, w, packing = run.gates, run.w, run.packing
        back = StepsBack(d_hidden, w.hh, packing, num_gates=1)
        for block in back.blocks():
            kept_a = gates[:, block.rows]
            factors = (kept_a > 0).to(kept_a.dtype) if self.relu else 2 * kept_a * (1 - kept_a)
            for t, to_a in block.latest_first(factors.unsqueeze(2)):
                torch.mul(to_a, back.d_each[t], out=back.at[t])
                back.carry(t)
        return back.gradient, back.gradient, [], None


CELLS: dict[str, Cell] = {
    "lstm": _Lstm(),
    "gru": _Gru(),
    "ligru": _LiGru(),
    "rnn_tanh": _Rnn(relu=False),
    "rnn_relu": _Rnn(relu=True),
}
