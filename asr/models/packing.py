"""Where the frames of a padded batch lie once its padding is left out.

The encoder works on rows: all frames of all utterances, ordered by time and within one time by
decreasing length of the utterance, as in `torch.nn.utils.rnn.PackedSequence`. What is not there cannot leak
into a result, and costs nothing. For a kernel that takes nothing but padded batches the rows are laid out as
several, each of a part of time and of the utterances that go on when it begins: little padding, all of it
behind an utterance's last frame in the direction that the kernel reads.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_PART = 150  # frames of padding that take a fused kernel as long as to be called once more


@dataclass(frozen=True, eq=False)
class Packing:
    """The order of the N frames of B utterances.

    Attributes
    ----------
    lengths : Tensor, int64, (B,)
        Frames of each utterance.
    order : Tensor, int64, (B,)
        Utterances by decreasing length.
    batch_sizes : tuple of int, length max(lengths)
        How many utterances still go on at each time.
    mask : Tensor, bool, (T, B)
        Which of the utterances in `order` go on at each time.
    """

    lengths: Tensor
    order: Tensor
    batch_sizes: tuple[int, ...]
    mask: Tensor

    @classmethod
    def of(cls, lengths: Tensor) -> Packing:
        """Lay out a batch with these lengths, int64 (B,)."""
        sorted_lengths, order = lengths.sort(descending=True, stable=True)
        steps = torch.arange(int(sorted_lengths[0]) if len(lengths) else 0, device=lengths.device)
        mask = steps[:, None] < sorted_lengths
        return cls(lengths, order, tuple(mask.sum(1).tolist()), mask)

    @property
    def num_steps(self) -> int:
        """Frames of the longest utterance, T."""
        return len(self.batch_sizes)

    @property
    def is_full(self) -> bool:
        """Whether all utterances are equally long."""
        return not self.batch_sizes or self.batch_sizes[-1] == len(self.lengths)

    @cached_property
    def _position(self) -> Tensor:
        """Row of each time and utterance in `order`, (T, B); without meaning where `mask` is false."""
        sizes = self.mask.sum(1)
        columns = torch.arange(len(self.lengths), device=self.lengths.device)
        return (sizes.cumsum(0) - sizes)[:, None] + columns

    @cached_property
    def utterances(self) -> Tensor:
        """Which utterance each row is of, int64 (N,)."""
        return self.order.expand(self.num_steps, -1)[self.mask]

    @cached_property
    def reversal(self) -> Tensor:
        """Row that takes each row's place when every utterance runs backwards, int64 (N,)."""
        steps = torch.arange(self.num_steps, device=self.lengths.device)
        mirrored = (self.lengths[self.order] - 1 - steps[:, None]).clamp(min=0)
        return self._position.gather(0, mirrored)[self.mask]

    def reverse(self, rows: Tensor) -> Tensor:
        """Let every utterance of the rows (N, F) run the other way."""
        return _Take.apply(rows, self.reversal)

    @cached_property
    def previous(self) -> Tensor:
        """Row of the frame before, int64 (N,), counted behind an initial row for every utterance."""
        initial = torch.arange(len(self.lengths), device=self.lengths.device)[None]
        return torch.cat([initial, self._position + len(self.lengths)])[: self.num_steps][self.mask]

    @cached_property
    def last(self) -> Tensor:
        """Row of each utterance's last frame, int64 (B,), in the order of the utterances, counted likewise.

        An utterance without frames has its initial row.
        """
        lengths = self.lengths[self.order]
        columns = torch.arange(len(lengths), device=lengths.device)
        rows = torch.cat([columns[None], self._position + len(lengths)]).gather(0, lengths[None])[0]
        return torch.empty_like(rows).scatter_(0, self.order, rows)

    def of_frame_before(self, x: Tensor, rows: slice) -> Tensor:
        """Return for each of `rows` its utterance's row of the frame before, of (D, B + N, ...)."""
        return x[:, rows] if self.is_full else x[:, self.previous[rows]]

    def rows_before(self, step: int) -> int:
        """Return how many rows come before a time."""
        return sum(self.batch_sizes[:step])

    def slice(self, start: int, stop: int) -> Packing:
        """Lay out the times from `start` to before `stop`; their rows stand together."""
        lengths = (self.lengths - start).clamp(0, max(0, min(stop, self.num_steps) - start))
        return Packing(lengths, self.order, self.batch_sizes[start:stop], self.mask[start:stop])

    @cached_property
    def parts(self) -> list[tuple[int, int]]:
        """Numbers of times and of utterances of parts that follow each other and have little padding each.

        A part is a batch of the utterances that go on at its begin. The parts' frames in a row, each by time,
        are what `lay` makes and `take` reads.
        """
        parts: list[tuple[int, int]] = []
        steps = width = padding = 0
        for size, run in itertools.groupby(self.batch_sizes):
            length = len(list(run))
            if steps and padding + (width - size) * length > _PART:
                parts.append((steps, width))
                steps = padding = 0
            if not steps:
                width = size
            steps += length
            padding += (width - size) * length
        return [*parts, (steps, width)] if steps else parts

    def lay(self, rows: Tensor, *, backwards: bool = False) -> Tensor:
        """Lay rows (N, F) out in the parts' frames (M, F), zeros in the padding.

        Parameters
        ----------
        backwards : bool
            Every utterance from its last frame to its first.
        """
        count = sum(steps * size for steps, size in self.parts)
        if count == len(rows) and not backwards:
            return rows
        return _Lay.apply(rows, self._places[backwards], count)

    def take(self, frames: Tensor, *, backwards: bool = False) -> Tensor:
        """Take the rows (N, F) out of the parts' frames (M, F)."""
        if len(frames) == sum(self.batch_sizes) and not backwards:
            return frames
        return _Take.apply(frames, self._places[backwards])

    @cached_property
    def _places(self) -> tuple[Tensor, Tensor]:
        """Where each row lies in the parts' frames, int64 (N,), if utterances run forwards, and backwards."""
        widths = torch.tensor([size for steps, size in self.parts for _ in range(steps)], dtype=torch.int64)
        begins = (widths.cumsum(0) - widths).to(self.lengths.device)
        steps = torch.arange(self.num_steps, device=self.lengths.device)[:, None]
        mirrored = (self.lengths[self.order] - 1 - steps).clamp(min=0)
        columns = torch.arange(len(self.lengths), device=self.lengths.device)
        return (begins[:, None] + columns)[self.mask], (begins[mirrored] + columns)[self.mask]

    def pack(self, x: Tensor) -> Tensor:
        """Take the rows (N, F) out of a padded batch (B, T, F)."""
        if self.is_full:
            return x[:, : self.num_steps].transpose(0, 1)[:, self.order].flatten(0, 1)
        steps = torch.arange(self.num_steps, device=x.device)
        index = (self.order * x.shape[1] + steps[:, None])[self.mask]
        return _Take.apply(x.flatten(0, 1), index)

    def unpack(self, rows: Tensor, num_steps: int | None = None) -> Tensor:
        """Lay rows (N, F) out as a padded batch (B, num_steps, F) with zeros behind every utterance.

        Parameters
        ----------
        num_steps : int, optional
            At least the frames of the longest utterance, which is the default.
        """
        padded = self.num_steps if num_steps is None else num_steps
        steps = torch.arange(self.num_steps, device=rows.device)
        index = (self.order * padded + steps[:, None])[self.mask]
        return _Lay.apply(rows, index, len(self.lengths) * padded).unflatten(0, (len(self.lengths), padded))


class _Lay(torch.autograd.Function):
    """Put rows (N, F) in places, no two in one, of (M, F) zeros."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, places: Tensor, count: int) -> Tensor:
        ctx.save_for_backward(places)
        return rows.new_zeros(count, rows.shape[1]).index_copy_(0, places, rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient.index_select(0, ctx.saved_tensors[0]), None, None


class _Take(torch.autograd.Function):
    """Take rows out of places, no two out of one: `index_select`, whose own way back adds row by row."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        ctx.count = len(x)
        return x.index_select(0, places)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        zeros = gradient.new_zeros(ctx.count, gradient.shape[1])
        return zeros.index_copy_(0, ctx.saved_tensors[0], gradient), None
