"""Sequences of utterances that are made when they are asked for."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import overload

from asr.types import Utterance


class LazyUtterances(Sequence[Utterance]):
    """Utterances of which each is made by `_make` at every access."""

    @abstractmethod
    def _make(self, index: int) -> Utterance:
        """Return the utterance at 0 <= `index` < len."""

    @overload
    def __getitem__(self, index: int) -> Utterance: ...
    @overload
    def __getitem__(self, index: slice) -> list[Utterance]: ...
    def __getitem__(self, index: int | slice) -> Utterance | list[Utterance]:
        if isinstance(index, slice):
            return [self._make(i) for i in range(len(self))[index]]
        return self._make(range(len(self))[index])

    def __iter__(self) -> Iterator[Utterance]:
        return map(self._make, range(len(self)))
