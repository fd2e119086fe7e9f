"""Group utterances into batches of a given number of seconds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

Key = tuple[int, int]


class BatchSampler(Sampler[list[Key]]):
    """Batches of utterances of similar length, of at most so many seconds with their padding.

    The batches of an epoch depend on the seed and the epoch only, so training resumed in the middle
    of an epoch goes on with the very next batch.

    Parameters
    ----------
    durations : sequence of float
        Seconds of each utterance.
    batch_seconds : float
        Upper bound of (longest utterance) x (utterances in the batch). An utterance that is longer
        than that makes a batch of its own.
    shuffle : bool
        Draw new batches every epoch: durations are jittered by up to ten per cent before sorting,
        and the batches come in random order. Otherwise batches run from long to short, so that what
        fits into memory at first fits to the end.
    seed : int
    """

    JITTER = 0.1

    def __init__(
        self, durations: Sequence[float], *, batch_seconds: float, shuffle: bool, seed: int = 0
    ) -> None:
        if batch_seconds <= 0:
            raise ValueError(f"batch_seconds must be positive, found {batch_seconds}")
        self.durations = np.asarray(durations, dtype=np.float64)
        self.batch_seconds = batch_seconds
        self.shuffle = shuffle
        self.seed = seed
        self.epoch = 0
        self.start = 0

    def set_position(self, epoch: int, start: int = 0) -> None:
        """Choose the epoch that is sampled next, and how many of its batches to leave out."""
        self.epoch, self.start = epoch, start

    def batches(self, epoch: int) -> list[list[int]]:
        """Return the utterance indices of every batch of an epoch."""
        rng = np.random.default_rng([self.seed, epoch])
        keys = self.durations
        if self.shuffle:
            keys = keys * rng.uniform(1 - self.JITTER, 1 + self.JITTER, len(keys))
        batches: list[list[int]] = []
        longest = 0.0
        for index in np.argsort(-keys, kind="stable").tolist():
            longest = max(longest, self.durations[index])
            if not batches or longest * (len(batches[-1]) + 1) > self.batch_seconds:
                batches.append([])
                longest = self.durations[index]
            batches[-1].append(index)
        if self.shuffle:
            rng.shuffle(batches)
        return batches

    def __iter__(self) -> Iterator[list[Key]]:
        for batch in self.batches(self.epoch)[self.start :]:
            yield [(self.epoch, index) for index in batch]

    def __len__(self) -> int:
        return len(self.batches(self.epoch)) - self.start

    def useful_share(self, epoch: int = 0) -> float:
        """Return the share of seconds in an epoch's batches that is not padding."""
        padded = sum(self.durations[batch].max() * len(batch) for batch in self.batches(epoch))
        return float(self.durations.sum() / padded)
