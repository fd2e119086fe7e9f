"""Pad utterances of different lengths into one batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from asr.errors import AsrError
from asr.types import Batch

if TYPE_CHECKING:
    from asr.data.dataset import Example


def pad(sequences: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Stack tensors (N_i, ...) into (B, max N, ...) with zeros; return it and int64 lengths (B,)."""
    lengths = torch.tensor([len(s) for s in sequences])
    return pad_sequence(list(sequences), batch_first=True), lengths


def collate(examples: Sequence[Example | AsrError]) -> Batch | AsrError:
    """Make a `Batch` of examples, all waveforms or all precomputed frames; or return the first error."""
    good = [example for example in examples if not isinstance(example, AsrError)]
    if len(good) < len(examples):
        return next(example for example in examples if isinstance(example, AsrError))
    inputs, input_lengths = pad([e.inputs for e in good])
    targets, target_lengths = pad([e.tokens for e in good])
    return Batch(
        ids=tuple(e.utterance.id for e in good),
        inputs=inputs,
        input_lengths=input_lengths,
        targets=targets.long(),
        target_lengths=target_lengths,
        texts=tuple(e.text for e in good),
        seconds=sum(e.utterance.duration for e in good),
    )
