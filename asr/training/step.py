"""One step of the optimiser: from batches to new weights, or to the reason why there are none."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from torch import Tensor

from asr.errors import DataError
from asr.training.devices import gather, reduce_gradients
from asr.training.task import Task

SIZES = ("size", "useful", "padded")


@dataclass(frozen=True)
class StepResult:
    """What a step came to, in all processes together.

    Attributes
    ----------
    sizes : mapping
        ``size``, ``useful`` and ``padded``: what `Task.size_of` and `Task.padding_of` return, added up.
    sums : mapping
        ``loss`` in nats, ``tokens``, and the task's own sums, over the step's examples; nothing with a flaw.
    grad_norm : float
        2-norm of the gradient before clipping.
    flaw : str
        Why the weights are as they were, in words; or nothing.
    overflow : bool
        The gradient left the range of float16; the next one is scaled by less.
    splits : int
        Times that a batch was divided because memory ran out.
    """

    sizes: Mapping[str, float]
    sums: Mapping[str, float] = field(default_factory=dict)
    grad_norm: float = 0.0
    flaw: str = ""
    overflow: bool = False
    splits: int = 0


class Stepper:
    """Makes steps of an optimiser.

    The gradient is that of the mean loss a token over all batches of the step in all processes. What does not
    fit into memory is divided in two and the step begun anew; with batch normalisation, whose statistics are
    then those of the halves, the result is a little different.

    Parameters
    ----------
    fabric : Fabric
    task : Task
    model, optimizer
        The task's model and its optimiser, as Fabric wraps them.
    clip : float or None
        Largest norm of the gradient, or largest value in it.
    clip_by : {"norm", "value"}
    """

    def __init__(
        self,
        fabric: Fabric,
        task: Task,
        model: Any,
        optimizer: Any,
        clip: float | None,
        clip_by: Literal["norm", "value"],
    ) -> None:
        self.fabric, self.task, self.model, self.optimizer = fabric, task, model, optimizer
        self.clip, self.clip_by = clip, clip_by
        self.scaler = getattr(fabric.strategy.precision, "scaler", None)

    def __call__(self, batches: Sequence[Any], epoch: int) -> StepResult:
        """Update the weights from batches.

        Raises
        ------
        DataError
            If memory runs out on a single example.
        """
        buffers = [buffer.clone() for buffer in self.task.model.buffers()]
        losses, sums, pieces, splits = self._gradient(batches, epoch, buffers)
        names = [name for piece in pieces for name in self.task.names(piece)]
        tokens = sum(self.task.num_tokens(piece) for piece in pieces)
        known = {"tokens": tokens, "splits": splits} | self._sizes(batches)
        measured = {"loss": losses.sum(), "bad": losses.isfinite().logical_not().sum(), **sums}
        columns = torch.stack(
            [
                *torch.tensor(list(known.values()), dtype=torch.float64, device=losses.device),
                *(value.double() for value in measured.values()),
            ]
        )
        columns = reduce_gradients(self.fabric, self.task.model, tokens, columns)
        norm = self._clip()
        *values, grad_norm = torch.cat([columns, norm.double().view(1)]).tolist()  # waits for the device once
        found = dict(zip([*known, *measured], values, strict=True))
        splits, bad = int(found.pop("splits")), found.pop("bad")
        sizes = {name: found.pop(name) for name in SIZES}
        flaw = ""
        if bad:
            own = [name for name, good in zip(names, losses.isfinite().tolist(), strict=True) if not good]
            flaw = f"loss not finite for {self._all(own)}"
        elif not math.isfinite(grad_norm):
            flaw = f"gradient not finite in the batch of {self._all(names)}"
        if flaw:
            self._undo(buffers)
            return StepResult(sizes, flaw=flaw, overflow=not bad and self.scaler is not None, splits=splits)
        self.optimizer.step()
        return StepResult(sizes, found, grad_norm, splits=splits)

    def _sizes(self, batches: Sequence[Any]) -> dict[str, float]:
        sizes = [(self.task.size_of(batch), *self.task.padding_of(batch)) for batch in batches]
        return dict(zip(SIZES, map(sum, zip(*sizes, strict=True)), strict=True))

    def _gradient(
        self, batches: Sequence[Any], epoch: int, buffers: Sequence[Tensor]
    ) -> tuple[Tensor, dict[str, Tensor], list[Any], int]:
        """Compute this process's mean gradient; return losses, sums, the pieces, and how many divisions."""
        pieces, splits = list(batches), 0
        while True:
            try:
                return *self._accumulate(pieces, epoch), pieces, splits
            except RuntimeError as error:  # torch.OutOfMemoryError is one
                if not _is_out_of_memory(error):
                    raise
                reason = str(error).split("\n")[0]
            # Outside of the handler, where the error no longer holds on to the tensors of the failed try.
            index = self._index
            halves = self.task.split(pieces[index])
            if len(halves) < 2:
                raise DataError(
                    f"{', '.join(self.task.names(pieces[index]))}: does not fit into memory even alone "
                    f"({reason}); leave it out, cut it, or take a smaller model"
                )
            pieces[index : index + 1] = halves
            splits += 1
            self._restore(buffers)
            if self.fabric.device.type == "cuda":
                torch.cuda.empty_cache()

    def _accumulate(self, pieces: Sequence[Any], epoch: int) -> tuple[Tensor, dict[str, Tensor]]:
        self.model.train()
        self.optimizer.zero_grad()
        tokens = max(1, sum(self.task.num_tokens(piece) for piece in pieces))
        losses: list[Tensor] = []
        sums: dict[str, Tensor] = {}
        for self._index, piece in enumerate(pieces):
            # Gradients of all processes are added up once, behind the last piece: they may differ in number.
            with self.fabric.no_backward_sync(self.model):
                of_piece, measured = self.task.losses(self.model, piece, epoch)
                self.fabric.backward(of_piece.sum() / tokens)
            losses.append(of_piece.detach())
            sums = {name: sums[name] + value if sums else value for name, value in measured.items()}
        return torch.cat(losses), sums

    def _clip(self) -> Tensor:
        limit = self.clip if self.clip is not None and self.clip_by == "norm" else math.inf
        norm = self.fabric.clip_gradients(
            self.model, self.optimizer, max_norm=limit, error_if_nonfinite=False
        )
        if self.clip is not None and self.clip_by == "value":
            torch.nn.utils.clip_grad_value_(self.task.model.parameters(), self.clip)
        assert norm is not None
        return norm

    def _undo(self, buffers: Sequence[Tensor]) -> None:
        """Leave no trace of a step whose gradient is of no use."""
        self.optimizer.zero_grad()
        self._restore(buffers)
        if self.scaler is not None:
            self.scaler.update()

    def _restore(self, buffers: Sequence[Tensor]) -> None:
        for buffer, value in zip(self.task.model.buffers(), buffers, strict=True):
            buffer.copy_(value)

    def _all(self, names: Sequence[str]) -> str:
        return ", ".join(name for of_rank in gather(self.fabric, list(names)) for name in of_rank)


def _is_out_of_memory(error: RuntimeError) -> bool:
    """Tell by type or by what cuDNN, cuBLAS and the CPU's allocator say."""
    signs = ("out of memory", "ALLOC_FAILED", "can't allocate memory")
    return isinstance(error, torch.OutOfMemoryError) or any(sign in str(error) for sign in signs)
