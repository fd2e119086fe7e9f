"""Recurrent layers over packed rows, for where there is no fused kernel: the CPU, but for the LSTM.

PyTorch's own GRU and RNN there run one step at a time through autograd, as does its LSTM with projection.
Here a layer is one autograd function:

- both directions take each step together, as one batched matrix product over the utterances that still go
  on, so that two cores have a direction each and no product is spent on padding;
- the products with the input, and all gradients of weights, are single matrix products over all rows;
- the gradient of the recurrence is written by hand: a matrix product and up to four operations a step.

How each kind of cell steps is in `asr.models.stepping`.

Legend: D directions, N rows, B utterances, F input features, G gates times H units, P values of a state
(H, unless an LSTM has a projection).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from asr.models.packing import Packing
from asr.models.stepping import CELLS, Cell, Pass


def recurrence(
    kind: str,
    x: Tensor,
    packing: Packing,
    weights: Sequence[Sequence[Tensor | None]],
    state: Sequence[Tensor],
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run a recurrent layer in one or two directions.

    Parameters
    ----------
    kind : {"lstm", "gru", "ligru", "rnn_tanh", "rnn_relu"}
        Equations and row orders as in `asr.models.cells` and `torch.nn`.
    x : Tensor, float, (N, F)
        Rows in the order of `packing`; or, with w_ih None, their products with it, (N, D G).
    packing : Packing
    weights : sequence of D sequences of Tensor, float32
        Of each direction: w_ih (G, F) or None, w_hh (G, P), b_ih and b_hh (G,) or None; for an LSTM with
        projection also w_hr (P, H).
    state : sequence of Tensor, float32
        First h (D, B, P) and, for an LSTM, c (D, B, H), in the order of the utterances.

    Returns
    -------
    y : Tensor, (N, D P)
        The states h. Under autocast in its type, else in that of the weights.
    state : tuple of Tensor, float32
        h and c after each utterance's last frame, shaped as the first ones.
    """
    low = weights[0][1].dtype  # type: ignore[union-attr]
    if torch.is_autocast_enabled(x.device.type):
        low = torch.get_autocast_dtype(x.device.type)
    first = [s[:, packing.order] for s in state]
    flat = [w for group in weights for w in group]
    with torch.autocast(x.device.type, enabled=False):
        y, *last = _Recurrence.apply(CELLS[kind], x, packing, low, len(weights), *first, *flat)
    return y, tuple(last)


class _Recurrence(torch.autograd.Function):
    """(cell, x, packing, low type, D, first states, weights) -> y, last states."""

    @staticmethod
    def forward(
        ctx: Any, cell: Cell, x: Tensor, packing: Packing, low: torch.dtype, D: int, *tensors: Tensor | None
    ) -> tuple[Tensor, ...]:
        first: Any = tensors[: cell.num_states]
        B, N = len(packing.lengths), len(x)
        w = cell.prepare(_groups(tensors[cell.num_states :], D), low)
        gates = w.bias.new_empty(D, N, w.bias.shape[1])
        x = x.to(low if w.ih is not None else gates.dtype)
        for d, rows in enumerate(_per_direction(x, packing, D, split=w.ih is None)):
            if w.ih is None:
                torch.add(rows, w.bias[d], out=gates[d])
            elif low == gates.dtype:
                torch.addmm(w.bias[d], rows, w.ih[d].mT, out=gates[d])
            else:
                gates[d] = torch.addmm(w.bias[d].to(low), rows, w.ih[d].mT)
        hidden = torch.empty(D, B + N, first[0].shape[2], dtype=low, device=x.device)
        hidden[:, :B] = first[0]
        run = Pass(gates, hidden, w, packing)
        cell.forward(run, first)
        ctx.cell, ctx.packing, ctx.w, ctx.D = cell, packing, w, D
        ctx.save_for_backward(x, gates, hidden, *run.kept)
        y = _join(hidden[:, B:], packing)
        last = [hidden[:, packing.last].to(first[0].dtype)]
        if cell.num_states > 1:
            last.append(run.kept[0][:, packing.last] / 2)
        return y, *last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_y: Tensor, *d_last: Tensor) -> tuple[Any, ...]:
        x, gates, hidden, *kept = ctx.saved_tensors
        cell, packing, w, D = ctx.cell, ctx.packing, ctx.w, ctx.D
        B, N, P = len(packing.lengths), len(x), hidden.shape[2]
        d_hidden = gates.new_zeros(D, B + N, P)
        for d, rows in enumerate(_per_direction(d_y, packing, D, split=True)):
            d_hidden[d, B:] = rows
        d_hidden.index_add_(1, packing.last, d_last[0].to(gates.dtype))
        run = Pass(gates, hidden, w, packing, kept)
        d_inputs, d_products, d_first, d_hr = cell.backward(
            run, d_hidden, [g[:, packing.order] for g in d_last[1:]]
        )
        previous = packing.of_frame_before(hidden, slice(0, N))
        grads: list[Tensor | None] = [d_hidden[:, :B], *d_first]
        ones = hidden.new_ones(1, N)  # a product sums in full precision, and faster than sum()
        for d, rows in enumerate(_per_direction(x, packing, D, split=w.ih is None)):
            d_w_ih = None if w.ih is None else d_inputs[d].mT @ rows
            d_b_ih = (ones @ d_inputs[d])[0]
            d_b_hh = d_b_ih if d_products is d_inputs else (ones @ d_products[d])[0]
            grads += [
                None if d_w_ih is None else cell.restore(d_w_ih.to(gates.dtype), cell.input_rows),
                cell.restore((d_products[d].mT @ previous[d]).to(gates.dtype), cell.hidden_rows),
                cell.restore(d_b_ih.to(gates.dtype), cell.input_rows),
                cell.restore(d_b_hh.to(gates.dtype), cell.hidden_rows),
            ]
            if d_hr is not None:
                grads.append(d_hr[d].to(gates.dtype))
        d_x = None
        if ctx.needs_input_grad[1]:
            if w.ih is None:
                d_x = _join(d_inputs, packing)
            else:
                d_x = d_inputs[0] @ w.ih[0]
                if D == 2:
                    d_x += (d_inputs[1] @ w.ih[1]).index_select(0, packing.reversal)
            d_x = d_x.to(x.dtype)
        needed = ctx.needs_input_grad[5:]
        return None, d_x, None, None, None, *(g if n else None for g, n in zip(grads, needed, strict=True))


def _groups(tensors: Sequence[Tensor | None], D: int) -> list[Sequence[Tensor | None]]:
    size = len(tensors) // D
    return [tensors[d * size : (d + 1) * size] for d in range(D)]


def _per_direction(x: Tensor, packing: Packing, D: int, *, split: bool) -> Iterator[Tensor]:
    """Yield each direction's rows in its order of time: its part of (N, D F) if `split`, else all of it."""
    for d in range(D):
        rows = x.chunk(D, dim=1)[d] if split else x
        yield rows if d == 0 else rows.index_select(0, packing.reversal)


def _join(x: Tensor, packing: Packing) -> Tensor:
    """Put the directions of (D, N, F) side by side, each row at its own time: (N, D F)."""
    return x[0] if len(x) == 1 else torch.cat([x[0], x[1].index_select(0, packing.reversal)], dim=1)
