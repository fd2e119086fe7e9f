"""Group utterances into batches of a given number of seconds, and share them out among devices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, get_args

import numpy as np
from torch.utils.data import Sampler

from asr.data.manifest import Shards
from asr.errors import DataError
from asr.storage import prefetch

Key = tuple[int, int]
Ahead = list[tuple[int, list[str]]]
"""Files to begin to read, and the position of the batch before which to do so."""
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
    shards : Shards, optional
        Where each utterance lies. The shards are shuffled every epoch, and an utterance meets those of
        `window` shards that follow each other, which are read ahead. With no more shards than that, and where
        the order is from short to long or the reverse, they make no difference to the batches.
    window : int
        Shards whose utterances are shuffled together.

    Raises
    ------
    DataError
        If there are fewer utterances than devices.
    """

    JITTER = 0.03

    def __init__(
        self,
        durations: Sequence[float] | np.ndarray,
        *,
        batch_seconds: float,
        shuffle: bool,
        seed: int = 0,
        order: Order = "shuffled",
        num_replicas: int = 1,
        rank: int = 0,
        stretch: Callable[[int], np.ndarray] | None = None,
        shards: Shards | None = None,
        window: int = 8,
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
        self.shards, self.window = shards, window
        self.epoch = 0
        self.start = 0
        self._made: tuple[tuple[int, int], np.ndarray, list[list[int]], Ahead] | None = None

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
        lengths, batches, _ = self._make(epoch)
        return self._share(epoch, max(batches, key=lambda batch: _padded(lengths, batch)))

    def __iter__(self) -> Iterator[list[Key]]:
        epoch, start = self.epoch, self.start
        _, batches, ahead = self._make(epoch)
        begun = sum(first < start for first, _ in ahead)
        ahead = ahead[max(0, begun - 2) :]  # of those before the start, only its own window and the next
        for position, batch in enumerate(batches[start:], start):
            while ahead and ahead[0][0] <= position:
                prefetch(ahead.pop(0)[1])
            yield self._share(epoch, batch)

    def __len__(self) -> int:
        return len(self.batches(self.epoch)) - self.start

    def useful_share(self, epoch: int = 0) -> float:
        """Return the share of seconds in all devices' batches of an epoch that is not padding."""
        lengths, batches, _ = self._make(epoch)
        shares = [batch[rank :: self.num_replicas] for batch in batches for rank in range(self.num_replicas)]
        return float(lengths.sum() / sum(_padded(lengths, share) for share in shares))

    def _share(self, epoch: int, batch: list[int]) -> list[Key]:
        return [(epoch, index) for index in batch[self.rank :: self.num_replicas]]

    def _make(self, epoch: int) -> tuple[np.ndarray, list[list[int]], Ahead]:
        """Return each utterance's seconds in an epoch, its batches, and which files to read before which.

        The last ones made are kept.
        """
        key = epoch, self.num_replicas
        if self._made is None or self._made[0] != key:
            lengths = self.durations if self.stretch is None else self.durations * self.stretch(epoch)
            self._made = key, lengths, *self._draw(epoch, lengths)
        return self._made[1:]

    def _draw(self, epoch: int, lengths: np.ndarray) -> tuple[list[list[int]], Ahead]:
        rng = np.random.default_rng([self.seed, epoch])
        rising = self.order == "sortagrad" and epoch == 0
        keys = lengths
        if self.shuffle and self.order != "packed" and not rising:
            keys = lengths * rng.uniform(1 - self.JITTER, 1 + self.JITTER, len(lengths))
        if not self.shuffle or rising:
            batches = self._pack(lengths, np.argsort(-keys, kind="stable"))
            return batches[:: -1 if rising else 1], []
        groups = []
        for indices in self._windows(epoch):
            batches = self._pack(lengths, indices[np.argsort(-keys[indices], kind="stable")])
            rng.shuffle(batches)
            groups.append((batches, indices))
        padded = [[_padded(lengths, batch) for batch in batches] for batches, _ in groups]
        first = max(range(len(groups)), key=lambda i: max(padded[i]))
        largest = max(range(len(padded[first])), key=padded[first].__getitem__)
        groups.insert(0, groups.pop(first))
        groups[0][0].insert(0, groups[0][0].pop(largest))
        return [batch for batches, _ in groups for batch in batches], self._ahead(groups)

    def _windows(self, epoch: int) -> list[np.ndarray]:
        """Return the indices of utterances that are shuffled together."""
        everything = np.arange(len(self.durations))
        if self.shards is None or len(self.shards.files) <= self.window:
            return [everything]
        # A generator of its own: it must not move the draws that are made without shards.
        order = np.random.default_rng([self.seed, epoch, 1]).permutation(len(self.shards.files))
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        window_of = place[self.shards.of] // self.window
        by_window = np.argsort(window_of, kind="stable")
        windows = np.split(everything[by_window], np.flatnonzero(np.diff(window_of[by_window])) + 1)
        while len(windows) > 1 and min(map(len, windows)) < self.num_replicas:
            smallest = min(range(len(windows)), key=lambda i: len(windows[i]))
            rest = windows.pop(smallest)
            windows[smallest - 1] = np.sort(np.concatenate([windows[smallest - 1], rest]))
        return windows

    def _ahead(self, groups: Sequence[tuple[list[list[int]], np.ndarray]]) -> Ahead:
        """Return at which batch to begin reading which files: a window's, when the one before it begins."""
        if self.shards is None:
            return []
        files = [
            [self.shards.files[shard] for shard in np.unique(self.shards.of[indices]).tolist()]
            for _, indices in groups
        ]
        ahead, position = [(0, files[0])], 0
        for (batches, _), following in zip(groups, files[1:], strict=False):
            ahead.append((position, following))
            position += len(batches)
        return ahead

    def _pack(self, lengths: np.ndarray, indices: np.ndarray) -> list[list[int]]:
        """Cut a sequence of utterances, about from long to short, into batches."""
        batches: list[list[int]] = []
        longest = 0.0
        for index, length in zip(indices.tolist(), lengths[indices].tolist(), strict=True):
            longest = max(longest, length)
            full = batches and longest * (len(batches[-1]) + 1) > self.batch_seconds
            if not batches or (full and len(batches[-1]) >= self.num_replicas):
                batches.append([])
                longest = length
            batches[-1].append(index)
        if len(batches) > 1 and len(batches[-1]) < self.num_replicas:
            rest = batches.pop()
            both = batches.pop() + rest
            # The shortest of the batch before fill up the last one; or both are one, if that is too small.
            cut = len(both) - self.num_replicas
            batches += [both[:cut], both[cut:]] if cut >= self.num_replicas else [both]
        return [[batch[i] for i in np.argsort(-lengths[batch], kind="stable").tolist()] for batch in batches]


def _padded(lengths: np.ndarray, batch: Sequence[int]) -> float:
    """Return the seconds of a batch with its padding."""
    return float(lengths[batch].max() * len(batch))
