"""Batches of a data set, from processes that read ahead."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from asr.data.collate import collate
from asr.data.dataset import Example, SpeechDataset, one_thread
from asr.data.sampler import BatchSampler
from asr.errors import AsrError
from asr.types import Batch

Finish = Callable[[Batch, int], Batch]
"""From a batch of what was read, and the epoch, to a batch of frames."""

_SHARED_FROM = 1 << 19
"""Bytes from which a tensor goes to another process by shared memory; below, a copy is cheaper."""


def make_loader(
    dataset: SpeechDataset,
    sampler: BatchSampler,
    *,
    finish: Finish | None = None,
    num_workers: int = 0,
    pin_memory: bool = False,
) -> DataLoader[Batch | AsrError]:
    """Return a loader of `Batch` in the sampler's order, or of the error that a batch met.

    Parameters
    ----------
    dataset : SpeechDataset
    sampler : BatchSampler
    finish : callable, optional
        What is computed of a batch where it is read.
    num_workers : int
        Processes that read ahead; with none, a batch is read when it is asked for.
    pin_memory : bool
        Whether batches come in memory from which a CUDA device copies by itself.
    """
    return DataLoader(
        dataset,  # type: ignore[arg-type]  # batches are made of its examples
        batch_sampler=sampler,
        collate_fn=partial(_make_batch, finish),
        num_workers=num_workers,
        pin_memory=pin_memory,
        # What is drawn comes from the keys, so workers may live through all epochs.
        persistent_workers=num_workers > 0,
        worker_init_fn=_leave_signals_to_the_parent,
        # Its own generator: the loader must not draw from the one that dropout draws from, or a
        # training resumed in the middle of an epoch would go another way.
        generator=torch.Generator(),
    )


def _make_batch(finish: Finish | None, examples: Sequence[Example | AsrError]) -> Batch | AsrError:
    batch = collate(examples)
    if finish is None or isinstance(batch, AsrError):
        return batch
    assert isinstance(examples[0], Example)
    try:
        with one_thread():
            return finish(batch, examples[0].epoch)
    except AsrError as error:
        return error


def _send(batch: Batch) -> tuple[Callable[[dict[str, Any]], Batch], tuple[dict[str, Any]]]:
    """Take a batch apart for another process."""
    fields = {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
    for name, value in fields.items():
        if isinstance(value, Tensor) and value.nbytes < _SHARED_FROM:
            fields[name] = value.numpy()
    return _receive, (fields,)


def _receive(fields: dict[str, Any]) -> Batch:
    for name, value in fields.items():
        if isinstance(value, np.ndarray):
            # Copied, since sums come out different in the last digit where memory is aligned differently.
            fields[name] = torch.from_numpy(value).clone()
    return Batch(**fields)


ForkingPickler.register(Batch, _send)


def _leave_signals_to_the_parent(worker: int) -> None:
    """Keep a worker going when a signal goes to all processes of the training, as Ctrl-C and scancel send it.

    The parent finishes its step and saves, for which it may need a batch more; then it ends its workers.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":  # elsewhere a signal does not tell who sent it
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_obey_only_the_parent, daemon=True).start()


def _obey_only_the_parent() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
