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

_BLOCK_ROWS = 256  # derivatives are prepared for so many rows at once: what a core's cache holds

_sigmoid_backward = torch.ops.aten.sigmoid_backward  # (gradient, sigmoid) -> gradient * sigmoid * (1 - it)


@dataclass(slots=True)
class Weights:
    """Weights of all directions, rows arranged and scaled as a cell wants them, products in the low type."""

    ih: Tensor | None  # (D, G, F)
    hh: Tensor  # (D, G, P)
    hr: Tensor | None  # (D, P, H)
    bias: Tensor  # (D, G), full precision, what is added to the products with the input
    bias_hh: Tensor | None  # (D, H), what a GRU adds to the candidate's product with the state


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

    def forward(
        self, gates: Tensor, hidden: Tensor, first: Sequence[Tensor], w: Weights, packing: Packing
    ) -> tuple[Tensor, ...]:
        """Step through time.

        Parameters
        ----------
        gates : Tensor, (D, N, G)
            Products with the input; become what `backward` needs.
        hidden : Tensor, low type, (D, B + N, P)
            Begins with the first state; the rest is written.
        first : sequence of Tensor
            First states (D, B, ...), in the order of the packing.

        Returns
        -------
        tuple of Tensor
            What else `backward` needs; the first is c (D, B + N, H) if the cell has one.
        """
        raise AssertionError

    def backward(
        self,
        d_hidden: Tensor,
        d_last: Sequence[Tensor],
        gates: Tensor,
        hidden: Tensor,
        kept: Sequence[Tensor],
        w: Weights,
        packing: Packing,
    ) -> tuple[Tensor, Tensor, list[Tensor], Tensor | None]:
        """Step back through time.

        Parameters
        ----------
        d_hidden : Tensor, (D, B + N, P)
            Gradient of `hidden`; becomes complete.
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


def _steps(x: Tensor, packing: Packing) -> tuple[Tensor, ...]:
    """Split the rows (D, N, ...) by time."""
    return x.split(packing.batch_sizes, dim=1)


def _before(x: Tensor, packing: Packing) -> list[Tensor]:
    """Return for every time the rows of the time before that still go on, of (D, B + N, ...)."""
    views = x.split((len(packing.lengths), *packing.batch_sizes), dim=1)[:-1]
    return [v if v.shape[1] == n else v[:, :n] for v, n in zip(views, packing.batch_sizes, strict=True)]


def _blocks(packing: Packing) -> list[tuple[int, int, int, int]]:
    """Group times, latest first: (first time, time after the last, first row, row after the last)."""
    blocks, start, row, rows = [], 0, 0, 0
    for t, size in enumerate(packing.batch_sizes):
        rows += size
        if rows >= _BLOCK_ROWS or t + 1 == packing.num_steps:
            blocks.append((start, t + 1, row, row + rows))
            start, row, rows = t + 1, row + rows, 0
    return blocks[::-1]


def _full_precision(steps: Sequence[Tensor], like: Tensor, rows: int) -> Sequence[Tensor]:
    """Return where to compute `steps` in the type of `like`: themselves, or parts of one piece of memory.

    Writing the low type by `out=` would have PyTorch make and copy a temporary tensor every time.
    """
    if steps[0].dtype == like.dtype:
        return steps
    scratch = like.new_empty(steps[0].shape[0], rows, steps[0].shape[2])
    return [scratch[:, : step.shape[1]] for step in steps]


class _Product:
    """Adds products of a state or gradient with weights to what is there, in the low type if it is one."""

    def __init__(self, w: Tensor, rows: int) -> None:
        self.w = w  # (D, in, out)
        self.scratch = w.new_empty(w.shape[0], rows, w.shape[2])

    def __call__(self, x: Tensor) -> Tensor:
        """Return x @ w for x (D, n, in); overwritten by the next call."""
        return torch.bmm(x, self.w, out=self.scratch[:, : x.shape[1]])

    def add_to(self, target: Tensor, x: Tensor) -> None:
        """Add x @ w to `target` (D, n, out)."""
        if target.dtype == self.w.dtype:
            torch.baddbmm(target, x, self.w, out=target)
        else:
            target += self(x)


class _Lstm(Cell):
    """Long short-term memory. What is kept of a candidate a is sigmoid(2 a); of a cell state c, q = 2 c."""

    num_states = 2
    input_rows = hidden_rows = ((0, 1), (1, 1), (2, 2), (3, 1))  # input, forget, candidate, output

    def forward(
        self, gates: Tensor, hidden: Tensor, first: Sequence[Tensor], w: Weights, packing: Packing
    ) -> tuple[Tensor, ...]:
        D, N, G = gates.shape
        B, H = len(packing.lengths), G // 4
        q = gates.new_empty(D, B + N, H)
        torch.mul(first[1], 2, out=q[:, :B])
        unprojected = hidden.new_empty(D, N, H) if w.hr is not None else hidden[:, B:]
        recurrent = _Product(w.hh.mT, B)
        project = None if w.hr is None else w.hr.mT
        scratch = gates.new_empty(D, B, H)
        minus_one, minus_two = gates.new_tensor(-1.0), gates.new_tensor(-2.0)
        for gates_t, i, f, s, o, q_before, q_t, h_before, u_t, h_t in zip(
            _steps(gates, packing),
            *(_steps(g, packing) for g in gates.split(H, dim=2)),
            _before(q, packing),
            _steps(q[:, B:], packing),
            _before(hidden, packing),
            _steps(unprojected, packing),
            _steps(hidden[:, B:], packing),
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
        return (q,) if project is None else (q, unprojected)

    def backward(
        self,
        d_hidden: Tensor,
        d_last: Sequence[Tensor],
        gates: Tensor,
        hidden: Tensor,
        kept: Sequence[Tensor],
        w: Weights,
        packing: Packing,
    ) -> tuple[Tensor, Tensor, list[Tensor], Tensor | None]:
        B, H = len(packing.lengths), gates.shape[2] // 4
        q = kept[0]
        d_gates = torch.empty_like(gates, dtype=hidden.dtype)
        carry = d_last[0] / 2  # the gradient of q that comes from the step after
        recurrent = _Product(w.hh, B)
        unproject = None if w.hr is None else _Product(w.hr, B)
        sizes = packing.batch_sizes
        d_gates_t, forget = _steps(d_gates, packing), _steps(gates[:, :, H : 2 * H], packing)
        full = _full_precision(d_gates_t, gates, B)
        d_hidden_t, d_before = _steps(d_hidden[:, B:], packing), _before(d_hidden, packing)
        previous = None if packing.is_full else packing.previous
        for start, stop, row, end in _blocks(packing):
            block = gates[:, row:end]
            i, _, s, o = block.split(H, dim=2)
            sigmoid_q = torch.sigmoid(q[:, B + row : B + end])
            factors = torch.empty_like(block)
            to_i, to_f, to_s, to_o = factors.split(H, dim=2)
            torch.mul(s, 4, out=to_i).sub_(2)
            to_f.copy_(q[:, row:end] if previous is None else q[:, previous[row:end]])
            torch.mul(i, 4, out=to_s)
            torch.mul(sigmoid_q, 2, out=to_o).sub_(1)
            factors = _sigmoid_backward(factors, block)
            to_q = _sigmoid_backward(o * 2, sigmoid_q)
            times = sizes[start:stop]
            to_3 = factors[:, :, : 3 * H].unflatten(2, (3, H)).split(times, dim=1)
            to_o_t = factors[:, :, 3 * H :].split(times, dim=1)
            to_q_t = to_q.split(times, dim=1)
            for t in range(stop - 1, start - 1, -1):
                n = sizes[t]
                d_h = d_hidden_t[t] if unproject is None else unproject(d_hidden_t[t].to(w.hh.dtype))
                d_q = carry if n == B else carry[:, :n]
                d_q.addcmul_(d_h, to_q_t[t - start])
                d = full[t].unflatten(2, (4, H))
                torch.mul(to_3[t - start], d_q.unsqueeze(2), out=d[:, :, :3])
                torch.mul(to_o_t[t - start], d_h, out=d[:, :, 3])
                if full is not d_gates_t:
                    d_gates_t[t].copy_(full[t])
                d_q.mul_(forget[t])
                recurrent.add_to(d_before[t], d_gates_t[t])
        d_hr = None
        if w.hr is not None:
            d_hr = d_hidden[:, B:].to(w.hr.dtype).mT @ kept[1]
        return d_gates, d_gates, [carry * 2], d_hr


class _Gru(Cell):
    """Gated recurrent unit. What is kept of a candidate a is sigmoid(2 a), and of U h + b its double."""

    input_rows = ((2, 2), (0, 1), (1, 1))  # candidate, reset, update
    hidden_rows = ((0, 1), (1, 1), (2, 2))  # reset, update, candidate

    def _add_bias_hh(self, bias: Tensor, b_hh: Tensor) -> tuple[Tensor, Tensor | None]:
        H = bias.shape[1] // 3
        arranged = self._arrange(b_hh, self.hidden_rows)
        return torch.cat([bias[:, :H], bias[:, H:] + arranged[:, : 2 * H]], dim=1), arranged[:, 2 * H :]

    def forward(
        self, gates: Tensor, hidden: Tensor, first: Sequence[Tensor], w: Weights, packing: Packing
    ) -> tuple[Tensor, ...]:
        D, N, G = gates.shape
        B, H = len(packing.lengths), G // 3
        recurrent = _Product(w.hh.mT, B)
        assert w.bias_hh is not None
        bias = w.bias_hh.unsqueeze(1)
        products = gates.new_empty(D, N, H)  # of the candidate with the state
        scratch = gates.new_empty(D, B, H)
        minus_one = gates.new_tensor(-1.0)
        same_type = hidden.dtype == gates.dtype
        h = first[0]
        for s, reset_update, reset, update, product, h_before, h_t in zip(
            _steps(gates[:, :, :H], packing),
            _steps(gates[:, :, H:], packing),
            _steps(gates[:, :, H : 2 * H], packing),
            _steps(gates[:, :, 2 * H :], packing),
            _steps(products, packing),
            _before(hidden, packing),
            _steps(hidden[:, B:], packing),
            strict=True,
        ):
            n = s.shape[1]
            all_products = recurrent(h_before)
            reset_update.add_(all_products[:, :, : 2 * H]).sigmoid_()
            torch.add(all_products[:, :, 2 * H :], bias, out=product)
            s.addcmul_(reset, product).sigmoid_()
            candidate = torch.add(minus_one, s, alpha=2, out=scratch[:, :n])
            if same_type:
                torch.lerp(candidate, h_before, update, out=h_t)
            else:  # the state itself stays in full precision
                h = torch.lerp(candidate, h[:, :n], update)
                h_t.copy_(h)
        return (products,)

    def backward(
        self,
        d_hidden: Tensor,
        d_last: Sequence[Tensor],
        gates: Tensor,
        hidden: Tensor,
        kept: Sequence[Tensor],
        w: Weights,
        packing: Packing,
    ) -> tuple[Tensor, Tensor, list[Tensor], Tensor | None]:
        D, N, G = gates.shape
        B, H = len(packing.lengths), G // 3
        products = kept[0]
        # candidate, reset, update, candidate's product: the first three are the gradients of the products
        # with the input, the last three of those with the state
        d_all = hidden.new_empty(D, N, 4 * H)
        recurrent = _Product(w.hh, B)
        sizes = packing.batch_sizes
        d_all_t = _steps(d_all, packing)
        full = _full_precision(d_all_t, gates, B)
        d_products_t = _steps(d_all[:, :, H:], packing)
        update_t = _steps(gates[:, :, 2 * H :], packing)
        d_hidden_t, d_before = _steps(d_hidden[:, B:], packing), _before(d_hidden, packing)
        previous = None if packing.is_full else packing.previous
        for start, stop, row, end in _blocks(packing):
            s, reset, update = gates[:, row:end].split(H, dim=2)
            before = hidden[:, row:end] if previous is None else hidden[:, previous[row:end]]
            factors = gates.new_empty(D, end - row, 4, H)
            to_candidate, to_reset, to_update, to_product = factors.unbind(2)
            to_candidate.copy_(_sigmoid_backward(2 - 2 * update, s))
            torch.mul(to_candidate, _sigmoid_backward(products[:, row:end], reset), out=to_reset)
            to_update.copy_(_sigmoid_backward(before + 1 - 2 * s, update))
            torch.mul(to_candidate, reset, out=to_product)
            factors_t = factors.split(sizes[start:stop], dim=1)
            for t in range(stop - 1, start - 1, -1):
                d_h = d_hidden_t[t]
                torch.mul(factors_t[t - start], d_h.unsqueeze(2), out=full[t].unflatten(2, (4, H)))
                if full is not d_all_t:
                    d_all_t[t].copy_(full[t])
                d_before[t].addcmul_(d_h, update_t[t])
                recurrent.add_to(d_before[t], d_products_t[t])
        return d_all[:, :, : 3 * H], d_all[:, :, H:], [], None


class _LiGru(Cell):
    """Light gated recurrent unit: update and ReLU candidate."""

    input_rows = hidden_rows = ((0, 1), (1, 1))

    def forward(
        self, gates: Tensor, hidden: Tensor, first: Sequence[Tensor], w: Weights, packing: Packing
    ) -> tuple[Tensor, ...]:
        B, H = len(packing.lengths), gates.shape[2] // 2
        recurrent = _Product(w.hh.mT, B)
        same_type = hidden.dtype == gates.dtype
        h = first[0]
        for gates_t, h_before, h_t in zip(
            _steps(gates, packing), _before(hidden, packing), _steps(hidden[:, B:], packing), strict=True
        ):
            recurrent.add_to(gates_t, h_before)
            update, candidate = gates_t[:, :, :H].sigmoid_(), gates_t[:, :, H:].relu_()
            if same_type:
                torch.lerp(candidate, h_before, update, out=h_t)
            else:  # the state itself stays in full precision
                h = torch.lerp(candidate, h[:, : gates_t.shape[1]], update)
                h_t.copy_(h)
        return ()

    def backward(
        self,
        d_hidden: Tensor,
        d_last: Sequence[Tensor],
        gates: Tensor,
        hidden: Tensor,
        kept: Sequence[Tensor],
        w: Weights,
        packing: Packing,
    ) -> tuple[Tensor, Tensor, list[Tensor], Tensor | None]:
        B, H = len(packing.lengths), gates.shape[2] // 2
        d_gates = torch.empty_like(gates, dtype=hidden.dtype)
        recurrent = _Product(w.hh, B)
        sizes = packing.batch_sizes
        d_gates_t = _steps(d_gates, packing)
        full = _full_precision(d_gates_t, gates, B)
        d_hidden_t, d_before = _steps(d_hidden[:, B:], packing), _before(d_hidden, packing)
        update_t = _steps(gates[:, :, :H], packing)
        for start, stop, row, end in _blocks(packing):
            update, candidate = gates[:, row:end].split(H, dim=2)
            before = hidden[:, row:end] if packing.is_full else hidden[:, packing.previous[row:end]]
            factors = torch.cat(
                [_sigmoid_backward(before - candidate, update), (1 - update) * (candidate > 0)], dim=2
            )
            factors_t = factors.unflatten(2, (2, H)).split(sizes[start:stop], dim=1)
            for t in range(stop - 1, start - 1, -1):
                d_h = d_hidden_t[t]
                torch.mul(factors_t[t - start], d_h.unsqueeze(2), out=full[t].unflatten(2, (2, H)))
                if full is not d_gates_t:
                    d_gates_t[t].copy_(full[t])
                d_before[t].addcmul_(d_h, update_t[t])
                recurrent.add_to(d_before[t], d_gates_t[t])
        return d_gates, d_gates, [], None


class _Rnn(Cell):
    """Plain recurrence with tanh, of which a sigmoid is kept, or ReLU."""

    def __init__(self, relu: bool) -> None:
        self.relu = relu
        self.input_rows = self.hidden_rows = ((0, 1 if relu else 2),)

    def forward(
        self, gates: Tensor, hidden: Tensor, first: Sequence[Tensor], w: Weights, packing: Packing
    ) -> tuple[Tensor, ...]:
        B = len(packing.lengths)
        recurrent = _Product(w.hh.mT, B)
        minus_one = gates.new_tensor(-1.0)
        for a, h_before, h_t in zip(
            _steps(gates, packing), _before(hidden, packing), _steps(hidden[:, B:], packing), strict=True
        ):
            recurrent.add_to(a, h_before)
            if self.relu:
                h_t.copy_(a.relu_())
            else:
                torch.add(minus_one, a.sigmoid_(), alpha=2, out=h_t)
        return ()

    def backward(
        self,
        d_hidden: Tensor,
        d_last: Sequence[Tensor],
        gates: Tensor,
        hidden: Tensor,
        kept: Sequence[Tensor],
        w: Weights,
        packing: Packing,
    ) -> tuple[Tensor, Tensor, list[Tensor], Tensor | None]:
        B = len(packing.lengths)
        d_gates = torch.empty_like(gates, dtype=hidden.dtype)
        recurrent = _Product(w.hh, B)
        sizes = packing.batch_sizes
        d_gates_t = _steps(d_gates, packing)
        full = _full_precision(d_gates_t, gates, B)
        d_hidden_t, d_before = _steps(d_hidden[:, B:], packing), _before(d_hidden, packing)
        for start, stop, row, end in _blocks(packing):
            block = gates[:, row:end]
            factors = (block > 0).to(block.dtype) if self.relu else 2 * block * (1 - block)
            factors_t = factors.split(sizes[start:stop], dim=1)
            for t in range(stop - 1, start - 1, -1):
                torch.mul(factors_t[t - start], d_hidden_t[t], out=full[t])
                if full is not d_gates_t:
                    d_gates_t[t].copy_(full[t])
                recurrent.add_to(d_before[t], d_gates_t[t])
        return d_gates, d_gates, [], None


CELLS: dict[str, Cell] = {
    "lstm": _Lstm(),
    "gru": _Gru(),
    "ligru": _LiGru(),
    "rnn_tanh": _Rnn(relu=False),
    "rnn_relu": _Rnn(relu=True),
}
