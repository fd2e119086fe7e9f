"""Packed rows a time at a time: what the steps of all recurrent cells share.

`asr.models.stepping` has the cells.

Legend: D directions, N rows, B utterances, P values of a state.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from asr.models.packing import Packing

_BLOCK_ROWS = 256  # derivatives are prepared for so many rows at once: what a core's cache holds


def steps(x: Tensor, packing: Packing) -> tuple[Tensor, ...]:
    """Split the rows (D, N, ...) by time."""
    return x.split(packing.batch_sizes, dim=1)


def before(x: Tensor, packing: Packing) -> list[Tensor]:
    """Return for every time the rows of the time before that still go on, of (D, B + N, ...)."""
    views = x.split((len(packing.lengths), *packing.batch_sizes), dim=1)[:-1]
    return [v if v.shape[1] == n else v[:, :n] for v, n in zip(views, packing.batch_sizes, strict=True)]


class Product:
    """Products of a state or gradient with weights, taken in the weights' type, given in full precision.

    They are written to contiguous memory and then added, since PyTorch runs both directions at once, a core
    each, only if the result is contiguous. A lower type is copied to contiguous memory and converted back
    here: else PyTorch would make tensors for that at every step, which takes the longer the more memory the
    process has held before.
    """

    def __init__(self, w: Tensor, rows: int, full: torch.dtype) -> None:
        self.w = w.contiguous()  # (D, in, out); a tenth faster than a transposed view
        self.full = full
        self._resize(rows)

    def __call__(self, x: Tensor) -> Tensor:
        """Return x @ w for x (D, n, in); overwritten by the next call."""
        if self.out.shape[1] != x.shape[1]:
            self._resize(x.shape[1])
        if self.out is self.low:
            return torch.bmm(x, self.w, out=self.out)
        torch.bmm(self.x.copy_(x), self.w, out=self.low)
        return self.out.copy_(self.low)

    def _resize(self, rows: int) -> None:
        D, size, size_out = self.w.shape
        self.out = self.low = self.w.new_empty(D, rows, size_out)
        if self.full != self.w.dtype:
            self.x, self.out = self.w.new_empty(D, rows, size), self.low.to(self.full)

    def add_to(self, target: Tensor, x: Tensor) -> None:
        """Add x @ w to `target` (D, n, out)."""
        target += self(x)


@dataclass(frozen=True, slots=True)
class Block:
    """Times that follow each other, and the rows of all of them."""

    packing: Packing
    times: range
    rows: slice

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        """Split the block's rows (D, n, ...) by time."""
        return x.split(self.packing.batch_sizes[self.times.start : self.times.stop], dim=1)

    def latest_first(self, x: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Yield each time and its rows of the block's (D, n, ...), from the last to the first."""
        return zip(reversed(self.times), reversed(self.split(x)), strict=True)


class StepsBack:
    """The way back through time, as far as it is the same for every cell.

    At each time, latest first, a cell writes its gradients to `at[t]`, adds to `d_before[t]` what does not go
    through the weights of the state, and calls `carry(t)`.

    Parameters
    ----------
    d_hidden : Tensor, (D, B + N, P)
        Gradient of the states; becomes complete.
    w_hh : Tensor, low type, (D, G, P)
        Weights of the state.
    num_gates : int
        Gradients of H values that a row has.
    products_from : int
        From which of them on they are the gradient of the products with the state.

    Attributes
    ----------
    gradient : Tensor, low type, (D, N, num_gates H)
        What comes out.
    at : sequence of Tensor, (D, n, num_gates, H)
        Where to compute the gradients of each time, in full precision.
    d_hidden, d_before : sequence of Tensor, (D, n, P)
        Gradients of the states of each time, and of the time before.
    d_each : sequence of Tensor, (D, n, 1, P)
        `d_hidden` beside every gate.
    """

    def __init__(
        self, d_hidden: Tensor, w_hh: Tensor, packing: Packing, *, num_gates: int, products_from: int = 0
    ) -> None:
        D, B, N = len(d_hidden), len(packing.lengths), d_hidden.shape[1] - len(packing.lengths)
        H = w_hh.shape[1] // (num_gates - products_from)
        self.packing = packing
        gradients = w_hh.new_empty(D, N, num_gates, H)
        self.gradient = gradients.flatten(2)
        self._low = self.at = steps(gradients, packing)
        if w_hh.dtype != d_hidden.dtype:
            # One piece of memory for all times: writing the low type by `out=` would have PyTorch make and
            # copy a temporary tensor every time.
            scratch = d_hidden.new_empty(D, B, num_gates, H)
            self.at = tuple(scratch[:, : step.shape[1]] for step in self._low)
        self._products = steps(self.gradient[:, :, products_from * H :], packing)
        self._recurrent = Product(w_hh, B, d_hidden.dtype)
        self.d_hidden = steps(d_hidden[:, B:], packing)
        self.d_each = steps(d_hidden[:, B:].unsqueeze(2), packing)
        self.d_before = before(d_hidden, packing)

    def blocks(self) -> Iterator[Block]:
        """Group the times, latest first."""
        sizes, stop, end = self.packing.batch_sizes, self.packing.num_steps, self.gradient.shape[1]
        for start, row in reversed(_block_starts(sizes)):
            yield Block(self.packing, range(start, stop), slice(row, end))
            stop, end = start, row

    def carry(self, t: int) -> None:
        """Round a time's gradient to the low type, and take it through the weights to the time before."""
        if self.at is not self._low:
            self._low[t].copy_(self.at[t])
        self._recurrent.add_to(self.d_before[t], self._products[t])


def _block_starts(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Return the first time and the first row of each block."""
    starts: list[tuple[int, int]] = []
    row = 0
    for t, size in enumerate(sizes):
        if not starts or row - starts[-1][1] >= _BLOCK_ROWS:
            starts.append((t, row))
        row += size
    return starts
