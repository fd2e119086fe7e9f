"""Group utterances into batches of a given number of seconds, and share them out among devices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, get_args

import numpy as np
from torch.utils.data import Sampler

from asr.errors import DataError

Key = tuple[int, int]
Order = Literal["shuffled", "sortagrad", "packed"]


class BatchSampler(Sampler[list[Key]]):
    """Batches of utterances of similar length, of at most so many seconds with their padding.

    The batches of an epoch depend on the seed and the epoch only, so training resumed in the middle
    of an epoch goes on with the very next batch. They are made for all devices together, and each
    device takes its share of every batch: the steps and the gradients are those of a single device.

    Parameters
    ----------
    durations : sequence of float
        Seconds of each utterance.
    batch_seconds : float
        Upper bound of (longest utterance) x (utterances in the batch), for all devices together. An
        utterance that is longer than that makes a batch of its own.
    shuffle : bool
        Draw new batches every epoch, in the order that `order` names. Otherwise batches run from long
        to short, so that what fits into memory at first fits to the end.
    seed : int
    order : {"shuffled", "sortagrad", "packed"}
        "shuffled": durations are jittered before sorting, so that an utterance meets others of about
        its length; the largest batch comes first, so that what fits into memory then fits to the end,
        the others in random order. "sortagrad": the first epoch runs from short to long (Amodei et al.,
        arXiv:1512.02595), the others are shuffled. "packed": no jitter, for the least padding; only the
        batches' order is random.
    num_replicas, rank : int
        How many devices share each batch, and which of them this one is. A batch has an utterance for
        each of them at least, even if it grows beyond `batch_seconds` by that.
    stretch : callable, optional
        From an epoch to how many times its duration each utterance lasts in it, for augmentation that
        changes the speed.

    Raises
    ------
    DataError
        If there are fewer utterances than devices.
    """

    JITTER = 0.03

    def __init__(
        self,
        durations: Sequence[float],
        *,
        batch_seconds: float,
        shuffle: bool,
        seed: int = 0,
        order: Order = "shuffled",
        num_replicas: int = 1,
        rank: int = 0,
        stretch: Callable[[int], np.ndarray] | None = None,
    ) -> None:
        if batch_seconds <= 0:
            raise ValueError(f"batch_seconds must be positive, found {batch_seconds}")
        if order not in get_args(Order):
            raise ValueError(f"order must be one of {', '.join(get_args(Order))}, found {order!r}")
        self.durations = np.asarray(durations, dtype=np.float64)
        self.batch_seconds = batch_seconds
        self.shuffle = shuffle
        self.seed = seed
        self.order = order
        self.share(num_replicas, rank)
        self.stretch = stretch
        self.epoch = 0
        self.start = 0
        self._made: tuple[tuple[int, int], np.ndarray, list[list[int]]] | None = None

    def share(self, num_replicas: int, rank: int) -> None:
        """Choose how many devices share each batch, and which of them this one is."""
        if not 0 <= rank < num_replicas:
            raise ValueError(f"rank must lie from 0 to {num_replicas - 1}, found {rank}")
        if len(self.durations) < num_replicas:
            raise DataError(
                f"{len(self.durations)} utterances cannot be shared among {num_replicas} devices; "
                "train on fewer"
            )
        self.num_replicas, self.rank = num_replicas, rank

    def set_position(self, epoch: int, start: int = 0) -> None:
        """Choose the epoch that is sampled next, and how many of its batches to leave out."""
        self.epoch, self.start = epoch, start

    def batches(self, epoch: int) -> list[list[int]]:
        """Return the utterance indices of every batch of an epoch, each from long to short."""
        return self._make(epoch)[1]

    def largest(self, epoch: int) -> list[Key]:
        """Return this device's share of the epoch's batch of most seconds with padding."""
        lengths, batches = self._make(epoch)
        return self._share(epoch, max(batches, key=lambda batch: _padded(lengths, batch)))

    def __iter__(self) -> Iterator[list[Key]]:
        epoch = self.epoch
        for batch in self.batches(epoch)[self.start :]:
            yield self._share(epoch, batch)

    def __len__(self) -> int:
        return len(self.batches(self.epoch)) - self.start

    def useful_share(self, epoch: int = 0) -> float:
        """Return the share of seconds in all devices' batches of an epoch that is not padding."""
        lengths, batches = self._make(epoch)
        shares = [batch[rank :: self.num_replicas] for batch in batches for rank in range(self.num_replicas)]
        return float(lengths.sum() / sum(_padded(lengths, share) for share in shares))

    def _share(self, epoch: int, batch: list[int]) -> list[Key]:
        return [(epoch, index) for index in batch[self.rank :: self.num_replicas]]

    def _make(self, epoch: int) -> tuple[np.ndarray, list[list[int]]]:
        """Return each utterance's seconds in an epoch, and its batches; the last ones made are kept."""
        key = epoch, self.num_replicas
        if self._made is None or self._made[0] != key:
            lengths = self.durations if self.stretch is None else self.durations * self.stretch(epoch)
            self._made = key, lengths, self._draw(epoch, lengths)
        return self._made[1:]

    def _draw(self, epoch: int, lengths: np.ndarray) -> list[list[int]]:
        rng = np.random.default_rng([self.seed, epoch])
        rising = self.order == "sortagrad" and epoch == 0
        keys = lengths
        if self.shuffle and self.order != "packed" and not rising:
            keys = lengths * rng.uniform(1 - self.JITTER, 1 + self.JITTER, len(lengths))
        batches = self._pack(lengths, np.argsort(-keys, kind="stable").tolist())
        if not self.shuffle:
            return batches
        if rising:
            return batches[::-1]
        rng.shuffle(batches)
        largest = max(range(len(batches)), key=lambda i: _padded(lengths, batches[i]))
        return [batches[largest], *batches[:largest], *batches[largest + 1 :]]

    def _pack(self, lengths: np.ndarray, indices: list[int]) -> list[list[int]]:
        """Cut a sequence of utterances, about from long to short, into batches."""
        batches: list[list[int]] = []
        longest = 0.0
        for index in indices:
            longest = max(longest, lengths[index])
            full = batches and longest * (len(batches[-1]) + 1) > self.batch_seconds
            if not batches or (full and len(batches[-1]) >= self.num_replicas):
                batches.append([])
                longest = lengths[index]
            batches[-1].append(index)
        if len(batches) > 1 and len(batches[-1]) < self.num_replicas:
            rest = batches.pop()
            both = batches.pop() + rest
            # The shortest of the batch before fill up the last one; or both are one, if that is too small.
            cut = len(both) - self.num_replicas
            batches += [both[:cut], both[cut:]] if cut >= self.num_replicas else [both]
        return [sorted(batch, key=lambda index: -lengths[index]) for batch in batches]


def _padded(lengths: np.ndarray, batch: Sequence[int]) -> float:
    """Return the seconds of a batch with its padding."""
    return float(lengths[batch].max() * len(batch))
